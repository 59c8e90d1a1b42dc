"""Sparse and hashed attention against loops over the pairs that their definitions leave.

b targets · q queries · k neighbours · d width · h heads · c = d // h."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.routed import (
    Reformer,
    ReformerConfig,
    Sparse,
    SparseConfig,
    Sparsemax,
    sparsemax,
)

B, D, H = 2, 8, 2
C = D // H


def inputs(q, k, dtype=torch.float64, **known):
    draw = torch.Generator().manual_seed(q + k)
    key_mask = torch.rand(B, k, generator=draw) < 0.7
    key_mask[:, 0] = True
    query, source = torch.randn(B, q, D, generator=draw), torch.randn(B, k, D, generator=draw)
    return (3 * query).to(dtype), (3 * source).to(dtype), None, Pairs(key_mask, **known)


def build(name, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    return attentions.build(name, {"dim": D, "heads": H} | settings).to(dtype)


def softmax(scores):
    scores = np.exp(scores - scores.max())
    return scores / scores.sum()


def by_loop(made, given, keys_of, weigh):
    """Mixes by definition: keys_of(target, head, i, query, key) are heard, weigh(scores) each."""
    query, source, _, pairs = given
    parts = made.double().projected(query.double(), source.double(), None)
    query, key, value = (part.detach().numpy() for part in parts)
    mixed = np.zeros(query.shape)
    for target, head, i in np.ndindex(*query.shape[:3]):
        one, its_keys = query[target, head, i], key[target, head]
        heard = keys_of(target, head, i, one, its_keys)
        if heard:
            weights = weigh(its_keys[heard] @ one / math.sqrt(C))
            mixed[target, head, i] = weights @ value[target, head, heard]
    return made.out(torch.from_numpy(mixed).transpose(1, 2).flatten(2)).detach()


def visible_to(pairs, queries):
    """keys_of where nothing but masks says who is heard."""

    def keys_of(target, head, i, query, key):
        last = len(key) - queries + i if pairs.is_causal else len(key)
        return [j for j in range(len(key)) if pairs.key_mask[target, j] and j <= last]

    return keys_of


def best_of(top):
    def weigh(scores):
        kept = scores >= np.sort(scores)[-min(top, len(scores))]
        weights = np.zeros(len(scores))
        weights[kept] = softmax(scores[kept])
        return weights

    return weigh


def on_the_simplex(scores):
    """The nearest distribution, its threshold found by halving."""
    low, high = scores.max() - 1, scores.max()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(scores - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(scores - low, 0)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"), [("sparse", {"top": 3}), ("sparse", {"top": 50}), ("sparsemax", {})]
)
def test_sparse_weights_equal_their_definition(name, settings, is_causal):
    made, given = build(name, **settings), inputs(6, 20, is_causal=is_causal)
    weigh = best_of(settings["top"]) if settings else on_the_simplex
    wanted = by_loop(made, given, visible_to(given[3], 6), weigh)
    torch.testing.assert_close(made(*given), wanted, atol=1e-9, rtol=1e-9)
    in_float32 = (given[0].float(), given[1].float(), None, given[3])
    torch.testing.assert_close(made.float()(*in_float32).double(), wanted, atol=1e-5, rtol=1e-5)


def test_sparse_keeps_as_many_as_it_says_and_all_that_tie():
    made, given = build("sparse", top=3), inputs(6, 20)
    assert ((made.weights(*given) > 0).sum(-1) == 3).all()
    query, source, _, pairs = given
    alike = source[:, :1].expand(-1, 20, -1).clone()
    weights = made.weights(query, alike, None, Pairs(torch.ones(B, 20, dtype=torch.bool)))
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 20))


def test_a_sparse_attention_that_keeps_one_more_is_caught():
    made, given = Sparse(SparseConfig(D, H, top=4)).double(), inputs(6, 20)
    wanted = by_loop(made, given, visible_to(given[3], 6), best_of(3))
    assert not torch.allclose(made(*given), wanted, atol=1e-3)


def test_sparsemax_by_hand():
    visible = torch.tensor([[[True, True, True, False]]])
    scores = torch.tensor([[[[0.2, 0.1, -5.0, 9.0]]]])
    torch.testing.assert_close(sparsemax(scores, visible), torch.tensor([[[[0.55, 0.45, 0.0, 0.0]]]]))
    assert not sparsemax(scores, ~visible & False).any()
    weights = Sparsemax(AttentionConfig(D, H)).double().weights(*inputs(6, 20))
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, 6).double())
    assert (weights == 0).any()


def shared(made, query, source):
    """Projections of reformer: keys through the query's matrix, at length one."""
    query, key, value = made.projected(query, source, None)
    return query, key / (key.square().sum(-1, keepdim=True) + 1e-8).sqrt(), value


def exact(made, given):
    """Softmax over all keys with the projections of reformer."""
    query, key, value = shared(made, given[0], given[1])
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=given[3].key_mask[:, None, None])
    return made.out(mixed.transpose(1, 2).flatten(2))


def bucket(made, vector, round_, count):
    """Hash of a vector among ``count`` neighbours, digit by digit."""
    needed = [i for i in range(made.config.digits) if count > made.config.chunk * 8**i]
    code = 0
    for digit in needed:
        along = vector @ made.rotation[round_, digit].numpy()
        code = 8 * code + int(np.concatenate([along, -along]).argmax())
    return code


def hashed(made, given):
    """keys_of that reformer's definition hears: one query, one round, one sorted list at a time."""
    queries, chunk, mask = given[0].shape[1], made.config.chunk, given[3].key_mask

    def keys_of(target, head, i, query, key):
        held, heard = [j for j in range(len(key)) if mask[target, j]], set()
        for round_ in range(made.config.rounds):
            place = {j: (bucket(made, key[j], round_, len(held)), j) for j in held}
            own = bucket(made, query, round_, len(held)), len(key) - queries + i
            order = sorted(held, key=place.__getitem__)
            stands = max(0, sum(place[j] <= own for j in held) - 1) // chunk
            heard |= {j for at, j in enumerate(order) if at // chunk in (stands - 1, stands)}
        return sorted(heard)

    return keys_of


def by_definition(made, given):
    """Reformer by loops; its keys are brought to length one first."""
    query, key, value = shared(made, given[0], given[1])

    class Prepared(torch.nn.Module):
        out = made.out

        def projected(self, query_, source, neighbours):
            return query, key, value

    return by_loop(Prepared(), given, hashed(made, given), softmax)


SHAPES = [(1, 9), (1, 60), (5, 60), (40, 40), (70, 70), (60, 20), (9, 150)]


@pytest.mark.parametrize(("q", "k"), SHAPES)
@pytest.mark.parametrize("rounds", [1, 3])
def test_reformer_equals_its_definition(q, k, rounds):
    made, given = build("reformer", rounds=rounds, chunk=4, digits=2), inputs(q, k)
    torch.testing.assert_close(made(*given), by_definition(made, given), atol=1e-9, rtol=1e-9)


class CountsTwice(Reformer):
    """A lie: a key that two rounds bring weighs twice."""

    def _rounds_that_bring(self, of_key, of_query, asked, heard):
        return torch.ones((), dtype=torch.int64)


class HearsItsChunkOnly(Reformer):
    """A lie: the chunk before is forgotten."""

    def _blocks(self, order, of_query, key_mask):
        asked, heard, is_heard, slot = super()._blocks(order, of_query, key_mask)
        return asked, heard, is_heard & (torch.arange(8) >= 4), slot


@pytest.mark.parametrize("lie", [CountsTwice, HearsItsChunkOnly])
def test_a_wrong_reformer_is_caught(lie):
    torch.manual_seed(0)
    made, given = lie(ReformerConfig(D, H, rounds=3, chunk=4, digits=2)).double(), inputs(40, 40)
    assert not torch.allclose(made(*given), by_definition(made, given), atol=1e-3)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("q", "k"), [(1, 30), (30, 30), (40, 7)])
def test_reformer_is_exact_where_a_chunk_holds_all(q, k, dtype, near):
    made, given = build("reformer", dtype, chunk=30), inputs(q, k, dtype)
    torch.testing.assert_close(made(*given), exact(made, given), atol=near, rtol=near)


def test_the_error_of_reformer_falls_with_its_rounds():
    given, errors = inputs(128, 128), []
    for rounds in (1, 4, 16, 64):
        made = build("reformer", rounds=rounds, chunk=8)
        errors.append((made(*given) - exact(made, given)).norm().item())
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2] > 1.5**3 * errors[3]


def test_a_query_finds_the_keys_that_are_like_it():
    """64 groups of four keys, far apart: each query hears its group of 256 in a window of 32."""
    groups = 8 * torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    source = groups.repeat(4, 1)[None]
    torch.manual_seed(0)
    made = Reformer(ReformerConfig(16, 1, rounds=4))
    pairs = Pairs(torch.ones(1, 256, dtype=torch.bool))
    query, key, _ = shared(made, source, source)
    is_heard = hashed(made, (source, source, None, pairs))
    found = [
        set(range(i % 64, 256, 64))
        <= set(is_heard(0, 0, i, query[0, 0, i].detach().numpy(), key[0, 0].detach().numpy()))
        for i in range(0, 256, 16)
    ]
    assert all(found)


def test_reformer_keeps_no_matrix_of_queries_by_keys():
    kept, k = [], 2048
    made, source = build("reformer", torch.float32, heads=1), torch.randn(1, k, D)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda part: kept.append(part.numel()) or part, lambda part: part
    ):
        made(source, source, None, Pairs(torch.ones(1, k, dtype=torch.bool)))
    assert max(kept) < k * k / 8


def test_a_saved_reformer_answers_alike():
    given = inputs(40, 40)
    torch.manual_seed(0)
    made, other = (Reformer(ReformerConfig(D, H, chunk=4)).double() for _ in range(2))
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(*given), other(*given), atol=0, rtol=0)


def test_rows_of_zeros_leave_a_finite_gradient():
    made, source = build("reformer", torch.float32), torch.zeros(1, 40, D, requires_grad=True)
    made(source, source, None, Pairs(torch.ones(1, 40, dtype=torch.bool))).sum().backward()
    assert source.grad.isfinite().all()


def test_what_cannot_be_is_refused():
    query, source, _, pairs = inputs(3, 7)
    with pytest.raises(ValueError, match="Reformer cannot hide later keys"):
        build("reformer")(query, source, None, dataclasses.replace(pairs, is_causal=True))
    with pytest.raises(ValueError, match="top must be 1 or more, got 0"):
        SparseConfig(D, H, top=0)
    with pytest.raises(ValueError, match="rounds, chunk and digits must be 1 or more"):
        ReformerConfig(D, H, rounds=0)
