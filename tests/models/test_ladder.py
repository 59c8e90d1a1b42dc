"""The ladder of a cold start on a small graph whose answers can be worked out."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize

from configs.registry import SettingError
from kg.arrays import from_records
from kg.records import Hyperedge, Node
from models.interface import ModelFacts, Recommender, Training
from models.ladder import UNKNOWN, Known, Ladder, LadderConfig
from models.ladder_weights import RUNGS, Blend, LadderWeights, learn

DAY_S = 86_400
# users × contents; 0 and 1 are young and like 0 to 2 (comedies), 2 and 3 are old and like 3 to 5 (dramas)
LIKES = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1]], np.float32)
WHEN = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 9]])


class Twins(Recommender):
    """Scores what comes next in the rows."""

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())

    def fit(self, training):
        """Nothing to learn."""

    def score(self, users):
        assert (users.rows == -1).all()
        return np.roll(users.history.toarray(), 1, axis=1)

    def arrays(self):
        return {}

    def restore(self, arrays, graph):
        """Nothing to take back."""


@pytest.fixture(scope="module")
def training():
    ages, regions = ("young", "young", "old", "old"), ("US", "DE", "US", "DE")
    nodes = [Node("User", f"user:t:{u}", {"age_band": ages[u], "region": regions[u]}) for u in range(4)]
    nodes += [Node("Content", f"content:t:{c}") for c in range(6)]
    nodes += [Node("Genre", "genre:comedy"), Node("Genre", "genre:drama"), Node("Person", "person:t:0")]
    facts = [
        Hyperedge(
            "BELONGS_TO",
            {"content": (f"content:t:{c}",), "genre": ("genre:comedy" if c < 3 else "genre:drama",)},
            "t",
            {},
        )
        for c in range(6)
    ]
    facts.append(Hyperedge("ACTED_IN", {"person": ("person:t:0",), "content": ("content:t:2",)}, "t", {}))
    graph = from_records(
        "small",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )
    likes = sp.csr_array(LIKES)
    times = sp.csr_array((WHEN[LIKES > 0] * DAY_S, likes.indices, likes.indptr), shape=likes.shape)
    return Training(graph, likes, times, np.ones(6, bool))


@pytest.fixture(scope="module")
def ladder(training):
    return Ladder(Twins(None), training, LadderConfig(trend_days=1, shrinkage=0))


def known(history=(), genres=(), titles=(), people=(), group=UNKNOWN, region=UNKNOWN):
    def row(places, width, type=np.float32):
        matrix = np.zeros((1, width), type)
        matrix[0, list(places)] = 1
        return sp.csr_array(matrix)

    return Known(
        row(history, 6),
        row(history, 6, np.int64),
        row(genres, 2),
        row(titles, 6),
        row(people, 1),
        np.array([group]),
        np.array([region]),
    )


def weights(**values):
    rungs = frozenset(values) | {"trending", "popularity"}
    return LadderWeights((Blend(rungs, 0, {rung: values.get(rung, 0.0) for rung in RUNGS}, 1),))


def best(ladder, person, **values):
    return np.flatnonzero(
        np.isclose(scores := ladder.answer(person, weights(**values)).scores[0], scores.max())
    )


def test_each_rung_reads_what_it_says(ladder):
    assert best(ladder, known(history=[1]), history=1.0).tolist() == [2]
    assert best(ladder, known(titles=[3]), titles=1.0).tolist() == [4]
    assert best(ladder, known(genres=[1]), genres=1.0).tolist() == [3]
    assert best(ladder, known(people=[0]), people=1.0).tolist() == [2]
    assert ladder.group_names == ["old", "young"] and ladder.region_names == ["DE", "US"]
    assert best(ladder, known(group=1), demographics=1.0).tolist() == [0]
    assert best(ladder, known(group=0), demographics=1.0).tolist() == [3]
    assert best(ladder, known(), popularity=1.0).tolist() == [0, 3]
    # the last like of all was that of content 5, in DE
    assert best(ladder, known(), trending=1.0).tolist() == [5]
    assert best(ladder, known(region=0), trending=1.0).tolist() == [5]
    # the three likes of users 0 and 2 in US are of one day
    assert best(ladder, known(region=1), trending=1.0).tolist() == [0, 1, 3, 4]


def test_shrinkage_leans_on_all_where_a_group_is_small(training):
    shrunk = Ladder(Twins(None), training, LadderConfig(shrinkage=6.0))
    told = shrunk.told(known(group=1))
    popularity = LIKES.sum(0) / LIKES.sum()
    young = LIKES[:2].sum(0) / LIKES[:2].sum()
    np.testing.assert_allclose(
        np.exp(told.features["demographics"][0]), 0.25 * young + 0.75 * popularity + 1 / LIKES.sum()
    )


def test_it_says_which_rung_answered(ladder):
    person = known(history=[1], genres=[1])
    answer = ladder.answer(person, weights(history=3.0, genres=0.1, popularity=0.1))
    assert answer.rungs == ["history"]
    assert sum(part[0] for part in answer.shares.values()) == pytest.approx(1)
    # nothing that the ladder reads is known: popularity answers
    assert ladder.answer(known(), LadderWeights(())).rungs == ["popularity"]


def test_what_is_not_known_does_not_weigh(ladder):
    learned = LadderWeights(
        (
            Blend(frozenset({"trending", "popularity"}), 0, {"trending": 0.0, "popularity": 1.0}, 1),
            Blend(
                frozenset({"genres", "trending", "popularity"}),
                0,
                {"genres": 9.0, "trending": 0.0, "popularity": 0.0},
                1,
            ),
        )
    )
    assert ladder.answer(known(), learned).rungs == ["popularity"]
    assert ladder.answer(known(genres=[1]), learned).rungs == ["genres"]
    told = ladder.told(known(genres=[1]))
    assert told.without("genres").answer(learned).rungs == ["popularity"]
    # a group is known as well, of which nothing was learned: genres answer still
    assert ladder.answer(known(genres=[1], group=0), learned).rungs == ["genres"]


def test_weights_lie_between_the_lengths_they_were_learned_at():
    rungs = frozenset({"history", "popularity"})
    learned = LadderWeights(
        tuple(
            Blend(rungs, events, {"history": weight, "popularity": 1.0}, 1)
            for events, weight in ((1, 0), (3, 1))
        )
    )
    assert learned.of(rungs, 1)["history"] == 0 and learned.of(rungs, 3)["history"] == 1
    assert learned.of(rungs, 500)["history"] == 1
    assert learned.of(rungs, 2)["history"] == pytest.approx(np.log(3 / 2) / np.log(4 / 2))
    assert list(learned.of(rungs, 2)) == ["history", "popularity"]


def test_weights_are_those_under_which_likes_are_most_probable():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(60, 2))
    starts, is_liked = np.array([0, 25, 45]), np.zeros(60, bool)
    is_liked[[3, 7, 30, 50]] = True
    features[is_liked, 0] += 1

    def naive(weights):
        total = 0.0
        for start, end in ((0, 25), (25, 45), (45, 60)):
            values = features[start:end] @ weights
            own = is_liked[start:end]
            total += np.log(np.exp(values).sum()) - values[own].mean()
        return total / 3 + 1e-4 * weights @ weights

    found = learn(("history", "popularity"), 3, features, starts, is_liked)
    expected = minimize(naive, np.ones(2), bounds=[(0, None)] * 2, method="L-BFGS-B")
    np.testing.assert_allclose(list(found.weights.values()), expected.x, atol=1e-3)
    assert found.likes == 4 and found.weights["history"] > 0


def test_a_rung_that_misleads_weighs_nothing():
    features = np.array([[1.0, 0.0], [0.0, 1.0]] * 5)
    found = learn(("history", "popularity"), 0, features, np.arange(0, 10, 2), np.array([True, False] * 5))
    assert found.weights["popularity"] == 0 and found.weights["history"] > 1


def test_ladder_refuses(training):
    class Known(Twins):
        facts = ModelFacts(scores_cold_user=False, scores_cold_content=False, draws_on=())

    with pytest.raises(SettingError, match="take a model that can"):
        Ladder(Known(None), training)
    with pytest.raises(SettingError, match="trend_days above 0"):
        LadderConfig(trend_days=0)
    with pytest.raises(SettingError, match="held-out likes"):
        learn(("history",), 0, np.ones((2, 1)), np.array([0]), np.zeros(2, bool))


def test_weights_come_back_from_disk_and_a_broken_file_says_so(tmp_path):
    learned = weights(genres=2.0, popularity=0.5)
    learned.save(tmp_path / "there" / "a.json")
    assert LadderWeights.load(tmp_path / "there" / "a.json") == learned
    assert learned.longest == 0 and len(list((tmp_path / "there").iterdir())) == 1
    (tmp_path / "b.json").write_text("{")
    for broken in ("b.json", "nowhere.json"):
        with pytest.raises(ValueError, match="run `mg ladder` again"):
            LadderWeights.load(tmp_path / broken)
