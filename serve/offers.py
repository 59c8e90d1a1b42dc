"""How an offer is told: where, what it costs, until when, and whether it was made up."""

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from kg.availability import Offer
from serve.problems import Problem, shown
from serve.snapshot import Snapshot

END_NOT_KNOWN = "end not known"


class OfferReply(BaseModel):
    """One window in which a platform has a content in a region."""

    platform_id: str
    platform: str
    region: str = Field(description="ISO 3166-1 alpha-2; ZZ where the source does not tell the country")
    offer: str = Field(description="subscription, free, ads, rent or buy")
    is_subscribed: bool = Field(description="the platform is among the subscriptions of the request")
    since: str | None
    until: str = Field(description=f"last day as a date, or {END_NOT_KNOWN!r}")
    start_ts: int | None
    end_ts: int | None
    price: float | None
    currency: str | None
    source: str
    confidence: float
    simulated: bool = Field(description="True where the window is made up")
    unverified: bool = Field(description="True where its source is believed below 0.5, or says so itself")


class ContestedReply(OfferReply):
    """A window that does not hold over its time, because another one outweighs it."""

    reason: str = Field(description="what they contradict each other in")


def tell_contested(offer: Offer) -> ContestedReply:
    """A contested window as replies carry it."""
    return ContestedReply(**tell(offer, ()).model_dump(), reason=offer.contested)


def tell(offer: Offer, subscriptions: Sequence[str]) -> OfferReply:
    """An offer as replies carry it."""
    return OfferReply(
        platform_id=offer.platform_id,
        platform=offer.platform,
        region=offer.region,
        offer=offer.offer,
        is_subscribed=offer.platform_id in subscriptions,
        since=None if offer.start_ts is None else day(offer.start_ts),
        until=END_NOT_KNOWN if offer.end_ts is None else day(offer.end_ts - 1),
        start_ts=offer.start_ts,
        end_ts=offer.end_ts,
        price=offer.price,
        currency=offer.currency,
        source=offer.source,
        confidence=offer.confidence,
        simulated=offer.simulated,
        unverified=not offer.is_verified,
    )


def day(ts: int) -> str:
    """The UTC day of a time.

    Example:
        >>> day(86_399), day(86_400)
        ('1970-01-01', '1970-01-02')
    """
    return datetime.fromtimestamp(ts, UTC).date().isoformat()


def region_code(snapshot: Snapshot, region: str | None) -> str | None:
    """A country as the graph writes it, from any case.

    Raises:
        Problem: 422; no offer of the graph is in this country.
    """
    if region is None:
        return None
    code = region.upper().removeprefix("REGION:")
    known = snapshot.regions
    if code not in known:
        raise Problem(
            422,
            "unknown-region",
            f"region must be one of the {len(known)} countries of graph {snapshot.graph.name!r}, "
            f"got {shown(region)}: "
            f"use one of {_some(known, code)} (all stand in GET /v1/catalogue), or leave it out",
        )
    return code


def platform_ids(snapshot: Snapshot, platforms: Sequence[str] | None) -> tuple[str, ...] | None:
    """Platforms as the graph names them, from an id or its key alone.

    Raises:
        Problem: 422; the graph has no such platform.
    """
    if platforms is None:
        return None
    found = []
    for platform in platforms:
        id = platform if platform.startswith("platform:") else f"platform:{platform.lower()}"
        if snapshot.graph.row_of(id) is None:
            raise Problem(
                422,
                "unknown-platform",
                f"subscriptions name platforms of graph {snapshot.graph.name!r}, got {shown(platform)}: "
                f"use {_some(snapshot.availability.platforms, id)} (all stand in GET /v1/catalogue)",
            )
        found.append(id)
    return tuple(sorted(set(found)))


def _some(known: Sequence[str], wanted: str) -> str:
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4) or list(known[:3])
    return ", ".join(near) or "none, it has no offers"
