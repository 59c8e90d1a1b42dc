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

from configs.registry import SettingError
from experiments.rules import NEVER, Cut, Likes, drawn, splits
from kg import schema
from kg.arrays import GraphArrays
from kg.feedback import WATCHED_SHARE
from models.interface import Training

__all__ = ["NEVER", "Cut", "Likes", "Part", "Split", "SplitConfig", "likes_of", "split", "splits"]


@dataclass(frozen=True)
class SplitConfig:
    """Which split, and what counts as liked."""

    name: str = "last_fifth"
    """A registered split."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of that split."""
    positive_rating: float = 8.0
    """Ratings from here on are positives, on the scale 0 to 10; so is what was watched beyond
    ``kg.feedback.WATCHED_SHARE`` and not rated."""
    seed: int = 0
    """Breaks ties of time, and seeds whatever is fitted."""


@dataclass(frozen=True)
class Part:
    """What a model is fitted on, and what it is then asked for."""

    training: Training
    held_out: sp.csr_array
    """(u, i) float32, 1 where a held-out content was liked."""
    until: np.ndarray
    """(u,) int64 UTC seconds, see :class:`Cut`."""
    as_of: int | None
    told: Likes | None = None
    """All likes that a model is told when it is asked, where they are more than those of training."""
    unseen: np.ndarray | None = None
    """(u,) bool, see :class:`Cut`."""
    cold: np.ndarray | None = None
    """(i,) bool, see :class:`Cut`; with it every content may be ranked."""
    whole: GraphArrays | None = field(default=None, repr=False)
    """The graph that was cut: evaluation reads availability from it, a model never sees it."""

    @cached_property
    def history(self) -> sp.csr_array:
        """(u, i) float32: what each user has liked when a model is asked; it is not recommended again."""
        return self.training.positives if self.told is None else self.told.matrix()

    @cached_property
    def times(self) -> sp.csr_array:
        """(u, i) int64 UTC seconds at the places of :attr:`history`."""
        return self.training.times if self.told is None else self.told.matrix(self.told.times)

    @cached_property
    def asked(self) -> Training:
        """What a fitted model is ranked on: :attr:`history` stands for the positives."""
        if self.told is None:
            return self.training
        return replace(self.training, positives=self.history, times=self.times)

    @cached_property
    def users(self) -> np.ndarray:
        """(t,) int64 rows of users of whom something is held out, ascending."""
        return np.flatnonzero(np.diff(self.held_out.indptr))

    @cached_property
    def warm(self) -> np.ndarray:
        """(t,) bool: which of :attr:`users` have at least one positive in their history."""
        return np.diff(self.history.indptr)[self.users] > 0

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


def split(graph: GraphArrays, config: SplitConfig) -> Split:
    """Cuts a graph by a registered rule; equal graphs and configs give equal splits.

    Raises:
        SettingError: the rule leaves nothing to learn from, to choose by or to measure.
        UnknownName: no split has this name.
    """
    rule = splits.build(config.name, config.settings)
    likes = likes_of(graph, config.positive_rating, config.seed)
    last = rule(likes)
    rest = likes.only(~last.hidden)
    first = rule(rest)
    for what, mask in (
        ("test", last.held_out),
        ("validation", first.held_out),
        ("training", ~first.hidden),
    ):
        if not mask.any():
            raise SettingError(
                f"{config.name} leaves no positive for {what} out of {len(likes.users)} in {graph.name}: "
                "lower positive_rating, change the share or use more data"
            )
    test = _part(graph, rest, likes, last)
    # what test hides is hidden from validation too
    both = replace(
        first,
        until=np.minimum(first.until, last.until),
        unseen=_either(first.unseen, last.unseen),
        cold=_either(first.cold, last.cold),
    )
    validation = _part(graph, rest.only(~first.hidden), rest, both, likes.only(last.hidden))
    return Split(config, graph.name, graph.hash, _hash(graph, validation, test), validation, test)


def _either(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return one if other is None else other if one is None else one | other


def likes_of(graph: GraphArrays, positive_rating: float, seed: int) -> Likes:
    """All positives of a graph, each pair once at its first time, in the order that a split counts."""
    width = max(graph.size("Content"), 1)
    # NaN, a rating or a progress that nobody gave, compares as False
    rated, is_liked = _pairs(graph, "RATED", width), graph.fact_numbers("RATED", "rating") >= positive_rating
    viewed = _pairs(graph, "VIEWED", width)
    is_watched = graph.fact_numbers("VIEWED", "progress") > WATCHED_SHARE
    is_watched &= ~np.isin(viewed, rated)  # an opinion that was given counts for more
    pairs = np.concatenate([rated[is_liked], viewed[is_watched]])
    times = np.concatenate([graph.starts("RATED")[is_liked], graph.starts("VIEWED")[is_watched]])
    by_pair = np.lexsort((times, pairs))
    pairs, first = np.unique(pairs[by_pair], return_index=True)
    times = times[by_pair[first]]
    order = np.lexsort((drawn(pairs, seed), times, pairs // width))
    pairs, times = pairs[order], times[order]
    ids = {type: graph.ids(type) for type in ("User", "Content")}
    sizes = graph.size("User"), graph.size("Content")
    return Likes(pairs // width, pairs % width, times, *sizes, seed, ids)


def _pairs(graph: GraphArrays, type: str, width: int) -> np.ndarray:
    """(f,) int64 user row · width + content row of each fact."""
    users, contents = graph.pairs(type)
    return users.astype(np.int64) * width + contents


def _part(graph: GraphArrays, seen: Likes, likes: Likes, cut: Cut, later: Likes | None = None) -> Part:
    """Training on ``seen``, without whatever lies after a cut.

    Args:
        graph: whole.
        seen: the positives of training.
        likes: those that ``cut`` was made on; ``seen`` are what it leaves.
        cut: what is held out of ``likes``.
        later: further positives that are ahead, and of which nothing may be told.
    """
    hidden = likes.only(cut.hidden).matrix()
    if later is not None:
        hidden = sp.csr_array(hidden + later.matrix())
    past = before(graph, cut.as_of) if cut.as_of is not None else graph
    trained = past.keep({type: _visible(past, type, hidden, cut) for type in schema.USER_FACTS})
    rankable = known_contents(trained) if cut.cold is None else np.ones(graph.size("Content"), bool)
    training = Training(trained, seen.matrix(), seen.matrix(seen.times), rankable, likes.seed)
    told = None if cut.given is None else likes.only(~cut.held_out)
    held_out = likes.only(cut.held_out).matrix()
    return Part(training, held_out, cut.until, cut.as_of, told, cut.unseen, cut.cold, graph)


def _visible(graph: GraphArrays, type: str, hidden: sp.csr_array, cut: Cut) -> np.ndarray:
    """(f,) bool: facts of a type that a seen person did in time, about no hidden pair or cold content."""
    users = graph.incidence(type, "user")[1]
    visible = graph.starts(type) <= cut.until[users] if len(users) else np.empty(0, bool)
    if cut.unseen is not None:
        visible &= ~cut.unseen[users]
    contents = contents_of(graph, type)
    if contents is None:
        return visible
    if cut.cold is not None:
        visible &= ~cut.cold[contents]
    return visible & ~_has(hidden, users, contents)


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
        counted = schema.observed(type, table.column_names)
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
        given = () if part.told is None else (part.history,)
        for matrix in (part.training.positives, part.held_out, *given):
            digest.update(matrix.indptr.astype("<i8").tobytes() + matrix.indices.astype("<i8").tobytes())
        digest.update(np.packbits(part.training.rankable).tobytes())
    return digest.hexdigest()
