"""The endpoints over HTTP: one FastAPI application, carried by uvicorn or by Ray Serve.

Every registered endpoint becomes a route here; the only file that imports ray.serve."""

import inspect
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from configs.home import Home
from serve.adaptation import AdaptationConfig
from serve.body_limit import LIMIT_BYTES, BodyLimit, too_large
from serve.desk import Desk
from serve.endpoints import Endpoint
from serve.gateway import Gateway, GatewayConfig
from serve.problems import MEDIA_TYPE, Problem, ProblemReply, refused

APPLICATION = "media-gateway"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
log = logging.getLogger(__name__)


class PortTaken(OSError):
    """Somebody listens there already."""


def build_app(
    home: Home, graph: str, version: str | None = None, adaptation: AdaptationConfig | None = None
) -> FastAPI:
    """An application with a route for every registered endpoint; without a model /ready says so."""
    desk = Desk(Gateway(home, GatewayConfig(graph, version, adaptation=adaptation)))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current = desk.gateway.current
        if current is not None:
            desk.gateway.adaptation.follow(current)
        yield
        desk.gateway.close()

    app = FastAPI(
        lifespan=lifespan,
        title="Media Gateway",
        version="0.1.0",
        description="What to watch, where, until when and why. Errors are RFC 9457 problem details.",
        redoc_url=None,
    )
    app.state.desk = desk
    for name in desk:
        endpoint = desk[name]
        app.add_api_route(
            endpoint.path,
            _route(desk, endpoint),
            methods=[endpoint.method],
            name=name,
            summary=endpoint.summary,
            response_model=endpoint.Reply,
            responses={
                "default": {
                    "model": ProblemReply,
                    "description": "A problem (RFC 9457), sent as application/problem+json",
                }
            },
        )
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    return app


def _route(desk: Desk, endpoint: Endpoint) -> Callable[..., Response]:
    """A function with the signature that FastAPI reads: a body for POST, path and query for GET."""

    def handle(raw: Request, **values: Any) -> Response:
        try:
            request = values["request"] if endpoint.method == "POST" else _from_query(endpoint, raw, values)
            reply, status = desk.answer(endpoint.name, request)
        except Problem as problem:
            return problem_response(problem)
        except Exception:
            log.exception("%s broke", endpoint.name)
            return problem_response(
                Problem(
                    500,
                    "internal",
                    "a request that is right must be answered, this one broke on our side: "
                    "try again; if it comes back, tell us the time, the log has the rest",
                )
            )
        if endpoint.text_of is not None:
            return PlainTextResponse(getattr(reply, endpoint.text_of), status)
        return Response(reply.model_dump_json(), status, media_type="application/json")

    if endpoint.method == "POST":
        parameters = [_parameter("request", endpoint.Request, inspect.Parameter.empty)]
    else:
        parameters = [
            _parameter(name, *_placed(name, field, endpoint.path))
            for name, field in endpoint.Request.model_fields.items()
        ]
    parameters.insert(0, _parameter("raw", Request, inspect.Parameter.empty))
    handle.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    handle.__doc__ = inspect.getdoc(type(endpoint))
    return handle


def _from_query(endpoint: Endpoint, raw: Request, values: dict[str, Any]) -> Any:
    """The request of a GET route; a name in the query that is no field is refused, as in a body."""
    strange = [
        {"type": "extra_forbidden", "loc": (name,), "msg": "", "input": value}
        for name, value in raw.query_params.items()
        if name not in endpoint.Request.model_fields
    ]
    if strange:
        _count(raw, 422)
        raise refused(strange)
    return endpoint.Request(**values)


def _placed(name: str, field: FieldInfo, path: str) -> tuple[Any, Any]:
    """Annotation and default of a field that travels in the path or as query."""
    is_in_path = f"{{{name}}}" in path
    place = (Path if is_in_path else Query)(description=field.description)
    annotated: Any = Annotated[(field.annotation, *field.metadata, place)]  # type: ignore[misc]
    return annotated, inspect.Parameter.empty if is_in_path or field.is_required() else field.default


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def problem_response(problem: Problem) -> Response:
    """A problem as it goes over the wire."""
    headers = {"Retry-After": "5"} if problem.status == 503 else {}
    return Response(problem.reply().model_dump_json(), problem.status, headers=headers, media_type=MEDIA_TYPE)


def _refused(request: Request, error: Exception) -> Response:
    problem = refused(error.errors() if isinstance(error, RequestValidationError) else [])
    _count(request, problem.status)
    return problem_response(problem)


def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 413:
        _count(request, status)
        return problem_response(too_large(f"more than {LIMIT_BYTES} bytes"))
    desk: Desk = request.app.state.desk
    routes = [f"{desk[name].method} {desk[name].path}" for name in desk]
    came = f"{request.method} {request.url.path[:100]}"
    kind = {404: "no-route", 405: "wrong-method"}.get(status, "refused")
    _count(request, status)
    return problem_response(
        Problem(status, kind, f"a request goes to one of {', '.join(routes)}; got {came}")
    )


def _count(request: Request, status: int) -> None:
    route = request.scope.get("route")
    desk: Desk = request.app.state.desk
    desk.gateway.counters.count(getattr(route, "path", "other"), status, 0.0)


def serve_local(
    home: Home,
    graph: str,
    host: str = "127.0.0.1",
    port: int = 8265,
    adaptation: AdaptationConfig | None = None,
) -> None:
    """Serves in this process until it is interrupted.

    Raises:
        PortTaken: somebody listens there already.
        ValueError: the host is not this machine.
    """
    check_address(host, port)
    _uvicorn(build_app(home, graph, adaptation=adaptation), host, port).run()


class LocalServer:
    """uvicorn in a thread of this process: a context manager with an address."""

    def __init__(
        self,
        home: Home,
        graph: str,
        host: str = "127.0.0.1",
        port: int = 8265,
        adaptation: AdaptationConfig | None = None,
    ) -> None:
        port = port or _free_port(host)
        check_address(host, port)
        self.url = f"http://{host}:{port}"
        self._server = _uvicorn(build_app(home, graph, adaptation=adaptation), host, port)
        self._thread = threading.Thread(target=self._server.run, name="uvicorn", daemon=True)

    def __enter__(self) -> "LocalServer":
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._thread.join(0.02)
        if not self._server.started:
            raise RuntimeError(f"uvicorn must start at {self.url}, it ended: see its log")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)


def _uvicorn(app: FastAPI, host: str, port: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(app, host, port, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    )


@dataclass(frozen=True)
class RayConfig:
    """How much of the machine Ray takes."""

    cpus: int = 2
    replicas: int = 1
    """Processes that answer; each holds the version and maps the arrays."""
    object_store_bytes: int = 80_000_000  # Ray's least is 78,643,200
    concurrency: int = 64
    """Requests that a replica takes at once; more wait in the proxy."""


class RayServer:
    """Endpoints on Ray Serve: a context manager with an address; ends the cluster only if it started it."""

    def __init__(self, url: str, starts_cluster: bool) -> None:
        self.url = url
        self._starts_cluster = starts_cluster
        self._ended = threading.Event()

    def wait(self) -> None:
        """Returns when the server was stopped or somebody pressed Ctrl-C."""
        with suppress(KeyboardInterrupt):
            while not self._ended.wait(1.0):
                pass

    def stop(self) -> None:
        """Ends the endpoints, and the cluster where it is ours; twice does no harm."""
        import ray
        import ray.serve as ray_serve

        if self._ended.is_set():
            return
        self._ended.set()
        ray_serve.delete(APPLICATION)  # waits for answers under way
        if self._starts_cluster:
            ray.shutdown()  # Serve's own shutdown first would print an error of Ray's on every exit

    def __enter__(self) -> "RayServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve_ray(
    home: Home,
    graph: str,
    port: int = 8265,
    config: RayConfig | None = None,
    adaptation: AdaptationConfig | None = None,
) -> RayServer:
    """Starts Ray Serve on loopback and returns when it answers.

    Raises:
        PortTaken: somebody listens there already.
        RuntimeError: Ray did not come up, with what it said.
    """
    port = port or _free_port("127.0.0.1")
    check_address("127.0.0.1", port)
    import ray  # three seconds of import that uvicorn and tests do without
    import ray.serve as ray_serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    config = config or RayConfig()
    starts_cluster = not ray.is_initialized()
    if starts_cluster:
        _start_ray(config)
    try:
        quiet = {"log_level": "WARNING", "enable_access_log": False}
        ray_serve.start(
            http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly", logging_config=quiet
        )

        def build() -> FastAPI:
            return build_app(home, graph, adaptation=adaptation)

        deployment = ray_serve.deployment(
            ray_serve.ingress(build)(),
            name=APPLICATION,
            num_replicas=config.replicas,
            max_ongoing_requests=config.concurrency,
            ray_actor_options={"num_cpus": 0.5},
        )
        ray_serve.run(deployment.bind(), name=APPLICATION, route_prefix="/", logging_config=quiet)
    except BaseException:
        if starts_cluster:
            ray.shutdown()
        raise
    return RayServer(f"http://127.0.0.1:{port}", starts_cluster)


def _start_ray(config: RayConfig) -> None:
    import os

    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    ray.init(
        address="local",
        num_cpus=config.cpus,
        include_dashboard=False,
        object_store_memory=config.object_store_bytes,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )


def check_address(host: str, port: int) -> None:
    """Raises where the host is not this machine, or somebody listens there already."""
    if host not in LOOPBACK:
        raise ValueError(
            f"host must be this machine ({', '.join(LOOPBACK)}) while endpoints ask nobody who they are, "
            f"got {host!r}: "
            "put a proxy that checks identity before it"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"port {port} of {host} must be free, it cannot be taken ({error.strerror}): "
                "end what listens there, or give another one with --port"
            ) from None


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
