"""Features: constant width, stated lengths, and nothing that training may not read."""

import dataclasses

import numpy as np
import pytest

from kg.arrays import GraphArrays, from_records
from kg.records import Hyperedge, Node
from models.features import FeaturesConfig, content_features, documents, structure

SMALL = FeaturesConfig(text_width=6, structure_width=5)


def small_graph(changed: dict | None = None) -> GraphArrays:
    """Six films, two of each kind of story; two people with names, one without."""
    stories = (
        "storm at sea",
        "sea voyage in a storm",
        "murder in the city",
        "city of murder",
        "robot",
        "robot love",
    )
    told = {
        place: {
            "title": f"Film {place}",
            "synopsis": story,
            "kind": "movie",
            "release_year": 1980 + 7 * place,
        }
        for place, story in enumerate(stories)
    }
    for place, more in (changed or {}).items():
        told[place] |= more
    nodes = [Node("Content", f"content:a:{place}", known) for place, known in told.items()]
    nodes += [Node("Person", "person:a:1", {"name": "Ann Lee"}), Node("Person", "person:a:2")]
    nodes += [Node("Genre", f"genre:{name}", {"name": name}) for name in ("drama", "war")]
    facts = [
        Hyperedge("ACTED_IN", {"person": (f"person:a:{person}",), "content": (f"content:a:{place}",)}, "a")
        for person, place in ((1, 0), (1, 1), (2, 1), (2, 2), (2, 4))
    ]
    facts += [
        Hyperedge("BELONGS_TO", {"content": (f"content:a:{place}",), "genre": (f"genre:{name}",)}, "a")
        for place, name in ((0, "drama"), (1, "drama"), (2, "war"), (3, "war"))
    ]
    return from_records(
        "small",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


KNOWN = np.array([True] * 5 + [False])


def test_shape_and_length_of_each_part():
    made = content_features(small_graph(), KNOWN, SMALL)
    assert made.shape == (6, SMALL.width) and made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made[:, :6], axis=1), 0.4, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(made[:5, 6:], axis=1), 0.3, rtol=1e-5)


@pytest.mark.parametrize("text, structured", [(400, 300), (0, 4), (4, 0), (0, 0)])
def test_width_is_what_the_settings_say(text, structured):
    config = FeaturesConfig(text_width=text, structure_width=structured)
    assert content_features(small_graph(), KNOWN, config).shape == (6, text + structured)


def test_alike_stories_are_near():
    made = content_features(small_graph(), KNOWN, dataclasses.replace(SMALL, structure_width=0))
    near = made @ made.T
    assert near[0, 1] > near[0, 2] and near[2, 3] > near[2, 1] and near[4, 5] > near[4, 0]


def test_what_was_counted_on_a_day_is_never_read():
    counted = {
        "imdb_rating": 9.9,
        "vote_count": 10**6,
        "popularity": 77.0,
        "tmdb_rating": 1.0,
        "observed_ts": 1,
    }
    changed = content_features(small_graph({0: counted, 3: counted}), KNOWN, SMALL)
    np.testing.assert_array_equal(changed, content_features(small_graph(), KNOWN, SMALL))


def test_nothing_is_fitted_on_contents_that_training_does_not_know():
    planted = {5: {"synopsis": "storm sea murder city xylophone", "release_year": 1900}}
    changed = content_features(small_graph(planted), KNOWN, SMALL)
    np.testing.assert_array_equal(changed[:5], content_features(small_graph(), KNOWN, SMALL)[:5])
    assert (changed[5] != content_features(small_graph(), KNOWN, SMALL)[5]).any()


def test_documents_tell_words_and_names_but_no_ids():
    text = documents(small_graph())
    assert text[1] == "Film 1 . sea voyage in a storm . drama . Ann Lee"
    assert not any("person" in part or "content" in part for part in text)


def test_structure_counts_only_what_known_contents_share():
    flags = structure(small_graph(), KNOWN, least_contents=2).toarray()
    assert set(flags.ravel()) <= {0.0, 1.0}
    assert flags[:5].sum(0).min() >= 2
    assert flags[5].sum() == 1  # of the film that training does not know only the kind is shared


def test_wrong_flags_are_refused():
    with pytest.raises(ValueError, match=r"known must be \(6,\)"):
        content_features(small_graph(), KNOWN[:3], SMALL)
