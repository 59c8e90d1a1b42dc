"""Matrix factorisation for likes without dislikes: every user and content is a short vector.

Users are folded in from their history each time, so that somebody new and a live history need no training."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import ThreadpoolController, threadpool_limits

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users, recommenders
from models.item_item import liked_contents, only, places, spread


@dataclass(frozen=True)
class IALSConfig:
    """Settings of :class:`IALS`."""

    factors: int = 64
    """Width of a vector, at least 1."""
    regularization: float = 10.0
    """λ, above 0."""
    alpha: float = 10.0
    """Confidence in a like, above 0; what was not liked has 1."""
    iterations: int = 15
    """How often users and contents are solved for in turn, at least 1."""

    def __post_init__(self) -> None:
        if self.factors < 1 or self.iterations < 1 or not self.regularization > 0 or not self.alpha > 0:
            raise SettingError(
                "ials needs factors >= 1, iterations >= 1, regularization > 0 and alpha > 0, got "
                f"{self.factors}, {self.iterations}, {self.regularization}, {self.alpha}"
            )


@recommenders.register("ials", IALSConfig)
class IALS(Recommender):
    """Alternating least squares over likes with confidence, by ``implicit``.

    Source: Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; which
    settings matter: Rendle et al., RecSys 2022. Departures: ``implicit`` gives a like confidence α (the paper
    1 + α) and solves by three steps of conjugate gradients in training; folding in solves exactly.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    config: IALSConfig

    def fit(self, training: Training) -> None:
        self._contents, self._size = liked_contents(training.positives), training.positives.shape[1]
        positives = sp.csr_matrix(training.positives[:, self._contents], dtype=np.float32)  # (u, t)
        positives = positives[np.flatnonzero(np.diff(positives.indptr))]
        # implicit runs its own threads: a second pool under each of them only gets in the way
        with threadpool_limits(limits=1, user_api="blas"):
            model = self._solver(training.seed)
            if positives.nnz:
                model.fit(positives, show_progress=False)
            else:
                model.item_factors = np.zeros((0, self.config.factors), np.float32)
            gram = model.YtY
        self._take(model.item_factors, gram)

    def score(self, users: Users) -> np.ndarray:
        vectors = self._fold_in(only(users.history, self._places))  # (b, d)
        scores = np.empty((len(vectors), len(self._contents)), np.float32)
        for vector, row in zip(vectors, scores, strict=True):
            # user by user: a product of many rows rounds otherwise than a product of one
            np.dot(self._vectors, vector, out=row)
        return spread(scores, self._contents, self._size)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        """Each like's own part of the score, α · yᵀ W_u y_j; they add up to it (Hu et al., section 5)."""
        history = users.first().history
        place = self._places[content_row]
        if place < 0 or not history.nnz:
            return np.zeros(history.nnz)
        return self._vectors[place].astype(np.float64) @ self._solved(history)

    def _solved(self, history: sp.csr_array) -> np.ndarray:
        """(d, h) α · W_u y_j of every like of one user; kept for the next content that is explained."""
        key = history.indices.tobytes() + history.data.tobytes()
        known, solved = self._latest
        if known != key:
            places_of = self._places[history.indices]
            is_known = places_of >= 0
            confidence = self.config.alpha * history.data * is_known.astype(np.float64)  # (h,)
            liked = self._vectors[np.where(is_known, places_of, 0)].astype(np.float64)  # (h, d)
            equation = self._gram + liked.T @ (liked * np.where(is_known, confidence - 1, 0)[:, None])
            equation[np.diag_indices_from(equation)] += self.config.regularization
            with self._pools.limit(limits=1, user_api="blas"):  # small, and other threads only wait for it
                solved = scipy.linalg.solve(equation, liked.T * confidence, assume_a="pos")
            self._latest = (key, solved)
        return solved

    def arrays(self) -> dict[str, np.ndarray]:
        size = np.array([self._size], np.int64)
        return {"contents": self._contents, "size": size, "vectors": self._vectors, "gram": self._gram}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._contents, self._size = arrays["contents"], int(arrays["size"][0])
        self._take(arrays["vectors"], arrays["gram"])

    def _take(self, vectors: np.ndarray, gram: np.ndarray) -> None:
        """Keeps (t, d) vectors of the contents and their (d, d) product with themselves."""
        self._vectors, self._gram = np.ascontiguousarray(vectors), np.ascontiguousarray(gram)
        self._latest: tuple[bytes, np.ndarray] = (b"", np.empty((0, 0)))
        self._pools = ThreadpoolController()
        self._places = places(self._contents, self._size)
        with threadpool_limits(limits=1, user_api="blas"):
            self._folder = self._solver(seed=0)
        self._folder.num_threads = 1  # to wake others takes longer than to fold one user in
        self._folder.item_factors, self._folder._YtY = self._vectors, self._gram

    def _fold_in(self, history: sp.csr_array) -> np.ndarray:
        """(b, t) history -> (b, d) vectors of those users."""
        if not len(self._contents):
            return np.zeros((history.shape[0], self.config.factors), np.float32)
        return self._folder.recalculate_user(np.arange(history.shape[0]), sp.csr_matrix(history))

    def _solver(self, seed: int) -> AlternatingLeastSquares:
        return AlternatingLeastSquares(
            factors=self.config.factors,
            regularization=self.config.regularization,
            alpha=self.config.alpha,
            iterations=self.config.iterations,
            random_state=seed,
        )
