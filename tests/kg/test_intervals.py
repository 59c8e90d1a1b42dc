"""Spans against a reading day by day, and what holds against a referee who looks at one day at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.intervals import Claim, Span, settle, snapshots, union

DAYS = range(-2, 14)
edges = st.one_of(st.none(), st.integers(0, 10))


@st.composite
def spans(draw):
    start, end = draw(edges), draw(edges)
    if start is not None and end is not None:
        start, end = (start, end) if start < end else (end, start + 1)
    return Span(start, end)


@st.composite
def claim_lists(draw):
    return [
        Claim(
            f"c{place}",
            draw(st.sampled_from("ABC")),
            draw(spans()),
            draw(st.sampled_from([0.25, 0.5, 1.0])),
            draw(st.sampled_from([{}, {"price": 3}, {"price": 4}, {"price": 3, "tier": "HD"}])),
        )
        for place in range(draw(st.integers(1, 5)))
    ]


def days(*many):
    return {day for span in many for day in DAYS if span.holds(day)}


@given(spans(), spans())
def test_algebra_of_two_day_by_day(one, other):
    common = one & other
    assert (days(common) if common else set()) == days(one) & days(other)
    touches = any(one.first <= day <= one.last and other.first <= day <= other.last for day in DAYS)
    assert one.meets(other) == touches
    if one.meets(other):
        assert days(one | other) == days(one) | days(other)
    else:
        with pytest.raises(ValueError, match="keep them apart"):
            one | other


@given(st.lists(spans(), max_size=6), spans())
def test_union_and_without_day_by_day(many, one):
    joined = union(many)
    assert days(*joined) == days(*many)
    assert all(a.last < b.first for a, b in zip(joined, joined[1:], strict=False)), "none meet"
    left = one.without(many)
    assert days(*left) == days(one) - days(*many)
    assert all(a.last <= b.first for a, b in zip(left, left[1:], strict=False))


@given(st.sets(st.integers(0, 9), min_size=1), st.data())
def test_snapshots_day_by_day(taken, data):
    listed = data.draw(st.sets(st.sampled_from(sorted(taken))))
    found = snapshots(taken, listed)
    for day in DAYS:
        last = max((each for each in taken if each <= day), default=None)
        assert any(span.holds(day) for span in found) == (last in listed)


def test_a_title_is_not_listed_where_no_snapshot_was_taken():
    with pytest.raises(ValueError, match=r"got \[3\]: add these days"):
        snapshots([1, 2], [3])


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5)])
def test_spans_that_cannot_be(start, end):
    with pytest.raises(ValueError, match="ends after it starts"):
        Span(start, end)


def referee(claims, day):
    """Names of the claims that hold on a day, and of those that stand there contested."""
    here = [one for one in claims if one.span.holds(day)]
    here.sort(key=lambda one: (-one.weight, -one.span.first, one.source, one.id))
    holding, contested = [], set()
    for one in here:
        gone = one.span.end_ts is None and any(
            other.source != one.source
            and other.span.end_ts is not None
            and one.span.first < other.span.end_ts <= day
            and other.weight >= one.weight
            for other in claims
        )
        differs = any(
            one.terms[name] != other.terms[name]
            for other in holding
            for name in set(one.terms) & set(other.terms)
        )
        contested.add(one.id) if gone or differs else holding.append(one)
    return {one.id for one in holding}, contested


@given(claim_lists())
def test_what_holds_is_what_the_referee_says_on_each_day(claims):
    held, contested = settle(claims)
    for day in DAYS:
        holding, lost = referee(claims, day)
        windows = [window for window in held if window.span.holds(day)]
        assert len(windows) == (1 if holding else 0)
        assert {one.claim for one in contested if one.span.holds(day)} == lost
        for window in windows:
            assert holding <= set(window.claims)
            for one in claims:
                if one.id in holding:
                    assert one.terms.items() <= window.terms.items()
    told = {one.id for one in claims}
    assert told == {id for window in held for id in window.claims} | {one.claim for one in contested}
    assert all(one.reason and one.against in told - {one.claim} for one in contested)


@given(claim_lists())
def test_windows_that_touch_differ_and_order_does_not_matter(claims):
    held, contested = settle(claims)
    for one, two in zip(held, held[1:], strict=False):
        assert one.span.last < two.span.first or any(
            one.terms[name] != two.terms[name] for name in set(one.terms) & set(two.terms)
        )
    assert settle(claims[::-1]) == (held, contested)


def test_the_heavier_price_holds_and_the_other_stays_with_the_reason():
    claims = [
        Claim("a", "shop", Span(0, 5), 0.9, {"price": 3}),
        Claim("b", "list", Span(5, 8), 0.5, {}),
        Claim("c", "blog", Span(4, 9), 0.2, {"price": 4}),
    ]
    held, contested = settle(claims)
    # from 5 on nobody heavier names a price, so that of the blog holds
    assert [(one.span, one.terms, one.sources) for one in held] == [
        (Span(0, 5), {"price": 3}, ("shop",)),
        (Span(5, 9), {"price": 4}, ("blog", "list")),
    ]
    assert contested[0].claim == "c" and contested[0].span == Span(4, 5)
    assert contested[0].reason == "price 4 against 3 of shop (weight 0.90 to 0.20)"


def test_a_known_end_bounds_a_window_whose_end_is_not_known():
    known, unknown = Claim("a", "shop", Span(0, 5), 1.0), Claim("b", "list", Span(2, None), 0.7)
    held, contested = settle([known, unknown])
    assert [one.span for one in held] == [Span(0, 5)]
    assert [(one.claim, one.span) for one in contested] == [("b", Span(5, None))]
    assert "list does not know the end, shop tells it" in contested[0].reason
    # who saw it later, or counts for more, is not bound
    later = Claim("c", "list", Span(5, None), 0.7)
    assert [one.span for one in settle([known, later])[0]] == [Span(0, None)]
    heavier = Claim("d", "owner", Span(2, None), 2.0)
    assert settle([known, heavier])[1] == []
