"""Learns the weights of a matcher from pairs whose answer is known, and says how well it does.

Logistic regression; its log odds are calibrated on folds that it did not see (Platt), which stays linear."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from kg.matching import Matcher

_FOLDS = 5
_BETA = 0.5
"""A wrong join weighs more than a missed one: the threshold is that of the best F0.5 on unseen folds."""


@dataclass(frozen=True)
class Labelled:
    """Pairs whose answer is known."""

    rows: np.ndarray
    """(p, f) float64 features."""
    is_same: np.ndarray
    """(p,) bool."""
    groups: np.ndarray
    """(p,) int64; pairs of a group fall into the same fold."""


@dataclass(frozen=True)
class Quality:
    """How pairs that were joined compare with those that should be."""

    joined: int
    right: int
    true: int
    """Pairs that should be joined."""

    @property
    def precision(self) -> float:
        """Share of what was joined that is right."""
        return self.right / max(1, self.joined)

    @property
    def recall(self) -> float:
        """Share of what should be joined that was."""
        return self.right / max(1, self.true)

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.right / max(1, self.joined + self.true)


def fit(labelled: Labelled, features: Sequence[str], fitted_on: str) -> Matcher:
    """A calibrated matcher.

    Args:
        labelled: at least five groups, with pairs of both kinds.
        features: names of the columns of ``labelled.rows``.
        fitted_on: said in the file of weights.

    Raises:
        ValueError: the pairs are all of one kind, or too few.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999; ours does not smooth targets.
    """
    if len(np.unique(labelled.groups)) < _FOLDS or len(np.unique(labelled.is_same)) < 2:
        raise ValueError(
            f"a matcher needs pairs of both kinds in {_FOLDS} groups or more, got {len(labelled.is_same)} in "
            f"{len(np.unique(labelled.groups))}: give it more records"
        )
    unseen = np.zeros(len(labelled.is_same))
    for train, rest in GroupKFold(_FOLDS).split(labelled.rows, labelled.is_same, labelled.groups):
        unseen[rest] = _regression(labelled.rows[train], labelled.is_same[train]).decision_function(
            labelled.rows[rest]
        )
    scale = LogisticRegression(C=1e6).fit(unseen[:, None], labelled.is_same)
    slope, shift = float(scale.coef_[0, 0]), float(scale.intercept_[0])
    model = _regression(labelled.rows, labelled.is_same)
    probability = 1 / (1 + np.exp(-(slope * unseen + shift)))
    return Matcher(
        tuple(features),
        tuple((slope * model.coef_[0]).tolist()),
        slope * float(model.intercept_[0]) + shift,
        best_threshold(probability, labelled.is_same),
        fitted_on,
    )


def best_threshold(probability: np.ndarray, is_same: np.ndarray) -> float:
    """The threshold of the best F0.5, halfway to the next lower probability; at least one half."""
    order = np.argsort(-probability, kind="stable")
    right = np.cumsum(is_same[order])
    joined = np.arange(1, len(order) + 1)
    scores = (1 + _BETA**2) * right / (joined + _BETA**2 * max(1, is_same.sum()))
    best = int(np.argmax(scores))
    below = probability[order[best + 1]] if best + 1 < len(order) else 0.0
    return max(0.5, float(probability[order[best]] + below) / 2)


def calibration_error(probability: np.ndarray, is_same: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean distance of probability and share over bins of equal width.

    Source: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities …", AAAI 2015.
    """
    if not len(probability):
        return 0.0
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = np.bincount(place, probability - is_same, bins)
    return float(np.abs(gaps).sum() / len(probability))


def one_to_one(
    pairs: Sequence[tuple[int, int]], probability: np.ndarray, threshold: float
) -> list[tuple[int, int]]:
    """Pairs of at least the threshold, the surest first, each side once."""
    left: set[int] = set()
    right: set[int] = set()
    kept = []
    for place in np.lexsort((np.arange(len(pairs)), -probability)):
        one, other = pairs[place]
        if probability[place] < threshold:
            break
        if one not in left and other not in right:
            left.add(one)
            right.add(other)
            kept.append((one, other))
    return kept


def quality(joined: Iterable[tuple[str, str]], true: Iterable[tuple[str, str]]) -> Quality:
    """Counts joined pairs that are right; a pair is the same either way round."""
    ours, theirs = ({frozenset(pair) for pair in pairs} for pairs in (joined, true))
    return Quality(len(ours), len(ours & theirs), len(theirs))


def _regression(rows: np.ndarray, is_same: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=3000).fit(rows, is_same)
