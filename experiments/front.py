"""Quality, latency and size of models together: which of them no other beats in all three."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from configs.home import Home
from configs.registry import import_parts
from experiments.result import RunResult
from kg.arrays import GraphArrays
from models.interface import Users
from models.ranking import top
from models.store import ModelStore

USERS, WARM_UP, LENGTH = 200, 10, 20
"""How many single users are scored, how many before the first that is timed, and the length of a list."""


@dataclass(frozen=True)
class Point:
    """One model; what was not measured is None."""

    name: str
    quality: float
    """Larger is better."""
    latency_ms: float | None
    """Median of one user's scores and list, smaller is better."""
    p99_ms: float | None
    size_mib: float | None
    """Of the saved version, smaller is better."""


Latency = Callable[[RunResult], tuple[float, float]]
"""Median and 99th percentile, in ms, of one answer of a run's model."""


def front(points: Sequence[Point]) -> list[bool]:
    """Whether each stands on the Pareto front: no other is as good in all three and better in one.

    What a point does not know counts as the worst, so that it is beaten by nobody on what nobody measured.

    Example:
        >>> slow, fast = Point("slow", 0.2, 9.0, None, 1.0), Point("fast", 0.1, 1.0, None, 1.0)
        >>> front([slow, fast, Point("worse", 0.1, 2.0, None, 1.0)])
        [True, True, False]
    """
    costs = np.array([(-point.quality, _cost(point.latency_ms), _cost(point.size_mib)) for point in points])
    return [not any((other <= one).all() and (other < one).any() for other in costs) for one in costs]


def latency_of(home: Home, graph: GraphArrays, users: int = USERS) -> Latency:
    """Times saved models in this process: ``score`` and the best 20 for one user at a time, after a warm-up.

    No endpoint, filter or reason is in it: what models cost against each other, here and now. Users are
    drawn by seed 0 among those with a history, the same for every model of a split.
    """
    import_parts("models")

    def measured(run: RunResult) -> tuple[float, float]:
        version = ModelStore(home.models).load(run.version)
        model, known = ModelStore(home.models).restore(version, graph), version.training()
        warm = np.flatnonzero(np.diff(known.positives.indptr))
        drawn = np.random.default_rng(0).choice(warm, min(users, len(warm)), replace=False)
        times_ms = []
        for row in [*drawn[:WARM_UP], *drawn]:
            before = time.perf_counter()
            one = np.array([row])
            scores = model.score(Users(one, known.positives[one], known.times[one]))
            top(scores, LENGTH, known.rankable[None])
            times_ms.append(1000 * (time.perf_counter() - before))
        return tuple(np.percentile(times_ms[min(WARM_UP, len(drawn)) :], [50, 99]).tolist())

    return measured


def _cost(value: float | None) -> float:
    return float("inf") if value is None else value
