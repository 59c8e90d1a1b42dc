"""Two ways to ask, one set of methods: over HTTP, or in this process without a server.

Both raise :class:`serve.problems.Problem` where an endpoint cannot answer."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from configs.home import Home
from configs.registry import import_parts
from serve.adaptation import AdaptationConfig
from serve.desk import Desk
from serve.endpoints import endpoints
from serve.endpoints.adapter import AdapterReply
from serve.endpoints.availability import AvailabilityReply
from serve.endpoints.catalogue import CatalogueReply
from serve.endpoints.content import ContentReply
from serve.endpoints.contents import ContentsReply
from serve.endpoints.feedback import FeedbackReply, FeedbackRequest
from serve.endpoints.forget_user import ForgetUserReply
from serve.endpoints.health import HealthReply, ReadyReply
from serve.endpoints.models import ModelsReply
from serve.endpoints.recommendations import RecommendationsReply, RecommendationsRequest
from serve.endpoints.users import UsersReply
from serve.gateway import Gateway, GatewayConfig
from serve.problems import Problem, refused

__all__ = ["Client", "FeedbackRequest", "LocalClient", "Problem", "RecommendationsRequest", "connect"]
Body = BaseModel | Mapping[str, Any]
Asked = TypeVar("Asked", bound=BaseModel)


class Answers(ABC):
    """Named methods over ``ask``; a request may be given as a model or as plain fields."""

    @abstractmethod
    def ask(self, name: str, request: Body) -> Any:
        """The reply of the endpoint called ``name``.

        Raises:
            Problem: it cannot be answered, and why.
        """

    def recommend(self, request: RecommendationsRequest | Mapping[str, Any]) -> RecommendationsReply:
        """What somebody should watch."""
        return self.ask("recommendations", request)

    def content(self, id: str, region: str | None = None) -> ContentReply:
        """What is known of a content."""
        return self.ask("content", {"id": id, "region": region})

    def availability(self, id: str, region: str | None = None, at: int | None = None) -> AvailabilityReply:
        """Who has a content, where and when."""
        return self.ask("availability", {"id": id, "region": region, "at": at})

    def feedback(self, request: FeedbackRequest | Mapping[str, Any]) -> FeedbackReply:
        """Records what somebody did; on disk when this returns."""
        return self.ask("feedback", request)

    def adapter(self, id: str) -> AdapterReply:
        """What the instant tier learned of somebody."""
        return self.ask("adapter", {"id": id})

    def forget_user(self, id: str) -> ForgetUserReply:
        """Erases somebody's feedback and adapters."""
        return self.ask("forget_user", {"id": id})

    def contents(self, title: str = "", n: int = 20, offset: int = 0) -> ContentsReply:
        """Contents whose title has these words."""
        return self.ask("contents", {"title": title, "n": n, "offset": offset})

    def users(self, query: str = "", n: int = 20, offset: int = 0) -> UsersReply:
        """People of the graph, a page of them."""
        return self.ask("users", {"query": query, "n": n, "offset": offset})

    def catalogue(self) -> CatalogueReply:
        """Countries, platforms, genres and kinds that requests may name."""
        return self.ask("catalogue", {})

    def models(self) -> ModelsReply:
        """Versions and aliases."""
        return self.ask("models", {})

    def health(self) -> HealthReply:
        """Whether the process lives."""
        return self.ask("health", {})

    def ready(self) -> ReadyReply:
        """Whether a verified version answers, and why not."""
        return self.ask("ready", {})

    def metrics(self) -> str:
        """Counters in Prometheus' text format."""
        return self.ask("metrics", {}).text

    def bare_ranking(self, version: str, user_id: str, n: int) -> list[str]:
        """Content ids as the model alone orders them, no filter, feedback or diversity: what a gate compares.

        Raises:
            ValueError: another version answers here.
        """
        reply = self.recommend(
            {
                "user_id": user_id,
                "n": n,
                "diversity": 0,
                "filters": {"include_rated": True, "include_unavailable": True},
            }
        )
        if reply.model_version != version:
            raise ValueError(
                f"{version} must answer, {reply.model_version} did: "
                f"open LocalClient(home, graph, {version!r})"
            )
        return [content.content_id for content in reply.contents]

    @abstractmethod
    def close(self) -> None:
        """Lets go of what this client holds."""

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalClient(Answers):
    """Endpoints in this process.

    Args:
        home: where models, arrays and the log of feedback lie.
        graph: name of the graph.
        version: a version such as ``ease/3``; None follows the champion.
        adaptation: steps of the adaptation loop; None is as ``configs/serve/adaptation.yaml`` says.
    """

    def __init__(
        self, home: Home, graph: str, version: str | None = None, adaptation: AdaptationConfig | None = None
    ) -> None:
        self.gateway = Gateway(home, GatewayConfig(graph, version, adaptation=adaptation))
        self._desk = Desk(self.gateway)

    def ask(self, name: str, request: Body) -> Any:
        reply, _ = self._desk.answer(name, _request(name, request))
        return reply

    def close(self) -> None:
        self.gateway.close()


class Client(Answers):
    """Endpoints behind an address, over HTTP with connections kept open.

    Args:
        url: such as ``http://127.0.0.1:8265``.
        timeout_s: how long an answer may take.
    """

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        import_parts("serve.endpoints")
        self.url = url.rstrip("/")
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def ask(self, name: str, request: Body) -> Any:
        endpoint, filled = endpoints[name], _request(name, request)
        fields = filled.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        path = endpoint.path
        for field in list(fields):
            if f"{{{field}}}" in path:
                path = path.replace(
                    f"{{{field}}}", httpx.URL("/").copy_with(path=f"/{fields.pop(field)}").path[1:]
                )
        carried = {"json": fields} if endpoint.method == "POST" else {"params": fields}
        try:
            response = self._http.request(endpoint.method, path, **carried)
        except httpx.HTTPError as error:
            raise ConnectionError(
                f"an answer must come from {self.url}, none did ({type(error).__name__}): "
                "start it with `mg serve`, or mend the address"
            ) from None
        return _reply(name, response)

    def close(self) -> None:
        self._http.close()


def connect(url: str | None = None, graph: str | None = None) -> Answers:
    """The client that the environment asks for: ``MG_URL`` over HTTP, else ``MG_GRAPH`` in this process.

    ``MG_ADAPTATION`` names the settings of the adaptation loop in this process, a file of its own.
    """
    url = url or os.environ.get("MG_URL")
    if url:
        return Client(url)
    named = os.environ.get("MG_ADAPTATION")
    steps = AdaptationConfig.named(named) if named else None
    return LocalClient(Home.here(), graph or os.environ.get("MG_GRAPH") or "movielens-100k", adaptation=steps)


def _request(name: str, request: Body) -> BaseModel:
    wanted = endpoints[name].Request
    if isinstance(request, wanted):
        return request
    fields = request.model_dump() if isinstance(request, BaseModel) else dict(request)
    try:
        return wanted.model_validate(fields)
    except ValidationError as error:
        raise refused(error.errors()) from None


def _reply(name: str, response: httpx.Response) -> Any:
    endpoint = endpoints[name]
    is_problem = response.headers.get("content-type", "").startswith("application/problem+json")
    if is_problem:
        raise Problem.from_reply(response.json())
    if endpoint.text_of is not None:
        return endpoint.Reply.model_validate({endpoint.text_of: response.text})
    try:
        return endpoint.Reply.model_validate_json(response.content)
    except ValidationError:
        raise ConnectionError(
            f"{response.request.url} must be a Media Gateway of this version, it sent {response.status_code} "
            f"{response.text[:80]!r}: mend the address"
        ) from None
