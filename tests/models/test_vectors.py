"""Scores out of frozen vectors, BPR among them: who keeps a vector, who is placed, what stands below all."""

import numpy as np
import pytest
import scipy.sparse as sp

from configs.registry import SettingError
from models.bpr import BPR, BPRConfig
from models.interface import Training, Users
from models.vectors import Vectors, device_of


class Fixed(Vectors):
    """Two users, the second unknown, and three contents of which the last has no vector."""

    def fit(self, training):
        users, contents = np.array([[3.0, 4.0], [9.0, 9.0]]), np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
        self._keep(users, contents, np.array([True, False]), is_scored=np.array([True, True, False]))


class Graph:
    def __init__(self, contents: int) -> None:
        self.contents = contents

    def size(self, type: str) -> int:
        return self.contents


def fixed() -> Fixed:
    model = Fixed(None)
    model.fit(None)
    return model


def history(*rows: tuple[int, ...]) -> sp.csr_array:
    dense = np.zeros((len(rows), 3), np.float32)
    for place, row in enumerate(rows):
        dense[place, list(row)] = 1
    return sp.csr_array(dense)


def test_known_users_keep_their_vector_and_others_are_placed_by_hand():
    users = Users(np.array([0, 1, -1, -1]), history((1,), (1,), (0, 1), ()))
    wanted = [[3, 4], [0, 5], [5 / np.sqrt(5), 10 / np.sqrt(5)], [3, 4]]
    np.testing.assert_allclose(fixed().vectors(users), wanted, rtol=1e-6)
    scores = fixed().score(users)
    np.testing.assert_allclose(scores[0, :2], [3, 8])
    assert (scores[:, 2] < scores[:, :2].min(1)).all()


def test_frozen_vectors_are_copies():
    mine = np.ones((1, 2), np.float32)
    model = Fixed(None)
    model._keep(mine, np.ones((3, 2), np.float32), np.array([True]))
    mine[:] = 7
    assert model.arrays()["user_vectors"].max() == 1


def test_asking_too_early_or_of_another_graph_is_refused():
    with pytest.raises(RuntimeError, match=r"freeze\(\) or restore\(\)"):
        Fixed(None).score(Users(np.array([0]), history(())))
    with pytest.raises(ValueError, match="must hold the 3 contents of training, got 4"):
        Fixed(None).restore(fixed().arrays(), Graph(4))


def test_device_is_found():
    assert device_of("cpu").type == "cpu" and device_of("auto").type in ("cpu", "cuda")
    with pytest.raises(RuntimeError, match="abacus"):
        device_of("abacus")


def bpr(seed: int = 1, **settings: object) -> tuple[BPR, sp.csr_array]:
    dense = np.zeros((30, 20), np.float32)
    drawn = np.random.default_rng(0).random(dense.shape) < 0.6
    dense[(np.arange(30)[:, None] % 2 == np.arange(20) % 2) & drawn] = 1
    dense[-1], dense[:, -1] = 0, 0
    positives = sp.csr_array(dense)
    model = BPR(BPRConfig(factors=8, **settings))
    model.fit(Training(None, positives, positives.astype(np.int64), np.ones(20, bool), seed))
    return model, positives


def test_bpr_learns_taste_and_bias_and_folds_in():
    model, positives = bpr()
    scores = model.score(Users(np.arange(30), positives))
    is_own = np.arange(30)[:29, None] % 2 == np.arange(19) % 2
    assert scores[:29, :19][is_own].mean() > scores[:29, :19][~is_own].mean() + 1
    new = np.zeros((3, 20), np.float32)
    new[0, [0, 2]], new[1, [1, 3]] = 1, 1
    found = model.score(Users(np.array([-1, 29, -1]), sp.csr_array(new)))
    assert (
        found[0, 4:18:2].mean() > found[0, 5:19:2].mean()
        and found[1, 5:19:2].mean() > found[1, 4:18:2].mean()
    )
    vectors = model.vectors(Users(np.array([-1, 29, -1]), sp.csr_array(new)))
    np.testing.assert_allclose(vectors[:, -1], 1, rtol=1e-6)  # each meets the bias once
    assert (found[:, 19] < found[:, :19].min(1)).all()


def test_bpr_repeats_for_a_seed():
    one, two, other = (bpr(seed, iterations=5)[0].arrays()["user_vectors"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_bpr_without_a_like_gives_scores():
    empty = sp.csr_array((3, 4), dtype=np.float32)
    model = BPR(BPRConfig())
    model.fit(Training(None, empty, empty.astype(np.int64), np.ones(4, bool)))
    assert np.isfinite(model.score(Users(np.arange(3), empty))).all()


def test_bpr_settings_are_checked():
    with pytest.raises(SettingError, match="bpr needs factors >= 1"):
        BPRConfig(learning_rate=0)
