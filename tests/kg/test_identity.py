"""Which records are one node: cases by hand, and properties over drawn records."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.identity import Resolver
from kg.records import Node
from kg.tables import known
from kg.titles import normalise_title


def content(key, *ids, **known):
    return Node("Content", f"content:{key}", {**known, "ids": tuple(ids)})


def film(key, *ids, title="Heat", year=1995, **known):
    return content(key, *ids, title=title, release_year=year, kind="movie", **known)


def resolve(*nodes, existing=(), by_title=True):
    resolver = Resolver(existing, by_title)
    for node in nodes:
        resolver.add(node, 0.7)
    resolver.finish()
    return resolver


def test_one_identifier_joins_and_the_strongest_names_the_node():
    resolver = resolve(
        film("movielens:6", "tmdb:949", "imdb:tt0113277", "movielens:6"),
        film("justwatch:tm1", "imdb:tt0113277", title="Heat!"),
        film("tmdb:949", "tmdb:949", synopsis="Cops and robbers."),
    )
    (node,) = resolver.nodes()
    assert node.id == "content:imdb:tt0113277"
    assert {resolver.canonical(id) for id in ("content:justwatch:tm1", "content:tmdb:949")} == {node.id}
    assert node.properties["ids"] == ("imdb:tt0113277", "tmdb:949", "justwatch:tm1", "movielens:6")
    assert node.properties["title"] == "Heat" and node.properties["alternate_titles"] == ("Heat!",)
    assert {merge.evidence for merge in resolver.log} <= {"imdb:tt0113277", "tmdb:949"}


def test_a_weaker_identifier_does_not_join_what_a_stronger_one_parts():
    resolver = resolve(
        film("movielens:1", "imdb:tt0000001", "tmdb:5"), film("movielens:2", "imdb:tt0000002", "tmdb:5")
    )
    assert {node.id for node in resolver.nodes()} == {"content:imdb:tt0000001", "content:imdb:tt0000002"}
    assert resolver.canonical("content:tmdb:5") == "content:tmdb:5"  # names neither


def test_title_year_and_kind_join_where_nothing_contradicts():
    resolver = resolve(film("movielens:6", "imdb:tt0113277"), film("title:movie:1995:heat", title="The HEAT"))
    assert len(list(resolver.nodes())) == 1
    assert resolver.log[0].evidence == "title: heat, 1995, movie"


@pytest.mark.parametrize(
    "other",
    [
        film("movielens:7", "imdb:tt9999999"),
        film("title:movie:1996:heat", year=1996),
        content("title:series:1995:heat", title="Heat", release_year=1995, kind="series"),
        content("title:movie::heat", title="Heat", kind="movie"),
    ],
    ids=["another IMDb id", "another year", "another kind", "no year"],
)
def test_title_does_not_join(other):
    assert len(list(resolve(film("movielens:6", "imdb:tt0113277"), other).nodes())) == 2


def test_a_title_that_two_contradicting_films_share_names_neither():
    resolver = resolve(film("a:1", "imdb:tt0000001"), film("b:2", "imdb:tt0000002"), film("title:x"))
    assert len(list(resolver.nodes())) == 3


def test_an_identifier_joins_against_title_and_year_and_says_so():
    resolver = resolve(
        film("a:1", "imdb:tt0000001"), film("b:2", "imdb:tt0000001", title="War of the Worlds", year=2005)
    )
    assert [merge.is_contested for merge in resolver.log] == [False, True] or resolver.log[-1].is_contested


def test_people_are_joined_by_identifiers_only():
    same_name = [
        Node("Person", f"person:justwatch:{n}", {"name": "Ada", "ids": (f"justwatch:{n}",)}) for n in (1, 2)
    ]
    linked = Node("Person", "person:tmdb:9", {"name": "Ada L.", "ids": ("justwatch:2",)})
    assert {node.id for node in resolve(*same_name, linked).nodes()} == {
        "person:justwatch:1",
        "person:tmdb:9",
    }


def test_conflicts_are_settled_as_the_graph_says():
    early = film(
        "a:1",
        "imdb:tt0000001",
        synopsis="Short.",
        release_date="1995-12-15",
        imdb_rating=8.0,
        vote_count=10,
        observed_ts=100,
        sources=("x",),
    )
    late = film(
        "b:2",
        "imdb:tt0000001",
        title="Heat (1995)",
        synopsis="A longer one.",
        release_date="1995-12-01",
        imdb_rating=8.3,
        observed_ts=200,
        sources=("y",),
    )
    resolver = Resolver()
    resolver.add(early, 0.4)
    resolver.add(late, 0.9)
    resolver.finish()
    merged = next(resolver.nodes()).properties
    assert merged["title"] == "Heat (1995)"  # the more reliable one
    assert merged["synopsis"] == "A longer one." and merged["release_date"] == "1995-12-01"
    assert merged["imdb_rating"] == 8.3 and merged["vote_count"] == 10 and merged["observed_ts"] == 200
    assert merged["sources"] == ("x", "y")


def test_an_id_that_the_store_knows_is_kept_when_a_stronger_one_is_learned():
    stored = list(resolve(film("justwatch:tm1", "justwatch:tm1")).nodes())
    resolver = resolve(film("justwatch:tm1", "justwatch:tm1", "imdb:tt0000001"), existing=stored)
    (node,) = resolver.nodes()
    assert node.id == "content:justwatch:tm1" and "imdb:tt0000001" in node.properties["ids"]
    assert resolver.canonical("content:imdb:tt0000001") == node.id
    assert not resolver.log


def test_two_stored_nodes_that_turn_out_one_are_named_to_be_erased():
    stored = [film("tmdb:5", "tmdb:5", title="A"), film("justwatch:tm1", "justwatch:tm1", title="B")]
    resolver = resolve(film("x:1", "tmdb:5", "justwatch:tm1", title="C"), existing=stored)
    (node,) = resolver.nodes()
    assert node.id == "content:tmdb:5"
    assert [merge.merged for merge in resolver.log if merge.was_stored] == ["content:justwatch:tm1"]


def test_an_identifier_that_others_claim_names_no_node():
    resolver = resolve(
        film("a:1", "imdb:tt0000001", "tmdb:5"),
        film("b:2", "imdb:tt0000002", "tmdb:5", title="Ran"),
        film("movielens:3", "tmdb:5", title="Dune"),
    )
    assert resolver.canonical("content:movielens:3") == "content:movielens:3"
    assert len(list(resolver.nodes())) == 3


def test_a_record_without_identifiers_stays_with_the_node_that_took_it_over():
    stored = film(
        "imdb:tt0000001", "imdb:tt0000001", "title:movie:1995:heat", title="Renamed since", year=1996
    )
    resolver = resolve(film("title:movie:1995:heat"), existing=[stored])
    assert resolver.canonical("content:title:movie:1995:heat") == stored.id and not resolver.log


def test_other_titles_stand_in_order():
    titles = [film("a:1", "imdb:tt1", title=title) for title in ("M", "Q", "B", "Z", "C", "X")]
    assert next(resolve(*titles).nodes()).properties["alternate_titles"] == ("B", "C", "Q", "X", "Z")


def test_nodes_without_news_are_left_alone():
    stored = list(resolve(film("a:1"), film("b:2", title="Other")).nodes())
    assert [node.id for node in resolve(film("b:2", title="Other"), existing=stored).nodes()] == [
        "content:b:2"
    ]


def test_it_is_asked_after_it_is_finished():
    resolver = Resolver()
    with pytest.raises(RuntimeError, match="finish"):
        resolver.canonical("content:a:1")
    resolver.finish()
    with pytest.raises(RuntimeError, match="finish"):
        resolver.add(film("a:1"), 0.7)


def test_titles_are_compared_without_article_accent_and_bracket():
    assert normalise_title("Les Misérables (2012)") == normalise_title("les miserables") == "miserables"
    assert normalise_title("Tom & Viv") == "tom and viv"
    assert normalise_title("(500)") == "500"  # nothing is left without the bracket, so it stays


KEYS = st.sampled_from([f"{scheme}:{n}" for scheme in ("imdb", "tmdb", "justwatch", "odd") for n in range(4)])
RECORDS = st.lists(
    st.builds(
        lambda n, ids, title, year, told: content(
            f"own{n}:1",  # a scheme each, so that titles can join
            *ids,
            kind="movie",
            **known(title=title, release_year=year, synopsis=told),
        ),
        st.integers(0, 7),
        st.lists(KEYS, max_size=3, unique=True),
        st.sampled_from(["Heat", "The Heat", "Ran", None]),
        st.sampled_from([1995, 1996, None]),
        st.sampled_from(["", "a", "bb", "cc"]),
    ),
    max_size=9,
)


def plain(resolver):
    return {node.id: dict(node.properties) for node in resolver.nodes()}


@given(RECORDS)
@settings(max_examples=300, deadline=None)
def test_said_twice_changes_nothing(records):
    once = resolve(*records)
    again = resolve(*records, existing=list(once.nodes()))
    assert plain(again) == plain(once)
    assert not again.log
    assert all(again.canonical(record.id) == once.canonical(record.id) for record in records)


@given(RECORDS, st.randoms())
@settings(max_examples=100, deadline=None)
def test_who_spoke_first_does_not_decide_who_is_one(records, random):
    shuffled = list(records)
    random.shuffle(shuffled)
    first, second = resolve(*records), resolve(*shuffled)
    assert all(first.canonical(record.id) == second.canonical(record.id) for record in records)


@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True), max_size=8))
@settings(max_examples=100, deadline=None)
def test_identifiers_join_as_naive_closure_does(claims):
    """With one scheme nothing is stronger, so nodes are the connected parts of who shares an id."""
    records = [content(f"own:{n}", *(f"justwatch:{id}" for id in ids)) for n, ids in enumerate(claims)]
    parts = [{n} for n in range(len(claims))]
    for first in range(len(claims)):
        for second in range(first):
            if set(claims[first]) & set(claims[second]):
                one, other = (next(part for part in parts if n in part) for n in (first, second))
                if one is not other:
                    parts.remove(other)
                    one |= other
    resolver = resolve(*records, by_title=False)
    for first in range(len(claims)):
        for second in range(len(claims)):
            together = any({first, second} <= part for part in parts)
            assert (
                resolver.canonical(f"content:own:{first}") == resolver.canonical(f"content:own:{second}")
            ) == together
