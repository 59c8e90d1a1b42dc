"""What changed between two moments, by hand and on the real catalogues of one platform."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.arrays import from_records
from kg.changes import OwnerChange, Presence, PriceChange, diff, ids_of, told_diff
from kg.records import Hyperedge, Node
from kg.sources.justwatch import JustWatch, JustWatchConfig
from kg.windows import day_ts

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CATALOGUES = DATA / "streaming-catalogues" / "justwatch-us"
NODES = [
    *(Node("Content", f"content:{key}", {"ids": (f"imdb:tt{key}", "tmdb:1")}) for key in "abc"),
    Node("Platform", "platform:p"),
    Node("Platform", "platform:q"),
    *(Node("Region", f"region:{code}") for code in ("US", "DE", "EU")),
]


def window(content, platform, start, end, regions=("US",), **said):
    members = {
        "content": (f"content:{content}",),
        "platform": (f"platform:{platform}",),
        "region": tuple(f"region:{code}" for code in regions),
    }
    return Hyperedge("AVAILABLE", members, "s", said, start, end)


def build(facts):
    return from_records(
        "changes",
        lambda type: [node for node in NODES if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


def test_by_hand():
    graph = build(
        [
            window("a", "p", 0, None, ("US", "DE"), offer="rent", price=3.0, currency="EUR"),
            window("b", "p", 0, 50),
            window("b", "q", 40, None),
            window("c", "q", 50, None, ("EU",), simulated=True),
            window("a", "q", 0, 60, offer="rent", price=2.0, currency="USD"),
            window("a", "q", 60, 90, offer="rent", price=2.5, currency="USD"),
        ]
    )
    found = diff(graph, 10, 70)
    assert found.stayed == (
        Presence("content:a", "platform:p", ("DE", "US")),
        Presence("content:a", "platform:q", ("US",)),
    )
    assert found.left == (Presence("content:b", "platform:p", ("US",)),)
    assert found.arrived[0] == Presence("content:b", "platform:q", ("US",))
    assert found.arrived[1].content_id == "content:c" and len(found.arrived[1].regions) == 27
    assert found.prices == (PriceChange("content:a", "platform:q", "US", "rent", "2.00 USD", "2.50 USD"),)
    assert found.owners == (OwnerChange("content:b", ("platform:p",), ("platform:q",), ("US",)),)
    assert found.simulated and not diff(graph, 10, 30).simulated
    assert [one.content_id for one in diff(graph, 10, 70, "platform:q", "FR").arrived] == ["content:c"]
    assert ids_of(graph, {"content:a", "content:b"}) == {"imdb:tta", "imdb:ttb"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [((70, 70), "later than the first"), ((10, 70, "platform:x"), "platform is one of platform:p")],
)
def test_what_cannot_be_asked(asked, message):
    with pytest.raises(ValueError, match=message):
        diff(build([window("a", "p", 0, None)]), *asked)


windows = st.builds(
    window,
    st.sampled_from("abc"),
    st.sampled_from("pq"),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(6, 12)),
    st.sampled_from([("US",), ("DE",), ("US", "DE")]),
)


@given(st.lists(windows, max_size=8), st.integers(0, 6), st.integers(7, 13))
def test_against_a_naive_reading(facts, first, second):
    facts = list({fact.id: fact for fact in facts}.values())

    def there(at):
        return {
            (fact.members["content"][0], fact.members["platform"][0], region[-2:])
            for fact in facts
            for region in fact.members["region"]
            if fact.start_ts <= at and (fact.end_ts is None or at < fact.end_ts)
        }

    def flat(presences):
        return {(one.content_id, one.platform_id, code) for one in presences for code in one.regions}

    found, before, after = diff(build(facts), first, second), there(first), there(second)
    assert flat(found.stayed) == before & after
    assert flat(found.arrived) == after - before
    assert flat(found.left) == before - after


def test_sources_are_compared_by_what_they_tell_of_a_title_at_the_time():
    told = [
        Node("Content", "content:a"),
        window("a", "p", 0, 10),
        NODES[0],
        window("a", "p", 10, None),
        NODES[1],
        window("b", "p", 0, None, ("EU",)),
        window("b", "q", 0, None),
    ]
    found = told_diff(told, 5, 15, "platform:p", "US")
    assert (found.stayed, found.arrived, found.left) == (frozenset(), {"imdb:tta"}, frozenset())
    assert told_diff(told, 5, 15, "platform:p", "DE").stayed == {"imdb:ttb"}


@pytest.mark.skipif(not CATALOGUES.is_dir(), reason="the catalogues are not here")
def test_netflix_from_july_2022_to_april_2023(tmp_path):
    for name in ("netflix-2022-titles.csv", "netflix-2023-titles.csv"):
        shutil.copy(CATALOGUES / name, tmp_path / name)
    source = JustWatch(JustWatchConfig(tmp_path))
    moments = day_ts("2022-07-01"), day_ts("2023-04-01")
    found = told_diff(source.read(), *moments, "platform:netflix", "US")
    assert (len(found.stayed), len(found.left), len(found.arrived)) == (4463, 984, 1299)
