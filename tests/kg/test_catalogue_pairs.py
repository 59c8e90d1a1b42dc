"""Ids hidden, pairs found, counted and corrected: two small sources whose answers are known."""

import re

from kg.catalogue_pairs import films, hide_ids, in_test, measure, wrong_ids
from kg.matching import Matchers
from kg.records import Node
from kg.sources import Source

NAMES = (
    "Harbour",
    "Detective",
    "Galaxy",
    "Wedding",
    "Empire",
    "Cellar",
    "Orchard",
    "Signal",
    "Garden",
    "Winter",
)


class Catalogue(Source):
    """Ten films under one scheme; the config is (scheme, place -> IMDb number)."""

    name, reliability = "told", 0.7

    def records(self):
        scheme, numbers = self.config
        for place, number in numbers.items():
            ids = (f"imdb:tt{number:07d}", f"{scheme}:{place}") if number else (f"{scheme}:{place}",)
            known = {
                "title": f"The {NAMES[place]}",
                "release_year": 1990 + place,
                "kind": "movie",
                "ids": ids,
            }
            yield Node("Content", f"content:{scheme}:{place}", known)


def test_pairs_without_a_known_answer_are_not_counted_and_wrong_ids_are():
    left = films(Catalogue(("a", {place: place + 1 for place in range(10)})))
    right = films(Catalogue(("b", {**{place: place + 1 for place in range(8)}, 8: None, 9: 77})))
    assert all(not profile.id.startswith("content:imdb") for profile in left.profiles)
    hidden = hide_ids(left, right)
    assert len(hidden.true({})) == 8
    assert ("content:a:9", "content:b:9") in hidden.true({"content:b:9": "tt0000010"})
    found = measure(hidden, Matchers.load("identity/weights.json").content)
    tested = [place for place in range(10) if in_test(f"content:a:{place}")]
    assert found.given.true == sum(place < 8 for place in tested) == found.given.right
    assert found.given.joined == sum(place != 8 for place in tested)


def test_the_list_of_wrong_ids_names_records_and_well_formed_ids():
    listed = wrong_ids()
    assert len(listed) > 40
    assert all(re.fullmatch(r"content:(justwatch:t[ms]\d+|movielens:\d+)", record) for record in listed)
    assert all(re.fullmatch(r"tt\d{7,8}", right) for right in listed.values())
