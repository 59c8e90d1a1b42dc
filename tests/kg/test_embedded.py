"""The embedded server: started, shared, found again after a crash; its first load; its messages."""

import json
import signal
import socket
import stat
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path

import psutil
import pytest

from kg.arrays import export
from kg.records import Hyperedge, Node
from kg.store import local, open_store
from kg.store.base import StoreError
from kg.store.embedded import EmbeddedStore
from kg.store.loading import BatchLoad
from kg.store.local import LocalConfig, LocalServer
from kg.store.memory import MemoryStore
from kg.store.visitors import read_state
from kg.worlds import WorldConfig, world

SMALL = world(WorldConfig(users=12, contents=16, groups=2, ratings_per_user=6))
NODES = [record for record in SMALL.records if isinstance(record, Node)]
FACTS = [record for record in SMALL.records if isinstance(record, Hyperedge)]
GRAPH = "g"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for the tests of this file that do not stop it."""
    with EmbeddedStore(tmp_path_factory.mktemp("embedded"), GRAPH) as store:
        yield store


def test_first_load_leaves_what_writing_leaves(tmp_path):
    memory = MemoryStore()
    memory.write(SMALL.records)
    seen = []
    with EmbeddedStore(tmp_path, GRAPH) as store:
        assert store.is_fresh()
        pid = store.server.pid
        report = store.first_load(NODES, iter(FACTS), lambda done, total: seen.append((done, total)))
        assert (report.nodes_written, report.hyperedges_written) == (len(NODES), len(FACTS))
        assert store.server.pid != pid and not psutil.pid_exists(pid)
        assert seen[-1][0] == seen[-1][1]
        assert store.count() == memory.count() and not store.is_fresh()
        assert export(store, GRAPH).hash == export(memory, GRAPH).hash
        for node in (SMALL.nodes("Content")[3], SMALL.nodes("Region")[0], SMALL.nodes("User")[0]):
            ours, theirs = (
                {(found.node_id, found.role, found.fact.id) for found in each.neighbours(node.id, limit=9999)}
                for each in (store, memory)
            )
            assert ours == theirs
        assert store.write(SMALL.records).unchanged == len(SMALL.records)  # the digests are the same, too
        with pytest.raises(StoreError, match="needs an empty graph"):
            store.first_load([], [])
    assert {path.name for path in tmp_path.iterdir()} >= {"databases", "log", "config", "secret.json"}
    assert not (tmp_path / "loading").exists() and not (tmp_path / "server.json").exists()
    with EmbeddedStore(tmp_path, GRAPH) as again:  # and after a clean stop it is still there
        assert again.count() == memory.count()


def test_a_load_that_fails_leaves_the_graph_empty_and_usable(tmp_path, monkeypatch):
    content = SMALL.nodes("Content")[0]
    with EmbeddedStore(tmp_path, GRAPH) as store:
        gone = Hyperedge("RATED", {"user": ("user:gone",), "content": (content.id,)}, "test")
        with pytest.raises(StoreError, match="names 'user:gone' as user, which is no node here"):
            store.first_load(NODES, [*FACTS, gone])
        assert store.count() == {} and not (tmp_path / "loading").exists()
        with pytest.raises(StoreError, match="each id once"):
            store.first_load([*NODES, NODES[0]], [])
        with pytest.raises(StoreError, match="refuses"):
            store.first_load(NODES, [*FACTS, FACTS[0]])
        rows = BatchLoad.rows

        def lose_one(load, *records):
            """A server that takes all but one edge, a member of a fact, without a word."""
            told = b"".join(rows(load, *records)).splitlines(keepends=True)
            last = next(n for n, line in reversed(list(enumerate(told))) if b"AVAILABLE_REGION" in line)
            load._edges -= 1
            yield b"".join(told[:last] + told[last + 1 :])

        monkeypatch.setattr(BatchLoad, "rows", lose_one)
        with pytest.raises(StoreError, match=r"\d+ AVAILABLE_REGION were loaded, \d+ are found from"):
            store.first_load(NODES, FACTS)
        assert store.count() == {} and not (tmp_path / "loading").exists()
        assert store.write(SMALL.records).unchanged == 0


def test_who_may_see_the_password(shared):
    folder = shared.server.folder
    for name in ("secret.json", "java.args", "server.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name
    line = " ".join(psutil.Process(shared.server.pid).cmdline())
    for user in ("root", "reader"):
        assert shared.server.secret(user) not in line
    listening = {
        c.laddr.ip.removeprefix("::ffff:") for c in psutil.Process(shared.server.pid).net_connections()
    }
    assert listening == {"127.0.0.1"}


def test_a_second_store_joins_and_does_not_stop_the_server(shared):
    shared.write([Node("Genre", "genre:a")])
    with EmbeddedStore(shared.server.folder, GRAPH) as second:
        assert second.server.pid == shared.server.pid
        assert second.count()["Genre"] == 1 and not second.is_fresh()
    assert shared.count()["Genre"] == 1


def test_a_second_process_joins_and_writes_one_after_the_other(shared):
    def records():
        found = _python(_WRITE_ONE, shared.server.folder)
        assert found.returncode == 3 and "one process at a time may write" in found.stdout
        assert str(psutil.Process().pid) in found.stdout
        yield Node("Genre", "genre:mine")

    shared.write(records())
    assert _python(_WRITE_ONE, shared.server.folder).returncode == 0
    assert {"genre:mine", "genre:theirs"} <= {node.id for node in shared.nodes("Genre")}


_WRITE_ONE = """
import sys
from itertools import chain, repeat
from pathlib import Path
from kg.records import Node
from kg.store.base import StoreError
from kg.store.embedded import EmbeddedStore
with EmbeddedStore(Path(sys.argv[1]), "g") as store:
    try:
        store.write([Node("Genre", "genre:theirs")])
    except StoreError as error:
        print(error)
        sys.exit(3)
"""


def test_orphan_is_found_and_used_and_the_dead_one_replaced(tmp_path):
    found = _python(_DIE, tmp_path)
    assert found.returncode == -signal.SIGKILL
    orphan = int(found.stdout)
    assert psutil.pid_exists(orphan)
    store = EmbeddedStore(tmp_path, GRAPH)
    assert store.server.pid == orphan and store.count() == {"Genre": 1}
    psutil.Process(orphan).kill()
    with pytest.raises(StoreError, match=r"must answer, it does not .*see .*server\.log"):
        store.write([Node("Genre", "genre:b")])
    store.close()
    with EmbeddedStore(tmp_path, GRAPH) as again:
        assert again.server.pid != orphan and again.count() == {"Genre": 1}
        last = again.server.pid
    assert not psutil.pid_exists(last)


_DIE = """
import os, signal, sys
from pathlib import Path
from kg.records import Node
from kg.store.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]), "g")
store.write([Node("Genre", "genre:a")])
print(store.server.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_state_file_that_names_a_stranger_is_not_believed(tmp_path):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / "server.json").write_text(
            json.dumps(
                {"pid": stranger.pid, "created": 1.0, "bolt_port": 1, "http_port": 1}
                | {"databases": "databases", "visitors": []}
            )
        )
        (tmp_path / "loading").mkdir()  # left by a load that was broken off
        (tmp_path / "loading" / "half").write_text("x")
        with EmbeddedStore(tmp_path, GRAPH) as store:
            assert store.count() == {} and not (tmp_path / "loading").exists()
        assert stranger.poll() is None
        (tmp_path / "server.json").write_text("{half")
        assert read_state(tmp_path) is None
    finally:
        stranger.kill()
        stranger.wait()


def test_messages_when_it_cannot_start(tmp_path):
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(StoreError, match="must be a folder that can be written"):
        LocalServer(taken).open()
    with pytest.raises(StoreError, match="needs the Java that comes with arcadedb-embedded"):
        LocalServer(tmp_path / "a", LocalConfig(java=Path("/nowhere/java"))).open()
    with pytest.raises(StoreError, match=r"ended with code 1; last words: .*server\.log"):
        LocalServer(tmp_path / "b", LocalConfig(heap="nonsense")).open()
    with pytest.raises(StoreError, match=r"needs \d+ MB of free disk"):
        LocalServer(tmp_path / "c", LocalConfig(free_bytes=2**60)).open()
    for name in "abc":
        assert not (tmp_path / name / "server.json").exists()


def test_open_store_follows_the_environment(tmp_path, monkeypatch, neo4j_login):
    uri, user, password = neo4j_login
    monkeypatch.setenv("NEO4J_URI", uri)
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    with pytest.raises(StoreError, match="NEO4J_PASSWORD must be set"):
        open_store(tmp_path, GRAPH)
    monkeypatch.setenv("NEO4J_USER", user)
    monkeypatch.setenv("NEO4J_PASSWORD", password)
    said = []
    with open_store(tmp_path, "media-gateway-tests", said.append) as store:
        assert not store.is_arcadedb
    assert said == [f"connecting to {uri}"]


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("taken", [1, 2], ids=["bolt", "http"])
def test_a_port_that_somebody_takes_first_costs_another_start(tmp_path, monkeypatch, taken):
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        ports = chain([None] * (taken - 1), [somebody.getsockname()[1]], repeat(None))
        free = local._free_port
        monkeypatch.setattr(local, "_free_port", lambda: next(ports) or free())
        server = LocalServer(tmp_path).open()
        try:
            assert server.query("SELECT 1 AS one")[0]["one"] == 1
        finally:
            server.close()
