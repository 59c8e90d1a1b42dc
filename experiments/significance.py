"""Whether one model is better than another: compared user by user, corrected for how often we look.

u users · r resamples · t tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from configs.registry import SettingError


@dataclass(frozen=True)
class TestConfig:
    """How a difference is tested."""

    __test__ = False  # not a test class for pytest

    resamples: int = 10_000
    """Random sign flips, at least 1,000. The smallest p is 1 / (resamples + 1), here about .0001: after
    Holm's correction up to 99 tests can still reach .01."""
    level: float = 0.01
    """What p must stay below, after correction, for anything to be called better."""
    power: float = 0.8
    """Chance with which the smallest detectable gain would be found."""
    confidence: float = 0.95
    """Of the interval of a difference."""
    least_users: int = 200
    """With fewer warm users nothing is called better."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1_000 or not 0 < self.level < 1 or not 0 < self.power < 1:
            raise SettingError(
                "a test needs resamples >= 1000, level and power above 0 and below 1, got "
                f"{self.resamples}, {self.level}, {self.power}"
            )


@dataclass(frozen=True)
class Paired:
    """Two models on the same users."""

    difference: float
    """Mean over users of first minus second."""
    low: float
    high: float
    p: float
    """Two-sided, not corrected."""
    effect: float
    """Cohen's d_z: mean difference over its standard deviation; 0 where no user differs."""
    detectable: float
    """The smallest mean difference that this many users would show at the level with the power asked for."""
    users: int


def paired(first: np.ndarray, second: np.ndarray, config: TestConfig | None = None) -> Paired:
    """Sign-flip permutation test of the mean difference per user; users where either is NaN are left out.

    Under the null a user's difference has either sign with equal chance, so flipping signs at random tells
    how large the mean gets by luck. The interval and the detectable gain use the normal approximation.

    Args:
        first: (u,) values of one model.
        second: (u,) values of the other, the same users in the same order.

    Raises:
        ValueError: the two are not of one length, or nobody is left.

    Source: Smucker, Allan, Carterette, CIKM 2007 (randomisation for retrieval); p counts the observed
    arrangement itself (Phipson and Smyth 2010), so that it is never 0.

    Cost: O(r u) in chunks, as one matrix product each.
    """
    config = config or TestConfig()
    if first.shape != second.shape:
        raise ValueError(f"paired values are of the same users, got {first.shape} and {second.shape}")
    differences = (first - second)[~(np.isnan(first) | np.isnan(second))]
    count = len(differences)
    if not count:
        raise ValueError("a paired test needs at least one user with both values, got none")
    mean = float(differences.mean())
    deviation = float(differences.std(ddof=1)) if count > 1 else 0.0
    error = deviation / np.sqrt(count)
    normal = NormalDist()
    reach = normal.inv_cdf(0.5 + config.confidence / 2) * error
    needed = normal.inv_cdf(1 - config.level / 2) + normal.inv_cdf(config.power)
    return Paired(
        mean,
        mean - reach,
        mean + reach,
        _flipped(differences, config),
        mean / deviation if deviation else 0.0,
        needed * error,
        count,
    )


def _flipped(differences: np.ndarray, config: TestConfig) -> float:
    differences = differences[differences != 0]  # a sign changes nothing at zero
    if not len(differences):
        return 1.0
    observed = abs(differences.sum()) * (1 - 1e-12)  # sums in another order differ in the last bits
    rng = np.random.default_rng(config.seed)
    chunk = max(1, 4_000_000 // len(differences))
    as_large = 0
    for start in range(0, config.resamples, chunk):
        size = min(chunk, config.resamples - start)
        bits = np.unpackbits(
            rng.integers(256, size=(size, -(-len(differences) // 8)), dtype=np.uint8), axis=1
        )
        signs = bits[:, : len(differences)].astype(np.float64) * 2 - 1
        as_large += int(np.count_nonzero(np.abs(signs @ differences) >= observed))
    return (1 + as_large) / (1 + config.resamples)


def holm(p: Sequence[float]) -> list[float]:
    """Corrected p-values, in the order they came: below a level, a false alarm among all is that unlikely.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    scaled = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(scaled, 1.0)
    return corrected.tolist()
