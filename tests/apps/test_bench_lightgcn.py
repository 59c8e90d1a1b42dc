"""The LightGCN benchmark: what it hands to RecBole, and what it says where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from apps.bench import lightgcn as bench
from kg.arrays import from_records
from kg.worlds import checkerboard


@pytest.fixture
def small(monkeypatch):
    world = checkerboard(users=12, contents=10, share=0.7, seed=1)
    graph = from_records("checkerboard", world.nodes, world.hyperedges)
    monkeypatch.setattr(bench.GraphArrays, "current", lambda folder: graph)
    monkeypatch.setattr(bench, "POSITIVE_RATING", -np.inf)
    return graph


class Place:
    def arrays(self, name: str) -> Path:
        return Path()


def test_every_like_is_written_once_in_the_atomic_form(tmp_path):
    bench.write_atomic(sp.csr_array(np.array([[1, 0], [1, 1]], np.float32)), tmp_path)
    lines = (tmp_path / "likes" / "likes.inter").read_text().splitlines()
    assert lines == ["user_id:token\titem_id:token", "u0\tc0", "u1\tc0", "u1\tc1"]


@pytest.mark.parametrize("python", [None, Path("no-such-python"), Path(sys.executable)])
def test_without_recbole_ours_is_measured_and_the_reason_says_how_to_make_it(small, python, monkeypatch):
    monkeypatch.setitem(sys.modules, "recbole", None)
    found = bench.measure(Place(), "checkerboard", python, epochs=2, threads=1)
    assert len(found.ours_s) == 2 and found.theirs_s == () and found.ratio is None
    assert "recbole==1.2.1" in found.skipped and "--python" in found.skipped


def fake(tmp_path: Path, answers: str) -> Path:
    """An interpreter that answers as RecBole's driver does, or as it should not."""
    script = tmp_path / "driver.py"
    script.write_text(answers, encoding="utf-8")
    return script


ANSWERS = """
import sys, json
from pathlib import Path
lines = len((Path(sys.argv[1]) / "likes" / "likes.inter").read_text().splitlines()) - 1
print(json.dumps({"interactions": lines - LESS, "batches": 1, "threads": 1}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"seconds": 2.0, "loss": 1.0}), flush=True)
    ENDS
"""


def test_both_sides_train_in_turn_and_the_first_epoch_warms_up(small, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "lacking", lambda python: None)
    monkeypatch.setattr(bench, "DRIVER", fake(tmp_path, ANSWERS.replace("LESS", "0").replace("ENDS", "")))
    found = bench.measure(Place(), "checkerboard", Path(sys.executable), epochs=3, threads=1)
    assert found.theirs_s == (2.0, 2.0, 2.0) and len(found.ours_s) == 3
    assert found.ratio == pytest.approx(np.median(found.ours_s) / 2)


@pytest.mark.parametrize(
    ("less", "ends", "said"),
    [("1", "", "must read the same likes"), ("0", "break", "ended before it answered")],
)
def test_a_side_that_reads_other_likes_or_dies_is_no_result(small, tmp_path, monkeypatch, less, ends, said):
    monkeypatch.setattr(bench, "lacking", lambda python: None)
    monkeypatch.setattr(bench, "DRIVER", fake(tmp_path, ANSWERS.replace("LESS", less).replace("ENDS", ends)))
    with pytest.raises(bench.BenchError, match=said):
        bench.measure(Place(), "checkerboard", Path(sys.executable), epochs=2, threads=1)
