"""A graph copied from store to store is the same graph; a copy broken off goes on."""

from pathlib import Path

import pytest
import yaml

from configs.home import Home
from configs.registry import SettingError
from kg.arrays import export
from kg.copying import Fingerprint, copy, end_of, open_end
from kg.records import Hyperedge, Node
from kg.store.base import StoreError
from kg.store.embedded import EmbeddedStore
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig, world

RECORDS = list(
    {one.id: one for one in world(WorldConfig(users=4, contents=12, ratings_per_user=2)).records}.values()
)


@pytest.fixture
def filled() -> MemoryStore:
    store = MemoryStore()
    store.write(RECORDS)
    return store


@pytest.mark.parametrize("kind", ["memory", "embedded", "neo4j"])
def test_broken_off_started_again_there_and_back(filled, kind, open_emptied):
    target = open_emptied(kind)
    with pytest.raises(StoreError, match="cable"):
        copy(broken(), target)
    first, second = copy(filled, target), copy(filled, target)
    assert first.written + first.unchanged == len(RECORDS)
    assert (second.written, second.unchanged) == (0, len(RECORDS))
    assert first.counts == dict(sorted(filled.count().items())) == dict(sorted(target.count().items()))
    again = MemoryStore()
    assert copy(target, again).hash == first.hash == second.hash
    assert export(again, "w").hash == export(filled, "w").hash


def broken() -> MemoryStore:
    class Broken(MemoryStore):
        def hyperedges(self, type):
            for place, fact in enumerate(super().hyperedges(type)):
                if type == "RATED" and place == 3:
                    raise StoreError("the cable was pulled")
                yield fact

    store = Broken()
    store.write(RECORDS)
    return store


def test_a_fresh_embedded_database_is_filled_at_once(filled, tmp_path):
    with EmbeddedStore(tmp_path / "database", "w") as target:
        assert target.is_fresh()
        report = copy(filled, target)
        assert report.written == len(RECORDS)
        assert copy(filled, target).unchanged == len(RECORDS)


@pytest.mark.parametrize(
    "planted",
    [
        Node("Genre", "genre:planted"),
        Hyperedge("MADE_IN", {"content": ("content:planted",), "region": ("region:US",)}, "test"),
    ],
)
def test_a_target_that_holds_something_else_is_told(filled, planted):
    target = MemoryStore()
    target.write([Node("Content", "content:planted"), Node("Region", "region:US"), planted])
    with pytest.raises(StoreError, match=f"{planted.type}: .* sent"):
        copy(filled, target)


def test_a_record_that_arrives_changed_is_told(filled):
    class Forgetful(MemoryStore):
        def _add(self, fact):
            super()._add(Hyperedge(fact.type, fact.members, fact.source, start_ts=fact.start_ts))

    with pytest.raises(StoreError, match="hash"):
        copy(filled, Forgetful())


def test_progress_is_told(filled, monkeypatch):
    monkeypatch.setattr("kg.copying._EVERY", 10)
    told = []
    copy(filled, MemoryStore(), told.append)
    assert {one.stage for one in told} == {"nodes", "facts", "comparing"}
    assert all(one.done % 10 == 0 and one.rows_per_s > 0 for one in told)


def test_fingerprint_sees_any_change_and_no_order():
    whole = Fingerprint(RECORDS)
    assert Fingerprint(reversed(RECORDS)).hash == whole.hash
    assert Fingerprint(RECORDS[1:]).hash != whole.hash
    assert Fingerprint([*RECORDS, RECORDS[0]]).hash != whole.hash
    changed = Node(RECORDS[0].type, RECORDS[0].id, {**RECORDS[0].properties, "simulated": True})
    assert changed == RECORDS[0] or Fingerprint([changed, *RECORDS[1:]]).hash != whole.hash


@pytest.mark.parametrize(
    "uri", ["", "embedded:", "embedded:../x", "http://127.0.0.1", "file:///x", "bolt://", "neo4j", "memory:x"]
)
def test_an_end_that_is_none_is_refused(uri):
    with pytest.raises(SettingError, match="embedded:NAME"):
        end_of(uri)


def test_no_password_on_the_command_line():
    with pytest.raises(SettingError, match="NEO4J_PASSWORD") as refused:
        end_of("bolt://neo4j:secret@127.0.0.1:7687")
    assert "secret" not in str(refused.value)


def test_an_end_that_cannot_be_opened_says_why(tmp_path, monkeypatch):
    for name in ("NEO4J_PASSWORD", "NEO4J_FROM_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    home = Home(tmp_path)
    with pytest.raises(StoreError, match="NEO4J_FROM_PASSWORD"):
        open_end("bolt://127.0.0.1:1", "FROM", "w", home, print)
    with pytest.raises(StoreError, match="mg ingest"):
        open_end("embedded:none", "FROM", "w", home, print)
    with pytest.raises(SettingError, match="memory"):
        open_end("memory:", "FROM", "w", home, print)
    assert isinstance(open_end("memory:", "TO", "w", home, print), MemoryStore)


def test_servers_are_opened_by_their_address(filled, open_emptied, neo4j_login, tmp_path, monkeypatch):
    uri, user, password = neo4j_login
    open_emptied("neo4j")
    monkeypatch.setenv("NEO4J_TO_USER", user)
    monkeypatch.setenv("NEO4J_TO_PASSWORD", password)
    with open_end(uri, "TO", "media-gateway-tests", Home(tmp_path), print) as target:
        assert copy(filled, target).written == len(RECORDS)


def test_compose_keeps_neo4j_on_loopback():
    told = yaml.safe_load((Path(__file__).parents[2] / "compose.yaml").read_text(encoding="utf-8"))
    server = told["services"]["neo4j"]
    assert server["image"].startswith("neo4j:5.26") and server["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "${NEO4J_PASSWORD:?" in server["environment"]["NEO4J_AUTH"]
