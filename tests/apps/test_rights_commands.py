"""``mg graph conflicts, violations, expiring, trust, diff`` on a small graph with planted errors."""

import json

import pytest

from apps.bench.availability import measure
from configs.home import Home
from kg.arrays import from_records
from kg.records import Hyperedge, Node
from kg.store.memory import MemoryStore
from kg.windows import day_ts

NODES = [
    Node("Content", "content:a", {"title": "Heat", "sources": ("world",)}),
    Node("Content", "content:b", {"title": "Casino", "sources": ("world",)}),
    Node("Platform", "platform:p"),
    Node("Platform", "platform:q"),
    Node("Region", "region:US"),
    Node("Region", "region:DE"),
    Node("License", "license:l", {"regions": ("DE",)}),
]


def window(content, platform, start, end=None, source="world", licence=None, **said):
    members = {"content": (content,), "platform": (platform,), "region": ("region:US",)}
    if licence:
        members["license"] = (licence,)
    return Hyperedge("AVAILABLE", members, source, said, day_ts(start), None if end is None else day_ts(end))


PRICED = {"offer": "rent", "currency": "USD"}
FACTS = [
    window("content:a", "platform:p", "2024-01-01", "2025-01-08", **PRICED, price=3.0),
    window("content:a", "platform:p", "2024-06-01", "2025-01-08", "blog", **PRICED, price=4.0),
    window("content:b", "platform:p", "2023-01-01", "2024-03-01"),
    window("content:b", "platform:q", "2024-03-01", exclusivity="exclusive", licence="license:l"),
    window("content:b", "platform:p", "2024-09-01", offer="ads"),
]


@pytest.fixture
def graph():
    return from_records(
        "world",
        lambda type: [node for node in NODES if node.type == type],
        lambda type: [fact for fact in FACTS if fact.type == type],
    )


@pytest.fixture
def mg(mg_in, tmp_path, graph):
    graph.publish(Home(tmp_path).arrays("world"))
    call = mg_in(tmp_path, "world")
    return lambda *words: call("graph", *words)


def test_conflicts_with_both_pieces_of_evidence(mg):
    code, out, _ = mg("conflicts", "--at", "2025-01-01", "--json")
    told = json.loads(out)
    assert code == 0 and told["at"] == "2025-01-01"
    assert [(one["contested"]["source"], one["holds"]["source"]) for one in told["contested"]] == [
        ("blog", "world")
    ]
    assert "price 4.0 against 3.0 of world" in told["contested"][0]["reason"]
    assert [
        (one["exclusive"]["platform_id"], one["other"]["platform_id"]) for one in told["exclusivity"]
    ] == [("platform:q", "platform:p")]
    code, out, _ = mg("conflicts", "--at", "2025-01-01")
    assert code == 0 and "2024-09-01 to end not known" in out


def test_violations_name_the_bound(mg):
    code, out, _ = mg("violations", "--at", "2025-01-01", "--json")
    found = json.loads(out)["violations"]
    assert [(one["bound"], one["told"], one["allowed"]) for one in found] == [("territory", "US", "DE")]
    code, out, _ = mg("violations")
    assert code == 0 and "of 1 windows under a licence" in out and "territory" in out


def test_what_ends_soon_with_its_alert(mg):
    code, out, _ = mg("expiring", "--region", "us", "--days", "10", "--at", "2025-01-01", "--json")
    found = json.loads(out)["expiring"]
    assert [(one["content_id"], one["alert"]) for one in found] == [("content:a", "7 days")]
    code, out, _ = mg("expiring", "--at", "2025-01-01")
    assert code == 0 and "2025-01-07" in out and "Heat" in out
    assert "none" in mg("expiring", "--region", "DE", "--at", "2025-01-01")[1]


def test_trust_by_content_and_offer(mg):
    code, out, _ = mg("trust", "a", "--at", "2025-01-01", "--json")
    told = json.loads(out)
    # title alone is told (1 of 8); both windows are over 70 days old; one of two is contested
    assert told["trust"] == {
        "source": 0.7,
        "metadata": 0.125,
        "availability": 0.7,
        "corroboration": 0.5,
        "freshness": 0.5,
    }
    assert told["value"] == pytest.approx(0.175 + 0.03125 + 0.14 + 0.075 + 0.075)
    assert sorted(one["trust"]["corroboration"] for one in told["offers"]) == [0.0, 1.0]
    code, out, _ = mg("trust", "content:a", "--at", "2025-01-01")
    assert code == 0 and "unverified" in out and "Heat" in out
    code, _, err = mg("trust", "content:none")
    assert code == 2 and "no content 'content:none'" in err


def test_what_changed(mg):
    code, out, _ = mg("diff", "--from", "2024-02-01", "--to", "2024-10-01", "--region", "us", "--json")
    told = json.loads(out)
    assert code == 0 and [one["platform_id"] for one in told["arrived"]] == ["platform:q"]
    assert told["left"] == [] and [one["content_id"] for one in told["stayed"]] == ["content:a", "content:b"]
    code, out, _ = mg("diff", "--from", "2024-02-01", "--to", "2024-04-01")
    assert code == 0 and "another owner" in out and "platform:q" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("diff", "--from", "then", "--to", "2024-01-01"), "a date is written YYYY-MM-DD, got 'then'"),
        (("diff", "--from", "2024-01-02", "--to", "2024-01-01"), "swap them"),
        (("diff", "--from", "2024-01-01", "--to", "2024-01-02", "--platform", "x"), "platform is one of"),
        (("diff", "--from", "2024-01-01", "--to", "2024-01-02", "--by", "imdb"), "give --platform and"),
        (("conflicts", "--at", "soon"), "a date is written YYYY-MM-DD"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, message):
    code, _, err = mg(*words)
    assert code == 2 and message in " ".join(err.split())


def test_the_bench_holds_both_sides_to_the_same_answer(graph):
    found = measure(graph, calls=10)
    contested = 1
    assert found.contents == 2 and found.windows == len(FACTS) - contested and found.rows[0].calls == 10
    with pytest.raises(ValueError, match="must have windows"):
        measure(from_records("none", lambda type: [], lambda type: []), calls=10)


def test_verify_writes_trust_once(mg, monkeypatch):
    store = MemoryStore()
    store.write([*NODES, *FACTS])
    monkeypatch.setattr("kg.store.open_store", lambda *_: store)
    code, out, _ = mg("verify", "--json")
    assert code == 0 and json.loads(out)["nodes_written"] == 2
    assert all("trust" in node.properties for node in store.nodes("Content"))
    code, out, _ = mg("verify")
    assert code == 0 and "0 contents written, 2 as before" in out
