"""The instant tier: what one event does to one person's adapter. Pure functions on records.

b users of a batch · e events · r rank."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs.registry import SettingError
from models.heads import Head, Moments

EARLIEST_TS = 631_152_000
"""1990-01-01: an event before is a clock that was never set."""
AHEAD_S = 300
"""By how much the clocks of two machines may differ."""
MOST = np.float32(1.0)
"""Size of an explicit signal."""


@dataclass(frozen=True)
class InstantConfig:
    """How far an event moves an adapter, and how it wears off."""

    step: float = 1.0
    """Length of what an explicit event adds, in directions of the head, above 0."""
    bound: float = 1.0
    """No direction of an adapter is ever longer, above 0."""
    fades: tuple[float, ...] = (2.0,)
    """One a rank: after how many later events one counts half, above 0."""
    half_life_s: float = 2_592_000.0
    """After how many seconds what was learned counts half, above 0."""
    gate: float = 0.7
    """Weak signals gather until their sum is beyond it, 0 to 1; a stronger one acts at once."""
    start: float = 0.4
    """Signal of a content that was begun, -1 to 1."""
    click: float = 0.2
    """Signal of a content that was looked at, -1 to 1."""
    skip: float = -0.4
    """Signal of a content that was passed over, -1 to 1."""

    def __post_init__(self) -> None:
        above = (self.step, self.bound, self.half_life_s, *self.fades)
        weak = (self.start, self.click, self.skip)
        if not (self.fades and all(0 < one < np.inf for one in above) and 0 < self.gate < 1):
            raise SettingError(
                "an instant tier needs step, bound, half_life_s and fades above 0 and a gate in 0..1, got "
                f"{self.step}, {self.bound}, {self.half_life_s}, {self.fades}, {self.gate}"
            )
        if not all(-1 <= one <= 1 for one in weak):
            raise SettingError(f"signals lie in -1..1, got start, click, skip of {weak}")

    def must_fit(self, head: Head) -> None:
        """Refuses a head of another rank.

        Raises:
            SettingError: there is not one fade a rank.
        """
        if len(self.fades) != head.spec.rank:
            raise SettingError(
                f"an instant tier needs one fade for each of {head.spec.rank} ranks, got {self.fades}"
            )


@dataclass(frozen=True)
class Signals:
    """What people did, as the instant tier reads it; several may be of one person."""

    contents: np.ndarray
    """(e,) int64 rows."""
    strengths: np.ndarray
    """(e,) float32 in -1..1; beyond the gate acts at once."""
    ts: np.ndarray
    """(e,) int64 UTC seconds."""
    numbers: np.ndarray
    """(e,) int64 places in the log, from 1: what makes an event the same event."""

    def __len__(self) -> int:
        return len(self.contents)

    def only(self, places: np.ndarray) -> "Signals":
        """Those at ``places``."""
        return Signals(*(column[places] for column in (self.contents, self.strengths, self.ts, self.numbers)))

    @classmethod
    def joined(cls, parts: Sequence["Signals"]) -> "Signals":
        """All of ``parts``, one after another."""
        columns = ("contents", "strengths", "ts", "numbers")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))

    def in_order(self) -> "Signals":
        """By time, then by place in the log; what comes twice once."""
        _, first = np.unique(self.numbers, return_index=True)
        return self.only(first[np.lexsort((self.numbers[first], self.ts[first]))])


def must_be_sound(signals: Signals, content_count: int, now_ts: int | None = None) -> None:
    """Refuses what no adapter may learn from.

    Args:
        signals: any.
        content_count: of the head.
        now_ts: UTC seconds; None where events are of the past anyway, as in a replay.

    Raises:
        ValueError: says which, what must hold and what to do.
    """
    strengths, ts = np.asarray(signals.strengths, np.float64), signals.ts
    latest = np.iinfo(np.int64).max if now_ts is None else now_ts + AHEAD_S
    checks = (
        (~(np.abs(strengths) <= 1), "a signal lies in -1..1 and is a number", strengths),  # NaN is not <= 1
        ((ts < EARLIEST_TS), f"an event is of {EARLIEST_TS} UTC seconds (1990) or later", ts),
        ((ts > latest), f"an event is of now, {now_ts}, at most {AHEAD_S} s ahead", ts),
        ((signals.numbers < 1), "an event has a place in the log, 1 or more", signals.numbers),
        (
            (signals.contents < 0) | (signals.contents >= content_count),
            f"a content is a row of the head, 0 to {content_count - 1}",
            signals.contents,
        ),
    )
    for is_wrong, what, values in checks:
        if is_wrong.any():
            raise ValueError(f"{what}, got {values[is_wrong][0]}: nothing was learned, send it right")


def is_newest(records: np.ndarray, signals: Signals) -> np.ndarray:
    """(b,) bool: which signals come after all that their record learned from; the others need a rebuild."""
    newest, last = signals.ts > records["last_ts"], signals.ts == records["last_ts"]
    return newest | (last & (signals.numbers > records["number"]))


def updated(
    head: Head, config: InstantConfig, records: np.ndarray, signals: Signals, moments: Moments | None = None
) -> np.ndarray:
    """Adapters after one event each, of people of whom nobody comes twice.

    What was learned fades by one event and by the time since; the step is the head's direction times the
    signal; each direction is cut to the bound. A weak signal gathers and moves nothing until the sum passes
    the gate. A row depends on its own record and signal alone.

    Args:
        head: what the adapters fit onto.
        config: with one fade a rank.
        records: (b,) of ``head.spec.dtype``.
        signals: (b,) sound, each newest of its person, see :func:`is_newest`.
        moments: of the events, where more than their time is known.

    Returns:
        (b,) new records.

    Cost: O(b r w).
    """
    found, strengths = records.copy(), signals.strengths.astype(np.float32)
    gathered = found["gathered"] + np.where(np.abs(strengths) > config.gate, 0, strengths)
    is_weak = np.abs(strengths) <= config.gate
    is_full = np.abs(gathered) > config.gate
    acts = np.where(is_weak, np.where(is_full, np.clip(gathered, -MOST, MOST), 0), strengths)
    found["gathered"] = np.where(is_weak & is_full, 0, gathered)
    moving = np.flatnonzero(acts != 0)
    if len(moving):
        some, ts = found[moving], signals.ts[moving]
        towards = head.directions(signals.contents[moving], moments or Moments(ts))
        added = (np.float32(config.step) * acts[moving])[:, None] * towards
        head.keep(some, _moved(head.state(some), left(some, ts, config), added, config))
        some["last_ts"] = ts
        found[moving] = some
    waiting = np.flatnonzero((acts == 0) & (found["events"] > 0))
    if len(waiting):  # keeps its shape, worn by the time that passed
        some = found[waiting]
        worn = left(some, signals.ts[waiting], config)[:, None, None] * head.state(some)
        head.keep(some, worn)
        found[waiting] = some
    found["events"] += 1
    found["last_ts"], found["number"] = signals.ts, np.maximum(found["number"], signals.numbers)
    return found


def _moved(state: np.ndarray, share: np.ndarray, added: np.ndarray, config: InstantConfig) -> np.ndarray:
    """(b, r, ·) after one step, no direction longer than the bound.

    Args:
        state: (b, r, ·) float32 before it.
        share: (b,) float32 of it that is left by now.
        added: (b, ·) float32, the step.
        config: with one fade a rank.
    """
    fade = 0.5 ** (1 / np.array(config.fades, np.float32))
    state = state * share[:, None, None] * fade[None, :, None]
    state = state + added[:, None, :]
    length = np.sqrt((state * state).sum(axis=2, keepdims=True))
    # a hair below, because rounding to float16 may lengthen
    most = np.float32(config.bound * (1 - 2.0**-10))
    return np.where(length > most, state * (most / np.maximum(length, most)), state)


def followed(head: Head, config: InstantConfig, record: np.ndarray, events: Signals) -> np.ndarray:
    """(1,) record of one person after events in order: :func:`updated` with one after another, to the bit.

    Explicit events at the beginning, which are most of them, are taken together, for a fifth of the time.

    Args:
        head: what the adapter fits onto.
        config: with one fade a rank.
        record: (1,) of ``head.spec.dtype``.
        events: of one person, in order, each newest.
    """
    is_weak = np.abs(events.strengths) <= config.gate
    count = int(is_weak.argmax()) if is_weak.any() else len(events)
    found = _explicit(head, config, record, events.only(np.arange(count))) if count else record
    for place in range(count, len(events)):
        found = updated(head, config, found, events.only(np.array([place])))
    return found


def _explicit(head: Head, config: InstantConfig, record: np.ndarray, events: Signals) -> np.ndarray:
    """(1,) record after explicit events in order: what gathers is not touched by them."""
    found, ts = record.copy(), events.ts
    shares = _share(ts - np.concatenate([record["last_ts"], ts[:-1]]), config)
    steps = np.float32(config.step) * events.strengths.astype(np.float32)
    added = steps[:, None] * head.directions(events.contents, Moments(ts))
    for place in range(len(events)):
        here = slice(place, place + 1)
        head.keep(found, _moved(head.state(found), shares[here], added[here], config))
    found["events"] += len(events)
    found["last_ts"], found["number"] = ts[-1], np.maximum(found["number"], events.numbers.max())
    return found


def left(records: np.ndarray, ts: np.ndarray, config: InstantConfig) -> np.ndarray:
    """(b,) float32 in 0..1: the share of what was learned that is left at ``ts``."""
    return _share(np.asarray(ts, np.float64) - records["last_ts"], config)


def _share(passed_s: np.ndarray, config: InstantConfig) -> np.ndarray:
    return (0.5 ** (np.maximum(passed_s, 0.0) / config.half_life_s)).astype(np.float32)


def rebuilt(head: Head, config: InstantConfig, signals: Signals) -> np.ndarray:
    """(1,) record of one person out of all events, in whatever order and however often they come.

    Cost: O(e r w), one event after another; about 20 µs each where they are explicit.
    """
    return followed(head, config, head.spec.fresh(1), signals.in_order())


def add(
    head: Head, config: InstantConfig, scores: np.ndarray, records: np.ndarray, moments: Moments
) -> np.ndarray:
    """(b, i) scores with what each person's adapter adds; rows of fresh adapters stay to the bit.

    Args:
        scores: (b, i) of the base, not written to.
        records: (b,) of ``head.spec.dtype``.
        moments: (b,) of the question.
    """
    learned = np.flatnonzero(records["events"] > 0)
    if not len(learned):
        return scores
    found, share = scores.copy(), left(records, moments.ts, config)
    for row in learned.tolist():
        found[row] += head.added(records[row : row + 1], moments.only(np.array([row])), share[row])
    return found
