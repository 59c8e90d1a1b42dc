"""Holds every registered metric to what the interface says of metrics."""

import pytest
import torch

from experiments.metrics import list_metrics, metrics

K = 5


def cases(seed: int = 0, users: int = 200, n: int = 12):
    draw = torch.Generator().manual_seed(seed)
    hits = torch.rand(users, n, generator=draw) < torch.rand(users, 1, generator=draw)
    return hits, hits.sum(1) + torch.randint(0, 6, (users,), generator=draw)


@pytest.mark.parametrize("name", list(metrics))
class TestMetric:
    def test_one_float64_in_0_to_1_for_each_user(self, name):
        hits, positives = cases()
        values = metrics[name](hits, positives.clamp(1), K)
        assert values.shape == (200,) and values.dtype == torch.float64
        assert ((values >= 0) & (values <= 1)).all()

    def test_nan_where_nothing_is_held_out_and_nowhere_else(self, name):
        hits, positives = cases()
        hits[:9], positives[:9] = False, 0
        values = metrics[name](hits, positives, K)
        torch.testing.assert_close(values.isnan(), positives == 0)

    def test_reads_the_first_k_alone(self, name):
        hits, positives = cases()
        changed = hits.clone()
        changed[:, K:] = ~changed[:, K:]
        positives = positives.clamp(1)
        torch.testing.assert_close(metrics[name](hits, positives, K), metrics[name](changed, positives, K))

    def test_nothing_found_is_0(self, name):
        assert metrics[name](torch.zeros(3, 8, dtype=bool), torch.tensor([1, 2, 9]), K).eq(0).all()

    def test_a_perfect_list_is_1_where_positives_fill_it(self, name):
        hits = torch.ones(1, 8, dtype=bool)
        torch.testing.assert_close(
            metrics[name](hits, torch.tensor([K]), K), torch.ones(1, dtype=torch.float64)
        )

    def test_a_hit_moved_up_never_costs(self, name):
        hits, positives = cases()
        for place in range(1, K):
            better = hits.clone()
            better[:, [place - 1, place]] = hits[:, [place - 1, place]].sort(1, descending=True).values
            gain = metrics[name](better, positives.clamp(1), K) - metrics[name](hits, positives.clamp(1), K)
            assert (gain >= -1e-12).all()

    def test_users_do_not_touch_each_other(self, name):
        hits, positives = cases(users=6)
        together = metrics[name](hits, positives.clamp(1), K)
        alone = [metrics[name](hits[[row]], positives[[row]].clamp(1), K) for row in range(6)]
        torch.testing.assert_close(together, torch.cat(alone))

    @pytest.mark.parametrize("k", [0, -1, 13])
    def test_a_cutoff_outside_the_list_is_refused(self, name, k):
        hits, positives = cases()
        with pytest.raises(ValueError, match=f"k must lie in 1..12, .* got k={k}"):
            metrics[name](hits, positives, k)

    def test_its_docstring_begins_with_a_sentence(self, name):
        assert (metrics[name].__doc__ or "").splitlines()[0].strip()


@pytest.mark.parametrize("name", list(list_metrics))
class TestListMetric:
    def test_one_finite_float64_that_ignores_users_order_and_short_lists(self, name):
        draw = torch.Generator().manual_seed(2)
        rows = torch.stack([torch.randperm(30, generator=draw)[:12] for _ in range(50)])
        popularity = torch.randint(0, 40, (40,), generator=draw).double()
        popularity[30:] = torch.nan
        value = list_metrics[name](rows, popularity, K)
        assert value.shape == () and value.dtype == torch.float64 and value >= 0
        torch.testing.assert_close(value, list_metrics[name](rows.flip(0), popularity, K))
        rows[:, K:] = -1
        torch.testing.assert_close(value, list_metrics[name](rows, popularity, K))
        assert list_metrics[name](torch.full((3, 12), -1), popularity, K).isfinite()
        with pytest.raises(ValueError, match="k must lie in 1..12"):
            list_metrics[name](rows, popularity, 13)
