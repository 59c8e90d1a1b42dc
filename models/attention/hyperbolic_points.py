"""Mixing on the manifold: what is heard is a point or a tangent vector of hyperbolic space.

| name | score | source | cost |
|---|---|---|---|
| exp_map | q . k / √c; values walk from the query | Ganea et al. 2018, lemma 2 | O(b q k d) |
| log_map | a . u − ‖u‖, u = log_q(k); mix of u | Ganea et al. 2018; Chami et al. 2019 | O(b q k d) |
| mobius_addition | −‖(−q) ⊕ (k ⊕ t)‖; Einstein midpoint | Ungar 2008 | O(b q k d) |
| mobius_matvec | −d(M_q ⊗ x, M_k ⊗ y); Einstein midpoint | Ganea et al. 2018, section 3.2 | O(b q k d) |
| lorentz_embedding | 2/κ + 2 ⟨q, k⟩_L; Lorentz centroid | Chen et al. 2022 | O(b q k d) |

Möbius addition and the logarithmic map are sums of q and k whose coefficients depend on inner products alone:
they are mixed by matrix products. The learned curvature is −κ here.

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h."""

import math

import torch
from torch import Tensor, nn

from models.attention.base import Pairs, attentions, masked_softmax, seen
from models.attention.hyperbolic import (
    Hyperbolic,
    HyperbolicConfig,
    Points,
    entered,
    lift,
    pair_distance,
    pair_s,
    softened,
    wide,
)
from models.manifolds import arc_ratio, half_arc, half_chord, lorentz_lift, norm


@attentions.register("exp_map", HyperbolicConfig)
class ExpMap(Hyperbolic):
    """Values are tangent vectors that the query walks along: log_0(exp_q(Σ α v)), α from dot products.

    Values are learned at the origin and carried to the query in parallel, which makes exp_q(v) equal
    q ⊕ exp_0(v). A query that sees no neighbour hears zeros, not itself.

    Source: Ganea, Bécigneul, Hofmann, "Hyperbolic Neural Networks", NeurIPS 2018, arXiv:1805.09112, lemma 2
    and theorem 4 (transport); its use in attention is defined here.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> query, value = torch.zeros(1, 1, 1, 1), torch.tensor([[[[3.0]]]])  # 3 enters at 3 / (1 + 3/3)
        >>> layer = ExpMap(HyperbolicConfig(dim=1))
        >>> round(layer.mix(query, value, value, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        1.5
    """

    nature = "operator"

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return query @ key.mT / math.sqrt(query.shape[-1])

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        curvature, weights = self.curvature(), self._weights(query, key, pairs)
        arrived = translated(entered(query, curvature), entered(weights @ value, curvature))
        return left(arrived, curvature) * (weights.sum(-1, keepdim=True) > 0)


@attentions.register("log_map", HyperbolicConfig)
class LogMap(Hyperbolic):
    """Neighbours as the query sees them: u_j = log_q(k_j), score a . u_j − ‖u_j‖, answer Σ α u_j.

    u stands in the orthonormal frame at the query, λ_q log_q(k), so that its length is the distance d(q, k):
    bare coordinates would shrink to nothing as the query nears the border. a is learned per head.

    Source: Ganea et al., NeurIPS 2018, arXiv:1805.09112, lemma 2; Chami et al., "Hyperbolic Graph
    Convolutional Neural Networks", NeurIPS 2019, arXiv:1910.12933, mix in the tangent space of the target.
    The score is defined here.

    Cost: O(b q k d) time, memory as the family: u is a sum of q and k, and never stored.

    Example:
        >>> layer = LogMap(HyperbolicConfig(dim=1))
        >>> layer.direction.data.fill_(3.0)
        tensor([[3.]])
        >>> query, key = torch.zeros(1, 1, 1, 1), torch.tensor([[[[3.0]]]])  # enters at 3 / (1 + 3/3): u is 3
        >>> round(layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        6.0
    """

    nature = "operator"
    shares = {"value": "key"}

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.direction = nn.Parameter(torch.randn(config.heads, width) / math.sqrt(width))  # a

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        return self._seen_from(entered(query, curvature), entered(key, curvature), curvature)[0]

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        at, to = entered(query, curvature), entered(key, curvature)
        scores, of_key, of_query = self._seen_from(at, to, curvature)
        weights = masked_softmax(scores, seen(pairs, query.shape[2]))
        own = (weights * of_query).sum(-1, keepdim=True)
        return (weights * of_key) @ (to.place / to.gap) - own * at.place

    def _seen_from(self, at: Points, to: Points, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, q, k) scores, and the coefficients of k / gap and of −q in u."""
        s = pair_s(at, to)
        of_key = arc_ratio(s) * (2 / curvature.sqrt())
        of_query = of_key * (s + to.gap.reciprocal().mT)
        along = wide(self.direction)[:, :, None]  # (h, c, 1)
        toward = of_key * (to.place / to.gap @ along).mT - of_query * (at.place @ along)
        return toward - half_arc(s) * (2 / curvature.sqrt()), of_key, of_query


@attentions.register("mobius_addition", HyperbolicConfig)
class MobiusAddition(Hyperbolic):
    """Keys moved by a learned gyro-translation t per head, scored by what is left of them beside the query.

    The score −‖(−q) ⊕ (k ⊕ t)‖ lies in (−1/√κ, 0], so small curvature sharpens it; ⊕ does not commute, and t
    moves keys near the border less. Values are mixed by their Einstein midpoint.

    Source: Ungar, "A Gyrovector Space Approach to Hyperbolic Geometry", 2008; midpoint: Gulcehre et al., ICLR
    2019, arXiv:1805.09786 (aggregation). Its use in attention is defined here.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> layer = MobiusAddition(HyperbolicConfig(dim=1))
        >>> layer.shift.data.fill_(0.0)
        tensor([[0.]])
        >>> query, key = torch.zeros(1, 1, 1, 1), torch.tensor([[[[3.0]]]])  # 3 enters at 3 / (1 + 3/3)
        >>> score = layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item()
        >>> round(math.atanh(score), 3)
        -1.5
    """

    nature = "operator"

    def __init__(self, config: HyperbolicConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.shift = nn.Parameter(torch.randn(config.heads, width) / (2 * math.sqrt(width)))  # log_0(t)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        moved = translated(entered(key, curvature), entered(wide(self.shift)[:, None], curvature))
        half = half_chord(pair_s(entered(query, curvature), moved))
        return -half / (1 + half.square()).sqrt() / curvature.sqrt()  # tanh of what has sinh half

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return midpoint(self._weights(query, key, pairs), value, self.curvature())


@attentions.register("mobius_matvec", HyperbolicConfig)
class MobiusMatvec(Hyperbolic):
    """Queries, keys and values are Möbius products M ⊗ x of points of the ball; score −d, Einstein midpoint.

    Features enter the ball first and are projected there: M ⊗ exp_0(v) = exp_0(M v), one M per role and head.
    What M throws far out is softened like what enters.

    Source: Ganea et al., NeurIPS 2018, arXiv:1805.09112, section 3.2; midpoint: Gulcehre et al., ICLR 2019,
    arXiv:1805.09786 (aggregation). Its use in attention is defined here.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> layer = MobiusMatvec(HyperbolicConfig(dim=1))
        >>> query, key = torch.zeros(1, 1, 1, 1), torch.tensor([[[[3.0]]]])  # 3 enters at 3 / (1 + 3/3)
        >>> round(layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        -3.0
    """

    nature = "operator"

    def projected(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        curvature = self.curvature()
        query, source = (softened(wide(part), curvature).to(part.dtype) for part in (query, source))
        return super().projected(query, source, neighbours)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        return -pair_distance(entered(query, curvature), entered(key, curvature), curvature)

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return midpoint(self._weights(query, key, pairs), value, self.curvature())


@attentions.register("lorentz_embedding", HyperbolicConfig)
class LorentzEmbedding(Hyperbolic):
    """Features are lifted to the hyperboloid; score −d_L², mixed by the Lorentz centroid.

    d_L² = −2/κ − 2 ⟨q, k⟩_L is the squared Lorentz distance, the one whose weighted sum the centroid makes
    least. Features of length ℓ lie asinh(√κ ℓ) / √κ from the origin, so nothing overflows and none need be
    softened. The answer is the centroid's place in space.

    Source: Chen et al., "Fully Hyperbolic Neural Networks", ACL 2022, arXiv:2105.14686, section 3.2; Law et
    al., "Lorentzian Distance Learning for Hyperbolic Representations", ICML 2019, theorem 3.3; Nickel and
    Kiela, ICML 2018, arXiv:1806.03417. Chen et al. divide the score by √c; ours leaves it to the projections.

    Cost: O(b q k d) time, memory as the family; O(b h q k) for ``weights``.

    Example:
        >>> layer = LorentzEmbedding(HyperbolicConfig(dim=1, curvature=1 / 16))
        >>> query, key = torch.zeros(1, 1, 1, 1), torch.tensor([[[[3.0]]]])  # at times 4 and 5: 3² − 1² = 8
        >>> round(layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item(), 3)
        -8.0
    """

    nature = "mechanism"

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        curvature = self.curvature()
        of_query, of_key = lorentz_lift(query, curvature), lorentz_lift(key, curvature)
        turned = torch.cat([-of_query[..., :1], of_query[..., 1:]], -1)  # (b, h, q, 1 + c)
        return 2 * (turned @ of_key.mT) + 2 / curvature

    def mix_wide(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        curvature, weights = self.curvature(), self._weights(query, key, pairs)
        total = weights @ lorentz_lift(value, curvature)
        time, space = total[..., :1], total[..., 1:]
        length = curvature * (
            time.square() - space.square().sum(-1, keepdim=True)
        )  # 1 or more, but for rounding
        return space / length.clamp_min(1).sqrt()


def translated(x: Points, y: Points) -> Points:
    """x ⊕ y, row by row; both gaps stay exact."""
    apart = (x.place + y.place).square().sum(-1, keepdim=True)
    total = x.gap * y.gap + apart
    return Points(((x.gap + apart) * x.place + x.gap * y.place) / total, x.gap * y.gap / total)


def left(points: Points, curvature: Tensor) -> Tensor:
    """(..., n, c) vectors at the origin that lead to the points: log_0."""
    length = norm(points.place)
    return points.place / length * (length / points.gap.sqrt()).asinh() / curvature.sqrt()


def midpoint(weights: Tensor, value: Tensor, curvature: Tensor) -> Tensor:
    """(..., q, k) weights of sum 1 or 0, (..., k, c) values -> (..., q, c) log_0 of the Einstein midpoint."""
    total = weights @ lift(entered(value, curvature))  # as the Lorentz centroid, which it is
    time, space = total[..., :1], total[..., 1:]
    length, space_length = time.square() - space.square().sum(-1, keepdim=True), norm(space)
    arc = (space_length / length.clamp_min(1).sqrt()).asinh()
    return space / space_length * arc / (2 * curvature.sqrt())
