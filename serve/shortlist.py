"""From a person and a request to a ranked list of content rows, with what each step moved.

Pure on a snapshot: whoever carries the request, the list is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from kg.feedback import FeedbackEvent, opinions
from models.interface import Users
from models.ranking import top
from models.steps import Step, diversify, drop_unavailable
from serve.snapshot import Snapshot

POOL = 100  # candidates that diversity picks from


@dataclass(frozen=True)
class Person:
    """Somebody who asks: what they liked so far and what they need not see again."""

    users: Users
    """One row: the graph's, or -1; the live history."""
    hidden: np.ndarray
    """(h,) int64 content rows that are not recommended."""
    is_known: bool
    """True if the graph has this person."""
    feedback_count: int

    @property
    def has_history(self) -> bool:
        """True if anything liked is known of them."""
        return self.users.history.nnz > 0


def person(
    snapshot: Snapshot,
    user_id: str,
    events: Sequence[FeedbackEvent],
    positive_rating: float,
    hides_rated: bool,
    is_live: bool = True,
) -> Person:
    """Who asks: training positives of the version, with what the log says since laid over them.

    Args:
        snapshot: the version that answers.
        user_id: as the graph or the log writes it.
        events: what this person told, oldest first.
        positive_rating: ratings from here on (0 to 10) count as liked.
        hides_rated: hide everything rated or told in feedback; False hides training positives alone.
        is_live: False leaves the history as training saw it; what was told is hidden all the same.
    """
    row = snapshot.user_row(user_id)
    known = np.empty(0, np.int64) if row is None else _row(snapshot.positives, row)
    since = np.empty(0, np.int64) if row is None else _values(snapshot.times, row)
    liked = dict(zip(known.tolist(), since.tolist(), strict=True))
    told = []
    for opinion in opinions(list(events), positive_rating):
        content = snapshot.row(opinion.content_id)
        if content is None:
            continue  # of an older graph
        told.append(content)
        if not is_live:
            continue
        if opinion.is_positive:
            liked[content] = opinion.ts
        elif opinion.is_negative:
            liked.pop(content, None)
    hidden = [known]
    if hides_rated:
        hidden += [np.array(told, np.int64)] + ([] if row is None else [_row(snapshot.rated, row)])
    history, times = _history(liked, len(snapshot.content_ids))
    users = Users(np.array([-1 if row is None else row]), history, times)
    return Person(users, np.unique(np.concatenate(hidden)), row is not None, len(events))


@dataclass(frozen=True)
class Limits:
    """What a list must keep to."""

    n: int
    diversity: float
    """0 keeps the order of the scores; λ of MMR is 1 − diversity."""
    allowed: np.ndarray
    """(i,) bool, all hard filters but availability."""
    available: np.ndarray | None
    """(i,) bool; None lets what cannot be watched in."""


@dataclass(frozen=True)
class Shortlist:
    """What is recommended, best first."""

    rows: np.ndarray
    """(n,) int64"""
    scores: np.ndarray
    """(n,) float64, as the model gave them"""
    steps: tuple[Step, ...]


def shortlist(scores: np.ndarray, genres: sp.csr_array, limits: Limits) -> Shortlist:
    """The best ``n`` within the limits.

    Args:
        scores: (i,) of one person.
        genres: (i, g), what diversity compares.
        limits: filters and length.
    """
    wanted = max(POOL, limits.n) if limits.diversity > 0 else limits.n
    steps: list[Step] = []
    if limits.available is None:
        rows = _best(scores, wanted, limits.allowed)
    else:
        rows = _best(scores, 3 * wanted, limits.allowed)
        steps.append(drop_unavailable(rows, scores[rows], limits.available))
        rows = steps[-1].rows[:wanted]
        if len(rows) < wanted:  # what can be watched may stand further down
            rows = _best(scores, wanted, limits.allowed & limits.available)
    if limits.diversity > 0:
        steps.append(diversify(rows, scores[rows], genres, limits.n, relevance=1 - limits.diversity))
        rows = steps[-1].rows
    return Shortlist(rows, scores[rows].astype(np.float64), tuple(steps))


def _best(scores: np.ndarray, n: int, allowed: np.ndarray) -> np.ndarray:
    rows = top(scores[None], n, allowed)[0]
    return rows[rows >= 0]


def _row(matrix: sp.csr_array, row: int) -> np.ndarray:
    return matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].astype(np.int64)


def _values(matrix: sp.csr_array, row: int) -> np.ndarray:
    return matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]


def _history(liked: Mapping[int, int], size: int) -> tuple[sp.csr_array, sp.csr_array]:
    """(1, i) what was liked, and (1, i) when, out of content row -> UTC seconds."""
    rows = np.array(sorted(liked), np.int64)
    times = np.array([liked[row] for row in rows.tolist()], np.int64)
    places = np.array([0, len(rows)])
    return (
        sp.csr_array((np.ones(len(rows), np.float32), rows, places), shape=(1, size)),
        sp.csr_array((times, rows, places), shape=(1, size)),
    )
