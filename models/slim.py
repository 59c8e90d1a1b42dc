"""SLIM: each content as a sparse, non-negative sum of the contents liked beside it.

u users · t contents with at least one positive · k candidates of a content · c contents solved at once."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from models.interface import recommenders
from models.item_item import ItemItem, gram_of

_CHUNK = 128  # contents solved at once: their (c, k, k) products stay small
_BLOCK = 512


@dataclass(frozen=True)
class SLIMConfig:
    """Settings of :class:`SLIM`."""

    l1: float = 1.0
    """λ, 0 or more: how hard small weights are pulled to nothing."""
    l2: float = 50.0
    """β, above 0: how evenly alike contents share a weight."""
    candidates: int = 150
    """Most similar contents (cosine) of which a content may be made up, at least 1."""
    sweeps: int = 50
    """Passes over the candidates at most, at least 1."""
    tolerance: float = 1e-4
    """A pass that moves no weight farther ends the search, above 0."""

    def __post_init__(self) -> None:
        if self.l1 < 0 or not self.l2 > 0 or self.candidates < 1 or self.sweeps < 1 or not self.tolerance > 0:
            raise SettingError(
                "slim needs l1 >= 0, l2 > 0, candidates >= 1, sweeps >= 1 and tolerance > 0, got "
                f"{self.l1}, {self.l2}, {self.candidates}, {self.sweeps}, {self.tolerance}"
            )


@recommenders.register("slim", SLIMConfig)
class SLIM(ItemItem):
    """Elastic-net regression of each content on its candidates, with no weight below zero.

    Minimises 1/2 ‖x_j - X w_j‖² + β/2 ‖w_j‖² + λ ‖w_j‖₁ with w_j >= 0 and w_jj = 0 by coordinate descent on
    XᵀX, for many contents side by side.

    Source: Ning, Karypis, "SLIM: Sparse Linear Methods for Top-N Recommender Systems", ICDM 2011, eq. 3.
    Departure: w_j is sought among the ``candidates`` contents most similar to j (the paper's fsSLIM, section
    4.3); with as many candidates as contents it is the whole problem.

    Cost: O(t k² sweeps) time, (t, t) and (c, k, k) float32 memory.
    """

    config: SLIMConfig

    def _learn(self, positives: sp.csr_array) -> sp.csr_array:
        gram = gram_of(positives)  # (t, t)
        count = min(self.config.candidates, max(len(gram) - 1, 0))
        if not count:
            return sp.csr_array(gram.shape, dtype=np.float32)
        candidates = _most_similar(gram, count)
        weights = np.empty(candidates.shape, np.float32)  # (t, k), row j makes up content j
        for first in range(0, len(gram), _CHUNK):
            rows = slice(first, first + _CHUNK)
            near = candidates[rows]
            target = np.take_along_axis(gram[rows], near, axis=1)
            among = gram[near[:, :, None], near[:, None, :]]
            weights[rows] = descend(among, target, self.config)
        starts = np.arange(len(gram) + 1) * count
        found = sp.csr_array((weights.ravel(), candidates.ravel(), starts), shape=gram.shape)
        found.eliminate_zeros()
        found = sp.csr_array(found.T)
        found.sort_indices()
        return found


def descend(among: np.ndarray, target: np.ndarray, config: SLIMConfig) -> np.ndarray:
    """Coordinate descent on several small problems side by side.

    Args:
        among: (c, k, k) products of the candidates with each other.
        target: (c, k) products of the candidates with the content they make up.
        config: penalties, and when to stop.

    Returns:
        (c, k) float32 weights, none below zero.
    """
    diagonal = np.ascontiguousarray(np.diagonal(among, axis1=1, axis2=2).T)  # (k, c)
    left = target.copy()  # what the weights so far leave unexplained, (c, k)
    weights = np.zeros((among.shape[1], len(among)), np.float32)  # (k, c)
    for _ in range(config.sweeps):
        farthest = 0.0
        for place, (weight, own) in enumerate(zip(weights, diagonal, strict=True)):
            better = np.maximum(left[:, place] + own * weight - config.l1, 0) / (own + config.l2)
            step = better - weight
            size = float(np.abs(step).max())
            if size:
                left -= among[:, place] * step[:, None]
                weights[place] = better
                farthest = max(farthest, size)
        if farthest < config.tolerance:
            break
    return weights.T


def _most_similar(gram: np.ndarray, count: int) -> np.ndarray:
    """(t, count) contents with the largest cosine to each, itself left out, in ascending order."""
    length = np.sqrt(gram.diagonal())
    found = np.empty((len(gram), count), np.int64)
    for first in range(0, len(gram), _BLOCK):
        alike = gram[first : first + _BLOCK] / length
        alike[np.arange(len(alike)), np.arange(first, first + len(alike))] = -1
        best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
        found[first : first + _BLOCK] = np.sort(best, axis=1)
    return found
