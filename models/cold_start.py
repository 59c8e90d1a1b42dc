"""Scores for contents that nobody liked yet: what their facts say they would share with those that are liked.

u users · i contents · t contents with at least one positive · f flags of all families · r = min(u, t)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.content import DRAWS_ON, Alike, families, weighted
from models.interface import ModelFacts, Recommender, Training, Users, recommenders
from models.item_item import from_sparse_arrays, liked_contents, only, places, sparse_arrays

_BLOCK = 1024  # contents carried to at once


@dataclass(frozen=True)
class ContentLinearConfig:
    """Settings of :class:`ContentLinear`."""

    regularization: float = 30.0
    """λ, above 0: how much alike contents must be before what is liked of one tells of the other."""
    smoothing: float = 50.0
    """μ, above 0: how much users must share before the likes of one tell of the other."""
    interaction: float = 0.1
    """Weight of the squared similarity, 0 or more: contents that are alike in two ways at once."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of a family of features, see :data:`models.content.WEIGHTS`."""
    cold_weight: float = 1.0
    """Scores of contents that nobody liked yet are multiplied by it, above 0. Where every like of a warm
    content is already known, as in a split by contents, a large one wins."""

    def __post_init__(self) -> None:
        weighted(self.weights)
        if not self.regularization > 0 or not self.smoothing > 0 or not self.cold_weight > 0:
            raise SettingError(
                "content_linear needs regularization, smoothing and cold_weight above 0, got "
                f"{self.regularization}, {self.smoothing}, {self.cold_weight}"
            )
        if not self.interaction >= 0:
            raise SettingError(f"interaction must be 0 or more, got {self.interaction}")


@recommenders.register("content_linear", ContentLinearConfig)
class ContentLinear(Recommender):
    """A linear model over likes whose weights are carried to new contents by what they are like.

    The likes alone give S = XᵀX (XᵀX + μI)⁻¹, so that h · S scores liked contents. The similarity of contents
    K = s + q s², s a weighted sum of cosines and 1 everywhere, says what of it a content without likes
    inherits: column j is S (K + λI)⁻¹ K_j, the ridge regression of S on content. All in closed form.

    Source: after Monteil et al., "MARec: Metadata Alignment for cold-start Recommendation", RecSys 2024,
    arXiv:2404.13298, which aligns the weights of EASE with content similarities. Departures: alignment by
    kernel ridge regression (Saunders et al., ICML 1998) in place of the paper's weighted similarities within
    the loss; S keeps its diagonal, since a history is never recommended again.

    Cost: O(t³ / 3 + i t r) time to fit, two (t, t) float32 matrices besides the (r, i) one that stays; a
    user's scores O(r i).
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=DRAWS_ON)
    config: ContentLinearConfig

    def fit(self, training: Training) -> None:
        contents, size = liked_contents(training.positives), training.positives.shape[1]
        positives = sp.csr_array(training.positives[:, contents], dtype=np.float32)
        positives = positives[np.flatnonzero(np.diff(positives.indptr))]
        is_known = np.zeros(size, bool)
        is_known[contents] = True
        rows = families(training.graph, is_known, weighted(self.config.weights))
        self._take(contents, *_by_likes(positives, self.config.smoothing, size, contents))
        if len(contents):
            self._align(Alike(rows, contents), np.flatnonzero(~is_known))

    def _align(self, alike: Alike, cold: np.ndarray) -> None:
        """Fills the columns of contents without likes: S (K + λI)⁻¹ K_j, a block of them at a time."""
        kernel = self._kernel(alike.to_known(self._contents))  # (t, t)
        kernel[np.diag_indices_from(kernel)] += np.float32(self.config.regularization)
        solved = scipy.linalg.solve(
            kernel, self._table[:, self._contents].T, assume_a="pos", overwrite_a=True
        ).T * np.float32(self.config.cold_weight)  # (r, t)
        for first in range(0, len(cold), _BLOCK):
            some = cold[first : first + _BLOCK]
            self._table[:, some] = solved @ self._kernel(alike.to_known(some)).T

    def _kernel(self, similarity: np.ndarray) -> np.ndarray:
        similarity += 1
        return similarity + np.float32(self.config.interaction) * similarity**2

    def score(self, users: Users) -> np.ndarray:
        shared = (only(users.history, self._places) @ self._likes).toarray()  # (b, r)
        return np.ascontiguousarray(shared @ self._table)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        history = users.first().history
        given, places_of = np.zeros(history.nnz), self._places[history.indices]
        known = places_of >= 0
        column = self._table[:, content_row].astype(np.float64)
        given[known] = (self._likes[places_of[known]] @ column) * history.data[known]
        return given

    def arrays(self) -> dict[str, np.ndarray]:
        return {"contents": self._contents, "table": self._table, **sparse_arrays(self._likes)}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        contents, table = arrays["contents"], arrays["table"]
        self._take(contents, from_sparse_arrays(arrays, (len(contents), len(table))), table)

    def _take(self, contents: np.ndarray, likes: sp.csr_array, table: np.ndarray) -> None:
        """Keeps the two factors of the weights: (t, r) and (r, i)."""
        self._contents, self._likes, self._table = contents, likes, table
        self._places = places(contents, table.shape[1])


def _by_likes(
    positives: sp.csr_array, smoothing: float, size: int, contents: np.ndarray
) -> tuple[sp.csr_array, np.ndarray]:
    """(t, r) and (r, i) whose product is S at liked contents, 0 elsewhere.

    Where users are fewer, S = Xᵀ · (XXᵀ + μI)⁻¹X; else I · XᵀX (XᵀX + μI)⁻¹.
    """
    by_users = positives.shape[0] < positives.shape[1]
    gram = (positives @ positives.T if by_users else positives.T @ positives).toarray()
    ridge = gram.copy()
    ridge[np.diag_indices_from(ridge)] += np.float32(smoothing)
    table = np.zeros((len(gram), size), np.float32)
    if len(gram):
        right = positives.toarray() if by_users else gram
        table[:, contents] = scipy.linalg.solve(ridge, right, assume_a="pos", overwrite_a=True)
    likes = sp.csr_array(positives.T) if by_users else sp.eye_array(len(gram), format="csr")
    return likes.astype(np.float32), table
