"""Adapters are chosen and measured on validation: planted sessions are found, of chance nothing is said."""

from dataclasses import replace

import numpy as np
import pytest

from configs.home import Home
from configs.registry import SettingError, fill
from experiments import adapter_fit
from experiments.adapter_fit import AdapterFitConfig, fit_adapters
from experiments.run import run
from experiments.stream import Stream
from kg.arrays import GraphArrays

SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
CONFIG = AdapterFitConfig(
    width=32,
    gap_s=(604_800.0,),
    spreads=(0.2, 1.6),
    measure={"metrics": ["ndcg@5"], "resamples": 100, "probes": 2},
    test={"resamples": 1000, "least_users": 40},
)


def ran(toy, tmp_path, follows: bool):
    """A run of popularity on 60 people; with ``follows`` everybody goes from each content to the next one."""
    rng = np.random.default_rng(2)
    rows = []
    for user in range(60):
        first = int(rng.integers(30))
        liked = (first + np.arange(15)) % 30 if follows else rng.permutation(30)[:15]
        rows += [(user, int(content), 9, 12_000 + day) for day, content in enumerate(liked)]
    graph, home = toy.graph(rows, 60, 30), Home(tmp_path)
    graph.publish(home.arrays("toy"))
    graph = GraphArrays.current(home.arrays("toy"))
    return run({"name": "popularity", "model": {"name": "popularity"}, "split": SPLIT}, graph, home), graph


def test_planted_sessions_are_shown_and_chance_is_not(toy, tmp_path):
    found = fit_adapters(*ran(toy, tmp_path / "planted", follows=True), CONFIG)
    shown = found.fitted.shown
    assert shown.is_better and shown.gain > 0.1 and shown.low > 0 and shown.tried == 2 and shown.users == 60
    assert found.settings.weight == pytest.approx(1.6 * found.spread)
    assert found.fitted.instant == CONFIG.tier() and found.fitted.head.content_count == 30
    none = fit_adapters(*ran(toy, tmp_path / "chance", follows=False), CONFIG).fitted.shown
    assert not none.is_better and none.p > 0.01


def test_too_few_people_show_nothing(toy, tmp_path):
    few = fill(AdapterFitConfig, {**vars(CONFIG), "test": {"resamples": 1000, "least_users": 61}})
    assert not fit_adapters(*ran(toy, tmp_path, follows=True), few).fitted.shown.is_better


def test_the_scale_of_the_scores_changes_the_weight_and_nothing_else(toy, tmp_path, monkeypatch):
    result, graph = ran(toy, tmp_path, follows=True)
    plain, made = fit_adapters(result, graph, CONFIG), adapter_fit._model_of

    class Louder:
        def __init__(self, model):
            self.model = model

        def score(self, users):
            return 1024 * self.model.score(users)

    monkeypatch.setattr(adapter_fit, "_model_of", lambda *asked: Louder(made(*asked)))
    louder = fit_adapters(result, graph, CONFIG)
    assert louder.spread == pytest.approx(1024 * plain.spread)
    assert louder.settings.weight == pytest.approx(1024 * plain.settings.weight)
    assert louder.fitted.shown == plain.fitted.shown


def test_what_test_holds_out_is_never_looked_at(toy, tmp_path, monkeypatch):
    result, graph = ran(toy, tmp_path, follows=True)
    streams, of = [], Stream.of

    def seen(part, config):
        streams.append(part)
        return of(part, config)

    monkeypatch.setattr(Stream, "of", seen)
    fit_adapters(result, graph, CONFIG)
    (part,) = streams
    held = result.version_training(graph).positives  # training and validation
    pairs = {(user, content) for user, content in zip(*held.nonzero(), strict=True)}
    assert set(zip(*part.held_out.nonzero(), strict=True)) <= pairs
    assert part.training.positives.nnz + part.held_out.nnz == held.nnz


def test_the_model_is_asked_once_for_all_settings(toy, tmp_path, monkeypatch):
    result, graph = ran(toy, tmp_path, follows=True)
    made, asked = adapter_fit._model_of, []

    class Counted:
        def __init__(self, model):
            self.model = model

        def score(self, users):
            asked.append(len(users.rows))
            return self.model.score(users)

    monkeypatch.setattr(adapter_fit, "_model_of", lambda *given: Counted(made(*given)))
    found = fit_adapters(result, graph, CONFIG)
    once = len(asked)
    monkeypatch.setattr(adapter_fit, "KEPT_BYTES", 0)
    again = fit_adapters(result, graph, CONFIG)
    assert len(asked) - once > 2 * once and again.fitted.shown == found.fitted.shown


def test_a_version_whose_base_may_know_validation_is_refused(toy, tmp_path):
    result, graph = ran(toy, tmp_path, follows=True)
    night = replace(result, model="adapted", settings={"version": "sasrec/1"})
    with pytest.raises(SettingError, match=r"adapted from sasrec/1.*mg run"):
        fit_adapters(night, graph, CONFIG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spreads": []}, "one each or more"),
        ({"gap_s": [0.0]}, "above 0"),
        ({"kind": "lineer"}, "head must be one of"),
        ({"width": 3}, "width of 16 or more"),
        ({"instant": {"step": -1}}, "above 0"),
        ({"test": {"levl": 1}}, "nearest: level"),
    ],
)
def test_a_wrong_setting_says_what_to_do(settings, said):
    with pytest.raises(SettingError, match=said):
        fill(AdapterFitConfig, settings)
