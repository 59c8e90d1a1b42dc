"""SPARQL over a file: right answers, and nothing but reading."""

import pytest

from kg.rdf import SourceError, Triples
from kg.rdf_files import RdfError
from kg.rdf_question import must_read_only
from kg.rdf_write import write
from kg.records import Hyperedge, Node

RECORDS = [
    Node("Content", "content:heat", {"title": "Heat", "kind": "movie", "release_year": 1995}),
    Node("Content", "content:fargo", {"title": 'Fa"rgo', "kind": "movie", "simulated": True}),
    Node("Person", "person:al", {"name": "Al"}),
    Hyperedge("ACTED_IN", {"person": ("person:al",), "content": ("content:heat",)}, "test", confidence=0.5),
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    path = tmp_path_factory.mktemp("rdf") / "g.ttl"
    write(RECORDS, path)
    with Triples(path) as triples:
        yield triples


def test_select(asked):
    assert asked.ask(
        "SELECT ?t ?y { ?c a schema:Movie ; schema:name ?t OPTIONAL { ?c mg:release_year ?y } } ORDER BY ?t"
    ) == [
        {"t": 'Fa"rgo', "y": None},
        {"t": "Heat", "y": 1995},
    ]


def test_ask_and_construct(asked):
    assert asked.ask("ASK { node:content:heat schema:actor node:person:al }") == [{"answer": True}]
    assert asked.ask("CONSTRUCT { ?p a schema:Person } { ?f mg:person ?p ; mg:confidence 5e-1 }") == [
        {"subject": "node:person:al", "predicate": "rdf:type", "object": "schema:Person"}
    ]


@pytest.mark.parametrize(
    "question",
    [
        "INSERT DATA { <a:a> <a:b> 1 }",
        "DELETE WHERE { ?s ?p ?o }",
        "LOAD <http://a.example/>",
        "CLEAR ALL",
        "drop default",
        "SELECT * { SERVICE <http://a.example/> { ?s ?p ?o } }",
        "SELECT * { service SILENT <http://a.example/> { ?s ?p ?o } }",
        "SELECT * { \\u0053ERVICE <http://a.example/> { ?s ?p ?o } }",
        "SELECT * { # <\nSERVICE <http://a.example/> { ?s ?p ?o } }",
        'SELECT * { ?s ?p "\\"" . SERVICE <http://a.example/> { ?s ?p ?o } }',
        "SELECT * { ?s ?p '''\"''' SERVICE <http://a.example/#> { ?s ?p ?o } }",
        "PREFIX a: <http://a.example/> SELECT * {SERVICE a:b { ?s ?p ?o } }",
    ],
)
def test_what_does_not_only_read_is_refused(asked, question):
    with pytest.raises(RdfError, match="may only read"):
        asked.ask(question)


@pytest.mark.parametrize(
    "question",
    [
        'SELECT ?service { ?service schema:name "LOAD" }',
        "SELECT * { ?s <http://a.example/SERVICE> ?load } # DROP",
        "PREFIX service: <http://a.example/> SELECT * { ?s service:add service:x }",
        'SELECT * { ?s ?p """INSERT\n\'DELETE""" }',
    ],
)
def test_words_that_only_look_so_are_let_through(asked, question):
    must_read_only(question)
    assert asked.ask(question) == []


def test_no_sparql_is_told_where(asked):
    with pytest.raises(RdfError, match="SPARQL 1.1"):
        asked.ask("SELEC ?s")


def test_a_question_without_end_is_given_up(asked):
    every = " . ".join(f"?a{place} ?b{place} ?c{place}" for place in range(9))
    with pytest.raises(RdfError, match="within 1 s"):
        asked.ask(f"SELECT (COUNT(*) AS ?n) {{ {every} }}", limit_s=1)


def test_too_many_rows_are_refused(asked):
    with pytest.raises(RdfError, match="at most 2 rows"):
        asked.ask("SELECT * { ?s ?p ?o }", most=2)


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "g.ttl").write_text("<a:a> oops")
    with pytest.raises(SourceError, match="g.ttl"):
        Triples(tmp_path / "g.ttl")
