"""What every attention mechanism is: mixes the features of neighbours into each query.

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width ·
h heads · c = d // h · e features of an edge."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from configs.registry import Registry

Nature = Literal["mechanism", "aggregator", "implementation", "operator"]


@dataclass(frozen=True)
class AttentionConfig:
    """Settings that all mechanisms share."""

    dim: int
    """Feature width d of queries, sources and answers, > 0."""
    heads: int = 1
    """Heads h; must divide ``dim``. A mechanism without heads takes no notice."""
    relations: int = 1
    """Number of relation codes, for a mechanism that states ``uses_relation``, >= 1."""
    types: int = 1
    """Number of node types, for a mechanism that states ``uses_type``, >= 1."""
    edge_width: int = 1
    """Features e of an edge, for a mechanism that states ``uses_edge``, >= 1."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise ValueError(
                f"heads must divide dim, got dim={self.dim} and heads={self.heads}: change one of them"
            )
        if min(self.relations, self.types, self.edge_width) < 1:
            raise ValueError(
                "relations, types and edge_width must be 1 or more, got "
                f"{self.relations}, {self.types} and {self.edge_width}"
            )


@dataclass(frozen=True)
class Pairs:
    """What is known of each query and its neighbours; None where no mechanism in use states that it reads it.

    Keys stand oldest first; query i stands at place k − q + i among them.
    """

    key_mask: Tensor
    """(b, k) bool, True where there is a neighbour."""
    is_causal: bool = False
    """True if a query may not see keys after its own place."""
    mask: Tensor | None = None
    """(b, q, k) bool, True where a query may see a key: read by mechanisms that state ``takes_mask``."""
    age_s: Tensor | None = None
    """(b, k) seconds since the neighbour's fact happened; 0 for one that always holds."""
    hop: Tensor | None = None
    """(b, k) int64 steps from the query to each neighbour, where they are not all one step away."""
    relation: Tensor | None = None
    """(b, k) int64 relation code of each neighbour."""
    query_type: Tensor | None = None
    """(b, q) int64 node type; 0 is a user."""
    key_type: Tensor | None = None
    """(b, k) int64 node type; 0 is a user."""
    query_degree: Tensor | None = None
    """(b, q) number of neighbours in the whole graph."""
    key_degree: Tensor | None = None
    """(b, k) number of neighbours in the whole graph."""
    edge: Tensor | None = None
    """(b, k, e) features of the edge to each neighbour."""


READS: Mapping[str, tuple[str, ...]] = {
    "uses_relation": ("relation",),
    "uses_age": ("age_s",),
    "uses_type": ("query_type", "key_type"),
    "uses_degree": ("query_degree", "key_degree"),
    "uses_edge": ("edge",),
}
"""Fields of :class:`Pairs` that a mechanism must be handed, by the fact in which it states so."""
_PER_QUERY = ("query_type", "query_degree")


class Attention(nn.Module, ABC):
    """Mixes the features of neighbours into each query.

    A class states its facts; ``tests/contract/test_attention_contract.py`` holds it to them.
    """

    family: ClassVar[str]
    """core, graph, specialised, hyperbolic or extra."""
    nature: ClassVar[Nature]
    """mechanism; aggregator (weights fixed by the graph); implementation (the same function computed
    otherwise); operator (a piece of geometry whose use in attention is defined here)."""
    order_aware: ClassVar[bool] = False
    """True if shuffling the neighbours may change the answer."""
    normalised: ClassVar[bool] = True
    """True if the weights of the neighbours of a query sum to one."""
    uses_relation: ClassVar[bool] = False
    """True if the answer depends on ``pairs.relation``."""
    uses_age: ClassVar[bool] = False
    """True if the answer depends on ``pairs.age_s``."""
    uses_type: ClassVar[bool] = False
    """True if the answer depends on ``pairs.query_type`` and ``pairs.key_type``."""
    uses_degree: ClassVar[bool] = False
    """True if the answer depends on ``pairs.query_degree`` or ``pairs.key_degree``."""
    uses_edge: ClassVar[bool] = False
    """True if the answer depends on ``pairs.edge``."""
    causal: ClassVar[bool] = False
    """True if it can hide later keys from a query (``pairs.is_causal``)."""
    takes_mask: ClassVar[bool] = False
    """True if it can honour a dense ``pairs.mask``: it builds a tensor of that size anyway."""
    equals: ClassVar[str | None] = None
    """Name of the mechanism that it equals when both hold the same parameters."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """Mixes neighbours into queries.

        Args:
            query: (b, q, d).
            source: (s, d) with ``neighbours``, or (b, k, d) without. Projections act on it before any
                gather.
            neighbours: (b, k) int64 rows of ``source``, any row where ``pairs.key_mask`` is False; or None.
            pairs: what is known of queries and neighbours.

        Returns:
            (b, q, d); zeros for a query that sees no neighbour.
        """

    def check(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> None:
        """Refuses what this mechanism cannot honour, by name; arguments as in :meth:`forward`.

        Raises:
            ValueError: a shape that does not fit, a feature that is no number, order or a mask to be honoured
                that the class cannot, or something missing that it states to read.
        """
        self._check_shapes(query, source, neighbours, pairs)
        name = type(self).__name__
        if pairs.is_causal and not self.causal:
            raise ValueError(
                f"{name} cannot hide later keys, got is_causal=True: choose a mechanism that states causal, "
                "or hand in each query with the keys before it"
            )
        if pairs.mask is not None and not self.takes_mask:
            raise ValueError(
                f"{name} builds no tensor of queries by keys, got a dense mask of shape "
                f"{tuple(pairs.mask.shape)}: use key_mask or is_causal, or choose one that states takes_mask"
            )
        for fact, fields in READS.items():
            missing = [field for field in fields if getattr(self, fact) and getattr(pairs, field) is None]
            if missing:
                raise ValueError(f"{name} reads {missing[0]} of Pairs, got None: hand it in for each pair")
        if not torch.compiler.is_compiling():  # a look at values cannot be exported
            for what, features in (("query", query), ("source", source)):
                if not bool(features.detach().sum().isfinite()) and not bool(features.isfinite().all()):
                    raise ValueError(
                        f"{name} needs features that are numbers, got NaN or infinity in {what}: look at "
                        "what made them"
                    )

    def _check_shapes(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> None:
        (b, q, d), k = query.shape, pairs.key_mask.shape[-1]
        wanted = {"query": (query, (b, q, self.config.dim)), "key_mask": (pairs.key_mask, (b, k))}
        if neighbours is None:
            wanted["source"] = (source, (b, k, d))
        else:
            wanted |= {"source": (source, (len(source), d)), "neighbours": (neighbours, (b, k))}
        if pairs.mask is not None:
            wanted["mask"] = (pairs.mask, (b, q, k))
        for fact, fields in READS.items():
            for field in fields:
                value = getattr(pairs, field)
                if getattr(self, fact) and value is not None:
                    last = (self.config.edge_width,) if field == "edge" else ()
                    wanted[field] = (value, (b, q if field in _PER_QUERY else k, *last))
        for what, (value, shape) in wanted.items():
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"{type(self).__name__} needs {what} of shape {shape}, got {tuple(value.shape)}: batch, "
                    "queries, neighbours and width must agree"
                )
        for what, mask in (("key_mask", pairs.key_mask), ("mask", pairs.mask)):
            if mask is not None and mask.dtype != torch.bool:
                raise ValueError(f"{what} must be bool, True where a key may be seen, got {mask.dtype}")


class ProjectedAttention(Attention):
    """Query, key and value projections, heads and the matrix that joins them; how they mix is not here."""

    shares: ClassVar[Mapping[str, str]] = {}
    """Roles among query, key and value that use another's projection instead of one of their own."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        own = [role for role in ("query", "key", "value") if role not in self.shares]
        self.projections = nn.ModuleDict(
            {role: nn.Linear(config.dim, config.dim, bias=False) for role in own}
        )
        self.out: nn.Module = nn.Linear(config.dim, config.dim, bias=False)

    @abstractmethod
    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """(b, h, q, c), (b, h, k, c), (b, h, k, c), Pairs -> (b, h, q, c); zeros where none is seen."""

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        return self.out(join_heads(self.mix(*self.projected(query, source, neighbours), pairs)))

    def projected(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, q, c) queries, (b, h, k, c) keys and (b, h, k, c) values."""
        key = gather(self._project("key", source), neighbours)  # (b, k, d)
        is_shared = self._owner("value") == self._owner("key")
        value = key if is_shared else gather(self._project("value", source), neighbours)
        query = self._project("query", query)
        query, key, value = (split_heads(part, self.config.heads) for part in (query, key, value))
        return query, key, value

    def _project(self, role: str, features: Tensor) -> Tensor:
        return self.projections[self._owner(role)](features)

    def _owner(self, role: str) -> str:
        return self.shares.get(role, role)


class ScoredAttention(ProjectedAttention):
    """Softmax over a real score per query and key: heads, mask, softmax, mixing are here, ``scores`` is not.

    Cost: O(b q k d) time and O(b h q k) memory besides what ``scores`` takes.
    """

    causal = True
    takes_mask = True

    @abstractmethod
    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """(b, h, q, c), (b, h, k, c), Pairs -> (b, h, q, k) scores before masks."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return self._weights(query, key, pairs) @ value

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        self.check(query, source, neighbours, pairs)
        query, key, _ = self.projected(query, source, neighbours)
        return self._weights(query, key, pairs)

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return masked_softmax(self.scores(query, key, pairs), seen(pairs, query.shape[2]))


def gather(source: Tensor, neighbours: Tensor | None) -> Tensor:
    """(s, d) and (b, k) rows -> (b, k, d); a source without rows to choose is handed back."""
    if neighbours is None:
        return source
    return source.index_select(0, neighbours.flatten()).view(*neighbours.shape, source.shape[-1])


def split_heads(features: Tensor, heads: int) -> Tensor:
    """(b, n, d) -> (b, h, n, c)."""
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(features: Tensor) -> Tensor:
    """(b, h, n, c) -> (b, n, d)."""
    return features.transpose(1, 2).flatten(2)


def seen(pairs: Pairs, queries: int) -> Tensor:
    """(b, q or 1, k) bool, True where a query may see a key."""
    visible = pairs.key_mask[:, None]  # (b, 1, k)
    if pairs.mask is not None:
        visible = visible & pairs.mask
    if pairs.is_causal:
        visible = visible & (key_place(pairs) <= query_place(pairs, queries)[:, None])
    return visible


def key_place(pairs: Pairs) -> Tensor:
    """(k,) int64 places 0..k−1."""
    return torch.arange(pairs.key_mask.shape[1], device=pairs.key_mask.device)


def query_place(pairs: Pairs, queries: int) -> Tensor:
    """(q,) int64 places k−q..k−1 of the queries among the keys."""
    return pairs.key_mask.shape[1] - queries + torch.arange(queries, device=pairs.key_mask.device)


def first_place(pairs: Pairs) -> Tensor:
    """(b,) int64 place of the first neighbour there is, 0 where there is none.

    Whatever counts places from the beginning counts from here, so that padding before it changes nothing.
    """
    if not pairs.key_mask.shape[1]:
        return pairs.key_mask.new_zeros(len(pairs.key_mask), dtype=torch.int64)
    return pairs.key_mask.long().argmax(1)


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax of (b, h, q, k) scores over the keys that (b, q or 1, k) ``visible`` marks, else zeros."""
    visible = visible[:, None]  # (b, 1, q or 1, k)
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~visible, lowest).softmax(-1) * visible


attentions: Registry[type[Attention]] = Registry("attention")
