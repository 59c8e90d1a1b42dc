"""Worlds hold what they plant."""

from collections import defaultdict

import pytest

from kg.identity import Resolver
from kg.records import Node
from kg.worlds import WorldConfig, checkerboard, world


@pytest.fixture(scope="module")
def small():
    return world(WorldConfig(seed=1))


def test_the_same_seed_gives_the_same_world(small):
    assert world(WorldConfig(seed=1)).records == small.records
    assert world(WorldConfig(seed=2)).records != small.records


def test_people_rate_their_own_taste_more_and_higher(small):
    own, others = [], []
    for fact in small.hyperedges("RATED"):
        user, content = fact.members["user"][0], fact.members["content"][0]
        same = small.truth.user_group[user] == small.truth.content_group[content]
        (own if same else others).append(fact.properties["rating"])
    assert len(own) > 3 * len(others)
    assert sum(own) / len(own) > 8 > 6 > sum(others) / len(others)


def test_genres_and_people_follow_the_taste(small):
    groups = defaultdict(set)
    for type, role in (("BELONGS_TO", "genre"), ("ACTED_IN", "person")):
        for fact in small.hyperedges(type):
            content = fact.members["content"][0]
            content = small.truth.duplicates.get(content, content)
            groups[fact.members[role][0]].add(small.truth.content_group[content])
    assert all(len(found) == 1 for found in groups.values())


def test_duplicates_are_found_by_identity(small):
    resolver = Resolver()
    for record in small.records:
        if isinstance(record, Node):
            resolver.add(record, 0.7)
    resolver.finish()
    assert small.truth.duplicates
    assert {twin: resolver.canonical(twin) for twin in small.truth.duplicates} == small.truth.duplicates
    contents = [node for node in resolver.nodes() if node.type == "Content"]
    assert {node.id for node in contents} == set(small.truth.content_group)


def test_all_of_it_is_simulated(small):
    shared = ("Genre", "Region", "Platform", "Language")
    for record in small.records:
        if isinstance(record, Node) and record.type in shared:
            continue
        assert record.properties["simulated"] is True


def test_on_a_checkerboard_nobody_leaves_the_own_colour():
    board = checkerboard(users=6, contents=10, groups=2, seed=0)
    rated = defaultdict(set)
    for fact in board.hyperedges("RATED"):
        user, content = fact.members["user"][0], fact.members["content"][0]
        assert board.truth.user_group[user] == board.truth.content_group[content]
        assert fact.properties["rating"] == 10
        rated[user].add(content)
    assert len(rated) == 6 and any(len(contents) < 5 for contents in rated.values())  # some are left to find


@pytest.mark.parametrize("settings", [{"users": 1}, {"contents": 3}, {"groups": 9}, {"duplicate_share": 2}])
def test_a_world_that_cannot_be(settings):
    with pytest.raises(ValueError, match="got"):
        WorldConfig(**settings)
