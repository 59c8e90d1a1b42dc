"""Models whose scores are dot products of frozen vectors: one of each user, one of each content.

u users · i contents · b users asked for · d width of a vector."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
import torch

from kg.arrays import GraphArrays
from models.interface import Recommender, Trainable, Users


class Vectors(Recommender):
    """Scores users · contentsᵀ; a subclass writes ``fit``, which ends in :meth:`_keep`.

    A user whom training knew keeps the vector learned then, whatever the history says now. Somebody else is
    placed by :meth:`_placed` from the history, and at the mean of all known users without one.
    """

    _arrays: Mapping[str, np.ndarray] = {}

    def _keep(
        self,
        user_vectors: np.ndarray,
        content_vectors: np.ndarray,
        is_known: np.ndarray,
        length: float | None = None,
        is_scored: np.ndarray | None = None,
    ) -> None:
        """Freezes the vectors that scoring reads.

        Args:
            user_vectors: (u, d) float32.
            content_vectors: (i, d) float32.
            is_known: (u,) bool, users whose vector was learned.
            length: of the vector of somebody placed by a history; None takes the mean of the known users'.
            is_scored: (i,) bool, contents whose vector was learned: the others score below all of these for
                everybody. None scores every content.
        """
        if length is None:
            norms = np.linalg.norm(user_vectors[is_known], axis=1)
            length = float(norms.mean()) if len(norms) else 1.0
        self._arrays = {
            "user_vectors": np.array(user_vectors, np.float32, order="C"),
            "content_vectors": np.array(content_vectors, np.float32, order="C"),
            "is_known": np.asarray(is_known, bool),
            "scale": np.array([length], np.float32),
        }
        if is_scored is not None:
            self._arrays["is_scored"] = np.asarray(is_scored, bool)

    def score(self, users: Users) -> np.ndarray:
        scores = self.vectors(users) @ self._frozen()["content_vectors"].T
        is_scored = self._arrays.get("is_scored")
        if is_scored is not None and not is_scored.all():
            lowest = scores[:, is_scored].min(axis=1, initial=0.0)
            scores[:, ~is_scored] = (lowest - 1)[:, None]
        return scores

    def vectors(self, users: Users) -> np.ndarray:
        """(b, d) float32 vector of each user; its dot product with a content's vector is the score."""
        arrays = self._frozen()
        known, is_known, rows = arrays["user_vectors"], arrays["is_known"], np.asarray(users.rows)
        usual = known[is_known].mean(0) if is_known.any() else np.zeros(known.shape[1], np.float32)
        placed = self._placed(users.history.astype(np.float32))
        placed = np.where(placed.any(axis=1, keepdims=True), placed, usual)
        trained = (rows >= 0) & is_known[np.maximum(rows, 0)] if len(is_known) else np.zeros(len(rows), bool)
        placed[trained] = known[rows[trained]]
        return placed.astype(np.float32)

    def _placed(self, history: sp.csr_array) -> np.ndarray:
        """(b, i) histories -> (b, d) vectors, zeros where a history says nothing.

        Here the direction of the sum of its contents, as long as ``scale``.
        """
        summed = history @ self._arrays["content_vectors"]  # (b, d)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        return summed / np.maximum(length, 1e-12) * self._arrays["scale"]

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self._arrays)

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        held, there = len(arrays["content_vectors"]), graph.size("Content")
        if held != there:
            raise ValueError(
                f"the graph must hold the {held} contents of training, got {there}: open the version's own"
            )
        self._arrays = dict(arrays)

    def _frozen(self) -> Mapping[str, np.ndarray]:
        if not self._arrays:
            raise RuntimeError(
                f"{type(self).__name__} scores from frozen vectors, it has none: call freeze() or restore() "
                "first"
            )
        return self._arrays


class VectorRecommender(Vectors, Trainable):
    """The same, trained: a subclass writes ``fit``, ``steps``, and ``freeze`` that ends in ``_keep``."""


def device_of(wanted: str) -> torch.device:
    """The device called ``cpu``, ``cuda`` or the like; ``auto`` is cuda where there is one, else cpu."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)
