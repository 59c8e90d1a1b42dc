"""Each step of the loop off in a replay: the base tier off is the base alone, to the bit."""

import numpy as np
import pytest

from configs.loading import load
from configs.registry import fill, import_parts
from experiments.loops import loops
from experiments.replay import ReplayMeasure, blind, replay
from experiments.replay_table import ReplayConfig, points
from experiments.splits import SplitConfig, split
from experiments.stream import Stream
from experiments.training import FitConfig, fit
from models.interface import recommenders

MEASURE = ReplayMeasure(("ndcg@5",), resamples=100)
CONFIG = SplitConfig(settings={"share": 0.4}, positive_rating=4.0)
OFF = {"instant_tier": False, "width": 16}


@pytest.fixture(scope="module")
def told(toy):
    """A SASRec with a base tier, and a part that holds likes out."""
    import_parts("models")
    rng = np.random.default_rng(5)
    rows = [
        (user, int(content), int(rng.integers(4, 11)), 12_000 + int(rng.integers(1, 12)))
        for user in range(24)
        for content in rng.permutation(30)[: rng.integers(6, 20)]
    ]
    part = split(toy.graph(rows, 24, 30), CONFIG).test
    settings = load("model/adapted_tiny.yaml")
    model = recommenders.build(settings.pop("name"), {**settings, "strength": 0.0})
    fit(model, part.training, None, FitConfig(learning_rate=0.05, epochs=9, threads=1))
    return model, part


def lists(model, part, name, settings=None):
    loop = loops.build(name, settings or {})
    loop.begin(model, blind(part))
    return replay(Stream.of(part, CONFIG), loop, MEASURE).lists


def test_the_base_tier_off_is_the_base_alone(told):
    model, part = told
    bare = model.bare(part.training.graph)
    assert np.array_equal(
        lists(model, part, "instant", {**OFF, "base_tier": False}), lists(bare, part, "live")
    )
    with_it = lists(model, part, "instant", OFF)
    assert np.array_equal(with_it, lists(model, part, "live"))
    assert not np.array_equal(with_it, lists(bare, part, "live"))


def test_all_off_is_the_base_frozen_at_the_split(told):
    model, part = told
    still = {**OFF, "base_tier": False, "live_history": False}
    bare = model.bare(part.training.graph)
    assert np.array_equal(lists(model, part, "instant", still), lists(bare, part, "frozen"))


def test_a_model_without_a_base_tier_answers_alike_with_it_off(told):
    part = told[1]
    model = recommenders.build("ease", {"regularization": 5.0})
    model.fit(part.training)
    assert np.array_equal(
        lists(model, part, "instant", {**OFF, "base_tier": False}), lists(model, part, "live")
    )


@pytest.mark.parametrize("name", ["adaptation", "adaptation_streaming", "steps", "tiny", "history"])
def test_files_of_replays_are_whole(name):
    config = fill(ReplayConfig, load(f"replay/{name}.yaml"), name)
    for label in config.models:
        assert config.experiment(label).budget
    assert all(points(config.row(row)) for row in config.rows)


def test_every_step_off_is_a_row_against_all_of_them():
    config = fill(ReplayConfig, load("replay/steps.yaml"), "steps")
    steps = ("live_history", "instant_tier", "base_tier")
    off = {
        name: {step for step in steps if not points(config.row(name))[0].get(step, True)}
        for name in config.rows
    }
    assert off["all steps"] == set() and off["all off"] == set(steps)
    for step in steps:
        (name,) = (one for one, switched in off.items() if switched == {step})
        assert ("all steps", name) in config.compared()
