"""A pattern of the ReasoningBank: what was asked, which steps worked, for whom; and how it changes.

Pure functions: the same events in the same order give the same patterns, and no clock is read."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from configs.registry import SettingError

DAY_S = 86_400
LATEST_TS = 4_102_444_800
"""2100-01-01; a later time is a mistake (milliseconds, most often)."""
STEPS_AT_MOST, TEXT_AT_MOST = 32, 200
FIRST_CONFIDENCE = 0.5
"""Of a pattern that nobody has judged."""


class MemoryBankError(RuntimeError):
    """A bank that cannot be opened, read or written; what was acknowledged before stays."""


@dataclass(frozen=True)
class MemoryConfig:
    """Settings of the ReasoningBank."""

    context_keys: tuple[str, ...] = ("daypart", "weekday", "device", "region", "minutes")
    """What a context may tell; any other key is refused."""
    similarity: float = 0.7
    """Cosine from which a pattern answers a query, in 0..1."""
    over_fetch: int = 2
    """So many times the patterns asked for are looked up before the context sorts out."""
    fetch_at_most: int = 256
    """While the context sorts out too many, four times as many are looked up, up to this."""
    boost: float = 0.2
    """c in 1 + c min(1, log2(1 + uses) / 10), at least 0."""
    create_positives: int = 3
    """A pattern answers from so many positives on; before, it is a seed."""
    cluster_similarity: float = 0.97
    """Queries this much alike, with the same steps and context, are one; above ``merge_similarity``, for the
    daily pass sees more evidence than one event does."""
    gain: float = 0.25
    """A positive closes this share of the gap between confidence and 1."""
    loss: float = 0.3
    """A negative takes this share of the confidence."""
    prune_below: float = 0.3
    """Confidence below which a pattern no longer answers, and is dropped by the daily upkeep."""
    merge_similarity: float = 0.95
    """The daily upkeep makes one of two patterns more alike than this, with the same steps and context."""
    idle_days: float = 7.0
    """Days without use after which confidence decays."""
    daily_decay: float = 0.95
    """What is left of the confidence after one idle day more, in 0..1."""
    promote_share: float = 0.8
    """A pattern belongs to a segment when it works for more than this share of its users there."""
    promote_users: int = 5
    """Users of a segment, at least, of whom that share is taken."""
    patterns_at_most: int = 100_000
    """Then the lowest confidence goes first, and of equal ones the least recently used."""
    users_at_most: int = 256
    """Users that a pattern remembers one by one; then the least recently heard goes first."""
    results_at_most: int = 5
    """Contents that a pattern remembers of one user, the latest."""
    keys_at_most: int = 10_000
    """Of so many observations, the latest, the keys are known; one that is sent again later counts again."""

    def __post_init__(self) -> None:
        shares = ("similarity", "cluster_similarity", "gain", "loss", "prune_below", "merge_similarity")
        for name in (*shares, "daily_decay", "promote_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        counts = ("over_fetch", "fetch_at_most", "create_positives", "promote_users", "patterns_at_most")
        for name in (*counts, "users_at_most"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("boost", "idle_days", "results_at_most", "keys_at_most"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingError(f"{name} must be at least 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class Evidence:
    """How a pattern worked for one user."""

    positives: int = 0
    negatives: int = 0
    segment: str = ""
    """Of the user, '' where none is known."""
    heard_ts: int = 0
    """UTC seconds of what they last said of it."""
    results: tuple[str, ...] = ()
    """Contents that came of it and were liked, latest last."""

    @property
    def works(self) -> bool:
        """True if more was liked than not."""
        return self.positives > self.negatives


@dataclass(frozen=True, eq=False)
class Pattern:
    """Steps that worked for a query, in a context."""

    pattern_id: str
    vector: np.ndarray
    """(d,) float32 of length 1: the query of its founder."""
    founder: str
    """User whose query it was: forgotten with them."""
    steps: tuple[str, ...]
    context: Mapping[str, str]
    """What must be so for it to answer; what is left out may be anything."""
    created_ts: int
    used_ts: int
    confidence: float = FIRST_CONFIDENCE
    """In 0..1, as of ``used_ts``; see :func:`confidence_at`."""
    uses: int = 0
    positives: int = 0
    segment: str = ""
    """To which it was promoted, '' for none."""
    users: Mapping[str, Evidence] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two patterns must share to be one, besides a query alike."""
        return self.steps, tuple(sorted(self.context.items()))

    @property
    def results(self) -> tuple[str, ...]:
        """Contents that came of it, those of most users first, then by id."""
        counted = Counter(content for one in self.users.values() for content in dict.fromkeys(one.results))
        return tuple(sorted(counted, key=lambda content: (-counted[content], content)))

    def fits(self, context: Mapping[str, str]) -> bool:
        """True if all it asks of a context is so."""
        return all(context.get(key) == value for key, value in self.context.items())


def confidence_at(confidence: float, idle_s: float, config: MemoryConfig) -> float:
    """Confidence after ``idle_s`` seconds without use: falls day by day once ``idle_days`` are over.

    A function of time alone, so that an upkeep that is missed, or done twice, changes nothing.

    Example:
        >>> confidence_at(0.8, 9 * DAY_S, MemoryConfig(daily_decay=0.5))
        0.2
    """
    return confidence * config.daily_decay ** max(0.0, idle_s / DAY_S - config.idle_days)


def boosted(similarity: float, uses: int, config: MemoryConfig) -> float:
    """Similarity times 1 + c min(1, log2(1 + uses) / 10).

    Example:
        >>> boosted(0.5, 1023, MemoryConfig(boost=0.2)), boosted(0.5, 10**9, MemoryConfig(boost=0.2))
        (0.6, 0.6)
    """
    return similarity * (1 + config.boost * min(1.0, math.log2(1 + uses) / 10))


@dataclass(frozen=True)
class Verdict:
    """Whether a pattern worked once, and for whom."""

    user_id: str
    is_positive: bool
    at_ts: int
    """UTC seconds."""
    segment: str = ""
    results: tuple[str, ...] = ()
    key: str = ""
    """Of this one observation: told again with the same key, by whichever process, it counts once. With none
    it counts whenever it is told."""

    def __post_init__(self) -> None:
        check_ts(self.at_ts)
        check_texts("user_id", [self.user_id])
        if isinstance(self.results, str):
            raise ValueError(f"results are several content ids, got the text {self.results!r:.80}")
        check_texts("results", self.results)
        for name, text in (("segment", self.segment), ("key", self.key)):
            if text:
                check_texts(name, [text])


def heard(pattern: Pattern, verdict: Verdict, config: MemoryConfig) -> Pattern:
    """A pattern after one more verdict: a positive raises its confidence, a negative lowers it.

    One that comes late is counted as of the last use: it takes back no newer one.
    """
    at_ts = max(verdict.at_ts, pattern.used_ts)
    before = confidence_at(pattern.confidence, at_ts - pattern.used_ts, config)
    after = before + config.gain * (1 - before) if verdict.is_positive else before * (1 - config.loss)
    users = {**pattern.users}
    users[verdict.user_id] = _said(users.get(verdict.user_id, Evidence()), verdict, config)
    return replace(
        pattern,
        created_ts=min(pattern.created_ts, verdict.at_ts),
        used_ts=at_ts,
        confidence=min(1.0, max(0.0, after)),
        uses=pattern.uses + 1,
        positives=pattern.positives + verdict.is_positive,
        users=_latest(users, config),
    )


def merged(kept: Pattern, other: Pattern, config: MemoryConfig) -> Pattern:
    """One of two: the query and founder of ``kept``, the evidence of both, confidence weighed by uses."""
    used_ts = max(kept.used_ts, other.used_ts)
    now = [confidence_at(one.confidence, used_ts - one.used_ts, config) for one in (kept, other)]
    uses = kept.uses + other.uses
    share = kept.uses / uses if uses else 0.5
    users = {**kept.users}
    for user_id, one in other.users.items():
        users[user_id] = _both(users[user_id], one, config) if user_id in users else one
    return replace(
        kept,
        created_ts=min(kept.created_ts, other.created_ts),
        used_ts=used_ts,
        confidence=min(1.0, share * now[0] + (1 - share) * now[1]),
        uses=uses,
        positives=kept.positives + other.positives,
        users=_latest(users, config),
    )


def without_user(pattern: Pattern, user_id: str) -> Pattern | None:
    """A pattern after somebody is forgotten; None where their query founded it, or nobody else is left.

    Their counts and results go. The confidence, one number that all gave together, stays.
    """
    gone = pattern.users.get(user_id)
    users = {name: one for name, one in pattern.users.items() if name != user_id}
    if pattern.founder == user_id or gone is not None and not users:
        return None
    if gone is None:
        return pattern
    return replace(
        pattern,
        uses=max(0, pattern.uses - gone.positives - gone.negatives),
        positives=max(0, pattern.positives - gone.positives),
        users=users,
    )


def segment_of(pattern: Pattern, config: MemoryConfig) -> str:
    """The segment that a pattern works for, '' for none; of several the one with most users, then by name."""
    users = Counter(one.segment for one in pattern.users.values() if one.segment)
    works = Counter(one.segment for one in pattern.users.values() if one.segment and one.works)
    fit = [
        name
        for name, count in users.items()
        if count >= config.promote_users and works[name] > config.promote_share * count
    ]
    is_ready = pattern.positives >= config.create_positives
    return min(fit, key=lambda name: (-users[name], name)) if fit and is_ready else ""


def number_of(pattern_id: str) -> int:
    """The number in a pattern's id.

    Raises:
        ValueError: it is no id of a pattern.

    Example:
        >>> number_of("p12")
        12
    """
    if not re.fullmatch(r"p[1-9]\d{0,17}", pattern_id):
        raise ValueError(f"patterns are called p1, p2, …, got {pattern_id!r:.80}")
    return int(pattern_id[1:])


def check_context(context: Mapping[str, str], config: MemoryConfig) -> dict[str, str]:
    """A context as it is kept, by key.

    Raises:
        ValueError: a key that no context has, or a value that is no short text.
    """
    unknown = sorted(set(context) - set(config.context_keys))
    if unknown:
        raise ValueError(
            f"a context tells {', '.join(config.context_keys)}, got {', '.join(map(str, unknown))}: leave "
            "it out, or name it in context_keys"
        )
    for key, value in context.items():
        check_texts(key, [value])
    return {key: context[key] for key in sorted(context)}


def check_steps(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Steps as they are kept.

    Raises:
        ValueError: none, too many, or one that is no short text.
    """
    if isinstance(steps, str) or not 1 <= len(steps) <= STEPS_AT_MOST:
        raise ValueError(f"a pattern has 1 to {STEPS_AT_MOST} steps, each a text, got {steps!r:.80}")
    check_texts("steps", steps)
    return tuple(steps)


def check_texts(what: str, texts: Any) -> None:
    """Raises ValueError for a text that is empty, long, or none."""
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= TEXT_AT_MOST or not text.isprintable():
            raise ValueError(
                f"{what} must be printable text of 1 to {TEXT_AT_MOST} characters, got {text!r:.80}"
            )


def check_ts(at_ts: int) -> None:
    """Raises ValueError for a time that is no whole number of seconds between 1970 and 2100."""
    if isinstance(at_ts, bool) or not isinstance(at_ts, (int, np.integer)) or not 0 < at_ts <= LATEST_TS:
        raise ValueError(
            f"times are whole UTC seconds above 0 and at most {LATEST_TS} (2100), got {at_ts!r}: "
            "milliseconds are divided by 1000"
        )


def _said(one: Evidence, verdict: Verdict, config: MemoryConfig) -> Evidence:
    is_newer = verdict.at_ts >= one.heard_ts
    results = one.results
    if verdict.is_positive and config.results_at_most:
        results = tuple(dict.fromkeys((*one.results, *verdict.results)))[-config.results_at_most :]
    return Evidence(
        one.positives + verdict.is_positive,
        one.negatives + (not verdict.is_positive),
        verdict.segment if is_newer and verdict.segment else one.segment,
        max(verdict.at_ts, one.heard_ts),
        results,
    )


def _both(one: Evidence, other: Evidence, config: MemoryConfig) -> Evidence:
    older, newer = sorted((one, other), key=lambda each: each.heard_ts)
    results = tuple(dict.fromkeys((*older.results, *newer.results)))
    return Evidence(
        one.positives + other.positives,
        one.negatives + other.negatives,
        newer.segment or older.segment,
        newer.heard_ts,
        results[len(results) - config.results_at_most :]
        if len(results) > config.results_at_most
        else results,
    )


def _latest(users: dict[str, Evidence], config: MemoryConfig) -> dict[str, Evidence]:
    if len(users) <= config.users_at_most:
        return users
    order = sorted(users, key=lambda user_id: (-users[user_id].heard_ts, user_id))
    return {user_id: users[user_id] for user_id in order[: config.users_at_most]}
