import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kg.arrays import from_records
from kg.worlds import checkerboard
from models.ranking import genres_of, normalise, ranks, reciprocal_rank_fusion, top

# few values, so that ties are common
SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 12)),
    elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]),
)


@given(SCORES, st.integers(0, 15))
@settings(deadline=None)
def test_top_equals_a_full_sort(scores, n):
    expected = []
    for row in scores.tolist():
        order = sorted(range(len(row)), key=lambda place: (-row[place], place))
        kept = [place for place in order if row[place] > -np.inf][:n]
        expected.append(kept + [-1] * (n - len(kept)))
    assert top(scores, n).tolist() == expected


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_top_of_long_rows_equals_a_full_sort(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    count, n = data.draw(st.integers(1, 700)), data.draw(st.integers(1, 30))
    kinds = data.draw(st.sampled_from([1, 2, 9, 300, 10**6]))  # from all equal to no tie at all
    scores = draw.integers(kinds, size=(5, count)).astype(
        data.draw(st.sampled_from([np.float32, np.float64]))
    )
    scores[draw.random(scores.shape) < data.draw(st.sampled_from([0.0, 0.5, 0.97]))] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    expected = np.full((5, n), -1)
    expected[:, : order.shape[1]] = np.where(np.take_along_axis(scores, order, 1) > -np.inf, order, -1)
    np.testing.assert_array_equal(top(scores, n), expected)
    np.testing.assert_array_equal(top(np.asfortranarray(scores)[::-1], n), expected[::-1])


def test_top_reads_scores_that_nobody_may_write():
    scores = np.broadcast_to(np.arange(200.0) % 50, (3, 200))
    assert top(scores, 3).tolist() == [[49, 99, 149]] * 3
    assert scores.strides[0] == 0 and not scores.flags.writeable


@pytest.mark.parametrize("place", [0, 57, 199])
def test_top_finds_a_score_that_is_no_number_anywhere(place):
    scores = np.zeros((4, 200))
    scores[2, place] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        top(scores, 5)


def test_top_keeps_to_what_is_allowed():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert top(scores, 2, np.array([False, True, True])).tolist() == [[1, 2], [2, 1]]
    assert top(scores, 2, np.array([[True, True, False], [False, False, False]])).tolist() == [
        [0, 1],
        [-1, -1],
    ]


def test_top_of_nothing():
    assert top(np.zeros((2, 3)), 0).shape == (2, 0)
    assert top(np.zeros((2, 0)), 3).tolist() == [[-1] * 3] * 2
    assert top(np.zeros((0, 4)), 3).shape == (0, 3)


@pytest.mark.parametrize(("scores", "n", "says"), [([[1.0]], -1, "got n=-1"), ([[np.nan]], 1, "NaN")])
def test_top_refuses(scores, n, says):
    with pytest.raises(ValueError, match=says):
        top(np.array(scores), n)


@given(SCORES)
@settings(deadline=None)
def test_ranks_count_who_is_better(scores):
    expected = 1 + (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    np.testing.assert_array_equal(ranks(scores), expected)


@given(SCORES)
@settings(deadline=None)
def test_normalised_scores_keep_their_order_on_the_unit(scores):
    scaled = normalise(scores)
    assert ((scaled >= 0) & (scaled <= 1)).all()
    for row, before in zip(scaled, scores, strict=True):
        known = np.isfinite(before)
        assert (row[~known] == 0).all()
        if known.any():
            assert row[known].max() == 1
            np.testing.assert_array_equal(
                np.argsort(row[known], kind="stable"), np.argsort(before[known], kind="stable")
            )


def test_normalise_by_hand():
    assert normalise(np.array([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert normalise(np.array([7.0, 7.0])).tolist() == [1, 1]
    assert normalise(np.empty((2, 0))).shape == (2, 0)


def test_fusion_by_hand():
    first, second = np.array([[9.0, 5.0, 1.0]]), np.array([[-np.inf, 2.0, 3.0]])
    fused = reciprocal_rank_fusion([first, second], [0.6, 0.4])
    np.testing.assert_allclose(fused, [[0.6 / 61, 0.6 / 62 + 0.4 / 62, 0.6 / 63 + 0.4 / 61]])


def test_fusion_does_not_see_the_scale():
    draw = np.random.default_rng(0)
    first, second = draw.random((3, 8)), draw.random((3, 8))
    fused = reciprocal_rank_fusion([first, second], [1, 2])
    np.testing.assert_array_equal(reciprocal_rank_fusion([np.exp(9 * first), second - 5], [1, 2]), fused)


def test_fusion_needs_a_weight_a_ranking():
    with pytest.raises(ValueError, match="one weight a ranking, got 1 and 2"):
        reciprocal_rank_fusion([np.zeros((1, 2))], [1, 2])


def test_genres_of_a_graph():
    world = checkerboard(users=4, contents=6)
    genres = genres_of(from_records("board", world.nodes, world.hyperedges)).toarray()
    assert genres.shape == (6, 2) and (genres.sum(axis=1) == 1).all()
