"""The geometry against geoopt, by its identities, and at its edges."""

import math

import geoopt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import manifolds as m

CURVATURES = (0.05, 0.7, 1.0, 3.0)
POINTS = 50
D = 5


def vectors(seed: int, c: float = 1.0, count: int = POINTS, dtype=torch.float64) -> torch.Tensor:
    """(count, d) vectors at the origin, of lengths up to 2 / √c."""
    draw = torch.Generator().manual_seed(seed)
    v = torch.randn(count, D, generator=draw, dtype=dtype)
    length = 2 * torch.rand(count, 1, generator=draw, dtype=dtype)
    return v / v.norm(dim=-1, keepdim=True) * length / math.sqrt(c)


def ball(c: float) -> geoopt.PoincareBall:
    return geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.float64))


def near(got, wanted, atol=1e-9):
    torch.testing.assert_close(got, wanted, atol=atol, rtol=1e-9)


@pytest.mark.parametrize("c", CURVATURES)
def test_the_ball_equals_geoopt(c):
    reference, v, u = ball(c), vectors(0, c), vectors(1, c) / 4
    x, y = m.ball_exp_zero(v, c), m.ball_exp_zero(vectors(2, c), c)
    near(x, reference.expmap0(v))
    near(m.ball_log_zero(x, c), reference.logmap0(x))
    near(m.mobius_add(x, y, c), reference.mobius_add(x, y))
    near(m.ball_exp(x, u, c), reference.expmap(x, u))
    near(m.ball_log(x, y, c), reference.logmap(x, y))
    near(m.ball_distance(x, y, c), reference.dist(x, y))
    near(2 / m.ball_gap(x, c), reference.lambda_x(x, keepdim=True))
    near(m.ball_project(5 * x, c), reference.projx(5 * x))
    matrix = torch.randn(3, D, generator=torch.Generator().manual_seed(4), dtype=torch.float64) / 3
    near(m.mobius_matvec(matrix, x, c), reference.mobius_matvec(matrix, x))
    weights = torch.rand(POINTS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    near(m.ball_midpoint(x, weights, c), reference.weighted_midpoint(x, weights))


@pytest.mark.parametrize("c", CURVATURES)
def test_the_hyperboloid_equals_geoopt(c):
    reference = geoopt.Lorentz(k=torch.tensor(1 / c, dtype=torch.float64))  # geoopt's k is the squared radius
    v = vectors(0, c)
    flat = torch.cat([torch.zeros(POINTS, 1).double(), v], -1)
    x, y = m.lorentz_exp_zero(v, c), m.lorentz_exp_zero(vectors(1, c), c)
    near(x, reference.expmap0(flat))
    near(m.lorentz_lift(v, c), reference.projx(flat))
    near(m.lorentz_log_zero(x, c), reference.logmap0(x)[..., 1:])
    near(m.lorentz_inner(x, y), geoopt.manifolds.lorentz.math.inner(x, y))
    near(m.lorentz_distance(x, y, c), reference.dist(x, y))
    u = reference.proju(x, flat.flip(0) / 4)
    near(m.lorentz_exp(x, u, c), reference.expmap(x, u))
    near(m.lorentz_log(x, y, c), reference.logmap(x, y))


@pytest.mark.parametrize("c", CURVATURES)
def test_the_centroid_is_the_best_point(c):
    """Least weighted sum of squared Lorentz distances −2/c − 2⟨x, y⟩ among points nearby."""
    x = m.lorentz_exp_zero(vectors(0, c, 6), c)
    weights = torch.tensor([1.0, 2, 0, 3, 1, 0.5]).double()
    best = m.lorentz_centroid(x, weights, c)
    near(m.lorentz_inner(best, best), torch.tensor(-1 / c, dtype=torch.float64))

    def cost(y):
        return (weights * (-2 / c - 2 * m.lorentz_inner(x, y))).sum()

    for seed in range(5):
        moved = m.lorentz_lift(
            best[1:] + 0.01 * torch.randn(D, generator=torch.Generator().manual_seed(seed)), c
        )
        assert cost(best) < cost(moved)


def without_curvature(x, y, c):
    """A planted error: the distance of curvature −1, whatever the curvature is."""
    return m.ball_distance(x, y, 1.0)


def test_a_distance_without_the_curvature_is_caught():
    x, y = m.ball_exp_zero(vectors(0, 3.0), 3.0), m.ball_exp_zero(vectors(1, 3.0), 3.0)
    wanted = ball(3.0).dist(x, y)
    near(m.ball_distance(x, y, 3.0), wanted)
    with pytest.raises(AssertionError):
        near(without_curvature(x, y, 3.0), wanted)


numbers = st.floats(-1, 1, allow_subnormal=False)
places = st.lists(numbers, min_size=3, max_size=3).map(lambda v: torch.tensor(v, dtype=torch.float64))
curvatures = st.floats(0.01, 4)


@settings(max_examples=60, deadline=None)
@given(places, places, places, curvatures)
def test_identities(u, v, w, c):
    x, y, z = (m.ball_exp_zero(part / math.sqrt(c), c) for part in (u, v, w))
    near(m.ball_exp(x, m.ball_log(x, y, c), c), y)
    near(m.ball_log_zero(m.ball_exp_zero(u, 0.3), 0.3), u)
    near(m.mobius_add(-x, m.mobius_add(x, y, c), c), y)
    near(m.mobius_add(x, torch.zeros(3).double(), c), x)
    distance = m.ball_distance
    near(distance(x, y, c), distance(y, x, c))
    assert distance(x, z, c) <= distance(x, y, c) + distance(y, z, c) + 1e-9
    # a gyro-translation moves all points alike
    near(distance(m.mobius_add(z, x, c), m.mobius_add(z, y, c), c), distance(x, y, c), 1e-7)
    # the length of the logarithm, in the metric there, is the distance
    near(2 / m.ball_gap(x, c)[0] * m.ball_log(x, y, c).norm(), distance(x, y, c)[()])


@settings(max_examples=60, deadline=None)
@given(places, places, curvatures)
def test_the_two_models_agree(u, v, c):
    x, y = (m.ball_exp_zero(part / math.sqrt(c), c) for part in (u, v))
    up, over = m.to_hyperboloid(x, c), m.to_hyperboloid(y, c)
    near(m.to_ball(up, c), x)
    near(m.lorentz_exp_zero(2 * u / math.sqrt(c), c), up)  # vectors of the ball count twice
    near(m.lorentz_distance(up, over, c), m.ball_distance(x, y, c))
    near(m.lorentz_exp(up, m.lorentz_log(up, over, c), c), over, 1e-7)


@settings(max_examples=30, deadline=None)
@given(places, curvatures)
def test_equal_points_are_no_distance_apart_and_have_a_gradient(v, c):
    for into, distance in ((m.ball_exp_zero, m.ball_distance), (m.lorentz_exp_zero, m.lorentz_distance)):
        x = into(v, c).requires_grad_()
        apart = distance(x, x.detach().clone(), c)
        assert apart.item() == 0
        (gradient,) = torch.autograd.grad(apart, x)
        assert gradient.isfinite().all()


def edges(c: float) -> dict[str, torch.Tensor]:
    radius = 1 / math.sqrt(c)
    along = torch.eye(D)[:1].expand(2, D)
    return {
        "origin": torch.zeros(2, D),
        "tiny": 1e-30 * along,
        "close": (1 - 1e-6) * radius * along,
        "border": radius * along,
        "outside": 1e3 * along,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("where", edges(1.0))
@pytest.mark.parametrize("c", [1e-3, 1.0, 50.0])
def test_edges_are_finite(where, c, dtype):
    x = edges(c)[where].to(dtype).requires_grad_()
    y = torch.stack([x[0].detach(), -x[1].detach()])  # the same point, and the one across
    curvature = torch.tensor(c, dtype=dtype, requires_grad=True)
    inside, across = m.ball_project(x, curvature), m.ball_project(y, curvature)
    assert (c * inside.square().sum(-1) < 1).all()
    weights = torch.tensor([0.3, 0.7], dtype=dtype)
    for answer in (
        m.mobius_add(inside, across, curvature),
        m.mobius_matvec(3 * torch.eye(D, dtype=dtype), inside, curvature),
        m.ball_exp(inside, x, curvature),
        m.ball_exp_zero(x, curvature),
        m.ball_log(inside, across, curvature),
        m.ball_log_zero(inside, curvature),
        m.ball_distance(inside, across, curvature),
        m.ball_distance(x, y, curvature),
        m.ball_midpoint(inside, weights, curvature),
        m.ball_midpoint(inside, 0 * weights, curvature),
        m.lorentz_exp_zero(x, curvature),
        m.lorentz_log(m.lorentz_lift(x, curvature), m.lorentz_lift(y, curvature), curvature),
        m.lorentz_log_zero(m.lorentz_lift(x, curvature), curvature),
        m.lorentz_distance(m.lorentz_lift(x, curvature), m.lorentz_lift(y, curvature), curvature),
        m.lorentz_centroid(m.lorentz_lift(x, curvature), 0 * weights, curvature),
        m.to_ball(m.to_hyperboloid(inside, curvature), curvature),
    ):
        gradients = torch.autograd.grad(answer.sum(), (x, curvature), retain_graph=True, allow_unused=True)
        assert answer.isfinite().all()
        assert all(part is None or part.isfinite().all() for part in gradients)


@pytest.mark.parametrize("c", CURVATURES)
def test_float32_stays_near_float64_up_to_the_border(c):
    """Points up to 6 / √c from the origin, 0.5% of the radius from the border."""
    v = vectors(0, c) * 1.5
    narrow = m.ball_exp_zero(v.float(), c)
    torch.testing.assert_close(narrow.double(), m.ball_exp_zero(v, c), atol=1e-6 / math.sqrt(c), rtol=1e-5)
    same = narrow.double()  # the same points, so that only what is computed from them differs
    got, wanted = m.ball_distance(narrow[:-1], narrow[1:], c), m.ball_distance(same[:-1], same[1:], c)
    torch.testing.assert_close(got.double(), wanted, atol=1e-4 / math.sqrt(c), rtol=1e-4)


@pytest.mark.parametrize("function", [m.mobius_add, m.ball_exp, m.ball_log, m.ball_distance])
def test_gradients_are_right(function):
    x, y = m.ball_exp_zero(vectors(0, count=3) / 2, 0.7), m.ball_exp_zero(vectors(1, count=3) / 2, 0.7)
    given = (x.requires_grad_(), y.requires_grad_(), torch.tensor(0.7).double().requires_grad_())
    assert torch.autograd.gradcheck(function, given)


@pytest.mark.parametrize("function", [m.half_chord, m.half_arc, m.arc_ratio, m.signed_arc])
def test_arcs_equal_their_formulas_with_their_gradients(function):
    s = torch.logspace(-9, 9, 60, dtype=torch.float64)
    wanted = {
        m.half_chord: s.sqrt(),
        m.half_arc: s.sqrt().asinh(),
        m.arc_ratio: s.sqrt().asinh() / (s * (1 + s)).sqrt(),
        m.signed_arc: s.asinh(),
    }[function]
    torch.testing.assert_close(function(s), wanted, atol=0, rtol=1e-12)
    torch.testing.assert_close(function(s.float()).double(), wanted, atol=0, rtol=1e-6)
    near_one = torch.tensor([1e-6, 9e-4, 1.1e-3, 0.5, 20.0], dtype=torch.float64)
    for points in (near_one, -near_one if function is m.signed_arc else near_one):
        assert torch.autograd.gradcheck(function, points.requires_grad_(), eps=1e-9, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcs_at_zero_and_below(dtype):
    s = torch.tensor([0.0, -1e-8], dtype=dtype, requires_grad=True)  # below by rounding alone
    for function, wanted in ((m.half_chord, 0.0), (m.half_arc, 0.0), (m.arc_ratio, 1.0)):
        answer = function(s)
        torch.testing.assert_close(answer, torch.full_like(answer, wanted), atol=1e-6, rtol=0)
        (gradient,) = torch.autograd.grad(answer.sum(), s)
        assert not gradient.any()
    x = torch.tensor([0.0, -2.0], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(m.signed_arc(x).sum(), x)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 5**-0.5], dtype=dtype))
    torch.testing.assert_close(m.signed_arc(x), x.asinh())


@pytest.mark.parametrize("function", [m.lorentz_exp_zero, m.ball_exp_zero, m.ball_log_zero])
def test_gradients_at_the_origin_are_the_identity(function):
    (x,) = (torch.zeros(D).double().requires_grad_(),)
    slope = torch.autograd.functional.jacobian(lambda x: function(x, 2.0)[-D:], x)
    near(slope, torch.eye(D).double())


@pytest.mark.parametrize("c", [0.0, -1.0, torch.tensor(0.0), torch.tensor([1.0, -2.0])])
def test_no_curvature_is_refused(c):
    with pytest.raises(ValueError, match="above 0"):
        m.ball_distance(torch.zeros(2, D), torch.zeros(2, D), c)


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="float32"):
        m.ball_exp_zero(torch.zeros(2, D, dtype=torch.float16), 1.0)


@pytest.mark.parametrize("curvature", [0, -1, math.nan, math.inf, m.FLOOR])
def test_a_curvature_that_cannot_be_learned_is_refused(curvature):
    with pytest.raises(ValueError, match="curvature"):
        m.raw_curvature(curvature)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_learned_curvature_never_reaches_zero(dtype):
    raw = torch.tensor([-1e30, -100.0, 0.0, 100.0], dtype=dtype, requires_grad=True)
    learned = m.learned_curvature(raw)
    assert (learned > 0).all() and learned.isfinite().all()
    learned.sum().backward()
    assert raw.grad.isfinite().all()
    for curvature in (0.0011, 0.5, 1.0, 300.0):
        np.testing.assert_allclose(
            m.learned_curvature(torch.tensor(m.raw_curvature(curvature))).item(), curvature, 1e-4
        )
