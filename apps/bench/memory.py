"""Lookup in a ReasoningBank of made-up patterns, and the same comparing every vector, in turn."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from models.index import IndexConfig, VectorIndex
from models.memory import MemoryConfig, ReasoningBank
from models.memory_log import MemoryLog, Snapshot
from models.memory_pattern import DAY_S, Evidence, Pattern

WIDTH = 64
LENGTH = 10
"""Patterns asked for."""
MOST_MS, LEAST_RECALL = 2.0, 0.95
_DEVICES = ("tv", "phone", "tablet", "laptop")
_NOW = 100 * DAY_S
KINDS = ("clustered", "apart")
"""How queries lie: in clusters, with many patterns near; or each near one pattern, all others far."""
_SPREAD, _NEAR = 0.45, 0.6
"""Length of what is random in a vector over that of its cluster's centre, and of its one pattern."""


@dataclass(frozen=True)
class Row:
    """Lookups in one bank, all sides asked the same queries in turn."""

    queries_are: str
    patterns: int
    queries: int
    open_s: float
    """To read the bank, build its graph and keep it, as its writer does once."""
    open_again_s: float
    """To read the bank and take the kept graph."""
    p50_ms: float
    p99_ms: float
    cpu_p99_ms: float
    """Time of the processor that ours took: what is left on a machine that does other work too."""
    exact_p50_ms: float
    """The same lookup, every vector compared."""
    exact_p99_ms: float
    bare_p50_ms: float
    """faiss comparing every vector, nothing else."""
    bare_p99_ms: float
    recall: float
    """Share of what the exact lookup gives that ours gives."""
    matched: float
    """Share of queries that any pattern answered."""

    @property
    def ratio(self) -> float:
        """Median time of ours over faiss comparing every vector."""
        return self.p50_ms / self.bare_p50_ms

    @property
    def is_met(self) -> bool:
        """True if latency and recall hold to their bars."""
        return self.p99_ms < MOST_MS and self.recall >= LEAST_RECALL


def measure(
    patterns: int, queries: int, threads: int, seed: int, said: Callable[[str], None] = lambda _: None
) -> list[Row]:
    """One row for each way in which queries lie.

    Args:
        patterns: in the bank, at least 100.
        queries: asked, at least 10.
        threads: of faiss and NumPy, on all sides.
        seed: of what is made up.
        said: told what is being done.
    """
    with threadpool_limits(threads):
        return [_row(name, patterns, queries, np.random.default_rng(seed), said) for name in KINDS]


def made_up(
    name: str, patterns: int, queries: int, rng: np.random.Generator
) -> tuple[list[Pattern], np.ndarray]:
    """Patterns and (q, d) queries: about fifty patterns a cluster, or each query beside one pattern alone."""
    if name == "clustered":
        centres = rng.normal(size=(max(1, patterns // 50), WIDTH))
        vectors = centres[rng.integers(len(centres), size=patterns)]
        asked = centres[rng.integers(len(centres), size=queries)]
        vectors = vectors + _SPREAD * rng.normal(size=vectors.shape)
        asked = asked + _SPREAD * rng.normal(size=asked.shape)
    else:
        vectors = rng.normal(size=(patterns, WIDTH))
        asked = vectors[rng.integers(patterns, size=queries)] + _NEAR * rng.normal(size=(queries, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return [_pattern(number, vector, rng) for number, vector in enumerate(vectors, 1)], asked


def _pattern(number: int, vector: np.ndarray, rng: np.random.Generator) -> Pattern:
    context = {} if rng.random() < 0.5 else {"device": _DEVICES[rng.integers(len(_DEVICES))]}
    uses, user_id = 3 + int(rng.lognormal(1, 1.5)), f"user:bench:{rng.integers(10_000)}"
    return Pattern(
        f"p{number}",
        vector,
        user_id,
        (f"step {rng.integers(100)}", "rank"),
        context,
        _NOW - DAY_S,
        _NOW,
        confidence=float(rng.uniform(0.3, 1)),
        uses=uses,
        positives=uses,
        users={user_id: Evidence(positives=uses, heard_ts=_NOW)},
    )


def _row(
    name: str, patterns: int, queries: int, rng: np.random.Generator, said: Callable[[str], None]
) -> Row:
    said(f"{name}: {patterns:,} patterns are made")
    made, asked = made_up(name, patterns, queries, rng)
    bare = VectorIndex(WIDTH, IndexConfig(kind="exact"))
    bare.add(np.stack([one.vector for one in made]))
    with tempfile.TemporaryDirectory() as folder:
        MemoryLog(Path(folder)).compact(Snapshot(1, WIDTH, patterns + 1, tuple(made)))
        config = MemoryConfig(patterns_at_most=max(patterns, 1))
        said(f"{name}: opened, every vector compared")
        exact = ReasoningBank(Path(folder), config, IndexConfig(kind="exact"))
        said(f"{name}: opened, graph built")
        started = time.perf_counter()
        ReasoningBank(Path(folder), config, IndexConfig(kind="hnsw"), writes=True).close()
        open_s = time.perf_counter() - started
        said(f"{name}: opened again, graph taken")
        started = time.perf_counter()
        ours = ReasoningBank(Path(folder), config, IndexConfig(kind="hnsw"))
        open_again_s = time.perf_counter() - started
    said(f"{name}: {queries:,} queries")
    times: list[list[float]] = [[], [], []]
    cpu: list[float] = []
    found = wanted = matched = 0
    for number, query in enumerate(asked):
        context = {"device": _DEVICES[number % len(_DEVICES)], "daypart": "evening"}
        answers = []
        for side, bank in enumerate((ours, exact)):
            started, before = time.perf_counter(), time.thread_time()
            answers.append(bank.lookup(query, context, _NOW, LENGTH))
            times[side].append(time.perf_counter() - started)
            if bank is ours:
                cpu.append(time.thread_time() - before)
        started = time.perf_counter()
        bare.search(query[None], 2 * LENGTH)
        times[2].append(time.perf_counter() - started)
        got, right = ({match.pattern.pattern_id for match in answer} for answer in answers)
        found, wanted, matched = found + len(got & right), wanted + len(right), matched + bool(right)
    p50s, p99s = ([1000 * float(np.percentile(side, share)) for side in times] for share in (50, 99))
    recall = found / wanted if wanted else 1.0
    return Row(
        name,
        patterns,
        queries,
        open_s,
        open_again_s,
        p50s[0],
        p99s[0],
        1000 * float(np.percentile(cpu, 99)),
        p50s[1],
        p99s[1],
        p50s[2],
        p99s[2],
        recall,
        matched / queries,
    )
