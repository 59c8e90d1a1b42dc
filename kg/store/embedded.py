"""A graph in the embedded server, and its first load through the server's batch endpoint."""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import StoreError, WriteReport
from kg.store.bolt import Answer, BoltConfig, BoltStore
from kg.store.loading import BatchLoad
from kg.store.local import LocalConfig, LocalServer
from kg.store.visitors import write_private


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
        progress: Callable[[int, int | None], None] | None = None,
        wide_first: bool = False,
        note: Callable[[], str | None] | None = None,
    ) -> WriteReport:
        """Fills an empty graph, faster than :meth:`write`: into an unpublished folder, checked, then renamed.

        A load that is broken off leaves nothing behind. Each id may come once.

        Args:
            nodes: all nodes.
            hyperedges: all facts.
            progress: called with rows sent and rows to send, None while that is not known; from a thread.
            wide_first: True where facts of three or more members come before those of two; the latter then
                are sent as they come.
            note: asked for once all stands; what it says :meth:`note` says until somebody writes.

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
                BoltStore.close(self)
                self.server.load_aside()
                try:
                    self._attach(self.graph)
                    self.prepare()
                    report = load.send(nodes, hyperedges, wide_first)
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
            if note is not None and (said := note()):
                write_private(self._note, said)
        return report

    @property
    def _note(self) -> Path:
        return self.server.folder / "loaded.json"

    def note(self) -> str | None:
        """What was noted of the first load, as long as nobody has written since; None without a note."""
        return self._note.read_text(encoding="utf-8") if self._note.is_file() else None

    def transact(self, work: Callable[[Any], Answer]) -> Answer:
        """As in every Bolt store; what was noted of the first load is forgotten before, for good."""
        if self._note.is_file():
            self._note.unlink()
            handle = os.open(self._note.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return super().transact(work)
