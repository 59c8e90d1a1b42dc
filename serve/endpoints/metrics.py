"""GET /metrics: requests, errors and latencies as Prometheus reads them."""

from serve.endpoints import Endpoint, Reply, endpoints


class MetricsReply(Reply):
    """Prometheus' text format."""

    text: str


@endpoints.register("metrics")
class Metrics(Endpoint):
    """Tells what this process has counted since it started."""

    name = "metrics"
    method = "GET"
    path = "/metrics"
    summary = "Counters in Prometheus' text format"
    Reply = MetricsReply
    text_of = "text"

    def answer(self, request: object) -> MetricsReply:
        return MetricsReply(text=self.gateway.counters.text())
