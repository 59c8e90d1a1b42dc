"""Steps of ranking: each takes candidates, gives a list, and says what it moved. Pure functions on arrays.

Every step first puts the scores it gets on [0, 1] among the candidates, so that no scale decides.
i contents · c candidates, best first · n in a list · g genres."""

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from kg.trust import LEAST_AVAILABILITY, LEAST_TRUST
from models.ranking import normalise

CALIBRATION_SMOOTHING = 0.01
"""α: share of the wanted genres that is mixed into those of a list, so that a missing genre stays finite."""
DAY_S = 86_400


@dataclass(frozen=True)
class Moved:
    """One content that a step put elsewhere; ranks count from 1."""

    content_row: int
    before: int
    after: int | None
    """None where the step took it out."""


@dataclass(frozen=True)
class Step:
    """A list before and after one step of ranking."""

    name: str
    before: np.ndarray
    """(c,) int64 content rows as they came."""
    rows: np.ndarray
    """(n,) int64 content rows now, best first."""
    scores: np.ndarray
    """(n,) float64: as they came where a step only picks or drops, on [0, 1] where it weighs something in."""
    unverified: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """(m,) int64 content rows of the list whose offers are to be marked as not verified."""

    @property
    def moved(self) -> tuple[Moved, ...]:
        """Every content whose rank changed or that was taken out, in the order they came."""
        after = {row: rank for rank, row in enumerate(self.rows.tolist(), 1)}
        ranks = enumerate(self.before.tolist(), 1)
        return tuple(Moved(row, rank, after.get(row)) for rank, row in ranks if after.get(row) != rank)


def drop_unavailable(rows: np.ndarray, scores: np.ndarray, available: np.ndarray) -> Step:
    """Takes out what cannot be watched; the order of the others stays.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores.
        available: (i,) bool over all contents, as :meth:`kg.availability.AvailabilityIndex.mask` gives it.
    """
    rows, scores = _candidates(rows, scores)
    kept = available[rows]
    return Step("availability", rows, rows[kept], scores[kept])


def drop_untrusted(
    rows: np.ndarray,
    scores: np.ndarray,
    trust: np.ndarray,
    least: float = LEAST_TRUST,
    offered: np.ndarray | None = None,
) -> Step:
    """Takes out what is known to be trusted too little, and marks offers that are not verified.

    The order of the others stays; a content of unknown trust stays too.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores.
        trust: (i,) in [0, 1] of all contents, NaN where not known.
        least: trust below it goes, in [0, 1].
        offered: (i,) in [0, 1], confidence in the best offer there and then; below
            :data:`kg.trust.LEAST_AVAILABILITY` it is unverified. NaN and None mark nothing.

    Example:
        >>> step = drop_untrusted([0, 1, 2], [3.0, 2.0, 1.0], np.array([0.9, 0.5, np.nan]), 0.6)
        >>> step.rows.tolist()
        [0, 2]
    """
    if not 0 <= least <= 1:
        raise ValueError(f"the least trust must lie in 0..1, got {least}")
    rows, scores = _candidates(rows, scores)
    kept = ~(np.asarray(trust, np.float64)[rows] < least)  # NaN is not below
    rows_left = rows[kept]
    doubted = np.zeros(len(rows_left), bool)
    if offered is not None:
        doubted = np.asarray(offered, np.float64)[rows_left] < LEAST_AVAILABILITY
    return Step("trusted", rows, rows_left, scores[kept], rows_left[doubted])


def weigh_trust(rows: np.ndarray, scores: np.ndarray, trust: np.ndarray, share: float) -> Step:
    """Puts what is better known to be true higher: (1 − share) · score + share · trust, scores on [0, 1].

    Ties keep the order in which they came. A content of unknown trust counts with the mean trust of the other
    candidates; where none is known nothing moves.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        trust: (i,) in [0, 1] of all contents, NaN where not known.
        share: of trust in the score, in [0, 1].

    Cost: O(c log c).
    """
    return _weigh("trust", rows, scores, trust, share)


def fit_context(rows: np.ndarray, scores: np.ndarray, fit: np.ndarray, share: float) -> Step:
    """Puts what fits the evening higher: (1 − share) · score + share · fit, scores on [0, 1].

    An unknown fit neither helps nor hurts: it counts with the mean of the candidates that have one.
    Arguments, ties and cost as in :func:`weigh_trust`; ``fit`` as of :func:`models.evening.runtime_fit`.
    """
    return _weigh("context", rows, scores, fit, share)


def lift_expiring(
    rows: np.ndarray, scores: np.ndarray, ends_ts: np.ndarray, at: int, boost: float, days: float = 14.0
) -> Step:
    """Lifts what can soon not be watched any more: score + boost · (1 − days left / ``days``), on [0, 1].

    An end that is open, further away or already past lifts nothing. Ties keep the order in which they came.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        ends_ts: (i,) int64 UTC seconds of the last end of a content's windows; int64's largest is open.
        at: UTC seconds now.
        boost: what the last moment adds to a score on [0, 1], 0 or more.
        days: from how many days before the end on, above 0.

    Cost: O(c log c).
    """
    if not boost >= 0 or not days > 0:
        raise ValueError(f"lift_expiring needs boost >= 0 and days > 0, got {boost} and {days}")
    rows, scores = _candidates(rows, scores)
    left = (np.asarray(ends_ts, np.float64)[rows] - at) / DAY_S
    urgency = np.where(left > 0, np.clip(1 - left / days, 0, 1), 0)
    return _reordered("expiring", rows, (normalise(scores) + boost * urgency) / (1 + boost))


def taste_of(history: np.ndarray, genres: sp.csr_array) -> np.ndarray:
    """(g,) float64 share of each genre in a history; a content is spread evenly over its genres.

    Args:
        history: (h,) content rows.
        genres: (i, g) of all contents.

    Returns:
        Shares that sum to 1; zeros where no content of the history has a genre.

    Source: Steck, RecSys 2018, eq. 2, without weights by time.
    """
    shares = _spread(genres, np.asarray(history, np.int64)).sum(axis=0)
    return shares / max(shares.sum(), 1e-300)


def calibrate(
    rows: np.ndarray,
    scores: np.ndarray,
    genres: sp.csr_array,
    taste: np.ndarray,
    n: int,
    weight: float = 0.5,
) -> Step:
    """Picks ``n`` one after another so that the genres of the list follow those of the history.

    A pick has the largest (1 − λ) · score − λ · KL(p ‖ q~), p the taste, q~ = (1 − α) q + α p with q the
    genres of what is picked with it and α = :data:`CALIBRATION_SMOOTHING`; scores on [0, 1], natural
    logarithm. Ties go to the one that stood higher. Without taste the order stays.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        genres: (i, g) of all contents.
        taste: (g,) p, as :func:`taste_of` gives it.
        n: how many, 0 or more; all where there are fewer candidates.
        weight: λ in [0, 1]; 0 keeps the order.

    Source: Steck, "Calibrated recommendations", RecSys 2018, eq. 3 to 6 and the greedy of section 4. The
    scores picked before are one constant among the candidates for a place, so only the new one's is read.

    Cost: O(n c g).
    """
    if n < 0 or not 0 <= weight <= 1:
        raise ValueError(f"calibrate needs n >= 0 and weight in 0..1, got n={n}, weight={weight}")
    rows, scores = _candidates(rows, scores)
    wanted = np.flatnonzero(taste > 0)
    if not len(wanted):
        return Step("calibration", rows, rows[:n], scores[:n])
    shares, goal = _spread(genres, rows), taste[wanted]  # (c, g)
    own, size = shares[:, wanted], shares.sum(axis=1)
    gain, listed, total = (1 - weight) * normalise(scores), np.zeros(len(wanted)), 0.0
    picked = np.empty(min(n, len(rows)), np.int64)
    for place in range(len(picked)):
        found = (listed + own) / np.maximum(total + size, 1e-300)[:, None]
        smoothed = (1 - CALIBRATION_SMOOTHING) * found + CALIBRATION_SMOOTHING * goal
        best = _first_best(gain - weight * (np.log(goal / smoothed) @ goal))
        picked[place] = best
        listed, total, gain[best] = listed + own[best], total + size[best], -np.inf
    return Step("calibration", rows, rows[picked], scores[picked])


def diversify(
    rows: np.ndarray, scores: np.ndarray, genres: sp.csr_array, n: int, relevance: float = 0.85
) -> Step:
    """Picks ``n`` one after another, each good in itself and unlike those picked before (MMR).

    A pick has the largest λ · score − (1 − λ) · (largest genre Jaccard with one picked), scores on [0, 1];
    ties go to the one that stood higher.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        genres: (i, g) of all contents, see :func:`models.ranking.genres_of`.
        n: how many, 0 or more; all where there are fewer candidates.
        relevance: λ in [0, 1]; 1 keeps the order.

    Source: Carbonell and Goldstein, SIGIR 1998.

    Cost: O(c² g + n c).
    """
    if n < 0 or not 0 <= relevance <= 1:
        raise ValueError(f"diversify needs n >= 0 and relevance in 0..1, got n={n}, relevance={relevance}")
    rows, scores = _candidates(rows, scores)
    gain, alike = relevance * normalise(scores), (1 - relevance) * _jaccard(genres, rows)
    nearest = np.zeros(len(rows))  # (c,) penalty by the most alike that was picked
    picked = np.empty(min(n, len(rows)), np.int64)
    for place in range(len(picked)):
        best = int(np.argmax(gain - nearest))
        picked[place] = best
        gain[best] = -np.inf
        np.maximum(nearest, alike[best], out=nearest)
    return Step("diversity", rows, rows[picked], scores[picked])


def diversify_dpp(
    rows: np.ndarray,
    scores: np.ndarray,
    genres: sp.csr_array,
    n: int,
    relevance: float = 0.85,
    likeness: float = 0.9,
) -> Step:
    """Picks ``n`` one after another, each adding most to the probability under a determinantal point process.

    A pick adds the most to θ · Σ score + (1 − θ) · log det S of what is picked, scores on [0, 1]; S has 1 on
    its diagonal and ``likeness`` · genre Jaccard beside it. Ties go to the one that stood higher.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        genres: (i, g) of all contents, see :func:`models.ranking.genres_of`.
        n: how many, 0 or more; all where there are fewer candidates.
        relevance: θ in [0, 1]; 1 keeps the order.
        likeness: of two contents of the same genres, at least 0 and below 1, so that S has full rank.

    Source: Chen, Zhang, Zhou, "Fast greedy MAP inference for determinantal point process to improve
    recommendation diversity", NeurIPS 2018, algorithm 1 with eq. 15. Ours takes the quality out of the
    factorisation (det L = Π q² · det S), so that no exponential overflows and θ = 1 is allowed.

    Cost: O(c² g + n² c).
    """
    if n < 0 or not 0 <= relevance <= 1 or not 0 <= likeness < 1:
        raise ValueError(
            "diversify_dpp needs n >= 0, relevance in 0..1 and likeness in 0..1 below 1, got "
            f"n={n}, relevance={relevance}, likeness={likeness}"
        )
    rows, scores = _candidates(rows, scores)
    gain, alike = relevance * normalise(scores), likeness * _jaccard(genres, rows)
    picked = np.empty(min(n, len(rows)), np.int64)
    factor, rest = np.zeros((len(rows), len(picked))), np.ones(len(rows))  # Cholesky rows; (c,) d²
    for place in range(len(picked)):
        best = _first_best(gain + (1 - relevance) * np.log(rest))
        picked[place], gain[best] = best, -np.inf
        alike[best, best] = 1.0
        column = (alike[best] - factor[:, :place] @ factor[best, :place]) / np.sqrt(rest[best])
        factor[:, place] = column
        rest = np.maximum(rest - column**2, 1e-12)
    return Step("diversity", rows, rows[picked], scores[picked])


def cap(
    rows: np.ndarray,
    scores: np.ndarray,
    genres: sp.csr_array | None = None,
    platforms: sp.csr_array | None = None,
    most_of_genre: int = 3,
    most_of_platform: int = 5,
) -> Step:
    """Lets only so many of a genre and of a platform stand in front; nothing is lost.

    In the order they came, a content goes behind all others where one of its genres is full, or every
    platform that has it. One in front fills each of its genres, and of its platforms the one with the most
    room (ties: the first). Front and behind keep their orders. One of no genre and no platform is never over.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores.
        genres: (i, g) of all contents; None caps no genre.
        platforms: (i, p) where each content can be watched there and then; None caps no platform.
        most_of_genre: 1 or more.
        most_of_platform: 1 or more.

    Cost: O(c) times the genres and platforms of a content.
    """
    if min(most_of_genre, most_of_platform) < 1:
        raise ValueError(f"caps must be 1 or more, got {most_of_genre} and {most_of_platform}")
    rows, scores = _candidates(rows, scores)
    room = np.full(0 if genres is None else genres.shape[1], most_of_genre)
    seats = np.full(0 if platforms is None else platforms.shape[1], most_of_platform)
    is_over = np.zeros(len(rows), bool)
    for place, row in enumerate(rows.tolist()):
        own, there = _members(genres, row), _members(platforms, row)
        is_over[place] = bool((room[own] == 0).any() or (len(there) and (seats[there] == 0).all()))
        if not is_over[place]:
            room[own] -= 1
            if len(there):
                seats[there[np.argmax(seats[there])]] -= 1
    order = np.argsort(is_over, kind="stable")
    return Step("caps", rows, rows[order], scores[order])


def _weigh(name: str, rows: np.ndarray, scores: np.ndarray, values: np.ndarray, share: float) -> Step:
    if not 0 <= share <= 1:
        raise ValueError(f"the share of {name} must lie in 0..1, got {share}")
    rows, scores = _candidates(rows, scores)
    own = np.asarray(values, np.float64)[rows]
    is_known = ~np.isnan(own)
    if ((own[is_known] < 0) | (own[is_known] > 1)).any():
        raise ValueError(f"{name} must lie in 0..1 or be NaN where it is not known: scale it first")
    if not is_known.any():
        return Step(name, rows, rows, normalise(scores))
    own = np.where(is_known, own, own[is_known].mean())
    return _reordered(name, rows, (1 - share) * normalise(scores) + share * own)


def _reordered(name: str, rows: np.ndarray, scores: np.ndarray) -> Step:
    order = np.argsort(-_rounded(scores), kind="stable")
    return Step(name, rows, rows[order], scores[order])


def _first_best(values: np.ndarray) -> int:
    return int(np.argmax(_rounded(values)))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Equal values may differ in their last bits by the order of sums: they tie."""
    return np.round(values, 12)


def _members(sets: sp.csr_array | None, row: int) -> np.ndarray:
    return np.empty(0, np.int64) if sets is None else sets.indices[sets.indptr[row] : sets.indptr[row + 1]]


def _spread(genres: sp.csr_array, rows: np.ndarray) -> np.ndarray:
    """(c, g) float64: 1 over the genres of a content at each of them."""
    sets = (genres[rows].toarray() != 0).astype(np.float64)
    return sets / np.maximum(sets.sum(axis=1, keepdims=True), 1)


def _jaccard(sets: sp.csr_array, rows: np.ndarray) -> np.ndarray:
    """(c, c) float64 shared over united genres of two contents; 0 where neither has any."""
    members = (sets[rows].toarray() != 0).astype(np.float32)  # (c, g)
    shared = (members @ members.T).astype(np.float64)
    sizes = members.sum(axis=1)
    united = sizes[:, None] + sizes[None] - shared
    return shared / np.maximum(united, 1)


def _candidates(rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = np.asarray(rows, np.int64), np.asarray(scores, np.float64)
    if rows.ndim != 1 or rows.shape != scores.shape:
        raise ValueError(f"candidates are (c,) rows with (c,) scores, got {rows.shape} and {scores.shape}")
    return rows, scores
