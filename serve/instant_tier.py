"""The instant tier of one version: feedback moves its person's adapter, and that the next answer.

What bends an answer is a function of the version and the log of feedback alone: an adapter begins with what
its person had liked when the version was fitted, and a record that lacks an event, because another process
took it or a crash came between, is brought up to the log first. So every process answers alike, whoever
writes the bank, and nothing that was acknowledged is lost."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kg.feedback import FeedbackError, FeedbackEvent, FeedbackLog
from models.adapter_bank import AdapterBankError
from models.heads import Head, Moments
from models.instant import AHEAD_S, EARLIEST_TS, InstantConfig, Signals, add, followed, is_newest, rebuilt
from models.interface import Users
from models.loop import AdaptationLoop, Bases, LoopConfig, liked_signals, signals_of, with_liked
from serve.adapter_shelf import Shelf
from serve.counters import Counters
from serve.snapshot import Snapshot

_EVENTS = 4096  # learned before the bank is brought up to the log and committed
_BEGUN = 20_000  # people without feedback whose adapters are kept in memory, some hundred bytes each
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """What a tier learns from."""

    feedback: FeedbackLog
    """Durable."""
    row_of: Callable[[str], int | None]
    """Content id -> row of the head, None for one it does not know."""
    liked: Callable[[str], Signals]
    """User id -> what they had liked when the version was fitted."""

    @classmethod
    def of(cls, snapshot: Snapshot, feedback: FeedbackLog) -> "Sources":
        """Those of a version."""

        def liked(user_id: str) -> Signals:
            row = snapshot.user_row(user_id)
            bounds = (0, 0) if row is None else snapshot.positives.indptr[row : row + 2].tolist()
            own = slice(*bounds)
            return liked_signals(snapshot.positives.indices[own], snapshot.times.data[own])

        return cls(feedback, snapshot.row, liked)


@dataclass(frozen=True)
class Learned:
    """Somebody's adapter, and what it learned from."""

    record: np.ndarray
    """(1,)"""
    likes: int
    """Known when the version was fitted."""
    events: int
    """Of feedback."""


class InstantTier:
    """A head, its adapters and the log of feedback; safe to use from many threads.

    The bank keeps people who gave feedback. What others had liked bends their answers too; that is made out
    of the version when they ask, and kept in memory alone, so that whoever is erased comes back into no file.

    Args:
        head: of the version, frozen.
        config: how far an event moves an adapter.
        folder: of the bank.
        sources: what is learned from.
        counters: of this process.
        now: UTC seconds.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        head: Head,
        config: InstantConfig,
        folder: Path,
        sources: Sources,
        counters: Counters,
        now: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.head, self.config = head, config
        self.shelf = Shelf(folder, head.spec, clock, counters.count_fault)
        self._feedback, self._row_of, self._liked = sources.feedback, sources.row_of, sources.liked
        self._counters, self._now = counters, now
        steps = LoopConfig(instant=config)
        self._loop = AdaptationLoop(Bases(_no_base), head, self.shelf, steps, self._told, self._liked)
        self._begun: OrderedDict[str, Learned] = OrderedDict()
        self._lock, self._pending = threading.Lock(), 0
        self._following: threading.Thread | None = None
        self._must_end = self._is_closed = False

    def follow(self) -> None:
        """Becomes the writer of the bank where nobody is, and brings it up to the log beside."""
        with self._lock:
            self._take_over()

    def learn(self, event: FeedbackEvent) -> None:
        """Moves an adapter by an event that stands in the log; one that teaches nothing is passed over.

        Raises:
            ValueError: the event is not sound; nothing was learned.
        """
        signals = self._signals([event])
        if not len(signals):
            return
        with self._lock:
            self._take_over()
            if self._is_known(event.user_id, signals):
                return
            again = self._loop.learn({event.user_id: signals}, self._now())
            self._counters.count_learned(len(signals), len(again))
            self._pending += 1
            if self._pending >= _EVENTS:
                self._begin_to_follow()

    def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> Learned:
        """Somebody's adapter, which has learned what they had liked and all that they told.

        Args:
            user_id: as in the log.
            events: all of theirs in the log.
        """
        told = self._signals(events)
        if not len(told):
            return self._beginning(user_id)
        liked = self._liked(user_id)
        signals = with_liked(liked, told)
        found = self.shelf.read([user_id])
        if not is_current(found, signals):
            with self._lock:
                found, told = self.shelf.read([user_id]), self._told(user_id)  # others may have gone on
                signals = with_liked(liked, told)
                if len(told) and not is_current(found, signals):
                    found = self._brought_up(user_id, found, signals)
            if not len(told):  # erased just now
                return self._beginning(user_id)
        return Learned(found, len(signals) - len(told), len(told))

    def bent(self, scores: np.ndarray, record: np.ndarray, at: int, minutes: float | None) -> np.ndarray:
        """(i,) scores with what an adapter adds; the scores themselves where it has learned nothing.

        Args:
            scores: (i,) of the base, not written to.
            record: (1,) of :meth:`record`.
            at: UTC seconds of the question.
            minutes: at hand, None where not known.
        """
        if not record["events"][0]:
            return scores
        moment = Moments(np.array([at]), None if minutes is None else np.array([minutes], np.float64))
        return add(self.head, self.config, scores[None], record, moment)[0]

    def must_write(self) -> None:
        """Becomes the writer of the bank.

        Raises:
            AdapterBankError: another process is, or the bank refused.
        """
        with self._lock:
            self.shelf.must_write()

    def forget(self, user_id: str) -> None:
        """Erases somebody's adapter; their feedback must be gone from the log, or it is learned again.

        Raises:
            AdapterBankError: it could not be erased; ask the process that writes the bank.
        """
        with self._lock:
            self.shelf.forget(user_id)
            self._begun.pop(user_id, None)

    def bring_up(self) -> None:
        """Has all that the log holds in the bank, on the disk, where this process writes it."""
        writer = self.shelf.writer
        if writer is None:
            return
        people, newest = dict[str, None](), writer.applied
        for event in self._feedback.read(after=newest):
            people[event.user_id], newest = None, event.number
        for user_id in people:
            with self._lock:
                if self._must_end or self.shelf.writer is None:
                    return
                found, told = self.shelf.read([user_id]), self._told(user_id)
                signals = with_liked(self._liked(user_id), told)
                if len(told) and not is_current(found, signals):
                    self._brought_up(user_id, found, signals)
        with self._lock:
            self._pending = 0
            self.shelf.commit(newest)

    def close(self) -> None:
        """Commits what was learned, and lets another process write."""
        self._must_end = True
        if self._following is not None:
            self._following.join()
        self._must_end = False
        if self._pending:
            self._quietly_bring_up()
        with self._lock:
            self._is_closed = True  # whoever still holds this tier goes on reading
            self.shelf.close()

    def _take_over(self) -> None:
        if not self._is_closed and self.shelf.take_over():
            self._begin_to_follow()

    def _begin_to_follow(self) -> None:
        if self._following is None or not self._following.is_alive():
            self._pending = 0
            self._following = threading.Thread(target=self._follow, name="adapters", daemon=True)
            self._following.start()

    def _follow(self) -> None:
        self._quietly_bring_up()
        self._feedback.close()  # this thread's connection

    def _quietly_bring_up(self) -> None:
        try:
            self.bring_up()
        except (AdapterBankError, FeedbackError, OSError, ValueError) as error:
            self._counters.count_fault()
            log.warning("adapters could not be brought up to the log: %s", error)

    def _signals(self, events: Sequence[FeedbackEvent]) -> Signals:
        """What events teach; those of a clock that was never set, or of the future, wait in the log."""
        latest = self._now() + AHEAD_S
        sound = [event for event in events if EARLIEST_TS <= event.ts <= latest]
        return signals_of(sound, self._row_of, self.config)

    def _told(self, user_id: str) -> Signals:
        return self._signals(self._feedback.of_user(user_id))

    def _beginning(self, user_id: str) -> Learned:
        """The adapter of somebody who told nothing."""
        found = self._begun.get(user_id)
        if found is None:
            found = Learned(self._loop.begun([user_id]), len(self._liked(user_id)), 0)
            with self._lock:
                self._begun[user_id] = found
                while len(self._begun) > _BEGUN:
                    self._begun.popitem(last=False)
        return found

    def _is_known(self, user_id: str, signals: Signals) -> bool:
        """Whether somebody's record learned these already: an answer may have brought it up to the log."""
        record = self.shelf.read([user_id])
        if is_newest(record, signals)[0]:
            return False
        return is_current(record, with_liked(self._liked(user_id), self._told(user_id)))

    def _brought_up(self, user_id: str, record: np.ndarray, signals: Signals) -> np.ndarray:
        found = brought_up(self.head, self.config, record, signals)
        self.shelf.write([user_id], found)
        self._counters.count_learned(0, 1)
        return found


def is_current(record: np.ndarray, signals: Signals) -> bool:
    """Whether a (1,) record learned exactly these signals, given that it learned none beside them.

    Every signal counts once, so as many of them up to the same place in the log are the same ones.
    """
    if not len(signals):
        return not record["events"][0]
    return int(record["events"][0]) == len(signals) and int(record["number"][0]) == _newest(signals.numbers)


def brought_up(head: Head, config: InstantConfig, record: np.ndarray, signals: Signals) -> np.ndarray:
    """A (1,) record after all signals, the same to the bit as one made anew from them.

    It goes on from what was learned where that is the beginning of the signals in order, and begins anew
    where it is not, because something came late.
    """
    ordered, known = signals.in_order(), int(record["events"][0])
    if not known or not _is_beginning(record, ordered, known):
        return rebuilt(head, config, signals)
    return followed(head, config, record, ordered.only(np.arange(known, len(ordered))))


def _is_beginning(record: np.ndarray, ordered: Signals, known: int) -> bool:
    """Whether the first ``known`` signals are what the record learned: its last one is the newest in both
    orders, so that no other signals of the log would end alike."""
    if known > len(ordered):
        return False
    last = ordered.numbers[known - 1]
    return bool(
        record["number"][0] == last == _newest(ordered.numbers[:known])
        and record["last_ts"][0] == ordered.ts[known - 1]
    )


def _newest(numbers: np.ndarray) -> int:
    """Place in the log of the last of some signals; 0 where none stands there."""
    return max(0, int(numbers.max()))


def _no_base(users: Users) -> np.ndarray:
    raise ValueError("the loop of a tier learns and is asked for no scores: ask the version")
