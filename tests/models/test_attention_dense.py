"""The dense family against torch, against loops that spell the definitions out, and against one another."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.dense import (
    Cross,
    Differential,
    DifferentialConfig,
    Flash,
    MultiHead,
    mix_in_a_channel,
    mix_on_cpu,
)

B, S, D, H = 3, 7, 8, 2
C = D // H
SIZES = ((1, 1), (1, 5), (2, 5), (5, 5), (37, 37), (3, 71), (5, 2))
"""Queries and neighbours: odd ones, fewer and more queries than neighbours."""


def inputs(q=2, k=5, is_causal=False, dtype=torch.float64):
    """Query, source, rows and pairs with holes; the last target has no neighbour at all."""
    draw = torch.Generator().manual_seed(10 * q + k)
    key_mask = torch.rand(B, k, generator=draw) < 0.6
    key_mask[0], key_mask[-1] = True, False
    query, source = torch.randn(B, q, D, generator=draw), torch.randn(S, D, generator=draw)
    rows = torch.randint(S, (B, k), generator=draw)
    return query.to(dtype), source.to(dtype), rows, Pairs(key_mask, is_causal)


def build(kind, config=None, dtype=torch.float64):
    torch.manual_seed(0)
    return kind(config or AttentionConfig(D, H)).to(dtype)


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def by_loop(made, query, source, rows, pairs, weigh):
    """Attention written as its definition: one target, query and head at a time; (b, q, d) before W_O."""
    query_weight, key_weight, value_weight = (
        made.projections[role].weight.detach().double().numpy() for role in ("query", "key", "value")
    )
    query, source, rows, key_mask = (
        part.numpy() for part in (query.double(), source.double(), rows, pairs.key_mask)
    )
    answer, later = np.zeros(query.shape), rows.shape[1] - query.shape[1]
    for b, q, h in np.ndindex(*query.shape[:2], H):
        own = slice(h * C, (h + 1) * C)
        places = [j for j in np.flatnonzero(key_mask[b]) if not pairs.is_causal or j <= later + q]
        if places:
            key, value = (source[rows[b, places]] @ weight.T for weight in (key_weight, value_weight))
            answer[b, q, own] = weigh((query_weight @ query[b, q])[own], key[:, own]) @ value[:, own]
    return answer


def dot(query, key):
    return softmax(key @ query / math.sqrt(C))


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("q", "k"), SIZES)
@pytest.mark.parametrize("kind", [MultiHead, Flash])
def test_multi_head_and_flash_equal_their_definition(kind, q, k, is_causal):
    for dtype, within in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        made, given = build(kind, dtype=dtype), inputs(q, k, is_causal, dtype)
        wanted = by_loop(made, *given, dot) @ made.out.weight.detach().double().numpy().T
        np.testing.assert_allclose(made(*given).detach().double().numpy(), wanted, atol=within)


@pytest.mark.parametrize("is_causal", [False, True])
def test_multi_head_equals_torch(is_causal):
    query, source, rows, pairs = inputs(2, 5, is_causal)
    made = build(MultiHead)
    q, k, v = (
        made.projections[role](part).unflatten(-1, (H, C)).transpose(1, 2)
        for role, part in (("query", query), ("key", source[rows]), ("value", source[rows]))
    )
    visible = pairs.key_mask[:, None, None].expand(B, 1, 2, 5)
    if is_causal:  # query i stands at k - q + i
        visible = visible & torch.ones(2, 5, dtype=torch.bool).tril(3)
    mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    wanted = made.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(made(query, source, rows, pairs), wanted)


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_weights_that_are_shown_are_the_weights_that_mix(is_causal):
    given, made = inputs(4, 6, is_causal), build(MultiHead)
    _, _, value = made.projected(*given[:3])
    mixed = (made.weights(*given) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(made.out(mixed), made(*given))


def answer_and_gradients(mix, query, key, value, *given):
    leaves = [part.clone().requires_grad_() for part in (query, key, value)]
    answer = mix(*leaves, *given)
    answer.square().sum().backward()
    return [answer.detach(), *(leaf.grad for leaf in leaves)]


@settings(max_examples=40, deadline=None)
@drawn(st.data())
def test_flash_equals_multi_head_forward_and_backward(data):
    b, h, q, k, c = (data.draw(st.integers(1, most)) for most in (3, 3, 70, 70, 9))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    key_mask = torch.rand(b, k, generator=draw) < data.draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    pairs = Pairs(key_mask, data.draw(st.booleans()))
    parts = [torch.randn(b, h, n, c, generator=draw, dtype=torch.float64) for n in (q, k, k)]
    config = AttentionConfig(h * c, h)
    flash, dense = (answer_and_gradients(kind(config).mix, *parts, pairs) for kind in (Flash, MultiHead))
    for mine, other in zip(flash, dense, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_mask_in_a_channel_is_a_mask(is_causal, dtype):
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, 2, 19, 64, generator=draw).to(dtype) for _ in range(3)]
    key_mask = torch.rand(3, 19, generator=draw) < 0.5
    key_mask[1], key_mask[2, :4] = False, False
    both = [answer_and_gradients(mix, *parts, key_mask, is_causal) for mix in (mix_in_a_channel, mix_on_cpu)]
    within = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.05)
    for mine, other in zip(*both, strict=True):
        torch.testing.assert_close(mine, other, atol=within, rtol=within)
    for one in both:
        assert not one[0][1].any() and not one[2].transpose(1, 2)[~key_mask].any()


class Largest(TorchDispatchMode):
    """The most numbers that any tensor made meanwhile holds."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, call, types, args=(), kwargs=None):
        made = call(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.untyped_storage().nbytes() // one.element_size())
        return made


@pytest.mark.parametrize(
    ("kind", "is_causal", "is_lean"),
    [(Flash, False, True), (Flash, True, True), (MultiHead, True, False)],
)
def test_flash_makes_no_tensor_of_queries_by_keys(kind, is_causal, is_lean):
    long, made = 600, build(kind)
    query, source = (torch.randn(1, long, D, dtype=torch.float64, requires_grad=True) for _ in range(2))
    with Largest() as seen:
        made(query, source, None, Pairs(torch.arange(long)[None] > 9, is_causal)).sum().backward()
    assert (seen.numbers < 4 * long * D) == is_lean


@pytest.mark.parametrize("kind", [MultiHead, Flash])
@pytest.mark.parametrize("is_causal", [False, True])
def test_who_sees_nobody_hears_nothing_and_teaches_nothing(kind, is_causal):
    query, source, rows, pairs = inputs(5, 5, is_causal)
    key_mask = pairs.key_mask.clone()
    key_mask[1, :3] = False  # in order, the first queries of this target see nobody
    parts = [torch.randn(B, H, 5, C, dtype=torch.float64) for _ in range(3)]
    answer, *gradients = answer_and_gradients(build(kind).mix, *parts, Pairs(key_mask, is_causal))
    assert not answer[-1].any() and answer[:-1].any()
    assert not is_causal or not answer[1, :, :3].any()
    assert all(gradient.isfinite().all() and not gradient[-1].any() for gradient in gradients)


def test_cross_adds_what_its_gate_lets_in():
    query, source, rows, pairs = inputs()
    made = build(Cross)
    mixed = by_loop(made, query, source, rows, pairs, dot) @ made.out.weight.detach().numpy().T
    gate = 1 / (1 + np.exp(-(query.numpy() @ made.gate.weight.detach().numpy().T)))
    wanted = (query.numpy() + gate * mixed) * pairs.key_mask.any(1).numpy()[:, None, None]
    np.testing.assert_allclose(made(query, source, rows, pairs).detach().numpy(), wanted, atol=1e-12)


def test_cross_with_its_gate_shut_keeps_the_query():
    query, source, rows, pairs = inputs()
    made = build(Cross)
    torch.nn.init.constant_(made.gate.bias, -1e3)
    torch.testing.assert_close(made(query, source, rows, pairs)[:-1], query[:-1])


def test_differential_equals_its_definition():
    made, given = build(Differential, DifferentialConfig(D, H, subtracted=0.3)), inputs(3, 6, True)
    first, second, scale = (part.detach().numpy() for part in (made.first, made.second, made.scale))
    off = np.exp(first[0] @ first[1]) - np.exp(second[0] @ second[1]) + 0.3

    def weigh(query, key):
        half = C // 2
        one = softmax(key[:, :half] @ query[:half] / math.sqrt(half))
        return one - off * softmax(key[:, half:] @ query[half:] / math.sqrt(half))

    heads = by_loop(made, *given, weigh).reshape(B, 3, H, C)
    heads = 0.7 * scale * heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-5)
    wanted = heads.reshape(B, 3, D) @ made.out.weight.detach().numpy().T
    np.testing.assert_allclose(made(*given).detach().numpy(), wanted, atol=1e-12)
    total = made.weights(*given).sum(-1)
    torch.testing.assert_close(total[0], torch.full_like(total[0], 1 - off))


def test_differential_refuses_what_it_cannot_halve():
    with pytest.raises(ValueError, match="even width to be halved"):
        attentions.build("differential", {"dim": 6, "heads": 2})
    with pytest.raises(ValueError, match="below 1"):
        DifferentialConfig(4, subtracted=1.0)


def test_projections_act_once_per_source_row():
    query, source, rows, pairs = inputs()
    for kind in (MultiHead, Flash, Cross):
        made, shapes = build(kind), []
        for role in ("key", "value"):
            made.projections[role].register_forward_hook(
                lambda module, given, answer: shapes.append(given[0].shape)  # noqa: B023
            )
        made(query, source, rows, pairs)
        assert shapes == [(S, D), (S, D)]


@pytest.mark.parametrize("name", ["multi_head", "flash", "cross"])
def test_heads_must_divide_the_width(name):
    with pytest.raises(ValueError, match="heads must divide dim"):
        attentions.build(name, {"dim": 6, "heads": 4})


def test_flash_refuses_a_dense_mask_by_name():
    query, source, rows, pairs = inputs()
    masked = dataclasses.replace(pairs, mask=torch.ones(B, 2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="Flash builds no tensor of queries by keys"):
        build(Flash)(query, source, rows, masked)


def test_cosine_equals_its_definition_and_reads_no_lengths():
    query, source, rows, pairs = inputs()
    torch.manual_seed(2)
    made = attentions.build("cosine", {"dim": D, "heads": H, "temperature": 0.3}).double()
    parts = {role: made.projections[role].weight.detach().numpy() for role in ("query", "key", "value")}
    wanted = np.zeros((B, 2, D))
    for b, q, h in np.ndindex(B, 2, H):
        seen = rows[b][pairs.key_mask[b]].numpy()
        asked = (parts["query"] @ query[b, q].numpy())[h * C : (h + 1) * C]
        keys = (source.numpy()[seen] @ parts["key"].T)[:, h * C : (h + 1) * C]
        values = (source.numpy()[seen] @ parts["value"].T)[:, h * C : (h + 1) * C]
        lengths = np.linalg.norm(keys, axis=1) * np.linalg.norm(asked)
        weights = np.exp(keys @ asked / lengths / 0.3)
        wanted[b, q, h * C : (h + 1) * C] = weights / weights.sum() @ values if len(seen) else 0
    wanted = wanted @ made.out.weight.detach().numpy().T
    np.testing.assert_allclose(made(query, source, rows, pairs).detach().numpy(), wanted, atol=1e-9)
    torch.testing.assert_close(
        made.weights(3 * query, source, rows, pairs), made.weights(query, source, rows, pairs)
    )
    with pytest.raises(ValueError, match="temperature must be above"):
        attentions.build("cosine", {"dim": D, "temperature": 0.01})
