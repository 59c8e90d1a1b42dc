"""Slots: exact, misspelt, overlapping, absent; the distance against a naive one."""

from functools import cache

import numpy as np
import pytest

from models.queries import misspell
from models.slots import Gazetteer, Slots, edits, plain

NAMES = {
    "title": [("Toy Story", "content:1"), ("Toy Story 2", "content:2"), ("Stranger Things", "content:3"),
              ("It", "content:4"), ("The Shawshank Redemption", "content:5"), ("Heat", "content:6"),
              ("Heat", "content:7"), ("Germany, Year Zero", "content:8")],
    "person": [("Frances McDormand", "person:1"), ("Tom Hanks", "person:2")],
    "platform": [("Netflix", "platform:netflix"), ("Disney+", "platform:disney-plus")],
    "genre": [("Science Fiction", "genre:science-fiction"), ("sci-fi", "genre:science-fiction")],
    "region": [("Germany", "region:DE"), ("deutschland", "region:DE")],
    "mood": [("light", "light")],
}  # fmt: skip


@pytest.fixture(scope="module")
def gazetteer():
    return Gazetteer(NAMES)


@pytest.mark.parametrize(
    ("text", "kind", "names"),
    [
        ("what is leaving netflix in germany", "platform", ("Netflix",)),
        ("what is leaving netflix in germany", "region", ("Germany",)),
        ("a light sci-fi show like Stranger Things", "title", ("Stranger Things",)),
        ("a light sci-fi show like Stranger Things", "genre", ("sci-fi",)),
        ("a light sci-fi show like Stranger Things", "mood", ("light",)),
        ("is toy story 2 better than toy story", "title", ("Toy Story 2", "Toy Story")),
        ("who is in the shawshenk redemtion", "title", ("The Shawshank Redemption",)),
        ("films with francis mcdormand", "person", ("Frances McDormand",)),
        ("wo läuft das in DEUTSCHLAND?", "region", ("deutschland",)),
        ("is it on netflx", "platform", ("Netflix",)),
        ("is it on netflx", "title", ()),
        ('where is "It" streaming', "title", ("It",)),
        ("germany year zero", "title", ("Germany, Year Zero",)),
        ("germany year zero", "region", ()),
        ("on disney+ tonight", "platform", ("Disney+",)),
        ("nothing of the kind", "title", ()),
    ],
)
def test_slots_are_found(gazetteer, text, kind, names):
    assert gazetteer.find(text).names(kind) == names


@pytest.mark.parametrize(
    ("text", "year", "minutes"),
    [
        ("films from 1995 under 90 minutes", 1995, 90),
        ("ich habe 45 minuten", None, 45),
        ("i have 2 hours", None, 120),
        ("tengo 1,5 horas", None, 90),
        ("90s", None, None),
        ("the 1980s", 1980, None),
        ("room 1408 and 3000", None, None),
    ],
)
def test_year_and_minutes(gazetteer, text, year, minutes):
    found = gazetteer.find(text)
    assert (found.year, found.minutes) == (year, minutes)


def test_a_name_of_two_contents_means_both(gazetteer):
    match = gazetteer.find("who directed heat").matches["title"][0]
    assert match.ids == ("content:6", "content:7") and match.slips == 0


def test_no_word_has_no_slot(gazetteer):
    assert gazetteer.find("") == gazetteer.find("?!") == Slots()


def test_one_slip_in_a_long_title_never_hides_it(gazetteer):
    rng = np.random.default_rng(0)
    found = [gazetteer.find(misspell("stranger things", rng, 0.0)).names("title") for _ in range(200)]
    assert found == [("Stranger Things",)] * 200


def test_the_distance_equals_a_naive_one():
    @cache
    def naive(first, second):
        if not first or not second:
            return len(first) + len(second)
        best = min(
            naive(first[1:], second) + 1,
            naive(first, second[1:]) + 1,
            naive(first[1:], second[1:]) + (first[0] != second[0]),
        )
        if len(first) > 1 and len(second) > 1 and first[0] == second[1] and first[1] == second[0]:
            best = min(best, naive(first[2:], second[2:]) + 1)
        return best

    rng = np.random.default_rng(1)
    for _ in range(500):
        first, second = ("".join(rng.choice(list("abc"), rng.integers(0, 7))) for _ in range(2))
        for most in (1, 2, 9):
            assert edits(first, second, most) == min(naive(first, second), most + 1), (first, second, most)


def test_names_become_the_word_of_their_kind(gazetteer):
    assert gazetteer.mask("Is Toy Story 2 on Netflix in Germany?") == "is xtitle on xplatform in xregion"
    assert gazetteer.mask("is it any good") == "is it any good"  # a title of one everyday word stays
    assert plain("Amélie & Co") == "amelie co"
