"""The bench of the hypergraph: figures from known times, bars, refusals; its steps on a tiny world."""

import json

import pytest

from apps.bench import kg, kg_steps
from apps.bench.kg import Plan, Row, measure
from configs.registry import SettingError

TIMES = {"post": 2.0, "first": 4.0, "again": 1.0}


@pytest.fixture
def steps(monkeypatch):
    """Steps whose times are known; growth costs one second a thousand facts."""
    said = []

    def step(name, settings):
        said.append((name, settings))
        if name == "fetch":
            return {"ours_s": 3.0, "bare_s": 2.0, "open_s": 0.1, "rows": 10, "peak_bytes": 2**20}
        if name == "post":
            return {"seconds": TIMES["post"], "rows": 1_000}
        if name == "unwind":
            return {"seconds": 5.0 if settings["side"] == "ours" else 4.0, "rows": 1_000}
        facts = settings["world"]["ratings"] if "world" in settings else 900
        is_again = "data" in settings and settings["folder"] in [
            one["folder"] for what, one in said[:-1] if what == "load" and "data" in one
        ]
        seconds = facts / 1_000 if "world" in settings else TIMES["again" if is_again else "first"]
        return {
            "seconds": seconds,
            "cpu_s": 1.0,
            "nodes": 100,
            "facts": facts,
            "rows": 1_000,
            "written": 0 if is_again else 1_000,
            "peak_bytes": 2**30,
        }

    monkeypatch.setattr(kg, "in_a_process", step)
    return said


def test_rows_by_hand(steps):
    rows = {row.what: row for row in measure(Plan("world", (10_000, 100_000), contents=20), lambda _: None)}
    first = rows["first load, beside the batch endpoint"]
    assert (first.ours, first.reference, first.value, first.is_met) == (250.0, 500.0, 0.5, False)
    again = rows["second import, beside the first"]
    assert (again.value, again.is_met) == (0.25, True)
    assert rows["second import, records written"].is_met
    assert rows["export to arrays, beside the bare driver"].value == 1.5
    assert rows["growth, slope of log time over log facts"].value == pytest.approx(1.0)
    assert rows["growth, most memory over least"].value == 1.0
    assert rows["first load, memory of our process"].value == 1_024
    assert not any("Neo4j" in what for what in rows)


def test_neo4j_is_measured_where_a_server_is_named(steps, monkeypatch):
    monkeypatch.setenv("MG_TEST_NEO4J_URI", "bolt://127.0.0.1:1")
    monkeypatch.setenv("NEO4J_URI", "bolt://elsewhere:1")
    rows = {row.what: row for row in measure(Plan("world", (), neo4j="test"), lambda _: None)}
    assert rows["Neo4j, beside UNWIND by hand"].value == pytest.approx(0.8)
    asked = [settings for name, settings in steps if name == "unwind"]
    assert [one["side"] for one in asked] == ["ours", "by hand"]
    assert {one["uri"] for one in asked} == {"bolt://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("named", "said"), [("test", "MG_TEST_NEO4J_URI, which is not set"), ("nowhere", "got 'nowhere'")]
)
def test_a_server_that_is_not_there(steps, monkeypatch, named, said):
    monkeypatch.delenv("MG_TEST_NEO4J_URI", raising=False)
    with pytest.raises(SettingError, match=said):
        list(measure(Plan("world", (), neo4j=named), lambda _: None))


def test_sides_that_differ_are_told(steps, monkeypatch):
    step = kg.in_a_process
    monkeypatch.setattr(
        kg,
        "in_a_process",
        lambda name, settings: {**step(name, settings), "rows": 5 if name == "post" else 6},
    )
    with pytest.raises(RuntimeError, match="got 6 and 5"):
        list(measure(Plan("world", ()), lambda _: None))


def test_bars():
    assert Row("a", 1, None, "", 0.7, 0.7, is_least=True).is_met
    assert not Row("a", 1, None, "", 0.31, 0.3).is_met


def test_steps_on_a_tiny_world(tmp_path):
    world = {"ratings": 60, "users": 6, "contents": 20}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
    first = kg_steps.load(str(ours), world=world)
    assert first["written"] == first["rows"] > 100 and first["peak_bytes"] > 2**20
    assert kg_steps.load(str(ours), world=world)["written"] == 0
    assert kg_steps.post(str(ours), str(theirs))["rows"] == first["rows"]
    assert kg_steps.fetch(str(ours), 1)["rows"] == first["rows"]
    json.dumps(first)


def test_a_step_that_fails_says_why():
    with pytest.raises(RuntimeError, match=r"step load must end well.*contents"):
        kg_steps.in_a_process("load", {"folder": "nowhere", "world": {"contents": 1}})
