"""Refuses a body that is too large before anything reads it into memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import MEDIA_TYPE, Problem

LIMIT_BYTES = 65_536


class _TooLarge(HTTPException):
    """More came than was announced: FastAPI lets an HTTPException out of its reading of the body."""

    def __init__(self) -> None:
        super().__init__(413)


class BodyLimit:
    """ASGI middleware: a 413 problem for a body above the limit, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > LIMIT_BYTES:
            await _refuse(send, f"{int(announced)} bytes")
            return
        came = 0

        async def count() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > LIMIT_BYTES:
                raise _TooLarge
            return message

        await self._app(scope, count, send)


def too_large(came: str) -> Problem:
    """What is said of a body above the limit."""
    return Problem(
        413,
        "body-too-large",
        f"a body has at most {LIMIT_BYTES} bytes, {came} came: send less, such as a shorter `exclude`",
    )


async def _refuse(send: Send, came: str) -> None:
    body = too_large(came).reply().model_dump_json().encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
