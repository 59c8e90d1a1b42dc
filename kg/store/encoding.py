"""How a record is written down: flat properties for a database, and a digest that tells when it changed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from kg.records import Hyperedge, Node, RecordError
from kg.store.base import StoreError

_OF_FACT = ("source", "confidence", "start_ts", "end_ts")
_OURS = ("id", "digest")
_to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def row_of(record: Node | Hyperedge) -> tuple[str, dict[str, Any], str]:
    """A record as the database holds it.

    Returns:
        its id; its properties, ``id`` and ``digest`` among them, unknown ones left out; the same as JSON.
    """
    properties = {
        name: list(value) if isinstance(value, tuple) else value for name, value in record.properties.items()
    }
    if isinstance(record, Hyperedge):
        for name in _OF_FACT:
            if (value := getattr(record, name)) is not None:
                properties[name] = value
    properties["id"] = record_id = record.id
    said = _to_json(properties)
    digest = hashlib.blake2b(f"{record.type}{said}".encode(), digest_size=8).hexdigest()
    properties["digest"] = digest
    return record_id, properties, f'{{"digest":"{digest}",{said[1:]}'


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
