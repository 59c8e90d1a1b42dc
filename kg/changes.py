"""What changed on the platforms between two moments: arrived, left, another price, another owner."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kg.arrays import GraphArrays
from kg.intervals import Span
from kg.records import Hyperedge, Node
from kg.regions import expand, expand_all


@dataclass(frozen=True)
class Presence:
    """A content that a platform has in some countries."""

    content_id: str
    platform_id: str
    regions: tuple[str, ...]
    """ISO codes."""


@dataclass(frozen=True)
class PriceChange:
    """An offer whose price is another one than before."""

    content_id: str
    platform_id: str
    region: str
    offer: str
    before: str
    """Price and currency, as ``3.99 EUR``."""
    after: str


@dataclass(frozen=True)
class OwnerChange:
    """A content that went from one platform to another in some countries."""

    content_id: str
    before: tuple[str, ...]
    """Platform ids that no longer have it."""
    after: tuple[str, ...]
    """Platform ids that did not have it."""
    regions: tuple[str, ...]


@dataclass(frozen=True)
class Diff:
    """What changed from one moment to another."""

    from_ts: int
    to_ts: int
    stayed: tuple[Presence, ...]
    arrived: tuple[Presence, ...]
    left: tuple[Presence, ...]
    prices: tuple[PriceChange, ...]
    owners: tuple[OwnerChange, ...]
    simulated: bool
    """True where one of the windows compared is made up."""


@dataclass(frozen=True)
class _Moment:
    """What is available at one moment."""

    places: dict[tuple[str, str], set[str]]
    """(content id, platform id) -> ISO codes."""
    prices: dict[tuple[str, str, str, str], set[str]]
    """(content id, platform id, ISO code, offer) -> prices."""
    simulated: bool


def diff(
    graph: GraphArrays, from_ts: int, to_ts: int, platform: str | None = None, region: str | None = None
) -> Diff:
    """Compares what is available at two moments.

    A content that arrived in one country and stayed in another stands in both lists, with its countries.

    Args:
        graph: whose windows.
        from_ts: UTC seconds.
        to_ts: UTC seconds, later.
        platform: id of the only platform that counts; None counts all.
        region: ISO code of the only country that counts; None counts all.

    Raises:
        ValueError: the second moment is not later, or the graph has no such platform.
    """
    if to_ts <= from_ts:
        raise ValueError(f"the second moment is later than the first, got {from_ts} and {to_ts}: swap them")
    if platform is not None and graph.row_of(platform) is None:
        raise ValueError(
            f"platform is one of {', '.join(graph.ids('Platform'))}, got {platform!r}: use one of these"
        )
    before, after = (_moment(graph, at, platform, region) for at in (from_ts, to_ts))
    return Diff(
        from_ts,
        to_ts,
        stayed=_presences(before.places, after.places, lambda one, two: one & two),
        arrived=_presences(before.places, after.places, lambda one, two: two - one),
        left=_presences(before.places, after.places, lambda one, two: one - two),
        prices=_price_changes(before, after),
        owners=_owner_changes(before, after),
        simulated=before.simulated or after.simulated,
    )


def ids_of(graph: GraphArrays, content_ids: Collection[str], scheme: str = "imdb") -> set[str]:
    """Identifiers of one scheme that some contents carry: how many titles they are to an outsider."""
    rows = [graph.row_of(content_id) for content_id in content_ids]
    column = graph.nodes["Content"]["ids"].to_pylist() if rows else []
    pairs = (pair for row in rows if row is not None for pair in column[row] or ())
    return {pair for pair in pairs if pair.startswith(f"{scheme}:")}


@dataclass(frozen=True)
class ToldDiff:
    """What changed by the identifiers that the sources themselves tell, before anything is merged."""

    stayed: frozenset[str]
    arrived: frozenset[str]
    left: frozenset[str]


def told_diff(
    records: Iterable[Node | Hyperedge],
    from_ts: int,
    to_ts: int,
    platform: str,
    region: str,
    scheme: str = "imdb",
) -> ToldDiff:
    """Compares the identifiers of the titles that a platform has at two moments, as sources tell them.

    Titles to which no identifier of the scheme is told do not count; in the graph they do.

    Args:
        records: what sources read, a node before the facts that name it; told again in a later snapshot, it
            may carry another identifier.
        from_ts: UTC seconds.
        to_ts: UTC seconds, later.
        platform: id.
        region: ISO code.
        scheme: of the identifiers.
    """
    known: dict[str, frozenset[str]] = {}
    before: set[str] = set()
    after: set[str] = set()
    for record in records:
        if isinstance(record, Node):
            if record.type == "Content":
                ids = record.properties.get("ids", ())
                known[record.id] = frozenset(id for id in ids if id.startswith(f"{scheme}:"))  # type: ignore[union-attr]
        elif record.type == "AVAILABLE" and record.members["platform"] == (platform,):
            if region in expand_all(record.members["region"]):
                span = Span(record.start_ts, record.end_ts)
                for at, found in ((from_ts, before), (to_ts, after)):
                    if span.holds(at):
                        found |= known.get(record.members["content"][0], frozenset())
    return ToldDiff(frozenset(before & after), frozenset(after - before), frozenset(before - after))


def _moment(graph: GraphArrays, at: int, platform: str | None, region: str | None) -> _Moment:
    places: dict[tuple[str, str], set[str]] = {}
    prices: dict[tuple[str, str, str, str], set[str]] = {}
    holds = (graph.starts("AVAILABLE") <= at) & (at < graph.ends("AVAILABLE"))
    if not holds.any():
        return _Moment(places, prices, False)
    contents, platforms = graph.ids("Content"), graph.ids("Platform")
    meant = [expand(id) for id in graph.ids("Region")]
    is_simulated = False
    for fact in graph.facts["AVAILABLE"].take(np.flatnonzero(holds)).to_pylist():
        key = contents[fact["content"]], platforms[fact["platform"]]
        codes = {code for place in fact["region"] for code in meant[place] if region in (None, code)}
        if platform not in (None, key[1]) or not codes:
            continue
        is_simulated |= bool(fact["simulated"])
        places.setdefault(key, set()).update(codes)
        if fact["price"] is not None:
            for code in codes:
                told = prices.setdefault((*key, code, fact["offer"] or ""), set())
                told.add(f"{fact['price']:.2f} {fact['currency'] or ''}".strip())
    return _Moment(places, prices, is_simulated)


def _presences(
    before: Mapping[tuple[str, str], set[str]],
    after: Mapping[tuple[str, str], set[str]],
    kept: Callable[[set[str], set[str]], set[str]],
) -> tuple[Presence, ...]:
    found = []
    for key in sorted(before.keys() | after.keys()):
        if codes := kept(before.get(key, set()), after.get(key, set())):
            found.append(Presence(*key, tuple(sorted(codes))))
    return tuple(found)


def _price_changes(before: _Moment, after: _Moment) -> tuple[PriceChange, ...]:
    return tuple(
        PriceChange(*key, " / ".join(sorted(before.prices[key])), " / ".join(sorted(after.prices[key])))
        for key in sorted(before.prices.keys() & after.prices.keys())
        if before.prices[key] != after.prices[key]
    )


def _owner_changes(before: _Moment, after: _Moment) -> tuple[OwnerChange, ...]:
    old, new = _by_country(before), _by_country(after)
    moved: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for content_id, code in sorted(old.keys() & new.keys()):
        gone, come = (
            old[content_id, code] - new[content_id, code],
            new[content_id, code] - old[content_id, code],
        )
        if gone and come:
            moved.setdefault((content_id, tuple(sorted(gone)), tuple(sorted(come))), []).append(code)
    return tuple(OwnerChange(*key, tuple(codes)) for key, codes in moved.items())


def _by_country(moment: _Moment) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for (content_id, platform_id), codes in moment.places.items():
        for code in codes:
            found.setdefault((content_id, code), set()).add(platform_id)
    return found
