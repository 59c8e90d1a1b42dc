"""A replay with a ReasoningBank: off it is the loop beside it, on it hands on what others just found."""

import numpy as np
import pytest

from configs.registry import SettingError, import_parts
from experiments.loops import loops
from experiments.replay import ReplayMeasure, blind, replay
from experiments.splits import SplitConfig, split
from experiments.stream import Stream
from models.interface import recommenders

MEASURE = ReplayMeasure(("ndcg@5",), resamples=100)
CONFIG = SplitConfig(settings={"share": 0.25}, positive_rating=4.0)
DAY = 12_000
BEGINNING, USUAL, NEW, PEOPLE = (0, 1, 2), (3, 4, 5, 6, 7, 8), 9, 24


@pytest.fixture(scope="module")
def told(toy):
    """Two circles of people who begin alike; those of one turn to what is new, one after another."""
    import_parts("models")
    rng, rows = np.random.default_rng(5), []
    for user in range(PEOPLE):
        shift = 10 * (user % 2)
        seen = [*BEGINNING, *rng.permutation(USUAL)[:3].tolist()]
        last = [NEW, 8] if user % 2 == 0 else rng.permutation(USUAL)[:2].tolist()
        for place, content in enumerate(dict.fromkeys([*seen, *last])):
            rows.append((user, content + shift, 9, DAY + (place if content != NEW else 20) + user))
    rows.append((1, NEW, 9, DAY - 1))  # so that training knows it
    part = split(toy.graph(rows, PEOPLE, 20), CONFIG).test
    model = recommenders.build("ease", {"regularization": 5.0})
    model.fit(part.training)
    return model, part


def replayed(told, name, settings=None):
    loop = loops.build(name, settings or {})
    loop.begin(told[0], blind(told[1]))
    return replay(Stream.of(told[1], CONFIG), loop, MEASURE), loop


SMALL = {"width": 16, "gap_s": 1e6, "memory": {"create_positives": 1}}


@pytest.mark.parametrize("beside", ["live", "frozen"])
def test_without_weight_it_is_the_loop_beside_it_to_the_bit(told, beside):
    plain, _ = replayed(told, beside)
    off, loop = replayed(told, "remembered", {**SMALL, "beside": beside, "weight": 0.0})
    assert np.array_equal(plain.lists, off.lists)
    assert loop.taken == len(Stream.of(told[1], CONFIG).events)


def test_it_hands_on_what_others_just_found(told):
    """What is new is the last like of one circle: nobody's but a memory can know that it came."""
    live, _ = replayed(told, "live")
    on, loop = replayed(told, "remembered", {**SMALL, "weight": 50.0})
    again, _ = replayed(told, "remembered", {**SMALL, "weight": 50.0})
    assert np.array_equal(again.lists, on.lists)
    assert on.per_user("ndcg@5").mean() > live.per_user("ndcg@5").mean() + 0.05
    share = float(loop.said().partition("%")[0])
    assert 0 < share <= 100 and "patterns" in loop.said()


def test_what_was_liked_before_is_learned_up_to_a_bound(told):
    empty, loop = replayed(told, "remembered", {**SMALL, "begin": 0, "weight": 50.0})
    full, other = replayed(told, "remembered", {**SMALL, "weight": 50.0})
    assert not np.array_equal(empty.lists, full.lists) and loop.said() != other.said()


@pytest.mark.parametrize(
    "settings",
    [
        {"begin": -1},
        {"weight": -1},
        {"memory": {"boost": -1}},
        {"width": 3},
        {"settings": {"head": "linear"}},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError):
        loops.build("remembered", settings)
