"""Trust by hand: each part, the weights, and what changes when the moment moves."""

import numpy as np
import pytest

from kg.arrays import from_records
from kg.records import Hyperedge, Node
from kg.trust import DAY_S, Trust, TrustTable, freshness, latest, reliabilities

RELIABILITY = {"list": 0.7, "shop": 1.0, "blog": 0.2}
FULL = {
    "title": "Full",
    "kind": "movie",
    "release_year": 1999,
    "runtime_minutes": 90,
    "synopsis": "All is told.",
    "observed_ts": 100 * DAY_S,
    "sources": ("list",),
}
NODES = [
    Node("Content", "content:a", FULL),
    Node("Content", "content:b", {"title": "Bare", "sources": ("blog", "list")}),
    Node("Content", "content:c"),
    Node("Platform", "platform:p"),
    Node("Region", "region:US"),
    Node("Genre", "genre:g"),
    Node("Person", "person:x"),
]


def window(content, source, start, end=None, confidence=1.0):
    members = {"content": (content,), "platform": ("platform:p",), "region": ("region:US",)}
    ends = None if end is None else end * DAY_S
    return Hyperedge("AVAILABLE", members, source, {}, start * DAY_S, ends, confidence)


FACTS = [
    Hyperedge("BELONGS_TO", {"content": ("content:a",), "genre": ("genre:g",)}, "list"),
    Hyperedge("ACTED_IN", {"person": ("person:x",), "content": ("content:a",)}, "list"),
    Hyperedge("MADE_IN", {"content": ("content:a",), "region": ("region:US",)}, "list"),
    window("content:a", "list", 90),
    window("content:b", "blog", 50, 80),
    window("content:b", "list", 60, confidence=0.5),
]


@pytest.fixture
def graph():
    return from_records(
        "small",
        lambda type: [node for node in NODES if node.type == type],
        lambda type: [fact for fact in FACTS if fact.type == type],
    )


def test_one_source_by_hand(graph):
    # day 110: seen on day 100, one source
    found = TrustTable(graph, 110 * DAY_S, reliability=RELIABILITY).of(0)
    assert found == Trust(0.7, 1.0, 0.7, None, pytest.approx(np.exp(-0.1)))
    assert found.value == pytest.approx((0.175 + 0.25 + 0.14 + 0.15 * 0.904837) / 0.85, abs=1e-6)
    assert found.is_verified


def test_two_sources_by_hand(graph):
    # day 70: both windows hold, the best weighs .7 x .5; seen on day 60; 1 of 8 things is told
    found = TrustTable(graph, 70 * DAY_S, reliability=RELIABILITY).of(1)
    assert found == Trust(0.7, 0.125, 0.35, 1.0, pytest.approx(np.exp(-0.1)))
    assert found.value == pytest.approx(0.175 + 0.03125 + 0.07 + 0.15 + 0.15 * 0.904837, abs=1e-6)
    assert not found.is_verified


def test_a_contested_window_lowers_corroboration_and_gives_no_availability(graph):
    contested = np.array([graph.facts["AVAILABLE"]["source"][row].as_py() == "list" for row in range(3)])
    contested &= graph.incidence("AVAILABLE", "content")[1] == 1
    table = TrustTable(graph, 70 * DAY_S, contested, RELIABILITY)
    assert table.of(1).corroboration == 0.5 and table.of(1).availability == pytest.approx(0.2)
    lost = int(np.flatnonzero(contested)[0])
    assert table.offer(lost).corroboration == 0.0
    assert table.offer(lost) == Trust(0.7, 0.125, 0.35, 0.0, pytest.approx(np.exp(-0.1)))


def test_nothing_told_is_hardly_trusted(graph):
    found = TrustTable(graph, 70 * DAY_S, reliability=RELIABILITY).of(2)
    assert found == Trust(0.0, 0.0, 0.0, None, 0.5)


def test_the_table_equals_one_by_one_and_never_reads_the_clock(graph):
    table = TrustTable(graph, 75 * DAY_S, reliability=RELIABILITY)
    np.testing.assert_allclose(table.values(), [table.of(row).value for row in range(3)])
    assert table.of(0).availability == 0.0, "the window starts later than the moment"
    assert table.of(0).freshness == 0.5, "what is seen later is not known yet"


def test_freshness_and_the_last_moment(graph):
    assert freshness(69) == pytest.approx(np.exp(-0.69)) and freshness(70) == 0.5
    assert latest(graph) == 100 * DAY_S


def test_a_source_says_its_reliability_and_a_stranger_counts_as_a_report(graph):
    known = reliabilities()
    assert known["justwatch"] == known["availability_by_country"] == known["world"] == 0.7
    assert all(0 < value <= 1 for value in known.values())
    assert TrustTable(graph, 70 * DAY_S, reliability={}).of(1).source == 0.2


def test_a_graph_without_windows_or_contents():
    empty = from_records("empty", lambda type: [], lambda type: [])
    assert TrustTable(empty, 0).values().size == 0 and latest(empty) == 0
    alone = from_records("alone", lambda type: NODES[:1] if type == "Content" else [], lambda type: [])
    assert TrustTable(alone, 100 * DAY_S, reliability=RELIABILITY).of(0).availability == 0.0
