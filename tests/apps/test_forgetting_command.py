"""``mg forgetting`` from a file to tables, sentences and a report on disk."""

import json

import pytest

from configs.home import Home
from experiments.report import kept_reports
from kg.arrays import from_records
from kg.worlds import WorldConfig, world

SMALL = """
name: small
windows: 2
model: {name: sasrec, width: 16, blocks: 1, heads: 2, max_length: 10, dropout: 0.0, batch: 32}
train: {learning_rate: 0.01, epochs: 1, threads: 1}
methods:
  fine-tuning: {way: tuned, epochs: 1}
  EWC++: {way: tuned, epochs: 1, strength: 10.0, examples: 5}
test: {resamples: 1000}
measure: {resamples: 100}
"""


@pytest.fixture
def mg(mg_in, tmp_path):
    made = world(WorldConfig(users=80, contents=50, duplicate_share=0.0))
    from_records("world", made.nodes, made.hyperedges).publish(Home(tmp_path).arrays("world"))
    (tmp_path / "small.yaml").write_text(SMALL)
    call = mg_in(tmp_path, "world")
    return lambda *words: call("forgetting", *words)


def test_tables_sentences_and_a_report(mg, tmp_path):
    code, out, err = mg(tmp_path / "small.yaml", "--out", tmp_path / "report")
    assert code == 0, err
    said = out.replace("\n", " ")
    assert "EWC++" in said and "on the newest" in said
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written >= {"forgetting.md", "forgetting.html", "forgetting.csv", "forgetting.svg"}
    (left,) = kept_reports("forgetting", "world", Home(tmp_path))
    assert left.name == "small" and left.table("forgetting").rows[0][0] == "fine-tuning"
    code, out, _ = mg(tmp_path / "small.yaml", "--json")
    assert code == 0 and json.loads(out)["forgetting"][0]["method"] == "fine-tuning"


def test_wrong_use_says_what_to_do(mg, tmp_path):
    for words, said in (
        (["forgetting/nothing.yaml"], "give a path to a YAML file or one of"),
        ([tmp_path / "small.yaml", "windows=1"], "windows of 2 or more"),
        (["experiments/ease.yaml"], "forgetting has no setting"),
    ):
        code, out, err = mg(*words)
        assert code == 2 and said in (out + err).replace("\n", " ") and "Traceback" not in out + err
