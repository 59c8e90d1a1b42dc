"""Runs side by side: a leaderboard on one split, and which differences are more than luck."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.result import RunResult
from experiments.significance import Paired, TestConfig, holm, paired

__all__ = ["Comparison", "CompareConfig", "Difference", "Entry", "Row", "by_seed", "compare", "entries"]


@dataclass(frozen=True)
class CompareConfig:
    """What is compared, and against whom."""

    metric: str = "ndcg@10"
    references: tuple[str, ...] = ("ease", "popularity")
    """Models that every other is tested against, besides the best; the first is the yardstick of gains."""
    test: TestConfig = TestConfig()


@dataclass(frozen=True)
class Entry:
    """One experiment: its runs, one a seed, on one split. u users."""

    runs: tuple[RunResult, ...]
    """By seed."""

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.runs[0].name

    @property
    def model(self) -> str:
        """Registered name of the recommender."""
        return self.runs[0].model

    def values(self, metric: str) -> np.ndarray:
        """(u,) float64 of a metric for every test user: the mean over the seeds."""
        return np.mean([run.values(metric) for run in self.runs], axis=0)

    @cached_property
    def metrics(self) -> Mapping[str, Interval]:
        """What all runs measured; with several seeds the interval is of each user's mean over them."""
        if len(self.runs) == 1:
            return self.runs[0].metrics
        shared = [name for name in self.runs[0].metrics if all(name in run.metrics for run in self.runs)]
        return intervals({name: self.values(name) for name in shared}, EvaluationConfig())

    def spread(self, metric: str) -> float | None:
        """Standard deviation of the seeds' means; None with one seed."""
        means = [run.metrics[metric].value for run in self.runs]
        return float(np.std(means, ddof=1)) if len(means) > 1 else None


@dataclass(frozen=True)
class Row:
    """One experiment on the leaderboard."""

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
    seeds: tuple[int, ...] = ()
    sd: float | None = None
    """Standard deviation over the seeds; None with one seed."""


@dataclass(frozen=True)
class Difference:
    """Two experiments on the same users."""

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
    flat: tuple[str, ...]
    """Runs whose model scores all alike for everybody: their lists are in the order of rows."""
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


def entries(results: Iterable[RunResult]) -> list[Entry]:
    """Runs of one name together, by seed."""
    named: dict[str, list[RunResult]] = {}
    for run in results:
        named.setdefault(run.name, []).append(run)
    return [Entry(tuple(sorted(runs, key=lambda run: run.seed))) for runs in named.values()]


def by_seed(results: Iterable[RunResult], split_hash: str) -> list[RunResult]:
    """The latest run of each experiment and seed on a split."""
    ordered = sorted(results, key=lambda run: (run.started, run.run_id))
    return list({(run.name, run.seed): run for run in ordered if run.split_hash == split_hash}.values())


def compare(results: Sequence[RunResult], config: CompareConfig | None = None) -> Comparison:
    """Puts runs of one split in order and tests the best, and each reference, against all others.

    Runs of one name and several seeds are one row: mean and spread over the seeds, and the tests compare each
    user's mean over them.

    Raises:
        SettingError: no run, runs of several splits, or two runs of one name and seed.
    """
    config = config or CompareConfig()
    _check(results)
    ordered = sorted(entries(results), key=lambda one: (-one.metrics[config.metric].value, one.name))
    differences = _differences(ordered, config)
    yardstick = next((one for one in ordered if one.model == config.references[0]), None)
    run = ordered[0].runs[0]
    return Comparison(
        graph=run.graph,
        split_name=run.split_name,
        split_hash=run.split_hash,
        metric=config.metric,
        users=run.test_users,
        warm_users=run.warm_users,
        unreachable=run.unreachable,
        rows=tuple(_row(place, one, config.metric) for place, one in enumerate(ordered, 1)),
        differences=differences,
        flat=tuple(one.name for one in ordered if all(run.flat_users == run.test_users for run in one.runs)),
        level=config.test.level,
        least_users=config.test.least_users,
        yardstick=None if yardstick is None else yardstick.name,
        detectable_share=_detectable(ordered, yardstick, config),
    )


def _differences(ordered: Sequence[Entry], config: CompareConfig) -> tuple[Difference, ...]:
    """The better one first; p corrected over all of them."""
    values = {one.name: one.values(config.metric) for one in ordered}
    tests = [
        (first, second, paired(values[first.name], values[second.name], config.test))
        for first, second in _pairs(ordered, config.references)
    ]
    corrected = holm([test.p for _, _, test in tests])
    enough = ordered[0].runs[0].warm_users >= config.test.least_users
    return tuple(
        Difference(
            first.name,
            second.name,
            test,
            p,
            test.difference > 0 and p < config.test.level and enough,
            _share(test.detectable, second.metrics[config.metric].value),
        )
        for (first, second, test), p in zip(tests, corrected, strict=True)
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
    keys = [(run.name, run.seed) for run in results]
    twice = sorted({name for name, seed in keys if keys.count((name, seed)) > 1})
    if twice:
        raise SettingError(
            f"a comparison names each experiment and seed once, got {', '.join(twice)} more than once: "
            "leave one out, or give it a name of its own with name=…"
        )


def _pairs(ordered: Sequence[Entry], references: Sequence[str]) -> list[tuple[Entry, Entry]]:
    """The better one first; each pair once."""
    marked = [place for place, one in enumerate(ordered) if place == 0 or one.model in references]
    pairs = {tuple(sorted((one, other))) for one in marked for other in range(len(ordered)) if one != other}
    return [(ordered[first], ordered[second]) for first, second in sorted(pairs)]


def _row(place: int, entry: Entry, metric: str) -> Row:
    first, metrics = entry.runs[0], entry.metrics
    return Row(
        place,
        entry.name,
        entry.model,
        first.run_id,
        first.version,
        metrics[metric],
        dict(metrics),
        float(np.mean([run.validation for run in entry.runs])),
        sum(run.seconds for run in entry.runs),
        first.size_bytes,
        len(first.trials),
        tuple(run.seed for run in entry.runs),
        entry.spread(metric),
    )


def _detectable(ordered: Sequence[Entry], yardstick: Entry | None, config: CompareConfig) -> float | None:
    """By the rival whose mean is nearest to the yardstick's: unlike models vary more from user to user."""
    rivals = [one for one in ordered if one is not yardstick]
    if yardstick is None or not rivals:
        return None
    mean = yardstick.metrics[config.metric].value
    near = min(rivals, key=lambda one: abs(one.metrics[config.metric].value - mean))
    test = paired(near.values(config.metric), yardstick.values(config.metric), config.test)
    return _share(test.detectable, mean)


def _share(gain: float, mean: float) -> float:
    return gain / mean if mean > 0 else float("inf")
