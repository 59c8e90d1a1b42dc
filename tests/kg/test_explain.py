"""Why two people, companies or contents are one or two, told and taken back."""

import pytest

from kg.explain import explain
from kg.identity_log import FILE, IdentityLog
from kg.ingest import ingest
from kg.matching import Matchers
from kg.records import Hyperedge, Node
from kg.sources import Source
from kg.store.memory import MemoryStore

WEIGHTS = Matchers.load("identity/weights.json")
ADA, OTHER = "person:justwatch:7", "person:tmdb:9"


class Told(Source):
    """Tells what it is given."""

    name, reliability = "told", 0.7

    def records(self):
        yield from self.config


def person(id: str, name: str, *ids: str) -> Node:
    return Node("Person", id, {"name": name, "ids": (id.partition(":")[2], *ids)})


def credits(person_id: str, *contents: str) -> list[Hyperedge]:
    return [Hyperedge("ACTED_IN", {"person": (person_id,), "content": (id,)}, "told") for id in contents]


FILMS = [
    Node("Content", f"content:imdb:tt{n}", {"title": f"Film {n}", "ids": (f"imdb:tt{n}",)}) for n in range(4)
]
IDS = [film.id for film in FILMS]


def told(tmp_path, *records, matchers=None):
    store = MemoryStore()
    source = Told([*FILMS, *records])
    ingest([source], store, tmp_path, matchers=matchers)
    return source, store, IdentityLog(tmp_path / FILE)


def test_people_of_two_sources_are_one_by_an_identifier_until_somebody_undoes_it(tmp_path):
    linked = (person(ADA, "Ada Lovelace"), person(OTHER, "A. Lovelace", "justwatch:7"))
    source, store, log = told(tmp_path, *linked, *credits(ADA, *IDS[:2]), *credits(OTHER, *IDS[1:]))
    found = explain(store, log, WEIGHTS, ADA, OTHER)
    assert found.verdict == f"{ADA} and {OTHER} are one node: {OTHER}"
    assert [entry.merge.evidence for entry in found.merges] == ["justwatch:7"]
    log.undo(ADA)
    ingest([source], store, tmp_path)
    assert {node.id for node in store.nodes("Person")} == {ADA, OTHER}
    assert {fact.members["content"][0] for fact in store.hyperedges("ACTED_IN")} == set(IDS)
    assert len(list(store.hyperedges("ACTED_IN"))) == 5
    assert "somebody undid" in explain(store, log, WEIGHTS, ADA, OTHER).verdict
    assert ingest([source], store, tmp_path).written == 0
    log.redo(ADA)
    ingest([source], store, tmp_path)
    assert {node.id for node in store.nodes("Person")} == {OTHER}
    assert len(list(store.hyperedges("ACTED_IN"))) == 4


def test_a_name_is_no_proof_where_no_probability_counts(tmp_path):
    same = (person(ADA, "Ada Lovelace"), person(OTHER, "Lovelace, Ada"))
    _, store, log = told(tmp_path, *same, *credits(ADA, *IDS), *credits(OTHER, *IDS))
    found = explain(store, log, WEIGHTS, ADA, OTHER, is_weighed=False)
    assert "are two nodes: they share no identifier" in found.verdict
    assert found.rule == "people are joined by identifiers here, and by nothing else: a name is no proof"
    assert found.likeness.probability > 0.9 and "4 of 4 shared" in found.likeness.evidence
    assert {"name_equal", "titles_shared", "name_rare"} <= found.likeness.parts.keys()


def test_people_are_one_by_name_and_titles_where_weights_are_given(tmp_path):
    same = (person(ADA, "Ada Lovelace"), person(OTHER, "Lovelace, Ada"), person("person:tmdb:1", "Alan Bob"))
    records = (*same, *credits(ADA, *IDS), *credits(OTHER, *IDS), *credits("person:tmdb:1", *IDS))
    _, store, log = told(tmp_path, *records, matchers=WEIGHTS)
    found = explain(store, log, WEIGHTS, ADA, OTHER)
    assert "are one node" in found.verdict
    assert found.merges[-1].merge.evidence.startswith("name and titles 1.000")
    apart = explain(store, log, WEIGHTS, ADA, "person:tmdb:1")
    assert apart.likeness is None  # not even their names are near
    assert "from a probability of 0.500 on" in apart.rule


def test_a_common_name_says_less(tmp_path):
    pair = (person(ADA, "Ada Lovelace"), person(OTHER, "Ada Lovelace"))
    rest = [person(f"person:tmdb:{n}", "Lovelace Ada") for n in range(100, 120)]
    rare, common = (
        explain(store, log, WEIGHTS, ADA, OTHER).likeness.parts["name_rare"]
        for _, store, log in (told(tmp_path / "a", *pair), told(tmp_path / "b", *pair, *rest))
    )
    assert rare == pytest.approx(11 * common)


def test_an_identifier_that_contradicts_is_named(tmp_path):
    two = (person(ADA, "Ada", "imdb:nm1"), person(OTHER, "Ada", "imdb:nm2"))
    _, store, log = told(tmp_path, *two)
    assert "imdb says nm1 and nm2" in explain(store, log, WEIGHTS, ADA, OTHER).verdict


def test_companies_have_their_rule(tmp_path):
    two = [Node("Company", f"company:tmdb:{n}", {"name": "Studio"}) for n in (1, 2)]
    _, store, log = told(tmp_path, *two)
    found = explain(store, log, WEIGHTS, two[0].id, two[1].id)
    assert found.likeness is None and "joined by identifiers" in found.rule


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (ADA, IDS[0], "two ids of one type"),
        ("genre:a", "genre:b", "two ids of one type"),
        ("nobody", ADA, "a node id begins with one of"),
        ("person:tmdb:404", ADA, "got 'person:tmdb:404'"),
    ],
)
def test_what_cannot_be_compared(tmp_path, one, other, said):
    _, store, log = told(tmp_path, person(ADA, "Ada"))
    with pytest.raises(ValueError, match=said):
        explain(store, log, WEIGHTS, one, other)
