"""A search finds, goes on, prunes, keeps its failures, and is read by Optuna and MLflow."""

import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import optuna
import psutil
import pytest
from filelock import FileLock
from ray.exceptions import NodeDiedError, WorkerCrashedError

from configs.home import Home
from configs.registry import import_parts
from experiments import search as searching
from experiments.result import RunResult
from experiments.search import fit_trial, search
from experiments.splits import SplitConfig, split
from experiments.studies import SearchError, SearchResult, SearchTrial, pareto_front, searches, values_file
from experiments.trials import Job, carry_out
from kg.worlds import WorldConfig, world
from models.interface import ModelFacts, Recommender, recommenders
from models.store import ModelStore

SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
MEASURE = {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100}
KNN = {"name": "x", "model": {"name": "item_knn"}, "split": SPLIT, "measure": MEASURE}
LIGHT = {
    "name": "x",
    "model": {"name": "lightgcn", "width": 4, "layers": 1, "batch": 512},
    "train": {"learning_rate": 0.01, "epochs": 4, "patience": 4},
    "split": SPLIT,
    "measure": MEASURE,
}
RATES = {"train.learning_rate": {"float": [1e-4, 1e-1], "scale": "log"}, "model.width": {"choice": [4, 8]}}
SPACE = {
    "model.neighbours": {"int": [1, 60], "scale": "log"},
    "model.similarity": {"choice": ["cosine", "tfidf"]},
}


def config(base=KNN, space=SPACE, **changes):
    plain = {"trials": 3, "sampler": "random", "workers": 0, "mlflow": False}
    return {"name": "searched", "base": base, "space": space, **plain, **changes}


@pytest.fixture(scope="module")
def small(toy):
    import_parts("models")
    made = world(WorldConfig(users=80, contents=50, groups=4, ratings_per_user=15, seed=1))
    return toy.arrays(made.records, "world")


@pytest.fixture
def faulty():
    """A model that fails in the way that its setting says; gone from the registry afterwards."""
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class FaultyConfig:
        how: str = "fine"

    @recommenders.register("faulty", FaultyConfig)
    class Faulty(Recommender):
        facts = ModelFacts(scores_cold_user=False, scores_cold_content=False, draws_on=(), is_personal=False)

        def fit(self, training):
            if self.config.how == "error":
                raise RuntimeError("a planted error\nof two lines")
            if self.config.how == "memory":
                np.ones(2**33)

        def score(self, users):
            bad = np.nan if self.config.how == "nan" else 0.0
            return np.full((len(users.rows), users.history.shape[1]), bad, np.float32)

        def arrays(self):
            return {"nothing": np.zeros(1)}

        def restore(self, arrays, graph):
            pass

    yield {"name": "x", "model": {"name": "faulty"}, "split": SPLIT, "measure": MEASURE}
    del recommenders._parts["faulty"]


def test_the_best_is_measured_once_and_stands_beside_other_runs(small, tmp_path):
    home, told = Home(tmp_path), []
    found = search(config(), small, home, told.append)
    assert [trial.number for trial in found.trials] == [0, 1, 2]
    best = found.trial(found.best[0])
    assert best.values[0] == max(trial.values[0] for trial in found.trials)
    run = RunResult.load(home.runs("world") / found.run_id)
    assert run.name == "searched" and run.search == found.folder.name and len(run.trials) == 3
    assert run.validation == best.values[0] and run.split_hash == found.split_hash
    assert run.settings["neighbours"] == best.settings["model.neighbours"]
    assert (
        ModelStore(home.models).load(run.version).metrics["ndcg@10"]["value"] == run.metrics["ndcg@10"].value
    )
    assert SearchResult.load(found.folder) == found and list(searches(home.searches("world"))) == [found]
    assert set(found.importances) == set(SPACE) and sum(found.importances.values()) == pytest.approx(1)
    assert [len(one.result.trials) for one in told] == [1, 2, 3] and told[-1].left_s == 0
    again = search(config(), small, home, told.append)
    assert again.run_id == found.run_id and again.trials == found.trials and len(told) == 3


def test_a_random_proposal_depends_on_seed_and_number_alone(small, tmp_path):
    whole = search(config(trials=5), small, Home(tmp_path / "whole"))
    search(config(trials=2), small, Home(tmp_path / "parts"))
    parts = search(config(trials=5), small, Home(tmp_path / "parts"))
    assert [one.settings for one in parts.trials] == [one.settings for one in whole.trials]
    assert [one.values for one in parts.trials] == [one.values for one in whole.trials]
    assert parts.best == whole.best
    other = search(config(trials=2, seed=1), small, Home(tmp_path / "parts"))
    assert [one.settings for one in other.trials] != [one.settings for one in whole.trials][:2]


GRID = {
    "model.similarity": {"choice": ["cosine", "tfidf", "bm25"]},
    "model.neighbours": {"choice": [5, 20]},
}


def test_a_grid_tries_every_point_once_and_goes_on_alike(small, tmp_path):
    told = {"space": GRID, "sampler": "grid", "trials": 100, "objective": {"ndcg@10": "max", "fit_s": "min"}}
    whole = search(config(**told), small, Home(tmp_path / "whole"))
    points = [tuple(one.settings.values()) for one in whole.trials]
    assert sorted(points) == sorted((a, b) for a in ("bm25", "cosine", "tfidf") for b in (5, 20))
    search(config(**told | {"trials": 2}), small, Home(tmp_path / "parts"))
    search(config(**told | {"trials": 3}), small, Home(tmp_path / "parts"))
    parts = search(config(**told), small, Home(tmp_path / "parts"))
    assert [one.settings for one in parts.trials] == [one.settings for one in whole.trials]
    assert [one.values[0] for one in parts.trials] == [one.values[0] for one in whole.trials]


def test_a_trial_keeps_the_metric_of_each_user_where_it_is_asked_to(small, tmp_path):
    told = config(space=GRID, sampler="grid", keeps_values=True, trials=2)
    found = search(told, small, Home(tmp_path))
    for trial in found.trials:
        values = np.load(values_file(found.folder, trial.number))
        assert np.nanmean(values) == trial.values[0]
    assert not any((found.folder / "values").glob(".*"))


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_that_learns_goes_on_with_the_study(small, tmp_path, sampler):
    whole = search(config(trials=12, sampler=sampler), small, Home(tmp_path / "whole"))
    search(config(trials=11, sampler=sampler), small, Home(tmp_path / "parts"))
    parts = search(config(trials=12, sampler=sampler), small, Home(tmp_path / "parts"))
    assert [one.settings for one in parts.trials] == [one.settings for one in whole.trials]


def test_failures_are_kept_with_their_reason_and_skipped(small, tmp_path, faulty):
    space = {"model.how": {"choice": ["error", "nan", "memory", "fine"]}}
    limit = {"memory_bytes": 256 * 2**20, "trials": 12}
    found = search(config(faulty, space, **limit), small, Home(tmp_path))
    said = {one.settings["model.how"]: one for one in found.trials}
    assert len(found.trials) == 12 and set(said) == {"error", "nan", "memory", "fine"}
    assert said["error"].error == "RuntimeError: a planted error"
    assert "finite scores" in said["nan"].error
    assert said["memory"].error.startswith("it wanted more than memory_bytes=268435456: MemoryError")
    assert said["fine"].state == "complete" and {one.state for one in found.trials} == {"complete", "failed"}
    only = {"model.how": {"choice": ["error"]}}
    with pytest.raises(
        SearchError, match="no trial of 2 .* came to an end; the first: RuntimeError: a planted"
    ):
        search(config(faulty, only, trials=2), small, Home(tmp_path))


def test_a_loss_that_is_no_number_is_a_failed_trial(small):
    part = split(small, SplitConfig()).validation
    job = Job(
        0,
        {**LIGHT["model"], "batch": 16},
        {**LIGHT["train"], "learning_rate": 1e30},
        {},
        ("ndcg@10",),
        "ndcg@10",
    )
    outcome = carry_out(job, part)
    assert outcome.state == "failed" and "loss" in outcome.error and outcome.values == ()


def test_trainings_that_promise_little_are_pruned(small, tmp_path):
    found = search(config(LIGHT, RATES, trials=8, pruner="asha"), small, Home(tmp_path))
    states = {one.state for one in found.trials}
    assert states == {"complete", "pruned"}
    assert all(len(one.curve) < 4 for one in found.trials if one.state == "pruned")
    assert found.trial(found.best[0]).state == "complete" and found.trial(found.best[0]).epochs >= 1
    assert not list((found.folder / "trials").glob("*/*"))


def test_several_objectives_give_a_front_and_each_of_it_can_be_fitted(small, tmp_path):
    objective = {"ndcg@10": "max", "size_bytes": "min", "recall@20": "max"}
    wanted, home = config(objective=objective, trials=5), Home(tmp_path)
    found = search(wanted, small, home)
    assert found.run_id is None and found.best and found.objectives == tuple(objective)
    run = fit_trial(wanted, small, home, found.best[-1])
    assert run.validation == found.trial(found.best[-1]).values[0]
    assert SearchResult.load(found.folder).run_id == run.run_id
    with pytest.raises(SearchError, match="has no finished trial 99"):
        fit_trial(wanted, small, home, 99)


def test_the_front_by_hand():
    points = [(1.0, 5.0), (2.0, 5.0), (2.0, 5.0), (0.5, 1.0), (3.0, 9.0), (2.5, 9.5)]
    trials = tuple(SearchTrial(n, {}, values, "complete", 0.0) for n, values in enumerate(points))
    assert pareto_front(trials, ("max", "min")) == (1, 2, 3, 4)
    assert pareto_front(
        tuple(SearchTrial(n, {}, (v,), "complete", 0.0) for n, v in enumerate([1, 3, 3])), ("max",)
    ) == (1,)
    assert pareto_front((SearchTrial(0, {}, (), "failed", 0.0),), ("max",)) == ()


def test_two_searches_on_one_folder_are_refused(small, tmp_path):
    home = Home(tmp_path)
    found = search(config(trials=1), small, home)
    with FileLock(found.folder / ".lock"):
        with pytest.raises(SearchError, match="is being run by another process in .*: wait for it"):
            search(config(trials=1), small, home)


def test_a_full_disk_is_told_and_nothing_is_lost(small, tmp_path, monkeypatch):
    home = Home(tmp_path)

    def full(*_, **__):
        raise optuna.exceptions.StorageInternalError("x") from OSError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", full)
        with pytest.raises(SearchError, match="database or disk is full: free space and run it again"):
            search(config(trials=2), small, home)
    found = search(config(trials=2), small, home)
    assert [one.state for one in found.trials] == ["complete"] * 2
    with pytest.raises(SearchError, match="needs a place that can be written"):
        found.save(found.folder / "nowhere")


def test_a_summary_cut_off_is_told_and_left_out(small, tmp_path):
    home = Home(tmp_path)
    found = search(config(trials=1), small, home)
    (found.folder / "search.json").write_text("{", encoding="utf-8")
    with pytest.raises(SearchError, match="must hold a search, it cannot be read"):
        SearchResult.load(found.folder)
    assert list(searches(home.searches("world"))) == []
    assert search(config(trials=1), small, home).trials == found.trials


def test_optuna_and_mlflow_read_it(small, tmp_path):
    from mlflow.tracking import MlflowClient

    found = search(config(LIGHT, RATES, trials=2, mlflow=True), small, Home(tmp_path))
    study = optuna.load_study(study_name="searched", storage=f"sqlite:///{found.folder / 'study.sqlite3'}")
    assert [trial.value for trial in study.trials] == [trial.values[0] for trial in found.trials]
    assert study.trials[0].intermediate_values == {one.number: one.value for one in found.trials[0].curve}
    client = MlflowClient(tracking_uri=f"sqlite:///{found.folder / 'mlflow.db'}")
    place = client.get_experiment_by_name("searched").experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([place])}
    assert set(runs) == {"trial 0", "trial 1"}
    assert runs["trial 1"].data.metrics["ndcg at 10"] == pytest.approx(found.trials[1].values[0])
    assert runs["trial 1"].data.params["model.width"] == str(found.trials[1].settings["model.width"])
    losses = client.get_metric_history(runs["trial 0"].info.run_id, "loss")
    assert [one.step for one in losses] == [one.number for one in found.trials[0].curve]


def two_nodes(**settings):
    """Ray on two nodes of this machine; a start that took too long is tried again."""
    from ray.cluster_utils import Cluster

    for left in reversed(range(searching.STARTS)):
        cluster = Cluster()
        try:
            with searching.minimal_ray():
                cluster.add_node(**settings)
                cluster.add_node(**settings)
            return cluster
        except Exception:  # as plain as Ray raises it
            cluster.shutdown()
            if not left:
                raise


def test_ray_spreads_trials_over_two_machines_and_survives_a_dead_worker(small, tmp_path):
    """A cluster of two local nodes; each trial needs a core of its own."""
    import ray

    quiet = {
        "include_dashboard": False,
        "include_log_monitor": False,
        "no_monitor": True,
        "object_store_memory": 100 * 2**20,
    }
    killed = []

    def strike(standing):
        """Ends the process of a trial under way, once."""
        if standing.running and not killed and len(standing.result.trials) >= 4:
            busy = [one for one in psutil.Process().children(recursive=True) if "_Worker" in one.name()]
            os.kill(busy[0].pid, signal.SIGKILL)
            killed.append(busy[0].pid)

    cluster = two_nodes(num_cpus=1, **quiet)
    try:
        wanted = config(LIGHT, RATES, trials=8, workers=2, memory_bytes=2**30)
        found = search(wanted, small, Home(tmp_path / "spread"), strike, cluster.address)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len({one.node for one in found.trials if one.node}) == 2
    failed = [one for one in found.trials if one.state == "failed"]
    assert killed and [one.error.startswith("its worker was ended") for one in failed] == [True]
    here = search(config(LIGHT, RATES, trials=8), small, Home(tmp_path / "here"))
    same = {one.number: one.values for one in here.trials}
    assert all(one.values == same[one.number] for one in found.complete) and len(found.complete) == 7


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NodeDiedError("its raylet is gone"), "Ray must live until all jobs are done"),
        (WorkerCrashedError(), None),
    ],
    ids=["Ray ended", "a worker ended"],
)
def test_the_end_of_ray_is_told_and_laid_to_no_job(small, tmp_path, monkeypatch, error, says):
    def get(ref):
        raise error

    remote = SimpleNamespace(remote=lambda *given: given[-3])
    monkeypatch.setattr(searching, "ray_for", lambda *given: nullcontext())
    monkeypatch.setattr(
        searching,
        "ray",
        SimpleNamespace(
            put=lambda shared: shared,
            remote=lambda **options: lambda task: remote,
            wait=lambda refs, num_returns: (refs[:1], refs[1:]),
            get=get,
        ),
    )
    jobs = searching.spread(
        abs, ["job"], None, SimpleNamespace(threads=1, memory_bytes=None, workers=2), small, tmp_path
    )
    if says is None:
        assert list(jobs) == [("job", error)]
    else:
        with pytest.raises(SearchError, match=says):
            list(jobs)
