"""Imports: identity before facts, each fact once, twice is once, spoilt rows counted."""

import json
from dataclasses import dataclass

import pytest

from kg.arrays import export
from kg.ingest import ImportRefused, ingest
from kg.records import Hyperedge, Node, Reject
from kg.sources import Source
from kg.sources.world import WorldSource
from kg.store import writing
from kg.store.base import StoreError
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig

CONFIG = WorldConfig(users=20, contents=24, groups=2, ratings_per_user=8, duplicate_share=0.2)


@dataclass(frozen=True)
class ToldConfig:
    records: tuple = ()
    rejects: int = 0
    rows: int = 0


class Told(Source):
    """Tells what it is given."""

    name, reliability = "told", 0.7

    def records(self):
        self.rows = self.config.rows or len(self.config.records)
        self.rejects = [Reject("f.csv", n, "year", "15-Aug", "mend it") for n in range(self.config.rejects)]
        self.repairs = {"dates mended": 2}
        yield from self.config.records


def told(*records, **changes) -> Told:
    return Told(ToldConfig(records, **changes))


def rated(content: str, rating: float, start_ts: int | None = 1, source: str = "told") -> Hyperedge:
    members = {"user": ("user:a",), "content": (content,)}
    return Hyperedge("RATED", members, source, {"rating": rating}, start_ts=start_ts)


HEAT = {"title": "Heat", "kind": "movie", "release_year": 1995}


def test_facts_go_to_the_node_that_a_record_turned_out_to_be(tmp_path):
    first = told(
        Node("User", "user:a"),
        Node("Content", "content:ml100k:6", {**HEAT, "ids": ("imdb:tt0113277",)}),
        rated("content:ml100k:6", 8.0),
    )
    second = told(
        Node("Content", "content:justwatch:tm1", {**HEAT, "ids": ("imdb:tt0113277",)}),
        rated("content:justwatch:tm1", 2.0),  # the same fact by now, told with another rating
        rated("content:justwatch:tm1", 4.0, start_ts=9),
    )
    store, seen = MemoryStore(), []
    report = ingest([first, second], store, tmp_path, progress=seen.append)
    assert store.count() == {"Content": 1, "User": 1, "RATED": 2} == report.counts
    (content,) = store.nodes("Content")
    assert content.id == "content:imdb:tt0113277"
    assert {(fact.start_ts, fact.properties["rating"]) for fact in store.hyperedges("RATED")} == {
        (1, 8.0),
        (9, 4.0),
    }
    assert report.repairs == {"dates mended": 4, "facts told twice, the first kept": 1}
    assert (report.nodes, report.hyperedges, report.written, report.unchanged) == (2, 2, 4, 0)
    assert report.merges == len((tmp_path / "identity.jsonl").read_text().splitlines()) > 0
    assert {one.stage for one in seen} == {"reading", "nodes", "facts"}
    facts = [one for one in seen if one.stage == "facts"][-1]
    assert facts.done == facts.total == 3 and facts.rows_per_s > 0


def test_a_fact_between_two_records_of_one_node_is_left_out(tmp_path):
    copy = Node("Content", "content:justwatch:tm1", {**HEAT, "ids": ("imdb:tt0113277",)})
    one = Node("Content", "content:ml100k:6", {**HEAT, "ids": ("imdb:tt0113277",)})
    sequel = Hyperedge("SEQUEL_OF", {"content": (copy.id,), "original": (one.id,)}, "told")
    store = MemoryStore()
    report = ingest([told(one, copy, sequel)], store, tmp_path)
    assert store.count() == {"Content": 1}
    assert report.repairs["facts of a node with itself left out"] == 1


def test_stored_nodes_that_turn_out_to_be_one_are_joined_with_their_facts(tmp_path):
    user = Node("User", "user:a")
    one, two = Node("Content", "content:tmdb:949"), Node("Content", "content:imdb:tt0113277")
    store = MemoryStore()
    ingest([told(user, one, two, rated(one.id, 8.0), rated(two.id, 6.0, start_ts=5))], store, tmp_path)
    assert store.count() == {"Content": 2, "User": 1, "RATED": 2}
    both = Node("Content", "content:justwatch:tm1", {"ids": ("imdb:tt0113277", "tmdb:949")})
    for _ in range(2):
        report = ingest([told(both)], store, tmp_path)
        assert store.count() == {"Content": 1, "User": 1, "RATED": 2}
        (kept,) = store.nodes("Content")
        assert {fact.members["content"] for fact in store.hyperedges("RATED")} == {(kept.id,)}
    assert report.written == 0


def test_too_many_spoilt_rows_refuse_the_import_before_anything_is_written(tmp_path):
    store = MemoryStore()
    with pytest.raises(ImportRefused, match=r"at most 1.0% .* 2 of 100 are.*rejects\.jsonl"):
        ingest([told(Node("User", "user:a"), rejects=2, rows=100)], store, tmp_path)
    assert store.count() == {}
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert lines[1] == {
        **{"source": "told", "file": "f.csv", "line": 1},
        **{"column": "year", "value": "15-Aug", "remedy": "mend it"},
    }
    report = ingest([told(Node("User", "user:a"), rejects=1, rows=100)], store, tmp_path)
    assert report.rejects == 1 and store.count() == {"User": 1}
    with pytest.raises(ImportRefused):  # nothing but rejects
        ingest([told(rejects=3)], MemoryStore(), tmp_path)


def test_a_source_that_forgets_a_node(tmp_path):
    with pytest.raises(StoreError, match="names 'content:gone' as content"):
        ingest([told(Node("User", "user:a"), rated("content:gone", 8.0))], MemoryStore(), tmp_path)


@pytest.mark.parametrize("kind", ["memory", "embedded", "neo4j"])
def test_world_twice_is_once(kind, open_emptied, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "BATCH_ROWS", 50)
    store, memory = open_emptied(kind), MemoryStore()
    ingest([WorldSource(CONFIG)], memory, tmp_path / "memory")
    store.write([])
    monkeypatch.setattr(type(store), "is_fresh", lambda _: False, raising=False)  # through write
    first = ingest([WorldSource(CONFIG)], store, tmp_path / "a")
    assert first.merges > 0 and first.counts == memory.count()
    assert first.written == first.nodes + first.hyperedges == sum(first.counts.values())
    graph = export(store, "g")
    assert graph.hash == export(memory, "g").hash
    log = (tmp_path / "a" / "identity.jsonl").read_text()
    second = ingest([WorldSource(CONFIG)], store, tmp_path / "a")
    assert (second.written, second.unchanged) == (0, first.written)
    assert export(store, "g").hash == graph.hash
    assert (tmp_path / "a" / "identity.jsonl").read_text() == log
