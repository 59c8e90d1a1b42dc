"""Dot products that know where a key stands: its place, or the age of its fact.

| name | score | source | cost |
|---|---|---|---|
| relative | q . (k_j + r_clip(i − j)) / √c | Shaw et al. 2018, eq. 4 and 5 | O(b q k d + b q w d) |
| alibi | q . k / √c − m_h abs(i − j), m_h = 2^(−8h/H) | Press et al. 2022, section 3 | O(b q k d) |
| rope | R(i) q . R(j) k / √c | Su et al. 2021, eq. 14–16 | O(b q k d) |
| graph_rope | q . R(bucket of age, or hop) k / √c | Su et al. 2021; places are ours | O(b q k d) |
| age_decay | q . k / √c − softplus(λ_h) age | ours, after Press et al. 2022 | O(b q k d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
w distances with a vector of their own · p positions."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention.base import (
    AttentionConfig,
    Pairs,
    ScoredAttention,
    attentions,
    key_place,
    masked_softmax,
    query_place,
    seen,
)
from models.attention.dense import MultiHead

DAY_S = 86_400.0


@dataclass(frozen=True)
class RelativeConfig(AttentionConfig):
    """Settings of :class:`Relative`."""

    clip: int = 16
    """Largest distance with a vector of its own, >= 0; whatever is farther shares the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip < 0:
            raise ValueError(f"clip must be 0 or more, got {self.clip}: 0 tells no distances apart")


@attentions.register("relative", RelativeConfig)
class Relative(ScoredAttention):
    """A learned vector for each distance between query and key, added to the key before the dot product.

    Source: Shaw, Uszkoreit, Vaswani, "Self-Attention with Relative Position Representations", NAACL 2018,
    arXiv:1803.02155, eq. 4 and 5; all heads share the vectors, as there. Ours leaves the values alone
    (eq. 3): the paper's table 3 shows nothing lost by it.

    Cost: O(b q k d + b q w d) time for w = 2 clip + 1 distances, O(b h q (k + w)) memory.

    Example:
        >>> layer = Relative(RelativeConfig(dim=1, clip=1))
        >>> layer.distance.data = torch.tensor([[10.0], [20.0], [30.0]])  # later, own, earlier
        >>> query, key = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 3, 1)
        >>> layer.scores(query, key, Pairs(torch.ones(1, 3, dtype=torch.bool))).flatten().tolist()
        [30.0, 30.0, 20.0]
    """

    config: RelativeConfig
    family = "core"
    nature = "mechanism"
    order_aware = True

    def __init__(self, config: RelativeConfig) -> None:
        super().__init__(config)
        self.distance = nn.Parameter(
            torch.empty(2 * config.clip + 1, config.dim // config.heads)
        )  # r: (w, c)
        nn.init.xavier_uniform_(self.distance)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        query = query / math.sqrt(query.shape[-1])
        by_distance = query @ self.distance.T  # (b, h, q, w)
        row = distance(pairs, query.shape[2]).add_(self.config.clip).clamp_(0, 2 * self.config.clip)  # (q, k)
        row = row.expand(*by_distance.shape[:2], *row.shape)
        return query @ key.transpose(2, 3) + by_distance.gather(-1, row)


@attentions.register("alibi", AttentionConfig)
class Alibi(ScoredAttention):
    """The farther, the less: a penalty that grows with distance by a slope that each head has its own.

    Source: Press, Smith, Lewis, "Train Short, Test Long: Attention with Linear Biases Enables Input Length
    Extrapolation", ICLR 2022, arXiv:2108.12409, section 3; m_h = 2^(−8h/H) with h from 1, also where H is no
    power of two. Without ``is_causal`` later keys count by their distance too.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> layer, zero = Alibi(AttentionConfig(dim=8, heads=8)), torch.zeros(1, 8, 3, 1)
        >>> layer.scores(zero[:, :, :1], zero, Pairs(torch.ones(1, 3, dtype=torch.bool)))[0, 0].tolist()
        [[-1.0, -0.5, 0.0]]
    """

    family = "core"
    nature = "mechanism"
    order_aware = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        head = torch.arange(1, config.heads + 1)
        self.register_buffer("slope", 2.0 ** (-8 * head / config.heads), persistent=False)  # (h,)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        away = distance(pairs, query.shape[2], torch.float32).abs_().to(query.dtype)  # (q, k)
        penalty = self.slope[:, None, None] * away  # (h, q, k)
        return query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]) - penalty


@dataclass(frozen=True)
class RopeConfig(AttentionConfig):
    """Settings of :class:`Rope`."""

    base: float = 10_000.0
    """The slowest pair turns about once in 2π ``base`` places, > 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dim // self.heads) % 2:
            raise ValueError(
                f"a head must have an even width to be turned in pairs, got dim={self.dim} and "
                f"heads={self.heads}, so {self.dim // self.heads}: change one of them"
            )
        if self.base <= 1:
            raise ValueError(f"base must be above 1, got {self.base}")


class Turned(MultiHead):
    """``multi_head`` on queries and keys that are turned by their positions; which positions is not here."""

    config: RopeConfig

    @abstractmethod
    def turned(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(b, h, q, c), (b, h, k, c), Pairs -> the same, each row turned by its position."""

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return super().scores(*self.turned(query, key, pairs), pairs)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return super().mix(*self.turned(query, key, pairs), value, pairs)


@attentions.register("rope", RopeConfig)
class Rope(Turned):
    """Each pair of features of queries and keys is turned by an angle that grows with the place: the score
    depends on i − j alone.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864,
    eq. 14–16; pairs are neighbouring features, θ_m = base^(−2m/c).

    Cost: O(b q k d) time, memory as ``multi_head``.

    Example:
        >>> layer, one = Rope(RopeConfig(dim=2)), torch.tensor([[[[1.0, 0.0]] * 3]])
        >>> scores = layer.scores(one, one, Pairs(torch.ones(1, 3, dtype=torch.bool)))[0, 0] * 2**0.5
        >>> [round(value, 4) for value in scores[0].tolist()]  # cos 0, cos 1, cos 2
        [1.0, 0.5403, -0.4161]
    """

    family = "core"
    order_aware = True

    def turned(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        of_query, of_key = query_place(pairs, query.shape[2]), key_place(pairs)
        return turn(query, of_query, self.config.base), turn(key, of_key, self.config.base)


@dataclass(frozen=True)
class GraphRopeConfig(RopeConfig):
    """Settings of :class:`GraphRope`."""

    base: float = 100.0
    """As for rope; positions are few, so the slowest pair turns faster than there."""
    first_s: float = DAY_S
    """Ages below it share bucket 0; each further bucket is twice as long as the one before, > 0."""
    buckets: int = 16
    """Positions, >= 1; the oldest facts share the last. 16 from one day on reach 90 years."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_s <= 0 or self.buckets < 1:
            raise ValueError(
                f"first_s must be above 0 and buckets 1 or more, got {self.first_s} and {self.buckets}"
            )


@attentions.register("graph_rope", GraphRopeConfig)
class GraphRope(Turned):
    """Rope for a neighbourhood: a key is turned by the bucket of its fact's age, on a logarithmic scale, or
    by its steps from the query where ``pairs.hop`` is handed in. The query stands at 0.

    A fact that always holds has age 0 and stands where the query does. Ages count from one query, so that a
    causal pass over many is refused.

    Source: Su et al. 2021, arXiv:2104.09864, eq. 14–16, with positions of our own.

    Cost: O(b q k d) time, memory as ``multi_head``.

    Example:
        >>> layer = GraphRope(GraphRopeConfig(dim=2))
        >>> pairs = Pairs(torch.ones(1, 4), age_s=DAY_S * torch.tensor([[3.0, 1.0, 0.9, 0.0]]))
        >>> layer.position(pairs).tolist()
        [[2, 1, 0, 0]]
    """

    config: GraphRopeConfig
    family = "graph"
    uses_age = True
    causal = False

    def check(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> None:
        super().check(query, source, neighbours, pairs)
        if pairs.hop is not None and pairs.hop.shape != pairs.key_mask.shape:
            raise ValueError(
                f"GraphRope needs hop of shape {tuple(pairs.key_mask.shape)}, got {tuple(pairs.hop.shape)}: "
                "one count of steps for each neighbour"
            )

    def turned(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return query, turn(key, self.position(pairs)[:, None], self.config.base)

    def position(self, pairs: Pairs) -> Tensor:
        """(b, k) int64 bucket of the age, or the hop where there is one."""
        if pairs.hop is not None:
            return pairs.hop
        doublings = (pairs.age_s.clamp(min=0).double() / self.config.first_s).log1p() / math.log(2)
        return (
            (doublings + 1e-9).long().clamp(max=self.config.buckets - 1)
        )  # 3 days are 2 doublings, not 1.99…


@dataclass(frozen=True)
class AgeDecayConfig(AttentionConfig):
    """Settings of :class:`AgeDecay`."""

    half_life_s: float = 30 * DAY_S
    """Age at which the first head's weights are halved at the start, > 0; for each further head it is twice
    as long."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.half_life_s <= 0:
            raise ValueError(f"half_life_s must be above 0, got {self.half_life_s}")


@attentions.register("age_decay", AgeDecayConfig)
class AgeDecay(ScoredAttention):
    """The weight of each neighbour times exp(−softplus(λ_h) age), normalised: each head learns a half life.

    As weights are normalised, only differences of age count: ages may be measured from any moment that the
    neighbours of a target share, and so it can read a history causally.

    Source: ours; Press et al. 2022, arXiv:2108.12409, with the age for the distance and a learned slope.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> layer, zero = AgeDecay(AgeDecayConfig(dim=1)), torch.zeros(1, 1, 2, 1)
        >>> pairs = Pairs(torch.tensor([[True, True]]), age_s=torch.tensor([[30 * DAY_S, 0.0]]))
        >>> layer.scores(zero[:, :, :1], zero, pairs).exp().flatten().tolist()
        [0.5, 1.0]
    """

    config: AgeDecayConfig
    family = "extra"
    nature = "mechanism"
    uses_age = True

    def __init__(self, config: AgeDecayConfig) -> None:
        super().__init__(config)
        rate = math.log(2) / 2.0 ** torch.arange(config.heads)
        self.decay = nn.Parameter(
            rate.expm1().log()
        )  # λ: (h,), softplus of it is the rate in 1 / half_life_s

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """In float32 or more: old ages are large, their differences matter."""
        rate = nn.functional.softplus(self.decay)  # (h,)
        age = (pairs.age_s.double() / self.config.half_life_s).to(
            torch.promote_types(rate.dtype, torch.float)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        return scores - (rate[:, None] * age[:, None])[:, :, None]  # (b, h, 1, k)

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        weights = masked_softmax(self.scores(query, key, pairs), seen(pairs, query.shape[2]))
        return weights.to(query.dtype)


def distance(pairs: Pairs, queries: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """(q, k) i − j: how many places a key stands before its query, below 0 where after it."""
    return query_place(pairs, queries).to(dtype)[:, None] - key_place(pairs).to(dtype)


def turn(features: Tensor, position: Tensor, base: float) -> Tensor:
    """Turns neighbouring features, as points of the plane, by position · base^(−2m/c) for pair m.

    Args:
        features: (b, h, n, c), c even.
        position: (n,) or (b, 1, n).
        base: > 1.

    Returns:
        (b, h, n, c).
    """
    pair = torch.arange(features.shape[-1] // 2, device=features.device, dtype=torch.float64)
    angle = position[..., None].double() * base ** (-2 * pair / features.shape[-1])  # (..., n, c / 2)
    cosine, sine = angle.cos().to(features.dtype), angle.sin().to(features.dtype)
    first, second = features.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], -1)
    return turned.flatten(-2)
