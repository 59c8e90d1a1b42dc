"""Copies a graph from one store into another, record by record; both must hold the same counts and hash."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from configs.home import Home
from configs.registry import SettingError
from kg import schema
from kg.ingest import Progress
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore, StoreError
from kg.store.encoding import members_of, row_of

_EVERY = 1_000
_WRAP = 2**128
Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class CopyReport:
    """What a copy did; both stores hold the same."""

    counts: dict[str, int]
    """Nodes and facts by type."""
    hash: str
    """Of all records, in any order: see :class:`Fingerprint`."""
    written: int
    unchanged: int
    """Records that stood in the target already, word for word."""
    seconds: float


class Fingerprint:
    """Counts and hash of records that come in any order, in constant memory.

    The hash is the sum of the records' 128-bit digests, so that order does not matter and a record more, less
    or changed shows.

    Source: Clarke et al., "Incremental Multiset Hash Functions", ASIACRYPT 2003 (their additive hash; ours is
    keyless: it guards against faults, not against a forger).

    Example:
        >>> one, other = Node("Genre", "genre:a"), Node("Genre", "genre:b")
        >>> Fingerprint([one, other]).hash == Fingerprint([other, one]).hash
        True
    """

    def __init__(self, records: Iterable[Node | Hyperedge] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._sum = 0
        for record in records:
            self.add(record)

    def add(self, record: Node | Hyperedge) -> None:
        """Takes one record in."""
        _, _, said = row_of(record)
        members = sorted(members_of(record)) if isinstance(record, Hyperedge) else []
        digest = hashlib.blake2b(f"{record.type}{said}{members}".encode(), digest_size=16).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % _WRAP
        self.counts[record.type] += 1

    @property
    def hash(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._sum:032x}"


def copy(source: GraphStore, target: GraphStore, tell: Tell | None = None) -> CopyReport:
    """Copies all records, then reads the target back and compares.

    A copy that was broken off is simply started again: what stands is left alone. An empty embedded target is
    filled whole or not at all.

    Args:
        source: read once; nobody should write to it meanwhile.
        target: empty, or with a part of the same graph.
        tell: called every thousand records.

    Raises:
        StoreError: the target holds something else besides, or what arrived is not what was sent.

    Cost: memory of a batch; three passes: read, write, read back.
    """
    began = time.perf_counter()
    sent = Fingerprint()
    nodes = _counted(_records(source, schema.NODES), sent, "nodes", tell)
    facts = _counted(_records(source, schema.FACTS), sent, "facts", tell)
    written, unchanged = _write(target, nodes, facts)
    there = Fingerprint()
    for _ in _counted(_records(target, (*schema.NODES, *schema.FACTS)), there, "comparing", tell):
        pass
    if there.counts != sent.counts or there.hash != sent.hash:
        raise StoreError(
            f"the target must hold what the source holds, {_difference(sent, there)}: copy into an "
            "empty store, or make sure that nobody writes to either, then repeat"
        )
    counts = dict(sorted(sent.counts.items()))
    return CopyReport(counts, sent.hash, written, unchanged, time.perf_counter() - began)


def _write(target: GraphStore, nodes: Iterator[Node], facts: Iterator[Hyperedge]) -> tuple[int, int]:
    from kg.store.embedded import EmbeddedStore  # the drivers load only where a graph is copied

    if isinstance(target, EmbeddedStore) and target.is_fresh():
        first = target.first_load(nodes, facts)
        return first.nodes_written + first.hyperedges_written, first.unchanged
    one, other = target.write(nodes), target.write(facts)
    return one.nodes_written + other.hyperedges_written, one.unchanged + other.unchanged


def _records(store: GraphStore, types: Iterable[str]) -> Iterator[Node | Hyperedge]:
    for type in types:
        yield from store.nodes(type) if type in schema.NODES else store.hyperedges(type)


def _counted(
    records: Iterable[Node | Hyperedge], into: Fingerprint, stage: str, tell: Tell | None
) -> Iterator[Node | Hyperedge]:
    began = time.perf_counter()
    for done, record in enumerate(records, 1):
        into.add(record)
        yield record
        if tell is not None and done % _EVERY == 0:
            tell(Progress(stage, done, None, done / max(time.perf_counter() - began, 1e-9)))


def _difference(sent: Fingerprint, there: Fingerprint) -> str:
    differing = [
        f"{type}: {sent.counts[type]:,} sent, {there.counts[type]:,} there"
        for type in sorted(sent.counts.keys() | there.counts.keys())
        if sent.counts[type] != there.counts[type]
    ]
    return "; ".join(differing) or f"as many records, but hash {there.hash} instead of {sent.hash}"


def end_of(uri: str) -> tuple[str, str]:
    """Kind of store and graph name that one end of a copy names; the name is '' where the URI has none.

    Args:
        uri: ``embedded:NAME`` (a graph of this home), ``bolt://…`` or ``neo4j://…``, or ``memory:``, which
            keeps the copy in this process only: a trial.

    Raises:
        SettingError: anything else, or a password in the address.

    Example:
        >>> end_of("embedded:world"), end_of("neo4j://127.0.0.1:7687")
        (('embedded', 'world'), ('bolt', ''))
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "embedded" and rest and "/" not in rest and not rest.startswith("."):
        return "embedded", rest
    if uri in ("memory", "memory:"):
        return "memory", ""
    parts = urlsplit(uri)
    if parts.scheme.split("+")[0] in ("bolt", "neo4j") and parts.hostname:
        if parts.username or parts.password:
            raise SettingError(
                "an address holds no user and no password, this one does: set NEO4J_USER and NEO4J_PASSWORD"
            )
        return "bolt", ""
    raise SettingError(
        f"an end is embedded:NAME, bolt://host:port, neo4j://host or memory:, got {uri!r}: write it so"
    )


def open_end(uri: str, side: str, graph: str, home: Home, tell: Callable[[str], None]) -> GraphStore:
    """Opens one end of a copy.

    Args:
        uri: see :func:`end_of`.
        side: ``FROM`` or ``TO``: ``NEO4J_FROM_PASSWORD`` goes before ``NEO4J_PASSWORD``, the user too.
        graph: name of the graph on a server.
        home: where embedded databases and locks lie.
        tell: told in words what is being done.

    Raises:
        SettingError: no such kind of end, or a memory to copy from.
        StoreError: the store cannot be opened.
    """
    from kg.store.bolt import BoltConfig, BoltStore
    from kg.store.embedded import EmbeddedStore
    from kg.store.memory import MemoryStore

    kind, name = end_of(uri)
    if kind == "memory":
        if side == "FROM":
            raise SettingError("a memory of this process holds no graph yet: copy from embedded: or a server")
        return MemoryStore()
    if kind == "embedded":
        folder = home.database(name)
        if side == "FROM" and not folder.is_dir():
            raise StoreError(f"{folder} must hold the graph {name!r}, it is not there: run `mg ingest` first")
        tell(f"opening the embedded database of {name}")
        return EmbeddedStore(folder, name)
    password = os.environ.get(f"NEO4J_{side}_PASSWORD") or os.environ.get("NEO4J_PASSWORD")
    if not password:
        raise StoreError(f"{uri} needs a password: set NEO4J_PASSWORD, or NEO4J_{side}_PASSWORD")
    user = os.environ.get(f"NEO4J_{side}_USER") or os.environ.get("NEO4J_USER") or "neo4j"
    tell(f"connecting to {uri}")
    lock = home.database(graph) / "copy.lock"
    return BoltStore(uri, user, password, graph, config=BoltConfig(lock=lock if side == "TO" else None))
