"""``mg graph-gain`` from a file to a table, a sentence and a result on disk."""

import json

import pytest

from configs.home import Home
from kg.arrays import from_records
from kg.worlds import WorldConfig, world

EXPERIMENT = """
name: small
seed: 4
model: {name: hypergraph, width: 8, layers: 1, facts: [BELONGS_TO, AVAILABLE]}
train: {learning_rate: 0.03, epochs: 1, patience: 1, threads: 1}
measure: {metrics: [ndcg@10], list_metrics: [], resamples: 100}
"""


@pytest.fixture
def mg(mg_in, tmp_path):
    made = world(WorldConfig(users=40, contents=40, duplicate_share=0.0))
    from_records("world", made.nodes, made.hyperedges).publish(Home(tmp_path).arrays("world"))
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    call = mg_in(tmp_path, "world")
    return lambda *words: call("graph-gain", *words)


def test_a_table_a_sentence_and_a_result(mg, tmp_path):
    code, out, _ = mg(str(tmp_path / "small.yaml"), "--seeds", "2", "--json")
    told = json.loads(out)
    assert code == 0 and told["seeds"] == [4, 5] and len(told["variants"]) == 4
    assert (Home(tmp_path).runs("world") / told["gain_id"] / "graph_gain.json").is_file()
    code, out, _ = mg(str(tmp_path / "small.yaml"), "--seeds", "1", "model.width=4")
    assert code == 0
    for word in (
        "rewired",
        "Nothing is said of what the graph adds to hypergraph",
        "saved as graph-gain-small",
    ):
        assert word in out.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiments/ease.yaml"], "no graph can add to it"),
        (["experiments/nothing.yaml"], "give a path to a YAML file or one of"),
        (["experiments/knowledge.yaml", "--seeds", "0"], "Invalid value"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, says):
    code, out, err = mg(*words)
    assert code == 2 and says in out + err and "Traceback" not in out + err
