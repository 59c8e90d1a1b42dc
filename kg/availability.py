"""What can be watched where and when: an index over the AVAILABLE facts, in memory.

A window holds at t when start <= t and (the end is open or t < end)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from kg import schema
from kg.arrays import GraphArrays

OFFER_ORDER = ("subscription", "free", "ads", "rent", "buy")
"""Which offer stands first for somebody who subscribes to its platform."""
UNKNOWN_OFFER = "offer not known"
"""For a source that mixes a shop with a subscription."""
DAY_S = 86_400


@dataclass(frozen=True)
class Offer:
    """One window in which a platform has a content in a region."""

    content_id: str
    platform_id: str
    platform: str
    region: str
    """ISO 3166-1 alpha-2, or ZZ where the source does not tell the country."""
    offer: str
    start_ts: int | None
    end_ts: int | None
    """None is open: the end is not known."""
    source: str
    confidence: float
    simulated: bool
    price: float | None
    currency: str | None


class AvailabilityIndex:
    """Answers who has what from sorted arrays; built once from a graph.

    Windows are unfolded to one row a member region: w rows of (content, platform, region, start, end).
    """

    def __init__(self, graph: GraphArrays) -> None:
        self._graph = graph
        self.platforms = graph.ids("Platform")
        self._names = graph.texts("Platform", "name")
        self.regions = [region.partition(":")[2] for region in graph.ids("Region")]
        self._contents = graph.size("Content")
        facts, regions = graph.incidence("AVAILABLE", "region")
        _, contents = graph.incidence("AVAILABLE", "content")
        _, platforms = graph.incidence("AVAILABLE", "platform")
        order = np.argsort(contents[facts], kind="stable") if len(facts) else facts
        self._fact = facts[order]  # (w,) row in the table of AVAILABLE
        self._region = regions[order]  # (w,)
        self._content = contents[self._fact] if len(facts) else facts
        self._platform = platforms[self._fact] if len(facts) else facts
        self._start = graph.starts("AVAILABLE")[self._fact]
        self._end = graph.ends("AVAILABLE")[self._fact]
        self._first = np.searchsorted(self._content, np.arange(self._contents + 1))
        self._somewhere = graph.row_of(schema.SOMEWHERE)

    def mask(self, region: str, at: int, subscriptions: Sequence[str] | None = None) -> np.ndarray:
        """(i,) bool: which contents somebody in ``region`` can watch at ``at`` (UTC seconds).

        Args:
            region: ISO code; windows of unknown country do not count.
            at: the moment.
            subscriptions: platform ids that count; None lets every platform count.
        """
        found = np.zeros(self._contents, bool)
        row = self._graph.row_of(f"region:{region}")
        if row is None:
            return found
        holds = (self._region == row) & (self._start <= at) & (at < self._end)
        if subscriptions is not None:
            rows = [self._graph.row_of(platform) for platform in subscriptions]
            holds &= np.isin(self._platform, [known for known in rows if known is not None])
        found[self._content[holds]] = True
        return found

    def offers(
        self,
        content_row: int,
        region: str | None = None,
        at: int | None = None,
        subscriptions: Sequence[str] = (),
    ) -> list[Offer]:
        """Windows of one content: subscribed platforms first, then by offer, price and platform.

        Args:
            content_row: row of the content.
            region: only this country; None gives all, those of unknown country too.
            at: only windows that hold then; None gives past and future ones too.
            subscriptions: platform ids that somebody pays for.
        """
        found = []
        for place in range(self._first[content_row], self._first[content_row + 1]):
            here = self.regions[self._region[place]]
            holds = at is None or self._start[place] <= at < self._end[place]
            if holds and region in (None, here):
                found.append(self._offer(place, here))
        return sorted(found, key=lambda offer: _preference(offer, subscriptions))

    def expiring(
        self, region: str, days: int, at: int, platforms: Sequence[str] | None = None
    ) -> list[Offer]:
        """Windows in a region that hold at ``at`` and end within ``days``, soonest first."""
        row = self._graph.row_of(f"region:{region}")
        if row is None:
            return []
        ends_soon = (at < self._end) & (self._end <= at + days * DAY_S)
        holds = (self._region == row) & (self._start <= at) & ends_soon
        found = [self._offer(place, region) for place in np.flatnonzero(holds)]
        kept = [offer for offer in found if platforms is None or offer.platform_id in platforms]
        return sorted(kept, key=lambda offer: (offer.end_ts, offer.content_id, offer.platform_id))

    def _offer(self, place: int, region: str) -> Offer:
        fact = {name: self._table[name][int(self._fact[place])].as_py() for name in _OFFER_COLUMNS}
        platform = int(self._platform[place])
        return Offer(
            content_id=self._graph.id_of("Content", int(self._content[place])),
            platform_id=self.platforms[platform],
            platform=self._names[platform] or self.platforms[platform],
            region=region,
            offer=fact["offer"] or UNKNOWN_OFFER,
            start_ts=fact["start_ts"],
            end_ts=fact["end_ts"],
            source=fact["source"],
            confidence=fact["confidence"],
            simulated=bool(fact["simulated"]),
            price=fact["price"],
            currency=fact["currency"],
        )

    @property
    def _table(self) -> pa.Table:
        return self._graph.facts["AVAILABLE"]


_OFFER_COLUMNS = ("offer", "start_ts", "end_ts", "source", "confidence", "simulated", "price", "currency")


def _preference(offer: Offer, subscriptions: Sequence[str]) -> tuple[object, ...]:
    kind = OFFER_ORDER.index(offer.offer) if offer.offer in OFFER_ORDER else len(OFFER_ORDER)
    is_paid_for = offer.offer == "subscription" and offer.platform_id in subscriptions
    return (not is_paid_for, kind, offer.price or 0.0, offer.platform, offer.region, offer.start_ts or 0)
