"""What is particular to the servers: five differences between them, constraints, retries, bookmarks, TLS."""

import datetime as dt
import ipaddress
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import neo4j
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from neo4j.exceptions import TransientError

from kg import schema
from kg.records import Hyperedge, Node
from kg.store.base import StoreError
from kg.store.bolt import BoltStore
from kg.store.statements import CONSTRAINED
from kg.store.writing import HiddenNodes

ROOT = Path(__file__).parents[2]
GENRES = [Node("Genre", f"genre:{place}") for place in range(3)]


@pytest.fixture(params=["embedded", "neo4j"])
def server(request, open_emptied) -> BoltStore:
    return open_emptied(request.param)


@pytest.fixture
def neo4j_server(open_emptied) -> BoltStore:
    return open_emptied("neo4j")


# Five differences between the servers that lose data or hang


def test_reading_is_enforced_where_the_mode_is_ignored(server):
    server.write(GENRES)
    create = "MERGE (n:`Genre` {id: 'genre:planted'})"
    with server._reader.session(default_access_mode=neo4j.READ_ACCESS) as session:
        with pytest.raises(neo4j.exceptions.ClientError):
            session.execute_read(lambda tx: tx.run(create).consume())
    assert (server._reader is not server._driver) == server.is_arcadedb
    assert server.count() == {"Genre": 3}


def test_arcadedb_needs_somebody_who_may_only_read(open_emptied):
    embedded = open_emptied("embedded")
    with pytest.raises(StoreError, match="needs a second user who may only read"):
        BoltStore(embedded.server.uri, "root", embedded.server.secret("root"), embedded.graph)


def test_a_batch_is_whole_or_absent(server):
    server.write(GENRES)

    def fail_late(tx):
        rows = [{"id": f"genre:late{place}"} for place in range(3000)]
        tx.run("UNWIND $rows AS row MERGE (n:`Genre` {id: row.id})", rows=rows).consume()
        tx.run("MATCH (n:`Genre` {id: $id}) RETURN n.id / 0 AS x", id="genre:0").consume()
        raise ValueError("what is written so far must go")

    with pytest.raises((StoreError, ValueError)):
        server.transact(fail_late)
    assert server.count() == {"Genre": 3}


def test_a_batch_whose_nodes_another_writer_hid_is_merged_again(server):
    server.write(GENRES)
    tries = []

    def hidden_at_first(tx):
        tries.append(1)
        tx.run("MERGE (n:`Genre` {id: 'genre:late'})").consume()
        if len(tries) == 1:
            raise HiddenNodes("matched in part only: repeat the import")

    if server.is_arcadedb:
        server.transact(hidden_at_first)
    else:  # Neo4j makes the second writer wait, and hides nothing
        with pytest.raises(StoreError, match="in part only: repeat"):
            server.transact(hidden_at_first)
    assert len(tries) == 1 + server.is_arcadedb and server.count() == {"Genre": 3 + server.is_arcadedb}


def test_an_id_can_stand_only_once(server):
    user, content = Node("User", "user:a"), Node("Content", "content:a")
    rated = Hyperedge("RATED", {"user": ("user:a",), "content": ("content:a",)}, "test", {"rating": 8.0})
    server.write([*GENRES, user, content, rated])
    with pytest.raises(StoreError, match="an id stands there twice"):
        server.run("CREATE (n:`Genre` {id: 'genre:0'})")
    twice = "MATCH (u:`User` {id: 'user:a'}) MATCH (c:`Content` {id: 'content:a'}) "
    with pytest.raises(StoreError, match="an id stands there twice"):
        server.run(twice + "CREATE (u)-[:`RATED` {id: $id}]->(c)", {"id": rated.id})
    assert server.count() == {"Genre": 3, "User": 1, "Content": 1, "RATED": 1}


def test_the_embedded_server_is_told_when_to_give_a_question_up(open_emptied):
    server = open_emptied("embedded").server
    told = (server.folder / "java.args").read_text(encoding="utf-8")
    assert server.config.command_s > 0 and "txWalFlush=2" in told
    assert f'"-Darcadedb.command.timeout={server.config.command_s * 1000}"' in told


def test_messages_beyond_16_mib(server):
    texts = [
        "x" * schema.LONGEST_TEXT
    ] * 200  # 20 MB; ArcadeDB takes one text of at most 16 MiB, no record has one
    assert server.cypher("RETURN size($texts) AS n", {"texts": texts}) == [{"n": 200}]
    long = [Node("Content", f"content:{place}", {"synopsis": "é" * 90_000}) for place in range(100)]
    assert server.write(long).nodes_written == 100 and server.count() == {"Content": 100}
    assert server.write(long).unchanged == 100


# Constraints and their indexes


def test_constraints_and_indexes_stand_for_every_type(server):
    server.prepare()
    found = {
        row["name"]: (row["labelsOrTypes"], row["properties"])
        for row in server.read("SHOW CONSTRAINTS YIELD name, labelsOrTypes, properties")
    }
    assert {f"id_of_{name}": ([name], ["id"]) for name in CONSTRAINED} == found
    assert {*schema.NODES} < CONSTRAINED.keys() and "RATED" in CONSTRAINED and "Available" in CONSTRAINED
    states = server.read("SHOW INDEXES YIELD labelsOrTypes, properties, state")
    online = {row["labelsOrTypes"][0] for row in states if row["properties"] == ["id"]}
    assert online == CONSTRAINED.keys() and {row["state"] for row in states} == {"ONLINE"}


def test_a_constraint_that_covers_something_else_is_refused(neo4j_server):
    neo4j_server.prepare()
    drop = "DROP CONSTRAINT `id_of_Genre` IF EXISTS"
    neo4j_server.run(drop)
    other = "CREATE CONSTRAINT `id_of_Genre` IF NOT EXISTS FOR (n:`Genre`) REQUIRE n.name IS UNIQUE"
    neo4j_server.run(other)
    neo4j_server._is_prepared = False
    try:
        with pytest.raises(StoreError, match="id_of_Genre must make the ids of Genre unique.*name of Genre"):
            neo4j_server.write(GENRES)
        assert neo4j_server.count() == {}
    finally:
        neo4j_server.run(drop)
        neo4j_server._is_prepared = False
        neo4j_server.prepare()
    assert neo4j_server.write(GENRES).nodes_written == 3


def test_data_that_break_a_constraint_are_named(neo4j_server):
    neo4j_server.run("DROP CONSTRAINT `id_of_Genre` IF EXISTS")
    neo4j_server.run("UNWIND [1, 2] AS x CREATE (n:`Genre` {id: 'genre:twice'})")
    neo4j_server._is_prepared = False
    try:
        with pytest.raises(StoreError, match="an id stands there twice"):
            neo4j_server.write(GENRES)
    finally:
        neo4j_server.run("MATCH (n:`Genre`) WITH n LIMIT 10 DETACH DELETE n")
        neo4j_server._is_prepared = False
        neo4j_server.prepare()


# Retries and bookmarks


def test_a_transient_error_is_tried_again(server):
    tries = []

    def work(tx):
        tries.append(None)
        tx.run("MERGE (n:`Genre` {id: 'genre:a'})").consume()
        if len(tries) < 2:
            raise TransientError("a deadlock, planted")
        return len(tries)

    server.prepare()
    assert server.transact(work) == 2 and server.count() == {"Genre": 1}


def test_whoever_reads_waits_for_what_was_written(neo4j_server):
    neo4j_server.write(GENRES[:1])
    first = set(neo4j_server._bookmarks.get_bookmarks())
    neo4j_server.write(GENRES[1:])
    second = set(neo4j_server._bookmarks.get_bookmarks())
    assert first and second and first != second
    assert neo4j_server.count() == {"Genre": 3}


# TLS, through a proxy with a certificate that nobody vouches for


@pytest.fixture
def tls_port(tmp_path, neo4j_login):
    """A port of loopback that speaks TLS and hands on to Neo4j's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "both.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    host, port = neo4j_login[0].partition("://")[2].split(":")
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        threading.Thread(target=_serve, args=(listening, context, (host, int(port))), daemon=True).start()
        yield listening.getsockname()[1]


def _serve(listening: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listening.accept()
            threading.Thread(target=_carry, args=(plain, context, behind), daemon=True).start()


def _carry(plain: socket.socket, context: ssl.SSLContext, behind: tuple[str, int]) -> None:
    with suppress(OSError), context.wrap_socket(plain, server_side=True) as client:
        with socket.create_connection(behind) as server:
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def test_a_graph_over_tls(neo4j_server, neo4j_login, tls_port):
    _, user, password = neo4j_login
    with BoltStore(f"bolt+ssc://127.0.0.1:{tls_port}", user, password, neo4j_server.graph) as store:
        store.write(GENRES)
    assert neo4j_server.count() == {"Genre": 3}


def test_a_certificate_that_nobody_vouches_for_is_refused(neo4j_login, tls_port):
    _, user, password = neo4j_login
    with pytest.raises(StoreError, match="must answer"):
        BoltStore(f"bolt+s://127.0.0.1:{tls_port}", user, password, "g").close()


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s", "neo4j+ssc"])
def test_tls_is_asked_for_and_never_left_out(neo4j_login, scheme):
    uri = neo4j_login[0].partition("://")[2]
    with pytest.raises(StoreError, match="must answer"):  # this server speaks none
        BoltStore(f"{scheme}://{uri}", *neo4j_login[1:], "g").close()


# Whose database the tests touch


def test_the_checks_before_a_merge_must_run_on_neo4j():
    run = (ROOT / ".ci/run").read_text(encoding="utf-8")
    must, test = run.index("export MG_TEST_MUST_NEO4J=1"), run.index("make test")
    assert "if [ -d ../shared/neo4j ]" in run and must < test
    stores = (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
    assert "MG_TEST_NEO4J_URI" in stores and '"NEO4J_URI' not in stores.replace('said["NEO4J_URI"]', "")


def test_must_neo4j_fails_instead_of_skipping(tmp_path):
    (tmp_path / "test_one.py").write_text("def test_one(neo4j_login):\n    pass\n", encoding="utf-8")
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "conftest.py")  # here no server lies beside it
    environment = {name: value for name, value in os.environ.items() if name != "MG_TEST_NEO4J_URI"}
    environment |= {"MG_TEST_MUST_NEO4J": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        str(tmp_path),
    ]
    said = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.returncode == 1 and "MG_TEST_MUST_NEO4J is set" in said.stdout, said.stdout
