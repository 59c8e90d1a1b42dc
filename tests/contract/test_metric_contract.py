"""Holds every registered metric to what the interface says of metrics."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from experiments.metrics import Ranked, list_metrics, metrics

K, CONTENTS = 5, 40
BY_HITS = [name for name in metrics if metrics[name].counts_hits]


def cases(seed: int = 0, users: int = 200, n: int = 12) -> Ranked:
    """Lists of ``users`` with all that a metric may read; something held out can be watched by everybody."""
    draw = np.random.default_rng(seed)
    rows = np.stack([draw.permutation(CONTENTS)[:n] for _ in range(users)])
    hits = draw.random((users, n)) < draw.random((users, 1))
    available = draw.random((users, n)) < 0.7
    popularity = draw.integers(0, 40, CONTENTS).astype(float)
    history = sp.csr_array((draw.random((users, CONTENTS)) < 0.2).astype(np.float32))
    return Ranked(
        torch.from_numpy(hits),
        torch.from_numpy(hits.sum(1) + draw.integers(1, 6, users)),
        torch.from_numpy(rows),
        torch.from_numpy(popularity),
        sp.csr_array((draw.random((CONTENTS, 6)) < 0.4).astype(np.float32)),
        history,
        torch.from_numpy(available),
        torch.from_numpy((hits & available).sum(1) + draw.integers(1, 4, users)),
    )


def of_users(ranked: Ranked, rows: list[int]) -> Ranked:
    names = ("hits", "positives", "rows", "history", "available", "reachable")
    return replace(ranked, **{name: getattr(ranked, name)[rows] for name in names})


def worst(name: str) -> float:
    return 0.0 if metrics[name].larger_is_better else 1.0


@pytest.mark.parametrize("name", list(metrics))
class TestMetric:
    def test_one_float64_for_each_user(self, name):
        values = metrics[name](cases(), K)
        assert values.shape == (200,) and values.dtype == torch.float64
        known = values[~values.isnan()]
        assert len(known) > 150 and (known >= (-1 if name == "popularity_bias" else 0)).all()
        if metrics[name].counts_hits:
            assert (known <= 1).all() and len(known) == 200

    def test_reads_the_first_k_alone(self, name):
        ranked = cases()
        changed = {"hits": ~ranked.hits, "available": ~ranked.available, "rows": ranked.rows.flip(1)}
        beyond = {
            field: torch.cat([getattr(ranked, field)[:, :K], value[:, K:]], 1)
            for field, value in changed.items()
        }
        found = metrics[name](replace(ranked, **beyond), K)
        torch.testing.assert_close(metrics[name](ranked, K), found, equal_nan=True)

    def test_users_do_not_touch_each_other(self, name):
        ranked = cases(users=6)
        alone = [metrics[name](of_users(ranked, [row]), K) for row in range(6)]
        torch.testing.assert_close(metrics[name](ranked, K), torch.cat(alone), equal_nan=True)

    @pytest.mark.parametrize("k", [0, -1, 13])
    def test_a_cutoff_outside_the_list_is_refused(self, name, k):
        with pytest.raises(ValueError, match=f"k must lie in 1..12, .* got k={k}"):
            metrics[name](cases(), k)

    def test_says_what_it_misses(self, name):
        for needed in metrics[name].needs:
            with pytest.raises(ValueError, match=f"this metric reads {needed}, which nobody gave"):
                metrics[name](replace(cases(), **{needed: None}), K)

    def test_reads_nothing_that_it_does_not_name(self, name):
        ranked, needs = cases(), metrics[name].needs
        named = {field: getattr(ranked, field) for field in needs}
        bare = Ranked(ranked.hits, ranked.positives, **named)
        torch.testing.assert_close(metrics[name](bare, K), metrics[name](ranked, K), equal_nan=True)

    def test_an_empty_list_is_no_error(self, name):
        ranked = cases(users=3)
        nothing = {"hits": ranked.hits & False, "rows": torch.full((3, 12), -1)}
        values = metrics[name](replace(ranked, **nothing), K)
        assert values.shape == (3,) and (values.isnan() | (values == worst(name))).all()

    def test_its_docstring_begins_with_a_sentence(self, name):
        assert metrics[name].meaning.strip()


@pytest.mark.parametrize("name", BY_HITS)
class TestMetricOfHits:
    def test_nan_where_nothing_is_held_out_and_nowhere_else(self, name):
        ranked = cases()
        for field in ("hits", "positives", "reachable"):
            getattr(ranked, field)[:9] = 0
        values = metrics[name](ranked, K)
        torch.testing.assert_close(values.isnan(), ranked.positives == 0)

    def test_nothing_found_is_the_worst(self, name):
        ranked = cases()
        assert metrics[name](replace(ranked, hits=ranked.hits & False), K).eq(worst(name)).all()

    def test_a_perfect_list_is_the_best_where_positives_fill_it(self, name):
        ranked, all_of_them = cases(users=1), torch.tensor([K])
        popularity = ranked.popularity.clone()
        popularity[ranked.rows[0]] = 0  # nothing that anybody would expect
        perfect = replace(
            ranked,
            hits=ranked.hits | True,
            available=ranked.available | True,
            positives=all_of_them,
            reachable=all_of_them,
            popularity=popularity,
        )
        best = torch.tensor([1 - worst(name)], dtype=torch.float64)
        torch.testing.assert_close(metrics[name](perfect, K), best, atol=1e-12, rtol=0)

    def test_a_hit_moved_up_never_costs(self, name):
        ranked = cases()
        sign = 1 if metrics[name].larger_is_better else -1
        for place in range(1, K):
            swap = list(range(12))
            swap[place - 1], swap[place] = place, place - 1
            is_better = ranked.hits[:, place] & ranked.available[:, place] & ~ranked.hits[:, place - 1]
            better = {
                field: torch.where(
                    is_better[:, None], getattr(ranked, field)[:, swap], getattr(ranked, field)
                )
                for field in ("hits", "rows", "available")
            }
            gain = metrics[name](replace(ranked, **better), K) - metrics[name](ranked, K)
            assert (sign * gain >= -1e-12).all()


@pytest.mark.parametrize("name", list(list_metrics))
class TestListMetric:
    def test_one_finite_float64_that_ignores_users_order_and_short_lists(self, name):
        ranked = cases(2, users=50)
        popularity = ranked.popularity.clone()
        popularity[30:] = torch.nan
        ranked = replace(ranked, popularity=popularity)
        value = list_metrics[name](ranked, K)
        assert value.shape == () and value.dtype == torch.float64 and value >= 0
        flipped = replace(ranked, rows=ranked.rows.flip(0))
        torch.testing.assert_close(value, list_metrics[name](flipped, K))
        rows = ranked.rows.clone()
        rows[:, K:] = -1
        torch.testing.assert_close(value, list_metrics[name](replace(ranked, rows=rows), K))
        nothing = replace(ranked, rows=torch.full((50, 12), -1))
        assert list_metrics[name](nothing, K).isfinite()
        with pytest.raises(ValueError, match="k must lie in 1..12"):
            list_metrics[name](ranked, 13)
