"""The positional family against loops that spell the definitions out; errors of sign and place are caught."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.dense import MultiHead
from models.attention.positional import (
    DAY_S,
    AgeDecay,
    AgeDecayConfig,
    Alibi,
    GraphRope,
    GraphRopeConfig,
    Relative,
    RelativeConfig,
    Rope,
    RopeConfig,
    turn,
)

B, D, H = 2, 8, 2
C = D // H
NAMES = ("relative", "alibi", "rope", "graph_rope", "age_decay")


def inputs(q=3, k=6, dtype=torch.float64, seed=0):
    """Query, source (b, k, d) and pairs with holes and ages, oldest first."""
    draw = torch.Generator().manual_seed(seed)
    key_mask = torch.rand(B, k, generator=draw) < 0.7
    key_mask[0], key_mask[:, -1] = True, True
    age_s = (torch.rand(B, k, generator=draw, dtype=torch.float64) * 400 * DAY_S).sort(1, descending=True)
    query, source = torch.randn(B, q, D, generator=draw), torch.randn(B, k, D, generator=draw)
    return query.to(dtype), source.to(dtype), Pairs(key_mask, age_s=age_s.values)


def build(kind, config=None, dtype=torch.float64):
    torch.manual_seed(0)
    return kind(config or AttentionConfig(D, H)).to(dtype)


def score_relative(made, query, key, i, j, h, age_s):
    step = int(np.clip(i - j, -made.config.clip, made.config.clip)) + made.config.clip
    return query @ (key + made.distance.detach().numpy()[step]) / math.sqrt(C)


def score_alibi(made, query, key, i, j, h, age_s):
    return query @ key / math.sqrt(C) - 2 ** (-8 * (h + 1) / H) * abs(i - j)


def as_complex(vector):
    return vector[0::2] + 1j * vector[1::2]


def score_rope(made, query, key, i, j, h, age_s):
    speed = made.config.base ** (-2 * np.arange(C // 2) / C)
    turned = as_complex(query) * np.conj(as_complex(key)) * np.exp(1j * (i - j) * speed)
    return turned.sum().real / math.sqrt(C)


def score_graph_rope(made, query, key, i, j, h, age_s):
    bucket = min(math.floor(math.log2(1 + age_s / made.config.first_s)), made.config.buckets - 1)
    return score_rope(made, query, key, 0, bucket, h, age_s)


def score_age_decay(made, query, key, i, j, h, age_s):
    rate = math.log1p(math.exp(made.decay[h].item()))
    return query @ key / math.sqrt(C) - rate * age_s / made.config.half_life_s


CASES = {
    "relative": (Relative, RelativeConfig(D, H, clip=2), score_relative),
    "alibi": (Alibi, AttentionConfig(D, H), score_alibi),
    "rope": (Rope, RopeConfig(D, H), score_rope),
    "graph_rope": (GraphRope, GraphRopeConfig(D, H, buckets=8), score_graph_rope),
    "age_decay": (AgeDecay, AgeDecayConfig(D, H), score_age_decay),
}


def by_loop(made, query, source, pairs, score):
    """Softmax attention written as its definition: one target, query and head at a time."""
    query_weight, key_weight, value_weight, out = (
        layer.weight.detach().double().numpy() for layer in (*made.projections.values(), made.out)
    )
    query, source, age_s = query.double().numpy(), source.double().numpy(), pairs.age_s.numpy()
    answer, later = np.zeros(query.shape), source.shape[1] - query.shape[1]
    for b, q, h in np.ndindex(*query.shape[:2], H):
        own, i = slice(h * C, (h + 1) * C), later + q
        places = [j for j in np.flatnonzero(pairs.key_mask[b].numpy()) if not pairs.is_causal or j <= i]
        if places:
            of_query = (query_weight @ query[b, q])[own]
            scores = np.array(
                [
                    score(made, of_query, (key_weight @ source[b, j])[own], i, j, h, age_s[b, j])
                    for j in places
                ]
            )
            weights = np.exp(scores - scores.max())
            answer[b, q, own] = weights / weights.sum() @ (source[b, places] @ value_weight.T)[:, own]
    return answer @ out.T


@pytest.mark.parametrize(
    ("name", "is_causal"),
    [(name, is_causal) for name in CASES for is_causal in (False, True)[: 1 + CASES[name][0].causal]],
)
def test_each_equals_its_definition(name, is_causal):
    kind, config, score = CASES[name]
    for dtype, within in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        for q, k in ((1, 1), (1, 7), (3, 6), (6, 6), (4, 2)):
            made = build(kind, config)
            query, source, pairs = inputs(q, k, dtype)
            pairs = dataclasses.replace(pairs, is_causal=is_causal)
            wanted = by_loop(made, query, source, pairs, score)
            answer = made.to(dtype)(query, source, None, pairs).detach().double().numpy()
            np.testing.assert_allclose(answer, wanted, atol=within)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_that_are_shown_are_the_weights_that_mix(name):
    kind, config, _ = CASES[name]
    made, (query, source, pairs) = build(kind, config), inputs()
    _, _, value = made.projected(query, source, None)
    mixed = (made.weights(query, source, None, pairs) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(made.out(mixed), made(query, source, None, pairs))


class Mirrored(Rope):
    """Turns both the wrong way: scores depend on j − i."""

    def turned(self, query, key, pairs):
        conjugate = query.new_tensor([1.0, -1.0] * (C // 2))
        query, key = super().turned(query * conjugate, key * conjugate, pairs)
        return query * conjugate, key * conjugate


class KeysBackwards(Rope):
    """Turns keys against queries: scores depend on i + j."""

    def turned(self, query, key, pairs):
        conjugate = query.new_tensor([1.0, -1.0] * (C // 2))
        turned, against = super().turned(query, key * conjugate, pairs)
        return turned, against * conjugate


class FromTheFirst(Rope):
    """Lets query i stand at place i, not at k − q + i."""

    def turned(self, query, key, pairs):
        places = torch.arange(query.shape[2])
        return turn(query, places, self.config.base), super().turned(query, key, pairs)[1]


class AheadForBehind(Relative):
    """Reads the vector of j − i."""

    def scores(self, query, key, pairs):
        held, self.distance = self.distance, torch.nn.Parameter(self.distance.flip(0))
        scores = super().scores(query, key, pairs)
        self.distance = held
        return scores


class SlopesFromZero(Alibi):
    """Counts heads from 0."""

    def __init__(self, config):
        super().__init__(config)
        self.slope = 2.0 ** (-8 * torch.arange(config.heads) / config.heads)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (Mirrored, "rope"),
        (KeysBackwards, "rope"),
        (FromTheFirst, "rope"),
        (AheadForBehind, "relative"),
        (SlopesFromZero, "alibi"),
    ],
)
def test_a_planted_error_is_caught(wrong, name):
    _, config, score = CASES[name]
    query, source, pairs = inputs()
    made = build(wrong, config)
    answer = made(query, source, None, pairs).detach().numpy()
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(answer, by_loop(made, query, source, pairs, score), atol=1e-3)


def scores_at(made, query, key, places):
    """(p,) score of one query after its key, at each of some distances from the end of ever longer keys."""
    pairs = [Pairs(torch.ones(1, place, dtype=torch.bool)) for place in places]
    keys = [key.expand(1, 1, place, -1) for place in places]
    return [made.scores(query, one, pair)[0, 0, 0] for one, pair in zip(keys, pairs, strict=True)]


@settings(max_examples=40, deadline=None)
@drawn(st.integers(1, 60), st.integers(0, 5000), st.integers(0, 99))
def test_rope_depends_on_the_distance_alone(distance, shift, seed):
    draw = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 1, 1, 1, 6, generator=draw, dtype=torch.float64)

    def score(i, j):
        return (turn(query, torch.tensor([i]), 1e4) * turn(key, torch.tensor([j]), 1e4)).sum()

    torch.testing.assert_close(score(distance + shift, shift), score(distance, 0), atol=1e-9, rtol=0)
    torch.testing.assert_close(turn(key, torch.tensor([shift]), 1e4).norm(), key.norm())
    made = build(Rope, RopeConfig(6))
    near, far = scores_at(made, query, key, (distance + 1, distance + 1 + shift % 70))
    torch.testing.assert_close(near, far[-len(near) :], atol=1e-9, rtol=0)


def test_far_keys_share_the_last_distance_and_near_ones_do_not():
    made = build(Relative, RelativeConfig(C, clip=5))
    query, key = torch.randn(2, 1, 1, 1, C, dtype=torch.float64)
    (scores,) = scores_at(made, query, key, (700,))
    torch.testing.assert_close(scores[:-5], scores[:1].expand(695))
    assert len(scores[-6:].unique()) == 6


def test_alibi_slopes_by_hand():
    assert build(Alibi, AttentionConfig(8, 8)).slope.tolist() == [0.5**h for h in range(1, 9)]


@pytest.mark.parametrize("config", [RopeConfig, GraphRopeConfig])
def test_an_odd_head_width_cannot_be_turned(config):
    with pytest.raises(ValueError, match="even width to be turned in pairs, got dim=6 and heads=2, so 3"):
        config(6, 2)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (RelativeConfig, {"clip": -1}),
        (RopeConfig, {"base": 1.0}),
        (GraphRopeConfig, {"first_s": 0.0}),
        (GraphRopeConfig, {"buckets": 0}),
        (AgeDecayConfig, {"half_life_s": 0.0}),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(config, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(4, **wrong)


@pytest.mark.parametrize("name", NAMES)
def test_heads_must_divide_the_width(name):
    with pytest.raises(ValueError, match="heads must divide dim"):
        attentions.build(name, {"dim": 6, "heads": 4})


def test_facts_without_age_stand_where_the_query_does():
    query, source, pairs = inputs()
    made, plain = build(GraphRope, GraphRopeConfig(D, H)), build(MultiHead)
    ageless = dataclasses.replace(pairs, age_s=torch.zeros_like(pairs.age_s))
    torch.testing.assert_close(made(query, source, None, ageless), plain(query, source, None, ageless))
    assert not torch.allclose(made(query, source, None, pairs), plain(query, source, None, pairs))


def test_buckets_of_age_double_and_end():
    made = build(GraphRope, GraphRopeConfig(D, H, buckets=4))
    days = torch.tensor([[1e6, 31.0, 15.0, 14.9, 7.0, 3.0, 2.9, 1.0, 0.99, 0.0]])
    pairs = Pairs(torch.ones(1, 10, dtype=torch.bool), age_s=days * DAY_S)
    assert made.position(pairs).tolist() == [[3, 3, 3, 3, 3, 2, 1, 1, 0, 0]]


def test_hops_stand_in_for_ages_where_handed_in():
    query, source, pairs = inputs(1, 4)
    made = build(GraphRope, GraphRopeConfig(D, H))
    hop = torch.tensor([[3, 2, 1, 1], [2, 2, 0, 1]])
    as_age = dataclasses.replace(pairs, age_s=(2.0**hop - 1) * DAY_S)
    as_hop = dataclasses.replace(pairs, hop=hop)
    torch.testing.assert_close(made(query, source, None, as_hop), made(query, source, None, as_age))
    assert not torch.allclose(made(query, source, None, as_hop), made(query, source, None, pairs))
    with pytest.raises(ValueError, match=r"GraphRope needs hop of shape \(2, 4\), got \(2, 3\)"):
        made(query, source, None, dataclasses.replace(pairs, hop=hop[:, :3]))


def test_half_the_weight_after_a_half_life():
    made = build(AgeDecay, AgeDecayConfig(D, H, half_life_s=10.0))
    query, source, _ = inputs(1, 2)
    same = source[:, :1].expand(-1, 2, -1)
    pairs = Pairs(torch.ones(B, 2, dtype=torch.bool), age_s=torch.tensor([[10.0, 0.0], [25.0, 5.0]]))
    weights = made.weights(query, same, None, pairs)[:, :, 0, 0]  # of the older
    # the second head halves after 20 seconds
    wanted = [[1 / 3, 2**-0.5 / (1 + 2**-0.5)], [0.25 / 1.25, 1 / 3]]
    torch.testing.assert_close(weights, torch.tensor(wanted, dtype=torch.float64))


def test_only_differences_of_age_count_for_its_decay():
    query, source, pairs = inputs()
    made = build(AgeDecay, AgeDecayConfig(D, H))
    later = dataclasses.replace(pairs, age_s=pairs.age_s + 1e8)
    torch.testing.assert_close(made(query, source, None, pairs), made(query, source, None, later))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_far_away_and_long_ago(name, dtype):
    kind, config, _ = CASES[name]
    query, source, pairs = inputs(2, 700)
    pairs = dataclasses.replace(pairs, age_s=pairs.age_s + 20 * 365 * DAY_S)
    made = build(kind, config)
    wanted = made(query, source, None, pairs)
    answer = made.to(dtype)(query.to(dtype), source.to(dtype), None, pairs)
    assert answer.dtype == dtype and answer.isfinite().all()
    apart = (answer.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert apart < 0.15
