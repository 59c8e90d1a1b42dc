"""Records of a type as Arrow columns, thousands at a time: what whoever reads a whole graph asks a store for.

Columns come from records, or straight from the rows of a server, which are checked by the column."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from kg import schema
from kg.records import Hyperedge, Node

ROWS = 20_000
"""Records in one batch, at most."""
ARROW = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "texts": pa.list_(pa.string()),
}
"""Kind of a column -> its Arrow type."""
_TOLD = {
    "start_ts": schema.TIME,
    "end_ts": schema.TIME,
    "source": schema.TEXT,
    "confidence": schema.SHARE,
}
"""What every fact tells of itself, besides the columns of its type."""
_MADE_OF: dict[pa.DataType, set[type]] = {
    ARROW["text"]: {str},
    ARROW["integer"]: {int},
    ARROW["number"]: {int, float},
    ARROW["flag"]: {bool},
    ARROW["texts"]: {list},
}
_LONGEST_ID = 4096
_OURS = 2  # properties that every stored record has besides its columns: id and digest


class StrangeRows(ValueError):
    """Rows that the schema may not know; whoever reads them one by one says which, and why."""


@lru_cache
def columns_of(type: str) -> dict[str, schema.Column]:
    """The properties of a node or a fact, its source, confidence and times among them."""
    return dict(
        schema.NODES[type].columns if type in schema.NODES else {**_TOLD, **schema.FACTS[type].columns}
    )


@lru_cache
def batch_schema(type: str) -> pa.Schema:
    """``id``, a column of ids a role (lists where several may play it), then :func:`columns_of`."""
    roles = schema.FACTS[type].roles if type in schema.FACTS else ()
    members = [(role.name, pa.list_(pa.string()) if role.most is None else pa.string()) for role in roles]
    kinds = [(name, ARROW[column.kind]) for name, column in columns_of(type).items()]
    return pa.schema([("id", pa.string()), *members, *kinds])


def batches(type: str, records: Iterable[Node | Hyperedge]) -> Iterator[pa.RecordBatch]:
    """Records as columns; they checked themselves when they were made.

    Example:
        >>> [batch.num_rows for batch in batches("Genre", [Node("Genre", "genre:a")])]
        [1]
    """
    of = _of_node if type in schema.NODES else _of_fact
    waiting = iter(records)
    while some := list(islice(waiting, ROWS)):
        yield _batch(type, list(of(type, some)))


def question(type: str) -> str:
    """The Cypher that tells all records of a type, a row each; :func:`batches_of_rows` reads its answer."""
    names = list(columns_of(type))
    if type in schema.NODES:
        asked = ", ".join(f"n.{name}" for name in names)
        return f"MATCH (n:`{type}`) RETURN n.id, size(keys(n)), {asked}"
    kind = schema.FACTS[type]
    if kind.is_binary:
        asked = ", ".join(f"r.{name}" for name in names)
        return f"MATCH (a)-[r:`{type}`]->(b) RETURN r.id, size(keys(r)), a.id, b.id, {asked}"
    members = ", ".join(f"[(f)-[:`{kind.member_type(role.name)}`]->(m) | m.id]" for role in kind.roles)
    asked = ", ".join(f"f.{name}" for name in names)
    return f"MATCH (f:`{kind.label}`) RETURN f.id, size(keys(f)), {members}, {asked}"


def batches_of_rows(type: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    """What a server answers to :func:`question`, as columns.

    Raises:
        StrangeRows: a value that the schema does not know, or one that it may not know: a batch is judged by
            its columns, and not more mildly than a record judges itself.
    """
    waiting = iter(rows)
    while some := list(islice(waiting, ROWS)):
        yield _of_rows(type, some)


def _of_node(type: str, nodes: Sequence[Node]) -> Iterator[Sequence[Any]]:
    yield [node.id for node in nodes]
    for name in columns_of(type):
        yield [node.properties.get(name) for node in nodes]


def _of_fact(type: str, facts: Sequence[Hyperedge]) -> Iterator[Sequence[Any]]:
    yield [fact.id for fact in facts]
    for role in schema.FACTS[type].roles:
        members = [fact.members.get(role.name, ()) for fact in facts]
        yield members if role.most is None else [ids[0] if ids else None for ids in members]
    for name in _TOLD:
        yield [getattr(fact, name) for fact in facts]
    for name in schema.FACTS[type].columns:
        yield [fact.properties.get(name) for fact in facts]


def _batch(type: str, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    arrays = [
        pa.array(_floats(values) if pa.types.is_floating(field.type) else values, field.type)
        for field, values in zip(batch_schema(type), columns, strict=True)
    ]
    return pa.record_batch(arrays, schema=batch_schema(type))


def _floats(values: Sequence[Any]) -> Sequence[Any]:
    """A whole number beyond 2^53 is rounded, where Arrow would refuse it."""
    if int not in set(map(type, values)):
        return values
    return [None if value is None else float(value) for value in values]


def _of_rows(type: str, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    # as tuples: the driver's records look at each value once more when they are iterated
    ids, known, *told = zip(*map(tuple.__iter__, rows), strict=True)
    kind = schema.FACTS.get(type)
    roles = kind.roles if kind is not None else ()
    members, values = list(told[: len(roles)]), told[len(roles) :]
    if kind is not None and not kind.is_binary:
        members = [_players(role, lists) for role, lists in zip(roles, members, strict=True)]
    _must_be_made_of(batch_schema(type), [ids, *members, *values])
    try:
        batch = _batch(type, [ids, *members, *values])
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise StrangeRows(str(error)) from error
    _must_know_all(batch, known, len(roles))
    _must_be_called(batch, type)
    for name, column in columns_of(type).items():
        _must_fit(batch[name], column)
    _must_hold_together(batch)
    return batch


def _players(role: schema.Role, lists: Sequence[Any]) -> Sequence[Any]:
    """Who plays a role: lists as they came, or the one of each list."""
    if set(map(type, lists)) != {list}:
        raise StrangeRows(f"members of {role.name}")
    lengths = set(map(len, lists))
    if min(lengths) < role.least or (role.most is not None and max(lengths) > role.most):
        raise StrangeRows(f"so many {role.name}: {lengths}")
    return lists if role.most is None else [ids[0] if ids else None for ids in lists]


def _must_be_made_of(fields: pa.Schema, columns: Sequence[Sequence[Any]]) -> None:
    """Plain values of the right kind: Arrow itself would take bytes for a text."""
    for field, values in zip(fields, columns, strict=True):
        if set(map(type, values)) - _MADE_OF[field.type] - {type(None)}:
            raise StrangeRows(f"values of {field.name}")
        if pa.types.is_list(field.type) and set(map(type, chain.from_iterable(filter(None, values)))) - {str}:
            raise StrangeRows(f"a list of more than texts in {field.name}")


def _must_know_all(batch: pa.RecordBatch, known: Sequence[Any], roles: int) -> None:
    """A record has no property but those that were asked for."""
    told = sum(column.is_valid().cast(pa.int64()).to_numpy() for column in batch.columns[1 + roles :])
    if (told + _OURS).tolist() != list(known):
        raise StrangeRows("more properties than the schema has")


def _must_be_called(batch: pa.RecordBatch, type: str) -> None:
    """Ids and members begin as their types do; what has to be there is there."""
    kind = schema.FACTS.get(type)
    _must_begin(batch["id"], f"{schema.NODES[type].prefix if kind is None else type}:")
    if kind is None:
        return
    for role in kind.roles:
        played = batch[role.name].flatten() if role.most is None else batch[role.name]
        _must_begin(played, f"{schema.NODES[role.types[0]].prefix}:", may_lack=role.least == 0)
    _must_name_each_once(batch, kind)
    for name in ("source", "confidence"):
        if batch[name].null_count:
            raise StrangeRows(f"no {name}")


def _must_begin(ids: pa.Array, prefix: str, may_lack: bool = False) -> None:
    if ids.null_count and not may_lack:
        raise StrangeRows("no id")
    lengths = pc.min_max(pc.binary_length(ids))
    begins = pc.all(pc.starts_with(ids, prefix))  # true of none, nulls apart
    least, most = lengths["min"].as_py(), lengths["max"].as_py()
    if begins.as_py() is False or least is not None and not len(prefix) < least <= most <= _LONGEST_ID:
        raise StrangeRows("an id of another type")


def _must_name_each_once(batch: pa.RecordBatch, kind: schema.FactType) -> None:
    """Only roles of one node type can name a node twice; a list may too."""
    for place, role in enumerate(kind.roles):
        for other in kind.roles[place + 1 :]:
            if (
                set(role.types) & set(other.types)
                and pc.any(pc.equal(batch[role.name], batch[other.name])).as_py()
            ):
                raise StrangeRows("a fact of a node with itself")
        if role.most is None:
            lists = pa.table(
                {"fact": pc.list_parent_indices(batch[role.name]), "id": batch[role.name].flatten()}
            )
            if lists.group_by(["fact", "id"]).aggregate([]).num_rows < lists.num_rows:
                raise StrangeRows("a member twice")


def _must_fit(values: pa.Array, column: schema.Column) -> None:
    if pa.types.is_list(values.type):
        values = values.flatten()
    values = values.drop_null()
    if not len(values):
        return
    if column.kind == "number" and not pc.all(pc.is_finite(values)).as_py():
        raise StrangeRows("no number")
    if column.low is not None or column.high is not None:
        found = pc.min_max(values)
        if column.low is not None and found["min"].as_py() < column.low:
            raise StrangeRows("too small")
        if column.high is not None and found["max"].as_py() > column.high:
            raise StrangeRows("too big")
    if column.kind in ("text", "texts"):
        _must_be_words(values, column)


def _must_be_words(words: pa.Array, column: schema.Column) -> None:
    if pc.max(pc.utf8_length(words)).as_py() > schema.LONGEST_TEXT:
        raise StrangeRows("too long")
    if column.choices and not pc.all(pc.is_in(words, value_set=pa.array(column.choices))).as_py():
        raise StrangeRows("no choice")
    if column.form is not None and not all(map(_FORMS[column.form], words.unique().to_pylist())):
        raise StrangeRows("written otherwise")


def _is_day(word: str) -> bool:
    """Whether a text is a day, a month or a year, as exact as it tells."""
    if not re.fullmatch(r"\d{4}(-\d\d){0,2}", word, re.ASCII):
        return False
    try:
        date.fromisoformat(word + "-01-01"[len(word) - 4 :])
    except ValueError:
        return False
    return True


_FORMS: dict[str, Callable[[str], bool]] = {
    "date": _is_day,
    "currency": lambda word: re.fullmatch("[A-Z]{3}", word) is not None,
}


def _must_hold_together(batch: pa.RecordBatch) -> None:
    """What two columns say of one another."""
    names = set(batch.schema.names)
    for first, last in (("start_ts", "end_ts"), ("valid_from_ts", "valid_until_ts")):
        if first in names and pc.any(pc.less_equal(batch[last], batch[first])).as_py():
            raise StrangeRows("an end before its start")
    if "price" in names and pc.any(pc.and_(batch["price"].is_valid(), batch["currency"].is_null())).as_py():
        raise StrangeRows("a price of no currency")
