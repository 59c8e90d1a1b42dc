"""How well classes of queries are told: macro F1, calibration error, conformal coverage.

q queries · c classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar

from models.queries import INTENTS
from models.router import softmax

REDRAWS = 100
"""How often held-out templates are dealt anew to calibration and test."""
RESAMPLES = 300
"""How often the test templates are drawn anew, with replacement, for an interval."""


@dataclass(frozen=True)
class Scored:
    """Queries of a part with the logits that a model gives them."""

    logits: np.ndarray
    """(q, c), before calibration."""
    intents: np.ndarray
    """(q,) int, places in INTENTS."""
    templates: np.ndarray
    """(q,) int; equal numbers are fillings of one template."""


@dataclass(frozen=True)
class Row:
    """One model in the table."""

    name: str
    macro_f1: float
    """On templates for testing, written apart from those of the training."""
    macro_f1_misspelt: float
    """On the same, misspelt."""
    macro_f1_orders: float
    """On word orders that no other part has."""
    macro_f1_choose: float
    """On the templates for choosing, plain and misspelt: what chose the one that is served."""
    calibration_error: float
    """On the test templates."""
    calibration_error_redrawn: float
    """Mean over :data:`REDRAWS` divisions of the held-out templates."""
    coverage: float
    """Share of conformal sets with the right class, on the test templates."""
    coverage_redrawn: float
    """Mean over :data:`REDRAWS` divisions of the held-out templates into calibration and test."""
    set_size: float
    """Classes in a conformal set on the test templates, on average."""
    worst: str
    """The class with the lowest F1 on the test templates, and that F1."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Measure -> 95% interval over test templates drawn anew, what was calibrated held still."""


def chosen_f1(parts: Mapping[str, Scored]) -> float:
    """Macro F1 on the templates for choosing, misspelt ones as heavy."""
    return float(np.mean([_f1_of(parts["choose"]).mean(), _f1_of(parts["choose-misspelt"]).mean()]))


def measure_row(name: str, parts: Mapping[str, Scored], coverage: float, seed: int) -> Row:
    """The row of a model.

    Args:
        name: of the model.
        parts: what it gave, with parts choose, calibrate, test, orders and misspelt twins.
        coverage: promised of the conformal sets, 0 to 1.
        seed: of the redraws.
    """
    temperature, known = calibrated(parts["calibrate"])
    test, own = parts["test"], _f1_of(parts["test"])
    chances = softmax(test.logits / temperature)
    border = border_of(known, parts["calibrate"].intents, coverage)
    redrawn = redraw(parts["calibrate"], test, coverage, seed)
    return Row(
        name,
        float(own.mean()),
        float(_f1_of(parts["test-misspelt"]).mean()),
        float(_f1_of(parts["orders"]).mean()),
        chosen_f1(parts),
        calibration_error(chances, test.intents),
        redrawn[0],
        covered(chances, test.intents, border),
        redrawn[1],
        float((chances >= border).sum(1).mean()),
        f"{INTENTS[int(own.argmin())]} {own.min():.3f}",
        {
            "macro_f1": interval(test, lambda part: float(_f1_of(part).mean()), seed),
            "macro_f1_misspelt": interval(
                parts["test-misspelt"], lambda part: float(_f1_of(part).mean()), seed
            ),
            "calibration_error": interval(
                test, lambda part: calibration_error(softmax(part.logits / temperature), part.intents), seed
            ),
            "coverage": interval(
                test, lambda part: covered(softmax(part.logits / temperature), part.intents, border), seed
            ),
        },
    )


def interval(part: Scored, measure: Callable[[Scored], float], seed: int) -> tuple[float, float]:
    """95% of what a measure gives on templates drawn anew with replacement, all fillings of one together.

    Example:
        >>> same = Scored(np.eye(6), np.arange(6), np.arange(6))
        >>> interval(same, lambda part: float((part.logits.argmax(1) == part.intents).mean()), 0)
        (1.0, 1.0)
    """
    rng = np.random.default_rng([seed, 81])
    own = [np.flatnonzero(part.templates == number) for number in np.unique(part.templates)]
    values = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([own[place] for place in rng.integers(len(own), size=len(own))])
        values.append(measure(_rows_of(part, drawn)))
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def f1(intents: np.ndarray, told: np.ndarray) -> np.ndarray:
    """(c,) float64 F1 of each class; 0 for a class that is neither there nor told.

    Args:
        intents: (q,) int, the right classes.
        told: (q,) int, those of the model.
    """
    values = []
    for place in range(len(INTENTS)):
        hits = np.sum((intents == place) & (told == place))
        values.append(2 * hits / max(1, np.sum(intents == place) + np.sum(told == place)))
    return np.array(values)


def calibration_error(chances: np.ndarray, intents: np.ndarray, bins: int = 15) -> float:
    """Mean distance of confidence from accuracy over equal bins of confidence, weighed by their queries.

    Args:
        chances: (q, c) that sum to 1.
        intents: (q,) int, the right classes.
        bins: of equal width.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, eq. 3.
    """
    confidence, is_right = chances.max(1), chances.argmax(1) == intents
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[place == at].sum() - is_right[place == at].sum()) for at in np.unique(place)]
    return float(np.sum(gaps) / len(intents))


def temperature_of(logits: np.ndarray, intents: np.ndarray) -> float:
    """The temperature in .05..20 with the least cross entropy; (q, c) logits, (q,) int right classes."""

    def entropy(log_t: float) -> float:
        return -float(
            np.log(softmax(logits / np.exp(log_t))[np.arange(len(intents)), intents] + 1e-12).mean()
        )

    return float(np.exp(minimize_scalar(entropy, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def calibrated(calibrate: Scored) -> tuple[float, np.ndarray]:
    """Temperature of the part for calibration, and (q, c) chances of it."""
    temperature = temperature_of(calibrate.logits, calibrate.intents)
    return temperature, softmax(calibrate.logits / temperature)


def border_of(chances: np.ndarray, intents: np.ndarray, coverage: float) -> float:
    """The least chance at which a class enters a conformal set.

    Args:
        chances: (q, c) of queries for calibration.
        intents: (q,) int, their right classes.
        coverage: promised share of sets that hold the right class.

    Returns:
        The chance that ``ceil((q + 1) coverage)`` right classes reach; 0 where so many are not there.

    The promise holds for queries exchangeable with those of calibration: for new templates, where these were
    templates unseen in training.

    Source: split conformal sets with 1 - chance as score: Sadinle, Lei, Wasserman, JASA 114, 2019.
    """
    right = np.sort(chances[np.arange(len(intents)), intents])[::-1]
    needed = int(np.ceil((len(right) + 1) * coverage))
    return float(right[needed - 1]) if needed <= len(right) else 0.0


def covered(chances: np.ndarray, intents: np.ndarray, border: float) -> float:
    """Share of sets that hold the right class."""
    return float((chances[np.arange(len(intents)), intents] >= border).mean())


def redraw(calibrate: Scored, test: Scored, coverage: float, seed: int) -> tuple[float, float]:
    """Mean calibration error and coverage over random divisions of held-out templates into halves.

    No model has seen either part, and temperature and border are found anew in each first half, so each is as
    good as the one that was made; fillings of a template fall together, so one division alone tells little.
    """
    both = Scored(
        np.concatenate((calibrate.logits, test.logits)),
        np.concatenate((calibrate.intents, test.intents)),
        np.concatenate((calibrate.templates, test.templates + calibrate.templates.max() + 1)),
    )
    rng, errors, shares = np.random.default_rng([seed, 79]), [], []
    for _ in range(REDRAWS):
        drawn = rng.permutation(both.templates.max() + 1)[: calibrate.templates.max() + 1]
        first = np.isin(both.templates, drawn)
        temperature, known = calibrated(_rows_of(both, first))
        border = border_of(known, both.intents[first], coverage)
        chances = softmax(both.logits[~first] / temperature)
        errors.append(calibration_error(chances, both.intents[~first]))
        shares.append(covered(chances, both.intents[~first], border))
    return float(np.mean(errors)), float(np.mean(shares))


def _rows_of(part: Scored, which: np.ndarray) -> Scored:
    return Scored(part.logits[which], part.intents[which], part.templates[which])


def _f1_of(part: Scored) -> np.ndarray:
    return f1(part.intents, part.logits.argmax(1))
