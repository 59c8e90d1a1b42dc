"""What a ReasoningBank adds to a ranking: equal to a sum by hand, nothing where nothing is alike."""

import numpy as np
import pytest

from configs.registry import SettingError
from models.memory import ReasoningBank
from models.recall import Recall, RecallConfig

NAMES = ["content:a", "content:b", "content:c", "content:d"]
VECTORS = np.array([[1, 0], [0.8, 0.6], [-1, 0], [0, 0]], np.float32)
NOW = 1_000_000_000


@pytest.fixture
def recall(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        yield Recall(bank, VECTORS, NAMES, ("live",), RecallConfig(weight=2.0, recent=2))


def liked(recall, user, before, content, times=3):
    query = recall.query(np.array(before))
    for _ in range(times):
        recall.learn(user, query, np.array([content]), NOW)


def test_a_query_is_the_sum_of_the_newest_likes(recall):
    assert recall.query(np.array([2, 0, 1])).tolist() == pytest.approx([1.8, 0.6])
    assert recall.query(np.array([], np.int64)) is None and recall.query(np.array([3])) is None
    assert recall.query(np.array([0, 2])) is None  # they cancel out


def test_shares_are_those_of_a_sum_by_hand(recall):
    liked(recall, "user:1", [0], 3)
    liked(recall, "user:2", [1], 3)
    liked(recall, "user:2", [1], 2, times=1)
    liked(recall, "user:3", [2], 1)  # the other way round: no match
    rows, shares = recall.shares(recall.query(np.array([0])), NOW)
    found = recall.bank.lookup(VECTORS[0], {}, NOW, 20)
    weights = [match.score * match.confidence for match in found]
    assert [match.similarity for match in found] == pytest.approx([1.0, 0.8])
    told = dict(zip(rows.tolist(), shares.tolist(), strict=True))
    assert told == pytest.approx({3: 1.0, 2: weights[1] / sum(weights)})


def test_what_is_added_is_in_spreads_of_the_scores(recall):
    liked(recall, "user:1", [0], 1)
    scores = np.array([3, 1, 2, 0], np.float32)
    added = recall.added(scores, recall.query(np.array([0])), NOW)
    assert added.tolist() == pytest.approx([0, 2 * scores.std(), 0, 0])
    assert scores.tolist() == [3, 1, 2, 0]
    assert recall.added(scores, recall.query(np.array([2])), NOW) is None
    assert recall.added(scores, None, NOW) is None


def test_a_bank_that_names_contents_of_another_graph_adds_nothing_for_them(recall):
    liked(recall, "user:1", [0], 1)
    other = Recall(recall.bank, VECTORS, ["w", "x", "y", "z"], ("live",))
    assert other.added(np.ones(4), other.query(np.array([0])), NOW) is None


@pytest.mark.parametrize("settings", [{"weight": -1}, {"weight": np.nan}, {"recent": 0}, {"matches": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(SettingError, match="weight of 0 or more"):
        RecallConfig(**settings)
