"""Words for genres and countries: what each source writes, and what it means here."""

import pytest

from kg.genre_tree import GENRES, NO_GENRE, WORDS, with_parents
from kg.vocabulary import country_of, genre_node, genres_of, slug


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("Children's", ["children"]),  # MovieLens
        ("documentation", ["documentary"]),  # JustWatch
        ("Reality-TV", ["reality"]),  # IMDb
        ("Sci-Fi & Fantasy", ["science-fiction", "fantasy"]),  # TMDB
        ("Stand-Up Comedy & Talk Shows", ["comedy", "comedy:stand-up", "talk-show"]),  # the platforms' own
        ("Anime Features", ["animation", "animation:anime"]),
        ("Science & Nature TV", ["documentary", "documentary:science", "documentary:nature"]),
        ("International Movies", []),
        ("(no genres listed)", []),
        ("Space Opera Noir", ["space-opera-noir"]),  # not in our table: a genre of its own
    ],
)
def test_genres_of_words(word, keys):
    assert genres_of(word) == tuple(f"genre:{key}" for key in keys)


def test_the_tree_is_whole():
    for key in GENRES:
        assert all(above in GENRES for above in with_parents((key,)))
        assert all(slug(part) == part for part in key.split(":"))
    for word, keys in WORDS.items():
        assert slug(word) == word and all(key in GENRES for key in keys)
        assert word not in NO_GENRE


def test_a_genre_below_another_says_its_parent():
    told = genre_node("genre:action:superhero", "x").properties
    assert (told["name"], told["parent"], told["level"]) == ("Superhero", "genre:action", 1)
    assert dict(genre_node("genre:action", "x").properties) == {"name": "Action", "sources": ("x",)}


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("NA", "NA"),
        ("na", "NA"),
        ("SU", "SU"),
        ("YU", "YU"),
        ("XC", "XC"),
        ("XX", None),
        ("", None),
        ("Lebanon", "LB"),
        ("Namibia", "NA"),
        ("USA", "US"),
        ("United Kingdom", "GB"),
        ("Soviet Union", "SU"),
        ("West Germany", "DE"),
        ("East Germany", "DD"),
        ("Turkey", "TR"),
        ("Hong Kong", "HK"),
        ("The Democratic Republic Of Congo", "CD"),
        ("Atlantis", None),
    ],
)
def test_countries(word, code):
    assert country_of(word) == code
