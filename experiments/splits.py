"""Cuts a graph into what a model may learn from, what chooses its settings, and what measures it once.

Nothing that a person did after the cut, and no trace of a held-out pair, is in the graph that a model gets.
u users · i contents · p positives, by user, then time, then a draw of the seed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from configs.registry import Registry, SettingError
from kg import schema
from kg.arrays import GraphArrays
from models.interface import Training

NEVER = np.iinfo(np.int64).max
"""Cut of a user of whom nothing is held out: no fact is too late."""


@dataclass(frozen=True)
class SplitConfig:
    """Which split, and what counts as liked."""

    name: str = "last_fifth"
    """A registered split."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of that split."""
    positive_rating: float = 8.0
    """Ratings from here on are positives, on the scale 0 to 10."""
    seed: int = 0
    """Breaks ties of time, and seeds whatever is fitted."""


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


@dataclass(frozen=True)
class Cut:
    """What one application of a split holds out."""

    held_out: np.ndarray
    """(p,) bool."""
    until: np.ndarray
    """(u,) int64 UTC seconds: the last moment of each user that training may see."""
    as_of: int | None = None
    """The last moment of anything at all that training may see; None where only users have cuts."""


@dataclass(frozen=True)
class Part:
    """What a model is fitted on, and what it is then asked for."""

    training: Training
    held_out: sp.csr_array
    """(u, i) float32, 1 where a held-out content was liked."""
    until: np.ndarray
    """(u,) int64 UTC seconds, see :class:`Cut`."""
    as_of: int | None

    @cached_property
    def users(self) -> np.ndarray:
        """(t,) int64 rows of users of whom something is held out, ascending."""
        return np.flatnonzero(np.diff(self.held_out.indptr))

    @cached_property
    def warm(self) -> np.ndarray:
        """(t,) bool: which of :attr:`users` have at least one positive in training."""
        return np.diff(self.training.positives.indptr)[self.users] > 0

    @cached_property
    def unreachable(self) -> int:
        """Held-out pairs whose content training does not know: nobody may rank them, they count as missed."""
        return int(np.count_nonzero(~self.training.rankable[self.held_out.indices]))


@dataclass(frozen=True)
class Split:
    """A graph cut twice by one rule: test from all, validation from what is left."""

    config: SplitConfig
    graph: str
    graph_hash: str
    hash: str
    """Equal for two splits that train on, rank and hold out the same pairs of the same users and contents."""
    validation: Part
    """Fitted on training alone; held out for choosing settings."""
    test: Part
    """Fitted on training and validation; held out for measuring once."""

    @property
    def fit(self) -> Training:
        """Training alone."""
        return self.validation.training

    @property
    def full(self) -> Training:
        """Training and validation."""
        return self.test.training

    @property
    def warm_users(self) -> int:
        """Test users with at least one positive to learn from."""
        return int(self.test.warm.sum())


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
        counts = np.bincount(likes.users, minlength=likes.user_count)
        # 0.2 · 15 is a hair above 3: without the allowance a share could round to one too few
        return last_of_each(likes, np.floor(counts * self.config.share + 1e-9).astype(np.int64))


@dataclass(frozen=True)
class LeaveLastOutConfig:
    """:class:`LeaveLastOut` takes no settings."""


@splits.register("leave_last_out", LeaveLastOutConfig)
class LeaveLastOut:
    """The last positive of everybody who has at least two."""

    def __init__(self, config: LeaveLastOutConfig) -> None:
        self.config = config

    def __call__(self, likes: Likes) -> Cut:
        counts = np.bincount(likes.users, minlength=likes.user_count)
        return last_of_each(likes, (counts >= 2).astype(np.int64))


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


def split(graph: GraphArrays, config: SplitConfig) -> Split:
    """Cuts a graph by a registered rule; equal graphs and configs give equal splits.

    Raises:
        SettingError: the rule leaves nothing to learn from, to choose by or to measure.
        UnknownName: no split has this name.
    """
    rule = splits.build(config.name, config.settings)
    likes = likes_of(graph, config.positive_rating, config.seed)
    last = rule(likes)
    rest = likes.only(~last.held_out)
    first = rule(rest)
    for what, mask in (
        ("test", last.held_out),
        ("validation", first.held_out),
        ("training", ~first.held_out),
    ):
        if not mask.any():
            raise SettingError(
                f"{config.name} leaves no positive for {what} out of {len(likes.users)} in {graph.name}: "
                "lower positive_rating, change the share or use more data"
            )
    test = _part(graph, likes, last.held_out, last.until, last.as_of, config.seed)
    ahead = last.held_out.copy()
    ahead[~last.held_out] = first.held_out
    validation = _part(graph, likes, ahead, np.minimum(first.until, last.until), first.as_of, config.seed)
    validation = replace(validation, held_out=rest.only(first.held_out).matrix())
    return Split(config, graph.name, graph.hash, _hash(graph, validation, test), validation, test)


def likes_of(graph: GraphArrays, positive_rating: float, seed: int) -> Likes:
    """All positives of a graph in the order in which a split counts them."""
    users, contents = graph.pairs("RATED")
    # NaN, a rating that nobody gave, compares as False
    facts = np.flatnonzero(graph.fact_numbers("RATED", "rating") >= positive_rating)
    times = graph.starts("RATED")[facts]
    pairs = users[facts] * max(graph.size("Content"), 1) + contents[facts]
    by_pair = np.lexsort((times, pairs))
    pairs, first = np.unique(pairs[by_pair], return_index=True)
    facts, times = facts[by_pair[first]], times[by_pair[first]]
    order = np.lexsort((_drawn(pairs, seed), times, users[facts]))
    facts, times = facts[order], times[order]
    return Likes(users[facts], contents[facts], times, graph.size("User"), graph.size("Content"))


def _drawn(pairs: np.ndarray, seed: int) -> np.ndarray:
    """(p,) uint64 that break ties of time: each pair's own draw, whatever else is in the graph.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (its finaliser).
    """
    mixed = pairs.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 1) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _part(
    graph: GraphArrays, likes: Likes, ahead: np.ndarray, until: np.ndarray, as_of: int | None, seed: int
) -> Part:
    """Training without the positives in ``ahead`` (p,) and without whatever lies after a cut."""
    seen = likes.only(~ahead)
    hidden = likes.only(ahead).matrix()
    past = before(graph, as_of) if as_of is not None else graph
    trained = past.keep({type: _visible(past, type, hidden, until) for type in schema.USER_FACTS})
    training = Training(trained, seen.matrix(), seen.matrix(seen.times), known_contents(trained), seed)
    return Part(training, hidden, until, as_of)


def _visible(graph: GraphArrays, type: str, hidden: sp.csr_array, until: np.ndarray) -> np.ndarray:
    """(f,) bool: facts of a type that a person did in time, and that are not about a held-out pair."""
    users = graph.incidence(type, "user")[1]
    visible = graph.starts(type) <= until[users] if len(users) else np.empty(0, bool)
    contents = contents_of(graph, type)
    return visible if contents is None else visible & ~_has(hidden, users, contents)


def _has(matrix: sp.csr_array, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(m,) bool: whether ``matrix`` holds something at each (row, column)."""
    width = matrix.shape[1]
    there = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr)) * width + matrix.indices
    return np.isin(rows * width + columns, there)


def contents_of(graph: GraphArrays, type: str) -> np.ndarray | None:
    """(f,) int64 rows of the contents of what people did; None for a type that is not about contents."""
    if not any(role.name == "content" for role in schema.FACTS[type].roles):
        return None
    return graph.incidence(type, "content")[1]


def known_contents(graph: GraphArrays) -> np.ndarray:
    """(i,) bool: contents to which somebody did something in ``graph``."""
    known = np.zeros(graph.size("Content"), bool)
    for type in schema.USER_FACTS:
        contents = contents_of(graph, type)
        if contents is not None:
            known[contents] = True
    return known


def before(graph: GraphArrays, as_of: int) -> GraphArrays:
    """The graph as it was at ``as_of``: no later fact of any type, and nothing that was counted later."""
    past = graph.keep({type: graph.starts(type) <= as_of for type in graph.facts})
    nodes = dict(past.nodes)
    for type, table in past.nodes.items():
        counted = [name for name, column in schema.NODES[type].columns.items() if column.is_observed]
        if counted:
            later = _counted_after(table, as_of)
            for name in counted:
                column = table[name].combine_chunks()
                place = table.column_names.index(name)
                hidden = pc.if_else(later, pa.scalar(None, column.type), column)
                table = table.set_column(place, name, hidden)
            nodes[type] = table
    digest = hashlib.blake2b(f"{past.hash} as of {as_of}".encode(), digest_size=16).hexdigest()
    return replace(past, nodes=nodes, as_of=as_of, hash=digest, _rows={})


def _counted_after(table: pa.Table, as_of: int) -> pa.Array:
    """(n,) bool: nodes whose counts are of a later day, or of a day that nobody told."""
    return pa.array(table["observed_ts"].fill_null(NEVER).to_numpy() > as_of)


def _hash(graph: GraphArrays, validation: Part, test: Part) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for type in ("User", "Content"):
        digest.update("\n".join(graph.ids(type)).encode())
    for part in (validation, test):
        for matrix in (part.training.positives, part.held_out):
            digest.update(matrix.indptr.astype("<i8").tobytes() + matrix.indices.astype("<i8").tobytes())
        digest.update(np.packbits(part.training.rankable).tobytes())
    return digest.hexdigest()
