"""What a source tells: a node, or a fact over several nodes; and what it could not tell.

Records check themselves against the schema when they are made."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kg import schema
from kg.soundness import FACT_CHECKS, NODE_CHECKS

Value = str | int | float | bool | tuple[str, ...]
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_ROLES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        kind.name: {
            role.name: tuple(f"{schema.NODES[type].prefix}:" for type in role.types) for role in kind.roles
        }
        for kind in schema.FACTS.values()
    }
)
"""Fact type -> role -> how the ids of its members begin."""


class RecordError(ValueError):
    """A record that the schema refuses, or a row that cannot be read."""


@dataclass(frozen=True)
class Reject:
    """One row that a source could not read: where it stands, what came and what to do."""

    file: str
    line: int
    column: str
    value: str
    remedy: str


class SourceError(ValueError):
    """A source that cannot be read at all: a path that is not there, a header that does not fit."""

    def __init__(self, path: Path | str, must: str, came: str, remedy: str) -> None:
        super().__init__(f"{path}: {must}; got {came}: {remedy}")


@dataclass(frozen=True)
class Node:
    """One thing: a content, a person, a platform.

    ``properties`` holds what :data:`kg.schema.NODES` lists for its type; absent means not known.
    ``properties["ids"]`` are other identifiers as ``scheme:value`` (``imdb:tt0114709``).
    """

    type: str
    id: str
    properties: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        is_sound = NODE_CHECKS.get(self.type)
        if is_sound is None or not is_sound(self):
            self._look_closely()

    def _look_closely(self) -> None:
        kind = schema.NODES.get(self.type)
        if kind is None:
            raise RecordError(f"{self.id} has type {self.type!r}: use one of {', '.join(schema.NODES)}")
        if not self.id.startswith(f"{kind.prefix}:") or len(self.id) <= len(kind.prefix) + 1:
            raise RecordError(
                f"a {self.type} is called '{kind.prefix}:<key>', got {self.id!r}: mint the id so"
            )
        if len(self.id.encode()) > 4096:
            raise RecordError(f"an id has at most 4096 bytes, {self.id[:40]!r}… has more: shorten it")
        _check(self.id, self.properties, kind.columns)
        first, last = (self.properties.get(name) for name in ("valid_from_ts", "valid_until_ts"))
        if first is not None and last is not None and last <= first:  # type: ignore[operator]
            raise RecordError(f"{self.id} is valid from {first} until {last}: swap its dates in the source")

    @property
    def ids(self) -> Mapping[str, str]:
        """Other identifiers by scheme, the first of each."""
        known: dict[str, str] = {}
        for pair in self.properties.get("ids", ()):  # type: ignore[union-attr]
            scheme, _, value = pair.partition(":")
            known.setdefault(scheme, value)
        return known


@dataclass(frozen=True)
class Hyperedge:
    """One fact over two or more nodes.

    ``members`` maps a role to the ids of the nodes that play it. The fact holds in [start_ts, end_ts),
    UTC seconds; None is open. An event (a rating) starts when it happened.
    """

    type: str
    members: Mapping[str, tuple[str, ...]]
    source: str
    properties: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    start_ts: int | None = None
    end_ts: int | None = None
    confidence: float = 1.0

    def __post_init__(self) -> None:
        is_sound = FACT_CHECKS.get(self.type)
        if is_sound is None or not is_sound(self):
            self._look_closely()

    def _look_closely(self) -> None:
        kind = schema.FACTS.get(self.type)
        if kind is None:
            raise RecordError(f"no fact has type {self.type!r}: use one of {', '.join(schema.FACTS)}")
        known_roles = _ROLES[self.type]
        for name in self.members.keys() - known_roles.keys():
            raise RecordError(
                f"{self.type} has no role {name!r}: use one of {', '.join(sorted(known_roles))}"
            )
        for role in kind.roles:
            ids = self.members.get(role.name, ())
            if isinstance(ids, str):
                raise RecordError(
                    f"members of {self.type}.{role.name} are a tuple of ids, got the text {ids!r}"
                )
            if len(ids) < role.least or (role.most is not None and len(ids) > role.most):
                most = "any number" if role.most is None else role.most
                raise RecordError(
                    f"{self.type} has {role.least} to {most} {role.name}, got {len(ids)} from {self.source}"
                )
            for node_id in ids:
                if not node_id.startswith(known_roles[role.name]):
                    raise RecordError(
                        f"{self.type}.{role.name} must be {' or '.join(role.types)}, got {node_id!r}: "
                        f"name a node whose id begins with {' or '.join(known_roles[role.name])}"
                    )
        self._must_name_each_once()
        self._must_hold_in_time()
        if not _fits(self.confidence, "number") or not 0 <= self.confidence <= 1:
            raise RecordError(
                f"confidence lies in 0..1, got {self.confidence!r} for {self.type} from {self.source}: "
                "say how sure the source is as a share"
            )
        _check(f"{self.type} from {self.source}", self.properties, kind.columns)
        if "price" in self.properties and "currency" not in self.properties:
            raise RecordError(
                f"a price has a currency, {self.type} from {self.source} has {self.properties['price']} of "
                "none: tell the currency as ISO 4217, or leave the price out"
            )

    @classmethod
    def known_sound(
        cls,
        type: str,
        members: Mapping[str, tuple[str, ...]],
        source: str,
        properties: Mapping[str, Value],
        start_ts: int | None,
        end_ts: int | None,
        confidence: float,
    ) -> "Hyperedge":
        """A fact that was checked before and is not checked again."""
        fact = object.__new__(cls)
        said = fact.__dict__
        said["type"], said["members"], said["source"], said["properties"] = type, members, source, properties
        said["start_ts"], said["end_ts"], said["confidence"] = start_ts, end_ts, confidence
        return fact

    def over(self, members: Mapping[str, tuple[str, ...]]) -> "Hyperedge":
        """The same fact over other nodes of the same types, each named once: not checked again."""
        return self.known_sound(
            self.type, members, self.source, self.properties, self.start_ts, self.end_ts, self.confidence
        )

    def _must_name_each_once(self) -> None:
        named = [node_id for ids in self.members.values() for node_id in ids]
        if len(set(named)) < len(named):
            twice = sorted({node_id for node_id in named if named.count(node_id) > 1})
            raise RecordError(
                f"{self.type} from {self.source} names each of its members once, {', '.join(twice)} stands "
                "there twice: leave out the repeated one, or the fact of a node with itself"
            )

    def _must_hold_in_time(self) -> None:
        for name, ts in (("start_ts", self.start_ts), ("end_ts", self.end_ts)):
            if ts is None:
                continue
            if type(ts) is not int or not schema.EARLIEST_TS <= ts <= schema.LATEST_TS:
                raise RecordError(
                    f"{name} of {self.type} from {self.source} is whole UTC seconds between 1697 and 2514, "
                    f"got {ts!r}: convert it in the source (milliseconds: divide by 1000)"
                )
        if self.start_ts is not None and self.end_ts is not None and self.end_ts <= self.start_ts:
            raise RecordError(
                f"{self.type} from {self.source} ends at {self.end_ts}, not after its start {self.start_ts}: "
                "drop the record or swap its dates in the source"
            )

    @cached_property
    def id(self) -> str:
        """The same fact from the same source has the same id, in every import and on every machine."""
        said = [self.type, self.source, str(self.start_ts), str(self.properties.get("offer", ""))]
        for role in sorted(self.members):
            said += [role, *sorted(self.members[role])]
        return f"{self.type}:{hashlib.blake2b('|'.join(said).encode(), digest_size=12).hexdigest()}"


def _check(what: str, properties: Mapping[str, Value], columns: Mapping[str, schema.Column]) -> None:
    for name, value in properties.items():
        column = columns.get(name)
        if column is None:
            raise RecordError(f"{what} has no property {name!r}: use one of {', '.join(columns)}")
        if not _fits(value, column.kind):
            raise RecordError(
                f"{name} of {what} must be {column.kind}, got {value!r}: convert it in the source"
            )
        if column.low is not None and value < column.low or column.high is not None and value > column.high:  # type: ignore[operator]
            raise RecordError(
                f"{name} of {what} lies in {column.low}..{column.high}, got {value!r}: leave it out"
            )
        if column.kind in ("text", "texts"):
            _check_words(what, name, value, column)


def _check_words(what: str, name: str, value: Any, column: schema.Column) -> None:
    for word in (value,) if column.kind == "text" else value:
        if len(word) > schema.LONGEST_TEXT:
            raise RecordError(
                f"{name} of {what} has at most {schema.LONGEST_TEXT:,} letters, got {len(word):,} "
                f"({word[:20]!r}…): cut it in the source"
            )
        if column.choices and word not in column.choices:
            raise RecordError(
                f"{name} of {what} is one of {', '.join(column.choices)}, got {word[:40]!r}: "
                "map the source's word to one of them, or leave it out"
            )
        if column.form is not None and not _is_written(word, column.form):
            raise RecordError(
                f"{name} of {what} is written {_WRITTEN[column.form]}, got {word[:40]!r}: "
                "convert it in the source, or leave it out"
            )


_WRITTEN: Mapping[str, str] = MappingProxyType(
    {"date": "YYYY, YYYY-MM or YYYY-MM-DD, a day that exists", "currency": "in three letters, as ISO 4217"}
)


@lru_cache(1 << 16)
def _is_written(word: str, form: schema.Form) -> bool:
    if form == "currency":
        return re.fullmatch("[A-Z]{3}", word) is not None
    if not re.fullmatch(r"\d{4}(-\d\d){0,2}", word, re.ASCII):
        return False
    try:
        date.fromisoformat(word + "-01-01"[len(word) - 4 :])
    except ValueError:
        return False
    return True


def _fits(value: Value, kind: schema.Kind) -> bool:
    if kind == "texts":
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    if kind == "text":
        return isinstance(value, str)
    if kind == "flag":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (kind == "number" and isinstance(value, float) and math.isfinite(value))
