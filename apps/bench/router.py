"""The query router on the clock and the scales: bytes, latency in process, quality beside what is simpler."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.router import LINEAR_ROW, RouterResult, train_router
from experiments.router_fit import Progress
from kg.arrays import GraphArrays
from models.queries import Queries, misspell
from models.router import Router

WARM_UP = 200
"""Queries before the clock counts."""


@dataclass(frozen=True)
class Latency:
    """How long one query takes, one after the other."""

    what: str
    queries: int
    p50_ms: float
    p99_ms: float
    core_p99_ms: float
    """Of the time that it had a core: what p99 is where nothing else runs."""
    bar_ms: float | None = None
    """None where nothing is promised."""


@dataclass(frozen=True)
class Bar:
    """What must hold of the served router."""

    what: str
    value: float
    bar: str
    """In words."""
    is_met: bool


@dataclass(frozen=True)
class Bench:
    """What a bench of the router found."""

    size_bytes: int
    """Weights and manifest together."""
    latency: tuple[Latency, ...]
    told: dict[str, Any] = field(default_factory=dict)
    """Summary of the training: a row a model."""
    bars: tuple[Bar, ...] = ()


def measure(
    config: dict[str, Any],
    graph: GraphArrays,
    save: Callable[[Router, dict[str, Any]], int],
    queries: int,
    progress: Progress | None = None,
) -> Bench:
    """Trains a router, saves it, and asks it one query at a time.

    Args:
        config: as :func:`experiments.router.train_router` takes it.
        graph: whose names fill the queries.
        save: writes a router and facts, gives their bytes.
        queries: asked at least; half of them misspelt, on templates that were not trained on.
        progress: told in words what is done now.
    """
    result = train_router(config, graph, progress)
    size_bytes = save(result.router, result.summary())
    texts = _texts(graph, result, queries)
    latency = (
        _clock(f"class, {result.ahead}", result.router.classify, texts, 1.0),
        _clock(
            "class and slots, misspelt ones too", result.router.route, texts[: max(100, queries // 10)], None
        ),
    )
    return Bench(size_bytes, latency, result.summary(), _bars(result, size_bytes, latency[0].p99_ms))


def _texts(graph: GraphArrays, result: RouterResult, queries: int) -> list[str]:
    drawn = Queries(graph, result.config.seed).draw("test", 1 + queries // result.templates["test"])
    rng = np.random.default_rng(result.config.seed)
    texts = [misspell(query.text, rng) if place % 2 else query.text for place, query in enumerate(drawn)]
    return [texts[place] for place in rng.permutation(len(texts))][:queries]


def _clock(what: str, ask: Callable[[str], Any], texts: list[str], bar_ms: float | None) -> Latency:
    for text in texts[:WARM_UP]:
        ask(text)
    took, core = [], []
    for text in texts:
        started, own = time.perf_counter(), time.thread_time()
        ask(text)
        took.append(1e3 * (time.perf_counter() - started))
        core.append(1e3 * (time.thread_time() - own))
    p50, p99 = (float(value) for value in np.quantile(took, (0.5, 0.99)))
    return Latency(what, len(took), p50, p99, float(np.quantile(core, 0.99)), bar_ms)


def _bars(result: RouterResult, size_bytes: int, p99_ms: float) -> tuple[Bar, ...]:
    rows = {row.name: row for row in result.rows}
    served, linear = rows[result.ahead], rows[LINEAR_ROW]
    ahead = served.macro_f1_choose - linear.macro_f1_choose
    return (
        Bar("bytes, all files", size_bytes, "at most 800,000", size_bytes <= 800_000),
        Bar("p99 of a class, ms", p99_ms, "below 1", p99_ms < 1),
        _least("macro F1", served.macro_f1, 0.95),
        _least("macro F1, misspelt", served.macro_f1_misspelt, 0.90),
        Bar("calibration error", served.calibration_error, "at most .03", served.calibration_error <= 0.03),
        Bar("coverage, this division", served.coverage, ".90 within .02", _is_near(served.coverage)),
        Bar(
            "coverage, mean of redrawn divisions",
            served.coverage_redrawn,
            ".90 within .02",
            _is_near(served.coverage_redrawn),
        ),
        Bar("macro F1 for choosing, above the regression's", ahead, "at least 0", ahead >= 0),
    )


def _least(what: str, value: float, bar: float) -> Bar:
    return Bar(what, value, f"at least {bar:.2f}", value >= bar)


def _is_near(share: float) -> bool:
    return abs(share - 0.9) <= 0.02
