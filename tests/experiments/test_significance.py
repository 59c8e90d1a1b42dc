"""The paired test says luck where it is luck, and finds what is there."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError
from experiments.significance import TestConfig, holm, paired


def test_equals_all_sign_flips_of_a_few_users():
    differences = np.array([0.5, 0.3, -0.1, 0.4, 0.2, 0.6, -0.2, 0.35])
    flips = np.array(list(itertools.product((-1, 1), repeat=8))) @ differences
    exact = np.mean(np.abs(flips) >= abs(differences.sum()) - 1e-12)
    assert paired(differences, np.zeros(8)).p == pytest.approx(exact, abs=0.012)


def test_false_alarms_come_as_often_as_the_level_says():
    rng, config = np.random.default_rng(0), TestConfig(resamples=1000)
    p = [paired(rng.random(60), rng.random(60), config).p for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.085


def test_a_real_difference_is_found_and_its_size_told():
    rng = np.random.default_rng(0)
    second = rng.random(400)
    found = paired(second + 0.05 + rng.normal(0, 0.1, 400), second)
    assert found.p == pytest.approx(1 / 10_001)
    assert found.low < 0.05 < found.high and found.users == 400
    assert found.effect == pytest.approx(0.5, abs=0.1)
    # (2.576 + 0.842) standard errors
    assert found.detectable == pytest.approx(3.418 * 0.1 / 20, rel=0.1)


def test_the_detectable_gain_is_found_four_times_in_five():
    rng, config = np.random.default_rng(2), TestConfig(resamples=2000)
    gain = 3.418 * 0.2 / np.sqrt(100)
    found = [paired(rng.normal(gain, 0.2, 100), np.zeros(100), config).p < 0.01 for _ in range(200)]
    assert 0.7 <= np.mean(found) <= 0.9


def test_order_of_the_two_only_turns_the_sign():
    rng = np.random.default_rng(0)
    first, second = rng.random(50), rng.random(50)
    one, other = paired(first, second), paired(second, first)
    assert (one.p, one.difference) == (other.p, pytest.approx(-other.difference))


def test_users_without_a_value_are_left_out_and_equal_ones_say_nothing():
    nan = np.nan
    found = paired(np.array([1.0, nan, 0.5]), np.array([1.0, 0.2, 0.5]))
    assert (found.users, found.p, found.effect, found.difference) == (2, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one user"):
        paired(np.array([nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="of the same users"):
        paired(np.zeros(2), np.zeros(3))
    with pytest.raises(SettingError, match="resamples >= 1000"):
        TestConfig(resamples=10)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_holm_equals_its_definition(p):
    corrected = holm(p)
    order = sorted(range(len(p)), key=lambda place: p[place])
    for rank, place in enumerate(order):
        stepped = [min(1.0, (len(p) - before) * p[order[before]]) for before in range(rank + 1)]
        assert corrected[place] == pytest.approx(max(stepped))
    assert all(after >= before for before, after in zip(p, corrected, strict=True))
