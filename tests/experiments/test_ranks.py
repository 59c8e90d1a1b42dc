"""Average ranks and the critical difference against the worked example of the paper that proposed them."""

import numpy as np
import pytest
from scipy import stats

from configs.registry import SettingError
from experiments.ranks import critical_difference, friedman, ranks, tie_share

# Demšar, JMLR 7, 2006, table 6: areas under the curve of C4.5 and three variants on 14 data sets
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # printed alike there, and ranked 2 and 3
        [0.957, 0.978, 0.946, 0.970],
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_the_worked_example_of_demsar():
    found = ranks(dict(zip(NAMES, DEMSAR.T, strict=True)))
    by_name = dict(zip(found.names, found.averages, strict=True))
    assert [round(by_name[name], 3) for name in NAMES] == [3.143, 2.000, 2.893, 1.964]
    assert round(found.critical, 2) == 1.25  # page 11: 2.569 sqrt(4 · 5 / (6 · 14))
    assert round(ranks(dict(zip(NAMES, DEMSAR.T, strict=True)), level=0.1).critical, 2) == 1.12
    # the paper's 9.28 is without the correction for ties
    ranked = stats.rankdata(-DEMSAR, axis=1)
    assert round(found.statistic * (1 - tie_share(ranked)), 2) == 9.28
    assert found.users == 14 and found.names[0] == "C4.5+m+cf"
    # at 0.05 the paper finds no pair apart; the two ends differ by 1.179 < 1.25
    assert found.cliques == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)
    assert len(ranks(dict(zip(NAMES, DEMSAR.T, strict=True)), level=0.1).cliques) > 1


@pytest.mark.parametrize(
    ("models", "q"),
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (9, 3.102),
        (10, 3.164),
    ],
)
def test_the_critical_values_of_demsars_table_5(models, q):
    found = critical_difference(models, 100) / np.sqrt(models * (models + 1) / 600)
    assert found == pytest.approx(q, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_friedman_equals_scipy_with_ties(seed):
    values = np.random.default_rng(seed).integers(0, 4, (40, 5)).astype(float)
    ranked = stats.rankdata(-values, axis=1)
    expected = stats.friedmanchisquare(*values.T)
    assert friedman(ranked) == pytest.approx(expected.statistic)
    found = ranks({str(place): column for place, column in enumerate(values.T)})
    assert found.p == pytest.approx(expected.pvalue)
    assert sum(found.averages) == pytest.approx(15)


def test_what_is_clearly_apart_shares_no_clique():
    rng = np.random.default_rng(0)
    base = rng.random(500)
    found = ranks({"low": base, "high": base + 1, "also high": base + 1 + rng.normal(0, 0.1, 500)})
    assert found.cliques == (tuple(sorted(found.names[:2], key=found.names.index)),)
    assert "low" not in found.cliques[0] and found.p < 1e-6


def test_users_without_a_value_are_left_out_and_all_equal_is_no_difference():
    equal = np.array([0.5, 0.5, np.nan])
    found = ranks({"a": equal, "b": equal})
    assert found.users == 2 and found.statistic == 0 and found.p == 1 and found.averages == (1.5, 1.5)


@pytest.mark.parametrize(
    ("values", "level", "said"),
    [
        ({"a": np.ones(3)}, 0.05, "two models and two users"),
        ({"a": np.ones(1), "b": np.ones(1)}, 0.05, "got 1 and 2|got 2 and 1"),
        ({"a": np.ones(3), "b": np.ones(3)}, 0.0, "above 0 and below 1"),
    ],
)
def test_too_little_is_said(values, level, said):
    with pytest.raises(SettingError, match=said):
        ranks(values, level)
