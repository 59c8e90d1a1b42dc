"""Writes a graph as Turtle, N-Triples or JSON-LD, one record after the other, in constant memory.

Nodes come before the facts that name them and all triples of a subject stand together; a first and a last
line say so, so that a reader may stream what comes and knows when a file was cut off."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from kg import schema
from kg.rdf_files import FIRST_LINE, LAST_LINE, TYPED, RdfError, coercions, format_of, jsonld_head, to_json
from kg.rdf_terms import (
    FACT,
    FIRST,
    NIL,
    OFFERS,
    PREFIXES,
    REST,
    SAME_AS,
    SCHEMA,
    TYPE,
    classes,
    iri_of,
    is_private,
    kind_iris,
    short,
    words,
)
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore

Said = tuple[str, str, Any]
"""A predicate's IRI, a kind (of :class:`kg.rdf_terms.Term`, or ``list``) and a value of that kind."""
_ESCAPED = re.compile(r'["\\\x00-\x1f\x7f]')
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FIRST_TS, _LAST_TS = -62_135_596_800, 253_402_300_799  # the years 1 to 9999
_IS_CODE = re.compile(r"[\w.-]+(?:/[\w.-]+)?", re.ASCII).fullmatch


@dataclass(frozen=True)
class WriteSummary:
    """What a file of RDF holds."""

    path: Path
    counts: dict[str, int]
    """Records by type."""
    triples: int
    simulated: int
    """Records that are marked as made up; the mark goes with them."""


def records_of(store: GraphStore, with_people: bool = False) -> Iterator[Node | Hyperedge]:
    """All records of a store, nodes first; people, and facts about them, only where asked for."""
    for type in schema.NODES:
        if with_people or not is_private(type):
            yield from store.nodes(type)
    for type in schema.FACTS:
        if with_people or not is_private(type):
            yield from store.hyperedges(type)


def write(records: Iterable[Node | Hyperedge], path: Path, format: str | None = None) -> WriteSummary:
    """Writes records aside, then renames the file to ``path``.

    Args:
        records: nodes before the facts that name them, as :func:`records_of` gives them.
        path: of the file.
        format: ``turtle``, ``ntriples`` or ``jsonld``; None takes it from the end of the name.

    Raises:
        RdfError: an unknown format, or a text that UTF-8 cannot hold.

    Cost: memory of one record.
    """
    writer = _WRITERS[format or format_of(path)]()
    counts: Counter[str] = Counter()
    simulated = 0
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("w", encoding="utf-8", newline="\n", buffering=2**20) as file:
            file.write(writer.head())
            for record in records:
                try:
                    file.write(writer.text(record))
                except UnicodeEncodeError as error:
                    raise RdfError(
                        f"{record.id} must hold text that UTF-8 can, it holds {error.object[error.start]!r}: "
                        "mend it in the source"
                    ) from None
                counts[record.type] += 1
                simulated += record.properties.get("simulated") is True
            file.write(writer.tail())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return WriteSummary(path, dict(sorted(counts.items())), writer.triples, simulated)


class _Writer(ABC):
    """Says records in one format and counts the triples."""

    def __init__(self) -> None:
        self.triples = 0

    @abstractmethod
    def head(self) -> str:
        """What stands before the first record."""

    @abstractmethod
    def text(self, record: Node | Hyperedge) -> str:
        """One record."""

    @abstractmethod
    def tail(self) -> str:
        """What stands after the last record."""


class _NTriples(_Writer):
    def __init__(self) -> None:
        super().__init__()
        self._lists = 0

    def head(self) -> str:
        return f"{FIRST_LINE}\n"

    def tail(self) -> str:
        return f"{LAST_LINE}\n"

    def text(self, record: Node | Hyperedge) -> str:
        subject, said, links = statements(record)
        start, lines = f"<{subject}> <", []
        for predicate, kind, value in said:
            if kind == "list":
                lines += self._list(f"{start}{predicate}> ", value)
            else:
                lines.append(f"{start}{predicate}> {_object(kind, value)} .\n")
        lines += [f"<{one}> <{predicate}> <{other}> .\n" for one, predicate, other in links]
        self.triples += len(lines)
        return "".join(lines)

    def _list(self, start: str, values: tuple[str, ...]) -> list[str]:
        self._lists += 1
        cells = [f"_:l{self._lists}x{place}" for place in range(len(values))] + [f"<{NIL}>"]
        lines = [f"{start}{cells[0]} .\n"]
        for place, value in enumerate(values):
            lines.append(f"{cells[place]} <{FIRST}> {_object('text', value)} .\n")
            lines.append(f"{cells[place]} <{REST}> {cells[place + 1]} .\n")
        return lines


class _Turtle(_Writer):
    def head(self) -> str:
        prefixes = "".join(f"@prefix {name}: <{iri}> .\n" for name, iri in PREFIXES.items())
        return f"{FIRST_LINE}\n{prefixes}\n"

    def tail(self) -> str:
        return f"{LAST_LINE}\n"

    def text(self, record: Node | Hyperedge) -> str:
        subject, said, links = statements(record)
        parts = []
        for predicate, kind, value in said:
            if kind == "list":
                object = f"( {' '.join(_object('text', one) for one in value)} )" if value else "()"
                self.triples += 2 * len(value)
            else:
                object = _object(kind, value)
            parts.append(f"{_predicate(predicate)} {object}")
        self.triples += len(parts) + len(links)
        whole = " ;\n    ".join(parts)
        return f"<{subject}> {whole} .\n" + "".join(
            f"<{one}> {_predicate(via)} <{other}> .\n" for one, via, other in links
        )


class _JsonLd(_Writer):
    def __init__(self) -> None:
        super().__init__()
        self._coerced = coercions()
        self._is_first = True

    def head(self) -> str:
        return f"{jsonld_head()}\n"

    def tail(self) -> str:
        return "\n]}\n"

    def text(self, record: Node | Hyperedge) -> str:
        subject, said, links = statements(record)
        found: dict[str, Any] = {"@id": short(subject)}
        for predicate, kind, value in said:
            self.triples += 1 + 2 * len(value) if kind == "list" else 1
            key = "@type" if predicate == TYPE else short(predicate)
            shown = short(value) if predicate == TYPE else self._value(predicate, kind, value)
            if kind == "list" or key not in found:
                found[key] = shown
            else:
                there = found[key]
                found[key] = [*there, shown] if isinstance(there, list) else [there, shown]
        objects = [found]
        for one, predicate, other in links:
            self.triples += 1
            objects.append({"@id": short(one), short(predicate): self._value(predicate, "node", other)})
        start = "" if self._is_first else ",\n"
        self._is_first = False
        return start + ",\n".join(to_json(each) for each in objects)

    def _value(self, predicate: str, kind: str, value: Any) -> Any:
        is_coerced = self._coerced.get(predicate) == kind
        if kind == "list":
            return list(value) if is_coerced else {"@list": list(value)}
        if kind == "node":
            return short(value) if is_coerced else {"@id": short(value)}
        if kind in ("number", "time"):
            word, said = _lexical(kind, value)
            return said if is_coerced and word == TYPED[kind] else {"@type": short(word), "@value": said}
        return value


_WRITERS: Mapping[str, type[_Writer]] = {"turtle": _Turtle, "ntriples": _NTriples, "jsonld": _JsonLd}


def statements(record: Node | Hyperedge) -> tuple[str, list[Said], list[tuple[str, str, str]]]:
    """One record as triples.

    Returns:
        the subject's IRI; what is said of it, its classes first; and triples of other subjects that say the
        same again in schema.org's words.
    """
    known = classes()[record.type]
    said: list[Said] = [(TYPE, "node", iri) for iri in known.iris]
    links: list[tuple[str, str, str]] = []
    if isinstance(record, Hyperedge):
        subject = FACT + record.id
        members = {role: [iri_of(node_id) for node_id in ids] for role, ids in record.members.items()}
        for role, iris in members.items():
            predicate = known.terms[role].iri
            said += [(predicate, "node", iri) for iri in iris]
        for name in ("source", "confidence", "start_ts", "end_ts"):
            if (value := getattr(record, name)) is not None:
                said.append((known.terms[name].iri, known.terms[name].kind, value))
        if known.link is not None:
            one, predicate, other = known.link
            links = [(first, predicate, last) for first in members[one] for last in members[other]]
        elif "content" in members and f"{SCHEMA}Offer" in known.iris:
            links = [(content, OFFERS, subject) for content in members["content"]]
    else:
        subject = iri_of(record.id)
        if (kind := kind_iris().get(record.properties.get("kind", ""))) and record.type == "Content":
            said.append((TYPE, "node", kind))
        said += [(SAME_AS, "node", iri) for iri in same_as(record)]
    for name, value in record.properties.items():
        term = known.terms[name]
        if term.kind == "texts":
            said += _texts(term.iri, term.order_iri, value)
        else:
            said.append((term.iri, term.kind, value))
    return subject, said, links


def same_as(node: Node) -> list[str]:
    """Pages elsewhere that describe the same thing, made from its identifiers."""
    pages = words()["same_as"].get(node.type)
    if not pages:
        return []
    pairs = (pair.partition(":") for pair in node.properties.get("ids", ()))
    found = {pages[scheme].format(value) for scheme, _, value in pairs if scheme in pages and _IS_CODE(value)}
    return sorted(found)


def _texts(iri: str, order_iri: str, values: tuple[str, ...]) -> list[Said]:
    """Each text once, and all in a list where the order or repeats say more than that."""
    once = sorted(set(values))
    said: list[Said] = [(iri, "text", value) for value in once]
    if not values or list(values) != once:
        said.append((order_iri, "list", values))
    return said


def _object(kind: str, value: Any) -> str:
    if kind == "node":
        return f"<{value}>"
    if kind == "text":
        return f'"{_ESCAPED.sub(_escape, value)}"'
    word, said = _lexical(kind, value)
    return f'"{said}"^^<{word}>'


def _lexical(kind: str, value: Any) -> tuple[str, str]:
    """(IRI of the data type, how the value is spelt); a time beyond the calendar stays whole seconds."""
    if kind == "number":
        return TYPED[kind], repr(float(value))
    if kind == "flag":
        return TYPED[kind], "true" if value else "false"
    if kind == "time" and _FIRST_TS <= value <= _LAST_TS:
        return TYPED[kind], _moment(value)
    return TYPED["integer"], str(value)


@lru_cache(maxsize=65_536)
def _moment(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}Z"


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    return _ESCAPES.get(letter) or f"\\u{ord(letter):04X}"


@cache
def _predicate(iri: str) -> str:
    return "a" if iri == TYPE else short(iri)
