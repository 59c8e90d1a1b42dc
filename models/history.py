"""How much each like of a history counts now: the last ones tell more of tonight than those of years ago."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from models.interface import Users


def recent(users: Users, likes: float | None) -> Users:
    """The same people with a history whose likes fade with each that came after.

    A like counts exp(-p / ``likes``), p the likes of the same person that came later; likes of one moment
    share their mean p. Each row is scaled to the length √h of a row of h ones, so that a model sees as much
    history as before. Where nobody told the times, or ``likes`` is None, nothing changes.

    Args:
        users: with (b, i) ``history`` and ``times``.
        likes: after how many later likes one counts 1/e, above 0.

    Source: exponential fading of a session's items as in Ludewig and Jannach, "Evaluation of session-based
    recommendation algorithms", UMUAI 28, 2018 (vector multiplication kNN), here over places instead of time.
    """
    history, times = users.history, users.times
    if likes is None or times is None or not history.nnz:
        return users
    counts = np.diff(history.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((times.data, row))  # oldest first within a row; rows keep their places
    begins = np.r_[True, (row[1:] != row[:-1]) | (times.data[order][1:] != times.data[order][:-1])]
    moment = np.cumsum(begins) - 1  # (h,) numbers the moments of all rows
    ends = np.r_[np.flatnonzero(begins)[1:], len(order)]
    middle = (np.flatnonzero(begins) + ends - 1) / 2
    later = (history.indptr[1:] - 1)[row] - middle[moment]  # p of the like at each sorted place
    weights = np.empty(len(order))
    weights[order] = np.exp(-later / likes)
    length = np.sqrt(np.bincount(row, weights**2, len(counts)))
    weights *= np.sqrt(counts)[row] / length[row]
    faded = sp.csr_array((weights.astype(np.float32), history.indices, history.indptr), shape=history.shape)
    return replace(users, history=faded)
