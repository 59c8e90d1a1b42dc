"""The adaptation loop that serving and replays share: an event moves its person's adapter and next answer.

b users asked for · i contents · e events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kg.feedback import POSITIVE_RATING, WATCHED_SHARE, FeedbackEvent
from models.adapters import AdapterSpec
from models.heads import Head, Moments
from models.instant import (
    EARLIEST_TS,
    InstantConfig,
    Signals,
    add,
    is_newest,
    must_be_sound,
    rebuilt,
    updated,
)
from models.interface import Users

DISLIKED_RATING = 4.0
"""Ratings up to here, 0 to 10, speak against a content; those between this and positive ones say nothing."""
MOST_LIKES = 2_000
"""The newest likes of training that an adapter begins with."""
Scorer = Callable[[Users], np.ndarray]
"""People -> (b, i) scores."""


class AdapterStore(Protocol):
    """Where adapters lie: :class:`models.adapter_bank.AdapterBank`, or :class:`MemoryStore`."""

    def read(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) records, fresh for whoever is not there; a copy."""

    def write(self, user_ids: Sequence[str], records: np.ndarray) -> None:
        """Puts one record a user in place of the one before; nobody comes twice."""


class MemoryStore:
    """Adapters of one process, gone with it: for replays and tests."""

    def __init__(self, spec: AdapterSpec) -> None:
        self.spec = spec
        self._records: dict[str, np.ndarray] = {}

    def read(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) records, fresh for whoever is not there; a copy."""
        found = self.spec.fresh(len(user_ids))
        for place, user_id in enumerate(user_ids):
            if user_id in self._records:
                found[place] = self._records[user_id]
        return found

    def write(self, user_ids: Sequence[str], records: np.ndarray) -> None:
        """Puts one record a user in place of the one before.

        Raises:
            ValueError: the records are of another head.
        """
        if records.dtype != self.spec.dtype or len(records) != len(user_ids):
            raise ValueError(
                f"{len(user_ids)} records of {self.spec} are written, got {len(records)} of "
                f"{records.dtype.itemsize} bytes: take those of this head"
            )
        for user_id, record in zip(user_ids, records, strict=True):
            self._records[user_id] = record.copy()


@dataclass(frozen=True)
class LoopConfig:
    """Which steps of the loop are on."""

    live_history: bool = True
    """The base is told what was liked so far; off, what was liked when it was fitted."""
    instant_tier: bool = True
    """Events move adapters, and adapters move answers."""
    base_tier: bool = True
    """The base with its shared adapter answers, where there is one."""
    instant: InstantConfig = field(default_factory=InstantConfig)


@dataclass(frozen=True)
class Bases:
    """Who answers before any adapter of one person."""

    base: Scorer
    adapted: Scorer | None = None
    """The base with its shared adapter; None where there is none."""
    frozen: Callable[[Users], Users] | None = None
    """The same people with what they had liked when the base was fitted; None: nobody had liked anything."""


class AdaptationLoop:
    """Event → instant tier → next answer; with each step off that can be, the base answers to the bit.

    Example:
        >>> loop = AdaptationLoop(bases, head, MemoryStore(head.spec), LoopConfig(), past)  # doctest: +SKIP
        >>> loop.learn({"user:world:7": signals_of(events, row_of)}, now_ts=now)            # doctest: +SKIP
        >>> loop.scores(users, ["user:world:7"], Moments(np.array([now])))                  # doctest: +SKIP
    """

    def __init__(
        self,
        bases: Bases,
        head: Head | None,
        store: AdapterStore | None,
        config: LoopConfig | None = None,
        past: Callable[[str], Signals] | None = None,
        liked: Callable[[str], Signals] | None = None,
    ) -> None:
        """Takes its parts; nothing is read or written yet.

        Args:
            bases: who answers.
            head: what adapters bend; None leaves the instant tier off.
            store: of adapters of this head.
            config: which steps are on.
            past: all signals of a person in the durable log, in any order: what an adapter is rebuilt from
                when an event comes late or twice. None refuses such an event.
            liked: what a person had liked when the base was fitted, see :func:`liked_signals`: what their
                adapter begins with. None begins with nothing.
        """
        self.bases, self.head, self.store, self.past, self.liked = bases, head, store, past, liked
        self.config = config or LoopConfig()
        if head is not None:
            self.config.instant.must_fit(head)

    @property
    def has_instant_tier(self) -> bool:
        """Whether events move anything."""
        return self.config.instant_tier and self.head is not None and self.store is not None

    def begun(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) records of people before any event: they learned what was liked when the base was fitted.

        Cost: about 20 µs a like, at most :data:`MOST_LIKES` a person.
        """
        records = self.head.spec.fresh(len(user_ids))
        for place, user_id in enumerate(user_ids if self.liked else ()):
            likes = self.liked(user_id)
            if len(likes):
                records[place] = rebuilt(self.head, self.config.instant, likes)[0]
        return records

    def begin(self, user_ids: Sequence[str]) -> None:
        """Puts the adapters of people of whom nothing was learned where they begin."""
        if self.has_instant_tier:
            self.store.write(user_ids, self.begun(user_ids))

    def learn(self, events: Mapping[str, Signals], now_ts: int | None = None) -> list[str]:
        """Moves the adapters of those who did something; all events or, where one is refused, none.

        Args:
            events: of each person (user id), already in the durable log.
            now_ts: UTC seconds, to refuse events of the future; None does not look.

        Returns:
            User ids whose adapter was rebuilt from the log, because an event came late or again.

        Raises:
            ValueError: an event is not sound, see :func:`models.instant.must_be_sound`.
        """
        if not self.has_instant_tier:
            return []
        for signals in events.values():
            must_be_sound(signals, self.head.content_count, now_ts)
        people = [user_id for user_id, signals in events.items() if len(signals)]
        told = [events[user_id].in_order() for user_id in people]
        records = self._read(people)
        first = Signals.joined([one.only(np.array([0])) for one in told]) if told else None
        straight = self._goes_on(records, first) if told else np.zeros(0, bool)
        for place in np.flatnonzero(~straight).tolist():
            records[place] = self._rebuilt(people[place], told[place])
        self._follow(records, told, straight)
        if people:
            self.store.write(people, records)
        return [people[place] for place in np.flatnonzero(~straight).tolist()]

    def scores(self, users: Users, user_ids: Sequence[str], moments: Moments) -> np.ndarray:
        """(b, i) scores of people at a moment; nothing is learned here.

        Args:
            users: with all that was liked so far.
            user_ids: (b,) under which their adapters lie.
            moments: (b,) of the question.
        """
        scores = self.base_scores(users)
        if not self.has_instant_tier:
            return scores
        return self.bent(scores, user_ids, moments)

    def base_scores(self, users: Users) -> np.ndarray:
        """(b, i) scores before any adapter of one person."""
        bases = self.bases
        if not self.config.live_history:
            users = bases.frozen(users) if bases.frozen else _blank(users)
        is_adapted = self.config.base_tier and bases.adapted is not None
        return np.asarray(bases.adapted(users) if is_adapted else bases.base(users))

    def bent(self, scores: np.ndarray, user_ids: Sequence[str], moments: Moments) -> np.ndarray:
        """(b, i) scores with what each person's adapter adds; the scores themselves where the tier is off."""
        if not self.has_instant_tier:
            return scores
        return add(self.head, self.config.instant, scores, self.store.read(user_ids), moments)

    def _read(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) records; of whom nothing was learned yet, the beginning."""
        records = self.store.read(user_ids)
        new = np.flatnonzero(records["events"] == 0)
        if len(new) and self.liked is not None:
            records[new] = self.begun([user_ids[place] for place in new.tolist()])
        return records

    def _goes_on(self, records: np.ndarray, first: Signals) -> np.ndarray:
        """(b,) bool: whose first event comes after all that was learned.

        One of the second of the last like of training may be that like, told again: then all is looked at.
        """
        may_be_known = (records["events"] > 0) & (records["number"] < 1) & (first.ts == records["last_ts"])
        return is_newest(records, first) & ~may_be_known

    def _follow(self, records: np.ndarray, told: list[Signals], straight: np.ndarray) -> None:
        """Takes everybody's first event at once, then everybody's second …; writes to ``records``."""
        going, turn = np.flatnonzero(straight), 0
        while len(going):
            events = Signals.joined([told[place].only(np.array([turn])) for place in going.tolist()])
            records[going] = updated(self.head, self.config.instant, records[going], events)
            turn += 1
            going = np.array([place for place in going.tolist() if len(told[place]) > turn], np.int64)

    def _rebuilt(self, user_id: str, signals: Signals) -> np.ndarray:
        if self.past is None:
            raise ValueError(
                f"an event of {user_id} is older than what was learned or came again, and there is no log to "
                "rebuild the adapter from: give the loop its past"
            )
        told = Signals.joined([self.past(user_id), signals])
        if self.liked is not None:
            told = with_liked(self.liked(user_id), told)
        return rebuilt(self.head, self.config.instant, told)[0]


def _blank(users: Users) -> Users:
    history = users.history[:0]
    history.resize(users.history.shape)
    return Users(users.rows, history)


def liked_signals(contents: np.ndarray, ts: np.ndarray) -> Signals:
    """What one person had liked when a model was fitted, in order of time, as their adapter begins with it.

    The newest :data:`MOST_LIKES`; likes of no sound moment, before 1990, teach nothing. Their numbers lie
    below 1, so that no place of a log is taken.

    Args:
        contents: (e,) int64 rows.
        ts: (e,) int64 UTC seconds.

    Example:
        >>> found = liked_signals(np.array([7, 5, 9]), np.array([2_000_000_000, 1_000_000_000, 0]))
        >>> found.contents.tolist(), found.numbers.tolist()
        ([5, 7], [-2, -1])
    """
    timed = np.flatnonzero(ts >= EARLIEST_TS)
    order = timed[np.lexsort((contents[timed], ts[timed]))][-MOST_LIKES:]
    strengths = np.ones(len(order), np.float32)
    return Signals(contents[order].astype(np.int64), strengths, ts[order], np.arange(-len(order), 0))


def with_liked(liked: Signals, told: Signals) -> Signals:
    """What one person had liked when a model was fitted, and what they told since.

    A like that stands in the log too, with its second, counts once: where it was told.
    """
    if not len(told):
        return liked
    again = np.isin(liked.ts, told.ts)
    if again.any():
        pairs = set(zip(told.contents.tolist(), told.ts.tolist(), strict=True))
        is_told = [pair in pairs for pair in zip(liked.contents.tolist(), liked.ts.tolist(), strict=True)]
        liked = liked.only(np.flatnonzero(~np.array(is_told)))
    return Signals.joined([liked, told])


def signals_of(
    events: Iterable[FeedbackEvent],
    row_of: Callable[[str], int | None],
    config: InstantConfig | None = None,
    positive_rating: float = POSITIVE_RATING,
) -> Signals:
    """What one person's feedback says to the instant tier.

    A rating, like, dislike or dismissal and what was watched to the end act at once; what was begun, looked
    at, put on the watchlist or passed over gathers. Middling ratings and contents without a row say nothing.

    Args:
        events: of one person, from the log.
        row_of: content id -> row of the head, None for one it does not know.
        config: how much weak signals weigh.
        positive_rating: ratings from here on speak for a content, 0 to 10.
    """
    settings, kept = config or InstantConfig(), []
    for event in events:
        strength, row = strength_of(event, settings, positive_rating), row_of(event.content_id)
        if strength and row is not None:
            kept.append((row, strength, event.ts, event.number))
    columns = list(zip(*kept, strict=True)) or [(), (), (), ()]
    kinds = (np.int64, np.float32, np.int64, np.int64)
    return Signals(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


def strength_of(
    event: FeedbackEvent, config: InstantConfig, positive_rating: float = POSITIVE_RATING
) -> float:
    """The signal of one event, -1 to 1; 0 says nothing.

    Example:
        >>> one = FeedbackEvent("user:world:1", "content:world:2", "watched", key="a", ts=0, value=0.9)
        >>> strength_of(one, InstantConfig())
        1.0
    """
    if event.event == "rating":
        value = float(event.value or 0.0)
        return 1.0 if value >= positive_rating else -1.0 if value <= DISLIKED_RATING else 0.0
    if event.event == "watched":
        return 1.0 if float(event.value or 0.0) > WATCHED_SHARE else config.start
    strong = {"like": 1.0, "dislike": -1.0, "dismiss": -1.0}
    weak = {"watchlist": config.start, "start": config.start, "click": config.click, "skip": config.skip}
    return {**strong, **weak}.get(event.event, 0.0)
