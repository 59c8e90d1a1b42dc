"""The steps of ranking one after another: which, how strong, and in which order, as data.

i contents · c candidates, best first · n in a list · g genres · p platforms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from models import steps
from models.steps import Step

ORDER = ("availability", "trusted", "trust", "context", "expiring", "calibration", "diversity", "caps")
"""What cannot be watched or believed goes first, so that nothing is weighed against it; what changes scores
comes before what picks a list by them; caps come last, so that nothing after them breaks them."""
DIVERSITIES = ("mmr", "dpp")

Rows = np.ndarray
"""(c,) rows or scores of candidates."""


@dataclass(frozen=True)
class StepsConfig:
    """How strong each step is; 0, or "" for diversity, leaves it out. :data:`ORDER` says what comes when."""

    availability: bool = True
    """Whether what cannot be watched is taken out, where that is known."""
    trust: float = 0.0
    """Share in the score, in [0, 1]."""
    context: float = 0.0
    """Share of the fit to the evening in the score, in [0, 1]."""
    expiring: float = 0.0
    """What the last moment before the end adds to a score on [0, 1], 0 or more."""
    expiring_days: float = 14.0
    """From how many days before the end on, above 0."""
    calibration: float = 0.0
    """λ of :func:`models.steps.calibrate`, in [0, 1]."""
    diversity: str = ""
    """``mmr`` or ``dpp``."""
    relevance: float = 0.85
    """λ of MMR, θ of the DPP, in [0, 1]."""
    most_of_genre: int = 0
    most_of_platform: int = 0
    least_trust: float = 0.0
    """Contents trusted less are taken out, in [0, 1]; :data:`kg.trust.LEAST_TRUST` is the house's."""

    def __post_init__(self) -> None:
        shares = (self.trust, self.context, self.calibration, self.relevance, self.least_trust)
        if not all(0 <= share <= 1 for share in shares) or not self.expiring >= 0:
            raise SettingError(
                "steps need trust, context, calibration, relevance and least_trust in 0..1 and "
                "expiring >= 0, got "
                f"{shares} and {self.expiring}"
            )
        if not self.expiring_days > 0 or min(self.most_of_genre, self.most_of_platform) < 0:
            raise SettingError(
                "steps need expiring_days above 0 and caps of 0 or more, got "
                f"{self.expiring_days}, {self.most_of_genre} and {self.most_of_platform}"
            )
        if self.diversity and self.diversity not in DIVERSITIES:
            raise SettingError(f"diversity is one of {', '.join(DIVERSITIES)} or '', got {self.diversity!r}")


@dataclass(frozen=True)
class Situation:
    """What is known of contents, a person and a moment; a step whose arrays are None is left out."""

    genres: sp.csr_array
    """(i, g) 0 or 1."""
    available: np.ndarray | None = None
    """(i,) bool."""
    trust: np.ndarray | None = None
    """(i,) in [0, 1], NaN where not known."""
    fit: np.ndarray | None = None
    """(i,) in [0, 1], NaN where not known: :func:`models.evening.runtime_fit`."""
    ends_ts: np.ndarray | None = None
    """(i,) int64 UTC seconds, see :func:`models.steps.lift_expiring`."""
    at: int = 0
    """UTC seconds now."""
    taste: np.ndarray | None = None
    """(g,) shares of genres in the history: :func:`models.steps.taste_of`."""
    platforms: sp.csr_array | None = None
    """(i, p) 0 or 1: where each content can be watched there and then."""
    offered: np.ndarray | None = None
    """(i,) in [0, 1], confidence in the best offer, see :func:`models.steps.drop_untrusted`."""


def apply(
    rows: np.ndarray, scores: np.ndarray, config: StepsConfig, situation: Situation, n: int
) -> tuple[Step, ...]:
    """Takes candidates through the steps that ``config`` asks for, in :data:`ORDER`.

    What picks a list hands on an order, not scores: the best of the scores it got go to its picks as they
    stand, so that the next step does not undo it. Where caps follow, twice ``n`` are picked for them to
    choose from.

    Args:
        rows: (c,) content rows, best first.
        scores: (c,) their scores on any scale.
        config: how strong each step is.
        situation: what they read.
        n: length of the list.

    Returns:
        The steps that were taken. The list is the first ``n`` rows of the last one, or of ``rows``.
    """
    rows, scores = np.asarray(rows, np.int64), np.asarray(scores, np.float64)
    taken = []
    for name in ORDER:
        step = _STEPS[name](rows, scores, config, situation, 2 * n)
        if step is not None:
            taken.append(step)
            rows, scores = step.rows, -np.sort(-step.scores)
    return tuple(taken)


def _availability(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.availability or at.available is None:
        return None
    return steps.drop_unavailable(rows, scores, at.available)


def _trusted(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.least_trust or at.trust is None:
        return None
    return steps.drop_untrusted(rows, scores, at.trust, config.least_trust, at.offered)


def _trust(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.trust or at.trust is None:
        return None
    return steps.weigh_trust(rows, scores, at.trust, config.trust)


def _context(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.context or at.fit is None:
        return None
    return steps.fit_context(rows, scores, at.fit, config.context)


def _expiring(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.expiring or at.ends_ts is None:
        return None
    return steps.lift_expiring(rows, scores, at.ends_ts, at.at, config.expiring, config.expiring_days)


def _calibration(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.calibration or at.taste is None:
        return None
    return steps.calibrate(rows, scores, at.genres, at.taste, n, config.calibration)


def _diversity(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    if not config.diversity:
        return None
    pick = steps.diversify if config.diversity == "mmr" else steps.diversify_dpp
    return pick(rows, scores, at.genres, n, config.relevance)


def _caps(rows: Rows, scores: Rows, config: StepsConfig, at: Situation, n: int) -> Step | None:
    genres = at.genres if config.most_of_genre else None
    platforms = at.platforms if config.most_of_platform else None
    if genres is None and platforms is None:
        return None
    most = max(config.most_of_genre, 1), max(config.most_of_platform, 1)
    return steps.cap(rows, scores, genres, platforms, *most)


_STEPS: dict[str, Callable[..., Step | None]] = dict(
    zip(
        ORDER,
        (_availability, _trusted, _trust, _context, _expiring, _calibration, _diversity, _caps),
        strict=True,
    )
)
