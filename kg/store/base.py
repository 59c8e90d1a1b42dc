"""What the rest of the house knows of a graph store: six methods, and a read-only question in Cypher.

Whoever reads a whole graph takes columns instead of records."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.columns import batches


class StoreError(RuntimeError):
    """A store that cannot be reached, is taken, is full, or refuses what it was asked."""


@dataclass(frozen=True)
class WriteReport:
    """What one call of ``write`` changed."""

    nodes_written: int
    hyperedges_written: int
    unchanged: int
    """Records that stood there already, word for word; nothing is written for them."""


@dataclass(frozen=True)
class Neighbour:
    """A node that shares a fact with another one."""

    node_id: str
    role: str
    """The neighbour's part in the fact."""
    fact: Hyperedge


class GraphStore(ABC):
    """A hypergraph of :class:`Node` and :class:`Hyperedge`; writing the same record twice writes it once."""

    @abstractmethod
    def write(self, records: Iterable[Node | Hyperedge]) -> WriteReport:
        """Adds or replaces records by id, in batches that are each whole or absent after a crash.

        Nodes come before the facts that name them.

        Raises:
            StoreError: a fact names a node that is not there; the server is gone, full or refuses.
        """

    @abstractmethod
    def nodes(self, type: str) -> Iterator[Node]:
        """All nodes of a type, in no order."""

    @abstractmethod
    def hyperedges(self, type: str) -> Iterator[Hyperedge]:
        """All facts of a type, in no order."""

    def columns(self, type: str) -> Iterator[pa.RecordBatch]:
        """All records of a type as columns, thousands at a time, in no order: for whoever reads them all.

        See :func:`kg.store.columns.batch_schema`. A store overrides this where it can do better than
        :meth:`nodes` and :meth:`hyperedges`; it refuses the same records.
        """
        return batches(type, self.nodes(type) if type in schema.NODES else self.hyperedges(type))

    @abstractmethod
    def neighbours(self, node_id: str, types: Sequence[str] = (), limit: int = 1000) -> list[Neighbour]:
        """The other members of the facts that ``node_id`` is in, from either end; no ``types`` means all."""

    @abstractmethod
    def count(self) -> dict[str, int]:
        """How many nodes and facts there are, by type; types without any are left out."""

    @abstractmethod
    def erase(self, node_id: str) -> int:
        """Removes a node and every fact it is a member of; returns how many facts went."""

    @abstractmethod
    def cypher(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Answers a read-only question; a query that would write is refused with :class:`StoreError`."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the connection; what was written stays."""

    def __enter__(self) -> "GraphStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
