"""Kernel attention against its formulas, one pair at a time.

b targets · q queries · k neighbours · d width · h heads · c = d // h · m features."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.kernel import (
    GatedLinear,
    GatedLinearConfig,
    GaussianKernel,
    LinearAttention,
    Performer,
    PerformerConfig,
    orthogonal_rows,
)

B, D, H = 2, 8, 2
C = D // H
FACTORED = ("linear", "gated_linear", "performer")


def inputs(q, k, scale=1.0, is_causal=False, dtype=torch.float64):
    draw = torch.Generator().manual_seed(q + k)
    key_mask = torch.rand(B, k, generator=draw) < 0.7
    key_mask[:, min(3, k - 1)] = True
    query, source = torch.randn(B, q, D, generator=draw), torch.randn(B, k, D, generator=draw)
    return (scale * query).to(dtype), (scale * source).to(dtype), None, Pairs(key_mask, is_causal=is_causal)


def build(name, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    return attentions.build(name, {"dim": D, "heads": H} | settings).to(dtype)


def elu_plus_one(x):
    return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))


def by_loop(made, given, weigh):
    """Answers by the definition: weigh(queries, keys, head, i, j) of each pair, over their sum."""
    query, source, _, pairs = given
    parts = made.double().projected(query.double(), source.double(), None)
    query, key, value = (part.detach().numpy() for part in parts)
    (b, h, q, c), k = query.shape, key.shape[2]
    answer = np.zeros((b, h, q, c))
    for target, head, i in np.ndindex(b, h, q):
        last = k - q + i if pairs.is_causal else k - 1
        seen = [j for j in range(k) if pairs.key_mask[target, j] and j <= last]
        weights = [weigh(query[target, head], key[target, head], head, i, j, seen) for j in seen]
        if seen:
            answer[target, head, i] = np.array(weights) @ value[target, head, seen] / sum(weights)
    joined = torch.from_numpy(answer).transpose(1, 2).flatten(2)
    return made.out(joined).detach()


def weigh_linear(query, key, head, i, j, seen):
    return elu_plus_one(query[i]) @ elu_plus_one(key[j])


def weigh_gated(made):
    gate, bias = made.gate.detach().numpy(), made.gate_bias.detach().numpy()

    def weigh(query, key, head, i, j, seen):
        later = [t for t in seen if t > j]
        gates = (1 + np.exp(-(key[later] @ gate[head] + bias[head]))) ** (-1 / made.config.softening)
        return elu_plus_one(query[i]) @ (elu_plus_one(key[j]) * gates.prod(0))

    return weigh


def weigh_performer(made):
    omega = made.omega.numpy()

    def features(x):
        x = x / C**0.25
        return np.exp(omega @ x - x @ x / 2) / math.sqrt(len(omega))

    return lambda query, key, head, i, j, seen: features(query[i]) @ features(key[j])


def weigh_of(name, made):
    if name == "linear":
        return weigh_linear
    return (weigh_gated if name == "gated_linear" else weigh_performer)(made)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("name", FACTORED)
@pytest.mark.parametrize(("q", "k"), [(1, 5), (3, 7), (9, 9), (12, 5), (70, 150)])
def test_factored_kernels_equal_their_formula(name, q, k, is_causal):
    made, given = build(name), inputs(q, k, is_causal=is_causal)
    wanted = by_loop(made, given, weigh_of(name, made))
    torch.testing.assert_close(made(*given), wanted, atol=1e-9, rtol=1e-9)
    in_float32 = (given[0].float(), given[1].float(), None, given[3])
    torch.testing.assert_close(made.float()(*in_float32).double(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_causal", [False, True])
def test_linear_equals_its_formula_where_elu_has_rounded_to_zero(is_causal):
    made, given = build("linear", torch.float32), inputs(6, 6, 60.0, is_causal, torch.float32)
    answer = made(*given)
    torch.testing.assert_close(answer.double(), by_loop(made, given, weigh_linear), atol=1e-2, rtol=1e-3)


def test_a_wrong_feature_map_is_caught():
    class PlainElu(LinearAttention):
        def log_features(self, query, key, pairs):
            return tuple(torch.nn.functional.softplus(part).log() for part in (query, key))

    made, given = PlainElu(AttentionConfig(D, H)).double(), inputs(3, 7)
    assert not torch.allclose(made(*given), by_loop(made, given, weigh_linear), atol=1e-3)


def test_gaussian_kernel_equals_its_formula():
    made, given = build("kernel"), inputs(3, 7, is_causal=True)
    made.log_sigma.data = torch.tensor([0.3, -0.4], dtype=torch.float64).view(H, 1, 1)

    def weigh(query, key, head, i, j, seen):
        sigma = math.exp([0.3, -0.4][head])
        return np.exp(-((query[i] - key[j]) ** 2).sum() / 2 / sigma**2)

    torch.testing.assert_close(made(*given), by_loop(made, given, weigh), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("log_sigma", [-30.0, 30.0])
def test_a_gaussian_kernel_stays_finite_as_its_width_leaves_all_bounds(log_sigma):
    made = GaussianKernel(AttentionConfig(D, H))
    made.log_sigma.data.fill_(log_sigma)
    query, source, _, pairs = inputs(3, 7, dtype=torch.float32)
    answer = made(query, source, None, pairs)
    answer.sum().backward()
    assert answer.isfinite().all() and made.log_sigma.grad.isfinite().all()


@pytest.mark.parametrize("name", FACTORED)
def test_weights_mix_the_values_as_the_answer_does(name):
    made, (query, source, _, pairs) = build(name), inputs(3, 7, is_causal=True)
    _, _, value = made.projected(query, source, None)
    mixed = made.weights(query, source, None, pairs) @ value
    torch.testing.assert_close(made.out(mixed.transpose(1, 2).flatten(2)), made(query, source, None, pairs))


@pytest.mark.parametrize("name", FACTORED)
def test_at_scale_1e3_a_later_key_and_another_target_move_nothing(name):
    made = build(name, torch.float32)
    query, source, _, pairs = inputs(100, 100, 1e3, is_causal=True, dtype=torch.float32)
    before = made(query, source, None, pairs)
    assert before.isfinite().all()
    louder = source.clone()
    louder[1] *= 50
    louder[0, 37:] *= 50
    after = made(query, louder, None, pairs)
    torch.testing.assert_close(after[0, :37], before[0, :37], atol=0, rtol=0)
    alone = dataclasses.replace(pairs, key_mask=pairs.key_mask[:1, :37])
    prefix = made(query[:1, :37], source[:1, :37], None, alone)
    torch.testing.assert_close(prefix, before[:1, :37], atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("name", FACTORED)
def test_a_causal_pass_keeps_no_state_per_place_and_no_matrix_of_places(name):
    made, kept = build(name, heads=1, dim=16, dtype=torch.float32), []
    k = 512
    source = torch.randn(1, k, 16)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: kept.append(part.numel()) or part, lambda part: part
    ):
        made(source, source, None, Pairs(torch.ones(1, k, dtype=torch.bool), is_causal=True))
    assert max(kept) < k * 16 * 16 and max(kept) < k * k / 2


def kernel_estimates(draw_omega, features, count=4000):
    """(count,) estimates of exp(x . y / √c), each from another Ω, and the kernel itself."""
    torch.manual_seed(1)
    x, y = torch.randn(2, 1, 1, 1, C).double()
    made = features(PerformerConfig(C, 1, features=6)).double()
    found = []
    for _ in range(count):
        made.omega = draw_omega(6, C).double()
        log_x, log_y = made.log_features(x, y, None)
        found.append((log_x + log_y).exp().sum())
    return torch.stack(found), math.exp((x * y).sum() / math.sqrt(C))


def off_by(draw_omega=orthogonal_rows, features=Performer):
    """Distance of the mean estimate from the kernel in standard errors."""
    found, wanted = kernel_estimates(draw_omega, features)
    return abs(found.mean() - wanted) / (found.std() / math.sqrt(len(found)))


class WithoutTheSquare(Performer):
    def log_features(self, query, key, pairs):
        return tuple(part / C**0.25 @ self.omega.T - math.log(6) / 2 for part in (query, key))


def test_the_kernel_estimate_of_performer_is_unbiased():
    assert off_by() < 3.5


@pytest.mark.parametrize(
    ("draw_omega", "features"),
    [
        (lambda rows, width: torch.nn.functional.normalize(orthogonal_rows(rows, width)), Performer),
        (orthogonal_rows, WithoutTheSquare),
    ],
)
def test_a_biased_kernel_estimate_is_caught(draw_omega, features):
    assert off_by(draw_omega, features) > 5


def test_omega_is_orthogonal_in_blocks_with_gaussian_norms():
    torch.manual_seed(0)
    block = orthogonal_rows(10, 4)
    products = block @ block.T
    for first in (0, 4, 8):
        at = slice(first, min(first + 4, 10))
        assert (products[at, at] - products[at, at].diag().diag()).abs().max() < 1e-4
    squares = torch.stack([orthogonal_rows(4, 4) for _ in range(500)]).square().sum(-1)
    assert abs(squares.mean() - 4) < 0.25 and abs(squares.var() - 8) < 1.5  # chi-squared of 4
    plain = torch.stack([orthogonal_rows(4, 4)[0, 0] for _ in range(2000)])
    assert abs(plain.mean()) < 0.1 and abs(plain.var() - 1) < 0.15


def test_the_error_of_performer_falls_with_its_features():
    query, source, _, pairs = inputs(12, 30, 0.7)
    dense = build("multi_head")
    errors = []
    for features in (8, 64, 512, 4096):
        apart = []
        for seed in range(8):
            torch.manual_seed(seed)
            made = Performer(PerformerConfig(D, H, features=features)).double()
            made.load_state_dict(dense.state_dict() | {"omega": made.omega})
            apart.append((made(query, source, None, pairs) - dense(query, source, None, pairs)).norm())
        errors.append(sum(apart).item() / 8)
    assert errors[0] > 1.4 * errors[1] > 1.4**2 * errors[2] > 1.4**3 * errors[3]


def test_a_saved_performer_answers_alike():
    given = inputs(3, 7)
    torch.manual_seed(0)
    made, other = (Performer(PerformerConfig(D, H)).double() for _ in range(2))
    assert not torch.allclose(made(*given), other(*given))
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(*given), other(*given), atol=0, rtol=0)


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="features must be 1 or more, got 0"):
        PerformerConfig(D, H, features=0)
    with pytest.raises(ValueError, match="softening must be 1 or more"):
        GatedLinear(GatedLinearConfig(D, H, softening=0.5))
