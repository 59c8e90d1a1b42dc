"""Made-up availability has the shape that it should, and says that it is made up."""

from collections import Counter, defaultdict

import pytest

from kg.windows import BLOCKS, DAY_S, WindowsConfig, day_ts, places, windows

IDS = [f"content:x:{n}" for n in range(1200)]


@pytest.fixture(scope="module")
def facts():
    return list(windows(IDS, "simulated", WindowsConfig(seed=3)))


@pytest.mark.parametrize("day", ["2025-01-01", "2027-06-01", "2030-01-01"])
def test_shares_of_titles_by_platforms_and_leaving(facts, day):
    at = day_ts(day)
    on, leaving = defaultdict(list), 0
    for fact in facts:
        if fact.start_ts <= at and (fact.end_ts is None or at < fact.end_ts):
            on[fact.members["content"]].append(fact.members["platform"])
            leaving += fact.end_ts is not None and fact.end_ts <= at + 304 * DAY_S
    counts = Counter(len(set(platforms)) for platforms in on.values())
    assert counts[1] / len(on) == pytest.approx(0.86, abs=0.03)
    assert counts[2] / len(on) == pytest.approx(0.11, abs=0.03)
    assert all(len(set(platforms)) == len(platforms) for platforms in on.values())
    assert 0.20 <= leaving / sum(map(len, on.values())) <= 0.34
    assert len(on) > 0.95 * len(IDS)


def test_regions_come_in_blocks(facts):
    for fact in facts[:300]:
        for block in BLOCKS:
            covered = [f"region:{code}" in fact.members["region"] for code in block]
            assert all(covered) or not any(covered)


def test_windows_are_marked_few_and_depend_on_seed_and_id_alone(facts):
    assert all(fact.properties["simulated"] for fact in facts)
    assert len(facts) * 1682 / len(IDS) < 15_000
    assert list(windows(IDS[5:6], "simulated", WindowsConfig(seed=3))) == [
        fact for fact in facts if fact.members["content"] == ("content:x:5",)
    ]
    assert list(windows(IDS[:9], "simulated", WindowsConfig(seed=4))) != facts[:9]


def test_every_place_is_told(facts):
    known = {node.id for node in places("simulated")}
    assert {id for fact in facts for role in ("platform", "region") for id in fact.members[role]} <= known


@pytest.mark.parametrize("settings", [{"start": "2031-01-01", "end": "2025-01-01"}, {"mean_days": 3}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match="got"):
        WindowsConfig(**settings)
