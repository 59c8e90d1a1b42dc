"""Ranks every content for every user: blocks of scores, seen contents masked, no full sort, all cores.

u users · i contents · n recommendations in a list · b users in a block · c contents that may be ranked."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from models.interface import Recommender, Training, Users
from models.ranking import top

BLOCK_BYTES = 64 * 2**20
"""Memory for the scores of one block of users."""
_SLICE_BYTES = 4 * 2**20  # of a block at once, so that masking and choosing stay in the cache


@dataclass(frozen=True)
class Lists:
    """What a model recommends."""

    rows: np.ndarray
    """(u, n) int64 content rows, best first, ties by row, -1 where fewer are left."""
    is_flat: np.ndarray
    """(u,) bool: users for whom all that may be ranked scores alike: the list is in the order of rows."""


def rank(
    model: Recommender, training: Training, users: np.ndarray, n: int, block_bytes: int = BLOCK_BYTES
) -> np.ndarray:
    """The ``n`` best contents that each user has not liked: :attr:`Lists.rows` of :func:`lists_of`."""
    return lists_of(model, training, users, n, block_bytes).rows


def lists_of(
    model: Recommender, training: Training, users: np.ndarray, n: int, block_bytes: int = BLOCK_BYTES
) -> Lists:
    """The ``n`` best contents that each user has not liked in training.

    Args:
        model: fitted.
        training: whose positives are the history, and whose ``rankable`` may be recommended.
        users: (u,) int64 rows.
        n: length of the lists, 1 or more.
        block_bytes: users are scored in blocks whose scores take about this much.

    Raises:
        ValueError: a score of the model is not finite.

    Cost: one pass over (b, i) scores a block; never (u, i) at once, no full sort. Takes as many threads as
    torch.
    """
    contents = training.positives.shape[1]
    block = max(1, block_bytes // max(4 * contents, 1))
    found = Lists(np.empty((len(users), n), np.int64), np.empty(len(users), bool))
    choose = Chooser(type(model).__name__, training.rankable, n)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(users), block):
            rows = users[start : start + block]
            history = training.positives[rows]
            scores = np.asarray(model.score(Users(rows, history, training.times[rows])))  # (b, i)
            step = max(1, _SLICE_BYTES // max(scores.itemsize * contents, 1))
            parts = [slice(at, min(at + step, len(rows))) for at in range(0, len(rows), step)]
            chosen = pool.map(
                choose, *zip(*((rows[at], scores[at], history[at]) for at in parts), strict=True)
            )
            for part, (best, is_flat) in zip(parts, chosen, strict=True):
                place = slice(start + part.start, start + part.stop)
                found.rows[place], found.is_flat[place] = best, is_flat
    return found


class Chooser:
    """Masks what may not be recommended and takes the best of what is left."""

    def __init__(self, model: str, rankable: np.ndarray, n: int) -> None:
        self.model, self.n = model, n
        self.candidates = np.flatnonzero(rankable)  # (c,)
        self.place = np.full(len(rankable), -1)  # (i,) of a content among them
        self.place[self.candidates] = np.arange(len(self.candidates))

    def __call__(
        self, users: np.ndarray, scores: np.ndarray, history: sp.csr_array
    ) -> tuple[np.ndarray, np.ndarray]:
        """(b, n) content rows and (b,) bool whether all scores are alike, out of (b, i) scores."""
        self._must_be_finite(users, scores)
        is_every = len(self.candidates) == len(self.place)
        left = scores.copy() if is_every else scores[:, self.candidates]  # (b, c), ours to change
        liked, seen = np.repeat(np.arange(len(left)), np.diff(history.indptr)), self.place[history.indices]
        left[liked[seen >= 0], seen[seen >= 0]] = -np.inf
        best = top(left, self.n)
        is_flat = _is_flat(left, best)
        if len(self.candidates):
            best = np.where(best >= 0, self.candidates[best], best)
        return best, is_flat

    def _must_be_finite(self, users: np.ndarray, scores: np.ndarray) -> None:
        # largest and smallest without an array of flags; NaN passes through both
        if scores.size and not (np.isfinite(scores.max()) and np.isfinite(scores.min())):
            wrong = users[~np.isfinite(scores).all(axis=1)][:3].tolist()
            raise ValueError(
                f"{self.model} must give finite scores, got NaN or infinity for users {wrong}: "
                "mend its score()"
            )


def _is_flat(scores: np.ndarray, best: np.ndarray) -> np.ndarray:
    """(b,) bool: at least two contents are left, and all that are have one score."""
    if not scores.size or not best.shape[1]:
        return np.zeros(len(scores), bool)
    users = np.arange(len(scores))
    count = (best >= 0).sum(axis=1)
    first, last = scores[users, best[:, 0]], scores[users, best[users, count - 1]]
    is_flat = (count > 0) & (first == last)
    for user in np.flatnonzero(is_flat):  # seldom: the list itself is of one score
        left = scores[user][scores[user] > -np.inf]
        is_flat[user] = len(left) > 1 and left.min() == left.max()
    return is_flat
