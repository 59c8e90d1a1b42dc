"""Asks an API for JSON: with a timeout, patience, a pace, a circuit breaker, and no key in any message."""

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import tenacity


class ApiError(RuntimeError):
    """An API that does not give what it must."""


class KeyMissing(ApiError):
    """No key in the environment."""


class KeyRefused(ApiError):
    """A key that the API does not take, or that may ask no more."""


class CircuitOpen(ApiError):
    """The API failed too often in a row: it is left alone for a while."""


class CursorRefused(ApiError):
    """The API does not know the page that it named before."""


class _Transient(Exception):
    """Worth another try, at the earliest after ``wait_s``."""

    def __init__(self, came: str, wait_s: float = 0.0) -> None:
        super().__init__(came)
        self.wait_s = wait_s


@dataclass(frozen=True)
class HttpConfig:
    """Settings of :class:`ApiClient`."""

    timeout_s: float = 30.0
    """Longest wait for a connection, and for each piece of a reply."""
    tries: int = 5
    """Tries a request, the first one included."""
    wait_s: float = 1.0
    """The second try waits up to this long at random, the third twice as long, and so on."""
    longest_wait_s: float = 120.0
    """A server that asks for more patience (Retry-After) ends the request."""
    per_s: float = 4.0
    """Requests a second, at most."""
    failures: int = 3
    """So many requests in a row that failed for good open the circuit."""
    rest_s: float = 300.0
    """So long an open circuit lets no request through."""
    reply_bytes: int = 1 << 25
    """Longest reply."""

    def __post_init__(self) -> None:
        if self.tries < 1 or self.failures < 1 or min(self.timeout_s, self.per_s) <= 0:
            raise ValueError(
                f"tries and failures of 1 or more, timeout_s and per_s above 0 are needed, got {self}"
            )


@dataclass(frozen=True)
class Key:
    """Where an API's key is found and how it is sent."""

    variable: str
    """Environment variable."""
    where: str
    """Where somebody gets one."""
    parameter: str = ""
    """Name of the query parameter that carries it, if one does."""
    header: str = ""
    """Name of the header that carries it, if one does."""
    form: str = "{}"
    """How the header writes it (``Bearer {}``)."""

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The key.

        Raises:
            KeyMissing: the variable is not set.
        """
        if not (value := environ.get(self.variable, "").strip()):
            raise KeyMissing(f"{self.variable} must hold a key, it is not set: get one from {self.where}")
        return value


@dataclass
class ApiClient:
    """Gets JSON from one API.

    Retries what may pass (429, 5xx, a broken connection, JSON that breaks off), at random moments that lie
    further and further apart (full jitter), never before what Retry-After says. Not safe between threads.

    Source: full jitter as in Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015; the
    breaker as in Nygard, "Release It!", 2nd edition, 2018, chapter 5.
    """

    base: str
    key: Key
    config: HttpConfig = field(default_factory=HttpConfig)
    transport: httpx.BaseTransport | None = None
    """Takes the place of the network, in tests."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def __post_init__(self) -> None:
        self._next_s = self._shut_until_s = float("-inf")
        self._failed = 0
        self._random = random.Random()
        self._client = httpx.Client(timeout=self.config.timeout_s, transport=self.transport)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def get(self, path: str, parameters: Mapping[str, str]) -> Any:
        """The JSON that a path answers with.

        Args:
            path: below ``base``.
            parameters: of the query, without the key.

        Raises:
            KeyMissing, KeyRefused: no key, or one that is not taken.
            CursorRefused: the request is well formed and names a page that is no more.
            CircuitOpen: too many requests failed just now.
            ApiError: no whole reply after all tries.
        """
        secret = self.key.read(self.environ)
        if self.clock() < self._shut_until_s:
            raise CircuitOpen(
                f"{self.base} failed {self._failed} times in a row: wait "
                f"{self._shut_until_s - self.clock():.0f} s and start again; what was read is kept"
            )
        try:
            reply = self._patient()(self._once, path, dict(parameters), secret)
        except _Transient as error:
            self._failed += 1
            if self._failed >= self.config.failures:
                self._shut_until_s = self.clock() + self.config.rest_s
            raise ApiError(
                f"{self.base}{path} must answer with JSON, got {error} after {self.config.tries} tries: "
                "try again later; what was read is kept"
            ) from None
        self._failed = 0
        return reply

    def _patient(self) -> tenacity.Retrying:
        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            jitter = self._random.uniform(0, self.config.wait_s * 2 ** (state.attempt_number - 1))
            return max(getattr(error, "wait_s", 0.0), min(jitter, self.config.longest_wait_s))

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Transient),
            stop=tenacity.stop_after_attempt(self.config.tries),
            wait=wait,
            sleep=self.sleep,
            reraise=True,
        )

    def _once(self, path: str, parameters: dict[str, str], secret: str) -> Any:
        self._keep_pace()
        headers = {self.key.header: self.key.form.format(secret)} if self.key.header else {}
        if self.key.parameter:
            parameters = {**parameters, self.key.parameter: secret}
        try:
            with self._client.stream("GET", self.base + path, params=parameters, headers=headers) as reply:
                body = self._body(reply)
        except httpx.TransportError as error:
            raise _Transient(type(error).__name__) from None  # its words may hold the address with the key
        return self._judged(path, reply, body)

    def _body(self, reply: httpx.Response) -> bytes:
        body = bytearray()
        for piece in reply.iter_bytes():
            body += piece
            if len(body) > self.config.reply_bytes:
                raise ApiError(
                    f"a reply of {self.base} has at most {self.config.reply_bytes:,} bytes, this one more: "
                    "check the address"
                )
        return bytes(body)

    def _judged(self, path: str, reply: httpx.Response, body: bytes) -> Any:
        status = reply.status_code
        if status == 429 or status >= 500:
            raise _Transient(f"status {status}", self._asked_wait(reply))
        said = body[:2000].decode(errors="replace")
        if status in (401, 402, 403) or (status == 400 and "api key" in said.lower()):
            raise KeyRefused(
                f"{self.base} does not take the key in {self.key.variable} (status {status}): check it and "
                f"what is left of its quota, or get another from {self.key.where}"
            )
        if status in (400, 404, 410, 422):
            raise CursorRefused(f"{self.base}{path} must know the page asked for, got status {status}")
        if status != 200:
            raise ApiError(f"{self.base}{path} must answer with status 200, got {status}: check the address")
        try:
            return json.loads(body)
        except ValueError:
            raise _Transient(f"{len(body)} bytes that are no whole JSON") from None

    def _keep_pace(self) -> None:
        now = self.clock()
        if now < self._next_s:
            self.sleep(self._next_s - now)
        self._next_s = max(now, self._next_s) + 1 / self.config.per_s

    def _asked_wait(self, reply: httpx.Response) -> float:
        """Seconds that Retry-After asks for, as a number or a date; 0 where it asks for none."""
        said = reply.headers.get("retry-after", "").strip()
        if not said:
            return 0.0
        try:
            asked = float(said) if said.isdigit() else _until(said)
        except (ValueError, TypeError):
            return 0.0
        if asked > self.config.longest_wait_s:
            raise ApiError(
                f"{self.base} asks to wait {asked:.0f} s, more than "
                f"{self.config.longest_wait_s:.0f} s: start again then; what was read is kept"
            )
        return max(asked, 0.0)


def _until(date: str) -> float:
    return (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
