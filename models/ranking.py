"""From scores to a list: the best, ranks, one scale, fusion. Pure functions on arrays; steps are in `steps`.

b users · i contents · n in a list · g genres."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch

from kg.arrays import MISSING_ROW, GraphArrays

RRF_OFFSET = 60
TIED_CELLS = 4_000_000
"""How many scores at once are looked through for ties."""


def top(scores: np.ndarray, n: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """The best ``n`` contents of each user: by score, then by content row.

    Args:
        scores: (b, i); -inf is never recommended.
        n: length of the lists, 0 or more.
        allowed: (i,) or (b, i) bool, which contents may be recommended; None allows all.

    Returns:
        (b, n) int64 content rows, -1 where fewer are left.

    Raises:
        ValueError: n is negative, or a score is NaN.

    Cost: one pass of maxima over (b, i), then O(sqrt(n i)) a user: no sort of a whole row.

    Example:
        >>> top(np.array([[1.0, 3.0, 3.0]]), n=2).tolist()
        [[1, 2]]
    """
    if n < 0:
        raise ValueError(f"n must be 0 or more, the length of the recommendation lists, got n={n}")
    scores = np.asarray(scores)
    if np.isnan(scores.max(initial=-np.inf)):
        raise ValueError("scores must be numbers, got NaN: mask a content with -inf or `allowed`")
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    best = np.full((len(scores), n), MISSING_ROW, np.int64)
    if best.size and scores.size:
        found, values = _first(scores, n)
        best[:, : found.shape[1]] = np.where(values > -np.inf, found, MISSING_ROW)
    return best


def _first(scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(b, m) places and values of the ``n`` largest of each row, ties by place; m is n, or i if that is less.

    Every ``width``-th place falls into one strip. The best n lie in the n strips whose own best is best: each
    strip left out is passed by n others, and so is all that it holds.
    """
    count = scores.shape[1]
    depth = int(np.sqrt(count / n))
    if depth < 4:
        return _largest(scores, n)
    width = count // depth
    strips = scores[:, : depth * width].reshape(len(scores), depth, width)
    most = strips.max(axis=1)  # (b, width)
    chosen, is_tied = _at_least(most, n)
    chosen = chosen[:, :n]
    for rows in np.array_split(np.flatnonzero(is_tied), 1 + is_tied.sum() * count // TIED_CELLS):
        at = strips[rows].argmax(axis=1)  # the first of a strip's best: strips tie by it
        chosen[rows] = np.lexsort((at * width + np.arange(width), -most[rows]), axis=-1)[:, :n]
    steps = np.arange(depth)[:, None] * width
    near = (np.sort(chosen, axis=1)[:, None] + steps).reshape(len(scores), -1)  # (b, depth n), ascending
    rest = np.broadcast_to(np.arange(depth * width, count), (len(scores), count - depth * width))
    near = np.concatenate([near, rest], axis=1)
    places, values = _largest(np.take_along_axis(scores, near, axis=1), n)
    return np.take_along_axis(near, places, axis=1), values


def _largest(scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_first`, for rows that are short."""
    if n >= scores.shape[1]:
        order = np.argsort(-scores, axis=1, kind="stable")
        return order, np.take_along_axis(scores, order, axis=1)
    places, is_tied = _at_least(scores, n)
    places[is_tied] = np.argsort(-scores[is_tied], axis=1, kind="stable")[:, : n + 1]
    places = np.sort(places[:, :n], axis=1)
    values = np.take_along_axis(scores, places, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1), np.take_along_axis(values, order, axis=1)


def _at_least(scores: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(b, n + 1) places of the largest of each row, and (b,) bool: rows where the n-th ties with the next."""
    values, places = torch.topk(torch.from_numpy(np.require(scores, requirements="CW")), n + 1)
    edge, beyond = values[:, n - 1].numpy(), values[:, n].numpy()
    return places.numpy(), (edge == beyond) & (edge > -np.inf)


def ranks(scores: np.ndarray) -> np.ndarray:
    """(b, i) int64: 1 + how many contents score higher; equals share a rank, so that no id decides a fusion.

    Example:
        >>> ranks(np.array([[0.0, 5.0, 5.0, 1.0]])).tolist()
        [[4, 1, 1, 3]]
    """
    found = np.empty(scores.shape, np.int64)
    for place, row in enumerate(scores):
        order = np.argsort(-row)
        falling = row[order]
        starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]]) if len(row) else order
        found[place, order] = np.repeat(starts + 1, np.diff(np.r_[starts, len(row)]))
    return found


def normalise(scores: np.ndarray) -> np.ndarray:
    """Scores on [0, 1] by row, float64: the smallest finite one becomes 0, the largest 1; -inf becomes 0.

    Where all are equal none is worse than the best: all become 1.
    """
    scores = np.asarray(scores, np.float64)
    if not scores.size:
        return scores.copy()
    is_known = np.isfinite(scores)
    low = np.min(scores, axis=-1, keepdims=True, where=is_known, initial=np.inf)
    high = np.max(scores, axis=-1, keepdims=True, where=is_known, initial=-np.inf)
    span = np.where(high > low, high - low, 1.0)
    # with none known low is inf: the row is set to 0 below
    scaled = np.where(high > low, (np.where(is_known, scores, 0) - np.where(is_known, low, 0)) / span, 1.0)
    return np.where(is_known, scaled, 0.0)


def reciprocal_rank_fusion(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """One score out of several rankings: Σ w / (60 + rank), rank from 1.

    Args:
        scores: (b, i) each; what a ranking does not rank is -inf there and gains nothing from it.
        weights: one a ranking, 0 or more.

    Returns:
        (b, i) float64.

    Source: Cormack, Clarke, Büttcher, SIGIR 2009; the weights are ours. Equal scores share their best rank.
    """
    if len(scores) != len(weights) or not len(scores):
        raise ValueError(f"fusion needs one weight a ranking, got {len(scores)} and {len(weights)}")
    fused = np.zeros(scores[0].shape)
    for one, weight in zip(scores, weights, strict=True):
        fused += np.where(one > -np.inf, weight / (RRF_OFFSET + ranks(one)), 0.0)
    return fused


def genres_of(graph: GraphArrays) -> sp.csr_array:
    """(i, g) float32 csr: 1 where a content belongs to a genre."""
    contents, genres = graph.pairs("BELONGS_TO")
    shape = (graph.size("Content"), graph.size("Genre"))
    found = sp.csr_array((np.ones(len(contents), np.float32), (contents, genres)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1
    return found
