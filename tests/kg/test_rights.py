"""Contested windows, exclusivity, licences and endings: planted errors are found, and nothing else."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import rights
from kg.arrays import from_records
from kg.intervals import Span
from kg.records import Hyperedge, Node
from kg.windows import day_ts

DAY_S = 86_400
RELIABILITY = {"shop": 1.0, "list": 0.7}
CONTENTS, PLATFORMS = ("content:a", "content:b"), ("platform:p", "platform:q")
REGIONS = ("US", "DE", "FR", "EU")
LICENCE = {
    "regions": ("EU",),
    "valid_from_ts": day_ts("2020-01-01"),
    "valid_until_ts": day_ts("2022-01-01"),
    "holdback_days": 30,
    "quality_tiers": ("SD", "HD"),
    "languages": ("de", "en"),
}


def window(content=0, platform=0, regions=("US",), source="list", start=None, end=None, licence=None, **said):
    members = {
        "content": (CONTENTS[content],),
        "platform": (PLATFORMS[platform],),
        "region": tuple(f"region:{code}" for code in regions),
    }
    if licence:
        members["license"] = (licence,)
    return Hyperedge("AVAILABLE", members, source, {"offer": "rent", **said}, start, end)


def build(facts, terms=LICENCE):
    nodes = [
        Node("Content", "content:a", {"release_date": "2020-03-01"}),
        Node("Content", "content:b", {"release_year": 2020}),
        *(Node("Platform", id) for id in PLATFORMS),
        *(Node("Region", f"region:{code}") for code in REGIONS),
        Node("License", "license:l", terms),
    ]
    unique = list({fact.id: fact for fact in facts}.values())
    return from_records(
        "rights",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in unique if fact.type == type],
    )


def told(facts, as_of=100 * DAY_S):
    return rights.windows(build(facts), as_of, RELIABILITY)


def test_the_heavier_price_holds_and_the_other_is_contested_country_by_country():
    facts = [
        window(source="shop", regions=("DE",), start=0, price=3.0, currency="EUR"),
        window(source="list", regions=("EU",), start=0, end=50 * DAY_S, price=4.0, currency="EUR"),
    ]
    found = rights.contested(told(facts))
    assert [(one.region, one.contested.source, one.holds.source) for one in found] == [("DE", "list", "shop")]
    assert found[0].span == Span(0, 50 * DAY_S)
    # 100 days old: recency .5; reliability 1.0 and .7
    assert found[0].reason == "price 4.0 against 3.0 of shop (weight 0.50 to 0.35)"
    held, _ = rights.settled(told(facts))["content:a", "platform:p", "FR", "rent"]
    assert held[0].terms["price"] == 4.0


def test_windows_that_are_not_known_yet_say_nothing():
    assert told([window(start=10)], as_of=9) == []
    assert len(told([window(start=10)], as_of=10)) == len(told([window()], as_of=-5)) == 1


def test_a_contested_window_lowers_trust():
    facts = [
        window(source="justwatch", start=0, price=3.0, currency="EUR"),
        window(source="blog", start=0, price=4.0, currency="EUR"),
    ]
    graph = build(facts)
    table = rights.trust_table(graph, DAY_S)
    lost = graph.facts["AVAILABLE"]["source"].to_pylist().index("blog")
    assert table.offer(lost).corroboration == 0.0 and table.offer(1 - lost).corroboration == 1.0
    assert table.of(0).corroboration == 0.5 and table.of(0).availability == pytest.approx(0.7)


starts = st.one_of(st.none(), st.integers(0, 8))
exclusive_windows = st.builds(
    window,
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([("US",), ("DE",), ("EU",), ("FR", "US")]),
    st.just("list"),
    starts,
    st.one_of(st.none(), st.integers(9, 12)),
    exclusivity=st.sampled_from(["exclusive", "shared"]),
)


@settings(max_examples=60)
@given(st.lists(exclusive_windows, max_size=6))
def test_exclusivity_against_a_naive_reading_day_by_day(facts):
    every = told(facts)
    naive = set()
    for one, other in combinations(every, 2):
        if one.content_id == other.content_id and one.platform_id != other.platform_id:
            if "exclusive" in (one.properties["exclusivity"], other.properties["exclusivity"]):
                for code in set(one.regions) & set(other.regions):
                    naive |= {
                        (frozenset((one.fact_id, other.fact_id)), code, at)
                        for at in range(-1, 14)
                        if one.span.holds(at) and other.span.holds(at)
                    }
    found = rights.exclusivity_conflicts(every)
    assert {
        (frozenset((one.exclusive.fact_id, one.other.fact_id)), code, at)
        for one in found
        for code in one.regions
        for at in range(-1, 14)
        if one.span.holds(at)
    } == naive
    assert all(one.exclusive.properties["exclusivity"] == "exclusive" for one in found)
    pairs = [frozenset((one.exclusive.fact_id, one.other.fact_id)) for one in found]
    assert len(set(pairs)) == len(pairs), "each conflict once"


FINE = {
    "regions": ("DE",),
    "start": day_ts("2020-06-01"),
    "end": day_ts("2021-06-01"),
    "licence": "license:l",
    "quality_tiers": ("HD",),
    "audio_languages": ("de",),
}


@pytest.mark.parametrize(
    ("planted", "bound", "said", "allowed"),
    [
        ({"regions": ("US", "FR")}, "territory", "US", "AT, BE"),
        ({"start": day_ts("2019-06-01"), "content": 1}, "time", "2019-06-01 to 2021-05-31", "2020-01-01 to"),
        ({"end": day_ts("2022-01-02")}, "time", "to 2022-01-01", "to 2021-12-31"),
        ({"start": day_ts("2020-03-30")}, "holdback", "from 2020-03-30", "from 2020-03-31, 30 days after"),
        ({"quality_tiers": ("4K", "HD")}, "quality", "4K", "HD, SD"),
        ({"dubbed_languages": ("fr",)}, "language", "fr", "de, en"),
    ],
)
def test_a_planted_violation_names_the_bound_that_it_breaks(planted, bound, said, allowed):
    as_of = day_ts("2021-01-01")
    graph = build([window(**{**FINE, **planted})])
    found = rights.violations(graph, rights.windows(graph, as_of, RELIABILITY), as_of)
    assert [one.bound for one in found] == [bound]
    assert said in found[0].told and allowed in found[0].allowed and found[0].license_id == "license:l"


@pytest.mark.parametrize(
    "inside",
    [{}, {"start": day_ts("2020-03-31")}, {"end": day_ts("2022-01-01")}, {"end": None}, {"licence": None}],
)
def test_a_window_within_its_licence_breaks_nothing(inside):
    as_of = day_ts("2021-01-01")
    graph = build([window(**{**FINE, **inside})])
    assert rights.violations(graph, rights.windows(graph, as_of, RELIABILITY), as_of) == []


def test_an_end_that_is_not_known_breaks_the_licence_once_it_is_over():
    graph = build([window(**{**FINE, "end": None})])
    for day, bounds in (("2021-12-31", []), ("2022-01-01", ["time"])):
        every = rights.windows(graph, day_ts(day), RELIABILITY)
        assert [one.bound for one in rights.violations(graph, every, day_ts(day))] == bounds


def test_what_was_licensed_bounds_too():
    def licensed(content, regions):
        members = {
            "content": (content,),
            "license": ("license:l",),
            "region": tuple(f"region:{code}" for code in regions),
        }
        return Hyperedge("LICENSED", members, "owner", {}, day_ts("2020-01-01"), day_ts("2021-01-01"))

    fact, as_of = window(**FINE), day_ts("2020-12-01")
    for grant, bounds in (
        (licensed("content:a", ("FR",)), ["territory", "time"]),
        (licensed("content:a", ("DE", "US")), ["time"]),
        (licensed("content:b", ("DE",)), ["content"]),
    ):
        graph = build([fact, grant])
        every = rights.windows(graph, as_of, RELIABILITY)
        assert [one.bound for one in rights.violations(graph, every, as_of)] == bounds


def test_endings_by_hand():
    facts = [
        window(0, 0, ("EU",), "list", 0, 31 * DAY_S),
        window(0, 0, ("DE",), "list", 31 * DAY_S, 80 * DAY_S),  # goes on in Germany
        window(1, 0, ("FR",), "list", 0, 25 * DAY_S),
        window(1, 1, ("FR",), "list", 0, None),
        window(1, 1, ("US",), "list", 0, 40 * DAY_S),
    ]
    every = told(facts)
    found = rights.expiring(every, "FR", 10, 30 * DAY_S)
    assert [(one.content_id, one.end_ts // DAY_S, one.alert) for one in found] == [
        ("content:b", 25, "expired"),
        ("content:a", 31, "1 day"),
    ]
    assert rights.expiring(every, "DE", 10, 30 * DAY_S) == []
    assert [one.alert for one in rights.expiring(every, "US", 60, 5 * DAY_S)] == [""]
    assert [one.alert for one in rights.expiring(every, "US", 60, 33 * DAY_S)] == ["7 days"]


def test_a_graph_without_windows_has_no_conflicts():
    graph = build([])
    assert rights.windows(graph, 0) == [] == rights.contested([]) == rights.exclusivity_conflicts([])
    assert rights.violations(graph, [], 0) == [] == rights.expiring([], "US", 30, 0)
