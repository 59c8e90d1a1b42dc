"""One contract for every store: what the memory store does, all others do."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kg import schema
from kg.arrays import export, from_records
from kg.records import Hyperedge, Node
from kg.store import writing
from kg.store.base import GraphStore, StoreError
from kg.store.bolt import BoltStore
from kg.store.memory import MemoryStore
from kg.worlds import WorldConfig, world

KINDS = ("memory", "embedded", "neo4j")
SERVERS = KINDS[1:]
VALUES = {"text": "a", "integer": 7, "number": 0.5, "flag": True, "texts": ("b", "a")}


@pytest.fixture(params=KINDS)
def store(request, open_emptied) -> GraphStore:
    return open_emptied(request.param)


@pytest.fixture(params=SERVERS)
def server(request, open_emptied) -> BoltStore:
    return open_emptied(request.param)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(writing, "BATCH_ROWS", 7)


def everything() -> list[Node | Hyperedge]:
    """A record of each type with each column, two nodes of a type."""
    nodes = [
        Node(kind.name, f"{kind.prefix}:{key}", _filled(kind.columns))
        for kind in schema.NODES.values()
        for key in ("one", "two")
    ]
    facts = [_fact(kind, "one", "two") for kind in schema.FACTS.values()]
    return [*nodes, *facts]


def _fact(kind: schema.FactType, first: str, last: str, **changes) -> Hyperedge:
    members = {
        role.name: tuple(
            f"{schema.NODES[role.types[0]].prefix}:{key}"
            for key in ([first, last] if role.most is None else [first if place == 0 else last])
        )
        for place, role in enumerate(kind.roles)
    }
    said = {"properties": _filled(kind.columns), "start_ts": 10, "end_ts": 2**33, "confidence": 0.25}
    return Hyperedge(kind.name, members, "test", **{**said, **changes})


def _filled(columns) -> dict:
    filled = {name: _value(column) for name, column in columns.items()}
    if "valid_until_ts" in filled:  # later than valid_from_ts
        filled["valid_until_ts"] += 1
    return filled


def _value(column: schema.Column):
    if column.kind == "integer":
        return max(column.low or 0, VALUES["integer"])
    if column.form is not None:
        return {"date": "1999-03", "currency": "EUR"}[column.form]
    if column.choices:
        return column.choices[0] if column.kind == "text" else column.choices[1::-1]
    return VALUES[column.kind]


def held(store: GraphStore) -> tuple:
    """All that a store holds, in an order of its own."""
    nodes = {node.id: node for type in schema.NODES for node in store.nodes(type)}
    facts = {fact.id: _sorted(fact) for type in schema.FACTS for fact in store.hyperedges(type)}
    return nodes, facts, store.count()


def _sorted(fact: Hyperedge) -> Hyperedge:
    return replace(fact, members={role: tuple(sorted(ids)) for role, ids in fact.members.items()})


def around(store: GraphStore, node_id: str, **asked) -> Counter:
    found = store.neighbours(node_id, limit=100_000, **asked)
    return Counter((each.node_id, each.role, each.fact.id) for each in found)


def test_empty_store(store):
    assert store.count() == {}
    assert list(store.nodes("Content")) == [] == list(store.hyperedges("RATED"))
    assert list(store.hyperedges("AVAILABLE")) == []
    assert store.neighbours("content:none") == []
    assert store.erase("content:none") == 0


def test_every_type_comes_back_as_it_went(store):
    records = everything()
    report = store.write(records)
    assert report.nodes_written == 2 * len(schema.NODES) and report.hyperedges_written == len(schema.FACTS)
    nodes, facts, counts = held(store)
    assert nodes == {record.id: record for record in records if isinstance(record, Node)}
    assert facts == {record.id: _sorted(record) for record in records if isinstance(record, Hyperedge)}
    assert counts == Counter(record.type for record in records)


def test_same_again_writes_nothing(store, small_batches):
    records = everything() + [Node("Genre", f"genre:{place}") for place in range(20)]
    store.write(records)
    before = held(store)
    report = store.write(records)
    assert (report.nodes_written, report.hyperedges_written, report.unchanged) == (0, 0, len(records))
    assert held(store) == before


def test_changed_records_are_replaced_not_mixed(store):
    store.write(everything())
    kinds = (schema.FACTS["ACTED_IN"], schema.FACTS["AVAILABLE"])
    changed = [_fact(kind, "one", "two", properties={}, end_ts=None, confidence=1.0) for kind in kinds]
    changed[1] = replace(changed[1], properties={"offer": schema.OFFERS[0]})  # part of its id
    report = store.write([Node("Content", "content:one", {"title": "new"}), *changed])
    assert (report.nodes_written, report.hyperedges_written, report.unchanged) == (1, 2, 0)
    nodes, facts, _ = held(store)
    assert nodes["content:one"].properties == {"title": "new"}
    for fact in changed:
        assert facts[fact.id] == _sorted(fact)


def test_changing_back_and_forth_in_one_call_ends_with_the_last(store, small_batches):
    names = [Node("Genre", f"genre:{place}", {"name": "old"}) for place in range(7)]
    store.write(names)
    store.write([*(replace(node, properties={"name": "new"}) for node in names), *names])
    assert {node.properties["name"] for node in store.nodes("Genre")} == {"old"}


def test_fact_over_a_node_that_is_not_there(store):
    store.write([Node("User", "user:a"), Node("Content", "content:a"), Node("Platform", "platform:a")])
    rated = Hyperedge("RATED", {"user": ("user:a",), "content": ("content:gone",)}, "test")
    offered = Hyperedge(
        "AVAILABLE",
        {"content": ("content:a",), "platform": ("platform:a",), "region": ("region:GONE",)},
        "test",
    )
    for fact, missing in ((rated, "content:gone"), (offered, "region:GONE")):
        with pytest.raises(
            StoreError, match=f"{fact.type} from test names '{missing}'.*write the node first"
        ):
            store.write([fact])
    assert store.count() == {"User": 1, "Content": 1, "Platform": 1}


def test_a_fact_may_stand_before_a_node_it_does_not_name(store):
    store.write(
        [
            Node("User", "user:a"),
            Node("User", "user:b"),
            Node("User", "user:c"),
            Hyperedge("FOLLOWS", {"user": ("user:a",), "followed": ("user:b",)}, "test"),
            Hyperedge("FOLLOWS", {"followed": ("user:a",), "user": ("user:c",)}, "test"),
            Node("Genre", "genre:late"),
        ]
    )
    assert store.count() == {"User": 3, "Genre": 1, "FOLLOWS": 2}
    assert around(store, "user:b").keys() == {("user:a", "user", next(iter(around(store, "user:b")))[2])}


@pytest.mark.parametrize(
    "value",
    ["", "a😀é\n\"'`\\ $x {}", "NULL", "x" * 100_000, "\u200b", "5", "1e5"],
)
def test_hard_texts(store, value):
    node = Node("Content", "content:x", {"title": value, "alternate_titles": (value, value)})
    store.write([node])
    assert list(store.nodes("Content")) == [node]


def test_hard_values_and_ids(store):
    nodes = [
        Node(
            "Content", 'content:it\'s `x` "y" 😀', {"ids": (), "vote_count": 2**63 - 1, "popularity": 5e-324}
        ),
        Node(
            "Content", "content:5", {"popularity": 8, "imdb_rating": 10.0, "observed_ts": schema.EARLIEST_TS}
        ),
        Node("Content", "content:" + "é" * 2000, {"simulated": False, "popularity": 0.1 + 0.2}),
    ]
    store.write(nodes)
    assert {node.id: node for node in store.nodes("Content")} == {node.id: node for node in nodes}
    assert store.write(nodes).unchanged == 3
    assert [store.erase(node.id) for node in nodes] == [0, 0, 0] and store.count() == {}


def test_a_number_too_big(server):
    with pytest.raises(StoreError, match="64-bit"):
        server.write([Node("Content", "content:x", {"vote_count": 2**63})])
    assert server.count() == {}


SMALL = world(WorldConfig(users=12, contents=16, groups=2, ratings_per_user=6))


def test_world_from_every_node_like_the_memory_store(server, small_batches):
    memory = MemoryStore()
    assert server.write(SMALL.records) == memory.write(SMALL.records)
    assert held(server) == held(memory)
    assert export(server, "g").hash == export(memory, "g").hash
    for node_id in [node.id for type in schema.NODES for node in memory.nodes(type)]:
        assert around(server, node_id) == around(memory, node_id), node_id
    for types in (["RATED"], ["AVAILABLE"], ["ACTED_IN", "AVAILABLE"]):
        some = SMALL.nodes("Content")[0].id
        assert around(server, some, types=types) == around(memory, some, types=types)
    assert len(server.neighbours("region:US", limit=3)) == 3 == len(memory.neighbours("region:US", limit=3))
    some = [SMALL.nodes(type)[0].id for type in ("Content", "Genre", "User", "Platform")]
    for node_id in (*some, "region:US"):
        assert server.erase(node_id) == memory.erase(node_id), node_id
    assert held(server) == held(memory)


def test_columns_give_the_arrays_that_records_give(store):
    store.write(everything())
    asked = (None, 0, 15)
    expected = [from_records("g", store.nodes, store.hyperedges, as_of).hash for as_of in asked]
    assert [export(store, "g", as_of).hash for as_of in asked] == expected
    assert {*export(store, "g").nodes, *export(store, "g").facts} == {*schema.NODES, *schema.FACTS}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("MATCH (n:`Genre` {id: 'genre:one'}) SET n.level = 'x' RETURN 1", "level of genre:one"),
        ("MATCH (n:`Genre` {id: 'genre:one'}) SET n.colour = 'red' RETURN 1", "no property 'colour'"),
        ("MATCH (n:`Content` {id: 'content:one'}) SET n.release_date = '1999-13' RETURN 1", "release_date"),
        ("MATCH (n:`Content` {id: 'content:one'}) SET n.imdb_rating = 11 RETURN 1", "imdb_rating"),
        ("MATCH ()-[r:`RATED`]->() SET r.confidence = 2.0 RETURN 1", "confidence"),
        ("MATCH ()-[r:`RATED`]->() REMOVE r.source RETURN 1", "'source'"),
        ("MATCH (n:`Available`) SET n.end_ts = 10 RETURN 1", "ends at 10"),
        ("MATCH (n:`Available`)-[x:`AVAILABLE_PLATFORM`]->() DELETE x RETURN 1 LIMIT 1", "platform, got 0"),
    ],
)
def test_a_spoilt_record_is_refused(server, query, named):
    server.write(everything())
    assert server.run(query), "something was spoilt"
    with pytest.raises(StoreError, match=f"{named}.*import the graph anew"):
        export(server, "g")


USERS, CONTENTS = [f"user:{k}" for k in "ab"], [f"content:{k}" for k in "abc"]
_nodes = st.builds(
    lambda id, name: Node("Content", id, {} if name is None else {"title": name}),
    st.sampled_from(CONTENTS),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
)
_rated = st.builds(
    lambda user, content, rating, start: Hyperedge(
        "RATED", {"user": (user,), "content": (content,)}, "test", {"rating": rating}, start_ts=start
    ),
    st.sampled_from(USERS),
    st.sampled_from(CONTENTS),
    st.sampled_from([0.0, 8.0]),
    st.sampled_from([None, 1]),
)
_offered = st.builds(
    lambda content, regions, end: Hyperedge(
        "AVAILABLE",
        {"content": (content,), "platform": ("platform:a",), "region": tuple(regions)},
        "test",
        end_ts=end,
    ),
    st.sampled_from(CONTENTS),
    st.lists(st.sampled_from(["region:US", "region:DE"]), min_size=1, unique=True),
    st.sampled_from([None, 5]),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.lists(_nodes | _rated | _offered, min_size=1, max_size=6) | st.sampled_from(USERS + CONTENTS),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.parametrize("kind", SERVERS)
def test_any_steps_leave_what_the_memory_store_holds(kind, open_emptied, steps):
    server, memory = open_emptied(kind), MemoryStore()
    base = [
        *(Node("User", id) for id in USERS),
        *(Node("Content", id) for id in CONTENTS),
        Node("Platform", "platform:a"),
        Node("Region", "region:US"),
        Node("Region", "region:DE"),
    ]
    for each in (server, memory):
        each.write(base)
    for step in steps:
        if isinstance(step, str):
            assert server.erase(step) == memory.erase(step)
            for each in (server, memory):
                each.write([Node("User" if step.startswith("user") else "Content", step)])
        else:
            server.write(step), memory.write(step)
        assert held(server) == held(memory)


@pytest.mark.parametrize(
    "query",
    [
        "CREATE (n:`Genre` {id: 'genre:x'})",
        "MERGE (n:`Genre` {id: 'genre:x'}) RETURN n",
        "MATCH (n:`Genre`) SET n.name = 'x'",
        "MATCH (n:`Genre`) DETACH DELETE n",
        "MATCH (n:`Genre`) REMOVE n.id",
        "CREATE INDEX some FOR (n:`Genre`) ON (n.name)",
        "LOAD CSV FROM 'file:///etc/hostname' AS line RETURN line",
        "load /* x */\n csv FROM 'file:///etc/hostname' AS line RETURN line",
        "L\\u004fAD CSV FROM 'file:///etc/hostname' AS line RETURN line",
    ],
)
def test_a_question_cannot_write_or_read_files(server, query):
    server.write([Node("Genre", "genre:a", {"name": "A"})])
    with pytest.raises(StoreError, match=r"may only read"):
        server.cypher(query)
    assert list(server.nodes("Genre")) == [Node("Genre", "genre:a", {"name": "A"})]


def test_questions(server):
    server.write(everything())
    assert server.cypher("MATCH (n:`Genre`) RETURN n.id AS id ORDER BY id") == [
        {"id": "genre:one"},
        {"id": "genre:two"},
    ]
    rows = server.cypher(
        "MATCH (n:`Genre` {id: $id}) RETURN n, 'LOAD CSV' AS t, [1, null] AS l", {"id": "genre:one"}
    )
    assert rows[0]["n"]["name"] == "a" and "digest" not in rows[0]["n"]
    assert rows[0]["t"] == "LOAD CSV" and rows[0]["l"] == [1, None]
    with pytest.raises(StoreError, match="written in Cypher"):
        server.cypher("MATCH (n RETURN n")


def test_the_memory_store_knows_no_cypher():
    with pytest.raises(StoreError, match="no Cypher"):
        MemoryStore().cypher("RETURN 1")


def test_a_database_holds_one_graph(server, reopen):
    server.write([Node("Genre", "genre:a")])
    with pytest.raises(StoreError, match="must hold the graph 'other', it holds 'media-gateway-tests'"):
        reopen(server, "other")
    marker = server.run("MATCH (m:`MediaGateway`) DETACH DELETE m RETURN count(*) AS n")
    try:
        assert marker == [{"n": 1}]
        with pytest.raises(StoreError, match="nodes that are not ours"):
            reopen(server, server.graph)
    finally:
        server._is_prepared = False
        server.prepare()
    reopen(server, server.graph).close()


def test_one_writer_at_a_time(server, reopen):
    def records():
        with pytest.raises(StoreError, match=r"one process at a time may write .* process \d+ does"):
            second.write([Node("Genre", "genre:b")])
        yield Node("Genre", "genre:a")

    with reopen(server, server.graph) as second:
        server.write(records())
    assert server.count() == {"Genre": 1}


def test_two_writers_that_know_no_lock_merge_to_one_graph(server, reopen, small_batches):
    memory = MemoryStore()
    memory.write(SMALL.records)
    stores = [reopen(server, server.graph) for _ in range(2)]
    for store in stores:
        store.config = replace(store.config, lock=None, merge_retries=20)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda store: store.write(SMALL.records), stores))
    for store in stores:
        store.close()
    assert held(server) == held(memory)
    some = SMALL.nodes("Content")[0].id
    assert around(server, some) == around(memory, some)


def test_a_server_that_is_not_there():
    with pytest.raises(StoreError, match="must answer.*NEO4J_URI"):
        BoltStore("bolt://127.0.0.1:1", "neo4j", "x", "g")
    with pytest.raises(StoreError, match="set NEO4J_URI so"):
        BoltStore("http://127.0.0.1:1", "neo4j", "x", "g")


def test_a_wrong_password(neo4j_login):
    with pytest.raises(StoreError, match="check NEO4J_USER and NEO4J_PASSWORD"):
        BoltStore(neo4j_login[0], neo4j_login[1], "wrong-password", "g")
