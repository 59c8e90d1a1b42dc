"""What each source makes of a small folder whose right reading is known."""

from pathlib import Path

import pytest

import kg.datasets  # noqa: F401 - registers the sources
from configs.registry import SettingError
from kg.privacy import user_id
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.windows import day_ts

DATA = Path(__file__).parents[1] / "data" / "sources"


def told(name, **settings):
    source = sources.build(name, {"folder": DATA / name, **settings})
    records = list(source.read())
    nodes = {record.id: record for record in records if isinstance(record, Node)}
    return source, nodes, [record for record in records if isinstance(record, Hyperedge)]


def pairs(facts, type):
    return {
        tuple(members for role in fact.members.values() for members in role)
        for fact in facts
        if fact.type == type
    }


def test_movielens():
    source, nodes, facts = told("movielens")
    first = nodes["content:movielens:1"].properties
    assert first["title"] == "The Lighthouse" and first["release_year"] == 1995
    assert first["ids"] == ("imdb:tt0000001", "tmdb:101", "movielens:1")
    second = nodes["content:movielens:2"].properties
    assert (
        second["alternate_titles"] == ("Les Sept portes", "7 Doors")
        and "tmdb" not in nodes["content:movielens:2"].ids
    )
    assert "release_year" not in nodes["content:movielens:3"].properties
    assert pairs(facts, "BELONGS_TO") == {
        ("content:movielens:1", "genre:adventure"),
        ("content:movielens:1", "genre:children"),
        ("content:movielens:1", "genre:science-fiction"),
        ("content:movielens:2", "genre:film-noir"),
    }
    rated = next(fact for fact in facts if fact.type == "RATED")
    assert rated.properties["rating"] == 8.0 and rated.start_ts == 964982703
    assert pairs(facts, "TAGGED") == {(user_id("movielens", "2"), "content:movielens:1", "keyword:sea-storm")}
    assert source.repairs == {"tag without letters dropped": 1}


def test_justwatch():
    source, nodes, facts = told("justwatch", later={"netflix": "2024-01-01"})
    older = nodes["content:justwatch:tm1"].properties  # told last, see the order of snapshots
    assert "runtime_minutes" not in older and older["observed_ts"] == day_ts("2022-07-01")
    assert nodes["content:justwatch:ts3"].properties["seasons"] == 2
    windows = [(f.members["content"][0][-3:], f.start_ts, f.end_ts) for f in facts if f.type == "AVAILABLE"]
    july, april, later = day_ts("2022-07-01"), day_ts("2023-04-01"), day_ts("2024-01-01")
    assert sorted(windows) == [("tm1", july, april), ("tm1", april, later), ("ts3", april, later)]
    assert ("content:justwatch:tm1", "region:LB") in pairs(facts, "MADE_IN")
    assert ("content:justwatch:ts3", "region:NA") in pairs(facts, "MADE_IN")
    assert (
        nodes["region:SU"].properties["name"] == "Soviet Union"
        and nodes["region:NA"].properties["name"] == "Namibia"
    )
    cast = [f for f in facts if f.type == "ACTED_IN" and f.members["content"] == ("content:justwatch:tm1",)]
    assert [(f.properties.get("character"), f.properties["billing_order"]) for f in cast] == [
        ('The "Keeper"', 0),
        (None, 1),
    ]
    assert source.repairs == {
        "country written out read as its code": 1,
        "repeated title left out": 1,
        "repeated credit left out": 1,
        "runtime 0 read as not known": 1,
        "country code that means no country dropped": 1,
        "title without a name dropped": 1,
    }


def test_availability_by_country():
    source, nodes, facts = told("availability_by_country")
    offers = {(f.members["platform"][0], f.members["content"][0]): f for f in facts if f.type == "AVAILABLE"}
    assert offers["platform:hbo-max", "content:imdb:tt0000001"].members["region"] == (
        "region:NA",
        "region:US",
    )
    assert offers["platform:netflix", "content:imdb:tt0000001"].members["region"] == ("region:ZZ",)
    assert offers["platform:netflix", "content:imdb:tt0000002"].members["region"] == (
        "region:BE",
        "region:FR",
    )
    assert ("platform:hbo-max", "content:title:series:2010:harbour-watch") in offers
    assert nodes["region:ZZ"].properties["name"] == "somewhere"
    assert source.repairs["title without a name dropped"] == source.repairs["repeated row left out"] == 1


def test_tmdb():
    source, nodes, facts = told("tmdb")
    known = nodes["content:tmdb:101"].properties
    assert known["release_date"] == "1995-10-30" and known["tagline"] == "Wait."
    assert nodes["content:tmdb:103"].properties["original_language"] == "yue"
    assert pairs(facts, "HAS_KEYWORD") == {("content:tmdb:101", "keyword:sea-storm")}
    assert nodes["company:tmdb:306"].properties["name"] == "Keel Films"
    assert pairs(facts, "SPOKEN_IN") == {("content:tmdb:101", "language:en")}
    assert source.repairs["language code that means no language dropped"] == 1


def test_recbole():
    source, nodes, facts = told("recbole")
    assert nodes["content:sea:1"].properties["title"] == "The Lighthouse"
    assert nodes["content:sea:1"].properties["ids"] == ("sea:1", "freebase:m.01")
    assert nodes["content:sea:3"].properties["release_year"] == 1990
    assert pairs(facts, "BELONGS_TO") == {
        ("content:sea:1", "genre:children"),
        ("content:sea:1", "genre:science-fiction"),
        ("content:sea:2", "genre:film-noir"),
    }
    people = {node.id: dict(node.properties) for node in nodes.values() if node.type == "User"}
    assert {known["age_band"] for known in people.values()} == {"18-24", "45-54"}
    assert not any("85711" in str(node) or "technician" in str(node) for node in nodes.values())
    assert pairs(facts, "ACTED_IN") == {("person:freebase:m.p1", "content:sea:1")}
    assert pairs(facts, "DIRECTED") == {("person:freebase:m.p2", "content:sea:1")}
    assert "name" not in nodes["person:freebase:m.p1"].properties
    assert {f.members["content"][0]: f.properties["result"] for f in facts if f.type == "AWARDED"} == {
        "content:sea:1": "won",
        "content:sea:2": "nominated",
    }
    assert pairs(facts, "SEQUEL_OF") == {("content:sea:2", "content:sea:1")}
    assert len([f for f in facts if f.type == "SEQUEL_OF"]) == 1  # said from both ends, told once
    assert source.repairs["fact told from both ends read once"] == 3


def test_links_in_another_numbering_are_renumbered(tmp_path):
    numbering = tmp_path / "numbering.yaml"
    numbering.write_text("1: [2, 3]\n")
    source, nodes, facts = told("recbole", numbering={"sea": str(numbering)})
    assert pairs(facts, "DIRECTED") == {
        ("person:freebase:m.p2", "content:sea:2"),
        ("person:freebase:m.p2", "content:sea:3"),
    }
    assert source.repairs["link to a content that the numbering does not hold left out"] == 2


def test_simulated_tells_windows_for_the_contents_of_another_source():
    source, nodes, facts = told("simulated", of="recbole", folder=DATA / "recbole")
    assert {fact.members["content"][0] for fact in facts} == {f"content:sea:{n}" for n in (1, 2, 3)}
    assert {fact.type for fact in facts} == {"AVAILABLE"}
    assert all(fact.properties["simulated"] and fact.source == "simulated" for fact in facts)


@pytest.mark.parametrize(
    ("file", "spoilt", "column"),
    [
        ("ratings.csv", b"1,1,nine,964982703\n", "rating"),
        ("ratings.csv", b"1,1,9.0,964982703\n", "rating"),
        ("ratings.csv", b"1,1,4.0,yesterday\n", "timestamp"),
        ("ratings.csv", b"1,77,4.0,964982703\n", "movieId"),
    ],
)
def test_a_spoilt_rating_is_rejected_and_the_rest_is_read(tmp_path, file, spoilt, column):
    for path in (DATA / "movielens").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes() + (spoilt if path.name == file else b""))
    source = sources.build("movielens", {"folder": tmp_path})
    assert sum(getattr(record, "type", "") == "RATED" for record in source.read()) == 4
    assert [(reject.file, reject.line, reject.column) for reject in source.rejects] == [(file, 6, column)]


def test_people_are_hashed_with_the_key(monkeypatch):
    public = user_id("movielens", "1")
    assert (
        public == user_id("movielens", "1") != user_id("movielens", "2") and "1" != public.rpartition(":")[2]
    )
    monkeypatch.setenv("MG_USER_KEY", "secret")
    assert user_id("movielens", "1") != public


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(SettingError, match="folder"):
        sources.build("movielens", {"fodler": "x"})
