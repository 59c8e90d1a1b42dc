"""What an endpoint says when it cannot answer: RFC 9457 problem details, the same in process and over HTTP.

A detail says what must hold, what came and what to do; it never carries a traceback."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"
_SHOWN = 80  # characters of a wrong value that a detail repeats

TITLES = {
    400: "The request cannot be read",
    404: "Nothing is here under this name",
    405: "This route has another method",
    409: "This key was used for something else",
    413: "The body is too large",
    422: "A field does not hold what it must",
    500: "Something broke on our side",
    503: "Not ready to answer",
    507: "Nothing could be written",
}


class WrongField(BaseModel):
    """One field of a request that was refused."""

    field: str
    must: str
    came: str


class ProblemReply(BaseModel):
    """Body of every reply that is no answer (RFC 9457)."""

    type: str = Field(description="names the kind of problem; stays the same over releases")
    title: str
    status: int
    detail: str = Field(description="what must hold, what came, what to do")
    errors: list[WrongField] = []


class Problem(Exception):
    """An answer that cannot be given; clients raise it, the app turns it into a reply."""

    def __init__(self, status: int, kind: str, detail: str, errors: Sequence[WrongField] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)

    def reply(self) -> ProblemReply:
        """The body that stands for this problem."""
        return ProblemReply(
            type=f"urn:media-gateway:problem:{self.kind}",
            title=TITLES.get(self.status, "The request was refused"),
            status=self.status,
            detail=self.detail,
            errors=list(self.errors),
        )

    @classmethod
    def from_reply(cls, body: Mapping[str, Any]) -> "Problem":
        """The problem that a server told."""
        reply = ProblemReply.model_validate(body)
        return cls(reply.status, reply.type.rpartition(":")[2], reply.detail, reply.errors)


def refused(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The problem behind what pydantic found wrong with a request."""
    if any(isinstance(error.get("input"), bytes) for error in errors):
        return Problem(
            400,
            "no-json",
            "a body is JSON and says so, this one does not: send Content-Type: application/json",
        )
    if any(error["type"] == "json_invalid" for error in errors):
        why = errors[0].get("ctx", {}).get("error", "it is cut off or no JSON")
        return Problem(
            400, "no-json", f"a body is one JSON object, this one is not ({why}): mend it and send it again"
        )
    wrong = [_wrong_field(error) for error in errors]
    said = "; ".join(f"{one.field}: {one.must}, got {one.came}" for one in wrong)
    return Problem(422, "wrong-field", f"{said}: correct what is named and send the request again", wrong)


def _wrong_field(error: Mapping[str, Any]) -> WrongField:
    place = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    if error["type"] == "missing":
        return WrongField(field=place or "body", must="is required", came="nothing")
    if error["type"] == "extra_forbidden":
        return WrongField(field=place, must="is no field of this request", came=shown(error["input"]))
    must = str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must")
    return WrongField(field=place or "body", must=must[:1].lower() + must[1:], came=shown(error["input"]))


def shown(value: Any) -> str:
    """A value as a detail repeats it, cut to a length that can be read."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
