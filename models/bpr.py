"""Matrix factorisation that puts what somebody liked above what that person did not: BPR.

u users · i contents · b users asked for · d width of a vector, its last place the content's bias."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking

from configs.registry import SettingError
from models.interface import ModelFacts, Training, recommenders
from models.item_item import liked_contents
from models.vectors import Vectors


@dataclass(frozen=True)
class BPRConfig:
    """Settings of :class:`BPR`."""

    factors: int = 64
    """Width of a vector without the bias, at least 1."""
    learning_rate: float = 0.05
    """Of the plain stochastic gradient, above 0."""
    regularization: float = 0.01
    """λ of users, contents and biases alike, 0 or more."""
    iterations: int = 100
    """Each draws as many pairs as there are positives, at least 1."""

    def __post_init__(self) -> None:
        if self.factors < 1 or self.iterations < 1 or not self.learning_rate > 0 or self.regularization < 0:
            raise SettingError(
                "bpr needs factors >= 1, iterations >= 1, learning_rate > 0 and regularization >= 0, got "
                f"{self.factors}, {self.iterations}, {self.learning_rate}, {self.regularization}"
            )


@recommenders.register("bpr", BPRConfig)
class BPR(Vectors):
    """Bayesian personalised ranking by ``implicit``, on one thread: the same vectors for a seed.

    Somebody whom training did not know is placed at the direction of the sum of the history's content
    vectors, as long as the mean known user; contents that nobody liked score below all others.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, algorithm 1.
    ``implicit`` adds a bias a content, draws negatives as often as they are liked (the paper: all alike), and
    skips one that the user liked instead of drawing again.

    Cost: O(iterations · positives · d).
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    config: BPRConfig

    def fit(self, training: Training) -> None:
        is_known = np.diff(training.positives.indptr) > 0
        contents = liked_contents(training.positives)
        positives = sp.csr_matrix(training.positives[is_known][:, contents], dtype=np.float32)
        width, shape = self.config.factors + 1, training.positives.shape
        user_vectors, content_vectors = (np.zeros((size, width), np.float32) for size in shape)
        if positives.nnz:
            model = self._learner(training.seed)
            model.fit(positives, show_progress=False)
            user_vectors[is_known], content_vectors[contents] = model.user_factors, model.item_factors
        is_scored = np.isin(np.arange(shape[1]), contents)
        norms = np.linalg.norm(user_vectors[is_known, :-1], axis=1)
        self._keep(
            user_vectors, content_vectors, is_known, float(norms.mean() if len(norms) else 1), is_scored
        )

    def _placed(self, history: sp.csr_array) -> np.ndarray:
        placed = history @ self._arrays["content_vectors"]  # (b, d)
        placed[:, -1] = 0
        length = np.linalg.norm(placed, axis=1, keepdims=True)
        placed *= self._arrays["scale"] / np.maximum(length, 1e-12)
        placed[:, -1:] = length > 0  # a user's last place is 1: it meets the bias
        return placed

    def _learner(self, seed: int) -> BayesianPersonalizedRanking:
        return BayesianPersonalizedRanking(
            factors=self.config.factors,
            learning_rate=self.config.learning_rate,
            regularization=self.config.regularization,
            iterations=self.config.iterations,
            num_threads=1,  # more write to the same vectors in no fixed order
            random_state=seed,
        )
