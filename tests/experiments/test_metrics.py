"""Metrics by hand, against a plain loop, and against two libraries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.metrics import list_metrics, measure, metrics, parse

OURS = {
    "ndcg@10": ("ndcg@10", "nDCG@10"),
    "recall@10": ("recall@10", "R@10"),
    "precision@10": ("precision@10", "P@10"),
    "hit_rate@10": ("hit_rate@10", "Success@10"),
    "mrr@10": ("mrr@10", "RR@10"),
    "map@10": ("map@10", "AP@10"),
}


def test_ndcg_by_hand():
    # two held out, found at ranks 1 and 3: (1 + 1/2) / (1 + 1/log2(3)) = 0.9197
    hits = torch.tensor([[True, False, True, False]])
    assert metrics["ndcg"](hits, torch.tensor([2]), 4).item() == pytest.approx(0.9197, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("recall", 2 / 5), ("precision", 2 / 4), ("hit_rate", 1), ("mrr", 1 / 2), ("map", (1 / 2 + 2 / 3) / 5)],
)
def test_by_hand(name, value):
    hits = torch.tensor([[False, True, True, False, True]])
    assert metrics[name](hits, torch.tensor([5]), 4).item() == pytest.approx(value)


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
    }[name]


@given(st.lists(st.booleans(), min_size=1, max_size=15), st.integers(0, 8), st.data())
@settings(max_examples=80, deadline=None)
def test_equal_a_plain_loop(hits, more, data):
    k, positives = data.draw(st.integers(1, len(hits))), max(sum(hits) + more, 1)
    for name in metrics:
        ours = metrics[name](torch.tensor([hits]), torch.tensor([positives]), k).item()
        assert ours == pytest.approx(by_loop(name, hits, positives, k), abs=1e-12)


def rankings(users=60, contents=80, n=20, seed=0):
    """Distinct ranks, held-out sets of 1 to 14, and what our metrics read."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(contents)[:n] for _ in range(users)])
    held = [set(rng.choice(contents, rng.integers(1, 15), replace=False).tolist()) for _ in range(users)]
    hits = np.array([[row in own for row in line] for line, own in zip(rows.tolist(), held, strict=True)])
    return rows, held, torch.from_numpy(hits), torch.tensor([len(own) for own in held])


def test_equal_ranx(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)  # compiling takes a minute, these rankings do not
    ranx = pytest.importorskip("ranx")
    rows, held, hits, positives = rankings()
    qrels = ranx.Qrels({f"u{user:02d}": {f"c{c}": 1 for c in own} for user, own in enumerate(held)})
    runs = ranx.Run(
        {f"u{u:02d}": {f"c{c}": float(len(row) - r) for r, c in enumerate(row)} for u, row in enumerate(rows)}
    )
    theirs = ranx.evaluate(qrels, runs, [name for name, _ in OURS.values()], return_mean=False)
    for name, values in measure(tuple(OURS), hits, positives).items():
        np.testing.assert_allclose(values.numpy(), theirs[OURS[name][0]], rtol=0, atol=1e-9, err_msg=name)


def test_equal_ir_measures():
    measures = pytest.importorskip("ir_measures")
    rows, held, hits, positives = rankings(seed=1)
    qrels = [measures.Qrel(f"u{u:02d}", f"c{c}", 1) for u, own in enumerate(held) for c in own]
    run = [
        measures.ScoredDoc(f"u{u:02d}", f"c{c}", float(len(row) - r))
        for u, row in enumerate(rows)
        for r, c in enumerate(row)
    ]
    asked = {measures.parse_measure(theirs): ours for ours, (_, theirs) in OURS.items()}
    values = measure(tuple(OURS), hits, positives)
    seen = 0
    for found in measures.iter_calc(list(asked), qrels, run):
        ours = values[asked[found.measure]][int(found.query_id[1:])].item()
        assert ours == pytest.approx(found.value, abs=1e-9), (found.measure, found.query_id)
        seen += 1
    assert seen == 60 * len(OURS)


def test_list_metrics_by_hand():
    popularity = torch.tensor([3.0, 1.0, 0.0, torch.nan])  # three may be ranked
    rows = torch.tensor([[0, 1], [0, -1]])
    assert list_metrics["coverage"](rows, popularity, 2).item() == pytest.approx(2 / 3)
    # shown 0, 1 and 2 times: mean absolute difference 8/9 over twice the mean 1
    assert list_metrics["gini"](rows, popularity, 2).item() == pytest.approx(4 / 9)
    surprise = (2 * -math.log2(4 / 7) - math.log2(2 / 7)) / 3
    assert list_metrics["novelty"](rows, popularity, 2).item() == pytest.approx(surprise)


def test_a_metric_is_read_from_its_text():
    assert (parse("ndcg@10").metric, parse("ndcg@10").k, str(parse("gini@5"))) == ("ndcg", 10, "gini@5")
