"""What people did after a split, as a replay hands it out: blocks of one person's likes of one second.

e events · k blocks · b blocks asked for · u users · i contents."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.splits import Part, SplitConfig, likes_of
from models.interface import Users


@dataclass(frozen=True)
class Events:
    """Likes, each with its moment."""

    users: np.ndarray
    """(e,) int64 rows."""
    contents: np.ndarray
    """(e,) int64 rows."""
    times: np.ndarray
    """(e,) int64 UTC seconds; the smallest int64 where nobody told."""

    def __len__(self) -> int:
        return len(self.users)

    def only(self, places: np.ndarray) -> "Events":
        """Those at ``places`` (m,), in that order."""
        return Events(self.users[places], self.contents[places], self.times[places])


class Stream:
    """The held-out events of a part by user, time and content, and what each person had liked before.

    A block is what one person liked in one second: nobody knows the order within it.

    Raises:
        SettingError: nothing is held out, or a user's history tells of a time after a held-out event.
    """

    def __init__(self, part: Part, events: Events) -> None:
        if not len(events):
            raise SettingError("a replay needs at least one event that is held out, got none")
        self.part = part
        self.events = events.only(np.lexsort((events.contents, events.times, events.users)))
        users, times = self.events.users, self.events.times
        begins = np.r_[True, (users[1:] != users[:-1]) | (times[1:] != times[:-1])]
        self.starts = np.flatnonzero(begins)
        """(k,) first event of each block."""
        self._refuse_late_history()

    @classmethod
    def of(cls, part: Part, config: SplitConfig) -> "Stream":
        """What ``part`` holds out, with times read from the graph that was cut by ``config``."""
        if part.whole is None:
            raise SettingError("a replay reads times from the graph that was cut: take a part of split()")
        likes = likes_of(part.whole, config.positive_rating, config.seed)
        users, contents = part.held_out.nonzero()
        is_held = np.isin(likes.pairs, users.astype(np.int64) * likes.content_count + contents)
        return cls(part, Events(likes.users[is_held], likes.contents[is_held], likes.times[is_held]))

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(k,) int64 events of each block."""
        return np.diff(np.r_[self.starts, len(self.events)])

    @cached_property
    def users(self) -> np.ndarray:
        """(k,) int64 row of each block's user, ascending."""
        return self.events.users[self.starts]

    @cached_property
    def times(self) -> np.ndarray:
        """(k,) int64 UTC seconds of each block, ascending within a user."""
        return self.events.times[self.starts]

    @cached_property
    def turns(self) -> np.ndarray:
        """(k,) int64 number of a block among its user's, from 0."""
        return np.arange(len(self)) - np.searchsorted(self.users, self.users)

    @cached_property
    def same_second(self) -> int:
        """Users whose first block shares its second with their history: a draw of the split parts them."""
        first = np.flatnonzero(self.turns == 0)
        users = self.users[first]
        is_warm = np.diff(self.part.history.indptr)[users] > 0
        return int(np.count_nonzero(is_warm & (self._latest[users] == self.times[first])))

    def events_of(self, blocks: np.ndarray) -> Events:
        """All events of ``blocks`` (b,), block after block."""
        return self.events.only(_ranges(self.starts[blocks], self.sizes[blocks]))

    def asked(self, blocks: np.ndarray) -> Users:
        """The people of ``blocks`` (b,), each with all that was liked before that block."""
        people = self.users[blocks]
        counts = self._bounds[people + 1] - self._bounds[people]
        takes = _ranges(self._bounds[people], counts)
        is_past = self._places[takes] < np.repeat(self.starts[blocks], counts)
        rows = np.repeat(np.arange(len(blocks)), counts)[is_past]
        takes, bounds = takes[is_past], np.searchsorted(rows, np.arange(len(blocks) + 1))
        shape, contents = (len(blocks), self.part.history.shape[1]), self._told.contents[takes]
        history = sp.csr_array((np.ones(len(takes), np.float32), contents, bounds), shape=shape)
        times = sp.csr_array((self._told.times[takes], contents.copy(), bounds.copy()), shape=shape)
        return Users(people, history, times)

    def hits(self, blocks: np.ndarray, lists: np.ndarray) -> np.ndarray:
        """(b, n) bool: which contents of ``lists`` (b, n) are events of their block."""
        width, events = self.part.history.shape[1], self.events_of(blocks)
        held = np.repeat(np.arange(len(blocks)), self.sizes[blocks]) * width + events.contents
        pairs = np.arange(len(blocks))[:, None] * width + np.maximum(lists, 0)
        return (lists >= 0) & np.isin(pairs, held)

    @cached_property
    def _all(self) -> tuple[Events, np.ndarray]:
        """History and events by user and content, and (m,) place of each among the events, -1 of history."""
        history, times, ours = self.part.history, self.part.times, self.events
        users = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        told = Events(
            np.r_[users, ours.users], np.r_[history.indices, ours.contents], np.r_[times.data, ours.times]
        )
        places = np.r_[np.full(history.nnz, -1), np.arange(len(ours))]
        order = np.lexsort((told.contents, told.users))
        return told.only(order), places[order]

    @property
    def _told(self) -> Events:
        return self._all[0]

    @property
    def _places(self) -> np.ndarray:
        return self._all[1]

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.searchsorted(self._told.users, np.arange(self.part.history.shape[0] + 1))

    @cached_property
    def _latest(self) -> np.ndarray:
        """(u,) int64 latest moment of each user's history, the smallest int64 without one."""
        history, found = self.part.history, np.full(self.part.history.shape[0], np.iinfo(np.int64).min)
        rows = np.flatnonzero(np.diff(history.indptr))
        if len(rows):
            found[rows] = np.maximum.reduceat(self.part.times.data, history.indptr[rows])
        return found

    def _refuse_late_history(self) -> None:
        late = np.flatnonzero(self._latest[self.users] > self.times)
        if len(late):
            raise SettingError(
                "a replay needs a split by time: nobody's history may tell of what came after a held-out "
                f"event, {len(late)} blocks have such a one (user row {int(self.users[late[0]])}): "
                "choose last_fifth, leave_last_out, temporal or unseen_users"
            )


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(m,) int64: starts[j], starts[j] + 1, … counts[j] of them, one range after another."""
    shift = np.repeat(starts - np.r_[0, np.cumsum(counts)[:-1]], counts)
    return np.arange(int(counts.sum())) + shift
