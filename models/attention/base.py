"""What every attention mechanism is: mixes the features of neighbours into each query.

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width ·
h heads · c = d // h."""

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
    relations: int = 0
    """Number of relation codes, for a mechanism that states ``uses_relation``."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.heads < 1 or self.dim % self.heads:
            raise ValueError(
                f"heads must divide dim, got dim={self.dim} and heads={self.heads}: change one of them"
            )


@dataclass(frozen=True)
class Pairs:
    """What is known of each query and its neighbours; None where no mechanism in use states that it reads it.

    Keys stand oldest first; query i has position k − q + i among them.
    """

    key_mask: Tensor
    """(b, k) bool, True where there is a neighbour."""
    is_causal: bool = False
    """True if a query may not see keys after its own position."""
    mask: Tensor | None = None
    """(b, q, k) bool, True where a query may see a key: read by mechanisms that build that tensor anyway."""
    positions: Tensor | None = None
    """(b, k) int64 place of each key, where it is not 0..k−1."""
    age_s: Tensor | None = None
    """(b, k) seconds since the neighbour's fact happened."""
    relation: Tensor | None = None
    """(b, k) int64 relation code of each neighbour."""
    query_type: Tensor | None = None
    """(b, q) int64 node type."""
    key_type: Tensor | None = None
    """(b, k) int64 node type."""
    query_degree: Tensor | None = None
    """(b, q) number of neighbours in the whole graph."""
    key_degree: Tensor | None = None
    """(b, k) number of neighbours in the whole graph."""
    edge: Tensor | None = None
    """(b, k, e) features of the edge to each neighbour."""


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
    causal: ClassVar[bool] = False
    """True if it can hide later keys from a query (``pairs.is_causal``)."""
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

    def check(self, pairs: Pairs) -> None:
        """Refuses what this mechanism cannot honour, by name.

        Raises:
            ValueError: order is to be hidden and the class cannot, or something it states to read is missing.
        """
        name = type(self).__name__
        if pairs.is_causal and not self.causal:
            raise ValueError(
                f"{name} cannot hide later keys, got is_causal=True: choose a mechanism that states causal"
            )
        if self.uses_relation and pairs.relation is None:
            raise ValueError(
                f"{name} reads relations, got relation=None: hand it (b, k) relation codes in Pairs"
            )
        if self.uses_age and pairs.age_s is None:
            raise ValueError(f"{name} reads ages, got age_s=None: hand it (b, k) seconds in Pairs")


class ScoredAttention(Attention):
    """Softmax over a real score per query and key: heads, mask, softmax, mixing are here, ``scores`` is not.

    Cost: O(b q k d) time and O(b h q k) memory besides what ``scores`` takes.
    """

    causal = True
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
    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """(b, h, q, c), (b, h, k, c), Pairs -> (b, h, q, k) scores before masks."""

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        weights, value = self._weights_and_value(query, source, neighbours, pairs)
        mixed = torch.einsum("bhqk,bhkc->bqhc", weights, value)  # (b, q, h, c)
        return self.out(mixed.flatten(2))

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        return self._weights_and_value(query, source, neighbours, pairs)[0]

    def _weights_and_value(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        self.check(pairs)
        key = gather(self._project("key", source), neighbours)  # (b, k, d)
        is_shared = self._owner("value") == self._owner("key")
        value = key if is_shared else gather(self._project("value", source), neighbours)
        key, value = (split_heads(part, self.config.heads) for part in (key, value))
        scores = self.scores(split_heads(self._project("query", query), self.config.heads), key, pairs)
        return masked_softmax(scores, seen(pairs, query.shape[1])), value

    def _project(self, role: str, features: Tensor) -> Tensor:
        return self.projections[self._owner(role)](features)

    def _owner(self, role: str) -> str:
        return self.shares.get(role, role)


def gather(source: Tensor, neighbours: Tensor | None) -> Tensor:
    """(s, d) and (b, k) rows -> (b, k, d); a source without rows to choose is handed back."""
    if neighbours is None:
        return source
    return source.index_select(0, neighbours.flatten()).view(*neighbours.shape, source.shape[-1])


def split_heads(features: Tensor, heads: int) -> Tensor:
    """(b, n, d) -> (b, h, n, c)."""
    return features.unflatten(-1, (heads, -1)).transpose(1, 2)


def seen(pairs: Pairs, queries: int) -> Tensor:
    """(b, q or 1, k) bool, True where a query may see a key."""
    visible = pairs.key_mask[:, None]  # (b, 1, k)
    if pairs.mask is not None:
        visible = visible & pairs.mask
    if pairs.is_causal:
        k = pairs.key_mask.shape[1]
        own = k - queries + torch.arange(queries, device=visible.device)  # (q,)
        visible = visible & (torch.arange(k, device=visible.device) <= own[:, None])
    return visible


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax of (b, h, q, k) scores over the keys that (b, q or 1, k) ``visible`` marks, else zeros."""
    visible = visible[:, None]  # (b, 1, q or 1, k)
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~visible, lowest).softmax(-1) * visible


attentions: Registry[type[Attention]] = Registry("attention")
