"""Who may show what where and when: contested windows, exclusivity, bounds of licences, what ends soon.

Reads the AVAILABLE, LICENSED and License records of a graph; writes nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from kg.arrays import GraphArrays
from kg.intervals import Claim, Contested, Settled, Span, settle
from kg.records import Node
from kg.regions import expand_all
from kg.trust import UNKNOWN_SOURCE, TrustTable, freshness, reliabilities

DAY_S = 86_400
ALERT_DAYS = (30, 7, 1)
"""Days before an end at which an alert is due."""
TERMS = ("price", "currency", "exclusivity", "quality_tiers")
"""What two windows of one offer contradict each other in."""
Key = tuple[str, str, str, str]
"""Content id, platform id, ISO code, offer."""


@dataclass(frozen=True)
class Window:
    """An AVAILABLE fact as its source tells it; the evidence of a conflict."""

    fact_id: str
    fact_row: int
    content_id: str
    platform_id: str
    regions: tuple[str, ...]
    """ISO codes; groups stand here as their members."""
    license_id: str | None
    span: Span
    source: str
    confidence: float
    weight: float
    """Reliability of the source x recency x confidence."""
    simulated: bool
    properties: Mapping[str, Any]
    """Offer, price, quality tiers, … as the source tells them."""

    @property
    def offer(self) -> str:
        """The way to watch, '' where the source does not tell it."""
        return str(self.properties.get("offer", ""))


@dataclass(frozen=True)
class ContestedWindow:
    """A window that does not hold for a time, with the one that does."""

    content_id: str
    platform_id: str
    region: str
    offer: str
    span: Span
    reason: str
    contested: Window
    holds: Window


@dataclass(frozen=True)
class ExclusivityConflict:
    """Two platforms have a content in one region at one time, one of them exclusively."""

    content_id: str
    regions: tuple[str, ...]
    span: Span
    """When both say that they have it."""
    exclusive: Window
    other: Window


@dataclass(frozen=True)
class Violation:
    """A window that leaves the bounds of its licence."""

    bound: str
    """content, territory, time, holdback, quality or language."""
    told: str
    """What the window says."""
    allowed: str
    """What the licence allows."""
    license_id: str
    window: Window


@dataclass(frozen=True)
class Expiry:
    """A content that a platform loses in a region."""

    content_id: str
    platform_id: str
    region: str
    offer: str
    end_ts: int
    alert: str
    """``expired``, ``1 day``, ``7 days``, ``30 days``, or '' where no alert is due."""
    sources: tuple[str, ...]


def windows(
    graph: GraphArrays,
    as_of: int,
    reliability: Mapping[str, float] | None = None,
    rows: np.ndarray | None = None,
) -> list[Window]:
    """Every AVAILABLE fact that starts by ``as_of``, or has an open start, with its weight then.

    Args:
        graph: whose windows.
        as_of: UTC seconds; recency of a telling is counted from here.
        reliability: source -> 0 to 1; None takes what the sources say of themselves.
        rows: (r,) of the facts to tell, whenever they start; None takes every fact that is known by then.
    """
    if "AVAILABLE" not in graph.facts:
        return []
    known = reliabilities() if reliability is None else reliability
    ids = {type: graph.ids(type) for type in ("Content", "Platform", "Region", "License")}
    meant: dict[tuple[int, ...], tuple[str, ...]] = {}
    found = []
    table = graph.facts["AVAILABLE"]
    places_told = range(table.num_rows) if rows is None else rows.tolist()
    facts = (table if rows is None else table.take(rows)).to_pylist()
    for row, fact in zip(places_told, facts, strict=True):
        if rows is None and fact["start_ts"] is not None and fact["start_ts"] > as_of:
            continue
        places = tuple(fact.pop("region"))
        if places not in meant:
            meant[places] = expand_all(ids["Region"][place] for place in places)
        found.append(_window(row, fact, meant[places], ids, as_of, known))
    return found


def _window(
    row: int,
    fact: dict[str, Any],
    regions: tuple[str, ...],
    ids: Mapping[str, list[str]],
    as_of: int,
    known: Mapping[str, float],
) -> Window:
    license, start_ts, source = fact.pop("license"), fact.pop("start_ts"), fact.pop("source")
    confidence = fact.pop("confidence")
    recency = 0.5 if start_ts is None else freshness((as_of - start_ts) / DAY_S)
    return Window(
        fact_id=fact.pop("id"),
        fact_row=row,
        content_id=ids["Content"][fact.pop("content")],
        platform_id=ids["Platform"][fact.pop("platform")],
        regions=regions,
        license_id=None if license < 0 else ids["License"][license],
        span=Span(start_ts, fact.pop("end_ts")),
        source=source,
        confidence=confidence,
        weight=known.get(source, UNKNOWN_SOURCE) * recency * confidence,
        simulated=bool(fact.pop("simulated")),
        properties={name: _plain(value) for name, value in fact.items() if value is not None},
    )


def _plain(value: Any) -> Any:
    return tuple(sorted(value)) if isinstance(value, list) else value


def by_offer(told: Iterable[Window]) -> dict[Key, list[Window]]:
    """Windows of one content, platform, country and offer together; groups are their countries."""
    found: dict[Key, list[Window]] = {}
    for one in told:
        for region in one.regions:
            found.setdefault((one.content_id, one.platform_id, region, one.offer), []).append(one)
    return found


def settled(told: Iterable[Window]) -> dict[Key, tuple[list[Settled], list[Contested]]]:
    """What holds of each offer, and what is contested; see :func:`kg.intervals.settle`."""
    done: dict[tuple[str, ...], tuple[list[Settled], list[Contested]]] = {}  # alike in many countries
    found = {}
    for key, group in by_offer(told).items():
        facts = tuple(one.fact_id for one in group)
        if facts not in done:
            done[facts] = settle([_claim(one) for one in group])
        found[key] = done[facts]
    return found


def _claim(one: Window) -> Claim:
    terms = {name: one.properties[name] for name in TERMS if name in one.properties}
    return Claim(one.fact_id, one.source, one.span, one.weight, terms)


def contested(told: Iterable[Window]) -> list[ContestedWindow]:
    """Windows that contradict a heavier one, each with the reason, by content, platform and region."""
    found = []
    for key, group in by_offer(told).items():
        if len(group) == 1:
            continue
        known = {one.fact_id: one for one in group}
        for lost in settle([_claim(one) for one in group])[1]:
            found.append(
                ContestedWindow(*key, lost.span, lost.reason, known[lost.claim], known[lost.against])
            )
    return sorted(found, key=lambda one: (one.content_id, one.platform_id, one.region, one.span.first))


def trust_table(graph: GraphArrays, as_of: int) -> TrustTable:
    """Trust at ``as_of``, windows that are contested then counted as such."""
    rows = np.zeros(graph.fact_count("AVAILABLE"), bool)
    for one in contested(windows(graph, as_of)):
        if one.span.holds(as_of):
            rows[one.contested.fact_row] = True
    return TrustTable(graph, as_of, rows)


def exclusivity_conflicts(told: Iterable[Window]) -> list[ExclusivityConflict]:
    """Exclusive windows that another platform's window overlaps in the same region, with both as evidence."""
    by_content: dict[str, list[Window]] = {}
    for one in told:
        by_content.setdefault(one.content_id, []).append(one)
    found = []
    for content_id, group in sorted(by_content.items()):
        for one in group:
            if one.properties.get("exclusivity") != "exclusive":
                continue
            for other in group:
                both_exclusive = other.properties.get("exclusivity") == "exclusive"
                if other.platform_id == one.platform_id or both_exclusive and other.fact_id < one.fact_id:
                    continue
                regions = tuple(sorted(set(one.regions) & set(other.regions)))
                if regions and (span := one.span & other.span):
                    found.append(ExclusivityConflict(content_id, regions, span, one, other))
    return found


def violations(graph: GraphArrays, told: Iterable[Window], as_of: int) -> list[Violation]:
    """Windows outside the licence that they name, with the bound that each breaks.

    A window whose end is not known breaks the licence's end once ``as_of`` lies behind it.
    """
    ids, contents = graph.ids("License"), graph.ids("Content")
    licences = {id: graph.node("License", row) for row, id in enumerate(ids)}
    licensed: dict[str, dict[str, list[tuple[tuple[str, ...], Span]]]] = {}
    regions = graph.ids("Region")
    for fact in graph.facts["LICENSED"].to_pylist() if "LICENSED" in graph.facts else ():
        territory = expand_all(regions[place] for place in fact["region"])
        held = licensed.setdefault(ids[fact["license"]], {})
        held.setdefault(contents[fact["content"]], []).append(
            (territory, Span(fact["start_ts"], fact["end_ts"]))
        )
    found = []
    for one in told:
        if one.license_id is None:
            continue
        content = graph.node("Content", graph.row_of(one.content_id) or 0)
        grants = licensed.get(one.license_id, {})
        for bound, said, allowed in _broken(one, licences[one.license_id], grants, content, as_of):
            found.append(Violation(bound, said, allowed, one.license_id, one))
    return found


def _broken(
    one: Window,
    licence: Node,
    grants: Mapping[str, list[tuple[tuple[str, ...], Span]]],
    content: Node,
    as_of: int,
) -> Iterable[tuple[str, str, str]]:
    terms = licence.properties
    if grants and one.content_id not in grants:
        yield "content", one.content_id, ", ".join(sorted(grants))
    territory: set[str] | None = None
    if "regions" in terms:
        territory = set(expand_all(f"region:{code.removeprefix('region:')}" for code in terms["regions"]))  # type: ignore[union-attr]
    spans = [Span(terms.get("valid_from_ts"), terms.get("valid_until_ts"))]  # type: ignore[arg-type]
    if granted := grants.get(one.content_id):
        countries = {code for codes, _ in granted for code in codes}
        territory = countries if territory is None else territory & countries
        spans.append(
            Span(
                None if any(s.start_ts is None for _, s in granted) else min(s.first for _, s in granted),
                None if any(s.end_ts is None for _, s in granted) else max(s.last for _, s in granted),
            )
        )
    if territory is not None and (outside := sorted(set(one.regions) - territory)):
        yield "territory", ", ".join(outside), ", ".join(sorted(territory)) or "nowhere"
    for bounds in spans:
        if _leaves(one.span, bounds, as_of):
            yield "time", tell_span(one.span), tell_span(bounds)
    yield from _too_early(one, terms.get("holdback_days"), content)
    for bound, names, allowed in (
        ("quality", ("quality_tiers",), terms.get("quality_tiers")),
        ("language", ("audio_languages", "subtitle_languages", "dubbed_languages"), terms.get("languages")),
    ):
        said = {word for name in names for word in one.properties.get(name, ())}
        if allowed is not None and (beyond := sorted(said - set(allowed))):  # type: ignore[arg-type]
            yield bound, ", ".join(beyond), ", ".join(sorted(allowed))  # type: ignore[arg-type]


def _leaves(span: Span, bounds: Span, as_of: int) -> bool:
    if span.first < bounds.first and span.start_ts is not None:
        return True
    end = as_of + 1 if span.end_ts is None else span.last  # an end that is not known lies behind as_of
    return end > bounds.last


def _too_early(one: Window, holdback_days: Any, content: Node) -> Iterable[tuple[str, str, str]]:
    day = str(content.properties.get("release_date", ""))
    if holdback_days is None or len(day) != len("1999-12-31") or one.span.start_ts is None:
        return
    free = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=int(holdback_days))
    if one.span.start_ts < free.timestamp():
        yield (
            "holdback",
            f"from {_day(one.span.start_ts)}",
            f"from {_day(int(free.timestamp()))}, {holdback_days} days after {day}",
        )


def expiring(told: Iterable[Window], region: str, days: int, at: int) -> list[Expiry]:
    """What platforms lose in a region within ``days`` of ``at``, and what they lost in the ``days`` before.

    From windows as they are settled: one that another continues does not end. Soonest first.
    """
    here = [one for one in told if region in one.regions]
    found = []
    for key, (held, _) in settled(here).items():
        if key[2] != region:
            continue
        for window in held:
            end_ts = window.span.end_ts
            if end_ts is not None and at - days * DAY_S < end_ts <= at + days * DAY_S:
                if window.span.first <= at:
                    found.append(Expiry(*key, end_ts, alert(end_ts, at), window.sources))
    return sorted(found, key=lambda one: (one.end_ts, one.content_id, one.platform_id))


def alert(end_ts: int, at: int) -> str:
    """The alert that is due at ``at`` for a window that ends at ``end_ts``.

    Example:
        >>> [alert(40 * 86_400, day * 86_400) for day in (9, 10, 33, 39, 40)]
        ['', '30 days', '7 days', '1 day', 'expired']
    """
    if end_ts <= at:
        return "expired"
    due = [days for days in ALERT_DAYS if end_ts - at <= days * DAY_S]
    return "" if not due else "1 day" if min(due) == 1 else f"{min(due)} days"


def tell_span(span: Span) -> str:
    """A span in days, the last one included.

    Example:
        >>> tell_span(Span(0, 172_800)), tell_span(Span())
        ('1970-01-01 to 1970-01-02', 'start not known to end not known')
    """
    start = "start not known" if span.start_ts is None else _day(span.start_ts)
    return f"{start} to {'end not known' if span.end_ts is None else _day(span.end_ts - 1)}"


def _day(ts: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ts)).date().isoformat()
