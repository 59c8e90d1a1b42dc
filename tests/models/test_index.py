"""Search of vectors: exact against NumPy, hnsw against exact, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from configs.registry import SettingError
from models import index as door
from models.index import IndexConfig, VectorIndex


def naive(vectors: np.ndarray, queries: np.ndarray, n: int) -> np.ndarray:
    """Similarities of the n best, in float64."""
    a, b = (each / np.linalg.norm(each.astype(float), axis=1, keepdims=True) for each in (vectors, queries))
    return -np.sort(-(b @ a.T), axis=1)[:, :n]


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, (12, 3), elements=st.floats(-8, 8, width=32)).filter(
        lambda x: (np.abs(x).max(axis=1) > 1e-3).all()
    )
)
def test_exact_search_is_numpy(vectors):
    index = VectorIndex(3)
    index.add(vectors[:5])
    assert index.add(vectors[5:10]).tolist() == [5, 6, 7, 8, 9]
    similarity, rows = index.search(vectors[10:], 4)
    np.testing.assert_allclose(similarity, naive(vectors[:10], vectors[10:], 4), atol=1e-5)
    assert all(len(set(row)) == 4 for row in rows.tolist())


def test_the_graph_finds_what_exact_search_finds():
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(1500, 8)), rng.normal(size=(50, 8))
    exact, graph = VectorIndex(8), VectorIndex(8, IndexConfig(kind="hnsw"))
    exact.add(vectors), graph.add(vectors)
    assert exact.is_exact and not graph.is_exact
    wanted, found = exact.search(queries, 10)[1], graph.search(queries, 10)[1]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(wanted, found, strict=True)]) > 0.98


def test_auto_turns_into_a_graph_and_keeps_its_rows():
    vectors = np.random.default_rng(1).normal(size=(60, 4))
    index = VectorIndex(4, IndexConfig(exact_below=30))
    index.add(vectors[:30])
    assert index.is_exact
    assert index.add(vectors[30:]).tolist() == list(range(30, 60)) and not index.is_exact
    similarity, rows = index.search(vectors, 1)
    assert rows[:, 0].tolist() == list(range(60)) and similarity.max() <= 1


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_places_with_nothing_say_so(kind):
    index = VectorIndex(2, IndexConfig(kind=kind))
    assert index.search(np.ones((1, 2)), 2)[1].tolist() == [[-1, -1]]
    index.add(np.array([[1, 0]]))
    similarity, rows = index.search(np.array([[2, 0]]), 3)
    assert rows.tolist() == [[0, -1, -1]]
    assert similarity[0].tolist() == [1.0, -np.inf, -np.inf]


@pytest.mark.parametrize(
    ("vectors", "says"),
    [
        (np.ones((1, 3)), r"shape \(any, 2\), got \(1, 3\)"),
        (np.ones(2), "shape"),
        (np.array([[1, 1], [np.nan, 1]]), "row 1 is not"),
        (np.array([[np.inf, 1]]), "finite"),
        (np.array([[0, 0]]), "length 0"),
        (np.array([["a", "b"]]), "numbers"),
    ],
)
def test_vectors_that_are_none_are_refused_and_nothing_joins(vectors, says):
    index = VectorIndex(2)
    with pytest.raises(ValueError, match=says):
        index.add(vectors)
    with pytest.raises(ValueError, match=says):
        index.search(vectors, 1)
    assert len(index) == 0


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"kind": "tree"}, "kind is one of"),
        ({"device": "tpu"}, "device is one of"),
        ({"links": 1}, "at least 2"),
        ({"exact_below": 0}, "at least 1"),
        ({"kind": "hnsw", "device": "gpu"}, "CPU alone"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, says):
    with pytest.raises(SettingError, match=says):
        IndexConfig(**setting)


def test_a_gpu_that_is_not_there_is_refused_or_passed_over(monkeypatch):
    monkeypatch.setattr(door.faiss, "get_num_gpus", lambda: 0)
    with pytest.raises(SettingError, match="faiss sees none"):
        VectorIndex(2, IndexConfig(device="gpu"))
    assert VectorIndex(2).device == "cpu"
    with pytest.raises(ValueError, match="at least 1"):
        VectorIndex(2).search(np.ones((1, 2)), 0)
    with pytest.raises(ValueError, match="at least 1"):
        VectorIndex(0)
