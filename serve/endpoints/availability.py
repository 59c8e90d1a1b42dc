"""GET /v1/contents/{id}/availability: who has a content where, and from when to when."""

from typing import Any

from pydantic import Field

from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, content_row, endpoints
from serve.offers import OfferReply, region_code, tell
from serve.snapshot import Snapshot


class AvailabilityRequest(Request):
    """Which content, where and when."""

    id: str = Field(min_length=1, max_length=ID_LENGTH, description="content id")
    region: str | None = Field(
        None, max_length=20, description="ISO 3166-1 alpha-2; every country where left out"
    )
    at: int | None = Field(
        None, ge=0, description="UTC seconds; past, present and future windows where left out"
    )


class AvailabilityReply(Reply):
    """Windows of one content."""

    id: str
    title: str
    region: str | None
    at: int | None
    offers: list[OfferReply] = Field(description="best offer first: subscription, free, ads, rent, buy")
    regions: list[str] = Field(description="every country where the graph knows a window")
    simulated: bool = Field(description="True where a window told here is made up")


@endpoints.register("availability")
class Availability(Endpoint):
    """Tells windows as the graph has them; a window whose end is open says so."""

    name = "availability"
    method = "GET"
    path = "/v1/contents/{id}/availability"
    summary = "Windows of a content: where, on what, until when"
    Request = AvailabilityRequest
    Reply = AvailabilityReply

    def answer(self, request: AvailabilityRequest) -> AvailabilityReply:
        snapshot = self.gateway.snapshot()
        row = content_row(snapshot, request.id)
        region = region_code(snapshot, request.region)
        known = snapshot.availability.offers(row)
        offers = [
            offer
            for offer in known
            if (region is None or offer.region == region)
            and (request.at is None or _holds(offer, request.at))
        ]
        return AvailabilityReply(
            id=request.id,
            title=snapshot.title(row),
            region=region,
            at=request.at,
            offers=[tell(offer, ()) for offer in offers],
            regions=sorted({offer.region for offer in known}),
            simulated=any(offer.simulated for offer in offers),
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"id": snapshot.content_ids[0]}


def _holds(offer: Any, at: int) -> bool:
    return (offer.start_ts is None or offer.start_ts <= at) and (offer.end_ts is None or at < offer.end_ts)
