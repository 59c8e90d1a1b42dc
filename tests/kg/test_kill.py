"""The database or the importing process is killed amid an import; imported again, the graph is the same."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kg import schema
from kg.arrays import export
from kg.ingest import ingest
from kg.sources.world import WorldSource
from kg.store import writing
from kg.store.base import GraphStore, StoreError
from kg.store.embedded import EmbeddedStore
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = WorldConfig(users=60, contents=60, groups=2, ratings_per_user=30)
SEED = WorldConfig(users=4, contents=12, groups=2, ratings_per_user=2)
_IMPORT = """
import sys
from pathlib import Path
from kg.ingest import ingest
from kg.sources.world import WorldSource
from kg.store import loading, writing
from kg.store.embedded import EmbeddedStore
from kg.worlds import WorldConfig
import kg.ingest
kg.ingest._EVERY_S = 0
writing.BATCH_ROWS = 500
loading._CHUNK_ROWS = 100
folder = Path(sys.argv[1])

def tell(progress):
    print(progress.stage, progress.done, flush=True)
    if progress.stage == sys.argv[2] and progress.done > 500:
        sys.stdin.readline()  # waits to be killed, or for the database to be

with EmbeddedStore(folder / "db", "g") as store:
    config = WorldConfig(users=60, contents=60, groups=2, ratings_per_user=30)
    ingest([WorldSource(config)], store, folder / "imports", progress=tell)
"""


def same_graph(store: GraphStore, memory: MemoryStore) -> None:
    """Counts, export hash, and for each type of fact the neighbours of its members, from every end."""
    assert store.count() == memory.count()
    assert export(store, "g").hash == export(memory, "g").hash
    for type in memory.count().keys() & schema.FACTS.keys():
        fact = max(memory.hyperedges(type), key=lambda fact: fact.id)
        for node_id in {id for ids in fact.members.values() for id in ids}:
            ours, theirs = (
                {(n.node_id, n.role, n.fact.id) for n in each.neighbours(node_id, [type], limit=10**6)}
                for each in (store, memory)
            )
            assert ours == theirs, (type, node_id)


@pytest.mark.parametrize("victim", ["database", "importer"])
@pytest.mark.parametrize("stage", ["loading", "facts"])
def test_import_goes_on_after_kill(tmp_path, stage, victim):
    memory = MemoryStore()
    sources = [WorldSource(CONFIG)]
    if stage == "facts":  # something stands already, so that the import merges over Bolt
        ingest([WorldSource(SEED)], memory, tmp_path / "oracle")
        with EmbeddedStore(tmp_path / "db", "g") as store:
            store.write([*(node for type in schema.NODES for node in memory.nodes(type))])
            store.write([fact for type in schema.FACTS for fact in memory.hyperedges(type)])
    ingest(sources, memory, tmp_path / "oracle")

    importer = subprocess.Popen(
        [sys.executable, "-c", _IMPORT, str(tmp_path), stage],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in importer.stdout:
            if line.startswith(stage) and int(line.split()[1]) > 500:
                break
        server = psutil.Process(_server_of(tmp_path / "db"))
        if victim == "database":
            server.kill()
            _, said = importer.communicate("\n" * 1000, timeout=120)
            assert importer.returncode == 1 and "StoreError" in said and "server.log" in said
        else:
            importer.kill()
            assert importer.wait() == -signal.SIGKILL and server.is_running()
    finally:
        importer.kill()
        importer.wait()

    with EmbeddedStore(tmp_path / "db", "g") as store:
        found = store.count()
        if stage == "loading":
            assert found == {}  # thrown away, not half there
            assert not (tmp_path / "db" / "loading").exists()
        else:
            assert sum(found.values()) < sum(memory.count().values())
        report = ingest(sources, store, tmp_path / "imports")
        assert report.counts == memory.count()
        same_graph(store, memory)


def _server_of(folder: Path) -> int:
    return json.loads((folder / "server.json").read_text())["pid"]


def test_neo4j_dies_under_an_import(open_emptied, tmp_path, monkeypatch):
    """A server that breaks a batch off: whole or absent, then the rest."""
    store, memory = open_emptied("neo4j"), MemoryStore()
    monkeypatch.setattr(writing, "BATCH_ROWS", 500)
    ingest([WorldSource(CONFIG)], memory, tmp_path / "oracle")
    transact, calls = store.transact, []

    def break_off(work):
        calls.append(1)
        if len(calls) == 6:

            def half(tx):
                work(tx)
                raise StoreError("the line was cut")

            return transact(half)
        return transact(work)

    monkeypatch.setattr(store, "transact", break_off)
    with pytest.raises(StoreError, match="cut"):
        ingest([WorldSource(CONFIG)], store, tmp_path / "a")
    assert sum(store.count().values()) < sum(memory.count().values())
    monkeypatch.undo()
    ingest([WorldSource(CONFIG)], store, tmp_path / "a")
    same_graph(store, memory)
