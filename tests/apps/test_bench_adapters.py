"""The benchmark of adapters: every row stands on a small bank, and sides that differ are told."""

import numpy as np
import pytest
import torch

from apps.bench import adapter_scoring, adapters
from apps.bench.adapter_scoring import Row


def test_every_row_stands_on_a_small_bank(monkeypatch):
    monkeypatch.setattr(adapter_scoring, "BATCH", 4)
    rows = adapters.measure(users=1_000, contents=100, seconds=0.05, kills=1, threads=1, seed=0)
    told = {row.what: row for row in rows}
    assert len(told) == len(rows) == 17 and all(row.value >= 0 for row in rows)
    (bytes_row,) = [row for row in rows if row.what.startswith("bytes of one")]
    assert (bytes_row.value, bytes_row.is_met) == (adapters.SPEC.dtype.itemsize, True)
    assert all(row.is_met for row in rows if "kills" in row.what or "to the bit" in row.note)


def test_a_bar_is_a_most_or_a_least():
    assert Row("a", 1.0, "", 2.0).is_met and not Row("a", 3.0, "", 2.0).is_met
    assert Row("a", 3.0, "", 2.0, True).is_met and Row("a", 3.0, "").is_met is None


def test_sides_that_differ_are_not_compared():
    with pytest.raises(RuntimeError, match="same scores"):
        adapter_scoring._must_agree(np.ones((2, 2), np.float32), torch.zeros(2, 2))
