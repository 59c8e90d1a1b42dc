"""Every mechanism on equal terms: killed and taken up alike, failures are rows, the table comes back."""

import threading

import numpy as np
import pytest
import torch

from configs.home import Home
from configs.registry import SettingError, UnknownName, import_parts
from experiments import mechanisms
from experiments.evaluation import EvaluationConfig, evaluate
from experiments.mechanism_report import document, texts, whole_table
from experiments.mechanism_runs import ChosenRate, Records
from experiments.mechanism_table import Cost, Row, Table, merged, slope
from experiments.mechanisms import (
    StudyConfig,
    bench_home,
    finished_study,
    note,
    parameters_of,
    per_user,
    qualities,
    rows,
    study,
    task_search,
)
from experiments.result import ResultError
from experiments.significance import TestConfig, holm
from experiments.splits import SplitConfig, split
from experiments.tuning import fitted, lay_over
from kg.worlds import WorldConfig, world
from models.attention import Attention, AttentionConfig, attentions

NAMES = ("gat", "mean", "multi_head")
MODEL = {"name": "sasrec", "width": 8, "blocks": 1, "heads": 2, "max_length": 10, "batch": 32, "dropout": 0.1}
BASE = {
    "name": "small",
    "model": MODEL | {"attention": {"name": "multi_head"}},
    "split": {"name": "last_fifth", "positive_rating": 8.0},
    "train": {"learning_rate": 0.01, "epochs": 2, "patience": 2, "metric": "ndcg@10"},
    "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
}
SEARCH = {
    "name": "attention_small",
    "base": BASE,
    "space": {mechanisms.NAME: {"choice": "every"}, mechanisms.RATE: {"choice": [0.003, 0.03]}},
    "objective": {"ndcg@10": "max", "fit_s": "min"},
    "trials": 1000,
    "sampler": "grid",
    "workers": 0,
    "mlflow": False,
    "keeps_values": True,
}
QUICK = TestConfig(resamples=1_000)


@pytest.fixture(scope="module")
def small(toy):
    import_parts("models")
    made = world(WorldConfig(users=80, contents=50, groups=4, ratings_per_user=15, seed=1))
    return toy.arrays(made.records, "world")


@pytest.fixture(scope="module")
def config():
    return StudyConfig(SEARCH, NAMES, seeds=(0, 1))


@pytest.fixture(scope="module")
def whole(small, config, tmp_path_factory):
    return study("history", config, small, Home(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def faulty():
    """A mechanism that fails as soon as it is asked; gone from the registry afterwards."""

    @attentions.register("faulty", AttentionConfig)
    class Faulty(Attention):
        family, nature, causal = "extra", "mechanism", True

        def forward(self, query, source, neighbours, pairs):
            raise RuntimeError("a planted error")

    yield "faulty"
    del attentions._parts["faulty"]


def told(found):
    """All of a study but its seconds."""
    values = {name: [run.values("ndcg@10").tolist() for run in runs] for name, runs in found.runs.items()}
    chosen = {name: (one.rate, one.validation, one.epochs, one.tried) for name, one in found.chosen.items()}
    return values, chosen


def quality(found):
    """What a table says of quality, but seconds."""
    return {
        name: (one.value, one.seed_values, one.sd, one.rate, one.to, one.error)
        for name, one in qualities(found, test=QUICK).items()
    }


class Killed(BaseException):
    """As a kill: nothing catches it."""


@pytest.mark.parametrize("moment", [1, 4, 7, 10])
def test_killed_and_taken_up_gives_the_same_table(small, config, whole, tmp_path, moment):
    said = []

    def kill(word):
        if threading.current_thread() is threading.main_thread():  # a trial's own thread gives it as a value
            said.append(word)
        if len(said) == moment:
            raise Killed

    with pytest.raises(Killed):
        study("history", config, small, Home(tmp_path), kill)
    found = study("history", config, small, Home(tmp_path))
    assert told(found) == told(whole) and quality(found) == quality(whole)
    again: list[str] = []
    study("history", config, small, Home(tmp_path), again.append)
    assert again == []  # nothing is left to do


def test_workers_give_the_same_table(small, config, whole, tmp_path):
    spread = StudyConfig({**SEARCH, "workers": 2}, NAMES, seeds=(0, 1))
    assert told(study("history", spread, small, Home(tmp_path))) == told(whole)


def test_a_value_is_that_of_one_plain_training(small, whole):
    one, run = whole.chosen["gat"], whole.runs["gat"][1]
    cut = split(small, SplitConfig(positive_rating=8.0))
    model, train = lay_over(BASE["model"], BASE["train"], {mechanisms.NAME: "gat", mechanisms.RATE: one.rate})
    training = cut.test.training
    made, _, _ = fitted(model, train, type(training)(**{**vars(training), "seed": 1}), None, one.epochs)
    report = evaluate(made, cut.test, EvaluationConfig(("ndcg@10",), (), resamples=100))
    np.testing.assert_array_equal(run.values("ndcg@10"), report.values["ndcg@10"])
    np.testing.assert_array_equal(run.users, cut.test.users)
    assert run.seed == 1 and run.parameters == parameters_of(made.module) > 0
    assert one.validation == max(one.tried.values()) == np.nanmean(one.values)
    assert len(one.values) == len(cut.validation.users)


def test_differences_are_paired_and_corrected_over_all_of_them(whole):
    found = qualities(whole, test=QUICK)
    pairs = [(name, other) for other in ("multi_head", "mean") for name in sorted(NAMES) if name != other]
    tests = [found[name].to[other] for name, other in pairs]
    assert [one.p for one in tests] == holm([one.paired.p for one in tests]) and len(tests) == 4
    gat = per_user(whole.runs["gat"], "ndcg@10")
    mean = per_user(whole.runs["mean"], "ndcg@10")
    assert found["gat"].to["mean"].paired.difference == pytest.approx(float((gat - mean).mean()))
    assert found["gat"].value.value == pytest.approx(gat.mean())
    assert found["gat"].sd == pytest.approx(np.std(found["gat"].seed_values, ddof=1))
    assert "multi_head" not in found["multi_head"].to and found["mean"].parameters == 0


def test_a_mechanism_that_fails_is_a_row_and_the_others_go_on(small, whole, tmp_path, faulty):
    config = StudyConfig(SEARCH, (*NAMES, faulty), seeds=(0, 1))
    found = study("history", config, small, Home(tmp_path))
    assert told(found)[0] == told(whole)[0] | {faulty: []}
    row = next(row for row in rows([found]) if row.name == faulty)
    assert "a planted error" in row.qualities["history"].error and row.qualities["history"].value is None
    alone = study("history", StudyConfig(SEARCH, (faulty,), seeds=(0,)), small, Home(tmp_path / "alone"))
    assert "a planted error" in qualities(alone)[faulty].error


def test_a_seed_that_fails_is_said(small, config, tmp_path, monkeypatch):
    def fail(given, job):
        if job[0].mechanism == "gat" and job[1] == 1:
            raise MemoryError("cannot allocate memory")
        return plain(given, job)

    plain = mechanisms.seed_run
    monkeypatch.setattr(mechanisms, "seed_run", fail)
    found = qualities(study("history", config, small, Home(tmp_path)), test=QUICK)
    assert "seed 1" in found["gat"].error and found["gat"].value is None
    assert found["mean"].value is not None and set(found["mean"].to) == {"multi_head"}


def test_a_new_mechanism_joins_and_again_forgets_one(small, config, whole, tmp_path):
    home = Home(tmp_path)
    study("history", StudyConfig(SEARCH, ("mean", "multi_head"), seeds=(0, 1)), small, home)
    said: list[str] = []
    found = study("history", config, small, home, said.append)
    assert quality(found) == quality(whole) and said[-1].startswith("seeds: 2 of 2 runs, gat")
    said.clear()
    found = study("history", StudyConfig(SEARCH, NAMES, (0, 1), again=("gat",)), small, home, said.append)
    assert quality(found) == quality(whole) and said[-1].startswith("seeds: 2 of 2 runs, gat")
    assert quality(finished_study("history", config, small, home)) == quality(whole)


def test_what_is_finished_is_read_without_training(small, config, tmp_path):
    found = finished_study("history", config, small, Home(tmp_path))
    assert found.chosen == {} and qualities(found) == {} and note(found).users == 0


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"seeds": ()}, SettingError, "needs seeds"),
        ({"mechanisms": ("multihead",)}, UnknownName, "multi_head"),
        ({"search": {**SEARCH, "space": {}}}, SettingError, "alone"),
    ],
)
def test_wrong_use_is_named(changes, error, said):
    with pytest.raises(error, match=said):
        StudyConfig(**{"search": SEARCH, **changes})


def test_the_files_of_both_tasks_make_a_study_and_can_be_shortened():
    for task in mechanisms.TASKS:
        short = StudyConfig(task_search(task)).shorter(2, [0.01], [0])
        assert short.search["base"]["train"]["epochs"] == 2 and short.seeds == (0,)
        assert short.search["space"][mechanisms.RATE] == {"choice": [0.01]}


def test_a_record_that_is_cut_off_is_named(tmp_path):
    records = Records(tmp_path)
    records.keep_chosen(ChosenRate("gat", rate=0.1, cut=(0.1,)), np.ones(3))
    assert records.chosen("gat").rate == 0.1 and records.chosen("gat").values.tolist() == [1, 1, 1]
    (tmp_path / "gat" / "rate.json").write_text('{"mecha')
    with pytest.raises(ResultError, match="run the bench again"):
        records.chosen("gat")


def test_slopes_on_known_numbers():
    assert slope([(1024, 2.0), (2048, 4.0), (16384, 32.0)]) == pytest.approx(1)
    assert slope([(1024, 2.0), (4096, 32.0)]) == pytest.approx(2)
    assert slope([(1024, 2.0)]) is None
    costs = (
        Cost(256, 9.0, 9.0, 1, 1, 3),  # below 1,024: not read
        Cost(1024, 1.0, 2.0, 1, 2**20, 3),
        Cost(4096, 1.0, 8.0, 1, 2**24, 3),
        Cost(8192, 3.0, ended="memory", stage="train"),
    )
    row = Row("x", "core", "mechanism", costs=costs)
    assert row.slope("train_s") == pytest.approx(1) and row.slope("train_bytes") == pytest.approx(2)
    assert row.slope("forward_s") == pytest.approx(0) and row.largest_k == 4096
    assert row.cost(8192).ended == "memory" and row.cost(5) is None


def made(found, costs=None, title="all"):
    return Table(
        title=title,
        graph="world",
        graph_hash="h",
        metric="ndcg@10",
        tasks={found.task: note(found)} if found else {},
        rows=rows([found] if found else [], costs),
        command="mg bench attention",
        code_revision="abc",
        machine={"system": "x", "cores": 2, "memory_bytes": 2**30, "python": "3.11"},
        made="2025-01-01T00:00:00+00:00",
    )


def test_a_table_comes_back_whole_and_joins_what_was_known(whole, tmp_path):
    costs = {"gat": (Cost(256, 0.1, 0.2, 10, 20, 3), Cost(1024, ended="memory", stage="forward"))}
    speed, history = made(None, costs), made(whole)
    table = merged(speed, history)
    assert Table.load(table.save(tmp_path)) == table == Table.load(tmp_path)
    assert [row.name for row in table.rows] == sorted(NAMES)
    assert table.row("gat").costs == costs["gat"] and "history" in table.row("gat").qualities
    assert merged(speed, made(whole, title="quick")) == speed  # another kind of run is not mixed in
    assert set(table.shortlist("history", best=1, cheapest=1)) >= {"multi_head", "mean"}
    with pytest.raises(ResultError, match="gat, mean, multi_head"):
        table.row("gatt")
    (tmp_path / "attention.json").write_text("{}")
    with pytest.raises(ResultError, match="mg bench attention"):
        Table.load(tmp_path)


def test_a_report_says_all_of_it(whole):
    costs = {name: (Cost(256, 0.1, 0.2, 10, 20, 3), Cost(1024, 0.4, 0.8, 40, 80, 3)) for name in NAMES}
    costs["gat"] = (costs["gat"][0], Cost(1024, ended="memory", stage="forward"))
    table = merged(made(None, costs), made(whole))
    report = document(table)
    assert {chart.name for chart in report.charts()} == {"attention_history", "attention_cost"}
    shown = whole_table(table)
    assert len(shown.rows) == 3 and all(len(row) == len(shown.columns) for row in shown.rows)
    told = report.markdown()
    assert "mg bench attention" in told and whole.split_hash in told and "memory" in told
    assert all("<svg" in chart.svg for chart in report.charts())
    titles = [title for title, _, _ in texts(table)]
    assert titles[0].endswith("history") and len(titles) == 2


def test_the_bench_crowds_no_leaderboard(small, whole):
    home = Home(whole.folder.parents[4])
    assert bench_home(home).searches("world").is_dir()
    assert not home.runs("world").exists() and not home.models.exists()


def test_parameters_of_nested_attention_count_once():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = attentions["multi_head"](AttentionConfig(dim=4))
            self.same = self.one

    assert parameters_of(Twice()) == 4 * 16
