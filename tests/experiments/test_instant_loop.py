"""The instant tier in a replay: off it is the live row to the bit, on it finds what was planted."""

import numpy as np
import pytest

from configs.registry import SettingError, import_parts
from experiments.loops import loops
from experiments.replay import ReplayMeasure, blind, replay
from experiments.splits import SplitConfig, split
from experiments.stream import Stream
from models.interface import recommenders

MEASURE = ReplayMeasure(("ndcg@5",), resamples=100)
CONFIG = SplitConfig(settings={"share": 0.4}, positive_rating=4.0)


@pytest.fixture(scope="module")
def told(toy):
    import_parts("models")
    rng = np.random.default_rng(3)
    rows = [
        (user, int(content), int(rng.integers(1, 11)), 12_000 + int(rng.integers(1, 12)))
        for user in range(30)
        for content in rng.permutation(40)[: rng.integers(6, 30)]
    ]
    part = split(toy.graph(rows, 30, 40), CONFIG).test
    model = recommenders.build("ease", {"regularization": 5.0})
    model.fit(part.training)
    return model, part


def replayed(told, name, settings=None):
    loop = loops.build(name, settings or {})
    loop.begin(told[0], blind(told[1]))
    return replay(Stream.of(told[1], CONFIG), loop, MEASURE), loop


@pytest.mark.parametrize("head", ["linear", "bent"])
def test_switched_off_it_is_the_live_row_to_the_bit(told, head):
    live, _ = replayed(told, "live")
    off, _ = replayed(told, "instant", {"head": head, "width": 16, "instant_tier": False})
    assert np.array_equal(live.lists, off.lists)
    frozen, _ = replayed(told, "frozen")
    still, _ = replayed(
        told, "instant", {"head": head, "width": 16, "instant_tier": False, "live_history": False}
    )
    assert np.array_equal(frozen.lists, still.lists)


@pytest.mark.parametrize("head", ["linear", "bent"])
def test_switched_on_it_moves_answers_and_keeps_people_apart(told, head):
    live, _ = replayed(told, "live")
    on, loop = replayed(told, "instant", {"head": head, "width": 16, "gap_s": 1e6, "weight": 1.0})
    assert not np.array_equal(live.lists, on.lists)
    again, _ = replayed(told, "instant", {"head": head, "width": 16, "gap_s": 1e6, "weight": 1.0})
    assert np.array_equal(again.lists, on.lists)
    assert loop.taken == len(Stream.of(told[1], CONFIG).events)


def test_settings_that_cannot_be_are_refused():
    for settings in ({"head": "none"}, {"weight": -1.0}, {"instant": {"gate": 2.0}}, {"width": 4}):
        with pytest.raises(SettingError):
            loops.build("instant", settings)


def test_likes_of_before_1990_are_counted_and_teach_nothing(busy):
    import_parts("models")
    part = split(busy, CONFIG).test
    model = recommenders.build("popularity", {})
    model.fit(part.training)
    live, _ = replayed((model, part), "live")
    on, _ = replayed((model, part), "instant", {"width": 16})
    assert np.array_equal(live.lists, on.lists)
