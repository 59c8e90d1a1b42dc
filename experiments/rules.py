"""The rules that a split may go by: which likes are held out, and what of the rest training may see.

A rule reads likes alone and is applied twice: to all, for test, then to what is left, for validation.
u users · i contents · p positives, by user, then time, then a draw of the seed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.registry import Registry, SettingError

NEVER = np.iinfo(np.int64).max
"""Cut of a user of whom nothing is held out by time: no fact is too late."""


@dataclass(frozen=True)
class Likes:
    """All positives of a graph, each pair once, at the first time its rating reached the bar."""

    users: np.ndarray
    """(p,) int64 rows of users, ascending."""
    contents: np.ndarray
    """(p,) int64 rows of contents."""
    times: np.ndarray
    """(p,) int64 UTC seconds, ascending within a user; the smallest int64 where not known."""
    user_count: int
    content_count: int
    seed: int = 0
    ids: Mapping[str, Sequence[str]] | None = None
    """``User`` and ``Content`` -> ids by row, so that a draw goes by the id; None lets it go by the row."""

    def only(self, mask: np.ndarray) -> "Likes":
        """Those for which ``mask`` (p,) is True, in the same order."""
        return replace(self, users=self.users[mask], contents=self.contents[mask], times=self.times[mask])

    def matrix(self, values: np.ndarray | None = None) -> sp.csr_array:
        """(u, i) csr: ones (float32), or ``values`` (p,) at the places of the positives."""
        values = np.ones(len(self.users), np.float32) if values is None else values
        # the order within a row is by content, so that equal sets give equal arrays
        order = np.lexsort((self.contents, self.users))
        bounds = np.searchsorted(self.users, np.arange(self.user_count + 1))
        return sp.csr_array(
            (values[order], self.contents[order], bounds), shape=(self.user_count, self.content_count)
        )

    @cached_property
    def counts(self) -> np.ndarray:
        """(u,) int64 positives of each user."""
        return np.bincount(self.users, minlength=self.user_count)

    @property
    def pairs(self) -> np.ndarray:
        """(p,) int64, one number for each user and content."""
        return self.users * max(self.content_count, 1) + self.contents

    @property
    def draws(self) -> np.ndarray:
        """(p,) uint64, each pair's own draw, whatever else is in the graph."""
        return drawn(self.pairs, self.seed)

    def node_draws(self, type: str) -> np.ndarray:
        """(u,) or (i,) uint64: each user's or content's own draw, a hash of its id and the seed."""
        count = self.user_count if type == "User" else self.content_count
        names = range(count) if self.ids is None else self.ids[type]
        hashes = (hashlib.blake2b(f"{self.seed} {name}".encode(), digest_size=8).digest() for name in names)
        return np.frombuffer(b"".join(hashes), "<u8", count)


@dataclass(frozen=True)
class Cut:
    """What one application of a split holds out."""

    held_out: np.ndarray
    """(p,) bool."""
    until: np.ndarray
    """(u,) int64 UTC seconds: the last moment of each user that training may see."""
    as_of: int | None = None
    """The last moment of anything at all that training may see; None where only users have cuts."""
    given: np.ndarray | None = None
    """(p,) bool: likes that training does not see and that a model is told when asked; None is none."""
    unseen: np.ndarray | None = None
    """(u,) bool: users of whom training sees no fact at all; None is nobody."""
    cold: np.ndarray | None = None
    """(i,) bool: contents of which training sees nothing that anybody did; None is none."""

    @property
    def hidden(self) -> np.ndarray:
        """(p,) bool: what training does not see."""
        return self.held_out if self.given is None else self.held_out | self.given


splits: Registry[Any] = Registry("split")


@dataclass(frozen=True)
class ShareConfig:
    """Settings of splits that hold out a share."""

    share: float = 0.2
    """Part of the positives that is held out, above 0 and below 1."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise SettingError(f"share must lie above 0 and below 1, got {self.share}")


@splits.register("last_fifth", ShareConfig)
class LastFifth:
    """Each user's last positives: a share of them, rounded down: somebody with four keeps all four."""

    def __init__(self, config: ShareConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        # 0.2 · 15 is a hair above 3: without the allowance a share could round to one too few
        return last_of_each(likes, np.floor(likes.counts * self.config.share + 1e-9).astype(np.int64))


@dataclass(frozen=True)
class LeaveLastOutConfig:
    """:class:`LeaveLastOut` takes no settings."""


@splits.register("leave_last_out", LeaveLastOutConfig)
class LeaveLastOut:
    """The last positive of everybody who has at least two."""

    def __init__(self, config: LeaveLastOutConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        return last_of_each(likes, (likes.counts >= 2).astype(np.int64))


@splits.register("temporal", ShareConfig)
class Temporal:
    """One moment for all: what was liked after it is held out, and no fact of any type after it is seen."""

    def __init__(self, config: ShareConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        times = np.sort(likes.times)
        kept = int(np.ceil(len(times) * (1 - self.config.share) - 1e-9))
        as_of = int(times[max(kept - 1, 0)]) if len(times) else NEVER
        return Cut(likes.times > as_of, np.full(likes.user_count, as_of), as_of)


@splits.register("random", ShareConfig)
class Random:
    """A share of each user's positives by a draw of the seed, rounded down: time plays no part."""

    def __init__(self, config: ShareConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        order = np.lexsort((likes.draws, likes.users))
        first = np.searchsorted(likes.users, np.arange(likes.user_count))
        place = np.arange(len(order)) - first[likes.users]  # (p,) from 0 within a user, in the drawn order
        wanted = np.floor(likes.counts * self.config.share + 1e-9)
        held_out = np.zeros(len(order), bool)
        held_out[order] = place < wanted[likes.users]
        return Cut(held_out, np.full(likes.user_count, NEVER))


@dataclass(frozen=True)
class UnseenUsersConfig:
    """Settings of :class:`UnseenUsers`."""

    share: float = 0.2
    """Part of the users with at least two positives that is held out, above 0 and below 1."""
    given_share: float = 0.8
    """Part of such a user's positives, the first in time, that a model is told; above 0 and below 1."""

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and 0 < self.given_share < 1):
            raise SettingError(
                f"share and given_share must lie above 0 and below 1, got {self.share}, {self.given_share}"
            )


@splits.register("unseen_users", UnseenUsersConfig)
class UnseenUsers:
    """Strong generalisation: whole users, drawn by seed, of whom training sees no fact.

    A model is told the first positives of such a user when it is asked for the last; at least one of each.

    Source: Marlin, "Collaborative filtering: a machine learning perspective", 2004, 3.3 ("strong"); Liang et
    al., WWW 2018, give 80%. They draw what is given, ours goes by time.
    """

    def __init__(self, config: UnseenUsersConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        eligible = np.flatnonzero(likes.counts >= 2)
        wanted = max(1, int(np.floor(len(eligible) * self.config.share + 1e-9)))
        unseen = np.zeros(likes.user_count, bool)
        unseen[eligible[np.argsort(likes.node_draws("User")[eligible], kind="stable")[:wanted]]] = True
        held = np.floor(likes.counts * (1 - self.config.given_share) + 1e-9).astype(np.int64)
        last = last_of_each(likes, np.where(unseen, np.clip(held, 1, np.maximum(likes.counts - 1, 1)), 0))
        return replace(last, given=unseen[likes.users] & ~last.held_out, unseen=unseen)


@dataclass(frozen=True)
class ColdContentsConfig:
    """Settings of :class:`ColdContents`."""

    folds: int = 5
    """Into how many folds contents fall, 3 or more: one for test, one for validation, one to learn from."""
    fold: int = 0
    """Which is held out for test, from 0; an empty one gives way to the next."""

    def __post_init__(self) -> None:
        if self.folds < 3 or not 0 <= self.fold < self.folds:
            raise SettingError(
                f"folds must be 3 or more and fold in 0..folds-1, got {self.folds}, {self.fold}"
            )


@splits.register("cold_contents", ColdContentsConfig)
class ColdContents:
    """All likes of the contents of a fold; training sees nothing that anybody did to them.

    Every content of the graph may then be ranked, liked or not: the candidates tell nothing of the fold. A
    content's fold is a hash of its id and the seed. In what is left after the first application the fold is
    empty: the next one serves for validation.
    """

    def __init__(self, config: ColdContentsConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        folds = (likes.node_draws("Content") % np.uint64(self.config.folds)).astype(np.int64)
        liked = np.bincount(folds[likes.contents], minlength=self.config.folds)
        tried = (self.config.fold + np.arange(self.config.folds)) % self.config.folds
        cold = folds == tried[np.argmax(liked[tried] > 0)]
        return Cut(cold[likes.contents], np.full(likes.user_count, NEVER), cold=cold)


def last_of_each(likes: Likes, counts: np.ndarray) -> Cut:
    """Holds out the last ``counts`` (u,) positives of each user; the cut is the last one that stays."""
    ends = np.searchsorted(likes.users, np.arange(likes.user_count), side="right")
    held_out = np.arange(len(likes.users)) >= (ends - counts)[likes.users]
    until = np.full(likes.user_count, NEVER)
    some = np.flatnonzero(counts)
    last_kept = ends[some] - counts[some] - 1
    is_kept = last_kept >= np.searchsorted(likes.users, some)
    until[some] = np.where(is_kept, likes.times[last_kept], np.iinfo(np.int64).min)
    return Cut(held_out, until)


def drawn(pairs: np.ndarray, seed: int) -> np.ndarray:
    """(p,) uint64 that break ties of time: each pair's own draw, whatever else is in the graph.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (its finaliser).
    """
    mixed = pairs.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
