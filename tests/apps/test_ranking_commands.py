"""The commands that measure what stands between scores and a person."""

import json

import pytest

from configs.home import Home
from configs.registry import import_parts
from experiments.run import run
from kg.arrays import from_records
from kg.worlds import WorldConfig, world

CONFIG = {
    "name": "small",
    "model": {"name": "ease", "regularization": 20.0},
    "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with one run on a small world."""
    import_parts("models")
    made = world(WorldConfig(users=90, contents=70, groups=3, ratings_per_user=40, seed=2))
    graph = from_records("world", made.nodes, made.hyperedges)
    home = Home(tmp_path_factory.mktemp("home"))
    graph.publish(home.arrays("world"))
    run(CONFIG, graph, home)
    return home


@pytest.fixture
def mg(mg_in, home):
    return mg_in(home.root)


def test_steps_print_a_row_for_each(mg):
    code, out, err = mg("steps", "small", "--data", "world", "--candidates", "40")
    assert code == 0, err
    for name in ("none", "calibration", "diversity mmr", "caps", "all"):
        assert name in out
    assert "p to none" in " ".join(out.split())


def test_faithfulness_as_json(mg):
    code, out, err = mg("faithfulness", "small", "--data", "world", "--users", "20", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["model"] == "ease" and told["users"] + told["left_out"] == 20
    assert mg("faithfulness", "small", "--data", "world", "--users", "20")[0] == 0


def test_a_ladder_is_measured_and_kept(mg, home):
    code, out, err = mg("ladder", "small", "--data", "world", "--events", "0,2")
    assert code == 0, err
    assert "simulated" in out and "answered at 2" in out
    assert home.ladder("world", "small/1").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["steps", "nothing", "--data", "world"], 1, "no run 'nothing'"),
        (["ladder", "small", "--data", "world", "--events", "a,b"], 2, "numbers with commas"),
        (["ladder", "small", "--data", "world", "--events", "3,1"], 2, "ascend from 0"),
        (["ladder", "small", "--data", "world", "--events", "0,500"], 2, "ask fewer events"),
        (["faithfulness", "small", "--data", "world", "--users", "0"], 2, "users"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, code, says):
    came, out, err = mg(*words)
    assert came == code and says in err + out and "Traceback" not in err + out
