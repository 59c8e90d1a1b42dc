"""Counts the arms of a trial out of what was answered and what people did afterwards.

A person counts once, by their first opinion of something that they were shown: people are what was drawn at
random, so their outcomes are independent where single events are not."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from configs.home import Home
from experiments.rollout import ArmCounts, Counts, RolloutConfig
from kg.exposures import Exposure, ExposureLog
from kg.feedback import POSITIVE_RATING, FeedbackEvent, FeedbackLog, opinions
from models.candidate import Candidate


@dataclass
class _Person:
    """What one person was shown, and how they first spoke of it."""

    first_ts: int
    shown: dict[str, int] = field(default_factory=dict)
    """Content -> UTC seconds when it was first shown."""
    is_positive: bool | None = None


@dataclass
class _Arm:
    people: dict[str, _Person] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0
    answers: int = 0


def tally(home: Home, graph: str, candidate: Candidate, config: RolloutConfig, now_ts: float) -> Counts:
    """Both arms of a trial as the logs tell them at ``now_ts`` (UTC seconds)."""
    exposures, feedback = ExposureLog(home.exposures(graph)), FeedbackLog(home.feedback(graph))
    try:
        return count(candidate, exposures.read(candidate.salt), feedback.read(), config, now_ts)
    finally:
        exposures.close()
        feedback.close()


def count(
    candidate: Candidate,
    exposures: Iterable[Exposure],
    events: Iterable[FeedbackEvent],
    config: RolloutConfig,
    now_ts: float,
) -> Counts:
    """The same out of records."""
    tried, champion, overlaps = _Arm(), _Arm(), []
    for one in exposures:
        arm = champion if one.arm == "champion" else tried
        _enter(arm, one)
        if one.beside_ms is not None:
            champion.answers += 1
            champion.latencies_ms.append(one.beside_ms)
        if one.overlap is not None:
            overlaps.append(one.overlap)
    _hear({**champion.people, **tried.people}, candidate, events, config)
    return Counts(
        _counted(tried, config, now_ts),
        _counted(champion, config, now_ts),
        max(0.0, now_ts - candidate.since_ts),
        float(np.mean(overlaps)) if overlaps else float("nan"),
    )


def _enter(arm: _Arm, one: Exposure) -> None:
    arm.answers += 1
    if one.error is None:
        arm.latencies_ms.append(one.latency_ms)
    else:
        arm.errors += 1
    if one.arm != "shadow":
        person = arm.people.setdefault(one.person, _Person(one.ts))
        for content in one.contents:
            person.shown.setdefault(content, one.ts)


def _hear(
    people: dict[str, _Person], candidate: Candidate, events: Iterable[FeedbackEvent], config: RolloutConfig
) -> None:
    """Enters the first opinion of everybody on something they were shown, within the window."""
    keys: dict[str, str] = {}
    for event in events:
        if event.ts < int(candidate.since_ts):
            continue
        if event.user_id not in keys:
            keys[event.user_id] = candidate.key_of(event.user_id)
        person = people.get(keys[event.user_id])
        if person is None or person.is_positive is not None:
            continue
        shown_ts = person.shown.get(event.content_id)
        if shown_ts is None or not shown_ts <= event.ts <= person.first_ts + config.window_s:
            continue
        for opinion in opinions([event], POSITIVE_RATING):
            if opinion.is_positive or opinion.is_negative:
                person.is_positive = opinion.is_positive


def _counted(arm: _Arm, config: RolloutConfig, now_ts: float) -> ArmCounts:
    said = [person.is_positive for person in arm.people.values() if person.is_positive is not None]
    silent = sum(
        person.is_positive is None and now_ts > person.first_ts + config.window_s
        for person in arm.people.values()
    )
    times_ms = np.array(arm.latencies_ms)
    p50, p99 = np.percentile(times_ms, [50, 99]).tolist() if len(times_ms) else (float("nan"),) * 2
    return ArmCounts(
        people=len(arm.people),
        known=len(said) + silent,
        positive=sum(said),
        answers=arm.answers,
        errors=arm.errors,
        slow=int((times_ms > config.latency_ms).sum()),
        p50_ms=p50,
        p99_ms=p99,
    )
