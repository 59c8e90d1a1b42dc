"""What can be watched where and when: an index over the AVAILABLE facts as they settle, in memory.

A window holds at t when start <= t and (the end is open or t < end). Windows of one offer that agree are one;
where they contradict each other the one with more weight holds, and the rest stays, marked as contested."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from kg import schema
from kg.array_tables import OPEN_START
from kg.arrays import OPEN_END, GraphArrays
from kg.regions import expand
from kg.rights import ContestedWindow
from kg.settled_windows import settle_windows
from kg.trust import LEAST_AVAILABILITY, UNKNOWN_SOURCE, latest, reliabilities

OFFER_ORDER = schema.OFFERS
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
    quality_tiers: tuple[str, ...] = ()
    weight: float = 0.0
    """Reliability of the source x confidence: how far the offer is to be believed."""
    is_verified: bool = True
    """False where ``weight`` lies below :data:`kg.trust.LEAST_AVAILABILITY`, or the source says so itself."""
    contested: str = ""
    """Why it does not hold over this time: what a heavier window says instead; '' where it holds."""


@dataclass(frozen=True)
class Viewer:
    """Somebody who wants to watch: where, and what they pay for."""

    region: str
    """ISO 3166-1 alpha-2."""
    subscriptions: tuple[str, ...] | None = None
    """Platform ids that count; None lets every platform count."""


def viewer_of(graph: GraphArrays, user_id: str) -> Viewer:
    """What the graph knows of a user's country and subscriptions.

    Raises:
        KeyError: there is no such user, or no country is known of them.
    """
    row = graph.row_of(user_id)
    if row is None or not user_id.startswith("user:"):
        raise KeyError(f"{user_id!r} is no user of graph {graph.name!r}: name one, or a region")
    known = graph.node("User", row).properties
    if "region" not in known:
        raise KeyError(f"no country is known of {user_id!r}: give a region and subscriptions instead")
    paid = known.get("subscriptions")
    return Viewer(str(known["region"]), None if paid is None else tuple(paid))  # type: ignore[arg-type]


class AvailabilityIndex:
    """Answers who has what from sorted arrays; built once from a graph.

    Windows are unfolded to one row a member region and settled: w rows of (content, platform, region, start,
    end).
    """

    def __init__(self, graph: GraphArrays, as_of: int | None = None) -> None:
        """Settles all windows once.

        Args:
            graph: whose windows.
            as_of: UTC seconds from which age counts where windows contradict each other; None takes the last
                moment that the graph tells of.
        """
        self._graph = graph
        self.platforms = graph.ids("Platform")
        self._names = graph.texts("Platform", "name")
        self.regions = [region.partition(":")[2] for region in graph.ids("Region")]
        self._contents = graph.size("Content")
        facts, regions = graph.incidence("AVAILABLE", "region")
        self._contents_of = contents = graph.incidence("AVAILABLE", "content")[1]  # (f,)
        self._platforms_of = platforms = graph.incidence("AVAILABLE", "platform")[1]  # (f,)
        facts, regions = self._unfold(facts, regions)
        told = settle_windows(graph, facts, regions, self._rows, latest(graph) if as_of is None else as_of)
        content = contents[told.fact] if len(contents) else told.fact
        order = np.argsort(content, kind="stable")
        self._fact = told.fact[order]  # (w,) row in the table of AVAILABLE
        self._region = told.region[order]  # (w,)
        self._content = content[order]
        self._platform = platforms[self._fact] if len(platforms) else self._fact
        self._start, self._end = told.start[order], told.end[order]
        places = np.argsort(order)
        self._joined = {int(places[place]): settled for place, settled in told.joined.items()}
        self._contested: dict[str, list[ContestedWindow]] = {}
        for lost in told.contested:
            self._contested.setdefault(lost.content_id, []).append(lost)
        self._first = np.searchsorted(self._content, np.arange(self._contents + 1))
        self._reliability = reliabilities() if len(facts) else {}
        self._sort_by_region()

    def _unfold(self, facts: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Groups (EU, WORLD) become a row a country; countries that are no node get rows behind the nodes."""
        rows = {code: row for row, code in enumerate(self.regions)}
        meant = [[rows.setdefault(code, len(rows)) for code in expand(f"region:{r}")] for r in self.regions]
        self.regions = list(rows)
        self._rows = rows
        if len(rows) == len(meant) and all(len(codes) == 1 for codes in meant):
            return facts, regions
        lengths = np.array([len(codes) for codes in meant])
        unfolded = [code for region in regions.tolist() for code in meant[region]]
        pairs = np.column_stack([np.repeat(facts, lengths[regions]), np.array(unfolded, np.int64)])
        once = np.unique(pairs, axis=0)  # a country told beside its group counts once
        return once[:, 0], once[:, 1]

    def _sort_by_region(self) -> None:
        by_region = np.argsort(self._region, kind="stable")
        self._region_first = np.searchsorted(self._region[by_region], np.arange(len(self.regions) + 1))
        self._by_region = by_region
        # copies in the order of regions, so that a country is one stretch of memory
        self._of_region = tuple(
            column[by_region] for column in (self._content, self._platform, self._start, self._end)
        )

    @property
    def windows(self) -> dict[str, np.ndarray]:
        """Columns ``content``, ``platform``, ``region``, ``start`` and ``end``, (w,) each, by region."""
        names = ("content", "platform", "start", "end")
        return {**dict(zip(names, self._of_region, strict=True)), "region": self._region[self._by_region]}

    def filter(self, content_rows: np.ndarray, viewer: Viewer, at: int) -> np.ndarray:
        """(c,) bool: which of the contents at ``content_rows`` (c,) ``viewer`` can watch at ``at``.

        Cost: one pass over the windows of the viewer's country.
        """
        return self.mask(viewer.region, at, viewer.subscriptions)[content_rows]

    def contents(self, viewer: Viewer, at: int) -> np.ndarray:
        """(c,) rows of all contents that ``viewer`` can watch at ``at`` (UTC seconds), ascending."""
        return np.flatnonzero(self.mask(viewer.region, at, viewer.subscriptions))

    def available(self, content_row: int, viewer: Viewer, at: int) -> list[Offer]:
        """Offers of one content by which ``viewer`` can watch it at ``at``, the best first."""
        paid = viewer.subscriptions
        found = self.offers(content_row, viewer.region, at, paid or ())
        return [offer for offer in found if paid is None or offer.platform_id in paid]

    def mask(self, region: str, at: int, subscriptions: Sequence[str] | None = None) -> np.ndarray:
        """(i,) bool: which contents somebody in ``region`` can watch at ``at`` (UTC seconds).

        Args:
            region: ISO code; windows of unknown country do not count.
            at: the moment.
            subscriptions: platform ids that count; None lets every platform count.
        """
        found = np.zeros(self._contents, bool)
        row = self._rows.get(region)
        if row is None:
            return found
        here = slice(self._region_first[row], self._region_first[row + 1])
        content, platform, start, end = (column[here] for column in self._of_region)
        holds = (start <= at) & (at < end)
        if subscriptions is not None:
            counts = np.zeros(len(self.platforms), bool)
            for id in subscriptions:
                if id.startswith("platform:") and (known := self._graph.row_of(id)) is not None:
                    counts[known] = True
            holds &= counts[platform]
        found[content[holds]] = True
        return found

    def offers(
        self,
        content_row: int,
        region: str | None = None,
        at: int | None = None,
        subscriptions: Sequence[str] = (),
    ) -> list[Offer]:
        """Windows of one content: subscribed platforms first, then by offer, price, quality and trust.

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

    def contested(self, content_row: int, region: str | None = None) -> list[Offer]:
        """Windows of one content that do not hold over a time, each with the reason, by platform."""
        lost = self._contested.get(self._graph.id_of("Content", content_row), [])
        return [
            replace(
                self._told(one.contested.fact_row, one.region, one.span.start_ts, one.span.end_ts),
                contested=one.reason,
            )
            for one in lost
            if region in (None, one.region)
        ]

    def expiring(
        self, region: str, days: int, at: int, platforms: Sequence[str] | None = None
    ) -> list[Offer]:
        """Windows in a region that hold at ``at`` and end within ``days``, soonest first."""
        row = self._rows.get(region)
        if row is None:
            return []
        here = slice(self._region_first[row], self._region_first[row + 1])
        _, _, start, end = (column[here] for column in self._of_region)
        holds = (start <= at) & (at < end) & (end <= at + days * DAY_S)
        found = [self._offer(place, region) for place in self._by_region[here][holds]]
        kept = [offer for offer in found if platforms is None or offer.platform_id in platforms]
        return sorted(kept, key=lambda offer: (offer.end_ts, offer.content_id, offer.platform_id))

    def _offer(self, place: int, region: str) -> Offer:
        start, end = int(self._start[place]), int(self._end[place])
        told = self._told(
            int(self._fact[place]),
            region,
            None if start == OPEN_START else start,
            None if end == OPEN_END else end,
        )
        if place not in self._joined:
            return told
        settled, simulated = self._joined[place]
        terms = {name: settled.terms[name] for name in _SHOWN if name in settled.terms}
        return replace(told, **terms, simulated=simulated)

    def _told(self, fact_row: int, region: str, start_ts: int | None, end_ts: int | None) -> Offer:
        """A fact as its source tells it, over a time and in a country."""
        fact = {name: self._table[name][fact_row].as_py() for name in _OFFER_COLUMNS}
        platform = int(self._platforms_of[fact_row])
        weight = self._reliability.get(fact["source"], UNKNOWN_SOURCE) * fact["confidence"]
        return Offer(
            content_id=self._graph.id_of("Content", int(self._contents_of[fact_row])),
            platform_id=self.platforms[platform],
            platform=self._names[platform] or self.platforms[platform],
            region=region,
            offer=fact["offer"] or UNKNOWN_OFFER,
            start_ts=start_ts,
            end_ts=end_ts,
            source=fact["source"],
            confidence=fact["confidence"],
            simulated=bool(fact["simulated"]),
            price=fact["price"],
            currency=fact["currency"],
            quality_tiers=tuple(fact["quality_tiers"] or ()),
            weight=weight,
            is_verified=weight >= LEAST_AVAILABILITY and fact["is_verified"] is not False,
        )

    @property
    def _table(self) -> pa.Table:
        return self._graph.facts["AVAILABLE"]


_OFFER_COLUMNS = (
    *("offer", "source", "confidence", "simulated", "price", "currency", "quality_tiers", "is_verified"),
)
_SHOWN = ("price", "currency", "quality_tiers")
"""Terms of a settled window that an offer tells."""


def quality(tiers: Sequence[str]) -> int:
    """Rank of the best quality tier, larger is better; 0 where none is told.

    Example:
        >>> quality(()), quality(("SD", "4K")), quality(("HD",))
        (0, 5, 2)
    """
    return max((schema.QUALITIES.index(tier) + 1 for tier in tiers if tier in schema.QUALITIES), default=0)


def _preference(offer: Offer, subscriptions: Sequence[str]) -> tuple[object, ...]:
    kind = OFFER_ORDER.index(offer.offer) if offer.offer in OFFER_ORDER else len(OFFER_ORDER)
    is_paid_for = offer.offer == "subscription" and offer.platform_id in subscriptions
    return (
        *(not is_paid_for, kind, offer.price or 0.0, -quality(offer.quality_tiers), -offer.weight),
        *(offer.platform, offer.region, offer.start_ts or 0),
    )
