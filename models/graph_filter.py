"""Likes as a signal over contents, smoothed over the graph that links contents liked together.

R̃ = D_u^-½ R D_i^-½ are the likes, each divided by the root of both degrees; R̃ᵀR̃ links contents. No (t, t)
matrix is ever made: a filter is a few products with R̃.
u users with a like · t contents with at least one positive · b users asked for · k axes."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users, recommenders
from models.item_item import (
    from_sparse_arrays,
    liked_contents,
    only,
    places,
    sparse_arrays,
    spread,
)

_OVERSAMPLES, _ITERATIONS = 16, 4  # of the randomised decomposition
_EXACT = 2_000  # users or contents up to which the whole decomposition takes a second
_ROUNDING = 1e-6  # share of the largest squared length below which a direction is rounding


class GraphFilter(Recommender):
    """Scores F · history, where F (t, t) is a linear filter that a subclass applies without making it."""

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())

    def fit(self, training: Training) -> None:
        self._contents, self._size = liked_contents(training.positives), training.positives.shape[1]
        positives = sp.csr_array(training.positives[:, self._contents], dtype=np.float32)  # (u, t)
        positives = positives[np.flatnonzero(np.diff(positives.indptr))]
        by_user = np.diff(positives.indptr).astype(np.float32)
        self._degree = np.bincount(positives.indices, minlength=positives.shape[1]).astype(np.float32)
        scaled = np.repeat(by_user**-0.5, np.diff(positives.indptr)) * self._degree[positives.indices] ** -0.5
        self._take(sp.csr_array((scaled, positives.indices, positives.indptr), shape=positives.shape))
        self._decompose(training.seed)

    def score(self, users: Users) -> np.ndarray:
        history = only(users.history, self._places).toarray().T  # (t, b)
        scores = self._filtered(np.ascontiguousarray(history))
        return spread(np.ascontiguousarray(scores.T, np.float32), self._contents, self._size)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        history = users.first().history
        given, places_of = np.zeros(history.nnz), self._places[history.indices]
        place, known = self._places[content_row], places_of >= 0
        if place >= 0:
            given[known] = self._given(place)[places_of[known]] * history.data[known]
        return given

    @abstractmethod
    def _filtered(self, signal: np.ndarray) -> np.ndarray:
        """(t, b) histories as columns -> (t, b) scores."""

    @abstractmethod
    def _given(self, place: int) -> np.ndarray:
        """(t,) what each content of a history gives to the score of one content."""

    @abstractmethod
    def _decompose(self, seed: int) -> None:
        """Makes ready what filtering needs besides R̃."""

    def _through(self, signal: np.ndarray) -> np.ndarray:
        """R̃ᵀR̃ · signal."""
        return self._back @ (self._likes @ signal)

    def _take(self, likes: sp.csr_array) -> None:
        self._places = places(self._contents, self._size)
        self._likes, self._back = likes, sp.csr_array(likes.T)

    def arrays(self) -> dict[str, np.ndarray]:
        found = {"contents": self._contents, "size": np.array([self._size], np.int64), "degree": self._degree}
        return found | sparse_arrays(self._likes)

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._contents, self._size = arrays["contents"], int(arrays["size"][0])
        self._degree = arrays["degree"]
        self._take(from_sparse_arrays(arrays, (len(arrays["indptr"]) - 1, len(self._contents))))


@dataclass(frozen=True)
class IdealFilterConfig:
    """Settings of :class:`IdealFilter`."""

    alpha: float = 0.3
    """Weight of the ideal low-pass filter beside the linear one, 0 or more."""
    axes: int = 256
    """Lowest frequencies that the ideal filter lets pass, at least 1."""

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.axes < 1:
            raise SettingError(
                f"graph_filter needs alpha >= 0 and axes >= 1, got alpha={self.alpha}, axes={self.axes}"
            )


@recommenders.register("graph_filter", IdealFilterConfig)
class IdealFilter(GraphFilter):
    """A linear low-pass filter, and one that keeps the lowest frequencies alone (GF-CF).

    Scores are h · (R̃ᵀR̃ + α D^-½ V Vᵀ D^½), V (t, k) the right singular vectors of R̃ with the largest
    singular values, D the contents' degrees.

    Source: Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021, arXiv:2108.07567,
    eq. 8. Departure: V by :func:`low_axes` in place of Lanczos.

    Cost: as of :func:`low_axes` to fit; a user's scores O(nnz(R) + t k).
    """

    config: IdealFilterConfig

    def _decompose(self, seed: int) -> None:
        self._axes = low_axes(self._likes, self._back, self.config.axes, seed)  # V

    def _filtered(self, signal: np.ndarray) -> np.ndarray:
        root = np.sqrt(self._degree)[:, None]
        kept = self._axes @ (self._axes.T @ (signal / root)) * root
        return self._through(signal) + np.float32(self.config.alpha) * kept

    def _given(self, place: int) -> np.ndarray:
        one = np.zeros((len(self._degree), 1), np.float32)
        one[place] = 1
        kept = self._axes @ self._axes[place] * np.sqrt(self._degree[place] / self._degree)
        return self._through(one)[:, 0] + self.config.alpha * kept

    def arrays(self) -> dict[str, np.ndarray]:
        return {**super().arrays(), "axes": self._axes}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        super().restore(arrays, graph)
        self._axes = arrays["axes"]


def low_axes(likes: sp.csr_array, back: sp.csr_array, count: int, seed: int) -> np.ndarray:
    """(t, k) float32 right singular vectors of ``likes`` (u, t) with the largest singular values.

    Where fewer than ``count`` singular values are above 0 there are fewer columns; signs are arbitrary.

    Source: Halko, Martinsson, Tropp, SIAM Review 53(2), 2011, algorithm 4.4 with four iterations and 16 axes
    more than asked for. Departure: bases are made orthonormal through their (k, k) products, and the last
    step is an eigenproblem of that size, so that nothing long is decomposed.

    Up to 2,000 users or contents the whole of RRᵀ or RᵀR is decomposed instead.

    Cost: O(nnz(R) k + (u + t) k²) time.
    """
    if min(likes.shape) <= _EXACT:
        return _exact_axes(likes.astype(np.float64), count)
    width = min(count + _OVERSAMPLES, likes.shape[1])
    basis = np.random.default_rng(seed).standard_normal((likes.shape[1], width), np.float32)  # (t, l)
    for _ in range(_ITERATIONS):
        basis = _orthonormal(back @ (likes @ basis))
    # once more, against what rounding left of the first pass
    basis = _orthonormal(basis)
    seen = likes @ basis  # (u, l)
    _, rotation = np.linalg.eigh((seen.T @ seen).astype(np.float64))  # ascending
    best = rotation[:, ::-1][:, : min(count, *likes.shape)]
    return np.ascontiguousarray(basis @ best.astype(np.float32))


def _exact_axes(likes: sp.csr_array, count: int) -> np.ndarray:
    by_users = likes.shape[0] < likes.shape[1]
    size, axes = np.linalg.eigh((likes @ likes.T if by_users else likes.T @ likes).toarray())  # ascending
    kept = np.flatnonzero(size > _ROUNDING**2 * size.max(initial=0))[::-1][:count]
    axes = axes[:, kept]
    return np.ascontiguousarray(likes.T @ axes / np.sqrt(size[kept]) if by_users else axes, np.float32)


def _orthonormal(basis: np.ndarray) -> np.ndarray:
    """(t, l) -> (t, m) orthonormal columns of the same span; directions of rounding alone are dropped."""
    size, directions = np.linalg.eigh((basis.T @ basis).astype(np.float64))
    kept = size > _ROUNDING * size.max(initial=0)
    return basis @ (directions[:, kept] / np.sqrt(size[kept])).astype(np.float32)


@dataclass(frozen=True)
class PolynomialFilterConfig:
    """Settings of :class:`PolynomialFilter`."""

    order: int = 8
    """Degree of the polynomial: links that a like may travel, at least 1."""
    flatness: float = 2.0
    """φ, above 0: how flat the wanted filter lies at its middle; 1 is a straight line."""
    beta: float = 0.4
    """Power of the degree that likes are divided by before the filter and multiplied by after it, in 0..1."""

    def __post_init__(self) -> None:
        if self.order < 1 or not self.flatness > 0 or not 0 <= self.beta <= 1:
            raise SettingError(
                "polynomial_filter needs order >= 1, flatness > 0 and beta in 0..1, got "
                f"order={self.order}, flatness={self.flatness}, beta={self.beta}"
            )


@recommenders.register("polynomial_filter", PolynomialFilterConfig)
class PolynomialFilter(GraphFilter):
    """A polynomial of the graph that comes near any wanted filter, with nothing to decompose (ChebyCF).

    Scores are D^β p(L̃) D^-β h with L̃ = I - 2 R̃ᵀR̃ and p the Chebyshev interpolation of the plateau
    ½ - ½ sign(x) |x|^φ: 1 at the lowest frequency, 0 at the highest, flat between.

    Source: Kim et al., "Graph Spectral Filtering with Chebyshev Interpolation for Recommendation", SIGIR
    2025, arXiv:2505.00552, section 4. Departures: the plateau is read at the nodes of the interpolation
    themselves; the paper's further ideal low-pass term is left out (see :class:`IdealFilter`).

    Cost: O(nnz(R)) to fit; a user's scores O(order · nnz(R)).
    """

    config: PolynomialFilterConfig

    def _decompose(self, seed: int) -> None:
        self._coefficients = coefficients(self.config.order, self.config.flatness).astype(np.float32)

    def _filtered(self, signal: np.ndarray) -> np.ndarray:
        scale = (self._degree**self.config.beta)[:, None]
        return self._polynomial(signal / scale) * scale

    def _given(self, place: int) -> np.ndarray:
        one = np.zeros((len(self._degree), 1), np.float32)
        one[place] = 1
        return self._polynomial(one)[:, 0] * (self._degree[place] / self._degree) ** self.config.beta

    def _polynomial(self, signal: np.ndarray) -> np.ndarray:
        """Σ c_n T_n(L̃) · signal by T_n = 2 L̃ T_n-1 - T_n-2."""
        before, now = signal, signal - 2 * self._through(signal)
        found = self._coefficients[0] * before + self._coefficients[1] * now
        for coefficient in self._coefficients[2:]:
            before, now = now, 2 * (now - 2 * self._through(now)) - before
            found += coefficient * now
        return found

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        super().restore(arrays, graph)
        self._decompose(seed=0)


def coefficients(order: int, flatness: float) -> np.ndarray:
    """(order + 1,) float64 Chebyshev coefficients of the plateau on [-1, 1].

    Example:
        >>> coefficients(1, 1.0).round(12).tolist()
        [0.5, -0.5]
    """
    nodes = np.cos((np.arange(order + 1) + 0.5) * np.pi / (order + 1))
    plateau = 0.5 - 0.5 * np.sign(nodes) * np.abs(nodes) ** flatness
    terms = np.cos(np.arange(order + 1)[:, None] * np.arccos(nodes))  # T_n at each node
    found = terms @ plateau * 2 / (order + 1)
    found[0] /= 2
    return found
