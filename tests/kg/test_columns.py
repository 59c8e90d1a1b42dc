"""Columns of records: rows of a server give the columns that records give, and no spoilt row passes."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import schema
from kg.records import Hyperedge, Node, RecordError
from kg.store.columns import StrangeRows, batches, batches_of_rows, columns_of
from kg.store.encoding import row_of
from kg.worlds import WorldConfig, world

SMALL = world(WorldConfig(users=9, contents=12, groups=2, ratings_per_user=4))
OFFER = next(record for record in SMALL.records if record.type == "AVAILABLE")
RATING = next(record for record in SMALL.records if record.type == "RATED")
FILM = Node("Content", "content:x", {"title": "X", "release_date": "1999-03", "ratings": ("a=1",)})


def row(record) -> tuple:
    """What a server answers to :func:`kg.store.columns.question` about a record."""
    _, told, _ = row_of(record)
    return row_told(record.type, told, getattr(record, "members", {}))


def row_told(type, told, members) -> tuple:
    kind = schema.FACTS.get(type)
    played = [list(members.get(role.name, ())) for role in kind.roles] if kind else []
    if kind is not None and kind.is_binary:
        played = [ids[0] for ids in played]
    return (told.get("id"), len(told), *played, *(told.get(name) for name in columns_of(type)))


def by_type(records) -> dict:
    found: dict = {}
    for record in records:
        found.setdefault(record.type, []).append(record)
    return found


def test_rows_and_records_give_equal_columns():
    for type, records in by_type([*SMALL.records, FILM]).items():
        (told,), (read,) = batches(type, records), batches_of_rows(type, map(row, records))
        assert read.equals(told), type


def test_batches_are_bounded(monkeypatch):
    monkeypatch.setattr("kg.store.columns.ROWS", 7)
    nodes = [Node("Genre", f"genre:{place}") for place in range(16)]
    for found in (batches("Genre", nodes), batches_of_rows("Genre", map(row, nodes))):
        assert [batch.num_rows for batch in found] == [7, 7, 2]


VALUES = st.one_of(
    st.sampled_from(
        [None, "", "x", "EUR", "eur", "1999", "1999-13", "1999-02-30", "0000", "१९९९", "rent", "HD"]
    ),
    st.sampled_from([0, 1, 5, 10, 11, -1, 1869, 2**34, 2**34 + 1, 2**53 + 1, 2**63 - 1, -(2**33) - 1]),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 10.0, 1e300, -0.1, float("nan"), float("inf"), float("-inf")]),
    st.booleans(),
    st.lists(st.sampled_from(["a", "HD", "4K", 1, None]), max_size=2),
    st.sampled_from([b"x", "x" * 100_001, {"a": 1}]),
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_row_passes_that_a_record_refuses(data):
    """And none is refused that a record takes, but for numbers that are equal only as numbers."""
    record = data.draw(
        st.sampled_from([FILM, OFFER, RATING, Node("License", "license:l"), Node("User", "user:u")])
    )
    name = data.draw(st.sampled_from(list(columns_of(record.type))))
    value = data.draw(VALUES)
    _, told, _ = row_of(record)
    told.pop(name, None)
    if value is not None:
        told[name] = value
    rows = [row(record), row_told(record.type, told, getattr(record, "members", {}))]
    try:
        read = list(batches_of_rows(record.type, rows))
    except StrangeRows:
        read = None
    try:
        taken = told_of(record, name, value)
    except RecordError:
        assert read is None, (name, value)
    else:
        assert read is not None, (name, value)
        properties = row_of(taken)[1]
        assert read[0]["id"].to_pylist()[1] == told["id"] and properties.get(name) == value


def told_of(record, name, value):
    """The record with one property as a store told it."""
    if isinstance(value, list):
        value = tuple(value)
    if name in ("source", "confidence", "start_ts", "end_ts"):
        if value is None and name in ("source", "confidence"):
            raise RecordError("is always there")
        if name == "source" and not (isinstance(value, str) and len(value) <= schema.LONGEST_TEXT):
            raise RecordError("a source is a text")
        return replace(record, **{name: value})
    kept = {key: known for key, known in record.properties.items() if key != name}
    return replace(record, properties=kept if value is None else {**kept, name: value})


def spoilt(record, **changes) -> tuple:
    _, told, _ = row_of(record)
    return row_told(record.type, {**told, **changes}, getattr(record, "members", {}))


PLATFORM = OFFER.members["platform"][0]
BAD_MEMBERS = [
    {"region": ()},
    {"platform": (PLATFORM, "platform:other")},
    {"platform": ("region:US",)},
    {"region": ("region:US", "region:US")},
    {"region": ("region:US", "US")},
    {"content": ("content:",)},
    {"license": ("license:a", "license:b")},
]


@pytest.mark.parametrize("members", BAD_MEMBERS)
def test_members_that_do_not_fit_are_refused(members):
    _, told, _ = row_of(OFFER)
    with pytest.raises(StrangeRows):
        list(
            batches_of_rows(
                "AVAILABLE", [row(OFFER), row_told("AVAILABLE", told, {**OFFER.members, **members})]
            )
        )


def test_a_fact_of_a_node_with_itself_is_refused():
    follows = Hyperedge("FOLLOWS", {"user": ("user:a",), "followed": ("user:b",)}, "s")
    _, told, _ = row_of(follows)
    twice = row_told("FOLLOWS", told, {"user": ("user:a",), "followed": ("user:a",)})
    assert len(list(batches_of_rows("FOLLOWS", [row(follows)]))) == 1
    with pytest.raises(StrangeRows):
        list(batches_of_rows("FOLLOWS", [row(follows), twice]))


@pytest.mark.parametrize(
    "bad",
    [
        spoilt(FILM, colour="red"),
        spoilt(FILM, id="person:x"),
        spoilt(FILM, id="content:"),
        spoilt(FILM, id="content:" + "é" * 2100),
        spoilt(FILM, id=None),
        spoilt(FILM, id=7),
    ],
)
def test_ids_and_properties_that_nobody_knows_are_refused(bad):
    with pytest.raises(StrangeRows):
        list(batches_of_rows("Content", [row(FILM), bad]))


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (OFFER, {"start_ts": 10, "end_ts": 10}),
        (OFFER, {"price": 3.0}),
        (RATING, {"source": None}),
        (RATING, {"confidence": None}),
        (Node("License", "license:l"), {"valid_from_ts": 5, "valid_until_ts": 4}),
    ],
)
def test_columns_that_contradict_each_other_are_refused(record, changes):
    _, told, _ = row_of(record)
    told.pop("currency", None)
    known = {name: value for name, value in {**told, **changes}.items() if value is not None}
    with pytest.raises(StrangeRows):
        list(batches_of_rows(record.type, [row_told(record.type, known, getattr(record, "members", {}))]))
