"""A search that is killed with SIGKILL, twice, at moments that a seed draws, loses nothing."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from configs.home import Home
from configs.registry import import_parts
from experiments.search import search
from experiments.studies import SearchResult, searches
from kg.worlds import WorldConfig, world

TRIALS, EPOCHS = 4, 4
BASE = {
    "name": "x",
    "model": {"name": "lightgcn", "width": 4, "layers": 1, "batch": 512},
    "train": {"learning_rate": 0.01, "epochs": EPOCHS, "patience": EPOCHS},
    "split": {"name": "last_fifth", "positive_rating": 8.0},
    "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
}
CONFIG = {
    "name": "killed",
    "base": BASE,
    "space": {
        "train.learning_rate": {"float": [1e-4, 1e-1], "scale": "log"},
        "model.width": {"choice": [4, 8]},
    },
    "trials": TRIALS,
    "sampler": "random",
    "workers": 0,
    "mlflow": False,
}


@pytest.fixture(scope="module")
def small(toy):
    import_parts("models")
    made = world(WorldConfig(users=60, contents=40, groups=4, ratings_per_user=15, seed=1))
    return toy.arrays(made.records, "world")


def sitting(graph, home, word):
    """A search in a process that kills itself at its ``word``-th word: an epoch or the end of a trial."""
    heard = []

    def listen(standing):
        heard.append(standing)
        if len(heard) == word:
            os.kill(os.getpid(), signal.SIGKILL)

    search(CONFIG, graph, home, listen)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_kills_lose_no_finished_trial_and_run_none_again(small, tmp_path, seed):
    whole = search(CONFIG, small, Home(tmp_path / "whole"))
    home, rng, before = Home(tmp_path / "killed"), np.random.default_rng(seed), ()
    words = []
    for _ in range(2):
        words.append(int(rng.integers(2, 2 * EPOCHS)))
        process = multiprocessing.get_context("fork").Process(target=sitting, args=(small, home, words[-1]))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        there = [one.trials for one in searches(home.searches("world"))]
        assert not there or there[0][: len(before)] == before, "a finished trial was lost or run again"
        before = there[0] if there else ()
    heard = []
    found = search(CONFIG, small, home, heard.append)
    assert found.trials[: len(before)] == before and len(found.trials) == TRIALS
    assert [one.settings for one in found.trials] == [one.settings for one in whole.trials]
    assert [one.values for one in found.trials] == [one.values for one in whole.trials]
    assert found.best == whole.best
    for one, other in zip(found.trials, whole.trials, strict=True):
        assert [epoch.loss for epoch in one.curve] == [epoch.loss for epoch in other.curve]
    resumed = [one for one in found.trials if one.from_epoch]
    assert resumed, f"no kill at words {words} fell into a training: draw others"
    assert SearchResult.load(found.folder) == found
