"""Each hyperbolic mechanism against its definition: geoopt, one target, query and head at a time."""

import dataclasses
import math

import geoopt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention import Pairs, attentions, hyperbolic
from models.attention.hyperbolic import REACH, HyperbolicConfig
from models.manifolds import raw_curvature

B, Q, K, S, D, H = 3, 2, 6, 7, 8, 2
C = D // H
TYPES, RELATIONS = 3, 4
CURVATURE = 0.7
NAMES = (
    "exp_map",
    "log_map",
    "mobius_addition",
    "mobius_matvec",
    "hyperbolic_mlr",
    "poincare_embedding",
    "lorentz_embedding",
    "hyperbolic_distance",
    "dual_space",
)
BALL = geoopt.PoincareBall(c=torch.tensor(CURVATURE, dtype=torch.float64))
SHEET = geoopt.Lorentz(k=torch.tensor(1 / CURVATURE, dtype=torch.float64))


def build(name: str, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    given = {"dim": D, "heads": H, "types": TYPES, "relations": RELATIONS, "curvature": CURVATURE}
    made = attentions.build(name, {**given, **settings})
    made.double().bend.data.fill_(raw_curvature(CURVATURE))  # to all digits of float64
    for part in ("steepness", "threshold", "of_curved"):
        if hasattr(made, part):  # not at a start where it says nothing
            getattr(made, part).data = torch.rand(made.config.heads, 1, 1).double() + 0.2
    return made.to(dtype)


@pytest.fixture
def given():
    draw = torch.Generator().manual_seed(0)
    key_mask = torch.rand(B, K, generator=draw) < 0.6
    key_mask[:, 0] = True
    pairs = Pairs(
        key_mask,
        relation=torch.randint(RELATIONS, (B, K), generator=draw),
        query_type=torch.randint(TYPES, (B, Q), generator=draw),
        key_type=torch.randint(TYPES, (B, K), generator=draw),
    )
    query, source = torch.randn(B, Q, D, generator=draw), 2 * torch.randn(S, D, generator=draw)
    return query.double(), source.double(), torch.randint(S, (B, K), generator=draw), pairs


def soft(v):
    return v / (1 + math.sqrt(CURVATURE) * v.norm(dim=-1, keepdim=True) / REACH)


def entered(v):
    return BALL.expmap0(soft(v))


def flat_mix(made, weights, query, values, h):
    return weights @ values


def midpoint(made, weights, query, values, h):
    return BALL.logmap0(BALL.weighted_midpoint(entered(values), weights))


def dot(made, query, key, h, codes):
    return query @ key / math.sqrt(C)


def exp_mix(made, weights, query, values, h):
    at = entered(query)
    return BALL.logmap0(BALL.expmap(at, BALL.transp0(at, soft(weights @ values))))


def seen_from(query, key):
    """log_q(k) in the orthonormal frame at q."""
    at = entered(query)
    return BALL.lambda_x(at)[..., None] * BALL.logmap(at, entered(key))


def log_score(made, query, key, h, codes):
    u = seen_from(query, key)
    return made.direction[h] @ u - u.norm()


def log_mix(made, weights, query, values, h):
    return weights @ seen_from(query, values)


def addition_score(made, query, key, h, codes):
    moved = BALL.mobius_add(entered(key), entered(made.shift[h]))
    return -BALL.mobius_add(-entered(query), moved).norm()


def distance(query, key):
    return BALL.dist(entered(query), entered(key))


def plane_score(made, query, key, h, codes):
    at = entered(query)
    return BALL.dist2plane(entered(key), at, made.normal[h] @ at, signed=True)


def place_score(made, query, key, h, codes):
    of_query, of_key, relation = codes
    moved = BALL.mobius_add(entered(made.of_type[h, of_key]), entered(made.of_relation[h, relation]))
    return dot(made, query, key, h, codes) - BALL.dist(entered(made.of_type[h, of_query]), moved)


def lifted(v):
    return SHEET.projx(torch.cat([torch.zeros_like(v[..., :1]), v], -1))


def lorentz_score(made, query, key, h, codes):
    apart = lifted(query) - lifted(key)
    return -geoopt.manifolds.lorentz.math.inner(apart, apart)


def lorentz_mix(made, weights, query, values, h):
    total = weights @ lifted(values)
    return (total / (-CURVATURE * geoopt.manifolds.lorentz.math.inner(total, total)).sqrt())[1:]


def sigmoid_score(made, query, key, h, codes):
    """Its exponential is w, so that the softmax of the loop divides w by its sum."""
    w = torch.sigmoid(-made.steepness[h, 0, 0] * distance(query, key) - made.threshold[h, 0, 0])
    return w.log()


def dual_score(made, query, key, h, codes):
    return dot(made, query, key, h, codes) - made.of_curved[h, 0, 0] * distance(query, key)


DEFINITIONS = {
    "exp_map": (dot, exp_mix),
    "log_map": (log_score, log_mix),
    "mobius_addition": (addition_score, midpoint),
    "mobius_matvec": (lambda made, query, key, h, codes: -distance(query, key), midpoint),
    "hyperbolic_mlr": (plane_score, flat_mix),
    "poincare_embedding": (place_score, flat_mix),
    "lorentz_embedding": (lorentz_score, lorentz_mix),
    "hyperbolic_distance": (sigmoid_score, flat_mix),
    "dual_space": (dual_score, flat_mix),
}


def projected(made, role, features):
    """(n, d) -> (n, h, c) vectors at the origin; logarithms of Möbius products where it takes those."""
    matrix = made.projections[made.shares.get(role, role)].weight
    if type(made).__name__ != "MobiusMatvec":
        return (features @ matrix.T).unflatten(-1, (H, C))
    points = entered(features)
    products = [BALL.mobius_matvec(part, points[:, None])[:, 0] for part in matrix.unflatten(0, (H, C))]
    return torch.stack([BALL.logmap0(part) for part in products], 1)


@torch.no_grad()
def by_loop(made, query, source, neighbours, pairs):
    score, mix = DEFINITIONS[next(name for name in NAMES if isinstance(made, attentions[name]))]
    key, value = projected(made, "key", source), projected(made, "value", source)
    answer = torch.zeros(query.shape, dtype=torch.float64)
    for b in range(B):
        at = [k for k in range(K) if pairs.key_mask[b, k]]
        rows = neighbours[b, at]
        for q, own in enumerate(projected(made, "query", query[b])):
            for h in range(H):
                codes = [(pairs.query_type[b, q], pairs.key_type[b, k], pairs.relation[b, k]) for k in at]
                scores = [
                    score(made, own[h], key[row, h], h, code) for row, code in zip(rows, codes, strict=True)
                ]
                weights = torch.stack(scores).softmax(0)
                answer[b, q, h * C : (h + 1) * C] = mix(made, weights, own[h], value[rows, h], h)
    return made.out(answer)


@pytest.mark.parametrize("name", NAMES)
def test_a_mechanism_equals_its_definition(name, given):
    wanted = by_loop(build(name), *given)
    torch.testing.assert_close(build(name)(*given), wanted, atol=1e-9, rtol=1e-9)
    query, source, *rest = given
    narrow = build(name, torch.float32)(query.float(), source.float(), *rest)
    torch.testing.assert_close(narrow.double(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["hyperbolic_distance", "mobius_matvec", "dual_space"])
def test_a_distance_without_the_curvature_is_caught(name, given, monkeypatch):
    def without(query, key, curvature):
        return honest(query, key, torch.ones_like(curvature))

    honest = hyperbolic.pair_distance
    for module in ("hyperbolic", "hyperbolic_points"):
        monkeypatch.setattr(f"models.attention.{module}.pair_distance", without)
    with pytest.raises(AssertionError):
        test_a_mechanism_equals_its_definition(name, given)


def test_the_threshold_is_not_lost_in_the_softmax(given):
    made = build("hyperbolic_distance")
    before = made(*given)
    made.threshold.data += 2
    assert not torch.allclose(made(*given), before, atol=1e-3)


def test_without_its_curved_part_dual_space_is_multi_head(given):
    made = build("dual_space")
    made.of_curved.data.zero_()
    flat = attentions.build("multi_head", {"dim": D, "heads": H}).double()
    flat.load_state_dict({name: made.state_dict()[name] for name in flat.state_dict()})
    torch.testing.assert_close(made(*given), flat(*given))


def test_a_lone_neighbour_is_heard_as_it_is(given):
    """The midpoint of one point is the point: what comes out is the softened value."""
    query, source, neighbours, _ = given
    for name in ("mobius_addition", "lorentz_embedding"):
        made = build(name)
        alone = Pairs(torch.ones(B, 1, dtype=torch.bool))
        value = projected(made, "value", source)[neighbours[:, :1]]  # (b, 1, h, c)
        wanted = made.out((soft(value) if name == "mobius_addition" else value).flatten(-2))
        torch.testing.assert_close(made(query, source, neighbours[:, :1], alone), wanted.expand(-1, Q, -1))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_many_queries_are_mixed_as_all_at_once(name, is_causal, given, monkeypatch):
    _, source, neighbours, pairs = given
    made, draw = build(name), torch.Generator().manual_seed(3)
    query = torch.randn(B, K, D, generator=draw).double().requires_grad_()
    pairs = dataclasses.replace(
        pairs,
        is_causal=is_causal,
        mask=torch.rand(B, K, K, generator=draw) < 0.7,
        query_type=torch.randint(TYPES, (B, K), generator=draw),
    )
    whole = made(query, source, neighbours, pairs)
    learned = [query, *made.parameters()]
    wanted = torch.autograd.grad(whole.square().sum(), learned)
    monkeypatch.setattr(hyperbolic, "WHOLE", 0)
    monkeypatch.setattr(hyperbolic, "TILE", 4 * B * H * K)  # 4 of 6 queries, then 2
    tiled = made(query, source, neighbours, pairs)
    torch.testing.assert_close(tiled, whole)
    torch.testing.assert_close(torch.autograd.grad(tiled.square().sum(), learned), wanted)
    with torch.no_grad():
        torch.testing.assert_close(made(query, source, neighbours, pairs), whole)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        for part in answer if isinstance(answer, tuple | list) else (answer,):
            if isinstance(part, torch.Tensor):
                self.numbers = max(self.numbers, part.numel())
        return answer


@pytest.mark.parametrize("name", NAMES)
def test_no_tensor_is_larger_than_the_scores_and_few_are_held(name, monkeypatch):
    made, n = build(name, dim=32, heads=1), 100
    codes = torch.zeros(1, n, dtype=torch.int64)
    pairs = Pairs(codes == 0, relation=codes, query_type=codes, key_type=codes)
    features = torch.randn(1, n, 32, dtype=torch.float64, requires_grad=True)
    with Largest() as largest:
        made(features, features, None, pairs).sum().backward()
    assert largest.numbers <= n * n
    monkeypatch.setattr(hyperbolic, "WHOLE", 0)
    monkeypatch.setattr(hyperbolic, "TILE", 10 * n)
    with Largest() as largest:
        made(features, features, None, pairs).sum().backward()
    assert largest.numbers <= 40 * n  # features and points of n · 34 remain


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_finite_at_any_scale_and_curvature(name, scale, given):
    query, source, neighbours, pairs = given
    for raw in (-1e9, 0.0, 1e4):
        made = build(name, torch.float32)
        made.bend.data.fill_(raw)
        source = (scale * source).float().detach().requires_grad_()
        answer = made((scale * query).float(), source, neighbours, pairs)
        answer.square().sum().backward()
        gradients = [source.grad, *(parameter.grad for parameter in made.parameters())]
        assert answer.isfinite().all() and all(part.isfinite().all() for part in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_a_query_that_equals_a_key_has_a_gradient(name, given):
    _, source, neighbours, pairs = given
    made = build(name, torch.float32)
    made.projections["query"].weight.data = made.projections["key"].weight.data.clone()
    source = source.float().requires_grad_()
    made(source[neighbours[:, :Q]], source, neighbours, pairs).square().sum().backward()
    assert source.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())


def test_far_features_stay_apart_in_float32():
    """Lengths 0, 1,000 and 1,100: how far each is from the others, along one direction and across it."""
    curvature = torch.tensor(1.0)
    features = torch.tensor([[0.0, 0.0], [1000.0, 0.0], [1100.0, 0.0], [1000.0, 50.0]])
    points = hyperbolic.entered(features, curvature)
    apart = hyperbolic.pair_distance(points, points, curvature)
    reached = [2 * length / (1 + length / REACH) for length in (1000, 1100)]  # 5.982 and 5.984
    assert apart[0, 1:3].tolist() == pytest.approx(reached, abs=1e-5) and reached[1] - reached[0] > 1e-3
    assert apart[1, 3] > 3


@pytest.mark.parametrize("curvature", [0, 0.0, -1.0, 1e-3, math.nan, math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_curvature_that_is_none_is_refused(name, curvature):
    with pytest.raises(ValueError, match="curvature"):
        attentions.build(name, {"dim": D, "curvature": curvature})


@pytest.mark.parametrize("curvature", [0.01, 1.0, 7.0])
def test_curvature_starts_as_set_and_is_learned(curvature, given):
    for name in NAMES:
        made = attentions.build(
            name, dataclasses.asdict(HyperbolicConfig(D, H, curvature=curvature, types=3, relations=4))
        )
        assert made.curvature().item() == pytest.approx(curvature, rel=1e-4)
        made.double()(*given).square().sum().backward()
        assert made.bend.grad.abs() > 0
