"""A file of Turtle, N-Triples or JSON-LD as a source: our own exports, and what says schema.org's words."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kg.records import Hyperedge, Node, Reject
from kg.sources import Source, sources


@dataclass(frozen=True)
class RdfConfig:
    """Settings of :class:`RdfSource`."""

    path: str
    """Of the file."""
    format: str | None = None
    """``turtle``, ``ntriples`` or ``jsonld``; None takes it from the end of the name."""


@sources.register("rdf", RdfConfig)
class RdfSource(Source):
    """Tells the nodes and facts of a file of RDF; a fact keeps the source that the file names.

    In a file that is not ours, nodes come first, blank nodes stand for facts only, and single triples such as
    ``schema:actor`` are read as facts where no node of the file says any fact of that type. ``line`` of a
    reject is the line of a statement that is no RDF, else the number of the triple, 0 without an order.
    """

    name = "rdf"
    reliability = 0.7
    config: RdfConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        from kg.rdf import subjects  # the libraries load only where a file is read
        from kg.rdf_read import Reader
        from kg.rdf_terms import classes

        path = Path(self.config.path)
        repairs: Counter[str] = Counter()

        def refuse(line: int, column: str, value: str, remedy: str) -> None:
            self.rejects.append(Reject(path.name, line, column, value, remedy))

        def repair(what: str) -> None:
            repairs[what] += 1
            self.repairs = dict(repairs)

        said_by_nodes: set[str] = set()
        reader = Reader(refuse, repair)
        with subjects(path, self.config.format, refuse) as found:
            for subject in found:
                self.rows += 1
                record = reader.record(subject)
                if record is not None:
                    said_by_nodes.add(record.type)
                    yield record
            if found.is_streamed:
                return
            reader.read_links({type for type, known in classes().items() if known.link} - said_by_nodes)
            for subject in found:
                for fact in reader.link_facts(subject):
                    self.rows += 1
                    yield fact
