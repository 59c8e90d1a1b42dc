"""The seven questions on every store: rows of the servers equal those of the memory store, as multisets."""

from collections import Counter
from dataclasses import replace

import pytest

from configs.registry import SettingError
from kg import queries, questions
from kg.availability import DAY_S
from kg.queries import SHARED_WEIGHT, ask
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore, StoreError
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig, world

AT = 1_704_067_200  # 2024-01-01
INJECTION = "x'}) DETACH DELETE n //`\" \\u0027 $id {0}"
SMALL = world(WorldConfig(users=10, contents=24, groups=2, ratings_per_user=8))


def trusting(records: list[Node | Hyperedge]) -> list[Node | Hyperedge]:
    """With trust on two contents of three, so that all that asks for trust finds some."""
    told = []
    for place, record in enumerate(records):
        if isinstance(record, Node) and record.type == "Content" and place % 3:
            share = (place % 11) / 10
            known = {"trust": share, "completeness": 1 - share / 5, "last_verified_ts": AT - place}
            record = replace(record, properties={**record.properties, **known})
        told.append(record)
    return told


def rated(user: str, content: str, rating: float, start_ts: int | None = 5) -> Hyperedge:
    members = {"user": (f"user:{user}",), "content": (f"content:{content}",)}
    return Hyperedge("RATED", members, "hand", {"rating": rating}, start_ts)


def offered(content: str, region: str, offer: str, platform: str = "hand", **more) -> Hyperedge:
    times = {name: more.pop(name, None) for name in ("start_ts", "end_ts")}
    confidence = more.pop("confidence", 1.0)
    members = {
        "content": (f"content:{content}",),
        "platform": (f"platform:{platform}",),
        "region": (f"region:{region}",),
    }
    return Hyperedge("AVAILABLE", members, "hand", {"offer": offer, **more}, **times, confidence=confidence)


def about(content: str, genre: str, source: str = "hand") -> Hyperedge:
    return Hyperedge("BELONGS_TO", {"content": (f"content:{content}",), "genre": (f"genre:{genre}",)}, source)


SURE = {"trust": 0.9, "completeness": 0.95, "last_verified_ts": 100}
HAND = [
    *(Node("User", f"user:{name}") for name in ("me", "ann", "bob", "far")),
    Node("Content", "content:own", {"title": "Own"}),
    Node("Content", "content:near", {"title": INJECTION, **SURE}),
    Node("Content", "content:other", {"title": "Other", **SURE, "completeness": 0.5}),
    Node("Content", "content:dismissed", {"title": "Dismissed"}),
    *(Node("Genre", f"genre:{name}") for name in ("hand-a", "hand-b")),
    *(Node("Platform", f"platform:{name}") for name in ("hand", "second")),
    *(Node("Region", f"region:{name}") for name in ("DK", "EU", "SE")),
    *(
        Hyperedge("FOLLOWS", {"user": ("user:me",), "followed": (f"user:{name}",)}, "hand")
        for name in ("ann", "bob")
    ),
    Hyperedge("DISMISSED", {"user": ("user:me",), "content": ("content:dismissed",)}, "hand", {}, 5),
    about("own", "hand-a"),
    about("own", "hand-a", "also"),
    about("near", "hand-a"),
    about("near", "hand-a", "also"),
    about("other", "hand-b"),
    rated("me", "own", 9.0),
    rated("ann", "near", 9.0),
    rated("bob", "near", 8.0),
    rated("far", "near", 7.0),
    rated("bob", "other", 10.0),
    rated("far", "dismissed", 9.0),
    offered("near", "EU", "rent", price=3.0, currency="EUR"),
    offered("near", "DK", "subscription", "second", confidence=0.5),
    offered("near", "DK", "subscription", quality_tiers=("HD", "4K")),
    offered("near", "SE", "free", end_ts=10 * DAY_S),
    offered("other", "DK", "ads", start_ts=50),
    offered("dismissed", "DK", "ads"),
    offered("own", "DK", "ads"),
]
RECORDS = [*trusting(SMALL.records), *HAND]
MEMORY = MemoryStore()
MEMORY.write(RECORDS)


@pytest.fixture(scope="module", params=["memory", "embedded", "neo4j"])
def store(request, open_emptied) -> GraphStore:
    emptied = open_emptied(request.param)
    emptied.write(RECORDS)
    return emptied


def asked() -> list[tuple[str, dict]]:
    """Texts with values for them: everything of the world that a question may name."""
    users = [node.id for node in SMALL.nodes("User")] + ["user:me", "user:none"]
    contents = [node.id for node in SMALL.nodes("Content")][:6] + ["content:near", "content:none"]
    below = [type for type in SHARED_WEIGHT if type.startswith(("HAS", "BELONGS"))]
    found: list[tuple[str, dict]] = []
    for content_id in contents:
        one = {"content_id": content_id}
        found += [("content", one), ("about", one), ("credited", {**one, "types": list(queries.CREDITS)})]
        found += [("shared_below", {**one, "types": below})]
        found += [("shared_above", {**one, "types": ["DIRECTED", "WROTE", "ACTED_IN"]})]
        for regions in (["region:US"], ["region:DK", "region:EU"]):
            found += [("windows", {**one, "region_ids": regions, "at": at}) for at in (0, 60, AT)]
    for at in (4, AT, AT + 400 * DAY_S):
        for user_id in users[:3] + users[-2:]:
            found.append(("from_friends", {"user_id": user_id, "at": at, "least": 8}))
            for platforms in ([], ["platform:hand", "platform:netflix"]):
                some = {"region_ids": ["region:US", "region:DK"], "any_platform": not platforms}
                some |= {"platform_ids": platforms, "user_id": user_id, "at": at, "least": 8}
                found.append(("candidates", some))
        few = {"rating": 7.5, "least_ratings": 1, "most_ratings": 6, "trust": 0.3, "at": at}
        found += [("rated_well", few), ("trusted", {"at": at, "trust": 0.5, "completeness": 0.85})]
        for days in (9, 400):
            until = {"region_ids": ["region:US", "region:SE"], "at": at, "until": at + days * DAY_S}
            found.append(("expiring", until))
    return found


def as_multiset(rows: list[dict]) -> Counter:
    return Counter(repr(sorted(_plain(row).items())) for row in rows)


def _plain(row: dict) -> dict:
    inner = row.get("properties")
    if inner is not None:
        return {"properties": sorted((name, value) for name, value in inner.items() if name != "digest")}
    return {name: round(value, 9) if isinstance(value, float) else value for name, value in row.items()}


def test_every_text_gives_the_rows_of_the_memory_store(store):
    answered = Counter()
    for name, given in asked():
        expected = as_multiset(MEMORY.cypher(questions.TEXTS[name], given))
        assert as_multiset(store.cypher(questions.TEXTS[name], given)) == expected, (name, given)
        answered[name] += bool(expected)
    assert answered.keys() == questions.TEXTS.keys() and min(answered.values()) > 0, answered


def test_what_friends_like_close_to_my_own(store):
    (near,) = queries.from_friends(store, "user:me", AT)
    # other is liked by a friend and shares no genre; own parallel facts count once
    assert (near.content_id, near.title, near.friends, near.close) == ("content:near", INJECTION, 2, 1)
    assert queries.from_friends(store, "user:me", 4) == []  # before anybody had rated
    assert queries.from_friends(store, "user:far", AT) == queries.from_friends(store, "user:none", AT) == []


def test_hidden_gems(store):
    found = {gem.content_id: gem for gem in queries.hidden_gems(store, AT, n=99, least_ratings=1)}
    assert (found["content:near"].rating, found["content:near"].ratings) == (8.0, 3)
    assert found["content:other"].rating == 10.0
    assert "content:dismissed" not in found  # rated 9, and nobody knows how far it is to be trusted
    assert "content:other" not in {gem.content_id for gem in queries.hidden_gems(store, AT, n=99)}
    assert "content:near" not in {gem.content_id for gem in queries.hidden_gems(store, AT, 99, 1, 2)}


def test_offers_in_their_order(store):
    def offers(subscriptions=""):
        found = queries.where_to_watch(store, "content:near", "dk", AT, subscriptions)
        return [(one.offer, one.platform_id.partition(":")[2]) for one in found]

    best_quality_first = [("subscription", "hand"), ("subscription", "second"), ("rent", "hand")]
    assert offers() == best_quality_first  # the rent in EU counts in Denmark
    paid_for_first = [("subscription", "second"), ("subscription", "hand"), ("rent", "hand")]
    assert offers("second") == offers("netflix, platform:second") == paid_for_first
    marks = [one.is_verified for one in queries.where_to_watch(store, "content:near", "DK", AT)]
    assert marks == [False] * 3  # "hand" is no source of the house: as little as a user's report
    assert [one.offer for one in queries.where_to_watch(store, "content:near", "SE", 0)] == ["free", "rent"]


def test_candidates(store):
    def found(user_id, at=AT, subscriptions=""):
        every = queries.candidates(store, user_id, "DK", at, 999, subscriptions)
        return [(one.content_id[8:], one.likes) for one in every if "world" not in one.content_id]

    assert found("user:me") == [("near", 2), ("other", 1)]  # own is rated, dismissed is dismissed
    assert found("user:me", 4) == [("dismissed", 0), ("near", 0), ("own", 0)]  # nobody had done anything
    assert found("user:me", subscriptions="second") == [("near", 2)]
    assert found("user:none") == [("near", 2), ("dismissed", 1), ("other", 1), ("own", 1)]
    assert len(queries.candidates(store, "user:none", "DK", AT, n=2)) == 2


def test_trusted_only(store):
    found = {one.content_id for one in queries.trusted(store, AT)}
    assert "content:near" in found and "content:other" not in found  # other is not complete
    assert "content:near" not in {one.content_id for one in queries.trusted(store, 99)}  # verified later


def test_every_question_by_name(store):
    given = {"content_id": "content:near", "region": "DK", "at": str(AT), "user_id": "user:me"}
    given |= {"n": "3", "days": "9"}
    for name, question in queries.QUERIES.items():
        wanted = list(question.__annotations__)[1:-1]
        rows = ask(store, name, {each: given[each] for each in wanted if each in given})
        assert rows or name == "expiring", name
    with pytest.raises(SettingError, match="days is 0 or more, got -1"):
        ask(store, "expiring", {"region": "DK", "days": "-1", "at": "0"})


@pytest.mark.parametrize(
    ("question", "given", "message"),
    [
        ("where_to_watch", {"content_id": "user:me", "region": "DK", "at": "0"}, "written content:<key>"),
        ("where_to_watch", {"content_id": "content:x", "region": "Denmark", "at": "0"}, "two letters"),
        ("where_to_watch", {"content_id": "content:x", "region": "D'", "at": "0"}, "two letters"),
        ("candidates", {"user_id": "user:me", "region": "DK", "at": "0", "n": "0"}, "n is 1 or more"),
        ("candidates", {"user_id": "user:me", "region": "DK"}, "takes user_id, region, at, n=500"),
        ("from_friends", {"user_id": "content:x", "at": "0"}, "written user:<key>"),
        ("hidden_gems", {"at": "today"}, "whole number"),
        ("trusted", {"at": "0", "trust": "0"}, "takes at, n=100"),
    ],
)
def test_parameters_are_checked(question, given, message):
    with pytest.raises(SettingError, match=message):
        ask(MEMORY, question, given)


@pytest.fixture(params=["embedded", "neo4j"], scope="module")
def server(request, open_emptied) -> GraphStore:
    emptied = open_emptied(request.param)
    emptied.write([Node("Content", "content:a", {"title": INJECTION}), Node("Genre", "genre:a")])
    return emptied


@pytest.mark.parametrize(
    "query",
    [
        "CREATE (n:`Content` {id: 'content:x'})",
        "MERGE (n:`Content` {id: 'content:x'}) RETURN n.id AS id",
        "MATCH (n:`Content`) SET n.title = 'x' RETURN n.id AS id",
        "MATCH (n:`Content`) SET n += {title: 'x'}",
        "MATCH (n:`Content`) REMOVE n.title",
        "MATCH (n:`Content`) DELETE n",
        "MATCH (n:`Content`) DETACH DELETE n",
        "MATCH (n:`Content`) CALL (n) { SET n.title = 'x' } RETURN n.id AS id",
        "MATCH (n:`Content`) FOREACH (x IN [1] | SET n.title = 'x')",
        "MATCH (n:`Content`) RETURN n.id AS id /* read only */ UNION CREATE (m:`Content`) RETURN 'a' AS id",
        "// only reads\nMATCH (n:`Content`) /**/SET/**/ n.title = 'x'",
        "MATCH (n:`Content`) S\\u0045T n.title = 'x'",
        "CR\\u0045ATE (n:`Content` {id: 'content:x'})",
        "CALL db.createLabel('Planted')",
        "CALL apoc.create.node(['Content'], {id: 'content:x'})",
        "CREATE CONSTRAINT planted IF NOT EXISTS FOR (n:`Content`) REQUIRE n.title IS UNIQUE",
        "DROP CONSTRAINT `id_of_Content`",
        "DROP DATABASE neo4j",
        "CREATE USER planted SET PASSWORD 'planted-password'",
        "MATCH (n) RETURN n; CREATE (n:`Content`)",
    ],
)
def test_the_question_box_only_reads(server, query):
    before = server.count()
    with pytest.raises(StoreError):
        server.cypher(query)
    assert server.count() == before
    assert [node.properties for node in server.nodes("Content")] == [{"title": INJECTION}]
    assert {row["name"] for row in server.read("SHOW CONSTRAINTS YIELD name")} >= {"id_of_Content"}


def test_a_title_is_a_value_and_never_code(server):
    by_title = "MATCH (c:`Content`) WHERE c.title = $title RETURN c.id AS id, c.title AS title"
    assert ask(server, by_title, {"title": INJECTION}) == [{"id": "content:a", "title": INJECTION}]
    assert server.cypher(by_title, {"title": "' OR 1 = 1 //"}) == []
    assert queries.title(server, "content:a'}) DETACH DELETE c //") is None
    assert queries.title(server, "content:a").content.properties["title"] == INJECTION
    assert server.count() == {"Content": 1, "Genre": 1}
