"""Half-open spans of time, and what holds when several sources speak of the same thing.

A span is [start, end) in UTC seconds; None is open on that side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_NEVER, _ALWAYS = -(2**62), 2**62
_SAID_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Span:
    """The time from ``start_ts`` on and before ``end_ts``.

    Example:
        >>> Span(0, 5).meets(Span(5, None)), Span(0, 5) & Span(3, 9), Span(0, 5) & Span(5, 9)
        (True, Span(start_ts=3, end_ts=5), None)
    """

    start_ts: int | None = None
    end_ts: int | None = None

    def __post_init__(self) -> None:
        if self.last <= self.first:
            raise ValueError(
                f"a span ends after it starts, got {self.start_ts} to {self.end_ts}: swap them or drop it"
            )

    @property
    def first(self) -> int:
        """Its start as a number; an open one lies before every time."""
        return _NEVER if self.start_ts is None else self.start_ts

    @property
    def last(self) -> int:
        """Its end as a number; an open one lies after every time."""
        return _ALWAYS if self.end_ts is None else self.end_ts

    def holds(self, at: int) -> bool:
        """Whether ``at`` lies in it."""
        return self.first <= at < self.last

    def meets(self, other: "Span") -> bool:
        """Whether they overlap or touch, so that together they are one span."""
        return self.first <= other.last and other.first <= self.last

    def __and__(self, other: "Span") -> "Span | None":
        """The time that both hold, None where there is none."""
        return _span(max(self.first, other.first), min(self.last, other.last))

    def __or__(self, other: "Span") -> "Span":
        """From the earlier start to the later end of two spans that meet."""
        if not self.meets(other):
            raise ValueError(f"spans that are joined meet, got {self} and {other}: keep them apart")
        return Span(
            None if None in (self.start_ts, other.start_ts) else min(self.first, other.first),
            None if None in (self.end_ts, other.end_ts) else max(self.last, other.last),
        )

    def without(self, others: Iterable["Span"]) -> list["Span"]:
        """What is left of it when ``others`` are taken away, earliest first.

        Example:
            >>> Span(0, 10).without([Span(2, 4), Span(3, 6)])
            [Span(start_ts=0, end_ts=2), Span(start_ts=6, end_ts=10)]
        """
        left, at = [], self.first
        for other in sorted(others, key=lambda span: span.first):
            if piece := _span(at, min(other.first, self.last)):
                left.append(piece)
            at = max(at, other.last)
        if piece := _span(at, self.last):
            left.append(piece)
        return left


def _span(first: int, last: int) -> Span | None:
    if last <= first:
        return None
    return Span(None if first <= _NEVER else first, None if last >= _ALWAYS else last)


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time as spans that neither overlap nor touch, earliest first.

    Example:
        >>> union([Span(5, None), Span(0, 2), Span(2, 3)])
        [Span(start_ts=0, end_ts=3), Span(start_ts=5, end_ts=None)]
    """
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        if joined and joined[-1].meets(span):
            joined[-1] = joined[-1] | span
        else:
            joined.append(span)
    return joined


def snapshots(days: Iterable[int], listed: Iterable[int]) -> list[Span]:
    """When a title was there, by the snapshots that list it.

    A snapshot of day D speaks for [D, next snapshot of that platform and region); the last one is open.

    Args:
        days: UTC seconds of every snapshot of a platform in a region.
        listed: those of ``days`` on which the title stands there.

    Example:
        >>> snapshots([0, 10, 20, 30], listed=[0, 10, 30])
        [Span(start_ts=0, end_ts=20), Span(start_ts=30, end_ts=None)]
    """
    every, there = sorted(set(days)), set(listed)
    if strange := there - set(every):
        raise ValueError(f"a title is listed on days of snapshots, got {sorted(strange)}: add these days")
    ends: list[int | None] = [*every[1:], None]
    return union(Span(day, end) for day, end in zip(every, ends, strict=True) if day in there)


@dataclass(frozen=True)
class Claim:
    """What one source says holds over a span."""

    id: str
    """Of the fact; breaks ties."""
    source: str
    span: Span
    weight: float
    """Reliability x recency x confidence, 0 to 1: which claim holds where two contradict."""
    terms: Mapping[str, Any] = field(default_factory=lambda: _SAID_NOTHING)
    """Price, currency, …; two claims contradict where both name a term and differ."""


@dataclass(frozen=True)
class Settled:
    """A span over which the claims named agree."""

    span: Span
    terms: Mapping[str, Any]
    claims: tuple[str, ...]
    """Ids, the heaviest first."""
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Contested:
    """A claim that does not hold over a span, because a heavier one says otherwise."""

    claim: str
    span: Span
    against: str
    """Id of the claim that holds."""
    reason: str


def settle(claims: Sequence[Claim]) -> tuple[list[Settled], list[Contested]]:
    """What holds when, out of all that is said of one content x platform x region x offer.

    Moment by moment: the heaviest claim holds, those that agree with it stand beside it, the others are
    contested. An open end means that the end is not known: where another source, not lighter, tells an end of
    the same window, what lies behind it is contested. Spans that touch and agree are joined. Each moment of
    each claim is in one of the two answers, so nothing is dropped.

    Args:
        claims: at most one content, platform, region and offer.

    Returns:
        Spans that hold, earliest first and never overlapping; and what is contested, by claim.

    Cost: O(c^2) for c claims.
    """
    if len(claims) == 1:
        return [_settled(claims, claims[0].span)], []
    ranked = sorted(claims, key=lambda one: (-one.weight, -one.span.first, one.source, one.id))
    held: list[Settled] = []
    lost: dict[tuple[str, str, str], list[Span]] = {}
    edges = sorted({edge for one in ranked for edge in (one.span.first, one.span.last)})
    for first, last in zip(edges, edges[1:], strict=False):
        here = [one for one in ranked if one.span.first <= first and last <= one.span.last]
        span = _span(first, last)
        if span is None or not here:
            continue
        agreed = []
        for one in here:
            if (other := _ended(one, first, ranked)) is not None:
                lost.setdefault((one.id, other.id, _end_reason(one, other)), []).append(span)
            elif (other := _against(one, agreed)) is not None:
                lost.setdefault((one.id, other.id, _terms_reason(one, other)), []).append(span)
            else:
                agreed.append(one)
        if agreed:
            _join(held, _settled(agreed, span))
    contested = [
        Contested(claim, span, against, reason)
        for (claim, against, reason), spans in lost.items()
        for span in union(spans)
    ]
    return held, sorted(contested, key=lambda one: (one.span.first, one.claim, one.against))


def _settled(agreed: Sequence[Claim], span: Span) -> Settled:
    terms = {name: value for one in reversed(agreed) for name, value in one.terms.items()}
    sources = tuple(sorted({one.source for one in agreed}))
    return Settled(span, terms, tuple(one.id for one in agreed), sources)


def _against(one: Claim, agreed: Sequence[Claim]) -> Claim | None:
    return next((other for other in agreed if _differing(one.terms, other.terms)), None)


def _differing(terms: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in terms.keys() & others.keys() if terms[name] != others[name])


def _ended(one: Claim, at: int, claims: Sequence[Claim]) -> Claim | None:
    """The heaviest claim of another source that ends a window whose end this one does not know."""
    if one.span.end_ts is not None:
        return None
    return next(
        (
            other
            for other in claims
            if other.source != one.source
            and other.span.end_ts is not None
            and one.span.first < other.span.last <= at
            and other.weight >= one.weight
        ),
        None,
    )


def _end_reason(one: Claim, other: Claim) -> str:
    return (
        f"{one.source} does not know the end, {other.source} tells it (weight {other.weight:.2f} to "
        f"{one.weight:.2f})"
    )


def _terms_reason(one: Claim, other: Claim) -> str:
    told = "; ".join(
        f"{name} {one.terms[name]} against {other.terms[name]}" for name in _differing(one.terms, other.terms)
    )
    return f"{told} of {other.source} (weight {other.weight:.2f} to {one.weight:.2f})"


def _join(held: list[Settled], piece: Settled) -> None:
    last = held[-1] if held else None
    if last is None or last.span.last != piece.span.first or _differing(last.terms, piece.terms):
        held.append(piece)
        return
    held[-1] = Settled(
        last.span | piece.span,
        {**last.terms, **piece.terms},
        tuple(dict.fromkeys((*last.claims, *piece.claims))),
        tuple(sorted({*last.sources, *piece.sources})),
    )
