"""GET /v1/users/{id}/adapter: what the instant tier learned of somebody, in numbers."""

from typing import Any

import numpy as np
from pydantic import Field

from kg.feedback import hashed_user
from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, endpoints
from serve.snapshot import Snapshot


class AdapterRequest(Request):
    """Of whom."""

    id: str = Field(min_length=1, max_length=ID_LENGTH, description="a graph's id; any other name is hashed")


class AdapterReply(Reply):
    """One person's adapter; weights never leave by this way."""

    is_on: bool = Field(description="whether feedback moves adapters of the version that answers")
    said: str | None = Field(description="why it is off")
    model: str
    events: int = Field(description="of feedback that it learned from")
    likes: int = Field(0, description="known when the version was fitted, that it began with")
    last_ts: int | None = Field(description="UTC seconds of the newest of both")
    gathered: float = Field(description="sum of weak signals that wait to be worth a step")
    norm: float = Field(description="length of what it adds to the adapted layer")
    size_bytes: int = Field(description="of the adapter, whoever's it is")


@endpoints.register("adapter")
class Adapter(Endpoint):
    """Tells the adapter as the next answer would read it."""

    name = "adapter"
    method = "GET"
    path = "/v1/users/{id}/adapter"
    summary = "What the instant tier learned of somebody"
    Request = AdapterRequest
    Reply = AdapterReply

    def answer(self, request: AdapterRequest) -> AdapterReply:
        snapshot, adaptation = self.gateway.snapshot(), self.gateway.adaptation
        user_id, tier = hashed_user(request.id), adaptation.tier(snapshot)
        learned = None
        if tier is not None:
            learned = adaptation.record(tier, user_id, self.gateway.feedback.of_user(user_id))
        model, why_off = snapshot.version.ref, adaptation.why_off(snapshot)
        if tier is None or learned is None:
            said = why_off or "the adapter cannot be read"
            return AdapterReply(
                is_on=False, said=said, model=model, events=0, last_ts=None, gathered=0, norm=0, size_bytes=0
            )
        one = learned.record[0]
        update = tier.head.spec.scale * one["up"].astype(np.float32) @ one["down"].astype(np.float32)
        return AdapterReply(
            is_on=True,
            said=None,
            model=model,
            events=learned.events,
            likes=learned.likes,
            last_ts=int(one["last_ts"]) if one["events"] else None,
            gathered=float(one["gathered"]),
            norm=float(np.linalg.norm(update)),
            size_bytes=learned.record.dtype.itemsize,
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"id": "user:example:1"}
