"""A walk of three steps from a user over likes, ending on contents that popularity does not decide.

u users · t contents with at least one positive."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from models.interface import recommenders
from models.item_item import ItemItem, strongest

_BLOCK = 512  # contents walked from at once


@dataclass(frozen=True)
class RP3betaConfig:
    """Settings of :class:`RP3beta`."""

    alpha: float = 1.0
    """Power of every step's chance, above 0; 1 is the walk itself."""
    beta: float = 0.3
    """How far a content's number of likes is taken out of its score, 0 or more; 0 leaves it in."""
    neighbours: int = 200
    """Contents kept for each, those that the walk reaches with the best score, at least 1."""

    def __post_init__(self) -> None:
        if not self.alpha > 0 or self.beta < 0 or self.neighbours < 1:
            raise SettingError(
                "rp3beta needs alpha > 0, beta >= 0 and neighbours >= 1, got "
                f"alpha={self.alpha}, beta={self.beta}, neighbours={self.neighbours}"
            )


@recommenders.register("rp3beta", RP3betaConfig)
class RP3beta(ItemItem):
    """Chance that a random walk content → user → content from the history ends on a content.

    With P the chances of one step from user to content and Q those back, each to the power α, a history
    scores h · QP / degree^β. The walk's first step only scales a user's scores and is left out.

    Source: Paudel, Christoffel, Newell, Bernstein, "Updatable, Accurate, Diverse, and Scalable
    Recommendations for Interactive Applications", ACM TiiS 7(1), 2016, eq. 3 to 5; α by Cooper et al. 2014.
    Departures: a content keeps its ``neighbours`` best and never leads to itself.

    Cost: O(nnz(X) · mean history) time; never more than 512 rows of (t, t) at once.
    """

    config: RP3betaConfig

    def _learn(self, positives: sp.csr_array) -> sp.csr_array:
        forth = _steps(positives, self.config.alpha)  # (u, t)
        back = _steps(sp.csr_array(positives.T), self.config.alpha)  # (t, u)
        degree = np.diff(back.indptr)
        evened = np.power(degree, -self.config.beta, dtype=np.float32)
        blocks = []
        for first in range(0, positives.shape[1], _BLOCK):
            reached = (back[first : first + _BLOCK] @ forth).toarray() * evened
            reached[np.arange(len(reached)), np.arange(first, first + len(reached))] = 0
            blocks.append(strongest(reached, self.config.neighbours))
        if not blocks:
            return sp.csr_array(positives.shape[1:] * 2, dtype=np.float32)
        return sp.csr_array(sp.vstack(blocks, format="csr"))


def _steps(likes: sp.csr_array, alpha: float) -> sp.csr_array:
    """Each row's entries as equal chances, to the power α."""
    degree = np.diff(likes.indptr)
    chance = np.repeat(np.maximum(degree, 1) ** -alpha, degree).astype(np.float32)
    return sp.csr_array((chance, likes.indices, likes.indptr), shape=likes.shape)
