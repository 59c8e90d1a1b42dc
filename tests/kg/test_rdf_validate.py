"""SHACL finds what was planted and nothing else; the vocabulary describes every term."""

import pytest
import rdflib

from kg import schema
from kg.rdf import validate
from kg.rdf_shapes import shapes_text, vocabulary_text
from kg.rdf_terms import classes
from kg.rdf_write import write
from kg.records import Hyperedge, Node
from kg.worlds import WorldConfig, world

PREFIXES = (
    "@prefix mg: <urn:media-gateway:term:> . @prefix node: <urn:media-gateway:node:> .\n"
    "@prefix schema: <https://schema.org/> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .\n"
)
STANDING = "node:content:a a mg:Content . node:person:p a mg:Person . node:platform:n a mg:Platform .\n"
FACT = 'mg:source "s" ; mg:confidence "1.0"^^xsd:double'
OFFER = f"schema:itemOffered node:content:a ; schema:offeredBy node:platform:n ; {FACT}"
PLANTED = {
    "a year out of bounds": ("<urn:x> a mg:Content ; mg:release_year 9999 .", "mg:release_year"),
    "a year that is text": ('<urn:x> a mg:Content ; mg:release_year "1999" .', "mg:release_year"),
    "two titles": ('<urn:x> a mg:Content ; schema:name "a" , "b" .', "schema:name"),
    "an unknown kind": ('<urn:x> a mg:Content ; mg:kind "opera" .', "mg:kind"),
    "an identifier without scheme": ('<urn:x> a mg:Content ; mg:ids "tt1" .', "mg:ids"),
    "no number": ('<urn:x> a mg:Content ; mg:popularity "NaN"^^xsd:double .', "mg:popularity"),
    "infinite": ('<urn:x> a mg:Content ; mg:popularity "INF"^^xsd:double .', "mg:popularity"),
    "a date of words": ('<urn:x> a mg:Person ; schema:birthDate "in May" .', "schema:birthDate"),
    "a fact of one": (f"<urn:x> a mg:Directed ; mg:person node:person:p ; {FACT} .", "mg:content"),
    "a wrong member": (
        f"<urn:x> a mg:Directed ; mg:person node:content:a ; mg:content node:content:a ; {FACT} .",
        "mg:person",
    ),
    "a member that is not there": (
        f"<urn:x> a mg:Directed ; mg:person node:person:none ; mg:content node:content:a ; {FACT} .",
        "mg:person",
    ),
    "nobody told": (
        "<urn:x> a mg:Directed ; mg:person node:person:p ; mg:content node:content:a ; "
        'mg:confidence "1.0"^^xsd:double .',
        "mg:source",
    ),
    "too sure": (
        "<urn:x> a mg:Directed ; mg:person node:person:p ; mg:content node:content:a ; "
        'mg:source "s" ; mg:confidence "2.0"^^xsd:double .',
        "mg:confidence",
    ),
    "an end before the start": (
        f"<urn:x> a mg:Directed ; mg:person node:person:p ; mg:content node:content:a ; {FACT} ; "
        'mg:start_ts "2024-02-01T00:00:00Z"^^xsd:dateTime ; mg:end_ts "2024-01-01T00:00:00Z"^^xsd:dateTime .',
        "mg:start_ts",
    ),
    "an offer nowhere": (f"<urn:x> a mg:Available ; {OFFER} .", "schema:eligibleRegion"),
    "a price of no currency": (
        "node:region:US a mg:Region . <urn:x> a mg:Available ; schema:eligibleRegion node:region:US ; "
        f'{OFFER} ; schema:price "3.0"^^xsd:double .',
        "",
    ),
}


def test_planted_errors_are_found(tmp_path):
    said = [text.replace("<urn:x>", f"<urn:{place}>") for place, (text, _) in enumerate(PLANTED.values())]
    (tmp_path / "g.ttl").write_text(PREFIXES + STANDING + "\n".join(said))
    _, findings = validate(tmp_path / "g.ttl")
    found = {(one.subject, one.path) for one in findings}
    assert found == {(f"urn:{place}", path) for place, (_, path) in enumerate(PLANTED.values())}
    assert all(one.message for one in findings)


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    (tmp_path / "g.ttl").write_text(PREFIXES + STANDING)
    assert validate(tmp_path / "g.ttl") == (3, [])


@pytest.mark.parametrize("ending", ["ttl", "nt", "jsonld"])
def test_what_we_write_is_valid(tmp_path, ending):
    path = tmp_path / f"w.{ending}"
    records = world(WorldConfig(users=4, contents=12, ratings_per_user=5)).records[:150]
    write(records, path)
    checked, findings = validate(path)
    assert (checked, findings) == (len({record.id for record in records}), [])


def test_a_statement_that_is_no_rdf_is_found(tmp_path):
    (tmp_path / "g.nt").write_text("<no iri> <a:b> oops .\n")
    _, (finding,) = validate(tmp_path / "g.nt")
    assert (finding.subject, finding.path) == ("line 1", "syntax")


def test_shapes_hold_every_type():
    graph = rdflib.Graph().parse(data=shapes_text(), format="turtle")
    targets = {
        str(one) for one in graph.objects(None, rdflib.URIRef("http://www.w3.org/ns/shacl#targetClass"))
    }
    assert targets == {known.iris[0] for known in classes().values()}


def test_vocabulary_describes_every_term_once():
    graph = rdflib.Graph().parse(data=vocabulary_text(), format="turtle")
    terms = {known.iris[0] for known in classes().values()}
    for known in classes().values():
        for term in known.terms.values():
            terms |= {iri for iri in (term.iri, term.order_iri) if iri.startswith("urn:media-gateway:")}
    for term in terms:
        for predicate in (rdflib.RDFS.label, rdflib.RDFS.comment):
            assert len(list(graph.objects(rdflib.URIRef(term), predicate))) == 1, (term, predicate)


def test_written_words_name_what_the_schema_has():
    from kg.rdf_terms import words

    told = words()
    assert set(told["classes"]) | set(told["columns"]) | set(told["links"]) <= {*schema.NODES, *schema.FACTS}
    for type, columns in told["columns"].items():
        assert set(columns) <= set(classes()[type].terms), type


def test_a_fact_of_a_node_told_elsewhere_in_the_file_is_valid(tmp_path):
    nodes = [Node("Content", f"content:{place}") for place in range(1_010)]
    facts = [
        Hyperedge(
            "SEQUEL_OF", {"content": (f"content:{place}",), "original": (f"content:{1_000 - place}",)}, "s"
        )
        for place in range(3)
    ]
    write([*nodes, *facts], tmp_path / "g.nt")
    assert validate(tmp_path / "g.nt") == (1_013, [])
