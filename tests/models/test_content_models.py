"""Models that know contents by their facts: similarities by hand, alignment against its dense formula."""

import numpy as np
import pytest
import scipy.sparse as sp

from configs.registry import SettingError
from kg.arrays import from_records
from kg.records import Hyperedge, Node
from models.cold_start import ContentLinear, ContentLinearConfig
from models.content import (
    WEIGHTS,
    Alike,
    ContentBased,
    ContentBasedConfig,
    ContentKNN,
    ContentKNNConfig,
    families,
    weighted,
)
from models.interface import Training, Users, recommenders

CONTENTS, USERS = 24, 30
COLD = np.array([3, 8, 15, 22])
NONE = {family: 0.0 for family in WEIGHTS}


@pytest.fixture(scope="module")
def world() -> Training:
    """Contents of two genres, each with words and two actors of its own; people like one genre."""
    nodes = [Node("User", f"user:toy:{user:03d}") for user in range(USERS)]
    nodes += [Node("Genre", f"genre:{name}", {"name": name}) for name in ("Noir", "Farce")]
    nodes += [Node("Person", f"person:toy:{actor:03d}", {"name": f"P{actor}"}) for actor in range(8)]
    facts, rng = [], np.random.default_rng(1)
    for content in range(CONTENTS):
        genre = content % 2
        told = {
            "title": f"{('shadow', 'banana')[genre]} {content}",
            "synopsis": ("rain night city", "pie face slip")[genre],
            "release_year": 1950 + genre * 20 + content % 5,
            "kind": "movie",
        }
        name = f"content:toy:{content:03d}"
        nodes.append(Node("Content", name, told))
        members = {"content": (name,), "genre": (f"genre:{('Noir', 'Farce')[genre]}",)}
        facts.append(Hyperedge("BELONGS_TO", members, "toy"))
        for actor in rng.choice(4, 2, replace=False) + 4 * genre:
            cast = {"content": (name,), "person": (f"person:toy:{actor:03d}",)}
            facts.append(Hyperedge("ACTED_IN", cast, "toy"))
    graph = from_records(
        "toy",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )
    liked = np.arange(USERS)[:, None] % 2 == np.arange(CONTENTS)[None] % 2
    liked &= rng.random(liked.shape) < 0.6
    liked[:, COLD] = False
    positives = sp.csr_array(liked.astype(np.float32))
    return Training(graph, positives, positives.astype(np.int64), np.ones(CONTENTS, bool), 3)


def everybody(training: Training) -> Users:
    return Users(np.arange(USERS), training.positives)


def known(training: Training) -> np.ndarray:
    return np.setdiff1d(np.arange(CONTENTS), COLD)


def test_a_family_is_a_cosine(world):
    is_known = np.isin(np.arange(CONTENTS), known(world))
    rows = families(world.graph, is_known, {**NONE, "genre": 4.0}).toarray()
    alike = rows @ rows.T
    same = np.arange(CONTENTS)[:, None] % 2 == np.arange(CONTENTS)[None] % 2
    np.testing.assert_allclose(alike, np.where(same, 4, 0), atol=1e-5)


def test_years_apart_are_less_alike(world):
    rows = families(world.graph, np.ones(CONTENTS, bool), {**NONE, "period": 1.0}).toarray()
    year = world.graph.numbers("Content", "release_year")
    near = rows[0] @ rows[np.flatnonzero(year == year[0] + 1)[0]]
    far = rows[0] @ rows[np.flatnonzero(year == year[0] + 20)[0]]
    assert 0.9 < near < 1 and far < near / 2


def test_words_that_only_cold_contents_say_do_not_count(world):
    is_known = np.isin(np.arange(CONTENTS), known(world))
    width = families(world.graph, is_known, {**NONE, "title": 1.0}).shape[1]
    assert width == 2  # a number is in one title alone


def test_similarities_do_not_depend_on_what_is_dense(world, monkeypatch):
    rows, contents = families(world.graph, np.ones(CONTENTS, bool), weighted({})), known(world)
    expected = (rows @ rows[contents].T).toarray()
    for share in (0.0, 0.1, 2.0):
        monkeypatch.setattr("models.content._COMMON", share)
        found = Alike(rows, contents).to_known(np.arange(CONTENTS))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_content_knn_equals_its_sum(world):
    model = ContentKNN(ContentKNNConfig(neighbours=5, cold_weight=2.0))
    model.fit(world)
    contents = known(world)
    rows = families(world.graph, np.isin(np.arange(CONTENTS), contents), weighted({})).toarray()
    alike = rows @ rows[contents].T
    alike[contents, np.arange(len(contents))] = 0
    for row in alike:  # (t,)
        row[np.lexsort((np.arange(len(row)), -row.round(6)))[5:]] = 0
    alike[COLD] *= 2
    expected = world.positives[:, contents] @ alike.T
    found = model.score(everybody(world))
    np.testing.assert_allclose(found.sum(), expected.sum(), rtol=1e-4)
    assert np.diff(model._hears.indptr).max() == 5


@pytest.mark.parametrize("users", [USERS, 8])  # more and fewer users than liked contents
def test_content_linear_equals_its_formula(world, users):
    positives = world.positives[:users]
    training = Training(world.graph, positives, world.times[:users], world.rankable)
    model = ContentLinear(ContentLinearConfig(regularization=2.0, smoothing=3.0, cold_weight=1.5))
    model.fit(training)
    contents = np.flatnonzero(positives.sum(0))
    cold = np.setdiff1d(np.arange(CONTENTS), contents)
    likes = positives.toarray()[:, contents].astype(np.float64)
    gram = likes.T @ likes
    shared = gram @ np.linalg.inv(gram + 3 * np.eye(len(contents)))
    rows = families(world.graph, np.isin(np.arange(CONTENTS), contents), weighted({})).toarray()
    alike = rows @ rows[contents].T + 1
    kernel = alike + 0.1 * alike**2
    carried = np.linalg.solve(kernel[contents] + 2 * np.eye(len(contents)), kernel[cold].T)
    found = model.score(Users(np.arange(users), positives))
    np.testing.assert_allclose(found[:, contents], likes @ shared, atol=1e-4)
    np.testing.assert_allclose(found[:, cold], 1.5 * likes @ shared @ carried, atol=1e-4)
    one = Users(np.array([2]), positives[[2]])
    for content in (int(contents[0]), int(cold[0])):
        total = model.contributions(one, content).sum()
        assert total == pytest.approx(found[2, content], abs=1e-5)


@pytest.mark.parametrize("name", ["content_knn", "content_linear", "content_based"])
def test_contents_that_nobody_liked_go_to_those_who_like_such(world, name):
    model = recommenders.build(name, {})
    model.fit(world)
    scores = model.score(everybody(world))[:, COLD]
    own = np.arange(USERS)[:, None] % 2 == COLD[None] % 2
    for user in range(USERS):
        assert scores[user][own[user]].min() > scores[user][~own[user]].max()


def test_content_based_is_a_mean_of_cosines(world):
    model = ContentBased(ContentBasedConfig())
    model.fit(world)
    vectors = model.arrays()["vectors"].astype(np.float64)
    liked = world.positives.toarray()
    expected = liked @ (vectors @ vectors.T) / np.maximum(liked.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(model.score(everybody(world)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("content_knn", {"weights": {"genres": 1.0}}, "no family of features is called 'genres'"),
        ("content_knn", {"weights": {"genre": -1.0}}, "must be 0 or more"),
        ("content_knn", {"cold_weight": 0.0}, "cold_weight > 0"),
        ("content_linear", {"smoothing": 0.0}, "above 0"),
        ("content_linear", {"interaction": -0.1}, "interaction must be 0 or more"),
        ("content_based", {"features": {"text_with": 3}}, "nearest: text_width"),
    ],
)
def test_a_wrong_setting_is_named(name, given, said):
    with pytest.raises(SettingError, match=said):
        recommenders.build(name, given)
