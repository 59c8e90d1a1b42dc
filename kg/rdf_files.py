"""Files of RDF: by which name they are known, how ours begin and end, and the JSON-LD context."""

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kg.rdf_terms import OFFERS, PREFIXES, SAME_AS, XSD, classes, short
from kg.records import SourceError

FIRST_LINE, LAST_LINE = "# media-gateway graph 1: grouped, nodes first", "# end of graph"
FORMATS: Mapping[str, str] = {".ttl": "turtle", ".nt": "ntriples", ".jsonld": "jsonld"}
"""End of a file's name -> format."""
TYPED = {kind: f"{XSD}{word}" for kind, word in {"integer": "integer", "number": "double"}.items()}
TYPED |= {"flag": f"{XSD}boolean", "time": f"{XSD}dateTime"}
"""Kind of a value -> IRI of its data type."""
to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class RdfError(ValueError):
    """RDF that cannot be written, read or asked."""


def format_of(path: Path) -> str:
    """The format that the end of a file's name stands for.

    Raises:
        RdfError: another ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise RdfError(
            f"a file of RDF ends in {', '.join(FORMATS)}, got {path.name!r}: rename it, or name a format"
        )
    return FORMATS[path.suffix.lower()]


def is_ours(path: Path, format: str | None = None) -> bool:
    """Whether a file says, by its first line, that all triples of a subject stand together, nodes first.

    Raises:
        SourceError: it says so, and its last line is missing.
    """
    name = format or format_of(path)
    first = jsonld_head() if name == "jsonld" else FIRST_LINE
    if not path.is_file():
        raise SourceError(path, "a file of RDF must be there", "none", "give the path of a file")
    with path.open("rb") as file:
        if file.readline(len(first.encode()) + 2).rstrip(b"\r\n") != first.encode():
            return False
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 64))
        tail = file.read().rstrip()
    if name != "jsonld" and not tail.endswith(LAST_LINE.encode()):
        raise SourceError(
            path,
            f"the file ends with {LAST_LINE!r}",
            "another end: it was cut off",
            "get the whole file again",
        )
    return True


@cache
def jsonld_head() -> str:
    """The first line of a file of JSON-LD: its context, made from the schema."""
    return f'{{"@context":{to_json(context())},"@graph":['


@cache
def context() -> dict[str, Any]:
    """The JSON-LD context: prefixes, and what the values of a term are where they are no plain text."""
    typed = {"node": "@id", **TYPED}
    terms: dict[str, Any] = {}
    for iri, kind in sorted(coercions().items()):
        if kind == "list":
            terms[short(iri)] = {"@id": iri, "@container": "@list"}
        elif kind in typed:
            terms[short(iri)] = {"@id": iri, "@type": short(typed[kind])}
    return {**PREFIXES, **terms}


@cache
def coercions() -> dict[str, str]:
    """Predicate -> kind, of those that mean one kind whatever the type: only these can stand in a context."""
    kinds: dict[str, set[str]] = {iri: {"node"} for iri in (SAME_AS, OFFERS)}
    for known in classes().values():
        for term in known.terms.values():
            kinds.setdefault(term.iri, set()).add(term.kind)
            if term.order_iri:
                kinds.setdefault(term.order_iri, set()).add("list")
        if known.link is not None:
            kinds.setdefault(known.link[1], set()).add("node")
    return {
        iri: next(iter(found))
        for iri, found in kinds.items()
        if len(found) == 1 and found & {"node", "number", "time", "list"}
    }
