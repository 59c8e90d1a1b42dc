"""What follows what: counted as a naive loop counts, and found again in the vectors."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from configs.registry import SettingError
from models.following import FollowingConfig, _counts, fit_following


class Told:
    """A graph of ratings (user, content, second) alone."""

    def __init__(self, rows, size):
        self.rows, self.count = np.array(rows, np.int64).reshape(-1, 3), size

    def fact_count(self, type):
        return len(self.rows) if type == "RATED" else 0

    def pairs(self, type):
        return self.rows[:, 0], self.rows[:, 1]

    def starts(self, type):
        return self.rows[:, 2]

    def size(self, type):
        return self.count


def naive(rows, size, config):
    found = np.zeros((size, size))
    for user in {row[0] for row in rows}:
        own = sorted((ts, content) for who, content, ts in rows if who == user)
        for first, (ts, one) in enumerate(own):
            for then, other in own[first + 1 : first + 1 + config.reach]:
                found[one, other] += math.exp(-(then - ts) / config.gap_s)
                if then == ts:
                    found[other, one] += 1
    return found


def test_counts_equal_a_naive_loop():
    draw, config = np.random.default_rng(0), FollowingConfig(gap_s=30.0, reach=3)
    rows = [(int(draw.integers(4)), int(draw.integers(6)), int(draw.integers(12)) * 10) for _ in range(60)]
    assert_allclose(_counts(Told(rows, 6), config).toarray(), naive(rows, 6, config), rtol=1e-12)


def test_what_always_follows_is_found_and_one_event_is_worth_one_spread():
    # 20 people walk a ring of 12 contents, each from another start
    rows = [(user, (user + turn) % 12, 100 * turn) for user in range(20) for turn in range(12)]
    found = fit_following(SimpleNamespace(graph=Told(rows, 13)), 11, FollowingConfig(gap_s=20.0))
    pull = found.left @ found.met.T
    assert [int(pull[content].argmax()) for content in range(12)] == [(one + 1) % 12 for one in range(12)]
    assert not found.left[12].any()
    assert pull[:12].std(axis=1).mean() == pytest.approx(1, rel=0.05)
    assert (
        found.hash
        == fit_following(SimpleNamespace(graph=Told(rows, 13)), 11, FollowingConfig(gap_s=20.0)).hash
    )


def test_nothing_told_gives_zeros_and_odd_settings_are_refused():
    found = fit_following(SimpleNamespace(graph=Told([], 3)), 5)
    assert found.left.shape == (3, 5) and not found.left.any() and not found.met.any()
    with pytest.raises(SettingError, match="above 0"):
        FollowingConfig(gap_s=0)
