"""The made-up likes of the bench of models, its rows, and the command that repeats an experiment."""

import numpy as np
import pytest

from apps.bench import models as bench
from apps.commands.repeat import _over
from configs.registry import SettingError


def test_likes_are_as_many_as_said_and_follow_a_power_law():
    found = bench.likes(500, 300, 8_000)
    popularity = np.bincount(found.indices, minlength=300)
    assert found.shape == (500, 300) and (found.data == 1).all()
    assert 0.8 * 8_000 < found.nnz <= 8_300
    assert popularity.min() >= 1
    assert popularity[:30].sum() > 3 * popularity[-30:].sum()
    assert (found != bench.likes(500, 300, 8_000)).nnz == 0
    assert (found != bench.likes(500, 300, 8_000, seed=1)).nnz > 0


def test_every_model_has_a_row_and_ials_gives_the_factors_of_implicit(monkeypatch):
    monkeypatch.setattr(bench, "MIDDLE", (80, 50, 900))
    monkeypatch.setattr(bench, "LARGE", (90, 120, 900))
    told = []
    rows = bench.measure(2, True, told.append)
    assert [row.what for row in rows] == ["ials", "ease", "graph_filter", "polynomial_filter", "ease"]
    assert rows[0].note == "factors equal to the bit" and rows[0].ratio > 0
    assert all(row.seconds > 0 and row.peak_bytes > 0 for row in rows)
    assert len(told) == 5


def test_other_factors_are_noticed(monkeypatch):
    training = bench._training(bench.likes(80, 50, 900))
    planted = bench.IALSConfig(iterations=3)
    monkeypatch.setattr(bench, "IALS", lambda config: OtherSeed(config))

    class OtherSeed(bench.Recommender):
        def fit(self, training):
            self._vectors = np.zeros((50, planted.factors), np.float32)

        def score(self, users):
            return None

        def arrays(self):
            return {"vectors": self._vectors}

        def restore(self, arrays, graph):
            return None

    assert bench._beside_implicit(training, 1).note == "FACTORS DIFFER"


def test_what_a_repetition_goes_over_is_read():
    assert _over("seed=0,1,2") == ("seed", [0, 1, 2])
    assert _over("fold=0,1") == ("split.settings.fold", [0, 1])
    assert _over("model.similarity=cosine,bm25") == ("model.similarity", ["cosine", "bm25"])
    for wrong in ("seed", "seed="):
        with pytest.raises(SettingError, match="write seed=0,1,2"):
            _over(wrong)
