"""Rows of a first load, and the post that runs beside whoever makes them; no server."""

import json

import pytest

from kg import schema
from kg.large_world import LargeWorld, LargeWorldConfig
from kg.records import Hyperedge, Node
from kg.store import loading
from kg.store.encoding import row_of
from kg.store.loading import BatchLoad, _Post

TOLD = list(LargeWorld(LargeWorldConfig(ratings=120, users=10, contents=40)).records())
NODES = list({record.id: record for record in TOLD if isinstance(record, Node)}.values())
FACTS = list({record.id: record for record in TOLD if isinstance(record, Hyperedge)}.values())
WIDE = [fact for fact in FACTS if not schema.FACTS[fact.type].is_binary]
PAIRS = [fact for fact in FACTS if schema.FACTS[fact.type].is_binary]


def expected() -> tuple[list, list]:
    """Vertices as (label, id), edges as (type, from id, to id, own id), sorted."""
    vertices = [(node.type, node.id) for node in NODES]
    vertices += [(schema.FACTS[fact.type].label, fact.id) for fact in WIDE]
    edges = []
    for fact in PAIRS:
        first, second = (fact.members[role.name][0] for role in schema.FACTS[fact.type].roles)
        edges.append((fact.type, first, second, fact.id))
    for fact in WIDE:
        member_type = schema.FACTS[fact.type].member_type
        edges += [(member_type(role), fact.id, id, "") for role, ids in fact.members.items() for id in ids]
    return sorted(vertices), sorted(edges)


@pytest.mark.parametrize("chunk", [1, 7, 2_000])
@pytest.mark.parametrize("wide_first", [False, True])
def test_rows_are_what_the_records_say(tmp_path, monkeypatch, chunk, wide_first):
    monkeypatch.setattr(loading, "_CHUNK_ROWS", chunk)
    facts = [*WIDE, *PAIRS] if wide_first else [*PAIRS[:9], *WIDE, *PAIRS[9:]]
    rows = b"".join(BatchLoad(None, tmp_path).rows(NODES, iter(facts), wide_first))
    lines = [json.loads(line) for line in rows.splitlines()]
    kinds = [line["@type"] for line in lines]
    assert kinds == sorted(kinds, reverse=True)  # all vertices, then all edges
    vertices = [line for line in lines if line["@type"] == "vertex"]
    edges = [
        (e["@class"], vertices[e["@from"]]["id"], vertices[e["@to"]]["id"], e.get("id", ""))
        for e in lines[len(vertices) :]
    ]
    assert (sorted((v["@class"], v["id"]) for v in vertices), sorted(edges)) == expected()
    known = {row_of(record)[0]: row_of(record)[1] for record in (*NODES, *FACTS)}
    for line in lines:
        if "id" in line:
            assert {name: value for name, value in line.items() if name[0] != "@"} == known[line["id"]]
    assert list(tmp_path.iterdir()) == []


def test_a_wide_fact_that_comes_late_is_refused(tmp_path):
    with pytest.raises(ValueError, match="facts of most members come first, got"):
        list(BatchLoad(None, tmp_path).rows(NODES, [*PAIRS, *WIDE], wide_first=True))


def test_a_post_takes_all_rows_and_tells_how_far_it_is():
    taken, told = [], []
    post = _Post(lambda rows: taken.extend(rows), lambda *said: told.append(said))
    for number in range(200):  # more than may wait
        post.put(b"row %d\n" % number)
    post.end()
    assert taken == [b"row %d\n" % number for number in range(200)]
    assert told[0] == (1, None) and told[-1] == (200, 200)


@pytest.mark.parametrize("taken", [0, 1, 100])
def test_what_the_post_meets_is_raised_where_the_rows_are_made(taken):
    def break_down(rows):
        for _ in zip(range(taken), rows, strict=False):
            pass
        raise OSError("the line was cut")

    post = _Post(break_down, None)
    with pytest.raises(OSError, match="the line was cut"):
        for _ in range(1_000):
            post.put(b"row\n")
    post.break_off()


def test_rows_that_cannot_be_made_drop_the_connection():
    ended = []

    def take(rows):
        try:
            for _ in rows:
                pass
        except Exception as error:
            ended.append(type(error).__name__)
            raise

    post = _Post(take, None)
    post.put(b"row\n")
    post.break_off()
    assert isinstance(post._ended.exception(timeout=10), loading._BrokenOff) and ended == ["_BrokenOff"]
