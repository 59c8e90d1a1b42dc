"""LightGCN against dense algebra, its loss against a gradient by hand, and who is placed where."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.registry import SettingError
from models import lightgcn
from models.interface import Training, Users, recommenders
from models.lightgcn import LightGCN, LightGCNConfig, Smoothing, adjacency_of, smoothed, to_sparse
from models.negatives import Unliked

CPU = torch.device("cpu")


def likes(seed: int = 0, users: int = 9, contents: int = 12) -> sp.csr_array:
    """Random likes in which the last user and the last two contents have none."""
    dense = (np.random.default_rng(seed).random((users, contents)) < 0.4).astype(np.float32)
    dense[:, 0] = 1
    dense[-1], dense[:, -2:] = 0, 0
    return sp.csr_array(dense)


def training(positives: sp.csr_array, seed: int = 3) -> Training:
    return Training(None, positives, positives.astype(np.int64), np.ones(positives.shape[1], bool), seed)


def dense_adjacency(positives: np.ndarray) -> np.ndarray:
    users, contents = positives.shape
    whole = np.zeros((users + contents,) * 2)
    for user in range(users):
        for content in range(contents):
            if positives[user, content]:
                weight = 1 / np.sqrt(positives[user].sum() * positives[:, content].sum())
                whole[user, users + content] = whole[users + content, user] = weight
    return whole


def dense_smoothed(table: np.ndarray, adjacency: np.ndarray, layers: int) -> np.ndarray:
    found = [table]
    for _ in range(layers):
        found.append(adjacency @ found[-1])
    return np.mean(found, axis=0)


def ready(**settings: object) -> LightGCN:
    model = recommenders.build("lightgcn", {"width": 5, "batch": 8, "device": "cpu"} | settings)
    model.fit(training(likes()))
    return model


def test_adjacency_is_the_normalised_graph():
    positives = likes()
    np.testing.assert_allclose(
        adjacency_of(positives).toarray(), dense_adjacency(positives.toarray()), rtol=1e-6
    )


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_smoothing_equals_dense_algebra(layers):
    positives = likes(1)
    table = np.random.default_rng(2).normal(size=(21, 4)).astype(np.float32)
    found = smoothed(torch.from_numpy(table), to_sparse(adjacency_of(positives), CPU), layers)
    wanted = dense_smoothed(table.astype(np.float64), dense_adjacency(positives.toarray()), layers)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_gradient_of_smoothing_is_that_of_autograd():
    adjacency = adjacency_of(likes(4))
    dense = torch.from_numpy(adjacency.toarray())
    table = torch.randn(21, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(21, 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = table.clone().requires_grad_(), table.clone().requires_grad_()
    (Smoothing.apply(ours, to_sparse(adjacency, CPU), 3) * weight).sum().backward()
    total = theirs
    for _ in range(3):
        total = theirs + dense @ total
    (total / 4 * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_step_of_bpr_equals_the_formula():
    model = ready(layers=2, regularization=0.3)
    people = len(model._users)
    user, liked, drawn = torch.tensor([0, 1, 1, 3]), torch.tensor([0, 2, 0, 1]), torch.tensor([4, 5, 6, 4])
    loss = model._bpr(user, liked, drawn)
    loss.backward()
    table = model.module.weight.detach().numpy().astype(np.float64)
    adjacency = dense_adjacency(model._liked.toarray())
    vectors = dense_smoothed(table, adjacency, 2)
    nodes = user.numpy(), people + liked.numpy(), people + drawn.numpy()
    gap = (vectors[nodes[0]] * (vectors[nodes[1]] - vectors[nodes[2]])).sum(1)
    read = np.concatenate(nodes)
    wanted = np.log1p(np.exp(-gap)).mean() + 0.15 * np.square(table[read]).sum() / 4
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    # dL/dgap = -σ(-gap) / m, then back through the same smoothing
    slope = (-1 / (1 + np.exp(gap)) / 4)[:, None]
    gradient = np.zeros_like(table)
    np.add.at(gradient, nodes[0], slope * (vectors[nodes[1]] - vectors[nodes[2]]))
    np.add.at(gradient, nodes[1], slope * vectors[nodes[0]])
    np.add.at(gradient, nodes[2], -slope * vectors[nodes[0]])
    gradient = dense_smoothed(gradient, adjacency, 2)
    np.add.at(gradient, read, 0.3 * table[read] / 4)
    np.testing.assert_allclose(model.module.weight.grad.numpy(), gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_an_epoch_meets_every_positive_once_and_reaches_every_vector(loss, monkeypatch):
    model, seen = ready(loss=loss), []
    original = getattr(LightGCN, f"_{loss}")
    kept = lambda self, users, liked, last: (  # noqa: E731
        seen.extend(zip(users.tolist(), liked.tolist(), strict=True)) or original(self, users, liked, last)
    )
    monkeypatch.setattr(LightGCN, f"_{loss}", kept)
    for batch in model.steps(torch.Generator().manual_seed(0)):
        batch().backward()
    assert sorted(seen) == sorted(zip(*map(np.ndarray.tolist, model._liked.nonzero()), strict=True))
    assert (model.module.weight.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_frozen_scores_are_dot_products_of_smoothed_vectors(loss):
    model = ready(loss=loss)
    model.freeze()
    vectors = dense_smoothed(model.module.weight.detach().numpy(), dense_adjacency(model._liked.toarray()), 3)
    if loss == "softmax":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    users = Users(np.arange(8), likes()[:8])
    people = len(model._users)
    wanted = vectors[:people] @ vectors[people:].T
    np.testing.assert_allclose(model.score(users)[:, :10], wanted, rtol=1e-4, atol=1e-6)
    assert (model.score(users)[:, 10:].max(1) < model.score(users)[:, :10].min(1)).all()


def test_somebody_new_gets_the_vector_of_a_user_whose_own_is_zero():
    model = ready(layers=2)
    model.freeze()
    history = np.zeros((1, 12), np.float32)
    history[0, [0, 3]] = 1
    table = model.module.weight.detach().numpy().astype(np.float64)
    adjacency, people = dense_adjacency(model._liked.toarray()), len(model._users)
    inner = [table, adjacency @ table]
    counts = np.maximum(model._liked.toarray().sum(0), 1)
    wanted = sum(
        layer[people + content] / np.sqrt(2 * counts[content]) for layer in inner for content in (0, 3)
    )
    found = model.vectors(Users(np.array([-1]), sp.csr_array(history)))
    np.testing.assert_allclose(found[0], wanted / 3, rtol=1e-4, atol=1e-7)


def test_drawn_negatives_are_never_liked_and_even():
    positives = likes(5)[:8]
    unliked, generator = Unliked(positives), torch.Generator().manual_seed(0)
    users = torch.arange(8).repeat(2000)
    drawn = unliked.draw(users, generator)
    dense = positives.toarray()
    assert not dense[users.numpy(), drawn.numpy()].any()
    first = np.bincount(drawn[users == 0], minlength=12) / 2000
    np.testing.assert_allclose(first, (dense[0] == 0) / (dense[0] == 0).sum(), atol=0.05)


def test_a_user_who_likes_all_gets_any_negative():
    unliked = Unliked(sp.csr_array(np.ones((2, 3), np.float32)))
    assert unliked.draw(torch.tensor([0, 1]), torch.Generator()).max() < 3


def test_nobody_liked_anything():
    model = recommenders.build("lightgcn", {"device": "cpu"})
    model.fit(training(sp.csr_array((4, 5), dtype=np.float32)))
    assert list(model.steps(torch.Generator())) == []
    model.freeze()
    users = Users(np.array([0, -1]), sp.csr_array((2, 5), dtype=np.float32))
    assert np.isfinite(model.score(users)).all()


def test_a_smoothing_that_forgets_a_layer_is_caught(monkeypatch):
    monkeypatch.setattr(
        lightgcn, "smoothed", lambda table, adjacency, layers: smoothed(table, adjacency, layers - 1)
    )
    with pytest.raises(AssertionError):
        test_a_step_of_bpr_equals_the_formula()


@pytest.mark.parametrize("settings", [{"loss": "hinge"}, {"layers": 0}, {"temperature": 0}, {"width": 0}])
def test_settings_that_fit_nothing_are_refused(settings):
    with pytest.raises(SettingError, match="lightgcn"):
        LightGCNConfig(**settings)
