"""The door to RDF's libraries: parses files, gathers scattered triples, answers SPARQL, checks SHACL shapes.

Only this file imports pyoxigraph, rdflib and pyshacl; none of them ever opens a network connection here."""

import json
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyoxigraph

from kg.rdf_files import format_of, is_ours
from kg.rdf_question import answer_of
from kg.rdf_read import BLANK, IRI, Subject, Triple, by_subject
from kg.rdf_shapes import shapes_text
from kg.rdf_terms import FIRST, PREFIXES, REST, TYPE, class_of, classes, short
from kg.records import SourceError

_PARSERS = {
    "turtle": pyoxigraph.RdfFormat.TURTLE,
    "ntriples": pyoxigraph.RdfFormat.N_TRIPLES,
    "jsonld": pyoxigraph.RdfFormat.JSON_LD,
}
_CUT_OFF = re.compile(r"unexpected end", re.IGNORECASE)
_CHUNK = 1_000
Refuse = Callable[[int, str, str, str], None]
"""Takes place (line or number of the triple), column, value and remedy of what cannot be read."""


def triples(path: Path, format: str | None = None, refuse: Refuse | None = None) -> Iterator[Triple]:
    """The triples of a file as they come, in constant memory.

    Args:
        path: of the file.
        format: ``turtle``, ``ntriples`` or ``jsonld``; None takes it from the end of the name.
        refuse: takes statements that are no RDF, one by one; None raises at the first.

    Raises:
        SourceError: no such file; a file that was cut off; without ``refuse``, a statement that is no RDF.

    Cost: about 2.5 s for a million triples of N-Triples.
    """
    name = format or format_of(path)
    found = iter(_parser(path, name))
    while True:
        try:
            for quad in found:
                subject, object = quad.subject, quad.object
                kind = type(object)
                yield (
                    subject.value if type(subject) is pyoxigraph.NamedNode else f"_:{subject.value}",
                    quad.predicate.value,
                    object.value if kind is not pyoxigraph.BlankNode else f"_:{object.value}",
                    _kind(object)
                    if kind is pyoxigraph.Literal
                    else IRI
                    if kind is pyoxigraph.NamedNode
                    else BLANK,
                )
            return
        except SyntaxError as error:
            line, said = error.lineno or 0, str(error.args[0])
            if refuse is None or name == "jsonld" or _CUT_OFF.search(said):
                remedy = "get the whole file again" if _CUT_OFF.search(said) else "mend the file there"
                raise SourceError(path, f"the file must be {name}", said, remedy) from None
            refuse(line, "syntax", said[:200], f"write this statement as {name}")


def _kind(literal: pyoxigraph.Literal) -> str:
    return f"@{literal.language}" if literal.language else literal.datatype.value


def _parser(path: Path, name: str) -> Iterable[pyoxigraph.Quad]:
    if not path.is_file():
        raise SourceError(path, "a file of RDF must be there", "none", "give the path of a file")
    return pyoxigraph.parse(path=str(path), format=_PARSERS[name], without_named_graphs=name == "jsonld")


def bare_triples(path: Path) -> Iterator[Any]:
    """The library's own objects, untouched: what a benchmark holds :func:`triples` against."""
    return (quad.triple for quad in _parser(path, format_of(path)))


def bare_write(found: Iterable[Any], path: Path) -> None:
    """The library's own writer on its own objects: what a benchmark holds ours against."""
    pyoxigraph.serialize(found, str(path), _PARSERS[format_of(path)])


class Subjects:
    """What a file says, subject by subject; :func:`subjects` opens it."""

    def __init__(self, again: Callable[[], Iterator[Subject]], is_streamed: bool) -> None:
        self._again, self.is_streamed = again, is_streamed

    def __iter__(self) -> Iterator[Subject]:
        return self._again()


@contextmanager
def subjects(path: Path, format: str | None = None, refuse: Refuse | None = None) -> Iterator[Subjects]:
    """The subjects of a file, nodes before facts: streamed from a file of ours, else gathered on disk first.

    Raises:
        SourceError: see :func:`triples` and :func:`is_ours`.

    Cost: a file of ours constant memory; another one a temporary folder of about its size, and 12 s a million
    triples.
    """
    if is_ours(path, format):
        yield Subjects(lambda: by_subject(triples(path, format, refuse)), is_streamed=True)
        return
    with tempfile.TemporaryDirectory(prefix="mg-rdf.") as folder:
        store = pyoxigraph.Store(folder)
        store.bulk_extend(_quads(triples(path, format, refuse)))
        yield Subjects(lambda: _gathered(store), is_streamed=False)


def _quads(found: Iterable[Triple]) -> Iterator[pyoxigraph.Quad]:
    for subject, predicate, value, kind in found:
        yield pyoxigraph.Quad(_term(subject), pyoxigraph.NamedNode(predicate), _object(value, kind))


def _term(value: str) -> pyoxigraph.NamedNode | pyoxigraph.BlankNode:
    return pyoxigraph.BlankNode(value[2:]) if value.startswith(BLANK) else pyoxigraph.NamedNode(value)


def _object(value: str, kind: str) -> Any:
    if kind in (IRI, BLANK):
        return _term(value)
    if kind.startswith("@"):
        return pyoxigraph.Literal(value, language=kind[1:])
    return pyoxigraph.Literal(value, datatype=pyoxigraph.NamedNode(kind))


def _gathered(store: pyoxigraph.Store) -> Iterator[Subject]:
    """Subjects with a class that the graph knows, the nodes first, each once."""
    type_iri = pyoxigraph.NamedNode(TYPE)
    known = class_of()
    ordered = sorted(known, key=lambda iri: (classes()[known[iri]].is_fact, iri.startswith("http"), iri))
    before: list[pyoxigraph.Quad] = []
    for iri in ordered:
        for quad in store.quads_for_pattern(None, type_iri, pyoxigraph.NamedNode(iri), None):
            if not any(pyoxigraph.Quad(quad.subject, type_iri, one) in store for one in before):
                yield _subject(store, quad.subject)
        before.append(pyoxigraph.NamedNode(iri))


def _subject(store: pyoxigraph.Store, subject: Any) -> Subject:
    found = Subject(str(subject) if isinstance(subject, pyoxigraph.BlankNode) else subject.value, 0)
    lists: dict[str, dict[str, Any]] = {}
    for quad in store.quads_for_pattern(subject, None, None, None):
        value, kind = _plain(quad.object)
        found.said.setdefault(quad.predicate.value, []).append((value, kind))
        if kind == BLANK:
            _follow(store, quad.object, lists)
    found.lists = lists
    return found


def _follow(store: pyoxigraph.Store, cell: Any, lists: dict[str, dict[str, Any]]) -> None:
    while isinstance(cell, pyoxigraph.BlankNode) and str(cell) not in lists:
        said: dict[str, Any] = {}
        following: Any = None
        for quad in store.quads_for_pattern(cell, None, None, None):
            if quad.predicate.value in (FIRST, REST):
                said[quad.predicate.value] = _plain(quad.object)
                following = quad.object if quad.predicate.value == REST else following
        lists[str(cell)] = said
        cell = following


def _plain(term: Any) -> tuple[str, str]:
    if isinstance(term, pyoxigraph.NamedNode):
        return term.value, IRI
    if isinstance(term, pyoxigraph.BlankNode):
        return str(term), BLANK
    return term.value, _kind(term)


@dataclass(frozen=True)
class Finding:
    """Something that the shapes do not allow."""

    subject: str
    path: str
    """Predicate, '' where the whole subject is meant."""
    value: str
    message: str


def validate(path: Path, format: str | None = None, most: int = 1_000) -> tuple[int, list[Finding]]:
    """Checks a file against the shapes of the schema and of ``configs/rdf/shapes.ttl``, by SHACL.

    Args:
        path: of the file.
        format: as in :func:`triples`.
        most: findings after which it stops.

    Returns:
        how many subjects were checked, and what was found; statements that are no RDF are findings too.

    Source: W3C, "Shapes Constraint Language (SHACL)", 2017, by pyshacl.

    Cost: about 1 ms a subject; memory of a thousand subjects, and of the IRIs of all nodes.
    """
    import pyshacl

    shapes = _shapes()
    findings: list[Finding] = []
    nodes: dict[str, str] = {}  # IRI -> IRI of its class
    checked = 0

    def refuse(line: int, column: str, value: str, remedy: str) -> None:
        findings.append(Finding(f"line {line}", column, value, remedy))

    with subjects(path, format, refuse) as opened:
        found = iter(opened)
        while len(findings) < most and (chunk := list(islice(found, _CHUNK))):
            checked += len(chunk)
            data = _rdflib_graph(chunk, nodes)
            conforms, results, _ = pyshacl.validate(data, shacl_graph=shapes, inplace=True)
            if not conforms:
                findings += _findings(results)
    return checked, findings[:most]


@cache
def _shapes() -> Any:
    import rdflib

    return rdflib.Graph().parse(data=shapes_text(), format="turtle")


def _rdflib_graph(chunk: list[Subject], nodes: dict[str, str]) -> Any:
    """The triples of some subjects, and the classes of the nodes that they name."""
    import rdflib

    graph, is_a = rdflib.Graph(), rdflib.URIRef(TYPE)
    for subject in chunk:
        types = [class_of()[value] for value, _ in subject.said.get(TYPE, ()) if value in class_of()]
        if types and not classes()[types[0]].is_fact:
            nodes[subject.iri] = classes()[types[0]].iris[0]
    for subject in chunk:
        one = _rdflib_term(subject.iri, BLANK if subject.iri.startswith(BLANK) else IRI)
        for predicate, objects in subject.said.items():
            for value, kind in objects:
                graph.add((one, rdflib.URIRef(predicate), _rdflib_term(value, kind)))
                if kind == IRI and value in nodes:
                    graph.add((rdflib.URIRef(value), is_a, rdflib.URIRef(nodes[value])))
    return graph


def _rdflib_term(value: str, kind: str) -> Any:
    import rdflib

    if kind == IRI:
        return rdflib.URIRef(value)
    if kind == BLANK:
        return rdflib.BNode(value[2:])
    if kind.startswith("@"):
        return rdflib.Literal(value, lang=kind[1:])
    if kind == f"{PREFIXES['xsd']}string":
        return rdflib.Literal(value)
    return rdflib.Literal(value, datatype=rdflib.URIRef(kind), normalize=False)


def _findings(results: Any) -> list[Finding]:
    import rdflib

    shacl = rdflib.Namespace(PREFIXES["sh"])
    found = []
    for one in results.subjects(rdflib.RDF.type, shacl.ValidationResult):
        said = [results.value(one, shacl[name]) for name in ("focusNode", "resultPath", "value")]
        messages = sorted(str(message) for message in results.objects(one, shacl.resultMessage))
        found.append(
            Finding(*["" if part is None else short(str(part))[:200] for part in said], "; ".join(messages))
        )
    return sorted(found, key=lambda one: (one.subject, one.path, one.value))


class Triples:
    """A file of RDF that answers SPARQL; lies in a temporary folder until it is closed.

    Example:
        with Triples(Path("graph.ttl")) as triples:
            rows = triples.ask("SELECT ?title { ?film a schema:Movie ; schema:name ?title } LIMIT 5")
    """

    def __init__(self, path: Path, format: str | None = None) -> None:
        """Loads the file.

        Raises:
            SourceError: no such file, or one that is not RDF.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="mg-rdf.")
        try:
            is_ours(path, format)  # a file of ours that was cut off is refused here
            store = pyoxigraph.Store(self._folder.name)
            store.bulk_load(path=str(path), format=_PARSERS[format or format_of(path)])
            store.flush()
            del store  # lets go of the folder's lock
        except SyntaxError as error:
            self._folder.cleanup()
            said = str(error.args[0])
            raise SourceError(path, "the file must be RDF", said, "mend the file there") from None
        except BaseException:
            self._folder.cleanup()
            raise

    def ask(self, question: str, limit_s: float = 30.0, most: int = 10_000) -> list[dict[str, Any]]:
        """Answers SELECT, ASK, CONSTRUCT or DESCRIBE, read-only, in a process that ends at the time limit.

        Args:
            question: SPARQL 1.1; the prefixes of :data:`kg.rdf_terms.PREFIXES` are known.
            limit_s: seconds after which it is given up.
            most: rows after which it is refused.

        Returns:
            a row a solution; ``{"answer": bool}`` of ASK; subject, predicate and object of a triple.

        Raises:
            RdfError: an update, SERVICE or LOAD, no SPARQL, too many rows or too slow.
        """
        return answer_of(self._folder.name, question, limit_s, most)

    def close(self) -> None:
        """Deletes the temporary folder."""
        self._folder.cleanup()

    def __enter__(self) -> "Triples":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answer(folder: str, question: str, most: int) -> dict[str, Any]:
    store = pyoxigraph.Store.read_only(folder)
    prefixes = {name: iri for name, iri in PREFIXES.items()}
    try:
        found = store.query(question, prefixes=prefixes)
        if isinstance(found, pyoxigraph.QueryBoolean):
            return {"rows": [{"answer": bool(found)}]}
        if isinstance(found, pyoxigraph.QueryTriples):
            rows = [
                {
                    "subject": _shown(one.subject),
                    "predicate": _shown(one.predicate),
                    "object": _shown(one.object),
                }
                for one in islice(found, most + 1)
            ]
        else:
            names = [variable.value for variable in found.variables]
            rows = [{name: _shown(one[name]) for name in names} for one in islice(found, most + 1)]
    except SyntaxError as error:
        return {"error": f"a question must be SPARQL 1.1: {error.args[0]}: mend it there"}
    except (OSError, ValueError, RuntimeError) as error:
        return {"error": f"the question failed ({error}): ask another one"}
    if len(rows) > most:
        return {"error": f"an answer has at most {most:,} rows, this one has more: add LIMIT"}
    return {"rows": rows}


def _shown(term: Any) -> Any:
    """A term as JSON knows it: numbers and flags as such, IRIs with our prefixes."""
    if term is None:
        return None
    if isinstance(term, pyoxigraph.NamedNode):
        return short(term.value)
    if not isinstance(term, pyoxigraph.Literal):
        return str(term)
    kind = term.datatype.value.rpartition("#")[2]
    if kind == "integer":
        return int(term.value)
    if kind in ("double", "decimal", "float"):
        number = float(term.value)
        return number if math.isfinite(number) else term.value
    return term.value == "true" if kind == "boolean" else term.value


if __name__ == "__main__":
    json.dump(_answer(**json.load(sys.stdin)), sys.stdout, ensure_ascii=False)
