"""What is counted while endpoints answer, in Prometheus' text format; no user id is ever a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Counters:
    """Requests, errors and latencies by route, each app with its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "mg_requests_total", "Requests by route and status", ("route", "status"), registry=self._registry
        )
        self._errors = Counter(
            "mg_errors_total",
            "Requests that ended in a problem, by route",
            ("route",),
            registry=self._registry,
        )
        self._latency = Histogram(
            "mg_request_seconds", "Time to an answer", ("route",), registry=self._registry, buckets=BUCKETS_S
        )
        self._swaps = Counter("mg_model_swaps_total", "Versions taken into service", registry=self._registry)
        self._is_ready = Gauge("mg_ready", "1 while a verified version answers", registry=self._registry)

    def count(self, route: str, status: int, latency_s: float) -> None:
        """Enters one answered request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(latency_s)
        if status >= 400:
            self._errors.labels(route).inc()

    def count_swap(self) -> None:
        """Enters that another version answers from now on."""
        self._swaps.inc()
        self._is_ready.set(1)

    def text(self) -> str:
        """Everything that was counted, as Prometheus reads it."""
        return generate_latest(self._registry).decode()
