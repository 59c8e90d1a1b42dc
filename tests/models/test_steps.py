"""Steps of ranking against naive oracles."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError
from models.evening import Evening, EveningConfig, minutes_at_hand, runtime_fit
from models.pipeline import ORDER, Situation, StepsConfig, apply
from models.ranking import normalise
from models.steps import (
    CALIBRATION_SMOOTHING,
    DAY_S,
    Moved,
    calibrate,
    cap,
    diversify,
    diversify_dpp,
    drop_unavailable,
    drop_untrusted,
    fit_context,
    lift_expiring,
    taste_of,
    weigh_trust,
)

OPEN = np.iinfo(np.int64).max


def drawn(data, kinds=4):
    """Candidates with tied scores, genres of which some are empty, and how many to pick."""
    draw = np.random.default_rng(data.draw(st.integers(0, 9_999)))
    count = data.draw(st.integers(0, 9))
    genres = sp.csr_array((draw.random((12, kinds)) < 0.4).astype(np.float32))
    rows = draw.permutation(12)[:count]
    scores = np.sort(draw.integers(6, size=count) / 5.0)[::-1]
    return draw, rows, scores, genres, data.draw(st.integers(0, 10))


def test_unavailable_contents_go_and_the_rest_keeps_its_order():
    step = drop_unavailable([4, 2, 0], [3.0, 2.0, 1.0], np.array([True, False, False, False, True]))
    assert step.rows.tolist() == [4, 0] and step.scores.tolist() == [3, 1]
    assert step.moved == (Moved(2, 2, None), Moved(0, 3, 2))
    nothing = drop_unavailable([4], [3.0], np.zeros(5, bool))
    assert nothing.rows.tolist() == [] and nothing.moved == (Moved(4, 1, None),)


def test_what_is_trusted_too_little_goes_and_the_unknown_stays():
    trust = np.array([0.6, 0.59, np.nan, 0.9])
    step = drop_untrusted([1, 3, 2, 0], [4.0, 3.0, 2.0, 1.0], trust)
    assert step.name == "trusted" and step.rows.tolist() == [3, 2, 0] and step.scores.tolist() == [3, 2, 1]
    assert step.moved[0] == Moved(1, 1, None) and step.unverified.tolist() == []
    assert drop_untrusted([1], [1.0], trust, least=0.0).moved == ()
    with pytest.raises(ValueError, match="least trust must lie in 0..1, got 2"):
        drop_untrusted([1], [1.0], trust, least=2)


def test_offers_below_half_are_marked_as_unverified_and_stay():
    trust, offered = np.full(4, 0.9), np.array([0.5, 0.49, np.nan, 0.0])
    step = drop_untrusted([3, 2, 1, 0], [4.0, 3.0, 2.0, 1.0], trust, 0.6, offered)
    assert step.rows.tolist() == [3, 2, 1, 0] and step.unverified.tolist() == [3, 1]
    gone = drop_untrusted([3], [1.0], np.zeros(4), 0.6, offered)
    assert gone.unverified.tolist() == []  # only what is left carries a mark


def test_trust_is_asked_for_or_left_alone():
    genres = sp.csr_array(np.ones((3, 1), np.float32))
    situation = Situation(genres, trust=np.array([0.1, 0.7, 0.9]), offered=np.array([1.0, 0.2, 1.0]))
    rows, scores = np.arange(3), np.array([3.0, 2.0, 1.0])
    assert apply(rows, scores, StepsConfig(), situation, 3) == ()
    (step,) = apply(rows, scores, StepsConfig(least_trust=0.6), situation, 3)
    assert step.rows.tolist() == [1, 2] and step.unverified.tolist() == [1]
    assert apply(rows, scores, StepsConfig(least_trust=0.6), Situation(genres), 3) == ()


GENRES = sp.csr_array(np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], np.float32))


def naive_mmr(rows, scores, genres, n, relevance):
    sets = [set(np.flatnonzero(genres[[row]].toarray()[0])) for row in rows]
    gain, picked = normalise(np.asarray(scores, float)), []
    while len(picked) < min(n, len(rows)):
        best, most = None, -np.inf
        for place in range(len(rows)):
            if place in picked:
                continue
            alike = 0.0
            for other in picked:
                united = sets[place] | sets[other]
                alike = max(alike, len(sets[place] & sets[other]) / len(united) if united else 0.0)
            value = relevance * gain[place] - (1 - relevance) * alike
            if value > most + 1e-12:
                best, most = place, value
        picked.append(best)
    return [rows[place] for place in picked]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_diversity_equals_its_definition(data):
    count, kinds = data.draw(st.integers(0, 10)), 4
    draw = np.random.default_rng(data.draw(st.integers(0, 999)))
    genres = sp.csr_array((draw.random((12, kinds)) < 0.4).astype(np.float32))
    rows = draw.permutation(12)[:count].tolist()
    scores = np.sort(draw.random(count))[::-1]
    n, relevance = data.draw(st.integers(0, 12)), data.draw(st.sampled_from([0.0, 0.3, 0.85, 1.0]))
    step = diversify(rows, scores, genres, n, relevance)
    assert step.rows.tolist() == naive_mmr(rows, scores, genres, n, relevance)
    by_row = dict(zip(rows, scores, strict=True))
    assert step.scores.tolist() == [by_row[row] for row in step.rows.tolist()]


def test_diversity_lifts_what_is_unlike():
    # 0 and 1 are of one genre, 2 of another: it passes the twin that is hardly better
    step = diversify([0, 1, 2], [1.0, 0.51, 0.5], GENRES, 3, relevance=0.5)
    assert step.rows.tolist() == [0, 2, 1]
    assert step.moved == (Moved(1, 2, 3), Moved(2, 3, 2))


def test_no_diversity_keeps_the_order():
    step = diversify([0, 1, 3, 4], [4.0, 3.0, 2.0, 1.0], GENRES, 3, relevance=1.0)
    assert step.rows.tolist() == [0, 1, 3] and step.moved == (Moved(4, 4, None),)


@pytest.mark.parametrize(("n", "relevance"), [(-1, 0.5), (1, 1.5), (1, -0.1)])
def test_diversity_refuses(n, relevance):
    with pytest.raises(ValueError, match="n >= 0 and relevance in 0..1"):
        diversify([0], [1.0], GENRES, n, relevance)


def test_candidates_need_a_score_each():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        drop_unavailable([0, 1], [1.0], np.ones(3, bool))


def naive_kl(chosen, genres, taste):
    found = np.zeros(len(taste))
    for row in chosen:
        own = np.flatnonzero(genres[[row]].toarray()[0])
        found[own] += 1 / max(len(own), 1)
    found = found / found.sum() if found.sum() else found
    mixed = (1 - CALIBRATION_SMOOTHING) * found + CALIBRATION_SMOOTHING * taste
    return sum(p * np.log(p / q) for p, q in zip(taste, mixed, strict=True) if p > 0)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_calibration_equals_its_definition(data):
    draw, rows, scores, genres, n = drawn(data)
    taste, weight = (
        taste_of(draw.permutation(12)[:3], genres),
        data.draw(st.sampled_from([0.0, 0.4, 0.9, 1.0])),
    )
    gain, picked = dict(zip(rows.tolist(), normalise(scores).tolist(), strict=True)), []
    while len(picked) < min(n, len(rows)):
        left = [row for row in rows.tolist() if row not in picked]
        # the whole objective of eq. 6, over all that is picked
        value = [
            (1 - weight) * sum(gain[one] for one in [*picked, row])
            - weight * (naive_kl([*picked, row], genres, taste) if taste.any() else 0)
            for row in left
        ]
        best = max(value) - 1e-9
        picked.append(next(row for row, one in zip(left, value, strict=True) if one >= best))
    if not taste.any():
        picked = rows[:n].tolist()
    assert calibrate(rows, scores, genres, taste, n, weight).rows.tolist() == picked


def test_calibration_brings_back_a_smaller_taste():
    # 0 to 3 are of genre a, 4 of genre b; the history is half and half, the scores know only a
    genres = sp.csr_array(np.array([[1, 0]] * 4 + [[0, 1]], np.float32))
    taste = taste_of(np.array([0, 4]), genres)
    assert taste.tolist() == [0.5, 0.5]
    scores = np.array([1.0, 0.9, 0.8, 0.7, 0.0])
    assert calibrate(np.arange(5), scores, genres, taste, 2, 0.9).rows.tolist() == [0, 4]
    assert calibrate(np.arange(5), scores, genres, taste, 2, 0.0).rows.tolist() == [0, 1]
    assert taste_of(np.array([], np.int64), genres).tolist() == [0, 0]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_dpp_equals_greedy_over_determinants(data):
    _, rows, scores, genres, n = drawn(data)
    relevance = data.draw(st.sampled_from([0.0, 0.5, 0.85, 1.0]))
    sets = [set(np.flatnonzero(genres[[row]].toarray()[0])) for row in rows]
    alike = np.eye(len(rows))
    for one in range(len(rows)):
        for other in range(len(rows)):
            united = sets[one] | sets[other]
            if one != other and united:
                alike[one, other] = 0.9 * len(sets[one] & sets[other]) / len(united)
    gain, picked = normalise(scores), []

    def value(chosen):
        sign, logarithm = np.linalg.slogdet(alike[np.ix_(chosen, chosen)])
        assert sign > 0
        return relevance * gain[chosen].sum() + (1 - relevance) * logarithm

    while len(picked) < min(n, len(rows)):
        left = [place for place in range(len(rows)) if place not in picked]
        values = [value([*picked, place]) for place in left]
        picked.append(next(p for p, one in zip(left, values, strict=True) if one >= max(values) - 1e-9))
    assert diversify_dpp(rows, scores, genres, n, relevance).rows.tolist() == [int(rows[p]) for p in picked]


def naive_cap(rows, genres, platforms, most_of_genre, most_of_platform):
    front, behind, held, seats = [], [], {}, {}
    for row in rows:
        own, there = genres[[row]].indices.tolist(), platforms[[row]].indices.tolist()
        full = [p for p in there if seats.get(p, 0) == most_of_platform]
        if any(held.get(g, 0) == most_of_genre for g in own) or (there and len(full) == len(there)):
            behind.append(row)
            continue
        front.append(row)
        for genre in own:
            held[genre] = held.get(genre, 0) + 1
        if there:
            least = min(there, key=lambda p: seats.get(p, 0))
            seats[least] = seats.get(least, 0) + 1
    return front + behind, front


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_caps_equal_their_definition_and_lose_nothing(data):
    draw, rows, scores, genres, _ = drawn(data)
    platforms = sp.csr_array((draw.random((12, 3)) < 0.5).astype(np.float32))
    most = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    step = cap(rows, scores, genres, platforms, *most)
    expected, front = naive_cap(rows.tolist(), genres, platforms, *most)
    assert step.rows.tolist() == expected and sorted(expected) == sorted(rows.tolist())
    if front:
        assert genres[front].sum(axis=0).max() <= most[0]
    assert cap(rows, scores, None, None).rows.tolist() == rows.tolist()


def test_trust_moves_what_is_trusted_and_not_the_unknown():
    trust = np.array([0.0, 1.0, np.nan])
    step = weigh_trust([0, 1, 2], [1.0, 0.9, 0.0], trust, 0.5)
    assert step.rows.tolist() == [1, 0, 2]
    # the unknown counts with the mean of 0 and 1
    np.testing.assert_allclose(step.scores, [0.95, 0.5, 0.25])
    assert weigh_trust([0, 1], [2.0, 1.0], np.full(3, np.nan), 1.0).moved == ()
    with pytest.raises(ValueError, match="0..1 or be NaN"):
        weigh_trust([0], [1.0], np.array([7.0]), 0.5)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_weighed_steps_keep_all_and_know_no_scale(data):
    draw, rows, scores, _, _ = drawn(data)
    values = np.where(draw.random(12) < 0.3, np.nan, draw.random(12))
    share = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    step = fit_context(rows, scores, values, share)
    assert sorted(step.rows.tolist()) == sorted(rows.tolist())
    assert ((step.scores >= 0) & (step.scores <= 1)).all() and (np.diff(step.scores) <= 1e-12).all()
    assert fit_context(rows, 7 * scores - 3, values, share).rows.tolist() == step.rows.tolist()
    if share == 0:
        assert step.moved == ()


def test_an_evening_limits_minutes():
    assert minutes_at_hand(Evening()) is None
    assert minutes_at_hand(Evening(90, 23, "phone")) == 60
    assert minutes_at_hand(Evening(hour=12)) is None and minutes_at_hand(Evening(hour=0)) == 60
    with pytest.raises(ValueError, match="above 0"):
        minutes_at_hand(Evening(0))
    with pytest.raises(SettingError, match="overrun above 0"):
        EveningConfig(overrun=0)
    fit = runtime_fit(np.array([60.0, 100.0, 125.0, 151.0, np.nan]), Evening(100))
    np.testing.assert_array_equal(fit, [1, 1, 0.5, 0, np.nan])
    assert np.isnan(runtime_fit(np.array([60.0]), Evening())).all()


def test_unknown_runtime_neither_helps_nor_hurts():
    # 0 and 1 fit alike, 2 is not known: with equal fits elsewhere nothing moves
    fit = runtime_fit(np.array([90.0, 80.0, np.nan]), Evening(100))
    assert fit_context([0, 2, 1], [3.0, 2.0, 1.0], fit, 0.9).moved == ()


def test_what_ends_soon_is_lifted_and_what_is_gone_is_not():
    ends = np.array([OPEN, DAY_S, 10 * DAY_S, -DAY_S, 99 * DAY_S])
    step = lift_expiring([0, 3, 4, 2, 1], [1.0, 0.9, 0.8, 0.1, 0.0], ends, 0, boost=1.0, days=10)
    assert step.rows.tolist() == [0, 3, 1, 4, 2]  # 1 reaches 3 and stays behind it
    np.testing.assert_allclose(step.scores, np.array([1.0, 0.9, 0.9, 0.8, 0.1]) / 2)
    assert lift_expiring([0, 1], [1.0, 0.9], ends, 0, boost=0).moved == ()
    with pytest.raises(ValueError, match="days > 0"):
        lift_expiring([0], [1.0], ends, 0, 1.0, days=0)


def test_pipeline_takes_its_steps_in_order():
    genres = sp.csr_array(np.array([[1, 0]] * 6 + [[0, 1]] * 6, np.float32))
    config = StepsConfig(
        least_trust=0.01,
        trust=0.1,
        context=0.1,
        expiring=0.1,
        calibration=0.5,
        diversity="dpp",
        most_of_genre=2,
        most_of_platform=9,
    )
    platforms = sp.csr_array(np.ones((12, 1), np.float32))
    situation = Situation(
        genres,
        np.arange(12) != 0,
        np.linspace(0, 1, 12),
        np.linspace(1, 0, 12),
        np.full(12, OPEN),
        0,
        np.array([0.5, 0.5]),
        platforms,
    )
    rows, scores = np.arange(12), np.linspace(1, 0, 12)
    taken = apply(rows, scores, config, situation, 4)
    assert tuple(step.name for step in taken) == ORDER
    for before, after in zip(taken, taken[1:], strict=False):
        assert after.before.tolist() == before.rows.tolist()
    assert 0 not in taken[-1].rows
    assert np.asarray(genres[taken[-1].rows[:4]].sum(axis=0)).tolist() == [2, 2]
    assert apply(rows, scores, StepsConfig(), Situation(genres), 4) == ()


def test_what_picks_a_list_hands_on_its_order():
    # calibration lifts 4; MMR with λ = 1 keeps what it gets
    genres = sp.csr_array(np.array([[1, 0]] * 4 + [[0, 1]], np.float32))
    situation = Situation(genres, taste=np.array([0.5, 0.5]))
    scores = np.array([1.0, 0.9, 0.8, 0.7, 0.0])
    config = StepsConfig(calibration=0.9, diversity="mmr", relevance=1.0)
    calibrated, diverse = apply(np.arange(5), scores, config, situation, 2)
    assert calibrated.rows.tolist()[:2] == [0, 4] and diverse.rows.tolist() == calibrated.rows.tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"trust": 2},
        {"least_trust": -0.1},
        {"diversity": "magic"},
        {"most_of_genre": -1},
        {"expiring": -1},
        {"expiring_days": 0},
    ],
)
def test_pipeline_refuses(wrong):
    with pytest.raises(SettingError):
        StepsConfig(**wrong)
