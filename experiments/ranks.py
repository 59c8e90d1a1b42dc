"""Which models' average ranks over users differ: Friedman's test and the critical difference of Nemenyi.

u users · m models."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from configs.registry import SettingError


@dataclass(frozen=True)
class Ranks:
    """Average ranks of models over the same users, best first."""

    names: tuple[str, ...]
    averages: tuple[float, ...]
    """Rank 1 is best; equal values share the mean of their ranks."""
    users: int
    statistic: float
    """Friedman's chi-square, corrected for ties."""
    p: float
    """That ranks this unequal came by luck."""
    critical: float
    """Two average ranks that differ by less are not shown to differ."""
    level: float
    cliques: tuple[tuple[str, ...], ...]
    """Largest groups, two models or more, within which no pair is shown to differ."""


def ranks(values: Mapping[str, np.ndarray], level: float = 0.05) -> Ranks:
    """Ranks models within each user, then compares the averages.

    Users without a value are left out. Ranks ask who wins how often, not by how much: where a paired test of
    the means says otherwise, both are true.

    Args:
        values: model -> (u,) values, larger is better, the same users in the same order.
        level: chance of any false difference among all pairs, above 0 and below 1.

    Raises:
        SettingError: fewer than two models, fewer than two users, or a level outside its range.

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006, section
    3.2.2, with users in place of data sets; ties corrected as in Conover (1999), which the paper leaves out.

    Cost: O(u m log m).
    """
    if not 0 < level < 1:
        raise SettingError(f"a level lies above 0 and below 1, got {level}")
    columns = np.stack(list(values.values()), axis=1) if values else np.empty((0, 0))  # (u, m)
    columns = columns[~np.isnan(columns).any(axis=1)]
    users, models = columns.shape
    if models < 2 or users < 2:
        raise SettingError(f"ranks need two models and two users or more, got {models} and {users}")
    ranked = stats.rankdata(-columns, axis=1)  # (u, m)
    averages = ranked.mean(axis=0)
    statistic = friedman(ranked)
    critical = critical_difference(models, users, level)
    order = np.argsort(averages, kind="stable")
    names = tuple(list(values)[place] for place in order)
    best_first = averages[order]
    return Ranks(
        names,
        tuple(best_first.tolist()),
        users,
        statistic,
        float(stats.chi2.sf(statistic, models - 1)),
        critical,
        level,
        _cliques(names, best_first, critical),
    )


def friedman(ranked: np.ndarray) -> float:
    """Chi-square of (u, m) ranks with m - 1 degrees of freedom; 0 where all models tie for everybody."""
    users, models = ranked.shape
    spread = 12 * users / (models * (models + 1)) * (ranked.mean(axis=0) ** 2).sum() - 3 * users * (
        models + 1
    )
    tied = tie_share(ranked)
    return 0.0 if tied >= 1 else float(max(spread, 0.0) / (1 - tied))


def tie_share(ranked: np.ndarray) -> float:
    """Part of the ranks' variance that ties take away: 0 without a tie, 1 where everything ties."""
    users, models = ranked.shape
    alike = (ranked[:, :, None] == ranked[:, None, :]).sum(axis=2)  # (u, m) size of each one's tie
    return float((alike.astype(np.float64) ** 2 - 1).sum() / (users * models * (models**2 - 1)))


def critical_difference(models: int, users: int, level: float = 0.05) -> float:
    """Smallest difference of two average ranks that is more than luck, over all pairs of models.

    Source: Nemenyi (1963) as in Demšar 2006: q sqrt(m (m + 1) / (6 u)), q the studentised range over sqrt(2).

    Example:
        >>> round(critical_difference(4, 14), 2)
        1.25
    """
    q = stats.studentized_range.ppf(1 - level, models, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(models * (models + 1) / (6 * users)))


def _cliques(names: tuple[str, ...], averages: np.ndarray, critical: float) -> tuple[tuple[str, ...], ...]:
    found, reached = [], 0
    for start in range(len(names)):
        end = int(np.searchsorted(averages, averages[start] + critical, side="left"))
        if end > max(reached, start + 1):
            found.append(names[start:end])
        reached = max(reached, end)
    return tuple(found)
