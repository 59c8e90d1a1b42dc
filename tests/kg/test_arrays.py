"""Arrays: the same graph gives the same columns and hash, on disk and back; spoilt files are refused."""

import random

import numpy as np
import pytest

from kg.arrays import ArraysError, GraphArrays, from_records
from kg.records import Hyperedge, Node
from kg.store.base import StoreError
from kg.windows import day_ts

NODES = [
    Node(
        "Content", "content:a", {"title": "A", "release_year": 1999, "imdb_rating": 8.1, "observed_ts": 100}
    ),
    Node("Content", "content:b", {"title": "B", "alternate_titles": ("Bee", "Be")}),
    Node("User", "user:u"),
    Node("User", "user:v"),
    Node("Platform", "platform:p", {"name": "P"}),
    Node("Region", "region:US"),
    Node("Region", "region:DE"),
]
FACTS = [
    Hyperedge("RATED", {"user": ("user:u",), "content": ("content:a",)}, "s", {"rating": 8}, start_ts=50),
    Hyperedge("RATED", {"user": ("user:v",), "content": ("content:b",)}, "s", {"rating": 6.5}, start_ts=150),
    Hyperedge(
        "AVAILABLE",
        {"content": ("content:a",), "platform": ("platform:p",), "region": ("region:US", "region:DE")},
        "s",
        {"offer": "subscription", "simulated": True},
        start_ts=10,
        end_ts=200,
    ),
]


def build(nodes=NODES, facts=FACTS, as_of=None):
    return from_records(
        "small",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
        as_of,
    )


def test_columns_by_hand():
    graph = build()
    assert graph.ids("Content") == ["content:a", "content:b"]
    assert [rows.tolist() for rows in graph.pairs("RATED")] in ([[0, 1], [0, 1]], [[1, 0], [1, 0]])
    facts, regions = graph.incidence("AVAILABLE", "region")
    assert facts.tolist() == [0, 0]
    assert sorted(graph.ids("Region")[row] for row in regions) == ["region:DE", "region:US"]
    assert graph.node("Content", 1) == NODES[1]
    assert np.isnan(graph.numbers("Content", "release_year")[1])
    assert (
        graph.row_of("content:b") == 1
        and graph.row_of("content:x") is None
        and graph.row_of("nonsense") is None
    )
    assert graph.simulated_types == {"AVAILABLE"}
    assert graph.incidence("AVAILABLE", "license")[0].size == 0


def test_order_of_writing_does_not_matter():
    shuffled = random.Random(3)
    for _ in range(5):
        nodes, facts = NODES[:], FACTS[:]
        shuffled.shuffle(nodes), shuffled.shuffle(facts)
        assert build(nodes, facts).hash == build().hash


def test_any_change_moves_the_hash():
    changed = [Hyperedge("RATED", FACTS[0].members, "s", {"rating": 9}, start_ts=50), *FACTS[1:]]
    assert build(facts=changed).hash != build().hash
    assert build(NODES[1:], FACTS[1:2]).hash != build().hash


def test_as_of_hides_what_came_later():
    early = build(as_of=60)
    assert early.fact_count("RATED") == 1 and early.starts("RATED").tolist() == [50]
    assert np.isnan(early.numbers("Content", "imdb_rating")[0]), "a score counted at 100 is not known at 60"
    assert build(as_of=100).numbers("Content", "imdb_rating")[0] == 8.1


def test_what_is_fixed_at_release_holds_from_release_dated_or_not():
    nodes = [
        Node("Content", "content:a", {"release_year": 1999}),
        Node("Content", "content:b", {"release_date": "2003-05", "release_year": 1999}),
        Node("Content", "content:c"),
        Node("Genre", "genre:g"),
    ]
    facts = [
        Hyperedge("BELONGS_TO", {"content": (f"content:{key}",), "genre": ("genre:g",)}, "s") for key in "abc"
    ]

    def known(day):
        graph = build(nodes, facts, day_ts(day))
        assert graph.size("Content") == 3
        return {graph.ids("Content")[row][-1] for row in graph.incidence("BELONGS_TO", "content")[1]}

    assert known("1998-12-31") == {"c"}, "nothing is known of when c came out"
    assert known("1999-01-01") == known("2003-04-30") == {"a", "c"}
    assert known("2003-05-01") == {"a", "b", "c"}


def test_an_end_that_a_later_snapshot_tells_is_not_known_before():
    def window(source):
        return Hyperedge("AVAILABLE", FACTS[2].members, source, {}, 10, 200)

    facts = [window("justwatch"), window("s")]
    for moment, ends in ((60, {"justwatch": None, "s": 200}), (200, {"justwatch": 200, "s": 200})):
        table = build(facts=facts, as_of=moment).facts["AVAILABLE"]
        assert dict(zip(table["source"].to_pylist(), table["end_ts"].to_pylist(), strict=True)) == ends


def test_a_fact_of_a_node_that_is_not_there_is_refused():
    with pytest.raises(StoreError, match="names 'user:v', which was no node.*when nobody writes"):
        build([node for node in NODES if node.id != "user:v"])
    with pytest.raises(StoreError, match="names 'region:DE'"):
        build(NODES[:-1])


def test_keep_leaves_out_facts_and_changes_the_hash():
    graph = build()
    kept = graph.keep({"RATED": np.array([True, False])})
    assert kept.fact_count("RATED") == 1 and kept.fact_count("AVAILABLE") == 1
    assert kept.hash not in {graph.hash, graph.keep({"RATED": np.array([False, True])}).hash}
    assert graph.fact_count("RATED") == 2


def test_round_trip_on_disk(tmp_path):
    graph = build()
    folder = graph.publish(tmp_path)
    again = GraphArrays.current(tmp_path)
    assert again.folder == folder and again.hash == graph.hash == build().hash
    for type, table in graph.facts.items():
        assert again.facts[type].equals(table)
    assert graph.save(tmp_path) == folder, "saving twice keeps the first"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("spoil", ["flip", "cut", "remove", "manifest"])
def test_spoilt_folders_are_refused(tmp_path, spoil):
    folder = build().save(tmp_path)
    file = folder / ("manifest.json" if spoil == "manifest" else "fact-RATED.arrow")
    data = bytearray(file.read_bytes())
    if spoil == "flip":
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif spoil == "remove":
        file.unlink()
    else:
        file.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArraysError, match="mg export"):
        GraphArrays.open(folder)


def test_nothing_exported_says_what_to_do(tmp_path):
    with pytest.raises(ArraysError, match="mg ingest"):
        GraphArrays.current(tmp_path)
