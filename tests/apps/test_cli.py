"""The command line: wrong use and broken things end in a sentence and an exit code, never in a traceback."""

import json

import pytest

from apps import cli, demo
from configs.home import Home
from kg.downloads import OfflineError


@pytest.fixture
def mg(mg_in, tmp_path):
    return mg_in(tmp_path / "home")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "experiments/nothing.yaml"], 2, "give a path to a YAML file or one of"),
        (["run", "experiments/ease.yaml", "modell.name=x"], 2, "no key 'modell.name'"),
        (["run", "experiments/ease.yaml"], 1, "run `mg ingest` and `mg export` first"),
        (["ingest", "--data", "nowhere/at/all"], 1, "neither a name nor a folder"),
        (["export", "--as-of", "yesterday", "--data", "world"], 2, "a date is written YYYY-MM-DD"),
        (
            ["query", "where_to_watch", "content_id", "--data", "world"],
            2,
            "a parameter is written name=value",
        ),
        (["data", "get", "movielens-9k"], 2, "no data set is called"),
        (["promote", "nothing"], 1, "nothing"),
        (["compare"], 1, "mg run"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, code, says):
    came, out, err = mg(*words)
    assert came == code
    assert says in err + out
    assert "Traceback" not in err + out


def test_an_unknown_command_is_wrong_use(mg):
    assert mg("frobnicate")[0] == 2


def test_debug_shows_where(mg):
    with pytest.raises(FileNotFoundError):
        mg("--debug", "run", "nothing")
    cli.options.is_debug = False


def test_json_is_for_machines(mg):
    code, out, _ = mg("data", "list", "--json")
    assert code == 0
    assert json.loads(out)[0]["name"] == "movielens-100k"


def test_an_empty_home_has_no_models(mg):
    assert mg("models")[0] == 0


def test_doctor_says_what_is_missing(mg):
    code, out, _ = mg("doctor", "--json", "--data", "world")
    findings = {finding["what"]: finding for finding in json.loads(out)}
    assert code == 1
    assert not findings["graph world is exported"]["is_ok"]
    assert findings["torch 2.13.0"]["is_ok"]


@pytest.mark.parametrize(
    "command", ["demo", "ingest", "export", "query", "run", "compare", "promote", "serve"]
)
def test_help_has_an_example(mg, command):
    code, out, _ = mg(command, "--help")
    assert code == 0 and "mg " in out.replace("\n", " ")


def test_without_a_network_the_demo_goes_on_with_the_world(monkeypatch, tmp_path, capsys):
    opened = demo.open_dataset

    def offline(data, home):
        if data is None:
            raise OfflineError("no registry")
        return opened(data, home)

    monkeypatch.setattr(demo, "open_dataset", offline)
    dataset = demo._open(None, Home(tmp_path))
    assert dataset.name == "world" and dataset.is_simulated_availability
    assert "simulated" in capsys.readouterr().out
