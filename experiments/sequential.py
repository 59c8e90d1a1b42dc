"""Tests that may be looked at after every answer: evidence against a null that grows, and never too fast.

An e-process starts at 1 and, while the null holds, passes 1 / a with a chance of at most a, however often
somebody looks (Ville's inequality). All here depend on counts alone."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_ODDS = (1.15, 1.3, 1.6, 2.2, 3.5, 6.0, 12.0, 40.0)
"""What the mixtures bet on: rates of the champion, and how many times the candidate's odds are as large."""


@dataclass(frozen=True)
class Outcomes:
    """What people of two arms did, one outcome a person."""

    candidate: int
    """People of the candidate's arm whose outcome is known."""
    candidate_positive: int
    champion: int
    champion_positive: int

    def __post_init__(self) -> None:
        pairs = ((self.candidate_positive, self.candidate), (self.champion_positive, self.champion))
        if any(not 0 <= part <= whole for part, whole in pairs):
            raise ValueError(f"positives lie between 0 and the people of their arm, got {pairs}")

    @property
    def difference(self) -> float:
        """Rate of the candidate minus that of the champion; NaN while an arm is empty."""
        if not self.candidate or not self.champion:
            return math.nan
        return self.candidate_positive / self.candidate - self.champion_positive / self.champion


def better(outcomes: Outcomes, share: float) -> float:
    """Log evidence that the candidate's people are positive more often than the champion's.

    People enter arms at random: the candidate's with chance ``share``. If versions made no difference, being
    positive would tell nothing of the arm. Each term of the mixture bets, person by person, on the arm given
    the outcome, as if rates were a and b > a: the odds paid are exactly fair under that null, and worse than
    fair where the candidate is worse, so the product is an e-process for "no better" without any large-sample
    argument, for rates that drift, at any share.

    Args:
        outcomes: counts so far.
        share: chance of the candidate's arm, above 0 and below 1.

    Returns:
        Natural logarithm; at -log(a) or more the null is rejected at level a.

    Source: Howard, Ramdas, McAuliffe, Sekhon, Annals of Statistics 49(2), 2021 (always-valid inference);
    Turner, Ly, Grünwald, "Generic E-variables for exact sequential k-sample tests", 2024; mixture as in
    Johari, Pekelis, Walsh, arXiv:1512.04922. Ours bets on the arm, which randomisation makes exact.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of people must lie above 0 and below 1, got {share}")
    paid = _payoffs(share)  # (w, 4)
    counts = (
        outcomes.candidate_positive,
        outcomes.champion_positive,
        outcomes.candidate - outcomes.candidate_positive,
        outcomes.champion - outcomes.champion_positive,
    )
    return _log_mean_exp(paid @ np.array(counts, np.float64))


def worse(outcomes: Outcomes, share: float) -> float:
    """Log evidence that the candidate's people are positive less often: :func:`better` with arms swapped."""
    swapped = Outcomes(
        outcomes.champion, outcomes.champion_positive, outcomes.candidate, outcomes.candidate_positive
    )
    return better(swapped, 1 - share)


def exceeds(events: int, trials: int, bound: float) -> float:
    """Log evidence that events are more frequent than ``bound``: errors, or answers slower than they may be.

    Args:
        events: how often it happened, of ``trials`` answers.
        bound: the share that is still allowed, above 0 and below 1.

    Source: mixture of likelihood ratios over larger shares, Robbins, Annals of Math. Statistics 41(5), 1970.
    """
    if not 0 < bound < 1 or not 0 <= events <= trials:
        raise ValueError(
            f"0 < bound < 1 and 0 <= events <= trials must hold, got {bound}, {events}, {trials}"
        )
    odds = bound / (1 - bound) * np.array([1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0])  # of the shares bet on
    shares = odds / (1 + odds)
    return _log_mean_exp(
        events * np.log(shares / bound) + (trials - events) * np.log((1 - shares) / (1 - bound))
    )


def interval(outcomes: Outcomes, level: float = 0.05, scale: float = 0.1) -> tuple[float, float]:
    """Bounds of the difference that hold at all times together; large samples, decides nothing here.

    Args:
        scale: differences about this large are told soonest.

    Source: Johari, Pekelis, Walsh, arXiv:1512.04922, section 4, with the variance of both rates estimated.
    """
    if not outcomes.candidate or not outcomes.champion:
        return -1.0, 1.0
    variance = 0.0
    for positive, people in (
        (outcomes.candidate_positive, outcomes.candidate),
        (outcomes.champion_positive, outcomes.champion),
    ):
        rate = (positive + 0.5) / (people + 1)  # never 0, or a few equal outcomes would look certain
        variance += rate * (1 - rate) / people
    mixed = scale**2
    reach = math.sqrt(
        variance
        * (variance + mixed)
        / mixed
        * (2 * math.log(1 / level) + math.log((variance + mixed) / variance))
    )
    return max(-1.0, outcomes.difference - reach), min(1.0, outcomes.difference + reach)


@cache
def _payoffs(share: float) -> np.ndarray:
    """(w, 4) log payoffs: candidate positive, champion positive, candidate not, champion not."""
    rate = np.repeat(_RATES, len(_ODDS))
    odds = rate / (1 - rate) * np.tile(_ODDS, len(_RATES))
    higher = odds / (1 + odds)
    overall = share * higher + (1 - share) * rate
    return np.log(
        np.stack(
            [higher / overall, rate / overall, (1 - higher) / (1 - overall), (1 - rate) / (1 - overall)],
            axis=1,
        )
    )


def _log_mean_exp(values: np.ndarray) -> float:
    most = float(values.max())
    return most + math.log(float(np.exp(values - most).mean()))
