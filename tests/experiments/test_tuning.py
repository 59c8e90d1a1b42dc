"""Settings are chosen on validation alone, within one budget."""

from dataclasses import replace

import pytest

from configs.registry import SettingError
from experiments import tuning
from experiments.evaluation import value_of
from experiments.splits import SplitConfig, split
from experiments.tuning import BudgetConfig, fitted, lay_over, tune

EASE = {"name": "ease", "regularization": 500.0}
GRID = {"model.regularization": [1.0, 30.0, 300.0]}


@pytest.fixture(scope="module")
def cut(tasteful):
    return split(tasteful, SplitConfig())


def test_the_best_on_validation_is_chosen_and_all_trials_are_kept(cut):
    told = []
    found = tune(EASE, {}, GRID, cut, BudgetConfig(), told.append)
    assert [trial.settings["model.regularization"] for trial in found.trials] == [1.0, 30.0, 300.0]
    assert found.best.value == max(trial.value for trial in found.trials)
    assert found.model == {"name": "ease", **{"regularization": found.best.settings["model.regularization"]}}
    model, curve, epochs = fitted(found.model, {}, cut.fit, None)
    assert value_of(model, cut.validation, "ndcg@10") == found.best.value
    assert (curve, epochs) == ((), None)
    assert len(told) == 3 and found.points == 3 and found.cut == ""


def test_test_is_never_looked_at(cut):
    class Closed:
        def __getattr__(self, name):
            raise AssertionError(f"tuning asked test for {name}")

    blind = replace(cut, test=Closed())
    assert tune(EASE, {}, GRID, blind, BudgetConfig()).best == replace(
        tune(EASE, {}, GRID, cut, BudgetConfig()).best, seconds=pytest.approx(0, abs=60)
    )


def test_a_grid_above_the_budget_is_thinned_by_the_seed(cut):
    grid = {"model.similarity": ["cosine", "tfidf"], "model.neighbours": [5, 10, 20]}
    runs = [tune({"name": "item_knn"}, {}, grid, cut, BudgetConfig(trials=4)) for _ in range(2)]
    assert [[trial.settings for trial in run.trials] for run in runs][0] == [
        trial.settings for trial in runs[1].trials
    ]
    assert len(runs[0].trials) == 4 and runs[0].points == 6
    assert runs[0].cut.startswith("4 of 6 points of the grid were tried: the budget of 4 trials ended first")


def test_time_ends_it_after_the_first_trial(cut):
    told = []
    found = tune(EASE, {}, GRID, cut, BudgetConfig(seconds=1e-9), told.append)
    assert len(found.trials) == 1 and told[-1] == found.cut
    assert found.cut.startswith("1 of 3 points of the grid were tried: the budget of 1e-09 seconds ended")


def test_an_empty_grid_is_one_trial(cut):
    found = tune(EASE, {}, {}, cut, BudgetConfig())
    assert len(found.trials) == 1 and found.model == EASE


def test_the_first_of_equals_wins(cut, monkeypatch):
    monkeypatch.setattr(tuning, "value_of", lambda *_: 0.5)
    assert tune(EASE, {}, GRID, cut, BudgetConfig()).best.settings == {"model.regularization": 1.0}


def test_dotted_keys_reach_into_settings():
    model, train = lay_over(
        {"name": "a", "part": {"b": 1, "c": 2}}, {"epochs": 3}, {"model.part.b": 9, "train.epochs": 4}
    )
    assert (model, train) == ({"name": "a", "part": {"b": 9, "c": 2}}, {"epochs": 4})
    with pytest.raises(SettingError, match="leads through 'name', which is a value"):
        lay_over({"name": "a"}, {}, {"model.name.b": 1})
    with pytest.raises(SettingError, match="names the values to try as a list"):
        tuning._points({"model.a": 3})
