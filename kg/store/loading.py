"""The first load of an empty graph: rows go to the batch endpoint while they are made, then are counted."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from queue import Empty, Full, Queue
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import StoreError, WriteReport
from kg.store.encoding import members_of, said_of
from kg.store.java import DATABASE
from kg.store.statements import MEMBER_TYPES

if TYPE_CHECKING:
    from kg.store.embedded import EmbeddedStore

_CHUNK_ROWS = 2_000
"""Rows that travel together, about 600 kB."""
_CHUNKS_AHEAD = 64
"""Chunks that may wait while the server is busy with a batch of its own."""
_LOOK_S = 0.2
"""How often whoever waits for room among them looks whether the post still runs."""
_READ_BYTES = 2**20
_CHECKS_AT_ONCE = 2


class BatchLoad:
    """One first load: rows are made while the server takes in those before; what arrived is checked then.

    The endpoint takes all vertices before the first edge, and an edge names its ends by their places among
    the vertices. A fact of three or more members is a vertex, so that its edges wait in a file.
    """

    def __init__(
        self, store: "EmbeddedStore", folder: Path, progress: Callable[[int, int | None], None] | None = None
    ) -> None:
        self._store, self._folder, self._progress = store, folder, progress
        self._places: dict[str, int] = {}  # node id -> how many vertices came before it
        self._vertices = self._edges = 0
        self._counts: Counter[str] = Counter()
        self._edge_counts: Counter[tuple[str, str, str]] = Counter()  # (from label, type, to label)

    def send(
        self, nodes: Iterable[Node], hyperedges: Iterable[Hyperedge], wide_first: bool = False
    ) -> WriteReport:
        """Makes the rows and posts them meanwhile; ``wide_first`` as in :meth:`EmbeddedStore.first_load`."""
        post = _Post(self.post, self._progress)
        try:
            for rows in self.rows(nodes, hyperedges, wide_first):
                post.put(rows)
            post.end()
        except BaseException:
            post.break_off()
            raise
        return WriteReport(len(self._places), self._counts.total() - len(self._places), 0)

    def post(self, rows: Iterable[bytes]) -> None:
        """Posts rows that :meth:`rows` gave, all of them; waits until the server holds them."""
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return
        for type in MEMBER_TYPES:  # the endpoint takes edges of known types only
            self._store.server.command(f"CREATE EDGE TYPE `{type}` IF NOT EXISTS")
        reply = self._store.server.http(
            f"/api/v1/batch/{DATABASE}",
            params={"refMode": "ordinal", "idMapping": "false", "lightEdges": "false"},
            headers={"Content-Type": "application/x-ndjson"},
            content=chain([first], rows),
        )
        came = (reply["verticesCreated"], reply["edgesCreated"])
        if came != (self._vertices, self._edges):
            raise StoreError(
                f"the server must take {(self._vertices, self._edges)} vertices and edges, it took {came}: "
                f"see {self._store.server.log}"
            )

    def rows(
        self, nodes: Iterable[Node], hyperedges: Iterable[Hyperedge], wide_first: bool = False
    ) -> Iterator[bytes]:
        """Lines of JSON as the endpoint takes them, some thousand at once: all vertices, then all edges.

        Raises:
            StoreError: a fact names a node that is not there, an id comes twice, the disk is full.
        """
        with TemporaryFile(dir=self._folder) as waiting:
            facts = iter(hyperedges)
            first_pair: list[Hyperedge] = []
            with _on_disk():
                until = first_pair if wide_first else None
                yield from _packed(self._vertex_rows(nodes, facts, waiting, until))
                waiting.seek(0)
            while chunk := waiting.read(_READ_BYTES):
                yield chunk
            yield from _packed(map(self._pair, chain(first_pair, facts)))

    def _vertex_rows(
        self,
        nodes: Iterable[Node],
        facts: Iterator[Hyperedge],
        waiting: IO[bytes],
        first_pair: list[Hyperedge] | None,
    ) -> Iterator[str]:
        """Rows of vertices; edges go to ``waiting``, or the first of two members ends it, ``first_pair``."""
        yield from map(self._node, nodes)
        for fact in facts:
            if not schema.FACTS[fact.type].is_binary:
                yield self._wide(fact, waiting)
            elif first_pair is None:
                waiting.write(self._pair(fact).encode())
            else:
                first_pair.append(fact)
                return

    def _node(self, node: Node) -> str:
        node_id, said = said_of(node)
        if node_id in self._places:
            raise StoreError(f"a first load takes each id once, {node_id!r} came twice: merge the two before")
        self._places[node_id] = self._vertices
        self._counts[node.type] += 1
        return self._vertex(node.type, said)

    def _wide(self, fact: Hyperedge, waiting: IO[bytes]) -> str:
        kind = schema.FACTS[fact.type]
        place, edges = self._vertices, []
        for role, node_id in members_of(fact):
            key = (kind.label, kind.member_type(role), kind.role(role).types[0])
            edges.append(self._edge(key, place, self._place(fact, role, node_id), "{}"))
        waiting.write("".join(edges).encode())
        self._counts[fact.type] += 1
        return self._vertex(kind.label, said_of(fact)[1])

    def _pair(self, fact: Hyperedge) -> str:
        kind = schema.FACTS[fact.type]
        if not kind.is_binary:
            raise ValueError(f"facts of most members come first, got {fact.type} behind: sort them so")
        first, second = (self._place(fact, role.name, fact.members[role.name][0]) for role in kind.roles)
        key = (kind.roles[0].types[0], fact.type, kind.roles[1].types[0])
        self._counts[fact.type] += 1
        return self._edge(key, first, second, said_of(fact)[1])

    def _place(self, fact: Hyperedge, role: str, node_id: str) -> int:
        place = self._places.get(node_id)
        if place is None:
            raise StoreError(
                f"{fact.type} from {fact.source} names {node_id!r} as {role}, which is no node here: "
                "write the node first"
            )
        return place

    def _vertex(self, label: str, said: str) -> str:
        self._vertices += 1
        return f'{{"@type":"vertex","@class":"{label}",{said[1:]}\n'

    def _edge(self, key: tuple[str, str, str], start: int, end: int, said: str) -> str:
        self._edges += 1
        self._edge_counts[key] += 1
        rest = f",{said[1:]}" if len(said) > 2 else "}"
        return f'{{"@type":"edge","@class":"{key[1]}","@from":{start},"@to":{end}{rest}\n'

    def check(self) -> None:
        """What arrived is what was sent, and every relationship is found from both of its ends."""
        found = self._store.count()
        if found != self._counts:
            raise StoreError(f"a first load of {self._counts} left {found}: see {self._store.server.log}")
        ends: dict[str, list[tuple[str, str, int]]] = {}  # label -> (step, type, edges)
        for (start, type, end), expected in self._edge_counts.items():
            ends.setdefault(start, []).append(("outE", type, expected))
            ends.setdefault(end, []).append(("inE", type, expected))
        with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
            deque(pool.map(self._check_ends, ends, ends.values()), maxlen=0)

    def _check_ends(self, label: str, steps: list[tuple[str, str, int]]) -> None:
        sums = ", ".join(
            f"sum({step}('{type}').size()) AS n{place}" for place, (step, type, _) in enumerate(steps)
        )
        (seen,) = self._store.server.query(f"SELECT {sums} FROM `{label}`")
        for place, (_, type, expected) in enumerate(steps):
            if seen[f"n{place}"] != expected:
                raise StoreError(
                    f"{expected} {type} were loaded, {seen[f'n{place}']} are found from {label}: "
                    f"see {self._store.server.log}, then repeat the import"
                )


class _BrokenOff(Exception):
    """Ends a post whose rows cannot be made."""


class _Post:
    """A post that runs beside whoever makes its rows."""

    def __init__(
        self, post: Callable[[Iterable[bytes]], None], progress: Callable[[int, int | None], None] | None
    ) -> None:
        self._progress, self._is_whole = progress, True
        self._waiting: Queue[bytes | None] = Queue(_CHUNKS_AHEAD)
        self._pool = ThreadPoolExecutor(1)
        self._ended = self._pool.submit(post, self._rows())

    def put(self, rows: bytes | None) -> None:
        """Hands rows over, None after the last; raises what the post met meanwhile."""
        while not self._ended.done():
            with suppress(Full):
                self._waiting.put(rows, timeout=_LOOK_S)
                return
        self._ended.result()

    def end(self) -> None:
        """Waits until the server has taken all rows; raises what the post met."""
        self.put(None)
        self._ended.result()
        self._pool.shutdown()

    def break_off(self) -> None:
        """Lets the connection drop before the end; waits for nothing."""
        self._is_whole = False
        with suppress(Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        self._pool.shutdown(wait=False)

    def _rows(self) -> Iterator[bytes]:
        sent = 0
        while (rows := self._waiting.get()) is not None:
            yield rows
            sent += rows.count(b"\n")
            if self._progress is not None:
                self._progress(sent, None)
        if not self._is_whole:
            raise _BrokenOff
        if self._progress is not None:
            self._progress(sent, sent)


def _packed(rows: Iterator[str]) -> Iterator[bytes]:
    while some := list(islice(rows, _CHUNK_ROWS)):
        yield "".join(some).encode()


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the disk must take the rows that wait to be loaded ({error}): free some, then repeat"
        ) from error
