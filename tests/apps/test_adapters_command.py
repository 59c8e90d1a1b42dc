"""mg adapters tells, shows, moves and forgets; its benchmark weighs both sides on the same batch."""

import json

import numpy as np
import pytest

from configs.home import Home
from kg.feedback import FeedbackEvent, FeedbackLog, hashed_user
from models.adapter_bank import AdapterBank
from models.adapters import AdapterSpec

SPEC = AdapterSpec(width=4, outputs=3, rank=2, base="abc")
WORLD = ("--data", "world")
ANN = hashed_user("ann@example.org")


@pytest.fixture
def mg(mg_in, tmp_path):
    """``mg`` on a home whose bank holds two people, one of whom has feedback in the log."""
    records = SPEC.fresh(2)
    records["down"], records["up"], records["events"] = 1, [[[1]], [[2]]], [3, 4]
    with AdapterBank(Home(tmp_path).adapters("world") / "abc", SPEC, writable=True) as bank:
        bank.write(["user:world:1", ANN], records, applied=9)
    FeedbackLog(Home(tmp_path).feedback("world")).append(
        FeedbackEvent(ANN, "content:world:1", "like", "k", 0)
    )
    return mg_in(tmp_path)


def test_stats_as_table_and_json(mg):
    code, out, err = mg("adapters", "stats", *WORLD)
    assert code == 0 and "4 → 3, rank 2" in out and "damaged" not in out, err
    assert "users damaged" in mg("adapters", "stats", "--look", *WORLD)[1]
    told = json.loads(mg("adapters", "stats", *WORLD, "--json")[1])
    assert (told["users"], told["applied"], told["spec"]["base"], told["torn"]) == (2, 9, "abc", None)


def test_show_tells_one_or_the_first(mg):
    told = json.loads(mg("adapters", "show", *WORLD, "--json")[1])
    assert [(one["user_id"], one["events"]) for one in told] == [("user:world:1", 3), (ANN, 4)]
    # α / r = 1 and B A is 2 everywhere in (3, 4), then 4
    assert [one["norm"] for one in told] == pytest.approx([2 * np.sqrt(12), 4 * np.sqrt(12)])
    (one,) = json.loads(mg("adapters", "show", "ann@example.org", *WORLD, "--json")[1])
    assert one["user_id"] == ANN and "1 of 2 users" in mg("adapters", "show", "--n", "1", *WORLD)[1]
    code, _, err = mg("adapters", "show", "user:world:9", *WORLD)
    assert code == 2 and "holds nothing of user:world:9" in err


def test_a_user_is_moved_to_another_name(mg, tmp_path):
    out = tmp_path / "out"
    assert mg("adapters", "export", "user:world:1", "--out", out, *WORLD)[0] == 0
    assert {path.name for path in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert mg("adapters", "import", "user:world:5", out, *WORLD)[0] == 0
    (one,) = json.loads(mg("adapters", "show", "user:world:5", *WORLD, "--json")[1])
    assert (one["events"], one["number"]) == (3, 9)


def test_forget_takes_the_adapter_and_on_demand_the_feedback(mg, tmp_path):
    code, out, _ = mg("adapters", "forget", "ann@example.org", *WORLD)
    assert code == 0 and "in 1 bank(s)" in out and "a replay learns it again" in out
    told = json.loads(mg("adapters", "forget", "ann@example.org", "--feedback", *WORLD, "--json")[1])
    assert told == {"forgotten": ANN, "banks": 0, "events": 1}
    for path in (tmp_path / "graphs").rglob("*"):
        assert path.is_dir() or ANN.encode() not in path.read_bytes()
    told = json.loads(mg("adapters", "compact", *WORLD, "--json")[1])
    assert told["users"] == 1 and told["freed_bytes"] >= 0
    assert "1 user(s) kept" in mg("adapters", "compact", *WORLD)[1]


def test_no_bank_and_several_banks_are_said(mg, mg_in, tmp_path):
    with AdapterBank(Home(tmp_path).adapters("world") / "def", SPEC, writable=True):
        pass
    code, _, err = mg("adapters", "stats", *WORLD)
    assert code == 2 and "needs --bank: abc, def" in err
    assert mg("adapters", "stats", "--bank", "abc", *WORLD)[0] == 0
    code, _, err = mg("adapters", "stats", "--bank", "xyz", *WORLD)
    assert code == 2 and "no bank is called 'xyz'; there are: abc, def" in err
    code, _, err = mg_in(tmp_path / "new")("adapters", "stats", *WORLD)
    assert code == 2 and "nothing was learned yet" in err and not (tmp_path / "new").exists()
