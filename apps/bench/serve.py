"""Load on the recommendations endpoint: in this process, over uvicorn, over Ray Serve, beside a bare echo."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from configs.home import Home
from kg.arrays import GraphArrays
from serve.app import serve_ray
from serve.client import Client, LocalClient

WARM_UP_CALLS = 50
MAX_CALLS = 200_000


@dataclass(frozen=True)
class Row:
    """What one side answered under load."""

    what: str
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float
    per_s: float


def measure(home: Home, graph_name: str, seconds: float, threads: int, port: int) -> list[Row]:
    """Loads each side for ``seconds`` with ``threads`` clients; stops by itself.

    The in-process side is called from one thread: its p99 is the endpoint's own time.
    """
    graph = GraphArrays.current(home.arrays(graph_name))
    requests = _requests(graph)
    rows = [_load("in process", LocalClient(home, graph_name).recommend, requests, seconds, threads=1)]
    with serve_ray(home, graph_name, port=port) as served, Client(served.url) as client:
        for _ in range(2):  # in turn, so that a noisy minute meets both
            rows.append(
                _load(
                    "Ray Serve, health (no model)", lambda _: client.health(), requests, seconds / 2, threads
                )
            )
            rows.append(_load("Ray Serve, recommendations", client.recommend, requests, seconds / 2, threads))
    return rows


def _requests(graph: GraphArrays) -> list[dict[str, Any]]:
    users = np.random.default_rng(0).permutation(graph.size("User"))[:500]
    region = "US" if graph.row_of("region:US") is not None else graph.ids("Region")[0].partition(":")[2]
    return [{"user_id": graph.id_of("User", row), "region": region, "n": 20} for row in users]


def _load(what: str, call: Callable[[Any], Any], requests: list[Any], seconds: float, threads: int) -> Row:
    for request in requests[:WARM_UP_CALLS]:
        call(request)
    times: list[float] = []
    errors = [0]
    until = time.monotonic() + seconds

    def work(first: int) -> None:
        for request in cycle(requests[first:] + requests[:first]):
            before = time.perf_counter()
            if time.monotonic() >= until or len(times) >= MAX_CALLS:
                return
            try:
                call(request)
            except Exception:  # noqa: BLE001 - an error under load is what is counted here
                errors[0] += 1
            times.append(1000 * (time.perf_counter() - before))

    workers = [threading.Thread(target=work, args=(place * 97 % len(requests),)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    p50, p99 = np.percentile(times, [50, 99])
    return Row(
        what,
        len(times),
        errors[0],
        round(float(p50), 2),
        round(float(p99), 2),
        round(len(times) / seconds, 1),
    )
