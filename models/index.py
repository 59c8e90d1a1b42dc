"""Vectors near a query, by cosine similarity: the only door to faiss, where CPU or GPU is decided."""

from dataclasses import dataclass

import faiss
import numpy as np

from configs.registry import SettingError

KINDS = ("auto", "exact", "hnsw")
DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True)
class IndexConfig:
    """Settings of :class:`VectorIndex`."""

    kind: str = "auto"
    """exact compares with every vector; hnsw walks a graph of neighbours; auto: exact while there are few."""
    device: str = "auto"
    """cpu, gpu, or auto: a GPU where faiss sees one and every vector is compared anyway."""
    exact_below: int = 10_000
    """With ``auto``, up to so many vectors are all compared, at least 1."""
    links: int = 16
    """Neighbours of a vector in the graph of hnsw (M), at least 2; twice as many on the lowest layer."""
    build_effort: int = 80
    """Candidates looked at for the links of a vector that joins (efConstruction), at least 1."""
    search_effort: int = 64
    """Candidates that a search of hnsw keeps (efSearch), at least 1; never fewer than are asked for."""

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise SettingError(f"{name} is one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name, least in (("exact_below", 1), ("links", 2), ("build_effort", 1), ("search_effort", 1)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.kind == "hnsw" and self.device == "gpu":
            raise SettingError("hnsw runs on the CPU alone: set kind to exact, or device to auto or cpu")


class VectorIndex:
    """Finds the rows most alike a query; vectors join at the end and never leave.

    Every vector is scaled to length 1, so that the inner product is the cosine similarity.

    Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
    Navigable Small World graphs", TPAMI 42(4), 2020, arXiv:1603.09320, as faiss builds it.

    Cost: a search of n vectors of width d takes O(n d) exactly, about O(d log n) by hnsw; memory 4 n d bytes,
    and 8 n ``links`` more for the graph of hnsw.

    Example:
        >>> index = VectorIndex(2)
        >>> index.add(np.array([[1, 0], [0, 2], [3, 3]], np.float32))
        array([0, 1, 2])
        >>> similarity, rows = index.search(np.array([[0, 1]], np.float32), 2)
        >>> rows.tolist(), similarity.round(3).tolist()
        ([[1, 2]], [[1.0, 0.7070000171661377]])
    """

    def __init__(self, width: int, config: IndexConfig | None = None) -> None:
        if width < 1:
            raise ValueError(f"vectors have a width of at least 1, got {width}")
        self.width = width
        self.config = config or IndexConfig()
        self.device = _device(self.config)
        self._resources = faiss.StandardGpuResources() if self.device == "gpu" else None
        self.is_exact = self.config.kind != "hnsw"
        self._index = self._exact() if self.is_exact else self._graph()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: np.ndarray) -> np.ndarray:
        """Lets vectors join.

        Args:
            vectors: (v, d) finite numbers; none of length 0.

        Returns:
            (v,) int64 rows, consecutive.

        Raises:
            ValueError: another width, something not finite, or a vector of length 0; nothing joined.
        """
        scaled, first = unit(vectors, self.width), len(self)
        is_many = first + len(scaled) > self.config.exact_below
        if self.is_exact and self.config.kind == "auto" and self.device == "cpu" and is_many:
            before = self._index.reconstruct_n(0, first) if first else scaled[:0]
            self._index, self.is_exact = self._graph(), False
            self._index.add(before)
        self._index.add(scaled)
        return np.arange(first, len(self))

    def search(self, queries: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``n`` rows most alike each query, best first.

        Args:
            queries: (q, d) finite numbers; none of length 0.
            n: at least 1.

        Returns:
            (q, n) float32 similarities in -1..1 and (q, n) int64 rows; row -1, similarity -inf where fewer
            are there.

        Raises:
            ValueError: as :meth:`add`, or ``n`` below 1.
        """
        scaled = unit(queries, self.width)
        if n < 1:
            raise ValueError(f"ask for at least 1 vector, got n={n}")
        if self.is_exact:
            similarity, rows = self._index.search(scaled, n)
        else:
            effort = faiss.SearchParametersHNSW(efSearch=max(n, self.config.search_effort))
            similarity, rows = self._index.search(scaled, n, params=effort)
        similarity[rows < 0] = -np.inf
        return np.minimum(similarity, 1.0), rows

    def kept(self) -> np.ndarray:
        """(m,) uint8 that :meth:`restored` makes the same index of; an index on a GPU has none.

        Raises:
            ValueError: the index is on a GPU.
        """
        if self.device == "gpu":
            raise ValueError("an index is kept from the CPU, this one is on a GPU: set device to cpu")
        return faiss.serialize_index(self._index)

    @classmethod
    def restored(cls, width: int, kept: np.ndarray, config: IndexConfig | None = None) -> "VectorIndex":
        """The index of :meth:`kept`, with its settings; whoever keeps the bytes verifies them."""
        made = cls(width, config)
        made._index = faiss.deserialize_index(np.array(kept, np.uint8))
        made.is_exact = not isinstance(made._index, faiss.IndexHNSWFlat)
        if made._index.d != width:
            raise ValueError(f"the kept index has a width of {made._index.d}, not {width}: build it anew")
        return made

    def _exact(self) -> faiss.Index:
        flat = faiss.IndexFlatIP(self.width)
        return flat if self._resources is None else faiss.index_cpu_to_gpu(self._resources, 0, flat)

    def _graph(self) -> faiss.Index:
        graph = faiss.IndexHNSWFlat(self.width, self.config.links, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = self.config.build_effort
        return graph


def unit(vectors: np.ndarray, width: int) -> np.ndarray:
    """(v, d) float32 of length 1 each, contiguous, out of any (v, d) numbers.

    Raises:
        ValueError: another width, something not finite, or a vector of length 0.

    Example:
        >>> unit(np.array([[3.0, 4.0]]), 2).round(3).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise ValueError(f"vectors here have shape (any, {width}), got {vectors.shape}: use the same encoder")
    if vectors.dtype.kind not in "fiu":
        raise ValueError(f"vectors are made of numbers, got {vectors.dtype}: convert them to float32")
    wide = vectors.astype(np.float64)
    if not np.isfinite(wide).all():
        bad = int(np.flatnonzero(~np.isfinite(wide).all(axis=1))[0])
        raise ValueError(f"vectors must be finite, row {bad} is not: mend whatever computed it")
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    if (length == 0).any():
        bad = int(np.flatnonzero(length == 0)[0])
        raise ValueError(f"row {bad} has length 0, so it points nowhere: leave it out")
    return np.ascontiguousarray(wide / length, dtype=np.float32)


def _device(config: IndexConfig) -> str:
    """cpu or gpu.

    Raises:
        SettingError: a GPU is asked for and faiss sees none.
    """
    if config.device == "cpu" or config.kind == "hnsw":
        return "cpu"
    is_there = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
    if config.device == "gpu" and not is_there:
        raise SettingError("device gpu needs a GPU and faiss-gpu, faiss sees none: set device to auto or cpu")
    return "gpu" if is_there else "cpu"
