"""Landmark and linformer attention against plain matrices, and against exact softmax as their budget grows.

b targets · q queries · k neighbours · d width · h heads · c = d // h · r segments."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.base import ProjectedAttention
from models.attention.dense import MultiHead
from models.attention.low_rank import Landmark, LandmarkConfig, Linformer, LinformerConfig, segment_means

B, D, H = 2, 8, 2
C = D // H


def inputs(q, k, scale=1.0, dtype=torch.float64, share=0.7):
    draw = torch.Generator().manual_seed(q + k)
    key_mask = torch.rand(B, k, generator=draw) < share
    key_mask[:, 0] = True  # every query stands after it where q <= k
    query, source = torch.randn(B, q, D, generator=draw), torch.randn(B, k, D, generator=draw)
    return (scale * query).to(dtype), (scale * source).to(dtype), None, Pairs(key_mask)


def walk(k):
    """A path whose neighbours in time are alike, as its own queries and keys."""
    path = 0.4 * torch.randn(B, k, D, generator=torch.Generator().manual_seed(0)).cumsum(1).double()
    path = path / path.std()
    return path, path, None, Pairs(torch.ones(B, k, dtype=torch.bool))


def build(name, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    return attentions.build(name, {"dim": D, "heads": H} | settings).to(dtype)


def exact(made, given):
    """Softmax attention of torch with the same projections."""
    query, source, neighbours, pairs = given
    parts = made.projected(query, source, neighbours)
    mixed = scaled_dot_product_attention(*parts, attn_mask=pairs.key_mask[:, None, None])
    return made.out(mixed.transpose(1, 2).flatten(2))


def softmax(scores):
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def by_matrices(made, given, answer):
    """answer(query (q, c), key (n, c), value (n, c)) of each target and head."""
    query, source, _, pairs = given
    parts = [part.detach().numpy() for part in made.projected(query, source, None)]
    mixed = np.zeros(parts[0].shape)
    for target, head in np.ndindex(*mixed.shape[:2]):
        held = pairs.key_mask[target].numpy()
        query, key, value = (part[target, head] for part in parts)
        mixed[target, head] = answer(query, key[held], value[held])
    return made.out(torch.from_numpy(mixed).transpose(1, 2).flatten(2)).detach()


def means(parts, segments):
    """Means of the parts cut into as many segments, larger and smaller as they fall."""
    count = min(segments, len(parts))
    of = [i * count // len(parts) for i in range(len(parts))]
    return np.stack([parts[[s == one for s in of]].mean(0) for one in range(count)])


def ridged(matrix):
    return matrix.T @ np.linalg.inv(matrix @ matrix.T + 4e-12 * np.eye(len(matrix)))


@pytest.mark.parametrize(("inverse_of", "near"), [(ridged, 1e-8), (np.linalg.pinv, 1e-4)])
@pytest.mark.parametrize(("q", "k"), [(1, 9), (3, 9), (10, 10), (9, 30), (12, 5)])
def test_landmark_equals_its_matrices(q, k, inverse_of, near):
    made, given = build("landmark", landmarks=4), inputs(q, k, 3.0)
    first = given[3].key_mask.long().argmax(1)
    assert not first.any()

    def answer(query, key, value):
        query = query / math.sqrt(C)
        stands = query[max(0, q - k) :]  # queries before the first neighbour are padding
        few_queries, few_keys = means(stands, 4), means(key, 4)
        inverse = inverse_of(softmax(few_queries @ few_keys.T))
        return softmax(query @ few_keys.T) @ inverse @ softmax(few_queries @ key.T) @ value

    torch.testing.assert_close(made(*given), by_matrices(made, given, answer), atol=near, rtol=near)


@pytest.mark.parametrize(
    ("q", "k", "landmarks"), [(1, 30, 2), (1, 9, 16), (4, 30, 4), (12, 12, 12), (9, 9, 40)]
)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-5), (torch.float32, 2e-5)])
def test_landmark_is_exact_with_a_landmark_for_every_query(q, k, landmarks, dtype, near):
    made, given = build("landmark", dtype, landmarks=landmarks), inputs(q, k, 2.0, dtype)
    torch.testing.assert_close(made(*given), exact(made, given), atol=near, rtol=near)


def errors_of(name, setting, budgets, given):
    found = []
    for budget in budgets:
        made = build(name, **{setting: budget})
        found.append((made(*given) - exact(made, given)).norm().item())
    return found


@pytest.mark.parametrize(("name", "setting"), [("landmark", "landmarks"), ("linformer", "rank")])
def test_the_error_falls_with_the_budget(name, setting):
    errors = errors_of(name, setting, (1, 4, 16, 64), walk(64))
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2] and errors[3] < 1e-4 * errors[0]


@pytest.mark.parametrize(
    ("q", "k", "rank", "longest"), [(1, 9, 3, 64), (5, 20, 4, 6), (20, 20, 16, 64), (3, 4, 9, 2)]
)
def test_linformer_equals_its_matrices_once_it_has_learned(q, k, rank, longest):
    made, given = build("linformer", rank=rank, longest=longest), inputs(q, k)
    for learned in (made.of_key, made.of_value):
        torch.nn.init.normal_(learned, std=0.3)

    def summed(learned, parts):
        n, count = len(parts), min(rank, len(parts))
        matrix = learned.detach().numpy().T[:count, np.arange(n) % longest]
        return (matrix - matrix.mean(1, keepdims=True)) @ parts + means(parts, rank)

    def answer(query, key, value):
        weights = softmax(query @ summed(made.of_key, key).T / math.sqrt(C))
        return weights @ summed(made.of_value, value)

    torch.testing.assert_close(made(*given), by_matrices(made, given, answer), atol=1e-9, rtol=1e-9)
    weights = made.weights(*given)
    mixed = weights @ made.projected(*given[:3])[2]
    torch.testing.assert_close(made.out(mixed.transpose(1, 2).flatten(2)), made(*given))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, q).double())


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("rank", [9, 16])
def test_linformer_starts_exact_at_as_many_segments_as_neighbours(rank, dtype, near):
    made, given = build("linformer", dtype, rank=rank), inputs(3, 9, dtype=dtype)
    torch.testing.assert_close(made(*given), exact(made, given), atol=near, rtol=near)


def hears_segments_only(made: ProjectedAttention) -> bool:
    """Whether two neighbours of one segment may be put together without a change."""
    query, source, _, pairs = inputs(3, 12, share=2.0)
    joined = source.clone()
    joined[:, 4:6] = source[:, 4:6].mean(1, keepdim=True)  # 12 in 4 segments: 3, 4 and 5 are one
    return torch.allclose(made(query, source, None, pairs), made(query, joined, None, pairs), atol=1e-9)


class DenseLinformer(Linformer):
    """A lie: all the parameters of linformer beside dense attention."""

    def mix(self, query, key, value, pairs):
        return scaled_dot_product_attention(query, key, value, attn_mask=pairs.key_mask[:, None, None])


def largest_kept(made, k):
    """Numbers in the largest tensor kept for the gradient."""
    kept, source = [], torch.randn(1, k, D)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: kept.append(part.numel()) or part, lambda part: part
    ):
        made(source, source, None, Pairs(torch.ones(1, k, dtype=torch.bool)))
    return max(kept)


class SlowDenseLinformer(Linformer):
    """The same lie, told with a matrix of queries by keys."""

    def mix(self, query, key, value, pairs):
        return (query @ key.mT / math.sqrt(C)).softmax(-1) @ value


def test_a_linformer_that_is_dense_attention_is_caught():
    torch.manual_seed(0)
    config = LinformerConfig(D, H, rank=4)
    assert hears_segments_only(Linformer(config).double())
    assert not hears_segments_only(DenseLinformer(config).double())
    assert not hears_segments_only(MultiHead(AttentionConfig(D, H)).double())
    given = inputs(3, 12)
    honest, lie = Linformer(config).double(), DenseLinformer(config).double()
    assert not torch.allclose(honest(*given), exact(honest, given), atol=1e-4)
    torch.testing.assert_close(lie(*given), exact(lie, given))


@pytest.mark.parametrize("name", ["landmark", "linformer"])
def test_no_matrix_of_queries_by_keys_is_kept(name):
    k = 512
    assert largest_kept(build(name, torch.float32, heads=1), k) < k * k / 4
    assert largest_kept(SlowDenseLinformer(LinformerConfig(D)), k) >= k * k


def test_padding_in_front_makes_no_landmark_of_queries():
    """A history that is its own queries hears the same behind padding."""
    made, (query, source, _, _) = build("landmark", landmarks=4), inputs(10, 10)
    alone = made(query, source, None, Pairs(torch.ones(B, 10, dtype=torch.bool)))
    query, source = (torch.cat([9 * torch.ones(B, 6, D).double(), part], 1) for part in (query, source))
    padded = made(query, source, None, Pairs((torch.arange(16) >= 6).expand(B, -1)))
    torch.testing.assert_close(padded[:, 6:], alone, atol=1e-9, rtol=1e-7)


def test_segments_by_hand():
    mask = torch.tensor([[True, False, True, True, True, False, True], [False] * 6 + [True]])
    third = 1 / 3
    wanted = [[third, 0, third, third, 0, 0, 0], [0, 0, 0, 0, 0.5, 0, 0.5]]
    found = segment_means(mask, 2)
    torch.testing.assert_close(found[0], torch.tensor(wanted, dtype=torch.float64))
    assert found[1].tolist() == [[0.0] * 6 + [1.0], [0.0] * 7]


def test_equal_neighbours_leave_a_finite_gradient():
    """A is singular: every entry is 1 / r."""
    made = build("landmark", torch.float32, landmarks=8)
    source = torch.ones(1, 40, D, requires_grad=True)
    made(source, source, None, Pairs(torch.ones(1, 40, dtype=torch.bool))).square().sum().backward()
    assert source.grad.isfinite().all() and source.grad.abs().max() < 100


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="landmarks must be 1 or more, got 0"):
        Landmark(LandmarkConfig(D, H, landmarks=0))
    with pytest.raises(ValueError, match="rank and longest must be 1 or more"):
        Linformer(LinformerConfig(D, H, longest=0))
