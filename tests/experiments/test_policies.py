"""Policies: classes are disjoint and formed before the test, the learned one never sees a test value."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig
from experiments.policies import (
    BEST,
    CLASSES,
    LEARNED,
    PUBLISHED,
    UNIFORM,
    applied,
    best_single,
    classes,
    genre_entropy,
    history_lengths,
    learned,
    measured,
    policies,
)
from experiments.splits import Part, SplitConfig, split
from models.ranking import genres_of

OF = np.array(["short", "short", "long", "long", "narrow", "wide"])
VALIDATION = {
    "a": np.array([0.9, 0.7, 0.0, 0.0, 0.5, 0.5]),  # best for short, and in all
    "b": np.array([0.0, 0.0, 0.6, 0.8, 0.6, 0.5]),  # best for long and narrow; ties wide
}


def test_choices_by_hand():
    assert best_single(VALIDATION) == "a"
    assert learned(VALIDATION, OF) == {"short": ("a",), "long": ("b",), "narrow": ("b",), "wide": ("a",)}
    nobody = np.array(["short"] * 6)
    assert learned(VALIDATION, nobody)["long"] == ("a",)  # a class without anybody takes the best of all
    with pytest.raises(SettingError, match="run the bench"):
        best_single({})


def test_values_by_hand():
    found, missing = policies(VALIDATION, OF)
    assert set(found) == {BEST, LEARNED, UNIFORM} and set(missing) == set(PUBLISHED)
    test = {"a": np.array([1.0, 1, 0, 0, 0, 1]), "b": np.array([0.0, 0, 1, 1, 1, 0])}
    results = {one.name: one for one in measured(found, OF, test, EvaluationConfig(resamples=100))}
    assert results[BEST].value.value == pytest.approx(3 / 6) and results[BEST].to_best is None
    assert results[LEARNED].value.value == 1.0
    assert results[LEARNED].to_best.difference == pytest.approx(3 / 6)
    assert results[UNIFORM].value.value == pytest.approx(1 / 2)
    assert results[UNIFORM].by_class == dict.fromkeys(CLASSES, 0.5)
    assert results[LEARNED].p >= results[LEARNED].to_best.p


def test_the_learned_policy_is_the_same_whatever_test_says():
    """A planted leak: on test the other mechanism is better in every class, and nothing follows from it."""
    found, _ = policies(VALIDATION, OF)
    test = {"a": 1 - VALIDATION["a"], "b": 1 - VALIDATION["b"]}
    (honest,) = (
        one for one in measured(found, OF, test, EvaluationConfig(resamples=100)) if one.name == LEARNED
    )
    assert honest.picks == learned(VALIDATION, OF)
    leaked = learned(test, OF)  # what a policy would pick that looked
    assert leaked["short"] != honest.picks["short"]
    assert np.mean(applied(leaked, OF, test)) > honest.value.value


def test_published_tables_take_the_best_single_one_where_they_say_nothing():
    names = {one for picks in PUBLISHED.values() for picked in picks.values() for one in picked}
    validation = {name: np.full(6, 0.1) for name in names} | {"z": np.full(6, 0.2)}
    found, missing = policies(validation, OF)
    assert not missing and found["published 2"]["short"] == ("z",)
    assert found["published 1"]["short"] == ("multi_head",)
    assert found["published 2"]["wide"] == ("graph_rope", "edge_featured")
    test = {name: np.full(6, float(name == "edge_featured")) for name in validation}
    assert applied(found["published 2"], OF, test).tolist() == [0, 0, 0, 0, 0, 0.5]


def test_classes_are_read_from_the_history_alone(tasteful):
    cut = split(tasteful, SplitConfig())
    part = cut.test
    of, length, entropy = classes(part), history_lengths(part), genre_entropy(part)
    assert set(of) == set(CLASSES) and len(of) == len(part.users)
    assert length[of == "short"].max() < length[of == "long"].min()
    assert entropy[of == "narrow"].max() < entropy[of == "wide"].min()
    elsewhere = sp.csr_array(
        (np.ones(len(part.users), np.float32), (part.users, np.zeros(len(part.users), int))),
        shape=part.held_out.shape,
    )
    np.testing.assert_array_equal(classes(replace(part, held_out=elsewhere)), of)


def test_entropy_by_hand(tasteful):
    """Someone who likes one content of one genre has 0 bits; of two genres alike, 1 bit."""
    cut = split(tasteful, SplitConfig())
    genres = genres_of(cut.test.training.graph).toarray()
    single = np.flatnonzero(genres.sum(1) == 1)
    by_genre = {int(genres[row].argmax()): int(row) for row in single}
    first, second, *_ = by_genre.values()
    history = sp.lil_array(cut.test.history.shape, dtype=np.float32)
    history[0, first] = history[1, first] = history[1, second] = 1
    held_out = sp.lil_array(history.shape, dtype=np.float32)
    held_out[0, second] = held_out[1, 0] = 1
    training = replace(cut.test.training, positives=history.tocsr(), times=history.tocsr().astype(np.int64))
    part = Part(training, held_out.tocsr(), cut.test.until, None)
    np.testing.assert_allclose(genre_entropy(part), [0.0, 1.0], atol=1e-12)
    assert history_lengths(part).tolist() == [1, 2]
