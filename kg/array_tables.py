"""From a store's columns to the tables of :class:`kg.arrays.GraphArrays`: by id, members as rows of nodes.

What was not known yet at a moment is left out here."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.registry import import_parts
from kg import schema
from kg.sources import sources
from kg.store.base import StoreError
from kg.store.columns import batch_schema, columns_of

MISSING_ROW = -1
OPEN_START = np.iinfo(np.int64).min
Columns = Callable[[str], Iterable[pa.RecordBatch]]
"""What a store tells of a type: see :meth:`kg.store.base.GraphStore.columns`."""


def node_tables(columns: Columns, as_of: int | None) -> dict[str, pa.Table]:
    """One table a type that has nodes; what was counted after ``as_of`` is not known."""
    told = {type: _by_id(batch_schema(type), columns(type)) for type in schema.NODES}
    return {type: _as_known(type, table, as_of) for type, table in told.items() if table.num_rows}


def fact_tables(columns: Columns, nodes: Mapping[str, pa.Table], as_of: int | None) -> dict[str, pa.Table]:
    """One table a type that has facts; members are rows of ``nodes``.

    Raises:
        StoreError: a member is no node: somebody wrote meanwhile.
    """
    ids = {type: table["id"].combine_chunks() for type, table in nodes.items()}
    past = None if as_of is None else _Past(as_of, nodes.get("Content"))
    found = {}
    for type in schema.FACTS:
        told = (_over_rows(type, batch, ids) for batch in columns(type))
        if past is not None:
            told = (past.of(type, batch) for batch in told)
        table = _by_id(_fact_schema(type), told)
        if table.num_rows:
            found[type] = table
    return found


def _by_id(columns: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches, columns)
    if not table.num_rows:
        return table
    return table.take(pc.sort_indices(table["id"].combine_chunks())).combine_chunks()


def _as_known(type: str, table: pa.Table, as_of: int | None) -> pa.Table:
    """Without what was counted later, and without the rare columns that are empty then."""
    is_known = None
    if as_of is not None and "observed_ts" in table.column_names:
        is_known = pc.fill_null(pc.less_equal(table["observed_ts"], as_of), False).to_numpy()
    for name, column in columns_of(type).items():
        if column.is_observed and is_known is not None:
            place = table.schema.get_field_index(name)
            table = table.set_column(place, table.field(place), _only(table[name], is_known))
        if column.is_rare and table[name].null_count == table.num_rows:
            table = table.drop_columns(name)
    return table


def _only(column: pa.ChunkedArray, is_known: np.ndarray) -> pa.Array:
    """A column with null where it is not known."""
    rows = pa.array(np.arange(len(column)), mask=~is_known)  # a null row takes a null
    return column.combine_chunks().take(rows)


def _fact_schema(type: str) -> pa.Schema:
    told = batch_schema(type)
    for role in schema.FACTS[type].roles:
        rows = pa.int32() if role.most is not None else pa.list_(pa.int32())
        told = told.set(told.get_field_index(role.name), pa.field(role.name, rows))
    return told


def _over_rows(type: str, batch: pa.RecordBatch, ids: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """The same facts, with the rows of their members instead of ids."""
    columns = {name: batch[name] for name in batch.schema.names}
    for role in schema.FACTS[type].roles:
        known = ids.get(role.types[0], pa.array([], pa.string()))
        if role.most is None:
            columns[role.name] = _lists(batch[role.name], _rows(type, batch[role.name].flatten(), known))
        else:
            columns[role.name] = _rows(type, batch[role.name], known).fill_null(MISSING_ROW)
    told = _fact_schema(type)
    return pa.record_batch([columns[name] for name in told.names], schema=told)


def _rows(type: str, members: pa.Array, ids: pa.Array) -> pa.Array:
    """(m,) int32 rows of nodes, null where there is no member."""
    rows = pc.index_in(members, value_set=ids)
    if rows.null_count > members.null_count:
        lost = members.filter(pc.and_(rows.is_null(), members.is_valid()))[0]
        raise StoreError(
            f"{type} names {lost.as_py()!r}, which was no node when the nodes were read: "
            "repeat this when nobody writes to the graph"
        )
    return rows


def _lists(told: pa.ListArray, rows: pa.Array) -> pa.ListArray:
    """Rows in the lists that their ids stood in, ascending."""
    facts = pc.list_parent_indices(told).to_numpy()
    order = np.lexsort((rows.to_numpy(), facts))
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(told).to_numpy())]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), rows.take(pa.array(order)), pa.list_(pa.int32()))


class _Past:
    """Facts as they stood at a moment."""

    def __init__(self, as_of: int, contents: pa.Table | None) -> None:
        self._as_of = as_of
        self._is_out = np.empty(0, bool)  # (i,) contents that may have been released by then
        if contents is not None:
            told = (contents[name].to_pylist() for name in ("release_date", "release_year"))
            self._is_out = np.array([_released_ts(*one) <= as_of for one in zip(*told, strict=True)])
        import_parts("kg.sources")
        names = [sources[name].name for name in sources if sources[name].tells_snapshots]
        self._snapshots = pa.array(names, pa.string())

    def of(self, type: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The facts that held by then, with the ends that were known then."""
        held = pc.fill_null(pc.less_equal(batch["start_ts"], self._as_of), True)
        if type in schema.FIXED_AT_RELEASE:
            held = pc.and_(held, pa.array(self._is_out[batch["content"].to_numpy()]))
        batch = batch.filter(held)
        is_later_told = pc.and_(
            pc.fill_null(pc.greater(batch["end_ts"], self._as_of), False),
            pc.is_in(batch["source"], value_set=self._snapshots),
        )
        ends = pc.if_else(is_later_told, pa.scalar(None, pa.int64()), batch["end_ts"])
        return batch.set_column(batch.schema.get_field_index("end_ts"), "end_ts", ends)


def _released_ts(date: str | None, year: int | None) -> int:
    """The earliest moment at which a content may have been out; before every time where nothing is known."""
    known = date or (None if year is None else str(year))
    if known is None:
        return OPEN_START
    day = datetime.fromisoformat(known + "-01-01"[len(known) - 4 :])
    return int(day.replace(tzinfo=UTC).timestamp())
