"""Writes into the graph how far each content is to be believed, so that Cypher can ask for it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kg.arrays import GraphArrays, export
from kg.records import Node
from kg.rights import trust_table
from kg.schema import EARLIEST_TS
from kg.store.base import GraphStore, WriteReport
from kg.trust import latest


def verify(store: GraphStore, name: str, as_of: int | None = None) -> WriteReport:
    """Sets trust, completeness and the last time it was seen of every content; twice is once.

    Later imports keep what is written here until it is written anew; a new export has another hash.

    Args:
        store: where the graph is.
        name: of the graph.
        as_of: UTC seconds from which age counts; None takes the last that the graph tells of.
    """
    graph = export(store, name)
    contents = list(store.nodes("Content"))  # read to its end before the first is written
    return store.write(_told(contents, graph, latest(graph) if as_of is None else as_of))


def _told(contents: list[Node], graph: GraphArrays, as_of: int) -> Iterator[Node]:
    table = trust_table(graph, as_of)
    trust, complete, seen = table.values().round(6), table.metadata.round(6), table.last_seen
    for node in contents:
        row = graph.row_of(node.id) or 0
        known = {"trust": float(trust[row]), "completeness": float(complete[row])}
        if np.isfinite(seen[row]) and seen[row] >= EARLIEST_TS:
            known["last_verified_ts"] = int(seen[row])
        yield replace(node, properties={**node.properties, **known})
