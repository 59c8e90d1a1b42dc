"""Metrics by hand and against a plain loop; `tests/apps/test_bench_evaluation.py` holds them to libraries."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.metrics import Ranked, list_metrics, metrics, parse


def test_ndcg_by_hand():
    # two held out, found at ranks 1 and 3: (1 + 1/2) / (1 + 1/log2(3)) = 0.9197
    hits = torch.tensor([[True, False, True, False]])
    assert metrics["ndcg"](Ranked(hits, torch.tensor([2])), 4).item() == pytest.approx(0.9197, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("recall", 2 / 5),
        ("precision", 2 / 4),
        ("hit_rate", 1),
        ("mrr", 1 / 2),
        ("map", (1 / 2 + 2 / 3) / 5),
        ("capped_map", (1 / 2 + 2 / 3) / 4),
    ],
)
def test_by_hand(name, value):
    hits = torch.tensor([[False, True, True, False, True]])
    assert metrics[name](Ranked(hits, torch.tensor([5])), 4).item() == pytest.approx(value)


def by_loop(name, hits, positives, k):
    found = [rank for rank, hit in enumerate(hits[:k], 1) if hit]
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, positives) + 1))
    return {
        "ndcg": sum(1 / math.log2(rank + 1) for rank in found) / best,
        "recall": len(found) / positives,
        "precision": len(found) / k,
        "hit_rate": float(bool(found)),
        "mrr": 1 / found[0] if found else 0.0,
        "map": sum(place / rank for place, rank in enumerate(found, 1)) / positives,
        "capped_map": sum(place / rank for place, rank in enumerate(found, 1)) / min(k, positives),
    }[name]


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.integers(0, 8), st.data())
@settings(max_examples=80, deadline=None)
def test_equal_a_plain_loop(hits, more, data):
    k, positives = data.draw(st.integers(1, len(hits))), max(sum(hits) + more, 1)
    for name in (name for name in metrics if not metrics[name].needs):
        ours = metrics[name](Ranked(torch.tensor([hits]), torch.tensor([positives])), k).item()
        assert ours == pytest.approx(by_loop(name, hits, positives, k), abs=1e-12)


def test_list_metrics_by_hand():
    popularity = torch.tensor([3.0, 1.0, 0.0, torch.nan])  # three may be ranked
    rows = torch.tensor([[0, 1], [0, -1]])
    ranked = Ranked(rows < -1, torch.ones(2), rows, popularity)
    assert list_metrics["coverage"](ranked, 2).item() == pytest.approx(2 / 3)
    # shown 0, 1 and 2 times: mean absolute difference 8/9 over twice the mean 1
    assert list_metrics["gini"](ranked, 2).item() == pytest.approx(4 / 9)
    surprise = (2 * -math.log2(4 / 7) - math.log2(2 / 7)) / 3
    assert list_metrics["novelty"](ranked, 2).item() == pytest.approx(surprise)


# contents 0 and 1 are of one genre, 2 of another, 3 of both, 4 of none
GENRES = sp.csr_array(np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], np.float32))


def of_one(rows, hits=(), history=(), **told):
    """What one user was shown: ``rows``, of which ``hits`` are held out, after liking ``history``."""
    shown = torch.tensor([rows])
    liked = np.isin(np.arange(5), history).astype(np.float32)
    positives = torch.tensor([max(len(hits), 1)])
    return Ranked(
        torch.isin(shown, torch.tensor(hits)), positives, shown, history=sp.csr_array(liked[None]), **told
    )


def test_diversity_by_hand():
    # pairs 0-1 alike, 0-3 and 1-3 share one of two; the list ends with nothing
    ranked = of_one([0, 1, 3, -1], genres=GENRES)
    assert metrics["diversity"](ranked, 4).item() == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    assert metrics["diversity"](of_one([0, 4], genres=GENRES), 2).item() == 1
    assert metrics["diversity"](of_one([0, -1], genres=GENRES), 2).isnan()


def test_miscalibration_by_hand():
    # likes: first genre 3/4, second 1/4; shown: first genre alone
    ranked = of_one([0, 1], history=(0, 3), genres=GENRES)
    first, second = 0.99 + 0.01 * 3 / 4, 0.01 / 4
    expected = 3 / 4 * math.log(3 / 4 / first) + 1 / 4 * math.log(1 / 4 / second)
    assert metrics["miscalibration"](ranked, 2).item() == pytest.approx(expected)
    assert metrics["miscalibration"](of_one([1], history=(0,), genres=GENRES), 1).item() == 0
    assert metrics["miscalibration"](of_one([1], history=(4,), genres=GENRES), 1).isnan()


def test_popularity_bias_by_hand():
    popularity = torch.tensor([8.0, 4.0, 2.0, 2.0, torch.nan])
    ranked = of_one([0, 1, -1], history=(2, 3), popularity=popularity)
    assert metrics["popularity_bias"](ranked, 3).item() == 2  # 6 against 2
    assert metrics["popularity_bias"](of_one([0], popularity=popularity), 1).isnan()


def test_serendipity_by_hand():
    # 0 is liked already: to this user the two most liked would be 1 and 2
    popularity = torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0])
    ranked = of_one([3, 2, 4], hits=(3, 2), history=(0,), popularity=popularity)
    assert metrics["serendipity"](ranked, 2).item() == 1 / 2
    assert metrics["serendipity"](of_one([3, 2, 4], hits=(3, 2), popularity=popularity), 2).item() == 1
    assert metrics["serendipity"](ranked, 3).item() == 0  # 1, 2 and 3 are expected among three


def test_serendipity_equals_a_plain_loop():
    rng = np.random.default_rng(5)
    popularity = torch.from_numpy(rng.integers(0, 6, 30).astype(float))  # ties everywhere
    popularity[[3, 17]] = torch.nan
    history = sp.csr_array((rng.random((40, 30)) < 0.3).astype(np.float32))
    may = [np.flatnonzero((liked == 0) & ~popularity.isnan().numpy()) for liked in history.toarray()]
    rows = torch.from_numpy(np.stack([rng.permutation(left)[:10] for left in may]))
    hits = torch.from_numpy(rng.random((40, 10)) < 0.4)
    ours = metrics["serendipity"](Ranked(hits, torch.ones(40), rows, popularity, history=history), 6)
    order = sorted((c for c in range(30) if not popularity[c].isnan()), key=lambda c: (-popularity[c], c))
    for user in range(40):
        left = [content for content in order if not history[user, content]][:6]
        found = sum(hits[user, r].item() and rows[user, r].item() not in left for r in range(6))
        assert ours[user].item() == found / 6


def test_availability_and_regret_by_hand():
    available, none = torch.tensor([[True, False, True, False]]), torch.tensor([0])
    ranked = of_one([0, 1, 2, -1], hits=(1, 2), available=available, reachable=torch.tensor([2]))
    assert metrics["availability"](ranked, 4).item() == pytest.approx(2 / 3)
    # content 1 cannot be watched; 2 stands at rank 3; the oracle has two that can be watched
    expected = 1 - (1 / 2) / (1 + 1 / math.log2(3))
    assert metrics["regret"](ranked, 4).item() == pytest.approx(expected)
    assert metrics["regret"](replace(ranked, reachable=none), 4).isnan()


def test_a_metric_is_read_from_its_text():
    assert (parse("ndcg@10").metric, parse("ndcg@10").k, str(parse("gini@5"))) == ("ndcg", 10, "gini@5")
