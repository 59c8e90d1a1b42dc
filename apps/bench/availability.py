"""The availability filter on the clock: ours, and the same question to the whole table by Arrow, in turn."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.arrays import GraphArrays
from kg.availability import AvailabilityIndex, Viewer
from kg.trust import latest

BAR_MS = 1.0
"""p99 of a filter of CANDIDATES contents for one user at one moment."""
CANDIDATES = 10_000
WARM_UP = 50
_YEAR_S = 365 * 86_400


@dataclass(frozen=True)
class Row:
    """How long one filter takes, one after the other."""

    what: str
    calls: int
    p50_ms: float
    p99_ms: float
    cpu_p99_ms: float
    """p99 of the processor's time, which a machine under load does not stretch as much."""
    bar_ms: float | None = None


@dataclass(frozen=True)
class Bench:
    """What the bench found; both sides gave the same answers."""

    contents: int
    windows: int
    """A row a settled window and country."""
    rows: tuple[Row, ...]

    @property
    def ratio(self) -> float:
        """Our p50 over that of the reference."""
        return self.rows[0].p50_ms / self.rows[1].p50_ms


def measure(graph: GraphArrays, calls: int, seed: int = 0) -> Bench:
    """Filters candidates for users in the countries that have most windows, by 1 to 3 subscriptions.

    Args:
        graph: whose windows; candidates are drawn with repetition.
        calls: questions, each asked on both sides.
        seed: fixes the questions.

    Raises:
        ValueError: the graph has no windows, or the two sides disagree.
    """
    if not graph.fact_count("AVAILABLE"):
        raise ValueError(f"the graph must have windows, {graph.name!r} has none: ingest a source that does")
    index = AvailabilityIndex(graph)
    table = pa.table(index.windows)  # as they settle
    rng, size, now = np.random.default_rng(seed), graph.size("Content"), latest(graph)
    counts = np.bincount(graph.incidence("AVAILABLE", "region")[1], minlength=graph.size("Region"))
    codes = [graph.ids("Region")[row].partition(":")[2] for row in np.argsort(-counts)[:20]]
    ours, theirs = [], []
    for call in range(calls + WARM_UP):
        paid = rng.choice(
            graph.ids("Platform"), size=min(graph.size("Platform"), 1 + call % 3), replace=False
        )
        viewer = Viewer(codes[call % len(codes)], tuple(map(str, paid)))
        at = int(now - rng.integers(0, _YEAR_S))
        rows = rng.integers(0, size, CANDIDATES)
        kept, took = _timed(lambda rows=rows, viewer=viewer, at=at: index.filter(rows, viewer, at))
        told, reference = _timed(
            lambda rows=rows, viewer=viewer, at=at: _scan(table, index, graph, rows, viewer, at)
        )
        if not np.array_equal(kept, told):
            raise ValueError(f"both sides must keep the same contents, they differ for {viewer} at {at}")
        if call >= WARM_UP:
            ours.append(took)
            theirs.append(reference)
    return Bench(
        size,
        table.num_rows,
        (_row("ours, sorted by country", ours, BAR_MS), _row("Arrow, the whole table", theirs, None)),
    )


def _scan(
    table: pa.Table, index: AvailabilityIndex, graph: GraphArrays, rows: np.ndarray, viewer: Viewer, at: int
) -> np.ndarray:
    paid = pa.array([graph.row_of(id) for id in viewer.subscriptions or ()], pa.int64())
    holds = (
        (pc.field("region") == index.regions.index(viewer.region))
        & (pc.field("start") <= at)
        & (pc.field("end") > at)
        & pc.field("platform").isin(paid)
    )
    found = np.zeros(graph.size("Content"), bool)
    found[table.filter(holds)["content"].to_numpy()] = True
    return found[rows]


def _timed(ask: Callable[[], np.ndarray]) -> tuple[np.ndarray, tuple[float, float]]:
    wall, cpu = time.perf_counter(), time.thread_time()
    answer = ask()
    return answer, (1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - cpu))


def _row(what: str, took: list[tuple[float, float]], bar_ms: float | None) -> Row:
    wall, cpu = np.array(took).T
    p50, p99 = (float(np.quantile(wall, share)) for share in (0.5, 0.99))
    return Row(what, len(took), p50, p99, float(np.quantile(cpu, 0.99)), bar_ms)
