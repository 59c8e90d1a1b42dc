"""One file an endpoint: request and reply, and a class that answers; it knows neither HTTP nor Ray.

What enters the registry here gets a route, both clients and the contract test."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from configs.registry import Registry
from serve.gateway import Gateway
from serve.problems import Problem
from serve.snapshot import Snapshot

ID_LENGTH = 200


class Request(BaseModel):
    """Base of all requests: a field that is not known is refused, so that a slip is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Reply(BaseModel):
    """Base of all replies."""

    model_config = ConfigDict(frozen=True)


class Endpoint(ABC):
    """Answers one kind of request out of a :class:`serve.gateway.Gateway`.

    ``path`` names fields of the request in braces; what is left of a GET or DELETE request travels as query.
    """

    name: ClassVar[str]
    method: ClassVar[Literal["GET", "POST", "DELETE"]]
    path: ClassVar[str]
    summary: ClassVar[str]
    Request: ClassVar[type[BaseModel]] = Request
    Reply: ClassVar[type[BaseModel]]
    text_of: ClassVar[str | None] = None
    """Field of the reply that travels alone as plain text; None sends the reply as JSON."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    @abstractmethod
    def answer(self, request: Any) -> Any:
        """A Reply to a Request.

        Raises:
            Problem: it cannot be answered, and why.
        """

    def status(self, reply: Any) -> int:
        """HTTP status of a reply: 200 unless an endpoint says otherwise."""
        return 200

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        """Fields of a request that this graph answers: for tests, warm-up and documentation."""
        return {}


endpoints: Registry[type[Endpoint]] = Registry("endpoint")


def content_row(snapshot: Snapshot, content_id: str) -> int:
    """The row of a content.

    Raises:
        Problem: 404; the graph has no such content.
    """
    row = snapshot.row(content_id)
    if row is None:
        raise Problem(
            404,
            "unknown-content",
            f"an id must name a content of graph {snapshot.graph.name!r}, such as "
            f"{snapshot.content_ids[0]!r}; got {content_id[:ID_LENGTH]!r}: "
            "search for the title with GET /v1/contents",
        )
    return row
