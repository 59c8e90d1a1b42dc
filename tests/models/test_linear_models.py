"""Models in closed form against naive dense formulas."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet

from configs.registry import SettingError
from models.graph_filter import (
    IdealFilter,
    IdealFilterConfig,
    PolynomialFilter,
    PolynomialFilterConfig,
    coefficients,
    low_axes,
)
from models.interface import Training, Users, recommenders
from models.item_item import EASE, EASEConfig, strongest
from models.random_walk import RP3beta, RP3betaConfig
from models.slim import SLIM, SLIMConfig

COLD = 2  # the last contents, which nobody likes


def likes(users: int = 40, contents: int = 25, share: float = 0.3, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    liked = rng.random((users, contents)) < share * rng.uniform(0.3, 1.7, contents)
    liked[np.arange(contents) % users, np.arange(contents)] = True
    liked[:, -COLD:] = False
    return liked.astype(np.float64)


def training(liked: np.ndarray, seed: int = 5) -> Training:
    positives = sp.csr_array(liked.astype(np.float32))
    return Training(None, positives, positives.astype(np.int64), np.ones(liked.shape[1], bool), seed)


def scored(model, liked: np.ndarray) -> np.ndarray:
    """(u, t) scores of the contents that somebody likes."""
    model.fit(training(liked))
    return model.score(Users(np.arange(len(liked)), sp.csr_array(liked)))[:, :-COLD]


def scaled(liked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R̃ and the degrees of contents."""
    users, contents = liked.sum(1), liked.sum(0)
    return liked / np.sqrt(np.maximum(users, 1))[:, None] / np.sqrt(contents), contents


def contributions_add_up(model, liked: np.ndarray) -> None:
    scores = model.score(Users(np.arange(len(liked)), sp.csr_array(liked)))
    for user in (0, 3):
        one = Users(np.array([user]), sp.csr_array(liked[[user]]))
        for content in range(0, liked.shape[1] - COLD, 3):
            total = model.contributions(one, content).sum()
            assert total == pytest.approx(scores[user, content], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("l1", "l2"), [(0.5, 2.0), (0.1, 5.0), (2.0, 0.5)])
def test_slim_equals_an_elastic_net_a_column(l1, l2):
    liked = likes()
    model = SLIM(SLIMConfig(l1=l1, l2=l2, candidates=100, sweeps=2_000, tolerance=1e-7))
    model.fit(training(liked))
    weights = model._weights.toarray()
    known = liked[:, :-COLD]
    for content in range(0, known.shape[1], 4):
        others = known.copy()
        others[:, content] = 0
        reference = ElasticNet(
            alpha=(l1 + l2) / len(known),
            l1_ratio=l1 / (l1 + l2),
            fit_intercept=False,
            positive=True,
            tol=1e-10,
            max_iter=20_000,
        ).fit(others, known[:, content])
        np.testing.assert_allclose(weights[:, content], reference.coef_, atol=2e-5)
    assert (weights >= 0).all() and not weights.diagonal().any()
    contributions_add_up(model, liked)


def test_slim_makes_a_content_up_of_its_candidates_alone():
    model = SLIM(SLIMConfig(l1=0.0, l2=1.0, candidates=3))
    liked = likes()
    model.fit(training(liked))
    weights, known = model._weights.toarray(), liked[:, :-COLD]
    cosine = known.T @ known / np.sqrt(np.outer(known.sum(0), known.sum(0)))
    np.fill_diagonal(cosine, -1)
    for content in range(known.shape[1]):
        used = np.flatnonzero(weights[:, content])
        assert len(used) <= 3
        assert (cosine[content, used] >= np.sort(cosine[content])[-3] - 1e-6).all()


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.6), (1.5, 1.0)])
def test_rp3beta_equals_powers_of_dense_transitions(alpha, beta):
    liked = likes()
    model = RP3beta(RP3betaConfig(alpha=alpha, beta=beta, neighbours=100))
    found = scored(model, liked)
    known = liked[:, :-COLD]
    forth = (known / np.maximum(known.sum(1, keepdims=True), 1)) ** alpha
    back = (known.T / known.sum(0)[:, None]) ** alpha
    walk = back @ forth / known.sum(0) ** beta
    np.fill_diagonal(walk, 0)
    np.testing.assert_allclose(found, known @ walk, rtol=1e-5)
    contributions_add_up(model, liked)


def test_rp3beta_keeps_the_best_neighbours():
    model = RP3beta(RP3betaConfig(neighbours=4))
    model.fit(training(likes()))
    assert np.diff(model._weights.indptr).max() == 4


@pytest.mark.parametrize(("users", "axes"), [(40, 5), (12, 5), (40, 500)])
def test_graph_filter_equals_a_dense_decomposition(users, axes):
    liked = likes(users=users)
    model = IdealFilter(IdealFilterConfig(alpha=0.7, axes=axes))
    found = scored(model, liked)
    known = liked[:, :-COLD]
    normed, degree = scaled(known)
    _, values, vectors = np.linalg.svd(normed)
    kept = vectors[: min(axes, len(values))].T
    ideal = (kept @ kept.T) * np.sqrt(degree) / np.sqrt(degree)[:, None]
    np.testing.assert_allclose(found, known @ (normed.T @ normed + 0.7 * ideal), atol=2e-4)
    contributions_add_up(model, liked)


@pytest.mark.parametrize("exact", [0, 2_000])
def test_graph_filter_keeps_the_axes_that_a_whole_decomposition_finds(monkeypatch, exact):
    monkeypatch.setattr("models.graph_filter._EXACT", exact)
    normed, _ = scaled(likes(users=300, contents=200, share=0.05)[:, :-COLD])
    likes_of = sp.csr_array(normed.astype(np.float32))
    axes = low_axes(likes_of, sp.csr_array(likes_of.T), 10, seed=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(10), atol=1e-5)
    values = np.linalg.svd(normed, compute_uv=False)[:10]
    np.testing.assert_allclose(np.linalg.norm(normed @ axes, axis=0), values, rtol=0.02)


@pytest.mark.parametrize(("order", "flatness", "beta"), [(1, 1.0, 0.0), (8, 2.0, 0.4), (5, 10.0, 0.5)])
def test_polynomial_filter_equals_its_polynomial_of_the_eigenvalues(order, flatness, beta):
    liked = likes()
    model = PolynomialFilter(PolynomialFilterConfig(order=order, flatness=flatness, beta=beta))
    found = scored(model, liked)
    known = liked[:, :-COLD]
    normed, degree = scaled(known)
    values, vectors = np.linalg.eigh(np.eye(known.shape[1]) - 2 * normed.T @ normed)
    passed = np.polynomial.chebyshev.chebval(values, coefficients(order, flatness))
    smooth = vectors * passed @ vectors.T
    np.testing.assert_allclose(found, known / degree**beta @ smooth * degree**beta, atol=1e-4)
    contributions_add_up(model, liked)


@given(order=st.integers(1, 12), flatness=st.floats(0.5, 20))
@settings(max_examples=25, deadline=None)
def test_coefficients_meet_the_plateau_at_every_node(order, flatness):
    nodes = np.cos((np.arange(order + 1) + 0.5) * np.pi / (order + 1))
    plateau = 0.5 - 0.5 * np.sign(nodes) * np.abs(nodes) ** flatness
    found = np.polynomial.chebyshev.chebval(nodes, coefficients(order, flatness))
    np.testing.assert_allclose(found, plateau, atol=1e-9)


@pytest.mark.parametrize("users", [8, 40])
def test_ease_keeps_the_weights_farthest_from_zero(users):
    liked = likes(users=users)
    whole, part = EASE(EASEConfig(regularization=3)), EASE(EASEConfig(regularization=3, kept=4))
    scored(whole, liked)
    scored(part, liked)
    all_weights, kept = whole.arrays()["weights"], part._weights.toarray()
    for content in range(all_weights.shape[1]):
        column = all_weights[:, content]
        there = np.flatnonzero(kept[:, content])
        assert len(there) == 4
        np.testing.assert_array_equal(kept[there, content], column[there])
        assert np.abs(column[there]).min() >= np.sort(np.abs(column))[-4]
    contributions_add_up(part, liked)


def test_ease_that_keeps_all_equals_ease():
    liked = likes()
    np.testing.assert_allclose(
        scored(EASE(EASEConfig(kept=1000)), liked), scored(EASE(EASEConfig()), liked), atol=1e-6
    )


@given(st.integers(0, 10_000), st.integers(1, 7), st.booleans())
@settings(max_examples=60, deadline=None)
def test_strongest_equals_a_sort(seed, kept, magnitude):
    block = np.random.default_rng(seed).integers(-3, 4, (4, 6)).astype(np.float32)
    found = strongest(block, kept, magnitude).toarray()
    for row, got in zip(block, found, strict=True):
        size = np.abs(row) if magnitude else np.maximum(row, 0)
        order = np.lexsort((np.arange(6), -size))[:kept]
        expected = np.zeros(6)
        expected[order] = np.where(size[order] > 0, row[order], 0)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("slim", {"l2": 0}, "l2 > 0"),
        ("slim", {"candidates": 0}, "candidates >= 1"),
        ("rp3beta", {"alpha": 0}, "alpha > 0"),
        ("graph_filter", {"axes": 0}, "axes >= 1"),
        ("graph_filter", {"alpha": -1.0}, "alpha >= 0"),
        ("polynomial_filter", {"order": 0}, "order >= 1"),
        ("ease", {"kept": 0}, "kept must be 1 or more"),
    ],
)
def test_a_wrong_setting_is_named(name, given, said):
    with pytest.raises(SettingError, match=said):
        recommenders.build(name, given)


@pytest.mark.parametrize("name", ["slim", "rp3beta", "graph_filter", "polynomial_filter"])
def test_one_like_alone_and_none_at_all_break_nothing(name):
    for liked in (np.eye(1, 4), np.zeros((2, 4)), np.eye(4), np.ones((3, 4))):
        model = recommenders.build(name, {})
        model.fit(training(liked))
        scores = model.score(Users(np.arange(len(liked)), sp.csr_array(liked.astype(np.float32))))
        assert scores.shape == liked.shape and np.isfinite(scores).all()
