"""Where a request is handed in, whoever carries it: a client in the same process, uvicorn or Ray Serve."""

import time
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from configs.registry import import_parts
from serve.endpoints import Endpoint, endpoints
from serve.gateway import Gateway
from serve.problems import Problem


class Desk:
    """All registered endpoints over one gateway: where a client or a route hands in its request."""

    def __init__(self, gateway: Gateway) -> None:
        import_parts("serve.endpoints")
        self.gateway = gateway
        self._endpoints = {name: endpoints[name](gateway) for name in endpoints}

    def __getitem__(self, name: str) -> Endpoint:
        return self._endpoints[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def answer(self, name: str, request: BaseModel) -> tuple[Any, int]:
        """The reply of an endpoint and its HTTP status; counted and timed.

        Raises:
            Problem: as the endpoint says.
        """
        endpoint, started, status = self._endpoints[name], time.perf_counter(), 500
        try:
            reply = endpoint.answer(request)
            status = endpoint.status(reply)
        except Problem as problem:
            status = problem.status
            raise
        finally:
            self.gateway.counters.count(endpoint.path, status, time.perf_counter() - started)
        return reply, status
