"""``mg identity``: the log shown, a merge undone and redone; ``mg bench identity`` says what is met."""

import json

import pytest
from typer.testing import CliRunner

from apps.bench.identity import measure_all
from apps.cli import app
from configs.home import Home
from kg.identity import Merge
from kg.identity_log import FILE, IdentityLog, UnknownMerge


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("MG_HOME", str(tmp_path))
    kept = IdentityLog(Home(tmp_path).imports("world") / FILE)
    kept.append([Merge("content:world:1", "content:worldtwin:1", "world:1", probability=0.9)])
    return kept


def run(*words):
    return CliRunner().invoke(app, ["identity", *words, "--data", "world"])


def test_a_merge_is_shown_undone_and_redone(log):
    (told,) = json.loads(run("log", "--json").stdout)
    assert told["merge"]["evidence"] == "world:1" and not told["is_undone"]
    assert "is set apart" in run("undo", told["key"]).stdout
    assert json.loads(run("log", "--json").stdout)[0]["is_undone"]
    assert "may be one again" in run("redo", "content:worldtwin:1").stdout
    assert log.apart() == {}


def test_what_the_log_does_not_know_is_refused(log):
    assert isinstance(run("undo", "nothing").exception, UnknownMerge)
    log.path.unlink()
    assert "run `mg ingest` first" in str(run("log").exception)


def test_the_bench_names_its_bars(tmp_path):
    rows = measure_all("world", Home(tmp_path), 80, 3, lambda step: None, 60)
    assert [row.what.rpartition(" ")[2] for row in rows] == ["written", "mistyped", "spoilt"]
    assert all(row.note.startswith("0 nodes with two strong ids") for row in rows)
