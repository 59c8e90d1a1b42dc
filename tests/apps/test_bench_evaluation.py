"""The benches of ranking and metrics, at a size that takes no time."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from apps.bench import evaluation, metrics
from apps.cli import app


def test_metrics_equal_three_libraries(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)  # compiling takes a minute, these cases do not
    for library in ("ranx", "ir_measures", "torchmetrics"):
        pytest.importorskip(library)
    rows = metrics.measure_all(250, seed=3)
    assert all(row.is_within for row in rows), [row for row in rows if not row.is_within]
    compared = {(row.library, row.metric) for row in rows if row.difference is not None}
    assert len(compared) == 6 + 6 + 5 + 7
    assert all(row.note for row in rows if row.difference is None)
    assert 200 < rows[0].users < 250  # some have nothing held out


def test_cases_have_ties_short_lists_and_users_without_positives():
    cases = metrics.cases_of(400, 0)
    assert (cases.rows[:, -1] < 0).sum() > 50 and sum(not own for own in cases.held) > 5
    assert all(len(set(line[line >= 0])) == (line >= 0).sum() for line in cases.rows)


def test_a_difference_and_a_missing_library_are_told(monkeypatch):
    def wrong(cases):
        return {**metrics._plain_loop(cases), "mrr@10": np.zeros(len(cases.held))}

    def absent(cases):
        raise ModuleNotFoundError("no", name="ranx")

    monkeypatch.setattr(metrics, "_LIBRARIES", {"plain loop": wrong, "ranx": absent})
    rows = metrics.measure_all(50)
    assert [row.metric for row in rows if not row.is_within] == ["mrr@10"]
    assert all(row.note.startswith("not installed (ranx)") for row in rows if row.library == "ranx")
    found = CliRunner().invoke(app, ["bench", "metrics", "--cases", "50", "--json"])
    assert found.exit_code == 1 and not all(row["is_within"] for row in json.loads(found.stdout))


def test_both_sides_of_the_ranking_find_the_same():
    rows = evaluation.measure(300, 900, 1, lambda _: None)
    assert [row.what for row in rows] == [evaluation.OURS, evaluation.REFERENCE]
    assert all(row.is_equal and row.seconds[0] > 0 for row in rows)
    part = evaluation.part_of(300, 900)
    assert not part.training.positives.multiply(part.held_out).nnz
    assert abs(part.training.positives.nnz - 300 * 27) < 300


def test_a_side_that_finds_something_else_is_told(monkeypatch):
    def other(model, part):
        (rows, values), stages = evaluation._ours(model, part)
        return (rows, {**values, "mrr@10": torch.zeros(len(rows), dtype=torch.float64)}), stages

    monkeypatch.setattr(evaluation, "_reference", other)
    assert not evaluation.measure(50, 200, 1, lambda _: None)[0].is_equal
    found = CliRunner().invoke(app, ["bench", "evaluation", "--users", "50", "--contents", "200"])
    assert found.exit_code == 0 and "NOT equal" in found.stdout
    assert replace(evaluation.measure(50, 200, 1, lambda _: None)[0], seconds=(1.0, 3.0, 2.0)).median_s == 2
