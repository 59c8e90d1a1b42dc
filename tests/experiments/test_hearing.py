"""What attentions weigh in one neighbourhood, on the small world."""

import numpy as np
import pytest

from configs.registry import SettingError, UnknownName
from experiments.hearing import heard
from experiments.report import hearing_figure
from experiments.splits import SplitConfig, split
from kg.arrays import from_records
from kg.worlds import checkerboard

QUICK = ["train.epochs=1", "model.features.text_width=4", "model.features.structure_width=4"]


@pytest.fixture(scope="module")
def graph():
    world = checkerboard(users=24, contents=20, share=0.7, seed=2)
    return from_records("checkerboard", world.nodes, world.hyperedges)


def test_two_attentions_hear_the_same_likes_and_weigh_each_to_one(graph):
    told = heard(("gat", "multi_head"), graph, likes=5, overrides=QUICK)
    row = graph.row_of(told.user_id)
    training = split(graph, SplitConfig()).test.training
    counts = np.diff(training.positives.indptr)
    assert counts[row] == counts[counts >= 5].min() == len(told.titles)
    titles = graph.texts("Content", "title")
    liked = [titles[at] or graph.ids("Content")[at] for at in training.positives[[row]].indices]
    assert sorted(told.titles) == sorted(liked) and (np.diff(told.age_days) <= 0).all()
    for weights in told.weights.values():
        assert weights.sum() == pytest.approx(1)
    assert not np.allclose(*told.weights.values())
    assert hearing_figure(told).axes


def test_what_cannot_be_heard_is_refused(graph):
    with pytest.raises(SettingError, match="the most is"):
        heard(("gat",), graph, likes=1000, overrides=QUICK)
    with pytest.raises(SettingError, match="got none"):
        heard((), graph, likes=5, overrides=QUICK)
    with pytest.raises(ValueError, match="Mean does not"):
        heard(("mean",), graph, likes=5, overrides=QUICK)
    with pytest.raises(UnknownName, match="nearest: gat"):
        heard(("gatt",), graph, likes=5, overrides=QUICK)
