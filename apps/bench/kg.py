"""The hypergraph on the clock: loads, a second import, growth, export; ours and the reference in turn."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from apps.bench.kg_steps import in_a_process
from configs.registry import SettingError

MIB = 2**20
USERS, CONTENTS = 10_000, 2_500
"""Of the worlds that grow: as many in each, because an import holds nodes; facts alone have no bound."""
_FACTS_A_CONTENT = 9
"""Besides ratings, about."""
ELSEWHERE = ("mg bench availability", "mg bench identity", "mg bench rdf")
"""Commands that measure the rest of the hypergraph."""


@dataclass(frozen=True)
class Row:
    """One figure beside its reference."""

    what: str
    ours: float
    reference: float | None
    unit: str
    value: float
    """What is held to the bar: a ratio, a slope, or ``ours`` itself."""
    bar: float
    is_least: bool = False
    """True where the bar is a least, and not a most."""
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bar is reached."""
        return self.value >= self.bar if self.is_least else self.value <= self.bar


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often."""

    data: str
    """As ``mg ingest --data`` takes it."""
    sizes: Sequence[int] = (100_000, 300_000, 1_000_000)
    """Facts of the worlds that grow, about."""
    repeats: int = 1
    """Runs of either side; the median counts."""
    neo4j: str = ""
    """A script that starts a server, ``test`` for the one that MG_TEST_NEO4J_URI names, '' for none."""
    users: int = USERS
    contents: int = CONTENTS


def measure(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """All rows, as they are found; ``tell`` is told in words what is being done.

    Raises:
        RuntimeError: a step failed, or both sides do not hold the same rows.
    """
    with TemporaryDirectory(prefix="mg-bench.") as place:
        kept = Path(place) / "ours-0"
        yield from _loads(plan, Path(place), tell)
        tell("export, and a fetch by the bare driver")
        yield from _export(in_a_process("fetch", {"source": kept, "repeats": max(3, plan.repeats)}))
        if plan.neo4j:
            yield _unwind(plan, kept, Path(place), tell)
    if len(plan.sizes) > 1:
        yield from _growth(plan, tell)


def _loads(plan: Plan, place: Path, tell: Callable[[str], None]) -> Iterator[Row]:
    """First load beside the batch endpoint, then the second import."""
    ours, theirs, again = [], [], []
    for turn in range(plan.repeats):
        folder, other = place / f"ours-{turn}", place / f"theirs-{turn}"
        for path in (folder, other):
            path.mkdir()
        tell(f"first load, {turn + 1} of {plan.repeats}")
        ours.append(in_a_process("load", {"folder": folder, "data": plan.data}))
        tell("the same rows to the batch endpoint")
        theirs.append(in_a_process("post", {"source": folder, "folder": other}))
        if ours[-1]["rows"] != theirs[-1]["rows"]:
            raise RuntimeError(
                f"both sides must load the same rows, got {ours[-1]['rows']} and {theirs[-1]['rows']}"
            )
        tell("second import")
        again.append(in_a_process("load", {"folder": folder, "data": plan.data}))
    first, bare = (median(one["rows"] / one["seconds"] for one in side) for side in (ours, theirs))
    peak = max(one["peak_bytes"] for one in ours) / MIB
    rows, cpu_s = ours[0]["rows"], median(one["cpu_s"] for one in ours)
    note = f"{rows:,} rows, {ours[0]['facts']:,} of them facts; {cpu_s:.0f} s of our processor time"
    yield Row("first load, beside the batch endpoint", first, bare, "rows/s", first / bare, 0.7, True, note)
    yield Row("first load, memory of our process", peak, None, "MiB", peak, 1_536)
    took = [median(one["seconds"] for one in side) for side in (again, ours)]
    yield Row("second import, beside the first", took[0], took[1], "s", took[0] / took[1], 0.3)
    written = max(one["written"] for one in again)
    yield Row("second import, records written", written, None, "records", written, 0)


def _export(found: dict[str, Any]) -> Iterator[Row]:
    ours, bare = found["ours_s"], found["bare_s"]
    note = f"{found['rows']:,} rows; memory {found['peak_bytes'] / MIB:,.0f} MiB"
    yield Row("export to arrays, beside the bare driver", ours, bare, "s", ours / bare, 1.3, note=note)
    yield Row("arrays opened again", found["open_s"], None, "s", found["open_s"], 0.2)


def _unwind(plan: Plan, source: Path, place: Path, tell: Callable[[str], None]) -> Row:
    took: dict[str, list[float]] = {"ours": [], "by hand": []}
    rows = 0
    for turn in range(plan.repeats):
        for side, seconds in took.items():
            tell(f"Neo4j, {side}")
            with _server(plan.neo4j, place / f"neo4j-{side.replace(' ', '-')}-{turn}") as login:
                found = in_a_process("unwind", {"source": source, "side": side, **login})
            seconds.append(found["seconds"])
            rows = found["rows"]
    first, bare = (rows / median(seconds) for seconds in took.values())
    note = f"{rows:,} rows, merged by id, 5,000 a transaction"
    return Row("Neo4j, beside UNWIND by hand", first, bare, "rows/s", first / bare, 0.8, True, note)


@contextmanager
def _server(named: str, home: Path) -> Iterator[dict[str, str]]:
    """Address and login of an empty Neo4j; one that we start ends with the block."""
    if named == "test":
        yield _test_login()
        return
    if not Path(named).is_file():
        raise SettingError(f"a Neo4j is `test` or a script that starts one, got {named!r}: check the path")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    call = [named, "--home", str(home), "--port", str(port), "--heap", "1g"]
    started = subprocess.run(call, capture_output=True, text=True, timeout=180)
    if started.returncode:
        raise RuntimeError(f"{named} must start a server, it says {started.stderr.strip()!r}")
    said = dict(pair.split("=", 1) for pair in started.stdout.split()[1:])
    server = psutil.Process(int(said["NEO4J_PID"]))
    try:
        yield {name: said[f"NEO4J_{name.upper()}"] for name in ("uri", "user", "password")}
    finally:
        server.send_signal(signal.SIGKILL)  # its data goes with the folder
        server.wait(30)


def _test_login() -> dict[str, str]:
    """Never NEO4J_URI: that may be somebody's only database, and this one is emptied."""
    uri = os.environ.get("MG_TEST_NEO4J_URI")
    if not uri:
        raise SettingError("`test` is the server of MG_TEST_NEO4J_URI, which is not set: set it")
    known = {"user": "neo4j", "password": ""}
    return {"uri": uri} | {
        name: os.environ.get(f"MG_TEST_NEO4J_{name.upper()}", fallback) for name, fallback in known.items()
    }


def _growth(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """Worlds with ever more facts over the same nodes."""
    found = []
    for size in plan.sizes:
        tell(f"a world of {size:,} facts")
        ratings = max(0, size - _FACTS_A_CONTENT * plan.contents)
        world = {"ratings": ratings, "users": plan.users, "contents": plan.contents}
        with TemporaryDirectory(prefix="mg-bench.") as folder:
            found.append(in_a_process("load", {"folder": folder, "world": world}))
    facts, seconds, peaks = (
        np.array([one[name] for one in found]) for name in ("facts", "seconds", "peak_bytes")
    )
    slope = float(np.polyfit(np.log(facts), np.log(seconds), 1)[0])
    nodes = found[0]["nodes"]
    note = ", ".join(f"{n:,} facts {s:.1f} s" for n, s in zip(facts, seconds, strict=True))
    yield Row("growth, slope of log time over log facts", slope, None, "", slope, 1.1, note=note)
    spread = float(peaks.max() / peaks.min())
    note = ", ".join(f"{peak / MIB:,.0f} MiB" for peak in peaks) + f"; {nodes:,} nodes in each"
    yield Row("growth, most memory over least", spread, None, "", spread, 1.2, note=note)
