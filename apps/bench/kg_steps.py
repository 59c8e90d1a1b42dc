"""Steps of ``mg bench kg``, each in a process of its own, so that its memory is its own."""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import neo4j
import psutil

from configs.home import Home
from kg import schema
from kg.arrays import GraphArrays, export
from kg.datasets import open_dataset
from kg.ingest import ingest
from kg.large_world import LargeWorldConfig
from kg.sources import Source, sources
from kg.store.bolt import BoltStore
from kg.store.embedded import BatchLoad, EmbeddedStore
from kg.store.encoding import members_of, row_of
from kg.store.statements import MARKER

GRAPH = "media-gateway-bench"
_BATCH = 5_000
_ROOT = Path(__file__).resolve().parents[2]


def in_a_process(step: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a step of :data:`STEPS` says, run by an interpreter of its own; ``settings`` go by its input.

    Raises:
        RuntimeError: the step failed; its last words.
    """
    ended = subprocess.run(
        [sys.executable, "-m", "apps.bench.kg_steps", step],
        input=json.dumps(settings, default=str),
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise RuntimeError(f"step {step} must end well, it says {ended.stderr[-600:]!r}: mend that, repeat")
    return json.loads(ended.stdout.splitlines()[-1])


def load(folder: str, data: str | None = None, world: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An import into the embedded store under ``folder``: of a data set, or of a large world."""
    opened: Sequence[Source]
    if world is None:
        opened = open_dataset(data, Home.here()).sources
    else:
        LargeWorldConfig(**world)
        opened = (sources.build("large-world", world),)
    with EmbeddedStore(Path(folder) / "database", GRAPH) as store:
        began = time.process_time()
        report = ingest(opened, store, Path(folder) / "imports")
        return {
            "seconds": report.seconds,
            "cpu_s": time.process_time() - began,
            "nodes": report.nodes,
            "facts": report.hyperedges,
            "rows": sum(report.counts.values()),
            "written": report.written,
            "peak_bytes": peak_bytes(),
        }


def post(source: str, folder: str) -> dict[str, Any]:
    """The rows of the store under ``source``, prepared, posted to the batch endpoint of an empty server."""
    with (
        EmbeddedStore(Path(folder) / "database", GRAPH) as target,
        TemporaryDirectory(dir=folder) as spool,
    ):
        ready, prepared = BatchLoad(target, Path(spool)), Path(spool) / "rows.jsonl"
        with EmbeddedStore(Path(source) / "database", GRAPH) as store, prepared.open("wb") as file:
            file.writelines(ready.rows(_all(store.nodes, schema.NODES), _all(store.hyperedges, schema.FACTS)))
        target.prepare()
        with prepared.open("rb") as file:
            seconds = _seconds(lambda: ready.post(iter(lambda: file.read(2**20), b"")))
        return {"seconds": seconds, "rows": sum(target.count().values())}


def fetch(source: str, repeats: int) -> dict[str, Any]:
    """Export to arrays and a fetch of the same rows by the bare driver, in turn; then the arrays opened."""
    ours, bare, opened = [], [], []
    with EmbeddedStore(Path(source) / "database", GRAPH) as store, TemporaryDirectory(dir=source) as folder:
        arrays = None
        for _ in range(repeats):
            began = time.perf_counter()
            arrays = export(store, GRAPH)
            ours.append(time.perf_counter() - began)
            bare.append(_seconds(lambda: _bare_fetch(store)))
        path = arrays.save(Path(folder)) if arrays is not None else Path(folder)
        rows = sum(table.num_rows for kind in (arrays.nodes, arrays.facts) for table in kind.values())  # type: ignore[union-attr]
        del arrays
        for _ in range(5):
            opened.append(_seconds(lambda: GraphArrays.open(path)))
    return {
        "ours_s": median(ours),
        "bare_s": median(bare),
        "open_s": median(opened),
        "rows": rows,
        "peak_bytes": peak_bytes(),
    }


def unwind(source: str, side: str, uri: str, user: str, password: str) -> dict[str, Any]:
    """The rows of the store under ``source`` into an empty Neo4j: by our store, or a loop written by hand."""
    rows, seconds = 0, 0.0
    with (
        EmbeddedStore(Path(source) / "database", GRAPH) as store,
        BoltStore(uri, user, password, GRAPH) as target,
        neo4j.GraphDatabase.driver(uri, auth=(user, password), telemetry_disabled=True) as driver,
    ):
        target.prepare()
        _empty(driver)
        for type in (*schema.NODES, *schema.FACTS):  # one type at a time is held
            records = list(store.nodes(type) if type in schema.NODES else store.hyperedges(type))
            rows += len(records)
            if side == "ours":
                seconds += _seconds(lambda told=records: target.write(told))
            elif records:
                ready = [(*row_of(record)[:2], record) for record in records]
                seconds += _seconds(lambda type=type, told=ready: _by_hand(driver, type, told))
        found = sum(target.count().values())
        _empty(driver)
    if found != rows:
        raise RuntimeError(
            f"{side} must write {rows} rows, {found} are there: the comparison is worth nothing"
        )
    return {"seconds": seconds, "rows": rows}


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    "load": load,
    "post": post,
    "fetch": fetch,
    "unwind": unwind,
}


def peak_bytes() -> int:
    """Most memory that this process held so far: ``VmHWM`` where the system tells it, else what it holds."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return psutil.Process().memory_info().rss


def _all(ask: Callable[[str], Iterator[Any]], types: Mapping[str, Any]) -> Iterator[Any]:
    for type in types:
        yield from ask(type)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _bare_fetch(store: EmbeddedStore) -> None:
    """All rows as the bare driver gives them, none kept."""
    login = ("reader", store.server.secret("reader"))
    with (
        neo4j.GraphDatabase.driver(store.server.uri, auth=login, telemetry_disabled=True) as driver,
        driver.session(default_access_mode=neo4j.READ_ACCESS, fetch_size=_BATCH) as session,
    ):
        for query in _fetches():
            deque((row.values() for row in session.run(query)), maxlen=0)


def _fetches() -> Iterator[str]:
    for label in schema.NODES:
        yield f"MATCH (n:`{label}`) RETURN properties(n)"
    for kind in schema.FACTS.values():
        if kind.is_binary:
            yield f"MATCH (a)-[r:`{kind.name}`]->(b) RETURN a.id, b.id, properties(r)"
            continue
        lists = ", ".join(
            f"[(f)-[:`{kind.member_type(role.name)}`]->(m) | m.id] AS `{role.name}`" for role in kind.roles
        )
        yield f"MATCH (f:`{kind.label}`) RETURN properties(f), {lists}"


def _by_hand(driver: neo4j.Driver, type: str, ready: Sequence[tuple[str, dict[str, Any], Any]]) -> None:
    """What one would write without a store: UNWIND and MERGE, 5,000 rows a transaction."""
    kind = schema.FACTS.get(type)
    if kind is not None and kind.is_binary:
        first, second = kind.roles
        query = (
            f"UNWIND $rows AS row MATCH (a:`{first.types[0]}` {{id: row.a}}) "
            f"MATCH (b:`{second.types[0]}` {{id: row.b}}) "
            f"MERGE (a)-[r:`{type}` {{id: row.id}}]->(b) SET r = row.props"
        )
        rows = [
            {"id": id, "a": fact.members[first.name][0], "b": fact.members[second.name][0], "props": props}
            for id, props, fact in ready
        ]
        _send(driver, query, rows)
        return
    label = type if kind is None else kind.label
    query = f"UNWIND $rows AS row MERGE (n:`{label}` {{id: row.id}}) SET n = row.props"
    _send(driver, query, [{"id": id, "props": props} for id, props, _ in ready])
    for role in () if kind is None else kind.roles:
        query = (
            f"UNWIND $rows AS row MATCH (f:`{label}` {{id: row.f}}) "
            f"MATCH (m:`{role.types[0]}` {{id: row.m}}) "
            f"MERGE (f)-[:`{kind.member_type(role.name)}`]->(m)"  # type: ignore[union-attr]
        )
        named = [
            (id, other) for id, _, fact in ready for name, other in members_of(fact) if name == role.name
        ]
        _send(driver, query, [{"f": id, "m": other} for id, other in named])


def _send(driver: neo4j.Driver, query: str, rows: Sequence[Mapping[str, Any]]) -> None:
    with driver.session() as session:
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            session.execute_write(lambda tx, part=part: tx.run(query, rows=part).consume())


def _empty(driver: neo4j.Driver) -> None:
    """Deletes all but the marker, which says that this database is the benchmark's."""
    query = f"MATCH (n) WHERE NOT n:`{MARKER}` WITH n LIMIT 5000 DETACH DELETE n RETURN count(*) AS n"
    while driver.execute_query(query).records[0]["n"]:
        pass


if __name__ == "__main__":
    print(json.dumps(STEPS[sys.argv[1]](**json.loads(sys.stdin.read()))))
