"""The query router on the clock and the scales: bytes, latency in process, quality beside what is simpler."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.router import Progress, RouterResult, train_router
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
    bar_ms: float | None = None
    """None where nothing is promised."""


@dataclass(frozen=True)
class Bench:
    """What a bench of the router found."""

    size_bytes: int
    """Weights and manifest together."""
    latency: tuple[Latency, ...]
    told: dict[str, Any] = field(default_factory=dict)
    """Summary of the training: a row a model."""
    bars: dict[str, bool] = field(default_factory=dict)
    """What must hold -> whether it does."""


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
        _clock("class, FastGRNN int8", result.router.classify, texts, 1.0),
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
    took = []
    for text in texts:
        started = time.perf_counter()
        ask(text)
        took.append(1e3 * (time.perf_counter() - started))
    return Latency(what, len(took), float(np.quantile(took, 0.5)), float(np.quantile(took, 0.99)), bar_ms)


def _bars(result: RouterResult, size_bytes: int, p99_ms: float) -> dict[str, bool]:
    ours, linear = result.rows[:2]
    return {
        "at most 800,000 bytes": size_bytes <= 800_000,
        "p99 below 1 ms": p99_ms < 1,
        "macro F1 at least .95": ours.macro_f1 >= 0.95,
        "macro F1 misspelt at least .90": ours.macro_f1_misspelt >= 0.90,
        "calibration error at most .03": ours.calibration_error <= 0.03,
        "coverage .90 within .02": abs(ours.coverage_redrawn - 0.9) <= 0.02,
        "not below the logistic regression": ours.macro_f1 >= linear.macro_f1,
    }
