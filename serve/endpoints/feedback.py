"""POST /v1/feedback: what somebody did with a content, on disk before the reply leaves."""

import time
import uuid
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from kg.feedback import RANGES, Event, FeedbackError, FeedbackEvent, KeyTaken, hashed_user
from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, content_row, endpoints
from serve.problems import Problem
from serve.snapshot import Snapshot

_LATEST_S = 4_102_444_800  # the year 2100
_SLACK_S = 86_400  # a clock may run ahead by as much


class FeedbackRequest(Request):
    """One event."""

    user_id: str = Field(
        min_length=1, max_length=ID_LENGTH, description="a graph's id; any other name is hashed"
    )
    content_id: str = Field(min_length=1, max_length=ID_LENGTH)
    event: Event
    value: float | None = Field(
        None,
        validate_default=True,
        allow_inf_nan=False,
        description="rating: 0 to 10; watched: progress 0 to 1; none for the rest",
    )
    ts: int | None = Field(
        None, ge=0, le=_LATEST_S, description="UTC seconds when it happened; now where left out"
    )
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=ID_LENGTH, description="sending a key again records nothing new"
    )

    @field_validator("ts")
    @classmethod
    def _has_happened(cls, ts: int | None, info: ValidationInfo) -> int | None:
        if ts is not None and ts > time.time() + _SLACK_S:
            raise ValueError(
                "must not lie more than a day ahead: feedback tells what happened, in UTC seconds"
            )
        return ts

    @field_validator("value")
    @classmethod
    def _fits(cls, value: float | None, info: ValidationInfo) -> float | None:
        event = info.data.get("event")  # absent where it was refused itself
        allowed = RANGES.get(event)
        if event is not None and allowed is None and value is not None:
            raise ValueError(f"must be left out for the event {event!r}")
        if allowed and (value is None or not allowed[0] <= value <= allowed[1]):
            raise ValueError(f"must lie in {allowed[0]:g}..{allowed[1]:g} for the event {event!r}")
        return value


class FeedbackReply(Reply):
    """Stands for: it is on disk."""

    accepted: bool
    is_duplicate: bool = Field(description="True where this key was recorded before; nothing was added")
    idempotency_key: str


@endpoints.register("feedback")
class Feedback(Endpoint):
    """Appends to the durable log, then lets adapters learn; the person's next recommendation reads both.

    An adapter that cannot learn now learns out of the log later: the reply stands for the log alone.
    """

    name = "feedback"
    method = "POST"
    path = "/v1/feedback"
    summary = "Record what somebody did with a content"
    Request = FeedbackRequest
    Reply = FeedbackReply

    def answer(self, request: FeedbackRequest) -> FeedbackReply:
        snapshot, trial = self.gateway.snapshot(), self.gateway.trial
        tried = None if trial is None else trial.snapshot
        if tried is None or tried.row(request.content_id) is None:  # a candidate may know a newer graph
            content_row(snapshot, request.content_id)
        key = request.idempotency_key or uuid.uuid4().hex
        event = FeedbackEvent(
            user_id=hashed_user(request.user_id),
            content_id=request.content_id,
            event=request.event,
            key=key,
            ts=self.gateway.now() if request.ts is None else request.ts,
            value=request.value,
        )
        try:
            recorded = self.gateway.feedback.record(event)
        except KeyTaken as error:
            raise Problem(409, "key-taken", str(error)) from None
        except FeedbackError as error:
            raise Problem(507, "not-recorded", str(error)) from None
        if recorded.is_new:
            versions = [snapshot] if tried is None else [snapshot, tried]
            self.gateway.adaptation.learn(replace(event, number=recorded.number), versions)
        return FeedbackReply(accepted=True, is_duplicate=not recorded.is_new, idempotency_key=key)

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"user_id": "user:example:1", "content_id": snapshot.content_ids[0], "event": "like"}
