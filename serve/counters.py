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
        self._arms = Counter(
            "mg_arm_requests_total",
            "Recommendations by arm of a trial and version; 'error' where the version could not answer",
            ("arm", "version", "outcome"),
            registry=self._registry,
        )
        self._arm_latency = Histogram(
            "mg_arm_seconds",
            "Time to an answer of a version",
            ("arm", "version"),
            registry=self._registry,
            buckets=BUCKETS_S,
        )
        self._lost = Counter(
            "mg_exposures_lost_total",
            "Answers of a trial that could not be written to its log",
            registry=self._registry,
        )
        self._learned = Counter(
            "mg_instant_tier_events_total", "Events that adapters learned from", registry=self._registry
        )
        self._rebuilt = Counter(
            "mg_instant_tier_rebuilt_total",
            "Adapters made anew or brought up out of the log of feedback",
            registry=self._registry,
        )
        self._adapted = Counter(
            "mg_instant_tier_answers_total",
            "Recommendations by what the instant tier did: bent, nothing_learned or off",
            ("outcome",),
            registry=self._registry,
        )
        self._faults = Counter(
            "mg_instant_tier_faults_total",
            "Times that adapters could not be kept or learned; answers went on out of the log",
            registry=self._registry,
        )
        self._is_ready = Gauge("mg_ready", "1 while a verified version answers", registry=self._registry)

    def count(self, route: str, status: int, latency_s: float) -> None:
        """Enters one answered request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(latency_s)
        if status >= 400:
            self._errors.labels(route).inc()

    def count_arm(self, arm: str, version: str, is_answered: bool, latency_s: float) -> None:
        """Enters one answer of a version in an arm: champion, canary or shadow."""
        self._arms.labels(arm, version, "answered" if is_answered else "error").inc()
        self._arm_latency.labels(arm, version).observe(latency_s)

    def count_lost(self, answers: int) -> None:
        """Enters answers of a trial that are missing from its log."""
        self._lost.inc(answers)

    def count_learned(self, events: int, rebuilt: int) -> None:
        """Enters events that adapters learned from, and adapters made out of the log."""
        self._learned.inc(events)
        self._rebuilt.inc(rebuilt)

    def count_adapted(self, outcome: str) -> None:
        """Enters what the instant tier did to one list."""
        self._adapted.labels(outcome).inc()

    def count_fault(self) -> None:
        """Enters a bank that refused, or an event that an adapter could not learn from."""
        self._faults.inc()

    def count_swap(self) -> None:
        """Enters that another version answers from now on."""
        self._swaps.inc()
        self._is_ready.set(1)

    def text(self) -> str:
        """Everything that was counted, as Prometheus reads it."""
        return generate_latest(self._registry).decode()
