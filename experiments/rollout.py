"""From gate to champion: shadow, canary, champion, or back; what counts say decides, and the log tells it.

:func:`decide` is a function of counts alone; :func:`step` carries out what it says, one swap of the alias."""

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from configs.registry import SettingError
from experiments.result import plain
from experiments.sequential import Outcomes, better, exceeds, interval, worse
from models.aliases import ANYTHING, AliasMove, Step
from models.candidate import Candidate, Holding
from models.store import ModelStore
from models.verification import ModelError

FINAL = ("champion", "rollback", "end")
"""Decisions that end a trial."""


@dataclass(frozen=True)
class RolloutConfig:
    """When a candidate goes on, and when it goes."""

    level: float = 0.01
    """Chance at most that a candidate that is no better becomes champion, however often we look."""
    harm_level: float = 0.05
    """Chance at most that one that does no harm is rolled back, each for quality, errors and latency."""
    least_people: int = 100
    """People with a known outcome in each arm before a canary becomes champion."""
    most_people: int = 100_000
    """People with a known outcome after which a canary without a verdict ends."""
    most_s: float = 14 * 86_400.0
    """Age at which a trial without a verdict ends."""
    window_s: float = 86_400.0
    """Whoever gave no opinion so long after the first answer counts as not positive."""
    shadow_answers: int = 200
    """Answers compared before a shadow becomes a canary."""
    canary_share: float = 0.1
    """Share of people of a canary that follows a shadow."""
    error_share: float = 0.01
    """Answers of the candidate that may fail."""
    latency_ms: float = 100.0
    """Bound of the 99th percentile of the candidate's answers."""

    def __post_init__(self) -> None:
        shares = (self.level, self.harm_level, self.error_share, self.canary_share)
        counts = (self.least_people, self.shadow_answers)
        if not all(0 < share < 1 for share in shares) or min(counts) < 1:
            raise SettingError(
                "a rollout needs level, harm_level, error_share and canary_share above 0 and below 1, "
                f"least_people and shadow_answers of 1 or more, got {shares} and {counts}"
            )
        if self.most_people < 2 * self.least_people or min(self.most_s, self.window_s, self.latency_ms) <= 0:
            raise SettingError(
                "a rollout needs most_people of twice least_people or more, most_s, window_s and latency_ms "
                f"above 0, got {self.most_people}, {self.most_s}, {self.window_s} and {self.latency_ms}"
            )


@dataclass(frozen=True)
class ArmCounts:
    """What came of one version's answers while a trial lasts."""

    people: int = 0
    known: int = 0
    """People whose outcome is known: a first opinion of what they were shown, or none within the window."""
    positive: int = 0
    """Of those, whose first opinion was positive."""
    answers: int = 0
    errors: int = 0
    slow: int = 0
    """Answers later than the bound on latency."""
    p50_ms: float = math.nan
    p99_ms: float = math.nan


@dataclass(frozen=True)
class Counts:
    """Both arms of a trial."""

    candidate: ArmCounts
    champion: ArmCounts
    age_s: float
    overlap: float = math.nan
    """Mean share of the champion's contents that a shadow names too."""

    @property
    def outcomes(self) -> Outcomes:
        """What the sequential tests read."""
        one, other = self.candidate, self.champion
        return Outcomes(one.known, one.positive, other.known, other.positive)


@dataclass(frozen=True)
class Decision:
    """What is to be done, and why."""

    action: str
    """wait, canary, champion, rollback or end."""
    reason: str
    numbers: Mapping[str, float | int | str | None]


def decide(candidate: Candidate, counts: Counts, config: RolloutConfig | None = None) -> Decision:
    """The next step of a trial: harm is looked for first, then whether it may go on."""
    config = config or RolloutConfig()
    numbers = _numbers(candidate, counts)
    for action, reason in (_harm(candidate, counts, config), _onwards(candidate, counts, config)):
        if action is not None:
            return Decision(action, reason, numbers)
    if (
        counts.age_s >= config.most_s
        or counts.outcomes.candidate + counts.outcomes.champion >= config.most_people
    ):
        told = f"no verdict after {counts.age_s / 86_400:.1f} days and {numbers['known']:,} people"
        return Decision("end", f"{told}: {_rates(counts)}; the holder stays", numbers)
    return Decision("wait", _waits_for(candidate, counts, config), numbers)


def _harm(candidate: Candidate, counts: Counts, config: RolloutConfig) -> tuple[str | None, str]:
    arm, sure = counts.candidate, -math.log(config.harm_level)
    if exceeds(arm.errors, arm.answers, config.error_share) >= sure:
        return "rollback", (
            f"error rate must be at most {config.error_share:.1%}, "
            f"{arm.errors:,} of {arm.answers:,} answers failed"
        )
    others = counts.champion.slow / counts.champion.answers if counts.champion.answers else 0.0
    if exceeds(arm.slow, arm.answers, min(0.99, max(0.01, 2 * others))) >= sure:  # a slow machine harms both
        return "rollback", (
            f"latency p99 must be at most {config.latency_ms:g} ms, "
            f"{arm.slow:,} of {arm.answers:,} answers took longer (p99 {arm.p99_ms:.1f} ms)"
        )
    if candidate.stage == "canary" and worse(counts.outcomes, candidate.share) >= sure:
        return "rollback", f"quality: {_rates(counts)}, worse at level {config.harm_level:g}"
    return None, ""


def _onwards(candidate: Candidate, counts: Counts, config: RolloutConfig) -> tuple[str | None, str]:
    if candidate.stage == "shadow":
        if counts.candidate.answers < config.shadow_answers:
            return None, ""
        return "canary", (
            f"{counts.candidate.answers:,} answers compared: overlap {counts.overlap:.2f}, "
            f"{counts.candidate.errors:,} errors, p99 {counts.candidate.p99_ms:.1f} ms"
        )
    known = min(counts.candidate.known, counts.champion.known)
    if known >= config.least_people and better(counts.outcomes, candidate.share) >= -math.log(config.level):
        return "champion", f"{_rates(counts)}, better at level {config.level:g}"
    return None, ""


def _waits_for(candidate: Candidate, counts: Counts, config: RolloutConfig) -> str:
    if candidate.stage == "shadow":
        return f"{counts.candidate.answers:,} of {config.shadow_answers:,} answers compared"
    return f"no verdict yet: {_rates(counts)}"


def _rates(counts: Counts) -> str:
    found = counts.outcomes
    if not found.candidate or not found.champion:
        return f"{found.candidate:,} and {found.champion:,} people with a known outcome"
    low, high = interval(found)
    ours, theirs = found.candidate_positive / found.candidate, found.champion_positive / found.champion
    return (
        f"positive feedback from {ours:.1%} of {found.candidate:,} people against {theirs:.1%} of "
        f"{found.champion:,} ({found.difference:+.1%}, always-valid interval {low:+.1%} to {high:+.1%})"
    )


def _numbers(candidate: Candidate, counts: Counts) -> dict[str, float | int | str | None]:
    found = counts.outcomes
    told: dict[str, float | int | str | None] = {
        "age_s": round(counts.age_s, 1),
        "share": candidate.share,
        "known": found.candidate + found.champion,
        **{f"candidate_{name}": value for name, value in asdict(counts.candidate).items()},
        **{f"champion_{name}": value for name, value in asdict(counts.champion).items()},
    }
    if candidate.stage == "canary":
        told["log_evidence_better"] = better(found, candidate.share)
        told["log_evidence_worse"] = worse(found, candidate.share)
    else:
        told["overlap"] = counts.overlap
    return plain(told)


def start(
    models: ModelStore,
    graph: str,
    alias: str,
    version: str,
    stage: str,
    share: float,
    reason: str,
    expects: Holding | None = ANYTHING,
) -> Candidate:
    """Puts a version beside the holder as shadow or canary.

    Raises:
        ModelError: nothing holds the alias, the version holds it already, or it is not whole.
        Overtaken: the alias does not mean what was expected.
    """
    candidate = Candidate(version, stage, share, uuid.uuid4().hex, time.time())
    held = models.holding(graph, alias)
    if held is not None and held.version == version:
        raise ModelError(f"{version} holds {alias} of {graph} already: there is nothing to try it against")
    models.try_out(graph, alias, candidate, Step(stage, reason, {"share": share}, expects))
    return candidate


def step(
    models: ModelStore,
    graph: str,
    alias: str,
    counts: Counts,
    config: RolloutConfig,
    held: Holding,
) -> Decision:
    """Decides on the candidate of an alias and carries it out: one swap, one entry of the audit log.

    Args:
        held: what the alias meant when it was counted.

    Raises:
        ModelError: nobody is tried out, or the version that should follow is not whole.
        Overtaken: the alias does not mean ``held`` any more; nothing was changed.
    """
    if held.candidate is None:
        raise ModelError(f"nobody is tried out for {alias} of {graph}: start with `mg promote RUN --shadow`")
    tried, decision = held.candidate, decide(held.candidate, counts, config)
    if decision.action == "canary":
        start_from = replace(
            tried, stage="canary", share=config.canary_share, salt=uuid.uuid4().hex, since_ts=time.time()
        )
        models.try_out(graph, alias, start_from, Step("canary", decision.reason, decision.numbers, held))
    elif decision.action == "champion":
        models.set_alias(
            graph, alias, tried.version, Step("champion", decision.reason, decision.numbers, held)
        )
    elif decision.action in FINAL:
        models.try_out(graph, alias, None, Step(decision.action, decision.reason, decision.numbers, held))
    return decision


def rollback(models: ModelStore, graph: str, alias: str, reason: str = "by hand") -> AliasMove:
    """Takes back the last thing that changed who answers: a trial under way, else the last promotion.

    Raises:
        ModelError: nothing can be taken back, or the previous holder is not whole any more.
        Overtaken: somebody else changed the alias in between.
    """
    held = models.holding(graph, alias)
    if held is None:
        raise ModelError(f"nothing holds {alias} of {graph}: there is nothing to take back")
    if held.candidate is not None:
        move = models.try_out(graph, alias, None, Step("rollback", reason, {}, held))
    else:
        previous = previous_holder(models.history(graph, alias), held.version)
        if previous is None:
            raise ModelError(
                f"nothing held {alias} of {graph} before {held.version}: promote another version instead"
            )
        move = models.set_alias(graph, alias, previous, Step("rollback", reason, {}, held))
    if move is None:
        raise ModelError(f"{alias} of {graph} means {held.version} already: nothing was changed")
    return move


def previous_holder(history: list[AliasMove], holder: str) -> str | None:
    """Who held an alias before its holder did, None where nobody; what was rolled back does not count."""
    held: list[str] = []
    for move in history:
        if move.step in ("rollback", "undone"):
            while held and held[-1] != move.version:
                held.pop()
        elif move.version not in held[-1:]:
            held.append(move.version)
    return held[-2] if len(held) > 1 and held[-1] == holder else None
