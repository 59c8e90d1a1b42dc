"""``mg adapt``: the champion learns what came since, and the gate decides."""

import json

import numpy as np
import pytest

from configs.home import Home
from experiments.run import run
from kg.arrays import from_records
from kg.worlds import WorldConfig, world
from models.store import ModelStore

SASREC = {
    "name": "sasrec",
    "width": 16,
    "blocks": 1,
    "heads": 2,
    "max_length": 10,
    "dropout": 0.0,
    "batch": 32,
}


@pytest.fixture
def mg(mg_in, tmp_path):
    made = world(WorldConfig(users=60, contents=50, duplicate_share=0.0))
    graph = from_records("world", made.nodes, made.hyperedges)
    times = graph.starts("RATED")
    before = graph.keep({"RATED": times <= int(np.quantile(times, 0.6))})
    home = Home(tmp_path)
    before.publish(home.arrays("world"))
    train = {"learning_rate": 0.01, "epochs": 1}
    first = run({"name": "sasrec", "model": SASREC, "train": train}, before, home)
    ModelStore(home.models).set_alias("world", "champion", first.version, "by hand")
    graph.publish(home.arrays("world"))
    call = mg_in(tmp_path, "world")
    return lambda *words: call("adapt", *words)


def test_the_gate_decides_and_too_little_is_refused(mg):
    code, out, err = mg("adapt/nightly.yaml", "epochs=1", "rank=4", "examples=5", "--json")
    told = json.loads(out)
    assert told["base"] == "sasrec/1" and told["newer_likes"] >= 50
    assert code == (0 if told["promotion"]["promoted"] else 1), err
    failed = {one["name"] for one in told["promotion"]["conditions"] if not one["passed"]}
    assert "evidence" in failed and "answers" not in failed  # 60 people are too few to tell
    code, out, err = mg("adapt/nightly.yaml", "least_likes=1000000")
    assert code == 1 and "lower least_likes" in err.replace("\n", " ") and "Traceback" not in err
    code, out, err = mg("adapt/nightly.yaml", "rank=99")
    assert code == 2 and "rank of 4 to 16" in err.replace("\n", " ")
