"""The bench of dense attention beside torch's own function, on shapes that take no time."""

import pytest
import torch

from apps.bench import dense_attention
from apps.bench.dense_attention import OURS, Shape, measure

SMALL = (
    Shape("neighbourhood", 5, 1, 6, 8, 2, rows=11),
    Shape("history", 3, 7, 7, 8, 2, rows=0, is_causal=True),
    Shape("long", 1, 40, 40, 8, 1, rows=0, has_padding=False),
)


def test_every_mechanism_is_timed_beside_torch_in_both_directions(monkeypatch):
    monkeypatch.setattr(dense_attention, "SHAPES", SMALL)
    rows = measure(3)
    wanted = [
        (f"{name} {direction}", str(shape))
        for shape in SMALL
        for direction in ("forward", "forward + backward")
        for name in OURS
    ]
    assert [(row.what, row.shape) for row in rows] == wanted
    assert all(row.seconds > 0 and row.reference_s > 0 and row.ratio > 0 for row in rows)


def test_two_answers_are_not_compared_in_time(monkeypatch):
    monkeypatch.setattr(dense_attention, "SHAPES", SMALL[:1])
    monkeypatch.setattr(dense_attention, "scaled_dot_product_attention", lambda q, k, v, attn_mask: 2 * q)
    with pytest.raises(AssertionError, match="multi_head and torch answer differently"):
        measure(1)


def test_at_least_one_repetition():
    with pytest.raises(ValueError, match="repetitions must be 1 or more, got 0"):
        measure(0)


def test_nothing_is_drawn_from_the_global_generator_for_inputs():
    before = torch.random.get_rng_state()
    dense_attention._given(SMALL[0])
    assert torch.equal(before, torch.random.get_rng_state())
