"""A graph on a Bolt server, ArcadeDB or Neo4j 5: one class, told apart by the server's agent string.

Facts of two members are relationships; facts of more are nodes with one relationship a member."""

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock
import neo4j
import pyarrow as pa
from neo4j import exceptions
from neo4j.graph import Node as FoundNode
from neo4j.graph import Path as FoundPath
from neo4j.graph import Relationship

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore, Neighbour, StoreError, WriteReport
from kg.store.columns import StrangeRows, batches_of_rows, question
from kg.store.constraints import ensure
from kg.store.encoding import fact_of, members_of, node_of
from kg.store.refusals import Collision, Hidden, refusal, short
from kg.store.statements import COUNTS, MARKER, MEMBER_TYPES, fact_over, reads_files
from kg.store.writing import HiddenNodes, MissingNodes, Writer

Answer = TypeVar("Answer")
FORMAT = 1
_BOLT = re.compile(r"(bolt|neo4j)(\+s|\+ssc)?://")


@dataclass(frozen=True)
class BoltConfig:
    """How a :class:`BoltStore` talks to its server."""

    retry_s: float = 30.0
    """How long a managed transaction is tried again while the server is away."""
    merge_retries: int = 5
    """How often a batch is merged again when ArcadeDB saw another writer in between."""
    erase_rows: int = 2000
    """Rows deleted in one transaction; 2.3 million at once ended ArcadeDB."""
    lock: Path | None = None
    """File that one writer at a time holds; None where nobody else can write."""
    lock_wait_s: float = 2.0
    """How long to wait for another writer."""
    advice: str = "check that the server runs and NEO4J_URI names it, then repeat the command"
    """What to do when the server is gone: last part of the error message."""


class BoltStore(GraphStore):
    """A hypergraph on a server that speaks Bolt and Cypher.

    A database holds one graph, which a marker node names. ArcadeDB does not heed READ access, so questions
    go there as a user who may only read.
    """

    def __init__(
        self,
        uri: str,
        user: str,
        password: str,
        graph: str,
        reader: tuple[str, str] | None = None,
        config: BoltConfig | None = None,
    ) -> None:
        """Connects, and checks that the database is empty or holds this graph.

        Args:
            uri: ``bolt://host:port`` or ``neo4j://host``.
            user: who may write.
            password: of ``user``.
            graph: name of the graph.
            reader: name and password of a user who may only read; needed on ArcadeDB, None asks as ``user``.
            config: patience and sizes.

        Raises:
            StoreError: no server, wrong password, another graph's or somebody else's database.
        """
        self.graph, self.config, self._uri = graph, config or BoltConfig(), uri
        self._bookmarks: neo4j.api.BookmarkManager | None = None
        self._driver = self._connect(uri, user, password)
        self._reader = self._driver
        self._is_prepared = False
        try:
            with self._guard():
                self._driver.verify_connectivity()
                self.is_arcadedb = "ArcadeDB" in self._driver.get_server_info().agent
            if not self.is_arcadedb:  # a cluster: whoever reads from it sees what we wrote
                self._bookmarks = neo4j.GraphDatabase.bookmark_manager()
            if self.is_arcadedb and reader is None:
                raise StoreError(
                    f"{uri} is ArcadeDB, which needs a second user who may only read; got none: pass `reader`"
                )
            if reader is not None and self.is_arcadedb:
                self._reader = self._connect(uri, *reader)
            self._check_marker()
        except BaseException:
            self.close()
            raise

    def _connect(self, uri: str, user: str, password: str) -> neo4j.Driver:
        try:
            if not _BOLT.match(uri):  # the driver would try HTTP, which is no way to hold a transaction
                raise ValueError("another scheme")
            if not (log := logging.getLogger("neo4j")).handlers:  # our errors say it, once and with a remedy
                log.addHandler(logging.NullHandler())
            return neo4j.GraphDatabase.driver(
                uri,
                auth=(user, password),
                max_transaction_retry_time=self.config.retry_s,
                connection_timeout=10,
                notifications_min_severity="OFF",
                telemetry_disabled=True,
            )
        except (ValueError, exceptions.DriverError) as error:
            raise StoreError(
                f"a server is named as bolt://host:port or neo4j://host, got {uri!r} ({error}): "
                "set NEO4J_URI so"
            ) from error

    def _check_marker(self) -> None:
        found = self.read(f"MATCH (m:`{MARKER}`) RETURN m.name AS name, m.format AS format")
        if not found:
            if self.read("MATCH (n) RETURN 1 AS one LIMIT 1"):
                raise StoreError(
                    f"the database at {self._uri} must be empty or hold the graph {self.graph!r}, it holds "
                    "nodes that are not ours: name an empty database, or empty this one yourself"
                )
            return
        if found[0]["name"] != self.graph:
            raise StoreError(
                f"the database at {self._uri} must hold the graph {self.graph!r}, it holds "
                f"{found[0]['name']!r}: name another database, or empty this one"
            )
        if found[0]["format"] != FORMAT:
            raise StoreError(
                f"the graph at {self._uri} has format {found[0]['format']}, this version reads {FORMAT}: "
                "empty the database and import again"
            )

    def prepare(self) -> None:
        """Makes the uniqueness constraints that merging relies on, and the marker, where missing."""
        if self._is_prepared:
            return
        ensure(self)
        self.run(
            f"MERGE (m:`{MARKER}` {{id: 'graph'}}) SET m.name = $name, m.format = $format",
            {"name": self.graph, "format": FORMAT},
        )
        self._is_prepared = True

    def write(self, records: Iterable[Node | Hyperedge]) -> WriteReport:
        with self.writing():
            self.prepare()
            return Writer(self).write(records)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the writer's lock; one process at a time may."""
        path = self.config.lock
        if path is None:
            yield
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lock, owner = filelock.FileLock(path), path.with_suffix(".pid")
        try:
            lock.acquire(timeout=self.config.lock_wait_s)
        except filelock.Timeout:
            pid = owner.read_text() if owner.exists() else "unknown"
            raise StoreError(
                f"one process at a time may write to the graph {self.graph!r}, process {pid} does: "
                "wait until it has ended, or end it"
            ) from None
        try:
            owner.write_text(str(os.getpid()))
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def transact(self, work: Callable[[neo4j.ManagedTransaction], Answer]) -> Answer:
        """Runs ``work`` in one managed transaction: whole or not at all, tried again where that helps.

        ArcadeDB refuses the batch that loses against a concurrent merge with an error that the driver does
        not retry, or matches too few of its rows; merging again is safe.
        """
        attempt = 0
        while True:
            try:
                with self._guard(), self._driver.session(bookmark_manager=self._bookmarks) as session:
                    return session.execute_write(work)
            except (Collision, Hidden) as error:
                if not self.is_arcadedb or attempt == self.config.merge_retries:
                    if isinstance(error, Hidden):
                        raise
                    raise StoreError(
                        f"{self._uri} refuses a batch because an id stands there twice ({error}): "
                        "empty the database and import again"
                    ) from error
                time.sleep(0.05 * 2**attempt)
                attempt += 1

    def _reading(self, fetch_size: int = 1000) -> neo4j.Session:
        return self._reader.session(
            default_access_mode=neo4j.READ_ACCESS, bookmark_manager=self._bookmarks, fetch_size=fetch_size
        )

    def run(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Runs one statement that may write."""
        return self.transact(lambda tx: [dict(row) for row in tx.run(query, dict(parameters or {}))])

    def read(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Runs one statement as somebody who may only read."""
        with self._guard(), self._reading() as session:
            return session.execute_read(
                lambda tx: [dict(row) for row in tx.run(query, dict(parameters or {}))]
            )

    def stream(self, query: str, parameters: Mapping[str, Any] | None = None) -> Iterator[neo4j.Record]:
        """Rows as they come, for answers too big to hold; not tried again."""
        with (
            self._guard(),
            self._reading(fetch_size=5000) as session,
            session.begin_transaction() as transaction,
        ):
            yield from transaction.run(query, dict(parameters or {}))

    def nodes(self, type: str) -> Iterator[Node]:
        for row in self.stream(f"MATCH (n:`{type}`) RETURN properties(n) AS properties"):
            yield node_of(type, row["properties"])

    def hyperedges(self, type: str) -> Iterator[Hyperedge]:
        kind = schema.FACTS[type]
        if kind.is_binary:
            first, second = (role.name for role in kind.roles)
            for row in self.stream(
                f"MATCH (a)-[r:`{type}`]->(b) RETURN a.id AS a, b.id AS b, properties(r) AS properties"
            ):
                yield fact_of(type, row["properties"], {first: (row["a"],), second: (row["b"],)})
            return
        lists = ", ".join(
            f"[(f)-[:`{kind.member_type(role.name)}`]->(m) | m.id] AS `{role.name}`" for role in kind.roles
        )
        for row in self.stream(f"MATCH (f:`{kind.label}`) RETURN properties(f) AS properties, {lists}"):
            members = {role.name: tuple(sorted(row[role.name])) for role in kind.roles if row[role.name]}
            yield fact_of(type, row["properties"], members)

    def columns(self, type: str) -> Iterator[pa.RecordBatch]:
        """As in every store; where the rows look strange the records are read, which say what is."""
        told: deque[pa.RecordBatch] = deque()
        with suppress(StrangeRows):
            with closing(self.stream(question(type))) as rows:
                told.extend(batches_of_rows(type, rows))
            while told:  # let go of what was given
                yield told.popleft()
            return
        yield from super().columns(type)

    def neighbours(self, node_id: str, types: Sequence[str] = (), limit: int = 1000) -> list[Neighbour]:
        label = _label_of(node_id)
        asked = [schema.FACTS[type] for type in types] if types else list(schema.FACTS.values())
        facts: list[Hyperedge] = []
        if binary := [kind.name for kind in asked if kind.is_binary]:
            rows = self.read(
                f"MATCH (n:`{label}` {{id: $id}})-[r]-(m) WHERE type(r) IN $types "
                "WITH DISTINCT r LIMIT $limit "
                "RETURN type(r) AS type, startNode(r).id AS a, endNode(r).id AS b, "
                "properties(r) AS properties",
                {"id": node_id, "types": binary, "limit": limit},
            )
            for row in rows:
                first, second = (role.name for role in schema.FACTS[row["type"]].roles)
                members = {first: (row["a"],), second: (row["b"],)}
                facts.append(fact_of(row["type"], row["properties"], members))
        member_types = [
            kind.member_type(role.name) for kind in asked if not kind.is_binary for role in kind.roles
        ]
        if member_types:
            rows = self.read(
                f"MATCH (n:`{label}` {{id: $id}})<-[x]-(f) WHERE type(x) IN $types "
                "WITH DISTINCT f LIMIT $limit "
                "RETURN labels(f)[0] AS label, properties(f) AS properties, "
                "[(f)-[y]->(m) | [type(y), m.id]] AS members",
                {"id": node_id, "types": member_types, "limit": limit},
            )
            facts += [fact_over(row["label"], row["properties"], row["members"]) for row in rows]
        found = [
            Neighbour(other, role, fact)
            for fact in facts
            for role, other in members_of(fact)
            if other != node_id
        ]
        return found[:limit]

    def count(self) -> dict[str, int]:
        def ask(tx: neo4j.ManagedTransaction) -> dict[str, int]:
            return {type: tx.run(query).single(strict=True)["n"] for type, query in COUNTS.items()}

        with self._guard(), self._reading() as session:
            found = session.execute_read(ask)
        return {type: number for type, number in found.items() if number}

    def erase(self, node_id: str) -> int:
        label = _label_of(node_id)
        to_node = f"(n:`{label}` {{id: $id}})"
        parameters = {"id": node_id, "rows": self.config.erase_rows, "members": list(MEMBER_TYPES)}
        with self.writing():
            facts = self._delete_all(
                f"MATCH {to_node}<-[x]-(f) WHERE type(x) IN $members WITH DISTINCT f LIMIT $rows "
                "DETACH DELETE f RETURN count(*) AS n",
                parameters,
            )
            facts += self._delete_all(
                f"MATCH {to_node}-[r]-() WITH DISTINCT r LIMIT $rows DELETE r RETURN count(*) AS n",
                parameters,
            )
            self.run(f"MATCH {to_node} DETACH DELETE n", parameters)
        return facts

    def _delete_all(self, query: str, parameters: Mapping[str, Any]) -> int:
        total = 0
        while deleted := self.run(query, parameters)[0]["n"]:
            total += deleted
        return total

    def cypher(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        if reads_files(query):
            raise StoreError(
                "a question may only read this graph, got LOAD CSV, which reads files of the server: "
                "leave it out"
            )
        return [{name: _plain(value) for name, value in row.items()} for row in self.read(query, parameters)]

    def close(self) -> None:
        self._driver.close()
        if self._reader is not self._driver:
            self._reader.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turns what the driver raises into a StoreError that says what to do."""
        try:
            yield
        except HiddenNodes as error:
            raise Hidden(str(error)) from None
        except MissingNodes as error:
            raise StoreError(str(error)) from None
        except exceptions.AuthError as error:
            raise StoreError(
                f"{self._uri} must know the user and the password, it refuses them: "
                "check NEO4J_USER and NEO4J_PASSWORD"
            ) from error
        except exceptions.Neo4jError as error:
            raise refusal(error) or self._trouble(f"refuses ({short(error)})") from error
        except (exceptions.DriverError, OSError) as error:
            raise self._trouble(f"must answer, it does not ({short(error)})") from error
        except (OverflowError, UnicodeEncodeError, TypeError) as error:
            raise StoreError(
                f"a value must fit the database: 64-bit integers, valid text, plain types; {short(error)}: "
                "mend it in the source"
            ) from error

    def _trouble(self, what: str) -> StoreError:
        """The error for a server that does not do its part."""
        return StoreError(f"the server at {self._uri} {what}: {self.config.advice}")


def probe(uri: str) -> tuple[bool, str]:
    """Whether the server at ``uri`` lets NEO4J_USER in with NEO4J_PASSWORD, and what it says."""
    user, password = os.environ.get("NEO4J_USER") or "neo4j", os.environ.get("NEO4J_PASSWORD", "")
    try:
        with neo4j.GraphDatabase.driver(
            uri, auth=(user, password), connection_timeout=5, telemetry_disabled=True
        ) as driver:
            driver.verify_connectivity()
            return True, driver.get_server_info().agent
    except (ValueError, exceptions.DriverError, exceptions.Neo4jError) as error:
        return False, short(error)


def _label_of(node_id: str) -> str:
    try:
        return schema.node_type_of(node_id).name
    except KeyError as error:
        raise StoreError(str(error.args[0])) from None


def _plain(value: Any) -> Any:
    """What the driver gives as values that JSON knows."""
    if isinstance(value, FoundNode | Relationship):
        return {name: _plain(part) for name, part in value.items() if name != "digest"}
    if isinstance(value, FoundPath):
        return [_plain(node) for node in value.nodes]
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
