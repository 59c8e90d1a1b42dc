"""The availability index against a naive reading of the same windows, moment by moment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.arrays import from_records
from kg.availability import DAY_S, AvailabilityIndex, Viewer, viewer_of
from kg.records import Hyperedge, Node

CONTENTS, PLATFORMS, REGIONS = (
    ["content:0", "content:1", "content:2"],
    ["platform:p", "platform:q"],
    ["US", "DE", "ZZ", "EU"],
)
NODES = (
    [Node("Content", id) for id in CONTENTS]
    + [Node("Platform", id, {"name": id[-1]}) for id in PLATFORMS]
    + [Node("Region", f"region:{code}") for code in REGIONS]
)


PRICES = ({}, {"price": 3.0, "currency": "USD"}, {"price": 4.0, "currency": "USD"})


@st.composite
def windows(draw, prices=PRICES):
    start = draw(st.one_of(st.none(), st.integers(0, 20)))
    end = draw(st.one_of(st.none(), st.integers((start or 0) + 1, 30)))
    return Hyperedge(
        "AVAILABLE",
        {
            "content": (draw(st.sampled_from(CONTENTS)),),
            "platform": (draw(st.sampled_from(PLATFORMS)),),
            "region": tuple(f"region:{code}" for code in draw(st.sets(st.sampled_from(REGIONS), min_size=1))),
        },
        draw(st.sampled_from(["justwatch", "blog", "other"])),
        {"offer": draw(st.sampled_from(["subscription", "rent"])), **draw(st.sampled_from(prices))},
        None if start is None else start * DAY_S,
        None if end is None else end * DAY_S,
        draw(st.sampled_from([0.5, 1.0])),
    )


def build(facts):
    unique = {fact.id: fact for fact in facts}
    return from_records(
        "windows",
        lambda type: [node for node in NODES if node.type == type],
        lambda type: [fact for fact in unique.values() if fact.type == type],
    ), list(unique.values())


def holds(fact, at):
    return (fact.start_ts is None or fact.start_ts <= at) and (fact.end_ts is None or at < fact.end_ts)


def covers(fact, code):
    """Germany and France lie in the EU; France is no node of its own."""
    named = {region.partition(":")[2] for region in fact.members["region"]}
    return code in named or (code in ("DE", "FR") and "EU" in named)


def weight(fact, as_of):
    reliability = 0.7 if fact.source == "justwatch" else 0.2
    age_days = (as_of - fact.start_ts) / DAY_S if fact.start_ts is not None else 1000
    return reliability * max(0.5, np.exp(-0.01 * age_days)) * fact.confidence


def referee(facts, as_of, at):
    """Facts of one offer in a country that hold at a moment, the heaviest first; and those contested then."""
    ranked = sorted(
        facts,
        key=lambda one: (
            -weight(one, as_of),
            -(2**62) if one.start_ts is None else -one.start_ts,
            one.source,
            one.id,
        ),
    )
    holding, lost = [], []
    for one in (fact for fact in ranked if holds(fact, at)):
        is_ended = one.end_ts is None and any(
            other.source != one.source
            and other.end_ts is not None
            and (-(2**62) if one.start_ts is None else one.start_ts) < other.end_ts <= at
            and weight(other, as_of) >= weight(one, as_of)
            for other in facts
        )
        price = one.properties.get("price")
        differs = any(price not in (None, known) for known in prices_of(holding))
        (lost if is_ended or differs else holding).append(one)
    return holding, lost


def prices_of(facts):
    return {fact.properties["price"] for fact in facts if "price" in fact.properties}


def settled(facts, content, region, at):
    """(platform, offer) -> what holds and what is contested there and then, by the referee."""
    as_of = max([0, *(fact.start_ts or 0 for fact in facts)])
    offers = {}
    for fact in facts:
        if fact.members["content"] == (content,) and covers(fact, region):
            offers.setdefault((fact.members["platform"][0], fact.properties["offer"]), []).append(fact)
    return {key: referee(told, as_of, at) for key, told in offers.items()}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(windows(), max_size=8),
    st.integers(-1, 31),
    st.sampled_from(["US", "DE", "FR", "ZZ"]),
    st.sampled_from([None, ["platform:p"], []]),
)
def test_mask_and_offers_equal_the_naive_reading(facts, day, region, platforms):
    graph, facts = build(facts)
    index, at = AvailabilityIndex(graph), day * DAY_S
    for row, content in enumerate(CONTENTS):
        naive = settled(facts, content, region, at)
        held = {key: holding for key, (holding, _) in naive.items() if holding}
        paid = [key for key in held if platforms is None or key[0] in platforms]
        assert index.mask(region, at, platforms)[row] == bool(paid)
        offers = {(offer.platform_id, offer.offer): offer for offer in index.offers(row, region, at)}
        assert offers.keys() == held.keys() and len(index.offers(row, region, at)) == len(held)
        for key, holding in held.items():
            assert prices_of(holding) <= {offers[key].price}
            assert offers[key].source in {fact.source for fact in facts}
        viewer = Viewer(region, None if platforms is None else tuple(platforms))
        assert len(index.available(row, viewer, at)) == len(paid)
        assert (row in index.contents(viewer, at)) == bool(paid)
        assert index.filter(np.array([row, row]), viewer, at).tolist() == [bool(paid)] * 2


def told(offer):
    return offer.platform_id, offer.offer, offer.source, offer.price


@settings(max_examples=60, deadline=None)
@given(st.lists(windows(), min_size=2, max_size=8), st.sampled_from(["US", "DE", "FR"]))
def test_what_does_not_hold_stays_as_contested_with_the_reason(facts, region):
    graph, facts = build(facts)
    index = AvailabilityIndex(graph)
    for row, content in enumerate(CONTENTS):
        contested = index.contested(row, region)
        assert all(one.contested for one in contested) and {one.region for one in contested} <= {region}
        for day in range(-1, 32):
            naive = settled(facts, content, region, day * DAY_S).items()
            lost = {
                (*key, one.source, one.properties.get("price")) for key, (_, gone) in naive for one in gone
            }
            assert {told(one) for one in contested if holds(one, day * DAY_S)} == lost


@settings(max_examples=40, deadline=None)
@given(st.lists(windows(PRICES[:1]), max_size=8), st.integers(0, 20), st.integers(1, 10))
def test_expiring_equals_the_naive_reading(facts, day, days):
    graph, facts = build(facts)
    ends = []
    for content in CONTENTS:
        known = [settled(facts, content, "DE", moment * DAY_S) for moment in range(day, 40)]
        for key in known[0]:
            run = next((n for n, offers in enumerate(known) if not offers[key][0]), None)
            if run is not None and 0 < run <= days:
                ends.append((day + run) * DAY_S)
    found = AvailabilityIndex(graph).expiring("DE", days, day * DAY_S)
    assert [offer.end_ts for offer in found] == sorted(ends)


def window(source, price=None, confidence=1.0, start=0, end=None, **said):
    members = {"content": ("content:0",), "platform": ("platform:p",), "region": ("region:US",)}
    named = {"offer": "rent", **said, **({} if price is None else {"price": price, "currency": "USD"})}
    return Hyperedge("AVAILABLE", members, source, named, start, end, confidence)


def test_the_heavier_price_holds_and_the_lighter_one_is_told_as_contested():
    graph, _ = build([window("justwatch", 3.0), window("blog", 4.0, end=50 * DAY_S)])
    index = AvailabilityIndex(graph)
    assert [(one.source, one.price) for one in index.offers(0, "US", 0)] == [("justwatch", 3.0)]
    (lost,) = index.contested(0)
    assert (lost.source, lost.price, lost.end_ts) == ("blog", 4.0, 50 * DAY_S)
    assert lost.contested == "price 4.0 against 3.0 of justwatch (weight 0.70 to 0.20)"


def test_an_end_that_another_source_tells_ends_a_window_of_unknown_end():
    graph, _ = build([window("blog"), window("justwatch", end=10 * DAY_S)])
    index = AvailabilityIndex(graph)
    assert index.mask("US", 9 * DAY_S)[0] and not index.mask("US", 10 * DAY_S)[0]
    assert [one.end_ts for one in index.expiring("US", 30, 0)] == [10 * DAY_S]


def test_windows_that_agree_are_one_and_made_up_where_one_is():
    graph, _ = build([window("justwatch", 3.0), window("blog", 3.0, start=DAY_S, simulated=True)])
    (one,) = AvailabilityIndex(graph).offers(0)
    assert (one.source, one.start_ts, one.price, one.simulated) == ("justwatch", 0, 3.0, True)


@pytest.mark.parametrize(
    ("told", "is_verified"),
    [
        (window("justwatch"), True),
        (window("justwatch", confidence=0.7), False),
        (window("blog"), False),
        (window("justwatch", is_verified=False), False),
    ],
)
def test_an_offer_that_is_believed_by_less_than_half_is_unverified(told, is_verified):
    graph, _ = build([told])
    assert AvailabilityIndex(graph).offers(0)[0].is_verified == is_verified


def test_a_paid_platform_stands_first():
    def on(platform, offer):
        members = {"content": ("content:0",), "platform": (platform,), "region": ("region:US",)}
        return Hyperedge("AVAILABLE", members, "s", {"offer": offer})

    graph, _ = build([on("platform:p", "free"), on("platform:q", "subscription")])
    index = AvailabilityIndex(graph)
    assert [offer.platform for offer in index.offers(0, "US", 0, ["platform:q"])] == ["q", "p"]
    assert [offer.offer for offer in index.offers(0, "US", 0)] == ["subscription", "free"]


def test_a_graph_without_windows_has_nothing():
    graph, _ = build([])
    assert not AvailabilityIndex(graph).mask("US", 0).any()
    assert not AvailabilityIndex(graph).mask("FR", 0).any()


def test_an_offer_that_the_source_does_not_tell_is_not_called_a_subscription():
    members = {"content": ("content:0",), "platform": ("platform:p",), "region": ("region:US",)}
    graph, _ = build([Hyperedge("AVAILABLE", members, "s")])
    assert [offer.offer for offer in AvailabilityIndex(graph).offers(0)] == ["offer not known"]


def test_offers_go_by_kind_then_price_then_quality_then_trust():
    def on(source, offer, tiers=(), price=None):
        members = {
            "content": ("content:0",),
            "platform": (f"platform:{source}",),
            "region": ("region:US",),
        }
        said = {"offer": offer, **({"price": price, "currency": "USD"} if price else {})}
        return Hyperedge("AVAILABLE", members, source, said | ({"quality_tiers": tiers} if tiers else {}))

    wanted = [
        on("a", "free"),
        on("b", "ads"),
        on("c", "rent", ("HD",), 2.0),
        on("d", "rent", ("SD", "4K"), 3.0),
        on("justwatch", "rent", ("HD",), 3.0),
        on("e", "rent", ("HD",), 3.0),
        on("f", "buy", (), 1.0),
    ]
    nodes = [*NODES, *(Node("Platform", f"platform:{one.source}") for one in wanted)]
    graph = from_records(
        "offers",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: wanted[::-1] if type == "AVAILABLE" else [],
    )
    assert [one.source for one in AvailabilityIndex(graph).offers(0)] == [one.source for one in wanted]


def test_a_user_is_a_viewer_where_a_country_is_known():
    users = [
        Node("User", "user:a", {"region": "US", "subscriptions": ("platform:p",)}),
        Node("User", "user:b", {"region": "DE"}),
        Node("User", "user:c"),
    ]
    graph = from_records("users", lambda type: users if type == "User" else [], lambda type: [])
    assert viewer_of(graph, "user:a") == Viewer("US", ("platform:p",))
    assert viewer_of(graph, "user:b") == Viewer("DE", None)
    for user_id, message in (("user:c", "no country is known"), ("user:x", "is no user of graph")):
        with pytest.raises(KeyError, match=message):
            viewer_of(graph, user_id)
