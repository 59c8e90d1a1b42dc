"""A graph goes out as RDF and comes back the same; what is spoilt is refused with a remedy."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kg import schema
from kg.arrays import export
from kg.datasets import SourceError
from kg.ingest import ingest
from kg.rdf import triples
from kg.rdf_files import RdfError, context, is_ours
from kg.rdf_terms import classes, id_of, iri_of, is_private
from kg.rdf_write import records_of, write
from kg.records import Hyperedge, Node, RecordError
from kg.sources import sources
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig, world

ENDINGS = ("ttl", "nt", "jsonld")
VALUES = {"text": "a", "integer": 7, "number": 0.5, "flag": True, "texts": ("b", "a", "b")}
NASTY = 'a " \\ \n\r\t <x> . ; \x00\x01\x7f \u00e9 \U0001f3ac \u202e "@en ^^<y> }" #'


@pytest.fixture(params=ENDINGS)
def ending(request) -> str:
    return request.param


def everything() -> list[Node | Hyperedge]:
    """Two nodes of each type and a fact of each type, all columns told."""
    nodes = [
        Node(kind.name, f"{kind.prefix}:{key}", _filled(kind.columns))
        for kind in schema.NODES.values()
        for key in ("one", "two")
    ]
    return [*nodes, *[_fact(kind) for kind in schema.FACTS.values()]]


def _filled(columns) -> dict:
    return {name: _value(column, place) for place, (name, column) in enumerate(columns.items())}


def _value(column: schema.Column, place: int = 0):
    if column.kind == "integer":
        return max(column.low or 0, 7) + place  # a time that ends something lies after the one before
    if column.form is not None:
        return {"date": "1999-03", "currency": "EUR"}[column.form]
    if column.choices:
        return column.choices[0] if column.kind == "text" else column.choices[1::-1]
    return VALUES[column.kind]


def _fact(kind: schema.FactType) -> Hyperedge:
    members = {
        role.name: tuple(
            f"{schema.NODES[role.types[0]].prefix}:{key}"
            for key in (("one", "two") if role.most is None else ("one" if place == 0 else "two",))
        )
        for place, role in enumerate(kind.roles)
    }
    said = {"properties": _filled(kind.columns), "start_ts": -10, "end_ts": 2**33, "confidence": 0.25}
    return Hyperedge(kind.name, members, "test", **said)


def read(path) -> tuple[list, object]:
    source = sources.build("rdf", {"path": str(path)})
    return list(source.read()), source


def hash_of(records) -> str:
    store = MemoryStore()
    store.write(records)
    return export(store, "same").hash


def returned(records, tmp_path, ending) -> list:
    path = tmp_path / f"graph.{ending}"
    write(records, path)
    told, source = read(path)
    assert (source.rejects, source.repairs) == ([], {})
    return told


def test_every_type_and_column_comes_back(tmp_path, ending):
    told = returned(everything(), tmp_path, ending)
    assert told == everything()
    assert hash_of(told) == hash_of(everything())


def test_a_world_comes_back_through_the_front_door(tmp_path, ending):
    store, again = MemoryStore(), MemoryStore()
    ingest([sources.build("world", {"users": 12, "contents": 40})], store, tmp_path / "one")
    write(records_of(store, with_people=True), tmp_path / f"w.{ending}")
    source = sources.build("rdf", {"path": str(tmp_path / f"w.{ending}")})
    ingest([source], again, tmp_path / "two")
    assert export(again, "w").hash == export(store, "w").hash
    report = ingest([source], again, tmp_path / "two")
    assert report.written == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_record_comes_back(tmp_path, data):
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    values = {
        "text": texts,
        "texts": st.lists(texts, max_size=4).map(tuple),
        "flag": st.booleans(),
        "integer": st.integers(-(2**63), 2**63 - 1),
        "number": st.floats(allow_nan=False, allow_infinity=False),
    }
    kind = data.draw(st.sampled_from(list(schema.NODES.values())))
    properties = {}
    for name, column in kind.columns.items():
        if data.draw(st.booleans()):
            value = data.draw(values[column.kind])
            if column.choices or column.form:
                value = _value(column)
            if column.kind in ("integer", "number"):
                value = max(value, column.low) if column.low is not None else value
                value = min(value, column.high) if column.high is not None else value
            properties[name] = value
    try:
        node = Node(kind.name, f"{kind.prefix}:{data.draw(texts)}!", properties)
    except RecordError:
        assume(False)  # two columns that do not go together
    ending = data.draw(st.sampled_from(ENDINGS))
    assert returned([node], tmp_path, ending) == [node]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_ids_and_iris_are_one_to_one(key):
    assert id_of(iri_of(f"content:{key}"), "Content") == f"content:{key}"


def test_injection_through_a_title(tmp_path, ending):
    content = Node("Content", "content:x> <y> <z> .", {"title": NASTY, "alternate_titles": (NASTY, "b")})
    person = Node("Person", 'person:"\\', {"name": '"> . <urn:evil> <urn:evil> "'})
    fact = Hyperedge(
        "ACTED_IN", {"person": (person.id,), "content": (content.id,)}, NASTY, {"character": NASTY}
    )
    assert returned([content, person, fact], tmp_path, ending) == [content, person, fact]
    assert not any(subject.startswith("urn:evil") for subject, *_ in triples(tmp_path / f"graph.{ending}"))


def test_a_title_of_a_megabyte(tmp_path, ending):
    longest = Node("Content", "content:long", {"title": 'é"' * (schema.LONGEST_TEXT // 2)})
    assert returned([longest], tmp_path, ending) == [longest]
    path = tmp_path / f"graph.{ending}"
    path.write_bytes(path.read_bytes().replace("é".encode(), "ééééééééééééééééééé".encode()))
    assert path.stat().st_size > 1_000_000
    told, source = read(path)
    assert told == [Node("Content", "content:long")]
    (reject,) = source.rejects
    assert reject.column == "title" and len(reject.value) <= 200


def test_a_lone_surrogate_is_named(tmp_path):
    with pytest.raises(RdfError, match="content:a must hold text that UTF-8 can"):
        write([Node("Content", "content:a", {"title": "\ud800"})], tmp_path / "a.ttl")
    assert list(tmp_path.iterdir()) == []


def test_people_stay_home_unless_asked_for(tmp_path, ending):
    store = MemoryStore()
    store.write(everything())
    path = tmp_path / f"g.{ending}"
    report = write(records_of(store), path)
    assert not any(is_private(type) for type in report.counts) and "User" not in report.counts
    assert b"user:" not in path.read_bytes().split(b"\n", 1)[1].replace(b"mg:user", b"")
    assert set(write(records_of(store, with_people=True), path).counts) == {*schema.NODES, *schema.FACTS}


def test_what_is_simulated_says_so(tmp_path, ending):
    records = [record for record in world(WorldConfig(users=4, contents=12)).records]
    report = write(records, tmp_path / f"w.{ending}")
    marked = [record for record in records if record.properties.get("simulated")]
    assert report.simulated == len(marked) > 0
    told, _ = read(tmp_path / f"w.{ending}")
    assert [one.id for one in told if one.properties.get("simulated")] == [one.id for one in marked]


def test_triples_are_counted(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    assert write(everything(), path).triples == sum(1 for _ in triples(path))


def test_jsonld_context_says_what_plain_text_does_not(tmp_path):
    path = tmp_path / "g.jsonld"
    write(everything(), path)
    document = json.loads(path.read_text())
    assert document["@context"] == json.loads(json.dumps(context()))
    assert document["@context"]["schema:itemOffered"] == {
        "@id": "https://schema.org/itemOffered",
        "@type": "@id",
    }
    offer = next(one for one in document["@graph"] if "schema:Offer" in one.get("@type", ()))
    assert offer["schema:eligibleRegion"] == ["node:region:one", "node:region:two"]
    assert offer["schema:availabilityStarts"] == "1969-12-31T23:59:50Z"
    assert offer["mg:audio_languages_in_order"] == ["b", "a", "b"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.98])
def test_a_file_that_was_cut_off_is_refused(tmp_path, ending, share):
    path = tmp_path / f"g.{ending}"
    write(everything(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SourceError, match=path.name):
        read(path)


def test_cut_off_between_two_lines_is_refused_too(tmp_path):
    path = tmp_path / "g.nt"
    write(everything(), path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:50]))
    with pytest.raises(SourceError, match="cut off"):
        is_ours(path)


def test_a_broken_statement_is_refused_alone(tmp_path):
    path = tmp_path / "g.nt"
    records = everything()
    write(records, path)
    lines = path.read_text().splitlines()
    lines.insert(5, "<no iri> <a:b> oops .")
    path.write_text("\n".join(lines) + "\n")
    told, source = read(path)
    assert told == records
    (reject,) = source.rejects
    assert (reject.file, reject.line, reject.column) == ("g.nt", 6, "syntax")


PLANTED = [
    ('mg:release_year "soon"', "mg:release_year", "whole number"),
    ("mg:release_year 9999", "release_year", "1870..2100"),
    ('mg:tmdb_rating "NaN"^^xsd:double', "mg:tmdb_rating", "finite number"),
    ('mg:tmdb_rating "INF"^^xsd:double', "mg:tmdb_rating", "finite number"),
    ('mg:popularity "1e999"^^xsd:double', "mg:popularity", "finite number"),
    ('mg:simulated "perhaps"', "mg:simulated", "true or false"),
    ('mg:observed_ts "yesterday"', "mg:observed_ts", "date with time"),
    ("mg:relaese_year 1999", "mg:relaese_year", "mg:release_year"),
    ('mg:ids_in_order ( "a:1" "b:2" ) ; mg:ids "a:1"', "mg:ids_in_order", "same texts"),
    ("mg:ids_in_order _:loop", "mg:ids_in_order", "rdf:nil"),
    ("mg:kind [ a mg:Genre ]", "mg:kind", "a text"),
]
PREFIXES = (
    "@prefix mg: <urn:media-gateway:term:> . @prefix node: <urn:media-gateway:node:> .\n"
    "@prefix schema: <https://schema.org/> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .\n"
    "@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> . @prefix ex: <https://example.org/> .\n"
)


@pytest.mark.parametrize(("said", "column", "remedy"), PLANTED)
def test_a_bad_triple_goes_and_the_node_stays(tmp_path, said, column, remedy):
    path = tmp_path / "g.ttl"
    path.write_text(
        PREFIXES + f'node:content:a a mg:Content ; schema:name "A" ; {said} .\n_:loop rdf:rest _:loop .'
    )
    told, source = read(path)
    (content,) = [record for record in told if record.type == "Content"]
    assert content.properties["title"] == "A"
    assert [(one.column, remedy in one.remedy) for one in source.rejects if one.column == column] == [
        (column, True)
    ]


BAD_FACTS = [
    ("a mg:ActedIn ; mg:person node:person:p", "content"),
    ("a mg:ActedIn ; mg:person node:person:p ; mg:content node:content:none", "no node of this file"),
    ("a mg:ActedIn ; mg:person node:content:a ; mg:content node:content:a", "must be Person"),
    (
        "a mg:Directed ; mg:person node:person:p ; mg:content node:content:a ; "
        'mg:start_ts "2024-02-01T00:00:00Z"^^xsd:dateTime ; mg:end_ts "2024-01-01T00:00:00Z"^^xsd:dateTime',
        "ends at",
    ),
    ('a mg:Directed ; mg:person node:person:p ; mg:content node:content:a ; mg:confidence "2"', "confidence"),
]


@pytest.mark.parametrize(("said", "remedy"), BAD_FACTS)
def test_a_fact_that_is_none_is_refused(tmp_path, said, remedy):
    path = tmp_path / "g.ttl"
    path.write_text(PREFIXES + f"node:content:a a mg:Content . node:person:p a mg:Person . <urn:f> {said} .")
    told, source = read(path)
    assert len(told) == 2
    assert any(remedy in reject.remedy for reject in source.rejects)


def test_words_of_schema_org_alone_are_read(tmp_path):
    path = tmp_path / "g.ttl"
    path.write_text(
        PREFIXES + 'ex:heat schema:actor ex:al ; a schema:Movie ; schema:name "Heat"@en , "Hitze"@de ;\n'
        ' schema:datePublished "1995-12-15"^^xsd:date ; schema:duration "PT170M" ;\n'
        " schema:sameAs <https://www.imdb.com/title/tt0113277/> .\n"
        'ex:al a schema:Person ; schema:name "Al Pacino" . ex:other a ex:Thing .'
    )
    told, source = read(path)
    heat = Node(
        "Content",
        "content:rdf:https://example.org/heat",
        {"title": "Heat", "release_date": "1995-12-15", "kind": "movie", "ids": ("imdb:tt0113277",)},
    )
    al = Node("Person", "person:rdf:https://example.org/al", {"name": "Al Pacino"})
    assert told == [heat, al, Hyperedge("ACTED_IN", {"person": (al.id,), "content": (heat.id,)}, "rdf")]
    assert source.rejects == [] and len(source.repairs) == 2


def test_triples_in_any_order_are_gathered(tmp_path):
    records = everything()
    write(records, tmp_path / "g.nt")
    lines = (tmp_path / "g.nt").read_text().splitlines()
    (tmp_path / "mixed.nt").write_text(
        "\n".join(sorted(lines[1:-1], key=lambda line: hash(line[40:]))) + "\n"
    )
    told, source = read(tmp_path / "mixed.nt")
    assert {one.id: one for one in told} == {one.id: one for one in records}
    assert source.rejects == []


def test_a_source_of_rdf_keeps_the_contract_of_sources(tmp_path):
    write(everything(), tmp_path / "g.ttl")
    source = sources.build("rdf", {"path": str(tmp_path / "g.ttl")})
    first = list(source.read())
    assert list(source.read()) == first and source.rows == len(first)


def test_a_remote_context_is_not_fetched(tmp_path):
    path = tmp_path / "g.jsonld"
    path.write_text('{"@context": "https://schema.org/", "@id": "urn:a", "@type": "Movie"}')
    with pytest.raises(SourceError, match="context"):
        read(path)


@pytest.mark.parametrize("name", ["none.ttl", "graph.xlsx"])
def test_a_file_that_is_none_is_refused(tmp_path, name):
    with pytest.raises((SourceError, RdfError), match=name):
        read(tmp_path / name)


def test_every_term_of_a_type_is_its_own():
    for known in classes().values():
        assert len({term.iri for term in known.terms.values()}) == len(known.terms), known.type


def test_members_may_stand_in_any_order(tmp_path):
    offer = next(record for record in everything() if record.type == "AVAILABLE")
    turned = replace(offer, members={role: tuple(reversed(ids)) for role, ids in offer.members.items()})
    nodes = [record for record in everything() if isinstance(record, Node)]
    assert returned([*nodes, turned], tmp_path, "nt")[-1] == offer
