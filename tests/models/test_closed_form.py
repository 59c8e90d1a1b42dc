import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu.als import AlternatingLeastSquares

from configs.registry import SettingError
from models.explanation import without
from models.factors import IALS, IALSConfig
from models.hybrid import Hybrid, HybridConfig
from models.interface import Training, Users, recommenders
from models.item_item import EASE, EASEConfig, ItemKNN, ItemKNNConfig, _inverse, _inverse_by_blocks
from models.popularity import DAY_S, Popularity, PopularityConfig, Random, RandomConfig
from models.ranking import ranks, reciprocal_rank_fusion

SEED = 5


def training(liked: np.ndarray, days: np.ndarray | None = None, seed: int = SEED) -> Training:
    positives = sp.csr_array(liked.astype(np.float32))
    times = positives.astype(np.int64)
    times.data = (np.zeros(positives.nnz) if days is None else days[liked > 0] * DAY_S).astype(np.int64)
    return Training(None, positives, times, np.ones(liked.shape[1], bool), seed)


def random_likes(users: int = 40, contents: int = 25, share: float = 0.3, seed: int = SEED) -> np.ndarray:
    """Likes of which the last two contents have none."""
    liked = np.random.default_rng(seed).random((users, contents)) < share
    liked[:, -2:] = False
    return liked.astype(np.float32)


def all_users(liked: np.ndarray) -> Users:
    return Users(np.arange(len(liked)), sp.csr_array(liked))


def tastes(users: int = 120, contents: int = 40, seed: int = SEED) -> np.ndarray:
    """Four tastes with some noise."""
    draw = np.random.default_rng(seed)
    same = np.arange(users)[:, None] % 4 == np.arange(contents)[None] % 4
    return (draw.random((users, contents)) < np.where(same, 0.6, 0.08)).astype(np.float32)


def test_popularity_counts_likes():
    model = Popularity(PopularityConfig())
    model.fit(training(np.array([[1, 1, 0], [1, 0, 0]])))
    assert model.score(all_users(np.zeros((2, 3)))).tolist() == [[2, 1, 0], [2, 1, 0]]


def test_recent_popularity_halves_after_its_half_life():
    # content 0 was liked twice, 10 days before content 1 was liked once
    model = Popularity(PopularityConfig(half_life_days=5))
    model.fit(training(np.array([[1, 1], [1, 0]]), days=np.array([[0, 10], [0, 0]])))
    np.testing.assert_allclose(model.score(all_users(np.zeros((1, 2))))[0], [0.5, 1.0])


def test_a_like_of_long_ago_still_counts_more_than_none():
    model = Popularity(PopularityConfig(half_life_days=1))
    model.fit(training(np.array([[1, 1, 0]]), days=np.array([[0, 9000, 0]])))
    assert model.score(all_users(np.zeros((1, 3))))[0, 0] > 0


def test_random_depends_on_seed_and_row_alone():
    liked = random_likes()
    model, other = Random(RandomConfig()), Random(RandomConfig())
    model.fit(training(liked))
    other.fit(training(liked, seed=6))
    scores = model.score(all_users(liked))
    assert len(np.unique(scores)) > 900
    assert not np.array_equal(scores, other.score(all_users(liked)))
    np.testing.assert_array_equal(model.score(Users(np.array([3]), sp.csr_array(liked[[8]])))[0], scores[3])


@pytest.mark.parametrize("users", [10, 40])  # fewer and more than contents
def test_ease_equals_its_formula(users):
    liked = random_likes(users=users)
    liked[0, :-2] = 1
    model = EASE(EASEConfig(regularization=20))
    model.fit(training(liked))
    known = liked[:, :-2].astype(np.float64)
    inverse = np.linalg.inv(known.T @ known + 20 * np.eye(23))
    weights = -inverse / np.diag(inverse)[None]
    np.fill_diagonal(weights, 0)
    np.testing.assert_allclose(model.score(all_users(liked))[:, :-2], known @ weights, atol=2e-6)


def test_ease_solves_its_regression():
    # each column is the ridge regression of a content on all others
    liked = random_likes()
    model = EASE(EASEConfig(regularization=3))
    model.fit(training(liked))
    others = np.setdiff1d(np.arange(23), [4])
    x, y = liked[:, others].astype(np.float64), liked[:, 4]
    expected = np.linalg.solve(x.T @ x + 3 * np.eye(22), x.T @ y)
    np.testing.assert_allclose(model.arrays()["weights"][others, 4], expected, atol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
def test_neighbours_without_bound_equal_a_product(similarity):
    liked = random_likes()
    model = ItemKNN(ItemKNNConfig(similarity=similarity, neighbours=100))
    model.fit(training(liked))
    users, count = liked[:, :-2].astype(np.float64), 23
    idf = np.log(count) - np.log1p(users.sum(axis=1))
    rows = users.T
    if similarity == "bm25":
        length = rows.sum(axis=1, keepdims=True)
        rows = rows * 2.2 / (1.2 * (0.25 + 0.75 * length / length.mean()) + rows) * idf
    else:
        rows = rows * idf if similarity == "tfidf" else rows
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike = rows @ rows.T
    np.fill_diagonal(alike, 0)
    np.testing.assert_allclose(model.score(all_users(liked))[:, :-2], users @ alike, rtol=1e-5, atol=1e-6)


def test_neighbours_are_as_many_as_said():
    model = ItemKNN(ItemKNNConfig(neighbours=4))
    model.fit(training(random_likes()))
    assert np.diff(model.arrays()["indptr"]).max() == 4


def test_somebody_who_liked_all_but_one_breaks_no_similarity():
    # implicit's weight of such a user is log(n) - log(n) = 0, and 0 / 0 as a cosine
    liked = np.array([[1, 1, 0], [1, 1, 0]])
    for similarity in ("tfidf", "bm25", "cosine"):
        model = ItemKNN(ItemKNNConfig(similarity=similarity))
        model.fit(training(np.pad(liked, ((0, 0), (0, 1)))))
        assert np.isfinite(model.score(all_users(np.ones((1, 4))))).all()


def ials(liked: np.ndarray, **settings) -> IALS:
    model = IALS(IALSConfig(**{"factors": 8, "regularization": 0.5, "alpha": 4.0, **settings}))
    model.fit(training(liked))
    return model


def test_folding_in_is_the_next_half_step_of_training():
    liked = tastes()
    model = ials(liked)
    reference = AlternatingLeastSquares(
        factors=8, regularization=0.5, alpha=4.0, iterations=15, random_state=SEED
    )
    reference.fit(sp.csr_matrix(liked), show_progress=False)
    np.testing.assert_array_equal(model.arrays()["vectors"], reference.item_factors)
    # the half step that would come next, solved exactly
    y = reference.item_factors.astype(np.float64)
    for user in (0, 50):
        weighted = y.T @ (y * (1 + 3 * liked[user])[:, None]) + 0.5 * np.eye(8)
        vector = np.linalg.solve(weighted, 4 * y.T @ liked[user])
        np.testing.assert_allclose(model.score(all_users(liked))[user], y @ vector, atol=1e-4)


def test_training_ends_where_folding_in_stands():
    # after many rounds the factors that training last gave a user are those that folding in gives
    liked = tastes()
    reference = AlternatingLeastSquares(
        factors=8, regularization=0.5, alpha=4.0, iterations=60, random_state=SEED
    )
    reference.fit(sp.csr_matrix(liked), show_progress=False)
    scores = ials(liked, iterations=60).score(all_users(liked))
    np.testing.assert_allclose(scores, reference.user_factors @ reference.item_factors.T, atol=2e-2)


def test_reasons_of_ials_add_up_to_the_score():
    liked = tastes()
    model = ials(liked)
    user = Users(np.array([-1]), sp.csr_array(liked[[9]]))
    scores = model.score(user)[0]
    unseen = np.flatnonzero(liked[9] == 0)
    for content_row in unseen[np.argsort(-scores[unseen])][:3]:
        reasons = model.reasons(user, int(content_row), 100)
        lowered = [
            scores[content_row] - model.score(without(user, [reason.content_row]))[0, content_row]
            for reason in (reasons[0], reasons[-1])
        ]
        assert sum(reason.contribution for reason in reasons) >= scores[content_row] - 1e-4
        assert lowered[0] > lowered[1]


def test_reasons_of_ease_are_weights_and_add_up():
    liked = random_likes()
    model = EASE(EASEConfig(regularization=20))
    model.fit(training(liked))
    user = Users(np.array([2]), sp.csr_array(liked[[2]]))
    weights = model.arrays()["weights"]
    content_row = int(np.flatnonzero(liked[2, :-2] == 0)[0])
    given = weights[np.flatnonzero(liked[2, :-2]), content_row]
    reasons = model.reasons(user, content_row, 100)
    assert [reason.contribution for reason in reasons] == sorted(given[given > 0].tolist(), reverse=True)
    assert given.sum() == pytest.approx(model.score(user)[0, content_row], abs=1e-6)


@pytest.mark.parametrize("name", ["ease", "item_knn", "ials", "hybrid"])
def test_what_is_named_matters_more_than_the_rest(name):
    settings = {
        "ease": {"regularization": 20.0},
        "item_knn": {},
        "ials": {"factors": 8, "regularization": 0.5},
        "hybrid": {"members": {"ease": {"weight": 1, "regularization": 20.0}, "item_knn": {"weight": 1}}},
    }[name]
    liked, draw = tastes(), np.random.default_rng(0)
    model = recommenders.build(name, settings)
    model.fit(training(liked))
    lowered, otherwise = [], []
    for row in range(20):
        user = Users(np.array([row]), sp.csr_array(liked[[row]]))
        scores = np.where(liked[row] > 0, -np.inf, model.score(user)[0])
        best = int(scores.argmax())
        named = [reason.content_row for reason in model.reasons(user, best, 3)]
        rest = np.setdiff1d(np.flatnonzero(liked[row]), named)
        if len(named) < 3 or len(rest) < 3:
            continue
        lowered.append(scores[best] - model.score(without(user, named))[0, best])
        for _ in range(5):
            other = draw.choice(rest, 3, replace=False)
            otherwise.append(scores[best] - model.score(without(user, other))[0, best])
    assert len(lowered) >= 10
    assert np.mean(lowered) > np.mean(otherwise)


@pytest.mark.parametrize("name", ["ease", "item_knn", "ials", "popularity", "hybrid"])
def test_nobody_liked_anything(name):
    model = recommenders.build(name)
    model.fit(training(np.zeros((3, 4))))
    user = Users(np.array([-1, 1]), sp.csr_array(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.float32)))
    assert np.isfinite(model.score(user)).all()
    assert model.reasons(user, 1) == []
    again = recommenders.build(name)
    again.restore(model.arrays(), None)
    np.testing.assert_array_equal(again.score(user), model.score(user))


@pytest.mark.parametrize("name", ["ease", "item_knn", "ials", "hybrid"])
def test_one_person_scores_to_the_bit_as_among_many(name):
    liked = tastes()
    model = recommenders.build(name)
    model.fit(training(liked))
    together = model.score(all_users(liked))
    for row in (0, 3, 77):
        history = sp.csr_array(liked[[row]])
        upside_down = sp.csr_array(
            (history.data[::-1].copy(), history.indices[::-1].copy(), history.indptr), shape=history.shape
        )
        for one in (history, upside_down):
            np.testing.assert_array_equal(model.score(Users(np.array([row]), one))[0], together[row])


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_hybrid_is_the_fusion_of_its_members(seed):
    liked = random_likes(users=12, contents=9, seed=seed)
    members = {"ease": {"weight": 2.0, "regularization": 5.0}, "popularity": {"weight": 0.5}}
    model = Hybrid(HybridConfig(members))
    model.fit(training(liked))
    own = [recommenders.build("ease", {"regularization": 5.0}), recommenders.build("popularity")]
    for member in own:
        member.fit(training(liked))
    scores = [member.score(all_users(liked)) for member in own]
    expected = 2.0 / (60 + ranks(scores[0])) + 0.5 / (60 + ranks(scores[1]))
    np.testing.assert_allclose(model.score(all_users(liked)), expected, rtol=1e-6)
    np.testing.assert_allclose(reciprocal_rank_fusion(scores, [2.0, 0.5]), expected)


def test_reasons_of_hybrid_add_up_to_its_score():
    liked = tastes()
    model = Hybrid(HybridConfig({"ease": {"weight": 1, "regularization": 20.0}, "item_knn": {"weight": 3}}))
    model.fit(training(liked))
    user = Users(np.array([4]), sp.csr_array(liked[[4]]))
    content_row = int(np.where(liked[4] > 0, -np.inf, model.score(user)[0]).argmax())
    given = sum(reason.contribution for reason in model.reasons(user, content_row, 100))
    assert given == pytest.approx(model.score(user)[0, content_row], rel=1e-5)


def test_hybrid_forgets_the_last_user_when_it_is_fitted_again():
    user = Users(np.array([0]), sp.csr_array(tastes()[[0]]))
    model = Hybrid(HybridConfig({"popularity": {"weight": 1}}))
    model.fit(training(tastes()))
    before = model.score(user)
    model.fit(training(tastes(seed=9)))
    assert not np.array_equal(model.score(user), before)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("ease", {"regularization": 0}, "regularization must be above 0, got 0"),
        ("item_knn", {"similarity": "jaccard"}, "cosine, bm25 or tfidf, got 'jaccard'"),
        ("item_knn", {"neighbours": 0}, "neighbours=0"),
        ("ials", {"factors": 0}, "factors >= 1"),
        ("popularity", {"half_life_days": -1}, "half_life_days must be above 0"),
        ("hybrid", {"members": {}}, "at least one member"),
        ("hybrid", {"members": {"ease": {}}}, "weight above 0, got None"),
        ("hybrid", {"members": {"hybrid": {"weight": 1}}}, "closed-form"),
    ],
)
def test_bad_settings_say_what_must_hold(name, settings, says):
    with pytest.raises(SettingError, match=says):
        recommenders.build(name, settings)


@pytest.mark.parametrize(("size", "block"), [(1, 4), (7, 3), (64, 16), (65, 16)])
def test_an_inverse_swept_by_blocks_is_the_inverse(size, block):
    draw = np.random.default_rng(size).random((size, 2 * size))
    matrix = (draw @ draw.T + np.eye(size)).astype(np.float32)
    found = _inverse_by_blocks(matrix.copy(), block)
    np.testing.assert_allclose(found, np.linalg.inv(matrix.astype(np.float64)), atol=2e-5)
    np.testing.assert_allclose(found, found.T, atol=2e-6)


def test_a_sweep_over_what_is_not_definite_says_so():
    with pytest.raises(np.linalg.LinAlgError, match="raise regularization"):
        _inverse_by_blocks(-np.eye(9, dtype=np.float32), 4)


def test_the_inverse_is_whole_beyond_one_block():
    draw = np.random.default_rng(0)
    half = draw.random((600, 1100)).astype(np.float32)
    matrix = np.asfortranarray(half.T @ half / 100 + 50 * np.eye(1100, dtype=np.float32))
    expected = np.linalg.inv(matrix.astype(np.float64))
    np.testing.assert_allclose(_inverse(matrix), expected, atol=2e-5)


def test_what_cannot_be_inverted_is_told():
    with pytest.raises(np.linalg.LinAlgError, match="raise regularization"):
        _inverse(np.asfortranarray(-np.eye(3, dtype=np.float32)))
