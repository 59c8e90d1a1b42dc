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


@st.composite
def windows(draw):
    start = draw(st.one_of(st.none(), st.integers(0, 20)))
    end = draw(st.one_of(st.none(), st.integers((start or 0) + 1, 30)))
    return Hyperedge(
        "AVAILABLE",
        {
            "content": (draw(st.sampled_from(CONTENTS)),),
            "platform": (draw(st.sampled_from(PLATFORMS)),),
            "region": tuple(f"region:{code}" for code in draw(st.sets(st.sampled_from(REGIONS), min_size=1))),
        },
        "s",
        {"offer": draw(st.sampled_from(["subscription", "rent", "free"]))},
        None if start is None else start * DAY_S,
        None if end is None else end * DAY_S,
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


@settings(max_examples=60, deadline=None)
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
        naive = [
            fact
            for fact in facts
            if fact.members["content"] == (content,) and covers(fact, region) and holds(fact, at)
        ]
        paid = [fact for fact in naive if platforms is None or fact.members["platform"][0] in platforms]
        assert index.mask(region, at, platforms)[row] == bool(paid)
        assert len(index.offers(row, region, at)) == len(naive)
        viewer = Viewer(region, None if platforms is None else tuple(platforms))
        assert len(index.available(row, viewer, at)) == len(paid)
        assert (row in index.contents(viewer, at)) == bool(paid)
        assert index.filter(np.array([row, row]), viewer, at).tolist() == [bool(paid)] * 2


@settings(max_examples=40, deadline=None)
@given(st.lists(windows(), max_size=8), st.integers(0, 20), st.integers(1, 10))
def test_expiring_equals_the_naive_reading(facts, day, days):
    graph, facts = build(facts)
    at = day * DAY_S
    naive = sorted(
        fact.end_ts
        for fact in facts
        if covers(fact, "DE")
        and holds(fact, at)
        and fact.end_ts is not None
        and fact.end_ts <= at + days * DAY_S
    )
    assert [offer.end_ts for offer in AvailabilityIndex(graph).expiring("DE", days, at)] == naive


def test_a_paid_platform_stands_first():
    def window(platform, offer):
        members = {"content": ("content:0",), "platform": (platform,), "region": ("region:US",)}
        return Hyperedge("AVAILABLE", members, "s", {"offer": offer})

    graph, _ = build([window("platform:p", "free"), window("platform:q", "subscription")])
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
    def window(source, offer, tiers=(), price=None, confidence=1.0):
        members = {"content": ("content:0",), "platform": ("platform:p",), "region": ("region:US",)}
        said = {"offer": offer, **({"price": price, "currency": "USD"} if price else {})}
        return Hyperedge(
            "AVAILABLE",
            members,
            source,
            said | ({"quality_tiers": tiers} if tiers else {}),
            None,
            None,
            confidence,
        )

    wanted = [
        window("a", "free"),
        window("b", "ads"),
        window("c", "rent", ("HD",), 2.0),
        window("d", "rent", ("SD", "4K"), 3.0),
        window("justwatch", "rent", ("HD",), 3.0),
        window("e", "rent", ("HD",), 3.0),
        window("f", "buy", (), 1.0),
    ]
    graph, _ = build(wanted[::-1])
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
