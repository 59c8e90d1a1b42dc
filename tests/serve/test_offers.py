"""Offers as replies carry them: contested ones stand apart with the reason, doubtful ones are marked."""

import pytest

from kg.arrays import from_records
from kg.records import Hyperedge
from kg.worlds import WorldConfig, world
from serve.client import LocalClient
from tests.serve.small_home import GRAPH, USER, small_home

START = 1_700_000_000
MADE = world(WorldConfig(users=40, contents=60, groups=3, duplicate_share=0.0))


def told(source, offer, price):
    content, platform = MADE.nodes("Content")[7].id, MADE.nodes("Platform")[0].id
    members = {"content": (content,), "platform": (platform,), "region": ("region:US",)}
    return Hyperedge("AVAILABLE", members, source, {"offer": offer, "price": price, "currency": "USD"}, START)


PLANTED = [told("justwatch", "rent", 3.0), told("blog", "rent", 4.0), told("blog", "buy", 9.0)]
CONTENT = PLANTED[0].members["content"][0]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    graph = from_records(
        GRAPH, MADE.nodes, lambda type: [*MADE.hyperedges(type), *(PLANTED if type == "AVAILABLE" else ())]
    )
    with LocalClient(small_home(tmp_path_factory.mktemp("home"), graph), GRAPH) as client:
        yield client


def priced(offers):
    return {(one.source, one.offer, one.price): one for one in offers if one.price is not None}


def test_a_contested_window_stands_apart_with_the_reason(planted):
    reply = planted.availability(CONTENT, "US")
    assert priced(reply.offers).keys() == {("justwatch", "rent", 3.0), ("blog", "buy", 9.0)}
    (lost,) = reply.contested
    assert (lost.source, lost.price) == ("blog", 4.0) and "price 4.0 against 3.0 of justwatch" in lost.reason
    assert planted.availability(CONTENT, "US", START - 1).contested == []
    other = next(code for code in reply.regions if code != "US")
    assert planted.availability(CONTENT, other).contested == []


def test_a_doubtful_offer_is_marked_wherever_it_is_told(planted):
    content = planted.content(CONTENT, "US")
    listed = planted.recommend({"user_id": USER, "region": "US", "n": 50, "at": START}).contents
    recommended = [one.offers for one in listed if one.content_id == CONTENT]
    for offers in (planted.availability(CONTENT, "US").offers, content.offers, *recommended):
        found = priced(offers)
        assert found["blog", "buy", 9.0].unverified and not found["justwatch", "rent", 3.0].unverified
        assert not any(one.unverified for one in offers if one.price is None)
