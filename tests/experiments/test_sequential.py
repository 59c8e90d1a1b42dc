"""Sequential tests: fair bets by algebra, false alarms by simulation under continuous looking, power."""

import math

import numpy as np
import pytest

from experiments.sequential import Outcomes, _payoffs, better, exceeds, interval, worse


def stops(rates, share, people, streams, level, seed=0, drift=0.0):
    """Person at whom each stream is first rejected (inf for never), looking after every one."""
    rng, paid, found = np.random.default_rng(seed), _payoffs(share), []
    slope = np.linspace(0, drift, people)
    for _ in range(streams):
        arm = rng.random(people) < share
        positive = rng.random(people) < np.where(arm, rates[1], rates[0]) + slope
        counts = np.stack([arm & positive, ~arm & positive, arm & ~positive, ~arm & ~positive]).cumsum(axis=1)
        logs = paid @ counts  # (w, p)
        most = logs.max(axis=0)
        evidence = most + np.log(np.exp(logs - most).mean(axis=0))
        hit = np.flatnonzero(evidence >= -math.log(level))
        found.append(hit[0] + 1 if len(hit) else math.inf)
    return np.array(found)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_every_bet_is_fair_where_versions_make_no_difference(share):
    both_positive, other_positive, both_not, other_not = np.exp(_payoffs(share)).T
    np.testing.assert_allclose(share * both_positive + (1 - share) * other_positive, 1, rtol=1e-12)
    np.testing.assert_allclose(share * both_not + (1 - share) * other_not, 1, rtol=1e-12)
    assert (both_positive > 1).all() and (other_not > 1).all()  # it bets on the candidate alone


def test_evidence_by_hand():
    # share 1/2, one term: rates 0.2 and odds 6 times as large, 0.6; overall 0.4
    place = np.flatnonzero(np.abs(np.exp(_payoffs(0.5))[:, 0] - 0.6 / 0.4) < 1e-9)
    assert len(place) >= 1
    np.testing.assert_allclose(np.exp(_payoffs(0.5))[place[0]], [1.5, 0.5, 0.4 / 0.6, 0.8 / 0.6])
    assert better(Outcomes(0, 0, 0, 0), 0.5) == pytest.approx(0) == worse(Outcomes(0, 0, 0, 0), 0.5)


@pytest.mark.parametrize(
    ("rate", "share", "drift"), [(0.3, 0.5, 0.0), (0.3, 0.1, 0.0), (0.03, 0.2, 0.0), (0.2, 0.5, 0.5)]
)
def test_looking_after_everybody_calls_equal_versions_different_no_more_than_it_says(rate, share, drift):
    found = stops((rate, rate), share, people=1_000, streams=300, level=0.05, drift=drift)
    assert np.isfinite(found).mean() <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 300)


def test_a_test_that_looks_often_without_correction_is_caught():
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        positive = rng.random((2, 500)) < 0.3
        rates = positive.cumsum(axis=1) / np.arange(1, 501)
        error = np.sqrt((rates * (1 - rates) / np.arange(1, 501)).sum(axis=0)).clip(1e-9)
        wrong += (np.abs(rates[0] - rates[1]) / error)[30:].max() > 1.96
    assert wrong / 200 > 0.2  # what the bound above would have told


def test_a_worse_candidate_is_called_better_still_less_often():
    assert np.isfinite(stops((0.5, 0.4), 0.3, people=1_000, streams=200, level=0.05)).mean() <= 0.02


@pytest.mark.parametrize(
    ("rates", "share", "people", "power"),
    [((0.3, 0.5), 0.5, 400, 0.9), ((0.3, 0.5), 0.1, 1_200, 0.9), ((0.05, 0.5), 0.5, 60, 0.9)],
)
def test_a_better_one_is_found(rates, share, people, power):
    assert np.isfinite(stops(rates, share, people, streams=200, level=0.05)).mean() >= power


def test_worse_is_better_with_arms_swapped():
    found = Outcomes(candidate=100, candidate_positive=20, champion=300, champion_positive=150)
    swapped = Outcomes(candidate=300, candidate_positive=150, champion=100, champion_positive=20)
    assert worse(found, 0.25) == pytest.approx(better(swapped, 0.75)) and worse(found, 0.25) > 5 > 0
    assert better(found, 0.25) < 0


def test_events_beyond_a_bound_are_found_and_luck_is_not():
    assert exceeds(0, 1_000, 0.01) < 0 and exceeds(10, 1_000, 0.01) < 0 < exceeds(40, 1_000, 0.01)
    assert exceeds(2, 2, 0.01) >= -math.log(0.05)  # nothing works at all: told after two
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        events = (rng.random(500) < 0.01).cumsum()
        alarms += any(
            exceeds(int(k), n, 0.01) >= -math.log(0.05) for n, k in enumerate(events, 1) if n % 5 == 0
        )
    assert alarms / 300 <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 300)


def test_the_interval_holds_the_difference_at_all_times():
    rng, missed = np.random.default_rng(1), 0
    for _ in range(100):
        one, other = (rng.random(800) < 0.5).cumsum(), (rng.random(800) < 0.3).cumsum()
        for n in range(50, 800, 25):
            low, high = interval(Outcomes(n, int(one[n - 1]), n, int(other[n - 1])))
            if not low <= 0.2 <= high:
                missed += 1
                break
    assert missed <= 10
    assert interval(Outcomes(0, 0, 5, 1)) == (-1.0, 1.0)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="positives lie between"):
        Outcomes(1, 2, 0, 0)
    with pytest.raises(ValueError, match="above 0 and below 1"):
        better(Outcomes(0, 0, 0, 0), 1.0)
    with pytest.raises(ValueError, match="0 < bound < 1"):
        exceeds(2, 1, 0.5)
