"""Each question in Cypher, held equal to an answer counted over the memory store."""

import pytest

from configs.registry import SettingError, UnknownName
from kg import queries
from kg.availability import DAY_S
from kg.queries import SHARED_WEIGHT, ask
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore, StoreError
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig, world

WORLD = world(WorldConfig(users=8, contents=30, groups=2, ratings_per_user=3))
HAND = [
    Node("Content", "content:hand", {"title": "By Hand", "release_year": 2001}),
    Node("Content", "content:glove", {"title": "Glove"}),
    Node("Person", "person:named", {"name": "Ann"}),
    Node("Person", "person:nameless"),
    Node("Genre", "genre:handmade", {"name": "Handmade"}),
    Node("Region", "region:XA", {"name": "Elsewhere"}),
    Node("Platform", "platform:hand", {"name": "Handflix"}),
    Hyperedge("BELONGS_TO", {"content": ("content:hand",), "genre": ("genre:handmade",)}, "hand"),
    Hyperedge("BELONGS_TO", {"content": ("content:glove",), "genre": ("genre:handmade",)}, "hand"),
    Hyperedge("DIRECTED", {"content": ("content:hand",), "person": ("person:named",)}, "hand"),
    Hyperedge("DIRECTED", {"content": ("content:hand",), "person": ("person:named",)}, "also hand"),
    Hyperedge("DIRECTED", {"content": ("content:glove",), "person": ("person:named",)}, "hand"),
    Hyperedge(
        "ACTED_IN",
        {"content": ("content:hand",), "person": ("person:nameless",)},
        "hand",
        {"character": "Thumb", "billing_order": 1},
    ),
    Hyperedge(
        "AVAILABLE",
        {"content": ("content:hand",), "platform": ("platform:hand",), "region": ("region:XA",)},
        "hand",
        {"offer": "rent", "price": 3.5, "currency": "EUR"},
        start_ts=10 * DAY_S,
        end_ts=20 * DAY_S,
    ),
    Hyperedge(
        "AVAILABLE",
        {"content": ("content:hand",), "platform": ("platform:hand",), "region": ("region:XA",)},
        "hand",
        {"offer": "free", "simulated": True},
    ),
]
MEMORY = MemoryStore()
MEMORY.write([*WORLD.records, *HAND])
CONTENTS = [node.id for node in MEMORY.nodes("Content")]


@pytest.fixture(scope="module", params=["embedded", "neo4j"])
def store(request, open_emptied) -> GraphStore:
    emptied = open_emptied(request.param)
    emptied.write([*WORLD.records, *HAND])
    return emptied


def windows(region: str, at: int) -> list[Hyperedge]:
    return [
        fact
        for fact in MEMORY.hyperedges("AVAILABLE")
        if f"region:{region}" in fact.members["region"]
        and (fact.start_ts is None or fact.start_ts <= at)
        and (fact.end_ts is None or at < fact.end_ts)
    ]


def edges_of_time() -> list[int]:
    times = {t for fact in MEMORY.hyperedges("AVAILABLE") for t in (fact.start_ts, fact.end_ts) if t}
    return sorted(times)[:: max(1, len(times) // 6)]


def test_where_to_watch(store):
    regions = sorted(
        {id.partition(":")[2] for f in MEMORY.hyperedges("AVAILABLE") for id in f.members["region"]}
    )
    for at in edges_of_time():
        for region in regions[:2]:
            expected = windows(region, at)
            for content_id in {fact.members["content"][0] for fact in expected[:5]} | {CONTENTS[0]}:
                found = queries.where_to_watch(store, content_id, region, at)
                assert {(w.platform_id, w.offer, w.start_ts, w.end_ts) for w in found} == {
                    (
                        f.members["platform"][0],
                        f.properties.get("offer", "subscription"),
                        f.start_ts,
                        f.end_ts,
                    )
                    for f in expected
                    if f.members["content"] == (content_id,)
                }


def test_where_to_watch_by_hand(store):
    both = queries.where_to_watch(store, "content:hand", "XA", 10 * DAY_S)
    assert [(w.offer, w.platform, w.price, w.currency, w.end_ts, w.simulated) for w in both] == [
        ("free", "Handflix", None, None, None, True),
        ("rent", "Handflix", 3.5, "EUR", 20 * DAY_S, False),
    ]
    for at in (10 * DAY_S - 1, 20 * DAY_S):  # half open: from the start, not at the end
        assert [w.offer for w in queries.where_to_watch(store, "content:hand", "XA", at)] == ["free"]
    assert queries.where_to_watch(store, "content:none", "XA", 0) == []
    assert queries.where_to_watch(store, "content:hand", "QQ", 0) == []


def test_expiring(store):
    assert [(e.content_id, e.end_ts) for e in queries.expiring(store, "XA", 5, 15 * DAY_S)] == [
        ("content:hand", 20 * DAY_S)
    ]
    assert queries.expiring(store, "XA", 5, 15 * DAY_S - 1) == []
    for at in edges_of_time():
        expected = {
            (fact.members["content"][0], fact.end_ts)
            for fact in windows("US", at)
            if fact.end_ts is not None and fact.end_ts <= at + 90 * DAY_S
        }
        found = [(e.end_ts, e.content_id) for e in queries.expiring(store, "US", 90, at)]
        assert found == sorted((end, content) for content, end in expected)


def test_similar(store):
    about: dict[str, set] = {}
    for type in SHARED_WEIGHT:
        for fact in MEMORY.hyperedges(type):
            (other,) = next(ids for role, ids in fact.members.items() if role != "content")
            about.setdefault(fact.members["content"][0], set()).add((type, other))
    for content_id in CONTENTS[:4] + ["content:hand"]:
        scores = {
            other: sum(SHARED_WEIGHT[type] for type, _ in about[content_id] & theirs)
            for other, theirs in about.items()
            if other != content_id and about[content_id] & theirs
        }
        expected = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        found = queries.similar(store, content_id, 7)
        assert [(one.content_id, one.score) for one in found] == expected[:7]
    (glove,) = queries.similar(store, "content:hand", 5)
    assert (glove.title, glove.score, glove.shared) == ("Glove", 4.0, {"DIRECTED": 1, "BELONGS_TO": 1})


def test_title(store):
    found = queries.title(store, "content:hand")
    assert found.content == HAND[0] and found.genres == ("Handmade",)
    assert [(c.fact, c.name, c.character, c.billing_order) for c in found.credits] == [
        ("DIRECTED", "Ann", None, None),
        ("ACTED_IN", None, "Thumb", 1),
    ]
    assert queries.title(store, "content:none") is None
    for content in WORLD.nodes("Content")[:4]:
        people = {
            (type, fact.members["person"][0])
            for type in queries.CREDITS
            for fact in MEMORY.hyperedges(type)
            if fact.members["content"] == (content.id,)
        }
        found = queries.title(store, content.id)
        assert found.content == content
        assert {(credit.fact, credit.person_id) for credit in found.credits} == people


def test_ask(store):
    rows = ask(store, "where-to-watch", {"content_id": "content:hand", "region": "XA", "at": "864000"})
    assert [row["offer"] for row in rows] == ["free", "rent"]
    assert ask(store, "title", {"content_id": "content:hand"})[0]["content"]["title"] == "By Hand"
    assert ask(store, "title", {"content_id": "content:none"}) == []
    year = "MATCH (c:`Content`) WHERE c.release_year = $year AND c.id = $id RETURN c.title AS title"
    assert ask(store, year, {"year": "2001", "id": "content:hand"}) == [{"title": "By Hand"}]


def test_ask_says_what_is_wrong():
    memory = MemoryStore()
    with pytest.raises(UnknownName, match="no question is called 'watch'; nearest: where_to_watch"):
        ask(memory, "watch", {})
    with pytest.raises(SettingError, match="similar takes content_id, n, got n: give each"):
        ask(memory, "similar", {"n": "3"})
    with pytest.raises(SettingError, match="n of similar is a whole number.* got 'few'"):
        ask(memory, "similar", {"content_id": "content:x", "n": "few"})
    with pytest.raises(SettingError, match="n is 1 or more, got 0"):
        ask(memory, "similar", {"content_id": "content:x", "n": "0"})
    with pytest.raises(StoreError, match="no Cypher"):
        ask(memory, "MATCH (n) RETURN n", {})
