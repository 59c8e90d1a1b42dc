"""Softmax attention of low rank: neighbours, and with Nyström queries, stand for a segment of their likes.

| name | weights | source | cost |
|---|---|---|---|
| landmark | σ(Q K̃ᵀ) σ(Q̃ K̃ᵀ)⁺ σ(Q̃ Kᵀ), ~ means | Xiong et al. 2021, eq. 7–13 | O(b (q + k) r d + b h r³) |
| linformer | σ(Q (E K)ᵀ) F | Wang et al. 2020, eq. 7 | O(b (q + k) r d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
r segments · σ softmax · n of the k keys hold a neighbour · m = min(n, r) segments hold one."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention.base import (
    AttentionConfig,
    Pairs,
    ProjectedAttention,
    attentions,
    first_place,
    masked_softmax,
    query_place,
)


@dataclass(frozen=True)
class LandmarkConfig(AttentionConfig):
    """Settings of :class:`Landmark`."""

    landmarks: int = 16
    """Segments r of queries and of keys, >= 1; with as many as there are keys and queries it is exact."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.landmarks < 1:
            raise ValueError(f"landmarks must be 1 or more, got {self.landmarks}: 16 is a start")


@attentions.register("landmark", LandmarkConfig)
class Landmark(ProjectedAttention):
    """Nyström: the softmax of all pairs is made up from that of queries and keys with segment means.

    F A⁺ B with F = softmax(Q K̃ᵀ / √c), A = softmax(Q̃ K̃ᵀ / √c), B = softmax(Q̃ Kᵀ / √c). Segments share
    the neighbours there are, oldest first, and the queries from the first neighbour's place on. Up to r
    queries are their own landmarks, so a single query hears plain softmax attention.

    Source: Xiong et al., "Nyströmformer", AAAI 2021, arXiv:2102.03902, eq. 7–13. Ours takes
    A⁺ = Aᵀ (A Aᵀ + λ I)⁻¹ with λ = 1e-12 r, in float64: within √λ of the pseudo-inverse, and with a
    gradient everywhere (theirs: six steps of an iteration); no convolution beside it.

    Cost: O(b (q + k) r d + b h r³) time, O(b h (q + k) r) memory.

    Example:
        >>> layer = Landmark(LandmarkConfig(dim=1, landmarks=1))
        >>> query, value = torch.zeros(1, 1, 2, 1), torch.tensor([[[[1.0], [3.0]]]])
        >>> layer.mix(query, query, value, Pairs(torch.tensor([[True, True]])))[0, 0, 0].item()
        2.0
    """

    config: LandmarkConfig
    family = "specialised"
    nature = "mechanism"
    order_aware = True

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        dtype, queries = value.dtype, query.shape[2]
        query, key, value = query.double() / math.sqrt(query.shape[-1]), key.double(), value.double()
        stands = query_place(pairs, queries) >= first_place(pairs)[:, None]  # (b, q): the others are padding
        of_queries, of_keys = (  # (b, r, q), (b, r, k), and no more rows than there can be segments
            segment_means(mask, min(self.config.landmarks, mask.shape[1]))
            for mask in (stands, pairs.key_mask)
        )
        queries_m, keys_m = of_queries[:, None] @ query, of_keys[:, None] @ key  # Q̃, K̃: (b, h, r, c)
        held = (of_keys > 0).any(-1)[:, None]  # (b, 1, r) landmarks that stand for somebody
        first = masked_softmax(query @ keys_m.mT, held)  # F: (b, h, q, r)
        inner = masked_softmax(queries_m @ keys_m.mT, held)  # A: (b, h, r, r)
        inner = inner * (of_queries > 0).any(-1)[:, None, :, None]
        heard = masked_softmax(queries_m @ key.mT, pairs.key_mask[:, None]) @ value  # B V: (b, h, r, c)
        return (first @ (inner.mT @ self._solve(inner, heard))).to(dtype)

    def _solve(self, inner: Tensor, heard: Tensor) -> Tensor:
        """(b, h, r, r) A, (b, h, r, c) -> (A Aᵀ + λ I)⁻¹ of it."""
        ridge = (
            1e-12 * self.config.landmarks * torch.eye(inner.shape[2], dtype=inner.dtype, device=inner.device)
        )
        return torch.linalg.solve(inner @ inner.mT + ridge, heard)


@dataclass(frozen=True)
class LinformerConfig(AttentionConfig):
    """Settings of :class:`Linformer`."""

    rank: int = 16
    """Segments r that keys and values are summed into, >= 1; with as many as neighbours it starts exact."""
    longest: int = 256
    """Neighbours that the learned part tells apart, >= 1; from the oldest on it repeats after as many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.rank, self.longest) < 1:
            raise ValueError(
                f"rank and longest must be 1 or more, got {self.rank} and {self.longest}: 16 and 256 will do"
            )


@attentions.register("linformer", LinformerConfig)
class Linformer(ProjectedAttention):
    """Softmax over r learned sums of the neighbours: softmax(Q (E K)ᵀ / √c) (F V).

    E and F start as means of m = min(n, r) segments of the n neighbours there are, oldest first, so that with
    n <= r it starts as plain softmax attention. To each a learned matrix is added that is read by the rank of
    a neighbour among those there are, modulo ``longest``; less its mean over them, so that a row of E or F
    sums to one, as do the weights. Weights may be negative once it has learned.

    Source: Wang et al., "Linformer", 2020, arXiv:2006.04768, eq. 7, E and F shared by the heads. Theirs has
    one fixed length and random E and F.

    Cost: O(b (q + k) r d) time, O(b h q r + b k r) memory; 2 r ``longest`` parameters more.

    Example:
        >>> layer = Linformer(LinformerConfig(dim=1, rank=1))
        >>> query, value = torch.zeros(1, 1, 1, 1), torch.tensor([[[[1.0], [3.0]]]])
        >>> layer.mix(query, value, value, Pairs(torch.tensor([[True, True]]))).item()  # their mean
        2.0
    """

    config: LinformerConfig
    family = "specialised"
    nature = "mechanism"
    order_aware = True

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__(config)
        self.of_key = nn.Parameter(torch.zeros(config.longest, config.rank))  # (E − means)ᵀ: (longest, r)
        self.of_value = nn.Parameter(torch.zeros(config.longest, config.rank))  # (F − means)ᵀ: (longest, r)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        weights = self._weights(query, key, pairs)
        return weights @ (self.sums(self.of_value, pairs.key_mask)[:, None] @ value)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen; O(b h q k) memory."""
        self.check(query, source, neighbours, pairs)
        query, key, _ = self.projected(query, source, neighbours)
        return self._weights(query, key, pairs) @ self.sums(self.of_value, pairs.key_mask)[:, None]

    def sums(self, learned: Tensor, key_mask: Tensor) -> Tensor:
        """(longest, r), (b, k) -> (b, r, k) what each segment takes of each neighbour: E or F."""
        means = segment_means(key_mask, self.config.rank).to(learned.dtype)
        place = rank_among(key_mask).clamp(min=0) % self.config.longest  # (b, k)
        added = functional.embedding(place, learned).mT * key_mask[:, None]  # (b, r, k)
        held = key_mask.sum(1).clamp(min=1).to(learned.dtype)[:, None, None]
        added = (added - added.sum(-1, keepdim=True) / held) * key_mask[:, None]
        return means + added * (means > 0).any(-1, keepdim=True)

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """(b, h, q, r) weight of each segment."""
        summed = self.sums(self.of_key, pairs.key_mask)[:, None] @ key  # E K: (b, h, r, c)
        held = torch.arange(self.config.rank, device=key.device) < pairs.key_mask.sum(1, keepdim=True)
        return masked_softmax(query @ summed.mT / math.sqrt(query.shape[-1]), held[:, None])


def rank_among(mask: Tensor) -> Tensor:
    """(b, n) bool -> (b, n) int64 how many True stand before each True."""
    return mask.long().cumsum(1) - 1


def segment_means(mask: Tensor, segments: int) -> Tensor:
    """Means over segments of those that a mask holds, alike in size to within one, in their order.

    Args:
        mask: (b, n) bool.
        segments: r. Where a mask holds fewer, each is a segment of its own and the last rows are zeros.

    Returns:
        (b, r, n) float64; each row sums to one or is zeros.
    """
    count = mask.sum(1, keepdim=True)
    segment = rank_among(mask) * count.clamp(max=segments) // count.clamp(min=1)  # (b, n)
    is_in = segment[:, None] == torch.arange(segments, device=mask.device)[:, None]
    is_in = is_in & mask[:, None]
    return is_in / is_in.sum(-1, keepdim=True).clamp(min=1).double()
