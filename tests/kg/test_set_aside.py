"""What others told of a node that is set apart: an import that dies amid it loses none of their facts."""

import pytest

from kg.identity_log import FILE, IdentityLog
from kg.ingest import ingest
from kg.records import Hyperedge, Node
from kg.set_aside import SetAside
from kg.sources import Source
from kg.store.base import StoreError
from kg.store.memory import MemoryStore

IDS = ("imdb:tt0113277", "movielens:6")


class Told(Source):
    """Tells what it is given."""

    name, reliability = "told", 0.7

    def records(self):
        yield from self.config


def fact(source, **changes) -> Hyperedge:
    members = {"content": ("content:imdb:tt0113277",), "genre": ("genre:crime",)}
    return Hyperedge(
        "BELONGS_TO", members, source, {"relevance": 0.5, **changes}, start_ts=5, confidence=0.25
    )


def test_facts_come_back_as_they_went_and_a_line_that_was_cut_off_is_none(tmp_path):
    aside = SetAside(tmp_path / "aside.jsonl")
    assert aside.facts() == []
    aside.keep([])
    assert not aside.path.exists()
    offered = Hyperedge(
        "AVAILABLE",
        {"content": ("content:ö",), "platform": ("platform:a",), "region": ("region:DE", "region:US")},
        "me",
        {"quality_tiers": ("HD", "4K"), "offer": "rent", "price": 3.5, "currency": "EUR"},
        end_ts=9,
    )
    aside.keep([fact("me"), offered])
    with aside.path.open("a") as file:
        file.write('{"type": "BELONGS_TO", "memb')
    aside.keep([fact("you"), fact("me")])
    assert aside.facts() == [fact("me"), offered, fact("you")]
    aside.clear()
    assert aside.facts() == [] and not aside.path.exists()


class Dies(MemoryStore):
    """A store that dies at a write after the first erasure."""

    has_erased = is_dead = False

    def erase(self, node_id):
        self.has_erased = True
        return super().erase(node_id)

    def write(self, records):
        if self.is_dead and self.has_erased:
            raise StoreError("killed")
        return super().write(records)


def test_an_import_that_dies_amid_an_undo_loses_nothing_of_what_others_told(tmp_path):
    ours = Node("Content", "content:movielens:6", {"title": "Heat", "ids": IDS})
    theirs = Node("Content", "content:justwatch:tm1", {"title": "Heat", "ids": IDS[:1]})
    source, store = Told([ours, theirs, Node("Genre", "genre:crime")]), Dies()
    ingest([source], store, tmp_path)
    store.write([fact("somebody else")])
    IdentityLog(tmp_path / FILE).undo("content:justwatch:tm1")
    store.is_dead = True
    with pytest.raises(StoreError, match="killed"):
        ingest([source], store, tmp_path)
    assert list(store.hyperedges("BELONGS_TO")) == []  # gone from the store, kept beside it
    store.is_dead = store.has_erased = False
    ingest([source], store, tmp_path)
    assert list(store.hyperedges("BELONGS_TO")) == [fact("somebody else")]
    assert SetAside(tmp_path / "aside.jsonl").facts() == []
    assert store.count()["Content"] == 2
    assert ingest([source], store, tmp_path).written == 0
