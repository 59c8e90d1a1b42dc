"""An experiment over seeds and folds: what is pooled, what is tested, what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from configs.home import Home
from configs.registry import SettingError
from experiments import repeat as module
from experiments.evaluation import Interval
from experiments.repeat import Repeated, paired_repeated, repeat

CONFIG = {
    "name": "floor",
    "seed": 0,
    "split": {"name": "cold_contents", "settings": {"folds": 3, "fold": 0}, "positive_rating": 8.0},
    "model": {"name": "random"},
    "measure": {"metrics": ["ndcg@10", "recall@10"], "list_metrics": [], "resamples": 200},
}


def made(users, values, split="a", mean=None):
    """What a run would have left behind."""
    values = np.array(values, float)
    mean = np.nanmean(values) if mean is None else mean
    return SimpleNamespace(
        name="x",
        run_id="x-1",
        split_hash=split,
        config={"measure": {"resamples": 200}},
        users=np.array(users),
        values=lambda metric: values,
        metrics={"ndcg@10": Interval(float(mean), 0, 1, len(values))},
    )


def test_a_user_counts_once_by_the_mean_of_the_folds_that_ask_for_them():
    found = Repeated(
        "x", "fold", (0, 1), (made([1, 4, 6], [0.2, 1.0, np.nan]), made([4, 5], [0.0, 0.6], "b"))
    )
    users, values = found.pooled("ndcg@10")
    assert users.tolist() == [1, 4, 5]
    np.testing.assert_allclose(values, [0.2, 0.5, 0.6])
    interval = found.interval("ndcg@10")
    assert interval.value == pytest.approx(1.3 / 3) and interval.users == 3
    assert interval.low < interval.value < interval.high


def test_spread_is_of_the_runs_means():
    found = Repeated("x", "seed", (0, 1), (made([1], [0.2]), made([1], [0.4])))
    spread = found.spread("ndcg@10")
    assert (spread.mean, spread.count) == (pytest.approx(0.3), 2)
    assert spread.sd == pytest.approx(0.2 / np.sqrt(2))
    assert np.isnan(Repeated("x", "seed", (0,), found.runs[:1]).spread("ndcg@10").sd)


def test_a_clear_difference_is_found_and_none_is_not():
    draw = np.random.default_rng(0).random(60)
    first = Repeated("x", "fold", (0,), (made(range(60), draw + 0.1),))
    second = Repeated("y", "fold", (0,), (made(range(60), draw),))
    assert paired_repeated(first, second, "ndcg@10").p < 0.01
    assert paired_repeated(first, second, "ndcg@10").difference == pytest.approx(0.1)
    assert paired_repeated(first, first, "ndcg@10").p == 1


def test_other_splits_are_not_compared():
    first = Repeated("x", "fold", (0,), (made([1], [0.2]),))
    second = replace(first, runs=(made([1], [0.2], "b"),))
    with pytest.raises(SettingError, match="repeat both alike"):
        paired_repeated(first, second, "ndcg@10")


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("seed", [], "values that differ"),
        ("seed", [1, 1], "values that differ"),
        ("sed", [1], "no setting 'sed' to repeat over"),
        ("model.name.x", [1], "no setting 'model.name.x'"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(monkeypatch, key, values, said):
    monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it ran"))
    with pytest.raises(SettingError, match=said):
        repeat(CONFIG, None, None, key, values)


def test_folds_together_hold_out_everything_once(busy, tmp_path):
    told = []
    found = repeat(CONFIG, busy, Home(tmp_path), "split.settings.fold", [0, 1, 2], told.append)
    assert CONFIG["split"]["settings"]["fold"] == 0  # what was given is left alone
    assert len({one.split_hash for one in found.runs}) == 3
    assert any(line.startswith("split.settings.fold=2 (3/3)") for line in told)
    users, values = found.pooled("ndcg@10")
    for place, user in enumerate(users):
        own = [one.values("ndcg@10")[one.users == user] for one in found.runs]
        assert values[place] == pytest.approx(np.mean(np.concatenate(own)))
    assert found.summary()["metrics"]["recall@10"]["spread"]["count"] == 3
