"""Runs side by side: a leaderboard on one split, and which differences are more than luck."""

from collections.abc import Sequence
from dataclasses import dataclass

from configs.registry import SettingError
from experiments.evaluation import Interval
from experiments.result import RunResult
from experiments.significance import Paired, TestConfig, holm, paired

__all__ = ["Comparison", "CompareConfig", "Difference", "Row", "compare"]


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and against whom."""

    metric: str = "ndcg@10"
    references: tuple[str, ...] = ("ease", "popularity")
    """Models that every other is tested against, besides the best; the first is the yardstick of gains."""
    test: TestConfig = TestConfig()


@dataclass(frozen=True)
class Row:
    """One run on the leaderboard."""

    place: int
    name: str
    model: str
    run_id: str
    version: str
    value: Interval
    """Of the metric that is compared."""
    metrics: dict[str, Interval]
    validation: float
    seconds: float
    size_bytes: int
    trials: int


@dataclass(frozen=True)
class Difference:
    """Two runs on the same users."""

    first: str
    second: str
    paired: Paired
    """First minus second."""
    p: float
    """After Holm's correction over all differences of the comparison."""
    is_better: bool
    """True if the first is above the second, p is below the level, and enough warm users stand behind it."""
    detectable_share: float
    """Smallest gain that would be found, as a share of the second's mean; infinite where that is 0."""


@dataclass(frozen=True)
class Comparison:
    """A leaderboard, best first, and the differences that were tested."""

    graph: str
    split_name: str
    split_hash: str
    metric: str
    users: int
    warm_users: int
    unreachable: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    level: float
    least_users: int
    yardstick: str | None
    """The reference of which gains are a share, None where it was not run."""
    detectable_share: float | None
    """Smallest gain over the yardstick that this split shows, a share of its mean, by its nearest rival."""

    def between(self, first: str, second: str) -> Difference | None:
        """The tested difference of two runs by name, None where it was not tested in this direction."""
        named = (one for one in self.differences if (one.first, one.second) == (first, second))
        return next(named, None)


def compare(results: Sequence[RunResult], config: CompareConfig | None = None) -> Comparison:
    """Puts runs of one split in order and tests the best, and each reference, against all others.

    Raises:
        SettingError: no run, runs of several splits, or two runs of one name.
    """
    config = config or CompareConfig()
    _check(results)
    ordered = sorted(results, key=lambda run: (-run.metrics[config.metric].value, run.name))
    rows = tuple(_row(place, run, config.metric) for place, run in enumerate(ordered, 1))
    tests = [
        (first, second, paired(first.values(config.metric), second.values(config.metric), config.test))
        for first, second in _pairs(ordered, config.references)
    ]
    corrected = holm([test.p for _, _, test in tests])
    warm = ordered[0].warm_users
    differences = tuple(
        Difference(
            first.name,
            second.name,
            test,
            p,
            test.difference > 0 and p < config.test.level and warm >= config.test.least_users,
            _share(test.detectable, second.metrics[config.metric].value),
        )
        for (first, second, test), p in zip(tests, corrected, strict=True)
    )
    yardstick = next((run for run in ordered if run.model == config.references[0]), None)
    return Comparison(
        graph=ordered[0].graph,
        split_name=ordered[0].split_name,
        split_hash=ordered[0].split_hash,
        metric=config.metric,
        users=ordered[0].test_users,
        warm_users=warm,
        unreachable=ordered[0].unreachable,
        rows=rows,
        differences=differences,
        level=config.test.level,
        least_users=config.test.least_users,
        yardstick=None if yardstick is None else yardstick.name,
        detectable_share=_detectable(ordered, yardstick, config),
    )


def _check(results: Sequence[RunResult]) -> None:
    if not results:
        raise SettingError("a comparison needs at least one run, got none: run an experiment first")
    hashes = {run.split_hash: run for run in results}
    if len(hashes) > 1:
        told = "; ".join(f"{run.run_id} on {run.split_name} {key[:8]}" for key, run in hashes.items())
        raise SettingError(
            f"only runs on one split can be compared, got {len(hashes)} ({told}): "
            "run the experiments again on one graph with one split"
        )
    names = [run.name for run in results]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(
            f"a comparison names each experiment once, got {', '.join(twice)} more than once: "
            "leave one out, or give it a name of its own with name=…"
        )


def _pairs(ordered: Sequence[RunResult], references: Sequence[str]) -> list[tuple[RunResult, RunResult]]:
    """The better one first; each pair once."""
    marked = [place for place, run in enumerate(ordered) if place == 0 or run.model in references]
    pairs = {tuple(sorted((one, other))) for one in marked for other in range(len(ordered)) if one != other}
    return [(ordered[first], ordered[second]) for first, second in sorted(pairs)]


def _row(place: int, run: RunResult, metric: str) -> Row:
    return Row(
        place,
        run.name,
        run.model,
        run.run_id,
        run.version,
        run.metrics[metric],
        dict(run.metrics),
        run.validation,
        run.seconds,
        run.size_bytes,
        len(run.trials),
    )


def _detectable(
    ordered: Sequence[RunResult], yardstick: RunResult | None, config: CompareConfig
) -> float | None:
    """By the rival whose mean is nearest to the yardstick's: unlike models vary more from user to user."""
    rivals = [run for run in ordered if run is not yardstick]
    if yardstick is None or not rivals:
        return None
    mean = yardstick.metrics[config.metric].value
    near = min(rivals, key=lambda run: abs(run.metrics[config.metric].value - mean))
    test = paired(near.values(config.metric), yardstick.values(config.metric), config.test)
    return _share(test.detectable, mean)


def _share(gain: float, mean: float) -> float:
    return gain / mean if mean > 0 else float("inf")
