"""The bench of aggregators beside DGL's layers, on a graph that takes no time."""

import pytest
import torch

from apps.bench import aggregators
from apps.bench.aggregators import Shape, measure

SMALL = Shape(users=12, contents=20, pairs=60, targets=24, fan_out=3, d=8)


def test_every_layer_is_timed_beside_dgl_with_one_thread_and_two():
    before = torch.get_num_threads()
    rows = measure(2, SMALL)
    assert [row.what for row in rows] == [
        f"{what}, {threads}"
        for what in ("gat, h=1", "gat, h=4", "graphsage mean")
        for threads in ("1 thread", "2 threads")
    ]
    assert all(row.seconds > 0 and row.reference_s > 0 and row.ratio > 0 for row in rows)
    assert torch.get_num_threads() == before


def test_two_answers_are_not_compared_in_time(monkeypatch):
    made = aggregators.attentions.build

    def other(name, settings):
        layer = made(name, settings)
        return (
            layer
            if name != "graphsage"
            else layer.register_forward_hook(lambda *given: 2 * given[2]) and layer
        )

    monkeypatch.setattr(aggregators.attentions, "build", other)
    with pytest.raises(AssertionError, match="graphsage mean and DGL differ"):
        measure(1, SMALL)


def test_at_least_one_repetition():
    with pytest.raises(ValueError, match="repetitions must be 1 or more, got 0"):
        measure(0)


def test_degrees_follow_a_power_law():
    block = aggregators._block(Shape())
    assert block.neighbours.shape == (2048, 25)
    per_target = block.key_mask.sum(1)
    assert 2_048 < len(block.source) < 2_600 and int(per_target.max()) == 25
    assert float((per_target < 25).float().mean()) > 0.2  # many contents have few ratings
