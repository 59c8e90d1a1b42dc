"""Sees at a glance that a record is sound: checks made from the schema, once a type.

What they do not let pass the record looks at itself, slowly, and finds the words for it."""

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kg import schema

Check = Callable[[Any], bool]
_LONGEST_ID = 4096
"""Letters of an id in ASCII."""


def _column_check(column: schema.Column) -> Check:
    """Whether a value fits a column; False also for what is too seldom to be worth a check here."""
    low = -sys.float_info.max if column.low is None else column.low  # leaves out infinity, too
    high = sys.float_info.max if column.high is None else column.high
    if column.kind == "flag":
        return lambda value: type(value) is bool
    if column.kind == "integer":
        return lambda value: type(value) is int and low <= value <= high
    if column.kind == "number":
        return lambda value: (type(value) is float or type(value) is int) and low <= value <= high
    return _word_check(column) if column.form is None else lambda _: False


def _word_check(column: schema.Column) -> Check:
    longest, choices = schema.LONGEST_TEXT, frozenset(column.choices)

    def is_word(value: Any) -> bool:
        return type(value) is str and (value in choices if choices else len(value) <= longest)

    if column.kind == "text":
        return is_word
    return lambda value: type(value) is tuple and all(map(is_word, value))


def _columns_check(columns: Mapping[str, schema.Column]) -> Check:
    checks = {name: _column_check(column) for name, column in columns.items()}

    def fit(properties: Mapping[str, Any]) -> bool:
        for name, value in properties.items():
            check = checks.get(name)
            if check is None or not check(value):
                return False
        return True

    return fit


def _node_check(kind: schema.NodeType) -> Check:
    prefix, fit = f"{kind.prefix}:", _columns_check(kind.columns)

    def is_sound(node: Any) -> bool:
        node_id, properties = node.id, node.properties
        return (
            node_id.startswith(prefix)
            and len(prefix) < len(node_id) <= _LONGEST_ID
            and node_id.isascii()
            and fit(properties)
            and "valid_from_ts" not in properties
        )

    return is_sound


def _members_check(kind: schema.FactType) -> Check:
    begins = {role.name: tuple(f"{schema.NODES[type].prefix}:" for type in role.types) for role in kind.roles}
    needed = {role.name for role in kind.roles if role.least}
    lone = {role.name for role in kind.roles if role.most == 1}

    def fit(members: Mapping[str, tuple[str, ...]]) -> bool:
        named: list[str] = []
        for role, ids in members.items():
            start = begins.get(role)
            if start is None or type(ids) is not tuple or not ids or (len(ids) > 1 and role in lone):
                return False
            for node_id in ids:
                if not node_id.startswith(start):
                    return False
            named += ids
        return needed <= members.keys() and len(set(named)) == len(named)

    return fit


def _pair_check(kind: schema.FactType) -> Check:
    """As :func:`_members_check`, for facts of exactly two members: most facts."""
    (first, start), (second, other_start) = (
        (role.name, tuple(f"{schema.NODES[type].prefix}:" for type in role.types)) for role in kind.roles
    )

    def fit(members: Mapping[str, tuple[str, ...]]) -> bool:
        ids, others = members.get(first), members.get(second)
        return (
            type(ids) is tuple
            and type(others) is tuple
            and len(members) == 2
            and len(ids) == len(others) == 1
            and ids[0] != others[0]
            and ids[0].startswith(start)
            and others[0].startswith(other_start)
        )

    return fit


def _fact_check(kind: schema.FactType) -> Check:
    members_fit = _pair_check(kind) if kind.is_binary else _members_check(kind)
    fit = _columns_check(kind.columns)
    earliest, latest = schema.EARLIEST_TS, schema.LATEST_TS

    def is_sound(fact: Any) -> bool:
        start_ts, end_ts, properties = fact.start_ts, fact.end_ts, fact.properties
        return (
            members_fit(fact.members)
            and (start_ts is None or (type(start_ts) is int and earliest <= start_ts <= latest))
            and (
                end_ts is None
                or (
                    type(end_ts) is int
                    and earliest <= end_ts <= latest
                    and (start_ts is None or start_ts < end_ts)
                )
            )
            and type(fact.confidence) is float
            and 0 <= fact.confidence <= 1
            and (not properties or (fit(properties) and "price" not in properties))
        )

    return is_sound


NODE_CHECKS: Mapping[str, Check] = MappingProxyType(
    {name: _node_check(kind) for name, kind in schema.NODES.items()}
)
"""Node type -> whether a node of it is surely sound; False says nothing."""
FACT_CHECKS: Mapping[str, Check] = MappingProxyType(
    {name: _fact_check(kind) for name, kind in schema.FACTS.items()}
)
"""Fact type -> whether a fact of it is surely sound; False says nothing."""
