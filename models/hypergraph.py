"""Hypergraph convolution: nodes speak to the facts they are members of, facts speak back to their members.

n nodes: users first, then contents, then the others · f facts · d width of a vector · t types of facts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from configs.registry import fill
from kg import schema
from kg.arrays import GraphArrays
from models.features import FeaturesConfig, content_features
from models.interface import ModelFacts, Training, recommenders
from models.relations import LIKED
from models.whole_graph import SparseMatrix, Spread, WholeGraphConfig, WholeGraphRecommender

LIKES = ("likes of a user", "likers of a content")
"""The facts that training's positives make: a user with all that was liked, a content with all its likers."""


@dataclass(frozen=True)
class HypergraphConfig(WholeGraphConfig):
    """Settings of :class:`HypergraphConvolution`."""

    facts: tuple[str, ...] = WholeGraphConfig.facts
    """Fact types of any arity about contents that are read besides what users liked."""
    features: Mapping[str, Any] | None = None
    """Settings of :class:`models.features.FeaturesConfig`; None reads no words and categories of contents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fill(FeaturesConfig, self.features or {}, "features")
        for fact in self.facts:
            kind = schema.FACTS.get(fact)
            if kind is None or fact == LIKED or not any("Content" in role.types for role in kind.roles):
                raise ValueError(
                    f"hypergraph reads facts about contents, got {fact!r}: leave it out of `facts`; what "
                    "users liked is read from training.positives"
                )


@dataclass(frozen=True)
class Members:
    """Who is a member of which fact."""

    incidence: sp.csr_array
    """(f, n) float32, 1 where a node is a member."""
    type: np.ndarray
    """(f,) int64 code of each fact's type."""
    types: tuple[str, ...]
    """Fact type by code, those of ``LIKES`` first."""
    sends: np.ndarray
    """(n,) bool, nodes that facts hear: the rest only receives."""
    users: int
    contents: int


def members(training: Training, facts: Sequence[str], least_links: int = 2) -> Members:
    """What training may see, as facts and their members.

    Contents that may be recommended, or that somebody liked, form the core with their users; all other
    contents receive and do not send. A node of another type is kept where it shares facts with
    ``least_links`` contents of the core. A fact is kept where it has a member that sends and another one.

    Args:
        training: positives, and the graph for everything else.
        facts: fact types of any arity.
        least_links: contents that a node of another type must be linked with, >= 1.
    """
    users, contents = training.positives.shape
    liked = training.positives.tocoo()
    is_core = training.rankable | (np.bincount(liked.col, minlength=contents) > 0)
    told = [_told(training.graph, fact) for fact in facts]
    start, size = {"User": 0, "Content": users}, users + contents
    for type in sorted({type for _, rows in told for type in rows} - set(start)):
        start[type], size = size, size + training.graph.size(type)
    matrices = [_likes(training.positives, size), _likers(training.positives, size)]
    for count, rows in told:
        fact = np.concatenate([fact for fact, _ in rows.values()])
        node = np.concatenate([start[type] + node for type, (_, node) in rows.items()])
        matrices.append(sp.csr_array((np.ones(len(fact), np.float32), (fact, node)), shape=(count, size)))
    incidence = sp.csr_array(sp.vstack(matrices, format="csr"))
    incidence.sum_duplicates()
    incidence.data[:] = 1  # who plays two parts in a fact is one member
    type = np.repeat(np.arange(len(matrices)), [matrix.shape[0] for matrix in matrices])
    return _reduced(
        Members(incidence, type, (*LIKES, *facts), _senders(is_core, users, size), users, contents),
        least_links,
    )


def _senders(is_core: np.ndarray, users: int, size: int) -> np.ndarray:
    """(n,) bool: all but the contents outside the core."""
    sends = np.ones(size, bool)
    sends[users : users + len(is_core)] = is_core
    return sends


def _told(graph: GraphArrays, fact: str) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """How many facts of a type there are, and by node type who is a member: rows of facts, rows of nodes."""
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for role in schema.FACTS[fact].roles:
        found.setdefault(role.types[0], []).append(graph.incidence(fact, role.name))
    joined = {
        type: tuple(np.concatenate(part) for part in zip(*rows, strict=True)) for type, rows in found.items()
    }
    return graph.fact_count(fact), joined


def _likes(positives: sp.csr_array, size: int) -> sp.csr_array:
    """(u, n): one fact a user, of the user and all that was liked."""
    users, contents = positives.shape
    rest = sp.csr_array((users, size - users - contents), dtype=np.float32)
    own = sp.diags_array(np.diff(positives.indptr) > 0, dtype=np.float32)
    return sp.csr_array(sp.hstack([own, positives, rest], format="csr"))


def _likers(positives: sp.csr_array, size: int) -> sp.csr_array:
    """(i, n): one fact a content, of the content and all who liked it."""
    users, contents = positives.shape
    rest = sp.csr_array((contents, size - users - contents), dtype=np.float32)
    own = sp.diags_array(np.asarray(positives.sum(0)).ravel() > 0, dtype=np.float32)
    return sp.csr_array(sp.hstack([positives.T, own, rest], format="csr"))


def _reduced(found: Members, least_links: int) -> Members:
    """Without nodes of other types that link too little, and without facts that then link nothing."""
    first, last = found.users, found.users + found.contents
    incidence, is_fact = found.incidence, found.type >= len(LIKES)
    linked = incidence[is_fact][:, first:last][:, found.sends[first:last]]  # (f', core)
    shared = incidence[is_fact][:, last:].T @ linked  # (others, core)
    links = np.diff(sp.csr_array(shared).indptr)
    kept = np.concatenate([np.ones(last, bool), links >= least_links])
    incidence = sp.csr_array(incidence[:, kept])
    sends = found.sends[kept]
    heard = incidence @ sends.astype(np.float32)
    is_told = (np.diff(incidence.indptr) > 1) & (heard > 0)
    return Members(
        sp.csr_array(incidence[is_told]), found.type[is_told], found.types, sends, found.users, found.contents
    )


def two_stages(found: Members) -> tuple[sp.csr_array, sp.csr_array]:
    """Node to fact (f, n), and fact to node (n, f): each type of fact normalised by itself.

    A fact hears the mean of its members that send, each divided by √(its facts of that type), and a node the
    sum of its facts, divided the same way: D_v^-½ H D_e^-1 Hᵀ D_v^-½ within a type. Who sends hears, and
    counts, only facts in which somebody else sends too.
    """
    entries, count = found.incidence.tocoo(), found.incidence.shape[0]
    sends, type = found.sends[entries.col], found.type[entries.row]
    senders = np.bincount(entries.row, sends, minlength=count)  # (f,)
    hears = ~sends | (senders[entries.row] > 1)
    nodes = found.incidence.shape[1]
    degree = np.bincount((type * nodes + entries.col)[hears], minlength=len(found.types) * nodes)
    root = 1 / np.sqrt(np.maximum(degree[type * nodes + entries.col], 1))
    into = sp.csr_array(
        ((root / senders[entries.row])[sends], (entries.row[sends], entries.col[sends])),
        shape=found.incidence.shape,
    )
    back = sp.csr_array((root[hears], (entries.col[hears], entries.row[hears])), shape=(nodes, count))
    return into.astype(np.float32), back.astype(np.float32)


class Stages(nn.Module):
    """Node to fact to node between some senders and some receivers, by way of the facts that have both."""

    def __init__(self, found: Members, senders: np.ndarray, receivers: np.ndarray) -> None:
        super().__init__()
        into, back = two_stages(found)
        back = sp.csr_array(back[receivers])
        between = np.flatnonzero(np.bincount(back.indices, minlength=back.shape[1]))
        self.into = SparseMatrix(sp.csr_array(into[between][:, senders]))
        self.back = SparseMatrix(sp.csr_array(back[:, between]))
        self.register_buffer("fact_type", torch.from_numpy(found.type[between]), persistent=False)

    def forward(self, hidden: Tensor, weight: Tensor, dropout: float = 0.0) -> Tensor:
        """(s, d) of senders, (t,) weight of each type -> (r, d) of receivers; ``dropout`` drops facts."""
        weight = nn.functional.dropout(weight[self.fact_type][:, None], dropout)  # (f, 1)
        return self.back(weight * self.into(hidden))


class Convolution(Spread):
    """Learned node vectors, spread by way of facts; the answer is the mean over all layers.

    Only nodes that send have a vector of their own.
    """

    def __init__(self, config: HypergraphConfig, found: Members, features: np.ndarray | None) -> None:
        super().__init__()
        self.users, self.contents, self.layers = found.users, found.contents, config.layers
        self.nodes, self.dropout = len(found.sends), config.dropout
        core, outer = np.flatnonzero(found.sends), np.flatnonzero(~found.sends)
        self.node_vector = nn.Parameter(torch.randn(len(core), config.width) * config.embedding_sd)
        start = torch.ones(len(found.types))
        start[len(LIKES) :] = 1 / max(len(found.types) - len(LIKES), 1)  # all facts weigh as much as likes
        self.log_weight = nn.Parameter(start.log())
        self.within = Stages(found, core, core)
        self.outwards = Stages(found, core, outer) if len(outer) else None
        self.register_buffer("core", torch.from_numpy(core), persistent=False)
        self.register_buffer("outer", torch.from_numpy(outer), persistent=False)
        self.described = None
        if features is not None:
            self.described = nn.Linear(features.shape[1], config.width, bias=False)
            self.register_buffer("features", torch.from_numpy(features), persistent=False)

    def forward(self) -> Tensor:
        summed, _ = self._within()
        return self._placed(self.core, summed) / (self.layers + 1)

    def everywhere(self) -> Tensor:
        summed, said = self._within()
        vectors = self._placed(self.core, summed)
        if self.outwards is not None:
            heard = self.outwards(said, self.log_weight.exp())  # linear: all layers at once
            vectors = vectors + self._placed(self.outer, heard + self._described()[self.outer])
        return vectors / (self.layers + 1)

    def _within(self) -> tuple[Tensor, Tensor]:
        """(core, d) sum over all layers, and the sum of what was said from layer to layer."""
        hidden = self.node_vector + self._described()[self.core]
        summed, said = hidden, torch.zeros_like(hidden)
        for _ in range(self.layers):
            said = said + hidden
            hidden = self.within(hidden, self.log_weight.exp(), self.dropout if self.training else 0.0)
            summed = summed + hidden
        return summed, said

    def _described(self) -> Tensor:
        """(n, d) what a content is like; zeros without features, and for all that is no content."""
        width = self.node_vector.shape[1]
        if self.described is None:
            return self.node_vector.new_zeros(1, 1).expand(self.nodes, width)
        before = self.node_vector.new_zeros(self.users, width)
        after = self.node_vector.new_zeros(self.nodes - self.users - self.contents, width)
        return torch.cat([before, self.described(self.features), after])

    def _placed(self, rows: Tensor, vectors: Tensor) -> Tensor:
        """(r, d) vectors at their rows among (n, d) zeros."""
        return vectors.new_zeros(self.nodes, vectors.shape[1]).index_copy(0, rows, vectors)


@recommenders.register("hypergraph", HypergraphConfig)
class HypergraphConvolution(WholeGraphRecommender):
    """Learned vectors of users, contents and others, passed node -> fact -> node.

    Facts keep their arity: an offer of a content on a platform in three regions is one fact of five members.
    What a user liked is one fact, and so are all who liked a content.

    Source: Feng et al., "Hypergraph Neural Networks", AAAI 2019, arXiv:1809.09401, eq. 10, read in two stages
    as in Chien et al., "You are AllSet", ICLR 2022, arXiv:2106.13264, eq. 5. Ours normalises each type of
    fact by itself, learns one weight a type (the diagonal of W), leaves out Θ and the non-linearity, and
    takes the mean of all layers, which He et al. 2020 (LightGCN) found to serve recommendation better.

    Cost: O(entries of the incidence · d) a layer and step.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=WholeGraphConfig.facts)
    config: HypergraphConfig

    def __init__(self, config: HypergraphConfig) -> None:
        super().__init__(config)
        self.facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=config.facts)

    def _spread(self, training: Training) -> Convolution:
        features = None
        if self.config.features is not None:
            settings = fill(FeaturesConfig, self.config.features, "features")
            features = content_features(training.graph, training.rankable, settings)
        found = members(training, self.config.facts, self.config.least_links)
        return Convolution(self.config, found, features)
