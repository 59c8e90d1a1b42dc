"""Histories as rows of tokens with their times: padded before the first, the latest at the last place.

b histories · h their likes together · l places of a sequence · i contents."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

PAD, START = 0, 1
"""Tokens of a place without anything, and of the beginning; contents follow."""
FIRST = 2
"""Token of the first content that has one."""


@dataclass(frozen=True)
class Sequences:
    """What was liked, oldest first."""

    tokens: np.ndarray
    """(b, l) int64: ``PAD``s, ``START`` where there is room for it, then contents."""
    time_s: np.ndarray | None
    """(b, l) int64 UTC seconds, 0 where nothing stands; the start is as old as the oldest like. None where
    nobody told when."""

    def __post_init__(self) -> None:
        if self.time_s is not None and self.time_s.shape != self.tokens.shape:
            raise ValueError(
                f"each place must have its time, got {self.time_s.shape} for {self.tokens.shape}: hand in "
                "one a token"
            )


def sequences(
    history: sp.csr_array,
    times: np.ndarray | None,
    token: np.ndarray,
    most: int,
    tie: np.ndarray | None = None,
) -> Sequences:
    """Histories as sequences of the latest likes.

    Args:
        history: (b, i), what each has liked.
        times: (h,) int64 of its entries; None keeps the order in which they stand.
        token: (i,) int64 token of each content, ``PAD`` for one without.
        most: places at most; earlier likes are left out.
        tie: (h,) what orders entries of one time; None orders them by content row.

    Returns:
        l <= most.

    Example:
        >>> liked, times, token = sp.csr_array([[1.0, 1.0]]), np.array([20, 10]), np.array([2, 3])
        >>> sequences(liked, times, token, most=9).tokens.tolist()
        [[1, 3, 2]]
    """
    people = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    if times is not None:
        order = np.lexsort((history.indices if tie is None else tie, times, people))
    else:
        order = np.arange(len(people))
    order = order[token[history.indices[order]] != PAD]
    people = people[order]
    counts = np.bincount(people, minlength=history.shape[0])
    length = min(int(counts.max(initial=0)) + 1, most)
    ago = counts.cumsum()[people] - np.arange(len(people))  # 1 for the latest
    is_in = ago <= length
    at = people[is_in], length - ago[is_in]
    found = np.full((history.shape[0], length), PAD, np.int64)
    found[at] = token[history.indices[order[is_in]]]
    begins = np.flatnonzero(counts < length)
    first = length - 1 - counts[begins]
    found[begins, first] = START
    if times is None:
        return Sequences(found, None)
    when = np.zeros_like(found)
    when[at] = times[order[is_in]]
    when[begins, first] = when[begins, np.minimum(first + 1, length - 1)]
    return Sequences(found, when)


def aligned(times: sp.csr_array, history: sp.csr_array) -> np.ndarray:
    """(h,) int64 times in the order in which the entries of ``history`` stand."""
    if np.array_equal(times.indices, history.indices) and np.array_equal(times.indptr, history.indptr):
        return times.data
    by_row = np.lexsort((times.indices, np.repeat(np.arange(times.shape[0]), np.diff(times.indptr))))
    wanted = np.lexsort((history.indices, np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))))
    if len(by_row) != len(wanted) or not np.array_equal(times.indices[by_row], history.indices[wanted]):
        raise ValueError(
            f"times must stand at the places of the history, got {times.nnz} for {history.nnz}: "
            "hand in the time of each like, or times=None"
        )
    found = np.empty(len(wanted), np.int64)
    found[wanted] = times.data[by_row]
    return found
