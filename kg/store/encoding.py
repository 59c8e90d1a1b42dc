"""How a record is written down: flat properties for a database, and a digest that tells when it changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kg.records import Hyperedge, Node, RecordError
from kg.store.base import StoreError

_DIGEST_BYTES = 8
_OURS = ("id", "digest")
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_quoted = json.encoder.encode_basestring_ascii


def row_of(record: Node | Hyperedge) -> tuple[str, dict[str, Any], str]:
    """A record as the database holds it.

    Returns:
        its id; its properties, ``id`` and ``digest`` among them, unknown ones left out; the same as JSON.
    """
    said = _said(record)
    record_id, text = _signed(record.type, said)
    properties = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    properties["digest"] = text[11 : 11 + 2 * _DIGEST_BYTES]
    return record_id, properties, text


def said_of(record: Node | Hyperedge) -> tuple[str, str]:
    """A record's id, and its properties as JSON: what :func:`row_of` says, without the properties."""
    return _signed(record.type, _said(record))


def _signed(type: str, said: Mapping[str, Any]) -> tuple[str, str]:
    plain = _as_json(said)
    digest = hashlib.blake2b(f"{type}{plain}".encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return said["id"], f'{{"digest":"{digest}",{plain[1:]}'


def _said(record: Node | Hyperedge) -> dict[str, Any]:
    said = dict(record.properties)
    if isinstance(record, Hyperedge):
        said["source"], said["confidence"] = record.source, record.confidence
        if record.start_ts is not None:
            said["start_ts"] = record.start_ts
        if record.end_ts is not None:
            said["end_ts"] = record.end_ts
    said["id"] = record.id
    return said


def _as_json(said: Mapping[str, Any]) -> str:
    """Word for word what :mod:`json` makes of it, names sorted and no spaces; half the time for few values.

    Example:
        >>> _as_json({"b": True, "a": ("x", "y"), "c": 0.5, "d": 7})
        '{"a":["x","y"],"b":true,"c":0.5,"d":7}'
    """
    parts = []
    for name in sorted(said):
        value = said[name]
        kind = type(value)
        if kind is str:
            parts.append(f'"{name}":{_quoted(value)}')
        elif kind is int or kind is float:
            parts.append(f'"{name}":{value!r}')
        else:
            parts.append(f'"{name}":{_to_json(value)}')
    return f"{{{','.join(parts)}}}"


def members_of(fact: Hyperedge) -> list[tuple[str, str]]:
    """Who takes part in a fact: (role, node id)."""
    return [(role, node_id) for role, ids in fact.members.items() for node_id in ids]


def node_of(type: str, properties: Mapping[str, Any]) -> Node:
    """The node that a database holds as these properties."""
    known = _plain(properties)
    try:
        return Node(type, properties["id"], known)
    except (RecordError, KeyError) as error:
        raise _foreign(error) from error


def fact_of(type: str, properties: Mapping[str, Any], members: Mapping[str, tuple[str, ...]]) -> Hyperedge:
    """The fact that a database holds as these properties over these members."""
    known = _plain(properties)
    times = {name: known.pop(name, None) for name in ("start_ts", "end_ts")}
    try:
        return Hyperedge(
            type=type,
            members=members,
            source=known.pop("source"),
            confidence=known.pop("confidence"),
            properties=known,
            **times,
        )
    except (RecordError, KeyError) as error:
        raise _foreign(error) from error


def _plain(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in properties.items()
        if name not in _OURS
    }


def _foreign(error: Exception) -> StoreError:
    return StoreError(
        f"the store holds a record that this version does not know ({error}): "
        "import the graph anew into an empty store"
    )
