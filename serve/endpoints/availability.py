"""GET /v1/contents/{id}/availability: who has a content where, and from when to when."""

from typing import Any

from pydantic import Field

from kg.availability import Offer
from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, content_row, endpoints
from serve.offers import ContestedReply, OfferReply, region_code, tell, tell_contested
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
    contested: list[ContestedReply] = Field(description="windows that a heavier one contradicts; none holds")
    regions: list[str] = Field(description="every country where the graph knows a window")
    simulated: bool = Field(description="True where a window told here is made up")


@endpoints.register("availability")
class Availability(Endpoint):
    """Tells windows as they settle, contested ones apart; a window whose end is open says so."""

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
        offers, contested = (
            [one for one in told if region in (None, one.region) and _holds(one, request.at)]
            for told in (known, snapshot.availability.contested(row))
        )
        return AvailabilityReply(
            id=request.id,
            title=snapshot.title(row),
            region=region,
            at=request.at,
            offers=[tell(offer, ()) for offer in offers],
            contested=[tell_contested(one) for one in contested],
            regions=sorted({offer.region for offer in known}),
            simulated=any(offer.simulated for offer in (*offers, *contested)),
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"id": snapshot.content_ids[0]}


def _holds(offer: Offer, at: int | None) -> bool:
    if at is None:
        return True
    return (offer.start_ts is None or offer.start_ts <= at) and (offer.end_ts is None or at < offer.end_ts)
