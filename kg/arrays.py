"""The graph as frozen columns: what models, experiments and endpoints read instead of a database.

One Arrow table a type, rows sorted by id, memory-mapped from disk so that processes share one copy."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kg import schema
from kg.array_tables import MISSING_ROW, OPEN_START, Columns, fact_tables, node_tables
from kg.records import Node
from kg.store.base import GraphStore
from kg.store.columns import batches

FORMAT = 1
OPEN_END = np.iinfo(np.int64).max


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
        return self._times(type, "start_ts", OPEN_START)

    def ends(self, type: str) -> np.ndarray:
        """(f,) int64 UTC seconds; the largest int64 where the end is open."""
        return self._times(type, "end_ts", OPEN_END)

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
    return _of_columns(name, store.columns, as_of)


def from_records(name: str, nodes: Any, hyperedges: Any, as_of: int | None = None) -> GraphArrays:
    """Arrays from two functions that give the records of a type; :func:`export` hands in a store's."""
    return _of_columns(
        name,
        lambda type: batches(type, nodes(type) if type in schema.NODES else hyperedges(type)),
        as_of,
    )


def _of_columns(name: str, columns: Columns, as_of: int | None) -> GraphArrays:
    nodes = node_tables(columns, as_of)
    facts = fact_tables(columns, nodes, as_of)
    return GraphArrays(name, nodes, facts, _hash({**nodes, **facts}), as_of)


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
