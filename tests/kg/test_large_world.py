"""A world of any size holds what it plants, and rights, conflicts and identity find it and nothing else."""

import tracemalloc
from collections import defaultdict
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from configs.home import Home
from kg import rights
from kg.arrays import from_records
from kg.copying import Fingerprint
from kg.datasets import open_dataset
from kg.identity import Resolver
from kg.intervals import Span
from kg.large_world import LargeWorld, LargeWorldConfig
from kg.planted_pairs import fit_planted
from kg.planted_windows import AS_OF, BOUNDS, KINDS, plant
from kg.records import Node
from kg.worlds import WorldConfig, world

SMALL = LargeWorldConfig(ratings=800, users=40, contents=160, planted_share=0.6, seed=3)


@pytest.fixture(scope="module")
def large():
    return LargeWorld(SMALL)


@pytest.fixture(scope="module")
def matchers():
    return fit_planted(100)


@pytest.fixture(scope="module")
def graph(large):
    nodes, facts = {}, {}
    for record in chain(large.records(), large.told_again()):
        if isinstance(record, Node):
            nodes.setdefault(record.id, record)
        else:
            assert record.id not in facts, "each fact once"
            facts[record.id] = record
    return from_records(
        "large",
        lambda type: [node for node in nodes.values() if node.type == type],
        lambda type: [fact for fact in facts.values() if fact.type == type],
    )


@pytest.fixture(scope="module")
def told(graph):
    return rights.windows(graph, AS_OF)


def test_the_same_seed_tells_the_same(large):
    told = list(LargeWorld(SMALL).records())
    assert told == list(large.records())
    other = replace(SMALL, seed=4)
    assert told[-1] not in (record for record in LargeWorld(other).records() if record.type == "RATED")


def test_every_kind_is_planted(large):
    assert {one.kind for one in large.planted()} == {"plain", *KINDS}
    assert len(list(large.planted())) == SMALL.contents


@pytest.mark.parametrize("year", [1902, 2042])
def test_whatever_year_a_content_is_of_its_windows_can_be(year):
    planted = [plant(0, number, "content:a:1", "content:a:2", year, 1.0, ("a", "b")) for number in range(200)]
    assert {one.kind for one in planted} == set(KINDS)
    assert all(one.span.first < one.span.last for one in planted)


def test_contested_windows_are_found_and_no_others(large, told):
    found = {
        (one.content_id, one.platform_id, one.region, one.span, one.contested.source, one.holds.source)
        for one in rights.contested(told)
    }
    assert found == {
        (one.content_id, one.platform_id, region, one.span, "large-world", "large-world-shop")
        for one in large.planted("contested")
        for region in one.regions
    }


def test_windows_that_agree_are_one(large, told):
    held = rights.settled(told)
    for one in large.planted("agreeing"):
        for region in one.regions:
            settled, contested = held[one.content_id, one.platform_id, region, "subscription"]
            assert [found.span for found in settled] == [one.span] and not contested
            assert settled[0].sources == ("large-world", "large-world-shop")


def test_broken_exclusivity_is_found_and_no_other(large, told):
    found = {
        (one.content_id, one.exclusive.platform_id, one.regions, one.span)
        for one in rights.exclusivity_conflicts(told)
    }
    assert found == {
        (one.content_id, one.platform_id, tuple(sorted(one.regions)), one.span)
        for one in large.planted("exclusive")
    }


def test_each_broken_licence_names_its_bound_and_no_other(large, graph, told):
    found = sorted((one.window.content_id, one.bound) for one in rights.violations(graph, told, AS_OF))
    assert found == sorted(large.violations())
    assert {bound for _, bound in found} == set(BOUNDS)


def test_the_oracle_is_held_day_by_day(large):
    one = next(iter(large.planted("exclusive")))
    first, second = (Span(fact.start_ts, fact.end_ts) for fact in one.told)
    assert first & second == one.span


@pytest.mark.parametrize(("noise", "bar"), [("written", 0.99), ("mistyped", 0.97), ("spoilt", 0.93)])
def test_second_records_are_found_across_blocks(matchers, noise, bar):
    large = LargeWorld(
        LargeWorldConfig(ratings=0, users=1, contents=200, noise=noise, duplicate_share=0.5, seed=7)
    )
    resolver = Resolver(matchers=matchers)
    contents = []
    for record in large.records():
        if isinstance(record, Node):
            resolver.add(record, 0.7)
            contents += [record.id] * (record.type == "Content")
        else:
            resolver.hear(record)
    resolver.finish()
    groups = defaultdict(list)
    for node_id in contents:
        groups[resolver.canonical(node_id)].append(node_id)
    joined = {
        frozenset((a, b)) for ids in groups.values() for place, a in enumerate(ids) for b in ids[:place]
    }
    true = {frozenset(pair) for pair in large.same()}
    right = len(joined & true)
    assert len(true) == 100
    assert 2 * right / (len(joined) + len(true)) >= bar


def test_people_rate_their_own_taste_more_and_higher(large):
    own, others, seen = [], [], set()
    for fact in large.records():
        if fact.type == "RATED":
            user, content = fact.members["user"][0], fact.members["content"][0]
            same = large.taste_of(user) == large.taste_of(content)
            (own if same else others).append(fact.properties["rating"])
            assert (user, content) not in seen, "nobody rates twice"
            seen.add((user, content))
    assert len(seen) == SMALL.ratings
    assert np.mean(own) > 8 > 6 > np.mean(others) and len(own) > 3 * len(others)


def test_memory_does_not_grow_with_the_facts():
    def peak(ratings, users):
        large = LargeWorld(LargeWorldConfig(ratings=ratings, users=users, contents=100))
        tracemalloc.start()
        count = sum(1 for _ in large.records())
        try:
            return count, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100, 10)  # what is loaded once
    (few, low), (many, high) = peak(500, 50), peak(5_000, 500)
    assert many > 3 * few and high < 1.2 * low


@pytest.mark.parametrize(
    "settings", [{"users": 0}, {"contents": 3}, {"ratings": 10**6}, {"noise": "loud"}, {"rival_share": 2}]
)
def test_a_world_that_cannot_be(settings):
    with pytest.raises(ValueError, match="got"):
        LargeWorldConfig(**settings)


def test_the_small_world_is_as_it_was():
    assert Fingerprint(world(WorldConfig(seed=1)).records).hash == "369506bdfaf0da764bae6a4b33c713c6"


def test_both_sources_are_one_data_set(tmp_path):
    opened = open_dataset(f"large-world@{tmp_path}", Home(tmp_path))
    assert [source.name for source in opened.sources] == ["large-world", "large-world-shop"]
    assert opened.sources[0].config == opened.sources[1].config and opened.is_simulated_availability
