"""Writes records in batches: what stands already is left alone, what is new or changed is merged by id."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import WriteReport
from kg.store.encoding import members_of, row_of

if TYPE_CHECKING:
    from kg.store.bolt import BoltStore

BATCH_ROWS = 5_000
BATCH_BYTES = 6_000_000
"""A message of more than 16 MiB hangs the client; Bolt's packing and the member ids come on top."""


class MissingNodes(ValueError):
    """Facts that name nodes which are not there."""


class HiddenNodes(MissingNodes):
    """Nodes that are there, and that another writer kept from being matched: worth another try."""


class Writer:
    """One call of ``write``: batches by type, nodes before the facts that name them."""

    def __init__(self, store: "BoltStore") -> None:
        self._store = store
        self._batches: dict[str, _Batch] = {}
        self._standing: dict[str, _Standing] = {}
        self._counts = store.count()
        self._nodes = self._facts = self._unchanged = 0

    def write(self, records: Iterable[Node | Hyperedge]) -> WriteReport:
        """Writes all and says what was done."""
        for record in records:
            batch = self._batches.get(record.type)
            if batch is None:
                batch = self._batches[record.type] = _Batch(record.type)
            self._unchanged += batch.add(record)
            if batch.is_full:
                self._flush(record.type)
        for type in [type for type in self._batches if type in schema.FACTS]:
            self._flush(type)
        self._flush_nodes()
        return WriteReport(self._nodes, self._facts, self._unchanged)

    def _flush(self, type: str) -> None:
        if type in schema.FACTS:
            self._flush_nodes()
        batch = self._batches.pop(type, None)
        if batch is None or not batch.rows:
            return
        if type not in self._standing:
            self._standing[type] = _Standing(self._store, type, bool(self._counts.get(type)))
        changed = self._standing[type].changed(batch)
        self._unchanged += len(batch.rows) - len(changed)
        if changed:
            self._merge(type, changed)
        if type in schema.NODES:
            self._nodes += len(changed) + batch.replaced
        else:
            self._facts += len(changed) + batch.replaced

    def _flush_nodes(self) -> None:
        for type in [type for type in self._batches if type in schema.NODES]:
            self._flush(type)

    def _merge(self, type: str, rows: Sequence[Mapping[str, Any]]) -> None:
        steps = [(query, list(parts)) for query, parts in _statements(type, rows)]

        def work(tx: Any) -> None:
            for query, parts in steps:
                for part in _by_size(parts):
                    if tx.run(query, rows=part).single(strict=True)["n"] < len(part):
                        raise self._missing(type, rows)

        self._store.transact(work)

    def _missing(self, type: str, rows: Sequence[Mapping[str, Any]]) -> MissingNodes:
        """Which node a batch of facts names in vain."""
        named: dict[str, dict[str, Mapping[str, Any]]] = {}
        for row in rows:
            for _, node_id in row["members"]:
                named.setdefault(schema.node_type_of(node_id).name, {})[node_id] = row
        for label, by_id in named.items():
            found = self._store.read(
                f"UNWIND $ids AS id MATCH (n:`{label}` {{id: id}}) RETURN n.id AS id", {"ids": list(by_id)}
            )
            for node_id in sorted(by_id.keys() - {row["id"] for row in found}):
                source = by_id[node_id]["props"]["source"]
                role = next(role for role, member in by_id[node_id]["members"] if member == node_id)
                return MissingNodes(
                    f"{type} from {source} names {node_id!r} as {role}, which is no node here: "
                    "write the node first"
                )
        return HiddenNodes(f"a batch of {type} was matched in part only: repeat the import")


class _Batch:
    """Rows of one type that wait to be written, the last of each id."""

    def __init__(self, type: str) -> None:
        self.type = type
        self.rows: dict[str, dict[str, Any]] = {}
        self.size_bytes = self.replaced = 0

    @property
    def is_full(self) -> bool:
        return len(self.rows) >= BATCH_ROWS or self.size_bytes >= BATCH_BYTES

    def add(self, record: Node | Hyperedge) -> int:
        """Takes a record in; 1 when the same one waits already, else 0."""
        record_id, properties, said = row_of(record)
        waiting = self.rows.get(record_id)
        if waiting is not None:
            if waiting["props"]["digest"] == properties["digest"]:
                return 1
            self.replaced += 1
        members = members_of(record) if isinstance(record, Hyperedge) else ()
        self.rows[record_id] = {"id": record_id, "props": properties, "members": members}
        self.size_bytes += len(said) + sum(len(node_id) for _, node_id in members)
        return 0


class _Standing:
    """Which records of a type stand already, told by their digests (which cover the id).

    A small write looks its rows up; the first full batch reads all digests of the type once, 8 bytes each.
    """

    def __init__(self, store: "BoltStore", type: str, has_any: bool) -> None:
        self._store, self._type, self._has_any = store, type, has_any
        self._all: np.ndarray | None = None  # (r,) uint64, sorted
        self._rewritten: set[str] = set()  # ids written since _all was read

    def changed(self, batch: _Batch) -> list[dict[str, Any]]:
        """The rows of a batch that have to be written."""
        rows = list(batch.rows.values())
        if not self._has_any:
            return rows
        if self._all is None and not batch.is_full:
            digests = self._look_up(rows)
            return [row for row in rows if row["props"]["digest"] not in digests]
        if self._all is None:
            self._all = np.sort(np.fromiter(self._every_digest(), np.uint64))
        asked = np.fromiter((int(row["props"]["digest"], 16) for row in rows), np.uint64, len(rows))
        place = np.searchsorted(self._all, asked)
        stands = self._all[np.minimum(place, len(self._all) - 1)] == asked if len(self._all) else asked < 0
        changed = [
            row for row, same in zip(rows, stands, strict=True) if not same or row["id"] in self._rewritten
        ]
        self._rewritten.update(row["id"] for row in changed)
        return changed

    def _look_up(self, rows: Sequence[Mapping[str, Any]]) -> set[str]:
        kind = schema.FACTS.get(self._type)
        if kind is not None and kind.is_binary:
            first, second = (role.types[0] for role in kind.roles)
            query = (
                f"UNWIND $rows AS row MATCH (a:`{first}` {{id: row.a}}) MATCH (b:`{second}` {{id: row.b}}) "
                f"MATCH (a)-[r:`{self._type}`]->(b) WHERE r.id = row.id RETURN r.digest AS digest"
            )
            asked: list[Any] = [_pair(kind, row) for row in rows]
        else:
            label = kind.label if kind else self._type
            query = f"UNWIND $rows AS id MATCH (n:`{label}` {{id: id}}) RETURN n.digest AS digest"
            asked = [row["id"] for row in rows]
        return {row["digest"] for row in self._store.read(query, {"rows": asked})}

    def _every_digest(self) -> Iterator[int]:
        kind = schema.FACTS.get(self._type)
        if kind is not None and kind.is_binary:
            query = f"MATCH ()-[r:`{self._type}`]->() RETURN r.digest AS digest"
        else:
            query = f"MATCH (n:`{kind.label if kind else self._type}`) RETURN n.digest AS digest"
        for row in self._store.stream(query):
            yield int(row["digest"], 16)


def _statements(
    type: str, rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """The merges that write rows of a type: each a statement and its rows; RETURN counts matched rows."""
    kind = schema.FACTS.get(type)
    if kind is not None and kind.is_binary:
        first, second = (role.types[0] for role in kind.roles)
        yield (
            f"UNWIND $rows AS row MATCH (a:`{first}` {{id: row.a}}) MATCH (b:`{second}` {{id: row.b}}) "
            f"MERGE (a)-[r:`{type}` {{id: row.id}}]->(b) SET r = row.props RETURN count(*) AS n",
            (_pair(kind, row) for row in rows),
        )
        return
    label = kind.label if kind else type
    yield (
        f"UNWIND $rows AS row MERGE (n:`{label}` {{id: row.id}}) SET n = row.props RETURN count(*) AS n",
        ({"id": row["id"], "props": row["props"]} for row in rows),
    )
    for role in kind.roles if kind else ():
        parts = [
            {"f": row["id"], "m": node_id}
            for row in rows
            for name, node_id in row["members"]
            if name == role.name
        ]
        yield (
            f"UNWIND $rows AS row MATCH (f:`{label}` {{id: row.f}}) "
            f"MATCH (m:`{role.types[0]}` {{id: row.m}}) "
            f"MERGE (f)-[:`{kind.member_type(role.name)}`]->(m) RETURN count(*) AS n",
            iter(parts),
        )


def _pair(kind: schema.FactType, row: Mapping[str, Any]) -> dict[str, Any]:
    members = dict(row["members"])
    first, second = (members[role.name] for role in kind.roles)
    return {"id": row["id"], "a": first, "b": second, "props": row["props"]}


def _by_size(parts: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Slices of at most BATCH_ROWS * 4 rows: a fact over many regions has many members."""
    for start in range(0, len(parts), BATCH_ROWS * 4):
        yield parts[start : start + BATCH_ROWS * 4]
