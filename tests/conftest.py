"""Stores that tests share: one embedded server and one Neo4j a session, emptied for each test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kg.store.base import GraphStore
from kg.store.bolt import BoltConfig, BoltStore
from kg.store.embedded import EmbeddedStore
from kg.store.memory import MemoryStore
from kg.store.statements import MARKER

TEST_GRAPH = "media-gateway-tests"
NEO4J_START = Path(__file__).resolve().parents[2] / "shared" / "neo4j" / "start"


@pytest.fixture(scope="session")
def embedded_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("embedded"), TEST_GRAPH) as store:
        yield store


@pytest.fixture(scope="session")
def neo4j_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, str]]:
    """(uri, user, password) of MG_TEST_NEO4J_URI, or of a server started for this session."""
    if uri := os.environ.get("MG_TEST_NEO4J_URI"):
        user = os.environ.get("MG_TEST_NEO4J_USER", "neo4j")
        yield uri, user, os.environ.get("MG_TEST_NEO4J_PASSWORD", "")
        return
    if not NEO4J_START.exists():
        _absent("no Neo4j here: name one with MG_TEST_NEO4J_URI")
    if shutil.which("java") is None:
        _absent("Neo4j needs Java 17, there is none")
    home = tmp_path_factory.mktemp("neo4j")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.run(
        [NEO4J_START, "--home", home, "--port", str(port), "--heap", "512m"],
        capture_output=True,
        text=True,
        timeout=180,
    )
    if started.returncode:
        _absent(f"Neo4j did not start: {started.stderr.strip()}")
    said = dict(pair.split("=", 1) for pair in started.stdout.split()[1:])
    server = psutil.Process(int(said["NEO4J_PID"]))
    try:
        yield said["NEO4J_URI"], said["NEO4J_USER"], said["NEO4J_PASSWORD"]
    finally:
        server.send_signal(signal.SIGKILL)  # its data goes with the folder


@pytest.fixture(scope="session")
def neo4j_session(
    neo4j_login: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BoltStore]:
    config = BoltConfig(lock=tmp_path_factory.mktemp("lock") / "writer.lock")
    with BoltStore(*neo4j_login, TEST_GRAPH, config=config) as store:
        yield store


@pytest.fixture(scope="session")
def open_emptied(request: pytest.FixtureRequest) -> Callable[[str], GraphStore]:
    """Gives the empty store of a kind: memory, embedded or neo4j."""

    def open_one(kind: str) -> GraphStore:
        if kind == "memory":
            return MemoryStore()
        store = request.getfixturevalue(f"{kind}_session")
        empty(store)
        return store

    return open_one


@pytest.fixture
def reopen(request: pytest.FixtureRequest) -> Callable[[BoltStore, str], BoltStore]:
    """Opens the database of a store once more, as another process would."""

    def again(store: BoltStore, graph: str) -> BoltStore:
        if not isinstance(store, EmbeddedStore):
            return BoltStore(*request.getfixturevalue("neo4j_login"), graph, config=store.config)
        root, reader = store.server.secret("root"), store.server.secret("reader")
        return BoltStore(store.server.uri, "root", root, graph, ("reader", reader), store.config)

    return again


@pytest.fixture
def embedded(open_emptied: Callable[[str], GraphStore]) -> GraphStore:
    return open_emptied("embedded")


def empty(store: BoltStore) -> None:
    """Deletes all but the marker."""
    while store.run(
        f"MATCH (n) WHERE NOT n:`{MARKER}` WITH n LIMIT 2000 DETACH DELETE n RETURN count(*) AS n"
    )[0]["n"]:
        pass


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Looks again and again until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"did not hold within {seconds} s")
        time.sleep(0.01)


def _absent(why: str) -> None:
    """Skips, or fails where these tests must not be missing."""
    if os.environ.get("MG_TEST_MUST_NEO4J"):
        pytest.fail(f"MG_TEST_MUST_NEO4J is set: {why}")
    pytest.skip(why)
