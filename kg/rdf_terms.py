"""What every type, column and role is called in RDF, made from the schema and from schema.org's words.

Terms of ours are ``mg:<name in the schema>``; a node is ``node:<its id>``, a fact is a node of its own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal
from urllib.parse import quote, unquote

from configs.loading import load
from kg import schema

MG = "urn:media-gateway:term:"
NODE = "urn:media-gateway:node:"
FACT = "urn:media-gateway:fact:"
SCHEMA = "https://schema.org/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XSD = "http://www.w3.org/2001/XMLSchema#"
PREFIXES: Mapping[str, str] = {
    "mg": MG,
    "node": NODE,
    "fact": FACT,
    "schema": SCHEMA,
    "rdf": RDF,
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "xsd": XSD,
    "sh": "http://www.w3.org/ns/shacl#",
    "owl": "http://www.w3.org/2002/07/owl#",
}
"""Prefixes that every file and question knows."""
TYPE, FIRST, REST, NIL = f"{RDF}type", f"{RDF}first", f"{RDF}rest", f"{RDF}nil"
SAME_AS, OFFERS = f"{SCHEMA}sameAs", f"{SCHEMA}offers"
IN_ORDER = "_in_order"
"""Ends the name of the term that holds a list of texts where its order or its repeats count."""
_SAFE = "-._~!$&'()*+,;=:@/"
_IS_SAFE = re.compile(rf"[\w{re.escape(_SAFE)}]*", re.ASCII).fullmatch

What = Literal["column", "order", "role", "own"]


@dataclass(frozen=True)
class Term:
    """One predicate of a type."""

    name: str
    """Column or role in the schema, or ``source``, ``confidence``, ``start_ts``, ``end_ts``."""
    what: What
    iri: str
    kind: str
    """Of :class:`kg.schema.Column`, or ``time`` (UTC seconds, written xsd:dateTime) or ``node``."""
    order_iri: str = ""
    """Of texts: where their order stands."""


@dataclass(frozen=True)
class Class:
    """One node type or fact type as RDF says it."""

    type: str
    is_fact: bool
    iris: tuple[str, ...]
    """Ours first, then schema.org's."""
    terms: Mapping[str, Term]
    """By name in the schema."""
    by_iri: Mapping[str, Term]
    link: tuple[str, str, str] | None = None
    """Of a fact: (role of the subject, predicate, role of the object) that says it in one triple."""


OWN: Mapping[str, str] = {"source": "text", "confidence": "number", "start_ts": "time", "end_ts": "time"}
"""What every fact has besides its columns: name -> kind."""


@cache
def words() -> dict[str, Any]:
    """The file that says which of our words schema.org has too."""
    return load("rdf/schema_org.yaml")


@cache
def classes() -> dict[str, Class]:
    """Every node type and fact type, by its name in the schema."""
    found = {node.name: _class(node.name, node.name, _column_terms(node)) for node in schema.NODES.values()}
    for fact in schema.FACTS.values():
        terms = {name: _term(fact.name, name, "own", kind) for name, kind in OWN.items()}
        terms |= {role.name: _term(fact.name, role.name, "role", "node") for role in fact.roles}
        found[fact.name] = _class(fact.name, fact.label, terms | _column_terms(fact))
    return found


@cache
def class_of() -> dict[str, str]:
    """IRI of a class -> type in the schema; schema.org's classes only where one type has them."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for known in classes().values():
        for iri in known.iris:
            if iri in found:
                twice.add(iri)
            found[iri] = known.type
    found |= {f"{SCHEMA}{word}": "Content" for word in words()["kinds"].values()}
    return {iri: type for iri, type in found.items() if iri not in twice}


@cache
def kind_iris() -> dict[str, str]:
    """Kind of a content -> the class that schema.org has for it."""
    return {kind: f"{SCHEMA}{word}" for kind, word in words()["kinds"].items()}


@cache
def derived() -> frozenset[str]:
    """Predicates that say again what nodes of facts and identifiers say already."""
    links = {known.link[1] for known in classes().values() if known.link is not None}
    return frozenset({SAME_AS, OFFERS, *links})


def is_private(type: str) -> bool:
    """True for people who use the platform, and for every fact that one of them takes part in.

    Example:
        >>> is_private("User"), is_private("RATED"), is_private("AVAILABLE")
        (True, True, False)
    """
    fact = schema.FACTS.get(type)
    return type == "User" or fact is not None and any("User" in role.types for role in fact.roles)


def iri_of(node_id: str) -> str:
    """The IRI of a node; what an IRI cannot hold is written as %XX of its UTF-8.

    Example:
        >>> iri_of("genre:film noir")
        'urn:media-gateway:node:genre:film%20noir'
    """
    return NODE + (node_id if _IS_SAFE(node_id) else quote(node_id, safe=_SAFE))


def id_of(iri: str, type: str) -> str:
    """The id of the node that an IRI names; one that is not ours becomes ``<prefix>:rdf:<IRI>``."""
    if iri.startswith(NODE):
        return unquote(iri[len(NODE) :]) if "%" in iri else iri[len(NODE) :]
    return f"{schema.NODES[type].prefix}:rdf:{iri}"


def short(iri: str) -> str:
    """An IRI as ``prefix:name`` where a prefix fits, for people to read."""
    for prefix, whole in PREFIXES.items():
        if iri.startswith(whole):
            return f"{prefix}:{iri[len(whole) :]}"
    return iri


def _class(type: str, label: str, terms: dict[str, Term]) -> Class:
    word = words()["classes"].get(type)
    iris = (f"{MG}{label}", f"{SCHEMA}{word}") if word else (f"{MG}{label}",)
    by_iri = {term.iri: term for term in terms.values()}
    by_iri |= {
        term.order_iri: Term(term.name, "order", term.order_iri, "texts")
        for term in terms.values()
        if term.order_iri
    }
    said, link = words()["links"].get(type), None
    if said is not None and said[0] in terms and said[2] in terms:
        link = (said[0], f"{SCHEMA}{said[1]}", said[2])
    return Class(type, type in schema.FACTS, iris, terms, by_iri, link)


def _column_terms(kind: schema.NodeType | schema.FactType) -> dict[str, Term]:
    return {
        name: _term(kind.name, name, "column", "time" if _is_time(name, column) else column.kind)
        for name, column in kind.columns.items()
    }


def _is_time(name: str, column: schema.Column) -> bool:
    return column.kind == "integer" and name.endswith("_ts")


def _term(type: str, name: str, what: What, kind: str) -> Term:
    word = words()["columns"].get(type, {}).get(name)
    order = f"{MG}{name}{IN_ORDER}" if kind == "texts" else ""
    return Term(name, what, f"{SCHEMA}{word}" if word else f"{MG}{name}", kind, order)
