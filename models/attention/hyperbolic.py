"""Scores out of distances in the Poincaré ball: queries and keys enter it, values stay flat.

| name | score | source | cost |
|---|---|---|---|
| hyperbolic_distance | log σ(−β d(q, k) − γ) | Gulcehre et al. 2019 | O(b q k d) |
| hyperbolic_mlr | signed distance of k to a plane through q | Ganea et al. 2018, theorem 5 | O(b q k d) |
| poincare_embedding | q . k / √c − d(e_i, e_j) | Nickel and Kiela 2017 | O(b q k d) |
| dual_space | q . k / √c − ω d(q, k) | here | O(b q k d) |

Every number per query and key comes out of one matrix product: s = sinh²(√κ d / 2) is bilinear in
(x, 1, ‖x‖²). Where scores are many, a few queries are mixed at a time, and again for the gradient, so memory
grows with k alone. The learned curvature is −κ here, as c is a width.

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
t node types · r relations."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention.base import AttentionConfig, Pairs, ScoredAttention, attentions, seen
from models.manifolds import (
    ball_distance,
    half_arc,
    learned_curvature,
    mobius_add,
    norm,
    raw_curvature,
    signed_arc,
)

REACH = 3.0
"""√κ times the length that no vector reaches on entering the ball, so that 1 − κ ‖x‖² stays above 0.0098.

Points then lie within 6 / √κ of the origin. In float32 distances between points far apart come out to 6
digits; equal ones seem up to 0.1 / √κ apart near this border, 0.01 / √κ at features of lengths of 1 to 5."""
WHOLE = 2**24
"""Up to so many scores (b, h, q, k), 64 MiB in float32, all queries are mixed at once."""
TILE = 2**19
"""Above it, so many scores are held at a time: larger tiles leave holes in memory and are no faster."""


@dataclass(frozen=True)
class HyperbolicConfig(AttentionConfig):
    """Settings of the hyperbolic family."""

    curvature: float = 1.0
    """Curvature is −curvature at the start, then learned, for all heads; above 0.001."""

    def __post_init__(self) -> None:
        super().__post_init__()
        raw_curvature(self.curvature)  # refuses what no learned curvature can be


class Points(NamedTuple):
    """Points of the ball, scaled to radius 1, and how far they are from its border."""

    place: Tensor
    """(..., n, c) √κ times the point."""
    gap: Tensor
    """(..., n, 1) 1 − ‖place‖², from a product, so that it is exact where the difference would cancel."""


class Hyperbolic(ScoredAttention):
    """Learned curvature, and float32 inside whatever the features are in: half floats hold no border."""

    config: HyperbolicConfig
    family = "hyperbolic"

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        self.bend = nn.Parameter(torch.tensor(raw_curvature(config.curvature)))

    def curvature(self) -> Tensor:
        """() κ > 0 of a space curved by −κ."""
        return learned_curvature(wide(self.bend))

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        dtype, queries = value.dtype, query.shape[2]
        query, key, value = (wide(part) for part in (query, key, value))
        each = query.shape[0] * query.shape[1] * key.shape[2]  # scores of one place among the queries
        if queries == 1 or queries * each <= WHOLE:
            return self.mix_wide(query, key, value, pairs).to(dtype)
        rows, visible = max(1, TILE // each), seen(pairs, queries)
        tiles = [
            self._mix_tile(part, key, value, some(pairs, visible, slice(i * rows, (i + 1) * rows)))
            for i, part in enumerate(query.split(rows, 2))
        ]
        return torch.cat(tiles, 2).to(dtype)

    def _mix_tile(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        if not torch.is_grad_enabled():
            return self.mix_wide(query, key, value, pairs)
        again = {"use_reentrant": False, "preserve_rng_state": False}  # nothing is drawn
        return checkpoint(self.mix_wide, query, key, value, pairs, **again)

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """As ``mix``, in float32 or float64."""
        return self._weights(query, key, pairs) @ value

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return super()._weights(wide(query), wide(key), pairs)


@attentions.register("hyperbolic_distance", HyperbolicConfig)
class HyperbolicDistance(Hyperbolic):
    """Weights σ(−β d(q, k) − γ) over their sum, with β and γ learned per head.

    The score is the logarithm of that, so the softmax divides by the sum; before a plain softmax γ would
    cancel.

    Source: Gulcehre et al., "Hyperbolic Attention Networks", ICLR 2019, arXiv:1805.09786 (matching, with the
    sigmoid). Ours mixes in flat space, where they take the Einstein midpoint.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> query = torch.ones(1, 1, 1, 4)  # no distance from its key: σ(0) = 1/2
        >>> layer = HyperbolicDistance(HyperbolicConfig(dim=4))
        >>> score = layer.scores(query, query, Pairs(torch.ones(1, 1, dtype=torch.bool)))
        >>> round(score.exp().item(), 3)
        0.5
    """

    nature = "mechanism"

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        self.steepness = nn.Parameter(torch.ones(config.heads, 1, 1))  # β
        self.threshold = nn.Parameter(torch.zeros(config.heads, 1, 1))  # γ

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        apart = pair_distance(entered(query, curvature), entered(key, curvature), curvature)
        return nn.functional.logsigmoid(-wide(self.steepness) * apart - wide(self.threshold))


@attentions.register("hyperbolic_mlr", HyperbolicConfig)
class HyperbolicMLR(Hyperbolic):
    """Signed distance of each key to the hyperplane through the query with normal W q; W is learned per head.

    asinh(2 √κ ⟨w, n⟩ / (1 − κ ‖w‖²)) / √κ with w = (−q) ⊕ k and n = W q / ‖W q‖. On the hyperboloid the
    argument is the Lorentz product of k with a normal of length 1, which is how it is computed.

    Source: Ganea, Bécigneul, Hofmann, "Hyperbolic Neural Networks", NeurIPS 2018, arXiv:1805.09112, section
    3.1 and theorem 5, where it reads classes. Ours is the distance without their factor λ ‖W q‖, which grows
    without end at the border. Values are mixed in flat space.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> layer = HyperbolicMLR(HyperbolicConfig(dim=1))  # on a line the hyperplane is the query itself
        >>> layer.normal.data.fill_(1.0)
        tensor([[[1.]]])
        >>> query, key = torch.tensor([[[[3.0]]]]), torch.zeros(1, 1, 1, 1)  # 3 enters at 3 / (1 + 3/3)
        >>> round(layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        -3.0
    """

    nature = "operator"

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.normal = nn.Parameter(torch.randn(config.heads, width, width) / math.sqrt(width))  # W

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        at, to = entered(query, curvature), entered(key, curvature)
        normal = at.place @ wide(self.normal).mT  # (b, h, q, c)
        normal = normal / norm(normal)
        time = 2 * (at.place * normal).sum(-1, keepdim=True) / at.gap
        lifted = torch.cat([-time, normal + time * at.place], -1)  # (b, h, q, 1 + c)
        return signed_arc(lifted @ lift(to).mT) / curvature.sqrt()


@attentions.register("poincare_embedding", HyperbolicConfig)
class PoincareEmbedding(Hyperbolic):
    """Dot products less the distance on the ball between learned places of the query's and the key's types.

    The score is q . k / √c − d(e_i, e_j). e_i is the place of the query's node type; e_j is the place of the
    key's node type, moved by its relation: e_j = e_type ⊕ e_relation. Each head has places of its own.
    Learned are vectors that enter the ball, so that any optimiser serves, where the paper walks on the ball.

    Source: Nickel and Kiela, "Poincaré Embeddings for Learning Hierarchical Representations", NeurIPS 2017,
    arXiv:1705.08039, eq. 1, of a taxonomy's nodes; Balažević et al., "Multi-relational Poincaré Graph
    Embeddings", NeurIPS 2019, arXiv:1905.09791, moves places by relations so.

    Cost: O(b q k (d + h t)) time, memory as the family, and O(h t² r c) for the places.

    Example:
        >>> layer = PoincareEmbedding(HyperbolicConfig(dim=4))  # one type and one relation
        >>> layer.of_relation.data.fill_(0.0)  # that moves nothing: no distance
        tensor([[[0., 0., 0., 0.]]])
        >>> one, code = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]]), torch.zeros(1, 1, dtype=torch.int64)
        >>> pairs = Pairs(code == 0, relation=code, query_type=code, key_type=code)
        >>> round(layer.scores(one, one, pairs).item(), 3)
        2.0
    """

    nature = "mechanism"
    uses_relation = True
    uses_type = True

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.of_type = nn.Parameter(torch.randn(config.heads, config.types, width) / math.sqrt(width))
        self.of_relation = nn.Parameter(torch.randn(config.heads, config.relations, width) / math.sqrt(width))

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        flat = query @ key.mT / math.sqrt(query.shape[-1])
        # one index for types and relations of keys, and a product to choose the query's type: O(q k) memory
        of_key = self.distances()[:, :, pairs.key_type, pairs.relation].permute(2, 0, 1, 3)  # (b, h, t, k)
        types = torch.eye(self.config.types, dtype=flat.dtype, device=flat.device)
        return flat - (nn.functional.embedding(pairs.query_type, types)[:, None] @ of_key)

    def distances(self) -> Tensor:
        """(h, t, t, r) from the type of a query to that of a key, moved by a relation."""
        curvature = self.curvature()
        places, moves = (
            entered(wide(part), curvature).place / curvature.sqrt()
            for part in (self.of_type, self.of_relation)
        )
        moved = mobius_add(places[:, :, None], moves[:, None], curvature)  # (h, t, r, c)
        return ball_distance(places[:, :, None, None], moved[:, None], curvature)


@attentions.register("dual_space", HyperbolicConfig)
class DualSpace(Hyperbolic):
    """Dot product and hyperbolic distance added: q . k / √c − ω d(q, k), with ω learned per head.

    At ω = 0 it is flat attention, so what ω learns says what the curved space adds.

    Source: ours; the two terms are those of Vaswani et al. 2017, eq. 1, and of Gulcehre et al. 2019.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> one = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])  # no distance from itself
        >>> layer = DualSpace(HyperbolicConfig(dim=4))
        >>> round(layer.scores(one, one, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        2.0
    """

    family = "extra"
    nature = "mechanism"

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        self.of_curved = nn.Parameter(torch.ones(config.heads, 1, 1))  # ω

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        apart = pair_distance(entered(query, curvature), entered(key, curvature), curvature)
        return query @ key.mT / math.sqrt(query.shape[-1]) - wide(self.of_curved) * apart


def some(pairs: Pairs, visible: Tensor, rows: slice) -> Pairs:
    """What is known of some queries, where (b, q or 1, k) ``visible`` says what each may see."""
    visible = visible if visible.shape[1] == 1 else visible[:, rows]
    types = None if pairs.query_type is None else pairs.query_type[:, rows]
    return replace(pairs, is_causal=False, mask=visible, query_type=types)


def wide(part: Tensor) -> Tensor:
    """In float32 at least."""
    return part if part.dtype == torch.float64 else part.float()


def softened(vectors: Tensor, curvature: Tensor) -> Tensor:
    """(..., c) the same directions, lengths ℓ drawn to ℓ / (1 + √κ ℓ / REACH): none comes to the border.

    Near 0 nothing changes; lengths of 1,000 and 1,100 still differ by 0.03% after it, where a tanh in this
    place would make them one.
    """
    return vectors / (1 + curvature.sqrt() * norm(vectors) / REACH)


def entered(vectors: Tensor, curvature: Tensor) -> Points:
    """(..., n, c) features -> the points exp_0 of the softened features, 2 lengths away from the origin."""
    length = norm(vectors)
    scaled = curvature.sqrt() * length
    radius = scaled / (1 + scaled / REACH)
    return Points(vectors / length * radius.tanh(), radius.cosh().square().reciprocal())


def lift(points: Points) -> Tensor:
    """(..., n, 1 + c) on the hyperboloid of curvature −1, time first."""
    squared = points.place.square().sum(-1, keepdim=True)
    return torch.cat([1 + squared, 2 * points.place], -1) / points.gap


def pair_s(query: Points, key: Points) -> Tensor:
    """(..., q, k) sinh²(√κ d / 2) = ‖x − y‖² over both gaps, by one product; below 0 by rounding at worst."""
    squared, to_squared = (points.place.square().sum(-1, keepdim=True) for points in (query, key))
    one = torch.ones_like(squared)
    left = torch.cat([-2 * query.place, squared, one], -1) / query.gap  # (..., q, c + 2)
    right = torch.cat([key.place, torch.ones_like(to_squared), to_squared], -1) / key.gap
    return left @ right.mT


def pair_distance(query: Points, key: Points, curvature: Tensor) -> Tensor:
    """(..., q, k) distance of every query to every key."""
    return half_arc(pair_s(query, key)) * (2 / curvature.sqrt())
