"""Where the graph is kept: one interface, a server behind it, embedded or remote, and an oracle for tests."""

import os
from collections.abc import Callable
from pathlib import Path

from kg.store.base import GraphStore, StoreError


def open_store(folder: Path, graph: str, progress: Callable[[str], None] | None = None) -> GraphStore:
    """Opens a graph: on the server that NEO4J_URI names, else in the embedded database under ``folder``.

    Args:
        folder: of the graph's database; locks stand there in either case.
        graph: name of the graph.
        progress: told in words what is being done.

    Raises:
        StoreError: the server cannot be reached or started, or its database holds another graph.
    """
    # The drivers load only here: whoever reads arrays imports kg.store.base and needs none of them.
    from kg.store.bolt import BoltConfig, BoltStore
    from kg.store.embedded import EmbeddedStore

    say = progress or (lambda words: None)
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        say("opening the embedded database")
        return EmbeddedStore(folder, graph)
    password = os.environ.get("NEO4J_PASSWORD")
    if not password:
        raise StoreError(f"NEO4J_URI is {uri!r}, so NEO4J_PASSWORD must be set, it is not: set it")
    say(f"connecting to {uri}")
    user = os.environ.get("NEO4J_USER") or "neo4j"
    return BoltStore(uri, user, password, graph, config=BoltConfig(lock=Path(folder) / "writer.lock"))
