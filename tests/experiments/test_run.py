"""One experiment from graph to result; runs side by side; the gate, passed and failed in every way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.home import Home
from configs.registry import SettingError
from experiments import run as running
from experiments.audit import LeakageError
from experiments.compare import CompareConfig, compare
from experiments.evaluation import rank
from experiments.promote import LOG, GateConfig, promote
from experiments.report import (
    comparison_lines,
    group_rows,
    leaderboard_figure,
    leaderboard_markdown,
    leaderboard_rows,
    learning_curve_figure,
    markdown,
)
from experiments.result import ResultError, RunResult, load_runs, runs
from experiments.run import run
from experiments.significance import TestConfig
from experiments.splits import SplitConfig, split
from experiments.training import Epoch
from models.store import ModelStore

SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
GATE = GateConfig(latency_ms=10_000, latency_calls=1, warm_up_calls=1)


def config(name, grid=None, **changes):
    return {"name": name, "model": {"name": name}, "split": SPLIT, "tune": grid or {}, **changes}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def results(tasteful, home):
    """Chance, the floor, neighbours and EASE, each run once."""
    grids = {"ease": {"model.regularization": [10.0, 100.0]}}
    return {
        name: run(config(name, grids.get(name)), tasteful, home)
        for name in ("random", "popularity", "item_knn", "ease")
    }


@pytest.fixture(scope="module")
def answer(tasteful, home):
    """What an endpoint says without filters: the saved model, restored, for one user at a time."""
    models, restored = ModelStore(home.models), {}

    def answered(version, user_id, n):
        if version not in restored:
            saved = models.load(version)
            restored[version] = (models.restore(saved, tasteful), saved.training())
        model, training = restored[version]
        rows = rank(model, training, np.array([tasteful.row_of(user_id)]), n)[0]
        return [tasteful.id_of("Content", row) for row in rows if row >= 0]

    return answered


@pytest.fixture
def fresh(home):
    """A ModelStore without aliases or log, over the same versions."""
    models = ModelStore(home.models)
    yield models
    for path in [*(home.models / "aliases").rglob("*.json"), home.models / LOG]:
        path.unlink(missing_ok=True)


def test_a_result_names_all_that_it_depends_on(results, tasteful, home):
    found = results["ease"]
    assert (found.graph, found.graph_hash) == ("world", tasteful.hash)
    assert found.split_hash == split(tasteful, SplitConfig()).hash
    assert found.settings["regularization"] in (10.0, 100.0) and len(found.trials) == 2
    assert found.validation == max(trial.value for trial in found.trials)
    assert found.metrics["ndcg@10"].value == pytest.approx(found.values("ndcg@10").mean())
    assert found.test_users == len(found.users) == found.metrics["ndcg@10"].users
    assert len(found.audit) == 13 and found.warm_users >= 200
    assert set(found.stages) == {"split", "tune", "fit", "measure", "save"}
    assert found.code_revision != "unknown" and found.machine["cores"] and found.peak_bytes > 2**20
    assert found.size_bytes > 0 and found.seconds >= sum(found.stages.values())
    assert found.config == config("ease", {"model.regularization": [10.0, 100.0]})


def test_the_version_carries_the_numbers_and_what_it_was_fitted_on(results, tasteful, home):
    found = results["ease"]
    version = ModelStore(home.models).load(found.version)
    full = split(tasteful, SplitConfig()).full
    assert (abs(version.training().positives - full.positives)).nnz == 0
    assert version.metrics["ndcg@10"]["value"] == found.metrics["ndcg@10"].value
    assert version.manifest["split_hash"] == found.split_hash
    assert version.manifest["licence"].startswith("generated here")
    assert (abs(found.version_training(tasteful).positives - full.positives)).nnz == 0


def test_a_result_comes_back_as_it_was(results):
    for found in results.values():
        again = RunResult.load(found.folder)
        assert again.summary() == found.summary() and again.trials == tuple(found.trials)
        np.testing.assert_array_equal(again.values("map@10"), found.values("map@10"))
        assert again.sample() == found.sample()


def test_the_same_config_gives_the_same_numbers(results, tasteful, tmp_path):
    again = run(results["item_knn"].config, tasteful, Home(tmp_path))
    np.testing.assert_array_equal(again.values("ndcg@10"), results["item_knn"].values("ndcg@10"))
    assert again.metrics == results["item_knn"].metrics and again.split_hash == results["item_knn"].split_hash
    other = run({**config("random"), "seed": 1}, tasteful, Home(tmp_path))
    assert other.split_hash == again.split_hash
    assert not np.array_equal(other.values("ndcg@10"), results["random"].values("ndcg@10"))


def test_planted_tastes_are_found(results):
    values = {name: found.metrics["ndcg@10"].value for name, found in results.items()}
    # everybody has seen what is popular in the own circle: here the floor lies below chance
    assert max(values["random"], values["popularity"]) < min(values["ease"], values["item_knn"]) / 2


def test_a_leak_stops_the_run_before_anything_is_saved(tasteful, tmp_path, monkeypatch):
    def leaking(graph, settings):
        cut = split(graph, settings)
        whole = replace(cut.full, graph=graph)
        return replace(cut, test=replace(cut.test, training=whole))

    monkeypatch.setattr(running, "split", leaking)
    with pytest.raises(LeakageError):
        run(config("popularity"), tasteful, Home(tmp_path))
    assert not list(tmp_path.iterdir())


def test_runs_are_found_by_id_and_by_latest(results, tasteful, home, tmp_path):
    found = load_runs(home.runs("world"))
    assert {one.name for one in found} == set(results)
    assert load_runs(home.runs("world"), [results["ease"].run_id])[0].name == "ease"
    with pytest.raises(ResultError, match="no run 'ease-9' under .*; there are: ease-"):
        load_runs(home.runs("world"), ["ease-9"])
    with pytest.raises(ResultError, match="no run '../runs'"):
        load_runs(home.runs("world"), ["../runs"])
    with pytest.raises(ResultError, match="run an experiment first"):
        load_runs(tmp_path)


def test_a_result_cut_off_is_told_and_left_out(results, tmp_path):
    found = results["popularity"]
    folder = tmp_path / found.run_id
    folder.mkdir()
    text = (found.folder / "result.json").read_text(encoding="utf-8")
    (folder / "result.json").write_text(text[:500], encoding="utf-8")
    with pytest.raises(ResultError, match="must hold a run, it cannot be read"):
        RunResult.load(folder)
    assert list(runs(tmp_path)) == []
    (folder / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(ResultError, match="must hold the values per user"):
        RunResult.load(folder).values("ndcg@10")
    with pytest.raises(ResultError, match="did not measure 'ndcg@3'; it has ndcg@10"):
        found.values("ndcg@3")


# compare


def test_the_leaderboard_is_in_order_and_luck_is_called_luck(results):
    board = compare(list(results.values()))
    values = [row.value.value for row in board.rows]
    assert values == sorted(values, reverse=True) and [row.place for row in board.rows] == [1, 2, 3, 4]
    best = board.rows[0].name
    assert board.between(best, "random").is_better and board.between(best, "popularity").is_better
    assert all(one.p >= one.paired.p for one in board.differences)
    pairs = {frozenset((one.first, one.second)) for one in board.differences}
    assert len(pairs) == len(board.differences) == 6 - (best == "ease")
    assert board.yardstick == "ease" and 0 < board.detectable_share < 1
    twin = replace(results["ease"], name="twin")
    tied = compare([results["ease"], twin]).differences[0]
    assert tied.p == 1 and not tied.is_better


def test_with_few_warm_users_nothing_is_better(results):
    few = [replace(one, warm_users=199) for one in results.values()]
    board = compare(few)
    assert not any(one.is_better for one in board.differences)
    assert "nothing is called better" in " ".join(comparison_lines(board))
    small = CompareConfig(test=TestConfig(least_users=10))
    assert any(one.is_better for one in compare(few, small).differences)


def test_a_model_that_tells_nothing_apart_is_named(results):
    assert all(one.flat_users == 0 for one in results.values())
    flat = replace(results["random"], flat_users=results["random"].test_users)
    board = compare([results["ease"], flat])
    assert board.flat == ("random",)
    assert "random scores all contents alike for everybody" in " ".join(comparison_lines(board))


def test_runs_of_several_splits_are_refused(results):
    other = replace(results["ease"], split_hash="f" * 32)
    with pytest.raises(SettingError, match="only runs on one split can be compared, got 2 .* ffffffff"):
        compare([results["random"], other])
    with pytest.raises(SettingError, match="at least one run"):
        compare([])
    with pytest.raises(SettingError, match="got ease more than once"):
        compare([results["ease"], results["ease"]])


# report


def test_tables_and_figures(results):
    board = compare(list(results.values()))
    columns, rows = leaderboard_rows(board)
    assert len(rows) == 4 and all(len(row) == len(columns) for row in rows)
    assert leaderboard_markdown(board) == markdown(columns, rows)
    assert markdown(columns, rows).count("\n") == 5
    lines = " ".join(comparison_lines(board))
    assert "is better than random" in lines and "smallest gain over ease" in lines
    assert len(leaderboard_figure(board).axes) == 1
    groups, cells = group_rows(list(results.values()))
    people = ("cold users", "warm users", "head contents", "tail contents", "cold contents")
    assert groups[1:6] == people and len(cells) == 4
    assert sum(name.startswith("region ") for name in groups) == 12  # the generated world has more
    with pytest.raises(ValueError, match="closed form and has no learning curve"):
        learning_curve_figure(results["ease"])
    curve = (Epoch(1, 2.0, 0.1, 1.0), Epoch(2, 1.5, 0.2, 1.0))
    assert len(learning_curve_figure(replace(results["ease"], curve=curve)).axes) == 2


# promote


def failed(promotion):
    return [condition.name for condition in promotion.conditions if not condition.passed]


def test_the_first_champion_beats_the_floor_and_the_log_says_so(results, answer, fresh):
    found = promote(results["ease"], "champion", answer, fresh, GATE)
    assert found.promoted and not failed(found) and len(found.conditions) == 8
    assert "nothing holds the alias yet" in found.conditions[0].must
    assert fresh.alias("world", "champion").ref == found.version == results["ease"].version
    entry = json.loads((fresh.root / LOG).read_text().splitlines()[-1])
    assert entry["promoted"] and entry["version"] == found.version and len(entry["conditions"]) == 8


def test_promoting_the_holder_again_changes_nothing_and_says_so(results, answer, fresh):
    promote(results["ease"], "champion", answer, fresh, GATE)
    moves = fresh.history("world", "champion")
    found = promote(results["ease"], "champion", answer, fresh, GATE)
    assert found.is_holder and not found.promoted and "nothing was changed" in found.reason
    assert fresh.history("world", "champion") == moves
    assert len((fresh.root / LOG).read_text().splitlines()) == 2


def test_what_is_not_better_than_the_holder_stays_out(results, answer, fresh):
    promote(results["ease"], "champion", answer, fresh, GATE)
    found = promote(results["popularity"], "champion", answer, fresh, GATE)
    assert failed(found)[0] == "quality" and set(failed(found)) <= {"quality", "groups"}
    assert f"better than {results['ease'].version}" in found.conditions[0].must
    assert found.previous == results["ease"].version and "quality must be" in found.reason
    assert fresh.alias("world", "champion").ref == results["ease"].version


def test_the_floor_itself_is_not_better_than_the_floor(results, answer, fresh):
    found = promote(results["popularity"], "champion", answer, fresh, GATE)
    assert failed(found) == ["quality"] and fresh.alias("world", "champion") is None


def test_after_data_changed_the_floor_is_the_bar(results, answer, fresh):
    fresh.set_alias("world", "champion", results["ease"].version, "by hand")
    moved = replace(results["item_knn"], split_hash="0" * 32)
    found = promote(moved, "champion", answer, fresh, GATE)
    assert found.promoted and "was measured on another split" in found.conditions[0].must


def test_a_holder_whose_run_is_gone_leaves_the_floor(results, answer, fresh, tmp_path):
    fresh.set_alias("world", "champion", results["ease"].version, "by hand")
    alone = tmp_path / "runs" / results["item_knn"].run_id
    alone.mkdir(parents=True)
    for path in results["item_knn"].folder.iterdir():
        (alone / path.name).write_bytes(path.read_bytes())
    found = promote(RunResult.load(alone), "champion", answer, fresh, GATE)
    assert "left no values per user" in found.conditions[0].must


@pytest.mark.parametrize(
    ("gate", "name"),
    [
        (replace(GATE, latency_ms=1e-6), "latency"),
        (replace(GATE, size_bytes=100), "size"),
        (replace(GATE, test=TestConfig(least_users=10_000)), "evidence"),
    ],
)
def test_a_bound_that_is_broken_is_named(results, answer, fresh, gate, name):
    found = promote(results["ease"], "champion", answer, fresh, gate)
    assert failed(found) == [name] and not found.promoted and name in found.reason
    assert fresh.alias("world", "champion") is None


def test_an_answer_in_another_order_is_found(results, answer, fresh):
    odd = list(results["ease"].sample())[3]

    def swapped(version, user_id, n):
        said = answer(version, user_id, n)
        return [said[1], said[0], *said[2:]] if user_id == odd else said

    found = promote(results["ease"], "champion", swapped, fresh, GATE)
    assert failed(found) == ["answers"]
    came = next(condition.came for condition in found.conditions if condition.name == "answers")
    assert came.startswith(f"1 differ, {odd} at rank 1: ")


def test_a_short_answer_is_found(results, answer, fresh):
    found = promote(results["ease"], "champion", lambda *asked: answer(*asked)[:-1], fresh, GATE)
    assert failed(found) == ["answers"] and "contents offline" in found.reason


def test_a_result_without_audit_stays_out(results, answer, fresh):
    bare = replace(results["ease"], audit={})
    assert failed(promote(bare, "champion", answer, fresh, GATE)) == ["leakage"]


def test_a_card_without_licence_stays_out(results, tasteful, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "licence_of", lambda graph: "unknown")
    home = Home(tmp_path)
    found = run(config("item_knn"), tasteful, home)
    sample = found.sample()
    promotion = promote(found, "champion", lambda _, user, n: sample[user][:n], ModelStore(home.models), GATE)
    assert failed(promotion) == ["model card"] and "without licence of the data" in promotion.reason


def test_gate_settings_are_checked():
    with pytest.raises(SettingError, match="n in 1..20"):
        GateConfig(n=21)


def test_nothing_is_left_aside(results, home):
    assert not [path for path in Path(home.runs("world")).iterdir() if path.name.startswith(".")]
