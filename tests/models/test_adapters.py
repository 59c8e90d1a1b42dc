"""Adapters as arrays: the formula, what a fresh one adds, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from configs.registry import SettingError
from models.adapters import MOST_BYTES, AdapterSpec, hidden_scores, shifts

SPEC = AdapterSpec(width=5, outputs=3, rank=2, alpha=4.0, base="abc")


def test_a_batch_equals_the_formula_user_by_user():
    draw = np.random.default_rng(0)
    adapters, inputs = SPEC.fresh(4), draw.normal(size=(4, 5)).astype(np.float32)
    adapters["down"], adapters["up"] = draw.normal(size=(4, 2, 5)), draw.normal(size=(4, 3, 2))
    found = shifts(SPEC, adapters, inputs)
    for one, x, y in zip(adapters, inputs, found, strict=True):
        assert_allclose(y, 2.0 * one["up"].astype(float) @ (one["down"].astype(float) @ x), rtol=1e-5)


def test_a_fresh_adapter_adds_nothing():
    assert not shifts(SPEC, SPEC.fresh(2), np.ones((2, 5), np.float32)).any()


def test_a_million_users_at_rank_two_and_width_64_fit_their_room():
    assert AdapterSpec(64, 64, 2).dtype.itemsize * 1_000_000 <= 2.5 * 2**30


@pytest.mark.parametrize("settings", [(0, 3), (5, 0), (5, 3, 0), (5, 3, 1, 0.0), (MOST_BYTES, 8)])
def test_a_spec_that_cannot_be_is_refused(settings):
    with pytest.raises(SettingError, match="an adapter"):
        AdapterSpec(*settings)


def test_adapters_of_another_base_are_refused():
    with pytest.raises(ValueError, match="take those of this base"):
        shifts(SPEC, AdapterSpec(4, 3).fresh(1), np.ones((1, 5), np.float32))


def test_a_hidden_layer_bent_for_each_user_equals_the_formula():
    draw, count, contents = np.random.default_rng(1), 19, 1_100  # more than a block of each
    adapters = SPEC.fresh(count)
    adapters["down"], adapters["up"] = draw.normal(size=(count, 2, 5)), draw.normal(size=(count, 3, 2))
    x, hidden, users, out = (
        draw.normal(size=shape).astype(np.float32)
        for shape in ((contents, 5), (contents, 3), (count, 3), (3,))
    )
    found = hidden_scores(SPEC, adapters, x, hidden, users, out)
    for one, user, scores in zip(adapters, users, found, strict=True):
        update = 2.0 * one["up"].astype(float) @ one["down"].astype(float)
        right = np.maximum(0, hidden + user + x @ update.T) @ out
        assert_allclose(scores, right, rtol=1e-3, atol=1e-3)
