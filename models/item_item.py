"""Models that are one matrix from content to content: nearest neighbours, and EASE.

A score is the sum of what each content of a history gives, so live history works and every score has reasons.
u users · i contents · t contents with at least one positive in training · b users asked for."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from implicit.nearest_neighbours import (
    BM25Recommender,
    CosineRecommender,
    ItemItemRecommender,
    TFIDFRecommender,
)
from implicit.utils import ParameterWarning
from scipy.linalg.lapack import spotrf, spotri

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users, recommenders


class ItemItem(Recommender):
    """Scores history · W, where W (t, t) is what a subclass learns over contents that somebody liked."""

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    _weights: np.ndarray | sp.csr_array

    def fit(self, training: Training) -> None:
        self._contents, self._size = liked_contents(training.positives), training.positives.shape[1]
        self._places = places(self._contents, self._size)
        self._weights = self._learn(sp.csr_array(training.positives[:, self._contents], dtype=np.float32))

    @abstractmethod
    def _learn(self, positives: sp.csr_array) -> np.ndarray | sp.csr_array:
        """(u, t) positives -> (t, t) float32, row of a liked content -> what it gives to each other."""

    def score(self, users: Users) -> np.ndarray:
        given = only(users.history, self._places) @ self._weights  # (b, t)
        return spread(given.toarray() if sp.issparse(given) else given, self._contents, self._size)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"contents": self._contents, "size": np.array([self._size], np.int64)}
        return found | (
            sparse_arrays(self._weights) if sp.issparse(self._weights) else {"weights": self._weights}
        )

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._contents, self._size = arrays["contents"], int(arrays["size"][0])
        self._places = places(self._contents, self._size)
        shape = (len(self._contents),) * 2
        self._weights = arrays["weights"] if "weights" in arrays else from_sparse_arrays(arrays, shape)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        history = users.first().history
        given, places_of = np.zeros(history.nnz), self._places[history.indices]
        place, known = self._places[content_row], places_of >= 0
        if place >= 0:
            column = self._weights[places_of[known], np.full(known.sum(), place)]
            given[known] = np.asarray(column).ravel() * history.data[known]
        return given


@dataclass(frozen=True)
class ItemKNNConfig:
    """Settings of :class:`ItemKNN`."""

    similarity: Literal["cosine", "bm25", "tfidf"] = "cosine"
    """How two contents are compared by who liked them."""
    neighbours: int = 100
    """Most similar contents kept for each, at least 1."""
    k1: float = 1.2
    """BM25 only: from which number of likes on one more counts little, above 0."""
    b: float = 0.75
    """BM25 only: how far a content's number of likes is evened out, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.similarity not in ("cosine", "bm25", "tfidf"):
            raise SettingError(f"similarity must be cosine, bm25 or tfidf, got {self.similarity!r}")
        if self.neighbours < 1 or not self.k1 > 0 or not 0 <= self.b <= 1:
            raise SettingError(
                "item_knn needs neighbours >= 1, k1 > 0 and b in 0..1, "
                f"got neighbours={self.neighbours}, k1={self.k1}, b={self.b}"
            )


@recommenders.register("item_knn", ItemKNNConfig)
class ItemKNN(ItemItem):
    """Contents liked by the people who liked those of the history.

    Source: Sarwar et al., WWW 2001; similarities as in ``implicit``. Here no content is its own neighbour.
    """

    config: ItemKNNConfig

    def _learn(self, positives: sp.csr_array) -> sp.csr_array:
        if not positives.nnz:
            return sp.csr_array(positives.shape[1:] * 2, dtype=np.float32)
        model = self._similarity()
        # somebody who liked all but one weighs nothing, and implicit warns of a matrix that it made itself
        with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)
            model.fit(sp.csr_matrix(positives), show_progress=False)
        found = sp.csr_array(model.similarity)
        found.setdiag(0)
        found.data[~np.isfinite(found.data)] = 0
        found.eliminate_zeros()
        found.sort_indices()
        return found.astype(np.float32)

    def _similarity(self) -> ItemItemRecommender:
        kept = self.config.neighbours + 1  # the nearest is the content itself
        if self.config.similarity == "bm25":
            return BM25Recommender(kept, self.config.k1, self.config.b)
        return {"cosine": CosineRecommender, "tfidf": TFIDFRecommender}[self.config.similarity](kept)


@dataclass(frozen=True)
class EASEConfig:
    """Settings of :class:`EASE`."""

    regularization: float = 500.0
    """λ, above 0: likes that a pair of contents must share before it counts for much."""
    kept: int | None = None
    """Weights kept for each content that is scored, those farthest from 0, at least 1; None keeps all."""

    def __post_init__(self) -> None:
        if not self.regularization > 0:
            raise SettingError(f"regularization must be above 0, got {self.regularization}")
        if self.kept is not None and self.kept < 1:
            raise SettingError(f"kept must be 1 or more, got {self.kept}: leave it out to keep all weights")


@recommenders.register("ease", EASEConfig)
class EASE(ItemItem):
    """The linear model that best tells a content from all others of the same history.

    B = -P / diag(P) with zero diagonal, P = (XᵀX + λI)⁻¹, over contents with at least one positive.

    Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, arXiv:1905.03257, eq. 8.

    Cost: O(t³) time once through a Cholesky factor, by sweeps of blocks above 30,000 contents, all of it in
    place in one (t, t) float32 matrix (6.7 GB for 41,000 contents); O(u t²) and one (u, t) matrix more where
    users are less than half as many. What is stored is that matrix, or with ``kept`` 8 bytes for each weight
    that stays.
    """

    config: EASEConfig

    def _learn(self, positives: sp.csr_array) -> np.ndarray | sp.csr_array:
        positives = positives[np.flatnonzero(np.diff(positives.indptr))]
        by_users = 2 * positives.shape[0] < positives.shape[1]
        weights = (_from_users if by_users else _from_contents)(positives, self.config.regularization)
        np.fill_diagonal(weights, 0)
        return weights if self.config.kept is None else _strongest_of_columns(weights, self.config.kept)


def _from_contents(positives: sp.csr_array, regularization: float) -> np.ndarray:
    """(t, t) -P / diag(P) by the inverse itself."""
    gram = gram_of(positives)
    np.fill_diagonal(gram, gram.diagonal() + np.float32(regularization))
    inverse = _inverse(gram)
    inverse /= -inverse.diagonal()[None].copy()
    return inverse


def _from_users(positives: sp.csr_array, regularization: float) -> np.ndarray:
    """The same by Woodbury, S = Xᵀ(XXᵀ + λI)⁻¹X and P = (I - S) / λ: B = S / (1 - diag(S))."""
    gram = (positives @ positives.T).toarray()  # (u, u)
    gram[np.diag_indices_from(gram)] += np.float32(regularization)
    factor = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True)
    half = scipy.linalg.solve_triangular(factor, positives.toarray(), lower=True)  # (u, t), S = halfᵀ half
    shared = half.T @ half
    shared /= 1 - shared.diagonal()[None].copy()
    return shared


def gram_of(positives: sp.csr_array) -> np.ndarray:
    """(t, t) float32 XᵀX in the order of columns that LAPACK wants; sparse only a block of it at a time."""
    transposed = sp.csr_array(positives.T)
    gram = np.empty((positives.shape[1],) * 2, np.float32)
    for first in range(0, len(gram), _BLOCK):
        (transposed[first : first + _BLOCK] @ positives).toarray(out=gram[first : first + _BLOCK])
    return gram.T  # symmetric


def _strongest_of_columns(weights: np.ndarray, kept: int) -> sp.csr_array:
    """(t, t) csr with at most ``kept`` weights a column, found a block of columns at a time."""
    blocks = [
        strongest(np.ascontiguousarray(weights[:, first : first + _BLOCK].T), kept, magnitude=True)
        for first in range(0, weights.shape[1], _BLOCK)
    ]
    if not blocks:
        return sp.csr_array(weights.shape, dtype=np.float32)
    return sp.csr_array(sp.vstack(blocks, format="csr").T)


_BLOCK = 512  # rows mirrored at once: as much as stays in cache
_LAPACK_MOST = 30_000  # SciPy's spotrf ends the process at 41,000


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """(t, t) float32 inverse of a symmetric positive definite matrix, which is overwritten."""
    if not len(matrix):
        return matrix
    if len(matrix) > _LAPACK_MOST:
        return _inverse_by_blocks(matrix.T if matrix.flags.f_contiguous else matrix)
    factor, failed = spotrf(matrix, lower=1, clean=0, overwrite_a=1)
    inverse, failed_too = (factor, failed) if failed else spotri(factor, lower=1, overwrite_c=1)
    if failed or failed_too:
        raise _not_definite(len(matrix))
    whole = inverse.T  # in C order, and so far right in its upper half
    for first in range(0, len(whole), _BLOCK):
        rows = slice(first, first + _BLOCK)
        whole[first + _BLOCK :, rows] = whole[rows, first + _BLOCK :].T
        square = whole[rows, rows]
        square[:] = np.triu(square) + np.triu(square, 1).T
    return whole


def strongest(block: np.ndarray, kept: int, magnitude: bool = False) -> sp.csr_array:
    """(b, t) -> csr with at most ``kept`` entries a row: the largest that are not 0, ties by column.

    ``magnitude`` takes the entries farthest from 0 instead of the largest.
    """
    size = np.abs(block) if magnitude else np.where(block > 0, block, 0)
    if kept < block.shape[1]:
        border = -np.partition(-size, kept - 1, axis=1)[:, kept - 1 : kept]
        surplus = (size >= border).sum(axis=1) > kept
        is_kept = size >= border
        for row in np.flatnonzero(surplus):  # equal ones at the border: those of smaller columns stay
            equal = np.flatnonzero(size[row] == border[row])
            over = int(is_kept[row].sum()) - kept
            is_kept[row, equal[len(equal) - over :]] = False
        size = np.where(is_kept, size, 0)
    rows, columns = np.nonzero(size)
    starts = np.searchsorted(rows, np.arange(len(block) + 1))
    return sp.csr_array((block[rows, columns], columns, starts), shape=block.shape)


def sparse_arrays(matrix: sp.csr_array) -> dict[str, np.ndarray]:
    """A csr matrix as three arrays for a store."""
    return {
        "indptr": matrix.indptr.astype(np.int64),
        "indices": matrix.indices.astype(np.int32),
        "similarity": matrix.data,
    }


def from_sparse_arrays(arrays: Mapping[str, np.ndarray], shape: tuple[int, int]) -> sp.csr_array:
    """What :func:`sparse_arrays` gave, as a matrix again."""
    return sp.csr_array((arrays["similarity"], arrays["indices"], arrays["indptr"]), shape=shape)


def _inverse_by_blocks(matrix: np.ndarray, block: int = 2048) -> np.ndarray:
    """The same, one block of contents swept after another: only blocks are ever handed to LAPACK.

    Source: Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33(3), 1979, by blocks.

    Cost: O(t³) in products of blocks, half of them left out by symmetry; two (t, block) panels.
    """
    whole = torch.from_numpy(matrix)
    size = len(whole)
    for first in range(0, size, block):
        last = min(first + block, size)
        here = slice(first, last)
        panel = torch.cat([whole[here, :first].T, whole[first:, here]])  # (t, block), from the lower half
        inner = panel[here].double()
        factor, failed = torch.linalg.cholesky_ex(inner)
        if failed:
            raise _not_definite(size)
        pivot = torch.cholesky_inverse(factor).float()
        scaled = panel @ pivot  # (t, block)
        for top in range(0, size, block):
            rows = slice(top, min(top + block, size))
            for columns in (slice(0, min(first, rows.stop)), slice(last, max(last, rows.stop))):
                if top != first and columns.start < columns.stop:
                    whole[rows, columns].addmm_(scaled[rows], panel[columns].T, alpha=-1)
        whole[here, :first] = scaled[:first].T
        whole[last:, here] = scaled[last:]
        whole[here, here] = -pivot
    whole.neg_()
    for first in range(0, size, block):
        rows = slice(first, first + block)
        whole[rows, first + block :] = whole[first + block :, rows].T
    return matrix


def _not_definite(size: int) -> np.linalg.LinAlgError:
    return np.linalg.LinAlgError(
        f"XᵀX + λI over {size} contents is not positive definite in float32: raise regularization"
    )


def liked_contents(positives: sp.csr_array) -> np.ndarray:
    """(t,) int64 rows of contents with at least one positive, ascending."""
    return np.flatnonzero(np.bincount(positives.indices, minlength=positives.shape[1])).astype(np.int64)


def places(contents: np.ndarray, size: int) -> np.ndarray:
    """(i,) int64: where a content stands among ``contents``, -1 for one that is not there."""
    found = np.full(size, -1, np.int64)
    found[contents] = np.arange(len(contents))
    return found


def only(history: sp.csr_array, places: np.ndarray) -> sp.csr_array:
    """(b, i) history -> (b, t) float32 over the contents that have a place, in ascending order.

    The order in which floats are added is then fixed: the same history gives the same score to the bit.
    """
    at = places[history.indices]
    kept = at >= 0
    starts = np.r_[0, np.cumsum(kept)][history.indptr]
    shape = (history.shape[0], int(places.max(initial=-1)) + 1)
    found = sp.csr_array((history.data[kept].astype(np.float32), at[kept], starts), shape=shape)
    found.sum_duplicates()
    return found


def spread(scores: np.ndarray, contents: np.ndarray, size: int) -> np.ndarray:
    """(b, t) scores of ``contents`` -> (b, i); all others stand just below the smallest of their row."""
    if len(contents) == size:
        return np.ascontiguousarray(scores, np.float32)
    if not len(contents):
        return np.zeros((len(scores), size), np.float32)
    below = np.nextafter(scores.min(axis=1, keepdims=True), np.float32(-np.inf), dtype=np.float32)
    full = np.repeat(below, size, axis=1)  # (b, i)
    full[:, contents] = scores
    return full
