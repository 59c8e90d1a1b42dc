"""A graph in the embedded server, and its first load through the server's batch endpoint."""

import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import StoreError, WriteReport
from kg.store.bolt import BoltConfig, BoltStore
from kg.store.encoding import members_of, row_of
from kg.store.local import DATABASE, LocalConfig, LocalServer

_CHUNK_BYTES = 2**20


class EmbeddedStore(BoltStore):
    """A :class:`BoltStore` that brings its own server and stops it when nobody needs it any more."""

    def __init__(self, folder: Path, graph: str, config: LocalConfig | None = None) -> None:
        """Opens the graph under ``folder``; joins the server where another process runs it.

        Raises:
            StoreError: see :meth:`LocalServer.open`.
        """
        self.server = LocalServer(folder, config).open()
        self._leave = weakref.finalize(self, self.server.close)  # also when the interpreter ends
        self._attach(graph)

    def _attach(self, graph: str) -> None:
        try:
            super().__init__(
                self.server.uri,
                "root",
                self.server.secret("root"),
                graph,
                ("reader", self.server.secret("reader")),
                BoltConfig(
                    retry_s=5,
                    lock=self.server.folder / "writer.lock",
                ),
            )
        except BaseException:
            self.server.close()
            raise

    def close(self) -> None:
        super().close()
        if hasattr(self, "_leave"):
            self._leave()

    def count(self) -> dict[str, int]:
        """As in every store; asked of ArcadeDB's own books, because Cypher walks along every relationship."""
        books = {
            row["name"]: row["records"] for row in self.server.query("SELECT name, records FROM schema:types")
        }
        found = {label: books.get(label, 0) for label in schema.NODES}
        found |= {
            kind.name: books.get(kind.name if kind.is_binary else kind.label, 0)
            for kind in schema.FACTS.values()
        }
        return {type: number for type, number in found.items() if number}

    def _trouble(self, what: str) -> StoreError:
        return self.server.trouble(what)

    def is_fresh(self) -> bool:
        """Whether :meth:`first_load` is possible: nothing stands here, and nobody else visits the server."""
        return not self.count() and not self.server.is_shared()

    def first_load(
        self,
        nodes: Iterable[Node],
        hyperedges: Iterable[Hyperedge],
        progress: Callable[[int, int], None] | None = None,
    ) -> WriteReport:
        """Fills an empty graph, faster than :meth:`write`: into an unpublished folder, checked, then renamed.

        A load that is broken off leaves nothing behind. Each id may come once.

        Args:
            nodes: all nodes.
            hyperedges: all facts.
            progress: called with rows sent and rows to send.

        Raises:
            StoreError: a fact names a node that is not there, an id comes twice, the graph is not empty, or
                what arrived is not what was sent.
        """
        with self.writing():
            if not self.is_fresh():
                raise StoreError(
                    f"a first load needs an empty graph that nobody else has open, {self.graph!r} is not: "
                    "write the records instead"
                )
            with tempfile.TemporaryDirectory(prefix="spool.", dir=self.server.folder) as spool:
                load = BatchLoad(self, Path(spool), progress)
                report = load.spool(nodes, hyperedges)
                BoltStore.close(self)
                self.server.load_aside()
                try:
                    self._attach(self.graph)
                    self.prepare()
                    load.send()
                    load.check()
                    BoltStore.close(self)
                    self.server.publish()
                except BaseException:
                    BoltStore.close(self)
                    with suppress(
                        StoreError
                    ):  # a full disk lets no server start either: the first error says more
                        self.server.give_up_load()
                        self._attach(self.graph)
                    raise
            self._attach(self.graph)
        return report


class BatchLoad:
    """One first load: rows to files, files to the server, then the check."""

    def __init__(
        self, store: EmbeddedStore, folder: Path, progress: Callable[[int, int], None] | None
    ) -> None:
        self._store, self._progress = store, progress
        self._files = (folder / "vertices.jsonl", folder / "edges.jsonl")
        self._rows: dict[str, int] = {}  # node id -> how many vertices came before it
        self._vertices = self._edges = 0
        self._counts: dict[str, int] = {}
        self._edge_counts: dict[tuple[str, str, str], int] = {}  # (from label, type, to label) -> edges

    def spool(self, nodes: Iterable[Node], hyperedges: Iterable[Hyperedge]) -> WriteReport:
        """Writes the rows to files, because the endpoint takes all vertices before the first edge."""
        try:
            with (
                self._files[0].open("w", encoding="utf-8") as vertices,
                self._files[1].open("w", encoding="utf-8") as edges,
            ):
                for node in nodes:
                    self._spool_node(node, vertices)
                for fact in hyperedges:
                    self._spool_fact(fact, vertices, edges)
        except OSError as error:
            raise StoreError(
                f"{self._files[0].parent} must take the rows to load ({error}): free some disk, then repeat"
            ) from error
        return WriteReport(len(self._rows), sum(self._counts.values()) - len(self._rows), 0)

    def _spool_node(self, node: Node, vertices: TextIO) -> None:
        node_id, _, said = row_of(node)
        if node_id in self._rows:
            raise StoreError(f"a first load takes each id once, {node_id!r} came twice: merge the two before")
        self._rows[node_id] = self._vertices
        self._vertex(node.type, said, vertices)
        self._counts[node.type] = self._counts.get(node.type, 0) + 1

    def _spool_fact(self, fact: Hyperedge, vertices: TextIO, edges: TextIO) -> None:
        kind = schema.FACTS[fact.type]
        places = {}
        for role, node_id in members_of(fact):
            if node_id not in self._rows:
                raise StoreError(
                    f"{fact.type} from {fact.source} names {node_id!r} as {role}, which is no node here: "
                    "write the node first"
                )
            places[role, node_id] = self._rows[node_id]
        _, _, said = row_of(fact)
        if kind.is_binary:
            first, second = (places[role.name, fact.members[role.name][0]] for role in kind.roles)
            labels = tuple(role.types[0] for role in kind.roles)
            self._edge((labels[0], fact.type, labels[1]), first, second, said, edges)
        else:
            place = self._vertices
            self._vertex(kind.label, said, vertices)
            for (role, _), member in places.items():
                to = kind.role(role).types[0]
                self._edge((kind.label, kind.member_type(role), to), place, member, "{}", edges)
        self._counts[fact.type] = self._counts.get(fact.type, 0) + 1

    def _vertex(self, label: str, said: str, file: TextIO) -> None:
        file.write(f'{{"@type":"vertex","@class":"{label}",{said[1:]}\n')
        self._vertices += 1

    def _edge(self, key: tuple[str, str, str], start: int, end: int, said: str, file: TextIO) -> None:
        rest = f",{said[1:]}" if len(said) > 2 else "}"
        file.write(f'{{"@type":"edge","@class":"{key[1]}","@from":{start},"@to":{end}{rest}\n')
        self._edges += 1
        self._edge_counts[key] = self._edge_counts.get(key, 0) + 1

    def send(self) -> None:
        """Posts the files to the server that reads the unpublished folder."""
        if not self._vertices:
            return
        for _, type, _ in self._edge_counts:  # the endpoint takes edges of known types only
            self._store.server.command(f"CREATE EDGE TYPE `{type}` IF NOT EXISTS")
        reply = self._store.server.http(
            f"/api/v1/batch/{DATABASE}",
            params={
                "refMode": "ordinal",
                "idMapping": "false",
                "lightEdges": "false",
                "expectedRecords": str(self._vertices + self._edges),
            },
            headers={"Content-Type": "application/x-ndjson"},
            content=self._stream(),
        )
        came = (reply["verticesCreated"], reply["edgesCreated"])
        if came != (self._vertices, self._edges):
            raise StoreError(
                f"the server must take {(self._vertices, self._edges)} vertices and edges, it took {came}: "
                f"see {self._store.server.log}"
            )

    def _stream(self) -> Iterator[bytes]:
        sent = 0
        for path in self._files:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
                    sent += chunk.count(b"\n")
                    if self._progress is not None:
                        self._progress(sent, self._vertices + self._edges)

    def check(self) -> None:
        """What arrived is what was sent, and every relationship is found from both of its ends."""
        found = self._store.count()
        if found != self._counts:
            raise StoreError(f"a first load of {self._counts} left {found}: see {self._store.server.log}")
        ends: dict[str, list[tuple[str, str, int]]] = {}  # label -> (step, type, edges)
        for (start, type, end), expected in self._edge_counts.items():
            ends.setdefault(start, []).append(("outE", type, expected))
            ends.setdefault(end, []).append(("inE", type, expected))
        for label, steps in ends.items():
            sums = ", ".join(
                f"sum({step}('{type}').size()) AS n{place}" for place, (step, type, _) in enumerate(steps)
            )
            (seen,) = self._store.server.query(f"SELECT {sums} FROM `{label}`")
            for place, (_, type, expected) in enumerate(steps):
                if seen[f"n{place}"] != expected:
                    raise StoreError(
                        f"{expected} {type} were loaded, {seen[f'n{place}']} are found from {label}: "
                        f"see {self._store.server.log}, then repeat the import"
                    )
