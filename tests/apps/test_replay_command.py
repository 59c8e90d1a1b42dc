"""``mg replay`` from a file to tables, sentences and a report on disk."""

import json

import pytest

from configs.home import Home
from experiments.report import kept_reports
from kg.arrays import from_records
from kg.worlds import WorldConfig, world

REPLAY = """
name: small
models: {ease: experiments/ease.yaml}
rows:
  frozen: {model: ease, loop: frozen}
  live: {model: ease, loop: live}
measure: {metrics: [ndcg@10], resamples: 100}
test: {resamples: 1000}
"""


@pytest.fixture
def mg(mg_in, tmp_path):
    made = world(WorldConfig(users=40, contents=40, duplicate_share=0.0))
    from_records("world", made.nodes, made.hyperedges).publish(Home(tmp_path).arrays("world"))
    (tmp_path / "small.yaml").write_text(REPLAY)
    call = mg_in(tmp_path, "world")
    return lambda *words: call("replay", *words)


def test_tables_sentences_and_a_report(mg, tmp_path):
    code, out, err = mg(tmp_path / "small.yaml", "name=mine", "--out", tmp_path / "report")
    assert code == 0, err
    for word in (
        "live minus frozen: ",
        "frozen",
        "every number in this report is about a made-up",
    ):
        assert word in out.replace("\n", " ")
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert written >= {"replay.md", "replay.html", "replay.csv", "replay.svg", "replay.json"}
    assert "name=mine --data world --out report" in (tmp_path / "report" / "replay.md").read_text()
    (tmp_path / "held.yaml").write_text(REPLAY + "part: validation\n")
    assert mg(tmp_path / "held.yaml", "--json")[0] == 0
    left = {one.name: one for one in kept_reports("replay", "world", Home(tmp_path))}
    assert set(left) == {"mine", "small validation"} and left["mine"].simulated
    assert left["mine"].table("replay").rows[1][0] == "live" and len(left["mine"].pictures) == 1
    code, out, _ = mg(tmp_path / "small.yaml", "--json")
    told, kept = json.loads(out), json.loads((tmp_path / "report" / "replay.json").read_text())
    assert code == 0 and told["rows"][1]["metrics"] == kept["rows"][1]["metrics"]


def test_wrong_use_says_what_to_do(mg, tmp_path):
    (tmp_path / "file").write_text("")
    for words, said in (
        (["replay/nothing.yaml"], "give a path to a YAML file or one of"),
        (["experiments/ease.yaml"], "replay has no setting 'model'"),
        ([tmp_path / "small.yaml", "part=train"], "has no key 'part' to override"),
        ([tmp_path / "small.yaml", "--out", tmp_path / "file"], "--out must be a folder"),
    ):
        code, out, err = mg(*words)
        assert code == 2 and said in (out + err).replace("\n", " ") and "Traceback" not in out + err
