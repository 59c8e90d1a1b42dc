"""Joins by probability, the identity log, undo and redo: cases by hand, and properties over drawn records."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.explain import explain
from kg.identity import Merge, Resolver
from kg.identity_log import IdentityLog, UnknownMerge
from kg.ingest import ingest
from kg.matching import Matchers
from kg.matching_fit import Labelled, best_threshold, calibration_error, fit, one_to_one, quality
from kg.planted_pairs import fit_planted, measure_planted, resolve
from kg.records import Hyperedge, Node
from kg.sources import Source
from kg.store.memory import MemoryStore
from kg.strong_ids import CATALOGUES, CONTESTED, check_character, is_sound
from kg.titles import comparable, comparable_name
from kg.world_duplicates import NOISES, DuplicatesConfig, duplicates

WEIGHTS = Matchers.load("identity/weights.json")


@pytest.fixture(scope="module")
def planted():
    return fit_planted(150)


def film(key, *ids, title="Heat", year=1995, **known):
    properties = {"title": title, "release_year": year, "kind": "movie", **known, "ids": tuple(ids)}
    return Node("Content", f"content:{key}", {k: v for k, v in properties.items() if v is not None})


def resolve_all(*records, existing=(), apart=None, matchers=WEIGHTS):
    resolver = Resolver(existing, matchers=matchers, apart=apart)
    for record in records:
        resolver.add(record, 0.7) if isinstance(record, Node) else resolver.hear(record)
    resolver.finish()
    return resolver


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("Matrix, The (1999)", "The Matrix"),
        ("Amélie", "Amelie"),
        ("L'Avventura", "Avventura, L'"),
        ("Rocky III", "Rocky 3"),
        ("Fast & Furious", "Fast and Furious"),
        ("Мастер", "Master"),
        ("SE7EN!", "Se7en"),
    ],
)
def test_titles_written_another_way_are_compared_as_one(ours, theirs):
    assert comparable(ours) == comparable(theirs) != ""


def test_names_are_compared_whichever_way_round():
    assert comparable_name("Zellweger, Renée") == comparable_name("Renee Zellweger")


def test_check_characters_of_eidr():
    assert check_character("A12425GABC1234002") == "M"  # the standard's example for Mod 37,36
    assert is_sound("eidr:10.5240/7791-8534-2C23-9030-8610-5")
    assert not is_sound("eidr:10.5240/7791-8534-2C23-9030-8601-5") and not is_sound("eidr:10.5240/7791")


@given(
    st.text("0123456789ABCDEF", min_size=20, max_size=20),
    st.integers(0, 19),
    st.sampled_from("0123456789ABCDEF"),
)
def test_one_wrong_letter_of_an_eidr_is_caught(suffix, place, letter):
    spoilt = suffix[:place] + letter + suffix[place + 1 :]
    assert (check_character(spoilt) == check_character(suffix)) == (spoilt == suffix)


def test_an_eidr_with_a_wrong_check_character_joins_nothing():
    wrong = "eidr:10.5240/7791-8534-2C23-9030-8610-6"
    resolver = resolve_all(film("a:1", wrong), film("b:2", wrong, title="Ran", year=1985))
    assert len(list(resolver.nodes())) == 2


def test_a_likely_pair_is_joined_with_its_probability_and_evidence():
    resolver = resolve_all(
        film("movielens:6", "imdb:tt0113277", title="The Heat"),
        film("justwatch:tm1", title="Heat, The (1995)"),
    )
    (merge,) = [one for one in resolver.log if one.merged == "content:justwatch:tm1"]
    assert merge.kept == "content:imdb:tt0113277" and 0.5 < merge.probability < 1
    assert merge.evidence.startswith("likeness 0.9") and "heat, 1995" in merge.evidence


def test_two_strong_ids_are_not_joined_by_a_title():
    resolver = resolve_all(film("a:1", "imdb:tt0000001"), film("b:2", "imdb:tt0000002"))
    assert len(list(resolver.nodes())) == 2


def test_two_strong_ids_are_joined_and_contested_where_all_else_agrees():
    cast = [
        Hyperedge("ACTED_IN", {"person": (f"person:{who}:{n}",), "content": (f"content:{who}:1",)}, "x")
        for who in ("a", "b")
        for n in range(3)
    ]
    people = [
        Node("Person", f"person:{who}:{n}", {"name": f"Ada {n}"}) for who in ("a", "b") for n in range(3)
    ]
    first = film("a:1", "imdb:tt0000001", runtime_minutes=170)
    second = film("b:1", "imdb:tt0000002", runtime_minutes=171)
    resolver = resolve_all(first, second, *people, *cast)
    (node,) = [node for node in resolver.nodes() if node.type == "Content"]
    marks = {pair for pair in node.properties["ids"] if pair.startswith(f"{CONTESTED}:")}
    assert marks == {"contested:imdb:tt0000001", "contested:imdb:tt0000002"}
    assert any(merge.is_contested for merge in resolver.log)
    again = resolve_all(first, second, *people, *cast, existing=[node])
    assert [dict(one.properties) for one in again.nodes() if one.type == "Content"] == [dict(node.properties)]
    far = replace(second, properties={**second.properties, "runtime_minutes": 140})
    assert len([n for n in resolve_all(first, far, *people, *cast).nodes() if n.type == "Content"]) == 2


@pytest.mark.parametrize(("noise", "bar"), [*zip(NOISES, (0.98, 0.95, 0.9), strict=True)])
def test_planted_duplicates_are_found(planted, noise, bar):
    found = measure_planted(planted, noise, films=200, seed=7)
    assert found.contents.f1 >= bar and found.people.f1 >= 0.85
    assert found.across == 0


def test_a_world_of_duplicates_is_the_same_for_a_seed_and_holds_what_it_says():
    one, other = (duplicates(DuplicatesConfig(40, "spoilt", seed=3)) for _ in range(2))
    assert one.records == other.records and one.contents == other.contents
    ids = {record.id for record in one.records if isinstance(record, Node)}
    assert len(one.contents) == 20 and ids >= {*one.contents, *one.contents.values()}
    with pytest.raises(ValueError, match="noise of written, mistyped, spoilt"):
        DuplicatesConfig(40, "loud")


KEYS = st.sampled_from([f"{scheme}:{n}" for scheme in ("imdb", "tmdb", "justwatch") for n in range(3)])
RECORDS = st.lists(
    st.builds(
        lambda n, ids, title, year, runtime: film(
            f"own{n}:1", *ids, title=title, year=year, runtime_minutes=runtime
        ),
        st.integers(0, 7),
        st.lists(KEYS, max_size=3, unique=True),
        st.sampled_from(["Heat", "The Heat", "Heat 2", "Ran"]),
        st.sampled_from([1995, 1996, None]),
        st.sampled_from([100, 101, 170, None]),
    ),
    max_size=8,
    unique_by=lambda node: node.id,
)


def clusters(resolver, records):
    found = defaultdict(set)
    for record in records:
        found[resolver.canonical(record.id)].add(record.id)
    return {frozenset(members) for members in found.values()}


@given(RECORDS, st.randoms())
@settings(max_examples=80, deadline=None)
def test_order_does_not_change_the_clusters(records, random):
    shuffled = list(records)
    random.shuffle(shuffled)
    assert clusters(resolve_all(*records), records) == clusters(resolve_all(*shuffled), records)


@given(RECORDS)
@settings(max_examples=80, deadline=None)
def test_no_node_holds_two_strong_ids_of_a_scheme_unless_contested(records):
    for node in resolve_all(*records).nodes():
        held = defaultdict(set)
        for pair in node.properties.get("ids", ()):
            held[pair.partition(":")[0]].add(pair)
        for scheme in CATALOGUES:
            if len(held[scheme]) > 1:
                assert {f"{CONTESTED}:{pair}" for pair in held[scheme]} <= held[CONTESTED]


@given(RECORDS, st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_undone_parts_and_redone_joins_as_before(tmp_path_factory, records, which):
    log = IdentityLog(tmp_path_factory.mktemp("log") / "identity.jsonl")
    before = resolve_all(*records)
    log.append(before.log)
    entries = [entry for entry in log.entries() if entry.merge.merged in {record.id for record in records}]
    if not entries:
        return
    entry = log.undo(entries[which % len(entries)].key)
    parted = resolve_all(*records, apart=log.apart())
    company = {id for id in log.apart()[entry.merge.merged] if id in {record.id for record in records}}
    assert all(parted.canonical(id) != parted.canonical(entry.merge.merged) for id in company)
    log.redo(entry.key)
    again = resolve_all(*records, apart=log.apart())
    assert {n.id: n for n in again.nodes()} == {n.id: n for n in before.nodes()}


class _Told(Source):
    """Tells what it is given."""

    name, reliability = "told", 0.7

    def records(self):
        yield from self.config


def _graph(store):
    nodes = {node.id: dict(node.properties) for node in store.nodes("Content")}
    return nodes, {fact.id for fact in store.hyperedges("BELONGS_TO")}


def test_an_import_respects_an_undo_and_a_redo(tmp_path):
    ours, theirs = (
        film("movielens:6", "imdb:tt0113277", "movielens:6"),
        film("justwatch:tm1", "imdb:tt0113277"),
    )
    genre = Node("Genre", "genre:crime", {"name": "Crime"})
    facts = [
        Hyperedge("BELONGS_TO", {"content": (f.id,), "genre": (genre.id,)}, "told") for f in (ours, theirs)
    ]
    source, store = _Told([ours, theirs, genre, *facts]), MemoryStore()
    ingest([source], store, tmp_path)
    whole, log = _graph(store), IdentityLog(tmp_path / "identity.jsonl")
    assert list(whole[0]) == ["content:imdb:tt0113277"] and len(whole[1]) == 1
    told = explain(store, log, WEIGHTS, ours.id, theirs.id)
    assert "are one node" in told.verdict and {entry.merge.evidence for entry in told.merges} == {
        "imdb:tt0113277"
    }
    log.undo("content:justwatch:tm1")
    ingest([source], store, tmp_path)
    nodes, edges = _graph(store)
    assert set(nodes) == {"content:imdb:tt0113277", "content:justwatch:tm1"} and len(edges) == 2
    assert "justwatch:tm1" not in nodes["content:imdb:tt0113277"]["ids"]
    told = explain(store, log, WEIGHTS, ours.id, theirs.id)
    assert "undid" in told.verdict and told.likeness.probability > 0.9
    assert ingest([source], store, tmp_path).written == 0
    log.redo("content:justwatch:tm1")
    ingest([source], store, tmp_path)
    assert _graph(store) == whole


def test_an_undo_keeps_facts_that_other_sources_told(tmp_path):
    ours, theirs = (
        film("movielens:6", "imdb:tt0113277", "movielens:6"),
        film("justwatch:tm1", "imdb:tt0113277"),
    )
    genre, store = Node("Genre", "genre:crime", {"name": "Crime"}), MemoryStore()
    ingest([_Told([ours, theirs, genre])], store, tmp_path)
    fact = Hyperedge(
        "BELONGS_TO", {"content": ("content:imdb:tt0113277",), "genre": (genre.id,)}, "somebody else"
    )
    store.write([fact])
    IdentityLog(tmp_path / "identity.jsonl").undo("content:justwatch:tm1")
    ingest([_Told([ours, theirs, genre])], store, tmp_path)
    assert [found.id for found in store.hyperedges("BELONGS_TO")] == [fact.id]


def test_the_log_survives_a_line_that_was_cut_off_and_refuses_what_it_does_not_know(tmp_path):
    log = IdentityLog(tmp_path / "identity.jsonl")
    log.append([Merge("content:a:1", "content:b:2", "imdb:tt1")])
    with log.path.open("a") as file:
        file.write('{"kept": "content:a')
    log.append(
        [Merge("content:a:1", "content:b:2", "imdb:tt1"), Merge("content:a:1", "content:c:3", "imdb:tt1")]
    )
    assert [entry.merge.merged for entry in log.entries()] == ["content:b:2", "content:c:3"]
    with pytest.raises(UnknownMerge, match="names 0"):
        log.undo("nothing")
    log.undo("content:b:2")
    with pytest.raises(UnknownMerge, match="undone"):
        log.undo("content:b:2")
    assert log.apart() == {"content:b:2": frozenset({"content:a:1", "content:c:3"})}
    with pytest.raises(UnknownMerge, match="nothing to do"):
        log.redo("content:c:3")
    log.path.write_text("no line of a log\n" + log.path.read_text())
    with pytest.raises(ValueError, match="line 1"):
        log.entries()


def test_weights_come_back_from_their_file_and_others_are_refused(planted, tmp_path):
    path = tmp_path / "weights.json"
    planted.save(path)
    rows = np.random.default_rng(0).random((5, len(planted.content.features)))
    np.testing.assert_allclose(
        Matchers.load(path).content.probability(rows), planted.content.probability(rows), atol=1e-3
    )
    told = json.loads(path.read_text())
    del told["content"]["weights"]["title_equal"]
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="other features"):
        Matchers.load(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold weights"):
        Matchers.load(path)


def test_a_matcher_is_calibrated_on_what_it_did_not_see():
    random = np.random.default_rng(0)
    rows = random.normal(size=(6000, 2))
    is_same = random.random(6000) < 1 / (1 + np.exp(-(2 * rows[:, 0] - 1)))
    matcher = fit(Labelled(rows[:3000], is_same[:3000], np.arange(3000)), ("a", "b"), "draws")
    assert calibration_error(matcher.probability(rows[3000:]), is_same[3000:]) < 0.03
    with pytest.raises(ValueError, match="both kinds"):
        fit(Labelled(rows[:10], np.ones(10, bool), np.arange(10)), ("a", "b"), "draws")


def test_measures_by_hand():
    assert calibration_error(np.array([0.1, 0.9]), np.array([False, True])) == pytest.approx(0.1)
    assert one_to_one([(0, 0), (0, 1), (1, 1)], np.array([0.9, 0.95, 0.8]), 0.5) == [(0, 1)]
    assert best_threshold(np.array([0.9, 0.8, 0.7]), np.array([True, True, False])) == pytest.approx(0.75)
    found = quality([("a", "b"), ("c", "d")], [("b", "a"), ("e", "f"), ("g", "h")])
    assert (found.precision, found.recall, found.f1) == (0.5, pytest.approx(1 / 3), pytest.approx(0.4))


def test_people_are_joined_by_spelling_and_shared_titles(planted):
    found = resolve(duplicates(DuplicatesConfig(60, "written", seed=2)), planted)
    told = [merge for merge in found.log if merge.merged.startswith("person:")]
    assert told and all(merge.evidence.startswith("name and titles") for merge in told)
