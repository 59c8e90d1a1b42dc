"""A store in plain dictionaries: what every other store is held equal to in tests."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kg import schema
from kg.records import Hyperedge, Node
from kg.store import oracle
from kg.store.base import GraphStore, Neighbour, StoreError, WriteReport
from kg.store.encoding import members_of


class MemoryStore(GraphStore):
    """Keeps records in this process and forgets them with it.

    Example:
        >>> store = MemoryStore()
        >>> store.write([Node("Genre", "genre:western")]).nodes_written
        1
        >>> store.count()
        {'Genre': 1}
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._facts: dict[str, Hyperedge] = {}
        self._facts_of: dict[str, set[str]] = {}  # node id -> ids of its facts

    def write(self, records: Iterable[Node | Hyperedge]) -> WriteReport:
        nodes = facts = unchanged = 0
        for record in records:
            if isinstance(record, Node):
                if self._nodes.get(record.id) == record:
                    unchanged += 1
                else:
                    self._nodes[record.id] = record
                    nodes += 1
            elif self._facts.get(record.id) == record:
                unchanged += 1
            else:
                self._add(record)
                facts += 1
        return WriteReport(nodes, facts, unchanged)

    def _add(self, fact: Hyperedge) -> None:
        for role, node_id in members_of(fact):
            if node_id not in self._nodes:
                raise StoreError(
                    f"{fact.type} from {fact.source} names {node_id!r} as {role}, which is no node here: "
                    "write the node first"
                )
        self._facts[fact.id] = fact
        for _, node_id in members_of(fact):
            self._facts_of.setdefault(node_id, set()).add(fact.id)

    def nodes(self, type: str) -> Iterator[Node]:
        yield from [node for node in self._nodes.values() if node.type == type]

    def hyperedges(self, type: str) -> Iterator[Hyperedge]:
        yield from [fact for fact in self._facts.values() if fact.type == type]

    def neighbours(self, node_id: str, types: Sequence[str] = (), limit: int = 1000) -> list[Neighbour]:
        found = [
            Neighbour(other, role, fact)
            for fact in (self._facts[known] for known in sorted(self._facts_of.get(node_id, ())))
            if not types or fact.type in types
            for role, other in members_of(fact)
            if other != node_id
        ]
        return found[:limit]

    def count(self) -> dict[str, int]:
        found = dict.fromkeys((*schema.NODES, *schema.FACTS), 0)
        for record in (*self._nodes.values(), *self._facts.values()):
            found[record.type] += 1
        return {type: number for type, number in found.items() if number}

    def erase(self, node_id: str) -> int:
        facts = self._facts_of.pop(node_id, set())
        for fact_id in facts:
            for _, other in members_of(self._facts.pop(fact_id)):
                self._facts_of.get(other, set()).discard(fact_id)
        self._nodes.pop(node_id, None)
        return len(facts)

    def cypher(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        rows = oracle.answer(self, query, parameters or {})
        if rows is not None:
            return rows
        raise StoreError(
            f"the memory store answers no Cypher but the house's own questions, got {query[:60]!r}: "
            "ask the embedded database or Neo4j"
        )

    def close(self) -> None:
        """Nothing to let go of."""
