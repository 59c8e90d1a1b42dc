"""Hyperbolic geometry as functions: the Poincaré ball and the hyperboloid of curvature −c, c > 0.

A point x of the ball has c ‖x‖² < 1; a point of the hyperboloid has its time first, then d places in space,
and ⟨x, x⟩ = −1/c. Vectors at the origin are plain vectors of d numbers in both. Shapes broadcast, the last
dimension is d (ball) or d + 1 (hyperboloid); c is a number, or a tensor that broadcasts against (..., 1).
float32 or float64.

All lengths come out of one number, s = sinh²(√c distance / 2), which neither overflows nor cancels where an
arcosh of something near 1 would; roots are cut off below, so gradients are finite at equal points and at the
origin. What is computed of s saves s alone for its gradient, as s may be a number per query and key.

Source: Ungar, "A Gyrovector Space Approach to Hyperbolic Geometry", 2008; Ganea, Bécigneul, Hofmann,
"Hyperbolic Neural Networks", NeurIPS 2018, arXiv:1805.09112; Nickel and Kiela, "Learning Continuous
Hierarchies in the Lorentz Model", ICML 2018, arXiv:1806.03417."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FLOOR = 1e-3
"""A learned curvature never falls to this: the ball then has a radius of 32 and is as good as flat."""
_LEAST_SQUARE = 1e-30
"""Squares are cut off here before a root: 1e-15 is no length in float32 or float64, and 1e30 no overflow."""
_MARGIN = {torch.float32: 4e-3, torch.float64: 1e-5}
"""Share of the radius left free at the border of the ball (as geoopt has it)."""
_FARTHEST = 30.0
"""√c times the longest step from a point of the hyperboloid; cosh² of it fits float32."""


def learned_curvature(raw: Tensor) -> Tensor:
    """c = softplus(raw) + FLOOR: positive whatever an optimiser does to ``raw``.

    Example:
        >>> round(learned_curvature(torch.tensor(raw_curvature(2.0))).item(), 6)
        2.0
        >>> learned_curvature(torch.tensor(-1e9)).item() > 0
        True
    """
    return torch.nn.functional.softplus(raw) + FLOOR


def raw_curvature(curvature: float) -> float:
    """The raw number from which :func:`learned_curvature` makes ``curvature``.

    Raises:
        ValueError: a curvature that softplus and floor cannot reach, zero and NaN among them.
    """
    if not FLOOR < curvature < math.inf:
        raise ValueError(
            f"curvature must be a number above {FLOOR}, the c of a space curved by −c, got {curvature}: "
            "choose a larger one, such as 1, or a mechanism of flat space"
        )
    above = curvature - FLOOR
    return above + math.log(-math.expm1(-above))


def norm(x: Tensor) -> Tensor:
    """(..., d) -> (..., 1) length, never below 1e-15; its gradient at the origin is zero."""
    return x.square().sum(-1, keepdim=True).clamp_min(_LEAST_SQUARE).sqrt()


def half_chord(s: Tensor) -> Tensor:
    """√s, cut off at the rounding error of 1 below, so that its gradient is finite and 0 at s = 0."""
    return _cut(s).sqrt()


def half_arc(s: Tensor) -> Tensor:
    """asinh(√s), cut off like :func:`half_chord`: √c / 2 times the distance.

    Example:
        >>> round(half_arc(torch.tensor(math.sinh(1.5) ** 2)).item(), 5)
        1.5
    """
    return _HalfArc.apply(s)


def arc_ratio(s: Tensor) -> Tensor:
    """asinh(√s) / √(s (1 + s)), 1 where s = 0: of it both logarithmic maps are made.

    With s = sinh²(r) this is r / (sinh r cosh r).
    """
    return _ArcRatio.apply(s)


def signed_arc(x: Tensor) -> Tensor:
    """asinh(x), by a logarithm: torch's own takes ten times as long."""
    return _SignedArc.apply(x)


def ball_gap(x: Tensor, c: float | Tensor) -> Tensor:
    """(..., 1) 1 − c ‖x‖², at least the rounding error of 1; the conformal factor λ is 2 over it."""
    squared = _checked(c, x) * x.square().sum(-1, keepdim=True)
    return (1 - squared).clamp_min(torch.finfo(x.dtype).eps)


def ball_project(x: Tensor, c: float | Tensor) -> Tensor:
    """The point itself, or where it lies on or outside the border, the nearest one a margin inside.

    The margin is 0.4% of the radius in float32 and 0.001% in float64, as in geoopt.
    """
    radius = (1 - _MARGIN[x.dtype]) / _checked(c, x).sqrt()
    length = norm(x)
    return torch.where(length > radius, x / length * radius, x)


def mobius_add(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    """x ⊕ y, the point that y becomes when the origin is carried to x; (..., d).

    Source: Ganea et al. 2018, section 2.3. The denominator is written as a sum of what is positive.

    Example:
        >>> mobius_add(torch.tensor([0.5]), torch.tensor([0.5]), 1.0)  # of velocities: 1 / (1 + 1/4)
        tensor([0.8000])
    """
    return ball_project(_mobius_add(x, y, _checked(c, x)), c)


def mobius_matvec(matrix: Tensor, x: Tensor, c: float | Tensor) -> Tensor:
    """M ⊗ x = exp_0(M log_0(x)); (..., e, d), (..., d) -> (..., e).

    Source: Ganea et al. 2018, section 3.2.
    """
    return ball_exp_zero((matrix @ ball_log_zero(x, c)[..., None])[..., 0], c)


def ball_exp(x: Tensor, v: Tensor, c: float | Tensor) -> Tensor:
    """Where a walk from x along the tangent vector v ends after time 1; (..., d), (..., d) -> (..., d).

    Source: Ganea et al. 2018, lemma 2.
    """
    return mobius_add(x, ball_exp_zero(v / ball_gap(x, c), c), c)


def ball_exp_zero(v: Tensor, c: float | Tensor) -> Tensor:
    """Where a walk from the origin along v ends, at distance 2 ‖v‖; (..., d) -> (..., d)."""
    root, length = _checked(c, v).sqrt(), norm(v)
    return ball_project((root * length).tanh() / (root * length) * v, c)


def ball_log(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    """The tangent vector at x that leads to y: λ_x times its length is the distance; (..., d)."""
    s = _ball_s(x, y, c)
    return ball_gap(x, c) * (1 + s) * arc_ratio(s) * _mobius_add(-x, y, _checked(c, x))


def ball_log_zero(y: Tensor, c: float | Tensor) -> Tensor:
    """The vector at the origin that leads to y; (..., d) -> (..., d)."""
    length, root = norm(y), _checked(c, y).sqrt()
    return (root * length / ball_gap(y, c).sqrt()).asinh() / (root * length) * y


def ball_distance(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    """(..., d), (..., d) -> (...) geodesic distance; 0 at equal points, where its gradient is 0.

    2/√c asinh √(c ‖x − y‖² / ((1 − c ‖x‖²)(1 − c ‖y‖²))), which is Nickel and Kiela's arcosh.

    Source: Nickel and Kiela, "Poincaré Embeddings", NeurIPS 2017, arXiv:1705.08039, eq. 1, with a curvature.

    Example:
        >>> round(ball_distance(torch.zeros(1), torch.tensor([math.tanh(1.0)]), 1.0).item(), 5)
        2.0
    """
    return _arc(_ball_s(x, y, c), _checked(c, x))[..., 0]


def ball_midpoint(x: Tensor, weights: Tensor, c: float | Tensor) -> Tensor:
    """(..., n, d), (..., n) weights >= 0 -> (..., d) Einstein midpoint, the weighted gyromidpoint.

    The mean in Klein's model, in which each point weighs its Lorentz factor. On the hyperboloid that is
    :func:`lorentz_centroid`, and is computed there: Klein's points crowd closer to their border than the
    ball's. The origin where all weights are 0.

    Source: Ungar 2008, section 6.22; Gulcehre et al., "Hyperbolic Attention Networks", ICLR 2019,
    arXiv:1805.09786 (aggregation).
    """
    return to_ball(lorentz_centroid(to_hyperboloid(x, c), weights, c), c)


def lorentz_inner(x: Tensor, y: Tensor) -> Tensor:
    """(..., d + 1), (..., d + 1) -> (...) −x₀ y₀ + x₁ y₁ + … + x_d y_d."""
    return (x[..., 1:] * y[..., 1:]).sum(-1) - x[..., 0] * y[..., 0]


def lorentz_lift(space: Tensor, c: float | Tensor) -> Tensor:
    """(..., d) places in space -> (..., d + 1) point above them: time √(1/c + ‖space‖²) first.

    Example:
        >>> lorentz_lift(torch.tensor([3.0]), 1 / 16)
        tensor([5., 3.])
    """
    time = (1 / _checked(c, space) + space.square().sum(-1, keepdim=True)).sqrt()
    return torch.cat([time, space], -1)


def lorentz_exp(x: Tensor, u: Tensor, c: float | Tensor) -> Tensor:
    """Where a walk from x along the tangent vector u (⟨x, u⟩ = 0) ends; (..., d + 1) both and back."""
    root = _checked(c, x).sqrt()
    length = lorentz_inner(u, u)[..., None].clamp_min(_LEAST_SQUARE).sqrt()
    step = (root * length).clamp_max(_FARTHEST)
    return lorentz_lift((step.cosh() * x + step.sinh() / (root * length) * u)[..., 1:], c)


def lorentz_exp_zero(v: Tensor, c: float | Tensor) -> Tensor:
    """Where a walk from the origin along v ends, at distance ‖v‖; (..., d) -> (..., d + 1)."""
    root, length = _checked(c, v).sqrt(), norm(v)
    return lorentz_lift((root * length).clamp_max(_FARTHEST).sinh() / (root * length) * v, c)


def lorentz_log(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    """The tangent vector at x that leads to y, its Lorentz length their distance; (..., d + 1)."""
    s = _lorentz_s(x, y, c)
    return arc_ratio(s) * (y - (1 + 2 * s) * x)


def lorentz_log_zero(y: Tensor, c: float | Tensor) -> Tensor:
    """The vector at the origin that leads to y; (..., d + 1) -> (..., d)."""
    space = y[..., 1:]
    root, length = _checked(c, y).sqrt(), norm(space)
    return (root * length).asinh() / (root * length) * space


def lorentz_distance(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    """(..., d + 1), (..., d + 1) -> (...) geodesic distance arcosh(−c ⟨x, y⟩) / √c, 0 at equal points.

    Source: Nickel and Kiela 2018, section 3.1, here with a curvature.
    """
    return _arc(_lorentz_s(x, y, c), _checked(c, x))[..., 0]


def lorentz_centroid(x: Tensor, weights: Tensor, c: float | Tensor) -> Tensor:
    """(..., n, d + 1), (..., n) weights >= 0 -> (..., d + 1): the weighted sum, scaled back on.

    It has the least weighted sum of squared Lorentz distances ‖x − y‖² = −2/c − 2 ⟨x, y⟩. The origin
    where all weights are 0.

    Source: Law et al., "Lorentzian Distance Learning for Hyperbolic Representations", ICML 2019, theorem 3.3.
    """
    total = (weights[..., None] * x).sum(-2)
    squared = -_checked(c, x) * lorentz_inner(total, total)[..., None]  # at least (Σ weights)²
    least = weights.sum(-1, keepdim=True).square().clamp_min(_LEAST_SQUARE)
    return lorentz_lift(total[..., 1:] / squared.maximum(least).sqrt(), c)


def to_hyperboloid(x: Tensor, c: float | Tensor) -> Tensor:
    """(..., d) point of the ball -> (..., d + 1) the same point of the hyperboloid."""
    return lorentz_lift(2 * x / ball_gap(x, c), c)


def to_ball(x: Tensor, c: float | Tensor) -> Tensor:
    """(..., d + 1) point of the hyperboloid -> (..., d) the same point of the ball."""
    return ball_project(x[..., 1:] / (1 + _checked(c, x).sqrt() * x[..., :1]), c)


def _mobius_add(x: Tensor, y: Tensor, c: Tensor) -> Tensor:
    apart, gap = c * (x + y).square().sum(-1, keepdim=True), ball_gap(x, c)
    # 1 + 2c⟨x, y⟩ + c‖y‖² = gap + apart, and the denominator 1 + 2c⟨x, y⟩ + c²‖x‖²‖y‖² is this sum
    return ((gap + apart) * x + gap * y) / (gap * ball_gap(y, c) + apart)


def _ball_s(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    apart = _checked(c, x) * (x - y).square().sum(-1, keepdim=True)
    return apart / (ball_gap(x, c) * ball_gap(y, c))


def _lorentz_s(x: Tensor, y: Tensor, c: float | Tensor) -> Tensor:
    apart = x[..., 1:] - y[..., 1:]
    middle = x + y  # the difference of times out of that of places: subtracting times would cancel
    later = (apart * middle[..., 1:]).sum(-1, keepdim=True) / middle[..., :1]
    return (_checked(c, x) * (apart.square().sum(-1, keepdim=True) - later.square()) / 4).clamp_min(0)


def _arc(s: Tensor, c: Tensor) -> Tensor:
    is_apart = s > torch.finfo(s.dtype).eps ** 2
    return 2 / c.sqrt() * torch.where(is_apart, half_arc(s), 0)


class _HalfArc(torch.autograd.Function):
    """½ log(1 + 2 (s + √s √(1 + s)))."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        ctx.save_for_backward(s)
        s = _cut(s)
        return (1 + s).sqrt_().mul_(s.sqrt()).add_(s).mul_(2).log1p_().mul_(0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        cut = _cut(s)
        slope = (1 + cut).sqrt_().mul_(cut.sqrt()).reciprocal_().mul_(0.5)
        return slope.mul_(gradient).mul_(cut == s)


class _ArcRatio(torch.autograd.Function):
    """G(s) with G' = (1 − G (1 + 2s)) / (2 s (1 + s)), by its series where that cancels."""

    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        cut = _cut(s)
        ratio = _HalfArc.apply(cut.detach()).div_((1 + cut).sqrt_().mul_(cut.sqrt()))
        ctx.save_for_backward(s, ratio)
        return ratio

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        s, ratio = ctx.saved_tensors
        cut = _cut(s)
        slope = (1 - ratio * (1 + 2 * cut)) / (2 * cut * (1 + cut))
        near = ((512 / 315 * cut - 48 / 35) * cut + 16 / 15) * cut - 2 / 3
        return torch.where(cut < 1e-3, near, slope).mul_(gradient).mul_(cut == s)


class _SignedArc(torch.autograd.Function):
    """±log(1 + |x| + x² / (1 + √(1 + x²))); its slope at 0 is 1, which torch would lose in |x|."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        size = x.abs()
        return (x / (1 + x.square()).sqrt_().add_(1)).mul_(x).add_(size).log1p_().copysign_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (1 + x.square()).rsqrt_().mul_(gradient)


def _cut(s: Tensor) -> Tensor:
    return s.clamp_min(torch.finfo(s.dtype).eps ** 2)


def _checked(c: float | Tensor, like: Tensor) -> Tensor:
    if like.dtype not in _MARGIN:
        raise ValueError(f"hyperbolic geometry needs float32 or float64, got {like.dtype}: cast before")
    c = torch.as_tensor(c, dtype=like.dtype, device=like.device)
    if not torch.compiler.is_compiling() and not bool((c > 0).all()):  # a look at values cannot be exported
        raise ValueError(
            f"curvature c must be above 0, the space is curved by −c, got {c.detach().min().item()}: keep a "
            "learned one positive by learned_curvature"
        )
    return c
