"""The graph as frozen columns: what models, experiments and endpoints read instead of a database.

One Arrow table a type, rows sorted by id, memory-mapped from disk so that processes share one copy."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.registry import import_parts
from kg import schema
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.store.base import GraphStore

FORMAT = 1
MISSING_ROW = -1
_OPEN_START, _OPEN_END = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_ARROW = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "texts": pa.list_(pa.string()),
}


class ArraysError(ValueError):
    """A folder of arrays that is not whole, or not ours."""


@dataclass(frozen=True)
class GraphArrays:
    """A graph at one moment; never changed, known by its hash.

    ``nodes[type]`` has the columns ``id`` and those of the schema. ``facts[type]`` has ``id``, one column of
    rows a role (int32, -1 where nobody plays it; a list of int32 where several members may), ``start_ts`` and
    ``end_ts`` (null is open), ``source``, ``confidence`` and the columns of the schema.
    """

    name: str
    nodes: Mapping[str, pa.Table]
    facts: Mapping[str, pa.Table]
    hash: str
    as_of: int | None = None
    folder: Path | None = None
    _rows: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)

    def size(self, type: str) -> int:
        """How many nodes of a type there are, 0 for a type without any."""
        table = self.nodes.get(type)
        return 0 if table is None else table.num_rows

    def fact_count(self, type: str) -> int:
        """How many facts of a type there are."""
        table = self.facts.get(type)
        return 0 if table is None else table.num_rows

    def ids(self, type: str) -> list[str]:
        """Ids of all nodes of a type; a node's place in this list is its row."""
        return self.nodes[type]["id"].to_pylist() if type in self.nodes else []

    def id_of(self, type: str, row: int) -> str:
        """The id of one node."""
        return self.nodes[type]["id"][int(row)].as_py()

    def row_of(self, node_id: str) -> int | None:
        """The row of a node within its type, None for an id that is not here."""
        try:
            type = schema.node_type_of(node_id).name
        except KeyError:
            return None
        if type not in self._rows:
            self._rows[type] = {known: row for row, known in enumerate(self.ids(type))}
        return self._rows[type].get(node_id)

    def node(self, type: str, row: int) -> Node:
        """One node with all that is known of it."""
        values = {name: self.nodes[type][name][int(row)].as_py() for name in self.nodes[type].column_names}
        return Node(type, values.pop("id"), _known(values))

    def numbers(self, type: str, column: str) -> np.ndarray:
        """(n,) float64 of a number column, NaN where not known."""
        if type not in self.nodes:
            return np.empty(0)
        return self.nodes[type][column].cast(pa.float64()).to_numpy(zero_copy_only=False)

    def texts(self, type: str, column: str) -> list[str]:
        """A text column, '' where not known."""
        return [value or "" for value in self.nodes[type][column].to_pylist()] if type in self.nodes else []

    def incidence(self, type: str, role: str) -> tuple[np.ndarray, np.ndarray]:
        """Who plays ``role``: (m,) int64 fact rows and (m,) int64 node rows; facts without are left out."""
        if type not in self.facts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        column = self.facts[type][role].combine_chunks()
        if pa.types.is_list(column.type):
            lengths = np.diff(column.offsets.to_numpy())
            return np.repeat(np.arange(len(column)), lengths), column.flatten().to_numpy().astype(np.int64)
        rows = column.to_numpy().astype(np.int64)
        return np.flatnonzero(rows != MISSING_ROW), rows[rows != MISSING_ROW]

    def pairs(self, type: str) -> tuple[np.ndarray, np.ndarray]:
        """(f,) int64 rows of the first and of the second role of a binary fact, in the order of its table."""
        first, second = (role.name for role in schema.FACTS[type].roles[:2])
        return self.incidence(type, first)[1], self.incidence(type, second)[1]

    def starts(self, type: str) -> np.ndarray:
        """(f,) int64 UTC seconds; the smallest int64 where the start is open."""
        return self._times(type, "start_ts", _OPEN_START)

    def ends(self, type: str) -> np.ndarray:
        """(f,) int64 UTC seconds; the largest int64 where the end is open."""
        return self._times(type, "end_ts", _OPEN_END)

    def fact_numbers(self, type: str, column: str) -> np.ndarray:
        """(f,) float64 of a fact's number column, NaN where not known."""
        if type not in self.facts:
            return np.empty(0)
        return self.facts[type][column].cast(pa.float64()).to_numpy(zero_copy_only=False)

    def keep(self, masks: Mapping[str, np.ndarray]) -> "GraphArrays":
        """The same graph with only those facts for which a mask is True; types not named stay whole.

        Args:
            masks: fact type -> (f,) bool.
        """
        digest = hashlib.blake2b(self.hash.encode(), digest_size=16)
        facts = dict(self.facts)
        for type, mask in sorted(masks.items()):
            if type in facts:
                facts[type] = facts[type].filter(pa.array(mask))
                digest.update(type.encode() + np.packbits(mask).tobytes())
        return replace(self, facts=facts, hash=digest.hexdigest(), folder=None)

    def save(self, parent: Path) -> Path:
        """Writes the arrays aside, then renames to ``parent/<hash>``; a folder already there stays."""
        target = Path(parent) / self.hash
        if target.exists():
            return target
        aside = Path(parent) / f".{self.hash}.{uuid.uuid4().hex[:8]}"
        aside.mkdir(parents=True)
        try:
            for prefix, tables in (("node", self.nodes), ("fact", self.facts)):
                for type, table in tables.items():
                    with pa.ipc.new_file(str(aside / f"{prefix}-{type}.arrow"), table.schema) as writer:
                        writer.write_table(table.combine_chunks())
            (aside / "manifest.json").write_text(
                json.dumps(self._manifest(aside), indent=1), encoding="utf-8"
            )
            aside.rename(target)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
            if not target.exists():  # another process may have written the same arrays first
                raise
        return target

    def publish(self, parent: Path) -> Path:
        """Saves the arrays under ``parent`` and names them the current ones, in one step."""
        folder = self.save(parent)
        aside = Path(parent) / f".current.{uuid.uuid4().hex[:8]}"
        aside.write_text(self.hash, encoding="utf-8")
        aside.replace(Path(parent) / "current")
        return folder

    @classmethod
    def current(cls, parent: Path) -> "GraphArrays":
        """The arrays that were published last under ``parent``.

        Raises:
            ArraysError: nothing was published there, or what was is not whole.
        """
        try:
            hash = (Path(parent) / "current").read_text(encoding="utf-8").strip()
        except OSError:
            raise ArraysError(
                f"{parent} holds no exported graph: run `mg ingest` and `mg export` first"
            ) from None
        return cls.open(Path(parent) / hash)

    @classmethod
    def open(cls, folder: Path) -> "GraphArrays":
        """Maps saved arrays into memory after checking each file against its SHA-256.

        Raises:
            ArraysError: the folder or a file is missing, cut off or changed.
        """
        folder = Path(folder)
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArraysError(
                f"{folder} must hold arrays with a manifest.json ({error}): run `mg export` again"
            ) from None
        if manifest.get("format") != FORMAT:
            raise ArraysError(
                f"{folder} has format {manifest.get('format')}, not {FORMAT}: run `mg export` again"
            )
        tables: dict[str, dict[str, pa.Table]] = {"node": {}, "fact": {}}
        for file, expected in manifest["files"].items():
            path = folder / file
            if not path.is_file() or _sha256(path) != expected:
                raise ArraysError(
                    f"{path} is missing or not what was written: delete the folder and run `mg export` again"
                )
            prefix, _, type = path.stem.partition("-")
            tables[prefix][type] = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        return cls(
            manifest["name"], tables["node"], tables["fact"], manifest["hash"], manifest["as_of"], folder
        )

    def _times(self, type: str, column: str, fill: int) -> np.ndarray:
        if type not in self.facts:
            return np.empty(0, np.int64)
        return self.facts[type][column].fill_null(fill).to_numpy()

    def _manifest(self, folder: Path) -> dict[str, Any]:
        files = {path.name: _sha256(path) for path in sorted(folder.glob("*.arrow"))}
        return {"format": FORMAT, "name": self.name, "hash": self.hash, "as_of": self.as_of, "files": files}

    @cached_property
    def simulated_types(self) -> frozenset[str]:
        """Fact types of which at least one fact is made up."""
        return frozenset(
            type
            for type, table in self.facts.items()
            if any(chunk.true_count for chunk in table["simulated"].chunks)
        )


def export(store: GraphStore, name: str, as_of: int | None = None) -> GraphArrays:
    """The graph in ``store`` as arrays.

    Args:
        store: any store; equal graphs give equal hashes, in whichever order they were written.
        name: what the graph is called.
        as_of: UTC seconds; the graph as it stood then. Facts that start later and what was counted later are
            left out; people, genres and all else that is fixed at release hold from release on; an end that
            only a later snapshot tells is not known. None keeps all.
    """
    return from_records(name, store.nodes, store.hyperedges, as_of)


def from_records(name: str, nodes: Any, hyperedges: Any, as_of: int | None = None) -> GraphArrays:
    """Arrays from two functions that give the records of a type; :func:`export` hands in a store's."""
    node_tables = {
        type: table for type in schema.NODES if (table := _node_table(type, nodes(type), as_of)).num_rows
    }
    rows = {
        type: {known: row for row, known in enumerate(table["id"].to_pylist())}
        for type, table in node_tables.items()
    }
    past = None if as_of is None else _Past(as_of, node_tables.get("Content"))
    fact_tables = {
        type: table
        for type in schema.FACTS
        if (table := _fact_table(type, hyperedges(type), rows, past)).num_rows
    }
    return GraphArrays(name, node_tables, fact_tables, _hash({**node_tables, **fact_tables}), as_of)


def _node_table(type: str, nodes: Iterable[Node], as_of: int | None) -> pa.Table:
    columns = schema.NODES[type].columns
    found = sorted(((node.id, node.properties) for node in nodes), key=lambda pair: pair[0])
    table = {"id": pa.array([id for id, _ in found], pa.string())}
    for name, column in columns.items():
        hidden = column.is_observed and as_of is not None
        values = [None if hidden and _observed_after(known, as_of) else known.get(name) for _, known in found]
        if not column.is_rare or any(value is not None for value in values):
            table[name] = _array(values, column.kind)
    return pa.table(table)


def _observed_after(known: Mapping[str, Any], as_of: int | None) -> bool:
    return known.get("observed_ts") is None or known["observed_ts"] > as_of


class _Past:
    """Facts as they stood at a moment."""

    def __init__(self, as_of: int, contents: pa.Table | None) -> None:
        self._as_of = as_of
        self._unreleased: set[str] = set()
        if contents is not None:
            columns = (contents[name].to_pylist() for name in ("id", "release_date", "release_year"))
            released = zip(*columns, strict=True)
            self._unreleased = {id for id, date, year in released if _released_ts(date, year) > as_of}
        import_parts("kg.sources")
        self._snapshots = {sources[name].name for name in sources if sources[name].tells_snapshots}

    def of(self, type: str, facts: Iterable[Hyperedge]) -> Iterator[Hyperedge]:
        """The facts that held by then, with the ends that were known then."""
        for fact in facts:
            if fact.start_ts is not None and fact.start_ts > self._as_of:
                continue
            if type in schema.FIXED_AT_RELEASE and fact.members["content"][0] in self._unreleased:
                continue
            is_later_told = fact.end_ts is not None and fact.end_ts > self._as_of
            yield replace(fact, end_ts=None) if is_later_told and fact.source in self._snapshots else fact


def _released_ts(date: str | None, year: int | None) -> int:
    """The earliest moment at which a content may have been out; before every time where nothing is known."""
    known = date or (None if year is None else str(year))
    if known is None:
        return _OPEN_START
    day = datetime.fromisoformat(known + "-01-01"[len(known) - 4 :])
    return int(day.replace(tzinfo=UTC).timestamp())


def _fact_table(
    type: str, facts: Iterable[Hyperedge], rows: Mapping[str, Mapping[str, int]], past: _Past | None
) -> pa.Table:
    kind = schema.FACTS[type]
    found = [(fact.id, fact) for fact in (facts if past is None else past.of(type, facts))]
    found.sort(key=lambda pair: pair[0])
    table = {"id": pa.array([id for id, _ in found], pa.string())}
    for role in kind.roles:
        known = rows.get(role.types[0], {})
        members = [[known[id] for id in sorted(fact.members.get(role.name, ()))] for _, fact in found]
        if role.most is None:
            table[role.name] = pa.array(members, pa.list_(pa.int32()))
        else:
            table[role.name] = pa.array([row[0] if row else MISSING_ROW for row in members], pa.int32())
    table["start_ts"] = pa.array([fact.start_ts for _, fact in found], pa.int64())
    table["end_ts"] = pa.array([fact.end_ts for _, fact in found], pa.int64())
    table["source"] = pa.array([fact.source for _, fact in found], pa.string())
    table["confidence"] = pa.array([float(fact.confidence) for _, fact in found], pa.float64())
    for name, column in kind.columns.items():
        table[name] = _array([fact.properties.get(name) for _, fact in found], column.kind)
    return pa.table(table)


def _array(values: Sequence[Any], kind: str) -> pa.Array:
    if kind == "number":
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, _ARROW[kind])


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


def _hash(tables: Mapping[str, pa.Table]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for type in sorted(tables):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, tables[type].schema) as writer:
            writer.write_table(tables[type])
        digest.update(type.encode())
        digest.update(sink.getvalue())
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
