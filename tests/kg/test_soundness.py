"""What a glance lets pass, a close look lets pass too; and it lets pass what sources tell."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg import schema
from kg.large_world import LargeWorld, LargeWorldConfig
from kg.records import Hyperedge, Node, RecordError
from kg.soundness import FACT_CHECKS, NODE_CHECKS

ODD = (
    *(None, True, False, 0, 1, -1, 10, 11, 1999, 10**400, 2**33, 2**34 + 1, -(2**33) - 1),
    *(0.0, -0.5, 0.5, 1.5, 10.5, math.nan, math.inf, -math.inf, 1e308, np.float64(0.5), np.int64(3)),
    *(
        "",
        "a",
        "movie",
        "subscription",
        "EUR",
        "eur",
        "1999",
        "1999-02-30",
        "x" * 100_001,
        b"a",
        np.str_("a"),
    ),
    *((), ("a",), ("SD", "HD"), ("SD", "x" * 100_001), ("a", 1), ["a"], {"a": 1}),
)
TIMES = (None, 0, -1, 1, 2**33, 2**34, 2**34 + 1, -(2**33), -(2**33) - 1, 2.5, True)


def bare(record_type: type, **said):
    """A record that nobody has looked at."""
    record = object.__new__(record_type)
    record.__dict__.update(said)
    return record


def agrees(check, record) -> bool:
    """Whether the glance lets it pass; then the close look must, too."""
    if not check(record):
        return False
    try:
        record._look_closely()
    except RecordError as error:
        pytest.fail(f"a glance let pass what is refused: {error}")
    return True


@pytest.mark.parametrize("type", list(schema.NODES))
def test_no_odd_property_of_a_node_slips_through(type):
    kind = schema.NODES[type]
    for name in (*kind.columns, "colour"):
        for value in ODD:
            agrees(NODE_CHECKS[type], bare(Node, type=type, id=f"{kind.prefix}:a", properties={name: value}))


@pytest.mark.parametrize("type", list(schema.FACTS))
def test_no_odd_property_of_a_fact_slips_through(type):
    kind = schema.FACTS[type]
    for name in (*kind.columns, "colour"):
        for value in ODD:
            agrees(FACT_CHECKS[type], fact(type, {name: value}))


@pytest.mark.parametrize(
    "node_id", ["", ":", "content", "content:", "content:a", "person:a", "content:é", "content:" + "a" * 4090]
)
def test_no_odd_id_slips_through(node_id):
    agrees(NODE_CHECKS["Content"], bare(Node, type="Content", id=node_id, properties={}))


@given(st.sampled_from(list(schema.FACTS)), st.data())
def test_no_odd_members_times_or_confidence_slip_through(type, data):
    roles = st.sampled_from([role.name for role in schema.FACTS[type].roles] + ["shop"])
    ids = st.sampled_from(
        [f"{kind.prefix}:{key}" for kind in schema.NODES.values() for key in ("a", "b", "")]
    )
    some = st.one_of(st.lists(ids, max_size=3).map(tuple), st.lists(ids, max_size=2), st.just("user:a"))
    agrees(
        FACT_CHECKS[type],
        bare(
            Hyperedge,
            type=type,
            members=data.draw(st.one_of(st.just(members_of(type)), st.dictionaries(roles, some, max_size=4))),
            source="s",
            properties={},
            start_ts=data.draw(st.sampled_from(TIMES)),
            end_ts=data.draw(st.sampled_from(TIMES)),
            confidence=data.draw(
                st.sampled_from([1.0, 0.0, 1, 1.5, math.nan, True, "sure", np.float64(0.5)])
            ),
        ),
    )


def test_a_licence_valid_for_no_time_is_looked_at():
    dates = {"valid_from_ts": 20, "valid_until_ts": 20}
    assert not NODE_CHECKS["License"](bare(Node, type="License", id="license:l", properties=dates))


def test_what_sources_tell_passes_at_a_glance():
    told = list(LargeWorld(LargeWorldConfig(ratings=200, users=10, contents=60)).records())
    checks = {**NODE_CHECKS, **FACT_CHECKS}
    slow = [record for record in told if not agrees(checks[record.type], record)]
    assert len(slow) < len(told) / 10  # dates and prices, which are looked up


def fact(type: str, properties) -> Hyperedge:
    return bare(
        Hyperedge,
        **{"type": type, "members": members_of(type), "source": "s", "properties": properties},
        **{"start_ts": None, "end_ts": None, "confidence": 1.0},
    )


def members_of(type: str) -> dict[str, tuple[str, ...]]:
    """One node a role, each another one."""
    return {
        role.name: (f"{schema.NODES[role.types[0]].prefix}:{role.name}",) for role in schema.FACTS[type].roles
    }
