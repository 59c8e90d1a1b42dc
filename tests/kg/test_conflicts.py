"""What a node says where its records disagree: by hand."""

from itertools import permutations

import pytest

from kg.arrays import export
from kg.conflicts import Record, merge
from kg.ratings import Rating, ratings_of
from kg.records import Node
from kg.store.memory import MemoryStore


def content(source: str, **known) -> Node:
    return Node("Content", f"content:{source}:1", {"sources": (source,), **known})


def merged(*told: tuple[Node, float], stored: Node | None = None) -> Node:
    records = [] if stored is None else [Record(stored, 0.7, True, 0)]
    records += [Record(node, reliability, False, place) for place, (node, reliability) in enumerate(told, 1)]
    return merge("content:a:1", records)


def test_every_rating_is_kept_with_its_source():
    first = content("a", imdb_rating=7.5, observed_ts=100)
    second = content("b", imdb_rating=7.9, tmdb_rating=6.0, observed_ts=200)
    third = content("c", imdb_rating=7.5)
    for told in permutations([(first, 0.7), (second, 0.4), (third, 0.7)]):
        node = merged(*told)
        assert ratings_of(node) == (
            Rating("imdb_rating", "a", 7.5, 100),
            Rating("imdb_rating", "b", 7.9, 200),
            Rating("imdb_rating", "c", 7.5, None),
        )  # the scale of one teller stands in its column alone
        assert (node.properties["imdb_rating"], node.properties["tmdb_rating"]) == (7.9, 6.0)


def test_one_rating_leaves_no_trace_of_its_own():
    node = merged((content("a", imdb_rating=7.5), 0.7), (content("b", title="B"), 0.7))
    assert "ratings" not in node.properties
    assert ratings_of(node) == (Rating("imdb_rating", "a+b", 7.5, None),)
    assert ratings_of(content("a", imdb_rating=7.5)) == (Rating("imdb_rating", "a", 7.5, None),)
    assert ratings_of(content("a", title="A")) == ()


def test_ratings_told_again_change_nothing_and_newer_ones_replace_older():
    told = [(content("a", imdb_rating=7.5, observed_ts=1), 0.7), (content("b", imdb_rating=8.0), 0.4)]
    node = merged(*told)
    assert merged(*told, stored=node) == node
    assert merged(told[0], stored=node) == node  # the one that is not told again stays
    newer = merged((content("a", imdb_rating=7.6, observed_ts=2), 0.7), stored=node)
    assert [rating.value for rating in ratings_of(newer)] == [7.6, 8.0]
    alone = merged((content("a", imdb_rating=7.5), 0.7), (content("b", title="B"), 0.7))
    assert "ratings" not in merged((content("a", imdb_rating=9.0), 0.7), stored=alone).properties


def test_two_ratings_of_one_source_and_time_settle_in_whatever_order_they_come():
    told = [
        (content("a", imdb_rating=2.8, observed_ts=9), 0.4),
        (content("a", imdb_rating=7.6, observed_ts=9), 0.4),
        (content("b", imdb_rating=2.9, observed_ts=5), 0.7),
    ]
    first = {ratings_of(merged(*some)) for some in permutations(told)}
    again = {ratings_of(merged(*some, stored=merged(*told))) for some in permutations(told)}
    assert first == again == {(Rating("imdb_rating", "a", 7.6, 9), Rating("imdb_rating", "b", 2.9, 5))}


def test_ratings_move_no_hash_where_there_are_not_several():
    def hash_of(*nodes: Node) -> tuple[str, bool]:
        store = MemoryStore()
        store.write(nodes)
        graph = export(store, "g")
        return graph.hash, "ratings" in graph.nodes["Content"].column_names

    plain = Node("Content", "content:a:1", {"title": "A", "imdb_rating": 7.5})
    several = merged((content("a", imdb_rating=7.5), 0.7), (content("b", imdb_rating=8.0), 0.7))
    assert hash_of(plain)[1] is False and hash_of(several)[1] is True
    assert hash_of(plain)[0] == "f9b57d407d2be53d85006df987f7c862"  # the hash that this graph always had


def test_ratings_are_counts_of_a_day():
    store = MemoryStore()
    told = [(content(name, imdb_rating=7.5, observed_ts=100), 0.7) for name in ("a", "b")]
    store.write([merged(*told)])
    assert export(store, "g", as_of=100).node("Content", 0).properties["ratings"]
    assert "ratings" not in export(store, "g", as_of=99).node("Content", 0).properties


def test_the_longest_synopsis():
    told = [(content("a", synopsis="Short."), 0.9), (content("b", synopsis="A longer one."), 0.2)]
    assert merged(*told).properties["synopsis"] == "A longer one."
    tie = [(content("a", synopsis="abc"), 0.9), (content("b", synopsis="abd"), 0.2)]
    assert merged(*tie).properties == merged(*tie[::-1]).properties | {"sources": ("a", "b")}


@pytest.mark.parametrize(
    ("dates", "earliest"),
    [
        (("1999-03-31", "1999-04-01"), "1999-03-31"),
        (("1999", "1999-03-31"), "1999-03-31"),  # a year says no earlier day
        (("1999-03", "1999-03-31"), "1999-03-31"),
        (("1998", "1999-03-31"), "1998"),
        (("1999-12-31", "1999"), "1999-12-31"),
        (("1999-03", "1999"), "1999-03"),
    ],
)
def test_the_earliest_release_date(dates, earliest):
    for told in permutations(dates):
        records = [(content(f"s{place}", release_date=date), 0.7) for place, date in enumerate(told)]
        assert merged(*records).properties["release_date"] == earliest


def test_the_title_of_the_most_reliable_source_and_the_others_beside_it():
    scraped = content("scraped", title="Heat!", release_year=1996, kind="movie")
    platform = content("platform", title="Heat", release_year=1995, kind="movie")
    bare = content("licensor", title="HEAT")  # knows less: title, year and kind come from one record
    for told in permutations([(scraped, 0.4), (platform, 0.7), (bare, 0.95)]):
        known = merged(*told).properties
        assert (known["title"], known["release_year"]) == ("Heat", 1995)
        assert known["alternate_titles"] == ("HEAT", "Heat!")
    both = merged((content("a", title="One"), 0.95), (content("b", title="Two"), 0.4)).properties
    assert (both["title"], both["alternate_titles"]) == ("One", ("Two",))


def test_what_one_real_source_tells_is_real():
    real, made_up = content("a", simulated=False), content("b", simulated=True)
    assert merged((real, 0.7), (made_up, 0.7)).properties["simulated"] is False
    assert merged((made_up, 0.7), (made_up, 0.7)).properties["simulated"] is True
