"""GET /health and GET /ready: is the process alive, and can it answer."""

from pydantic import Field

from serve.endpoints import Endpoint, Reply, endpoints


class HealthReply(Reply):
    """The process lives."""

    status: str
    graph: str


class ReadyReply(Reply):
    """Whether a verified version answers."""

    is_ready: bool
    model: str | None = Field(description="version that answers")
    detail: str | None = Field(description="why none, or not the newest one, answers")
    instant_tier: str | None = Field(None, description="on, or why feedback moves no adapter")


@endpoints.register("health")
class Health(Endpoint):
    """Says that the process lives; true without a model."""

    name = "health"
    method = "GET"
    path = "/health"
    summary = "The process is alive"
    Reply = HealthReply

    def answer(self, request: object) -> HealthReply:
        return HealthReply(status="ok", graph=self.gateway.config.graph)


@endpoints.register("ready")
class Ready(Endpoint):
    """Says whether recommendations can be given; 503 and the reason where they cannot."""

    name = "ready"
    method = "GET"
    path = "/ready"
    summary = "A verified version answers"
    Reply = ReadyReply

    def answer(self, request: object) -> ReadyReply:
        current = self.gateway.current
        return ReadyReply(
            is_ready=current is not None,
            model=None if current is None else current.version.ref,
            detail=self.gateway.why_not,
            instant_tier=None if current is None else self.gateway.adaptation.state(current),
        )

    def status(self, reply: ReadyReply) -> int:
        return 200 if reply.is_ready else 503
