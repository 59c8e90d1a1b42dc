"""Triples to records: what is said of one subject becomes a node or a fact, or is refused with a remedy."""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

from kg import schema
from kg.rdf_terms import (
    FIRST,
    MG,
    NIL,
    NODE,
    OWN,
    REST,
    SAME_AS,
    SCHEMA,
    TYPE,
    Class,
    Term,
    class_of,
    classes,
    derived,
    id_of,
    kind_iris,
    short,
    words,
)
from kg.records import Hyperedge, Node, RecordError

Triple = tuple[str, str, str, str]
"""Subject (an IRI, or ``_:x``), predicate, value, and what it is: ``@id``, ``_:``, ``@en`` or a datatype."""
Object = tuple[str, str]
"""The last two of a :data:`Triple`."""
IRI, BLANK = "@id", "_:"
DEFAULT_SOURCE = "rdf"
_WHOLE = re.compile(r"[+-]?\d{1,19}").fullmatch
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass
class Subject:
    """All that a file says of one subject."""

    iri: str
    place: int
    """Number of its last triple in the file, 0 where triples come in any order."""
    said: dict[str, list[Object]] = field(default_factory=dict)
    lists: Mapping[str, dict[str, Object]] = field(default_factory=dict)
    """Cells of lists: blank node -> its first and its rest."""


def by_subject(triples: Iterable[Triple]) -> Iterator[Subject]:
    """Subjects of a file whose triples are grouped; what only says again what facts say is left out."""
    again, place = derived(), 0
    now: Subject | None = None
    iri, said, lists = "", {}, {}
    for place, (subject, predicate, value, kind) in enumerate(triples, 1):
        if predicate in again:
            continue
        if subject != iri:
            if subject[0] == "_" and subject[1] == ":":
                lists.setdefault(subject, {})[predicate] = (value, kind)
                continue
            if now is not None:
                now.place = place - 1
                yield now
            iri, said, lists = subject, {}, {}
            now = Subject(subject, place, said, lists)
        if predicate in said:
            said[predicate].append((value, kind))
        else:
            said[predicate] = [(value, kind)]
    if now is not None:
        now.place = place
        yield now


class Reader:
    """Turns subjects into records and remembers which nodes it told, because a fact may name only those."""

    def __init__(
        self,
        refuse: Callable[[int, str, str, str], None],
        repair: Callable[[str], None],
    ) -> None:
        """
        Args:
            refuse: takes place, column, value and remedy of what cannot be read.
            repair: takes what was mended.
        """
        self._refuse, self._repair = refuse, repair
        self._links: dict[str, Class] = {}
        self._told: set[str] = set()
        self._subject = Subject("", 0)

    def record(self, subject: Subject) -> Node | Hyperedge | None:
        """The node or fact that a subject is; None where it is refused."""
        self._subject = subject
        known = self._class()
        if known is None:
            return None
        if not known.is_fact and subject.iri.startswith(BLANK):
            self._say("rdf:type", short(known.iris[0]), "give the node an IRI instead of a blank node")
            return None
        values = self._values(known)
        try:
            return self._fact(known, values) if known.is_fact else self._node(known, values)
        except (RecordError, KeyError, ValueError) as error:
            self._say("rdf:type", short(known.iris[0]), str(error.args[0] if error.args else error))
            return None

    def read_links(self, types: Iterable[str]) -> None:
        """From here on facts of these types are read from single triples (``schema:actor``)."""
        self._links = {known.link[1]: known for type in types if (known := classes()[type]).link is not None}

    def link_facts(self, subject: Subject) -> Iterator[Hyperedge]:
        """Facts that single triples of a subject say, after all nodes were told."""
        self._subject = subject
        own = self._class(is_silent=True)
        for predicate in subject.said.keys() & self._links.keys() if own else ():
            known = self._links[predicate]
            first, _, last = known.link or ("", "", "")
            if own is None or own.type not in schema.FACTS[known.type].role(first).types:
                continue
            for value, kind in subject.said[predicate]:
                other = self._member(known.type, last, value) if kind == IRI else None
                if other is None:
                    self._say(predicate, value, f"describe this {last} in the file, with a class and an IRI")
                    continue
                members = {first: (id_of(subject.iri, own.type),), last: (other,)}
                yield Hyperedge(known.type, members, DEFAULT_SOURCE)

    def _class(self, is_silent: bool = False) -> Class | None:
        named = tuple(value for value, kind in self._subject.said.get(TYPE, ()) if kind == IRI)
        known = _class_named(named)
        if known is not None:
            return known
        if not is_silent:
            near = ", ".join(short(iri) for iri in _near(named[0] if named else "", class_of()))
            came = short(named[0]) if named else "no class"
            self._say("rdf:type", came, f"say what {short(self._subject.iri)} is, nearest: {near}")
        return None

    def _values(self, known: Class) -> dict[str, Any]:
        """Column, role or own word -> its value; roles -> IRIs."""
        found: dict[str, Any] = {}
        for predicate, objects in self._subject.said.items():
            term = known.by_iri.get(predicate)
            if term is None:
                self._unknown(predicate, known)
            elif term.kind == "node":
                found[term.name] = [value for value, kind in objects if self._is_node(term, value, kind)]
            elif term.kind == "texts":
                self._texts(term, objects, found)
            elif (value := self._one(term, objects)) is not None:
                found[term.name] = value
        return found

    def _node(self, known: Class, values: dict[str, Any]) -> Node:
        node_id = id_of(self._subject.iri, known.type)
        if known.type == "Content" and "kind" not in values:
            kinds = {iri: kind for kind, iri in kind_iris().items()}
            said = [kinds[value] for value, _ in self._subject.said[TYPE] if value in kinds]
            values |= {"kind": said[0]} if said else {}
        if "ids" not in values and (ids := self._ids_elsewhere(known.type)):
            values["ids"] = ids
        try:
            node = Node(known.type, node_id, values)
        except RecordError:
            node = Node(known.type, node_id)
            node = Node(
                known.type, node_id, self._fitting(values, lambda one: Node(known.type, node_id, one))
            )
        if node_id in self._told:
            self._repair("nodes told twice")
        self._told.add(node_id)
        return node

    def _fact(self, known: Class, values: dict[str, Any]) -> Hyperedge:
        own = {name: values.pop(name) for name in OWN if name in values}
        own.setdefault("source", DEFAULT_SOURCE)
        members = {}
        for role in schema.FACTS[known.type].roles:
            iris = values.pop(role.name, None)
            if iris:
                members[role.name] = tuple(
                    sorted(self._must_be_told(known.type, role.name, iri) for iri in iris)
                )
        try:
            return Hyperedge(known.type, members, properties=values, **own)
        except RecordError:
            Hyperedge(known.type, members, **own)  # raises where the fact is wrong, and not a property of it
            fitting = self._fitting(values, lambda one: Hyperedge(known.type, members, properties=one, **own))
            return Hyperedge(known.type, members, properties=fitting, **own)

    def _fitting(self, values: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
        """The values that the schema takes, one by one until it takes no more; the rest is refused."""
        fitting: dict[str, Any] = {}
        refused: dict[str, str] = {}
        is_growing = True
        while is_growing:  # a price is taken once its currency is
            is_growing, refused = False, {}
            for name in values.keys() - fitting.keys():
                try:
                    make({**fitting, name: values[name]})
                except RecordError as error:
                    refused[name] = str(error)
                else:
                    fitting[name], is_growing = values[name], True
        for name in sorted(refused):
            self._say(name, str(values[name]), refused[name])
        return fitting

    def _must_be_told(self, type: str, role: str, iri: str) -> str:
        found = self._member(type, role, iri)
        if found is None:
            raise RecordError(
                f"{type}.{role} names {short(iri)!r}, which is no node of this file: describe it before"
            )
        return found

    def _member(self, type: str, role: str, iri: str) -> str | None:
        if iri.startswith(NODE):
            node_id = id_of(iri, "")
            return node_id if node_id in self._told else None
        minted = (id_of(iri, node_type) for node_type in schema.FACTS[type].role(role).types)
        return next((node_id for node_id in minted if node_id in self._told), None)

    def _is_node(self, term: Term, value: str, kind: str) -> bool:
        if kind != IRI:
            self._say(term.iri, value, f"name the {term.name} by an IRI")
        return kind == IRI

    def _one(self, term: Term, objects: list[Object]) -> Any:
        if len(objects) > 1:
            objects = sorted(objects, key=lambda one: (one[1].startswith("@"), one[1] != "@en", one))
            self._repair("several values where the graph holds one, the first kept")
        value, kind = objects[0]
        try:
            return _PARSE[term.kind](value, kind)
        except (ValueError, OverflowError):
            self._say(term.iri, value, f"{term.name} must be {_MUST[term.kind]}: mend or remove the triple")
            return None

    def _texts(self, term: Term, objects: list[Object], found: dict[str, Any]) -> None:
        lists = [value for value, kind in objects if kind == BLANK or value == NIL and kind == IRI]
        if lists:
            listed = self._listed(lists[0])
            if listed is None:
                self._say(
                    term.iri, lists[0], f"{term.name} must be a list of texts that ends in rdf:nil: mend it"
                )
            elif term.what == "order" and not self._agrees(term, listed):
                self._say(
                    term.iri, ", ".join(listed), f"mg:{term.name} must hold the same texts: mend either"
                )
            else:
                found[term.name] = listed
        elif term.name not in found:
            found[term.name] = tuple(sorted({value for value, _ in objects}))

    def _agrees(self, order: Term, listed: tuple[str, ...]) -> bool:
        plain = next(
            (objects for iri, objects in self._subject.said.items() if iri == self._plain_iri(order)), None
        )
        return plain is None or {value for value, _ in plain} == set(listed)

    def _plain_iri(self, order: Term) -> str:
        known = self._class(is_silent=True)
        return known.terms[order.name].iri if known else ""

    def _listed(self, cell: str) -> tuple[str, ...] | None:
        values: list[str] = []
        lists, seen = self._subject.lists, set()
        while cell != NIL:
            said = lists.get(cell)
            if said is None or cell in seen or FIRST not in said or REST not in said:
                return None
            seen.add(cell)
            values.append(said[FIRST][0])
            cell = said[REST][0]
        return tuple(values)

    def _ids_elsewhere(self, type: str) -> tuple[str, ...]:
        """Identifiers by which ``schema:sameAs`` names pages that are known."""
        found = set()
        for value, _ in self._subject.said.get(SAME_AS, ()):
            for scheme, page in _pages(type):
                if match := page.fullmatch(value):
                    found.add(f"{scheme}:{match[1]}")
        return tuple(sorted(found))

    def _unknown(self, predicate: str, known: Class) -> None:
        if predicate.startswith(MG):
            near = ", ".join(short(iri) for iri in _near(predicate, known.by_iri))
            self._say(predicate, known.type, f"a {known.type} has no such term, nearest: {near}")
        elif predicate != TYPE and predicate not in derived():
            where = "schema.org" if predicate.startswith(SCHEMA) else "another vocabulary"
            self._repair(f"triples of {where} that the graph has no place for")

    def _say(self, column: str, value: str, remedy: str) -> None:
        self._refuse(self._subject.place, short(column), value[:200], remedy)


@lru_cache(maxsize=1024)
def _class_named(iris: tuple[str, ...]) -> Class | None:
    """The first class that the graph knows, ours before schema.org's."""
    ours_first = sorted(iris, key=lambda iri: not iri.startswith(MG))
    types = [class_of()[iri] for iri in ours_first if iri in class_of()]
    return classes()[types[0]] if types else None


def _near(name: str, known: Iterable[str]) -> list[str]:
    found = list(known)
    return difflib.get_close_matches(name, found, n=3, cutoff=0.5) or sorted(found)[:3]


@cache
def _pages(type: str) -> list[tuple[str, re.Pattern[str]]]:
    pages = words()["same_as"].get(type) or {}
    split = {scheme: page.partition("{}") for scheme, page in pages.items()}
    return [
        (scheme, re.compile(f"{re.escape(start)}([^?#]+?){re.escape(end).rstrip('/')}/?"))
        for scheme, (start, _, end) in split.items()
    ]


def _integer(value: str, kind: str) -> int:
    if kind in (IRI, BLANK) or not _WHOLE(value):
        raise ValueError(value)
    return int(value)


def _number(value: str, kind: str) -> float:
    number = float(value)
    if kind in (IRI, BLANK) or not math.isfinite(number):
        raise ValueError(value)
    return number


def _flag(value: str, kind: str) -> bool:
    if value not in _FLAGS:
        raise ValueError(value)
    return _FLAGS[value]


@lru_cache(maxsize=65_536)
def _time(value: str, kind: str) -> int:
    if _WHOLE(value) and kind.endswith("integer"):
        return int(value)
    moment = datetime.fromisoformat(value)
    return math.floor((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _text(value: str, kind: str) -> str:
    if kind == BLANK:
        raise ValueError(value)
    return value


_PARSE: Mapping[str, Callable[[str, str], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "time": _time,
}
_MUST = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a finite number",
    "flag": "true or false",
    "time": "a date with time (2024-01-31T00:00:00Z)",
}
