"""What a record refuses: each error says what must hold, what came and what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg import schema
from kg.records import Hyperedge, Node, RecordError

OFFERED = {"content": ("content:a",), "platform": ("platform:p",), "region": ("region:US", "region:DE")}
RATED = {"user": ("user:u",), "content": ("content:a",)}


def fact(type="AVAILABLE", members=OFFERED, properties=None, **said):
    return Hyperedge(type, members, "s", properties or {}, **said)


@pytest.mark.parametrize(
    ("type", "members", "message"),
    [
        ("AVAILABLE", {**OFFERED, "shop": ("platform:q",)}, "no role 'shop': use one of"),
        ("AVAILABLE", {**OFFERED, "platform": ("platform:p", "platform:q")}, "has 1 to 1 platform, got 2"),
        ("AVAILABLE", {**OFFERED, "region": ()}, "has 1 to any number region, got 0"),
        ("AVAILABLE", {**OFFERED, "region": "region:US"}, "are a tuple of ids, got the text"),
        ("AVAILABLE", {**OFFERED, "license": ("region:US",)}, "license must be License, got 'region:US'"),
        ("AVAILABLE", {**OFFERED, "region": ("region:US", "region:US")}, "region:US stands there twice"),
        ("FOLLOWS", {"user": ("user:u",), "followed": ("user:u",)}, "user:u stands there twice"),
        ("SEQUEL_OF", {"content": ("content:a",), "original": ("content:a",)}, "leave out"),
        ("RATED", {"user": ("content:a",), "content": ("content:b",)}, "user must be User, got 'content:a'"),
        ("LIKED", RATED, "no fact has type 'LIKED': use one of"),
    ],
)
def test_members_that_cannot_be(type, members, message):
    with pytest.raises(RecordError, match=message):
        fact(type, members)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"offer": "lend"}, "one of subscription, free, ads, rent, buy, got 'lend': map"),
        ({"price": 3.0}, "a price has a currency"),
        ({"price": 3.0, "currency": "euro"}, "three letters, as ISO 4217, got 'euro'"),
        ({"price": -1.0, "currency": "EUR"}, "lies in 0..None, got -1.0"),
        ({"price": float("nan"), "currency": "EUR"}, "must be number, got nan"),
        ({"price": float("inf"), "currency": "EUR"}, "must be number, got inf"),
        ({"quality_tiers": ("SD", "sharp")}, "one of SD, .*, got 'sharp'"),
        ({"exclusivity": True}, "must be text, got True"),
        ({"colour": "red"}, "no property 'colour': use one of"),
        ({"deep_link": "x" * 1_000_000}, "at most 100,000 letters, got 1,000,000"),
    ],
)
def test_properties_that_cannot_be(properties, message):
    with pytest.raises(RecordError, match=message):
        fact(properties=properties)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"start_ts": 20, "end_ts": 20}, "not after its start 20: drop the record or swap"),
        ({"start_ts": 1_700_000_000_000}, "whole UTC seconds .*divide by 1000"),
        ({"end_ts": 3.5}, "whole UTC seconds"),
        ({"start_ts": True}, "whole UTC seconds"),
        ({"confidence": float("nan")}, "confidence lies in 0..1, got nan"),
        ({"confidence": "sure"}, "confidence lies in 0..1, got 'sure'"),
    ],
)
def test_times_and_confidence_that_cannot_be(said, message):
    with pytest.raises(RecordError, match=message):
        fact(**said)


@pytest.mark.parametrize("day", ["1999", "1999-03", "2000-02-29"])
def test_dates_as_exact_as_known(day):
    assert Node("Content", "content:a", {"release_date": day}).properties["release_date"] == day


@pytest.mark.parametrize("day", ["15-Aug", "2001-02-29", "1999-13", "99", "1999/03/01", "1999-03-01T00", ""])
def test_dates_that_are_none(day):
    with pytest.raises(RecordError, match="YYYY, YYYY-MM or YYYY-MM-DD"):
        Node("Content", "content:a", {"release_date": day})


@pytest.mark.parametrize(
    ("type", "id", "properties"),
    [
        ("Content", "content:a", {"kind": "film"}),
        ("Content", "content:a", {"imdb_rating": 10.5}),
        ("Content", "content:a", {"runtime_minutes": 0}),
        ("Content", "content:a", {"observed_ts": 1_700_000_000_000}),
        ("Platform", "platform:p", {"kind": "shop"}),
        ("License", "license:l", {"exclusivity": "maybe"}),
        ("License", "license:l", {"valid_from_ts": 20, "valid_until_ts": 20}),
        ("Person", "content:a", {}),
        ("Person", "person:", {}),
        ("Film", "film:a", {}),
    ],
)
def test_nodes_that_cannot_be(type, id, properties):
    with pytest.raises(RecordError):
        Node(type, id, properties)


def test_arity_two_is_a_relationship_and_more_is_a_node():
    binary = {name for name, kind in schema.FACTS.items() if kind.is_binary}
    assert set(schema.FACTS) - binary == {"TAGGED", "VIEWED", "AVAILABLE", "LICENSED"}
    assert all(len(schema.FACTS[name].roles) == 2 for name in binary)


@given(st.sampled_from(sorted(schema.FACTS)), st.data())
def test_a_fact_of_any_type_stands_within_its_cardinalities_and_not_outside(type, data):
    kind = schema.FACTS[type]
    counts = {role.name: data.draw(st.integers(0, 3), role.name) for role in kind.roles}
    members = {
        role.name: tuple(
            f"{schema.NODES[role.types[0]].prefix}:{role.name}{place}" for place in range(counts[role.name])
        )
        for role in kind.roles
    }
    fits = all(
        role.least <= counts[role.name] and (role.most is None or counts[role.name] <= role.most)
        for role in kind.roles
    )
    if fits:
        assert fact(type, members).id.startswith(f"{type}:")
    else:
        with pytest.raises(RecordError, match="got [0-9]"):
            fact(type, members)
