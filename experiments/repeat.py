"""One experiment several times: over seeds, to see how far chance moves it, or over folds, to measure on all.

u users of all repetitions · v repetitions."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.home import Home
from configs.registry import SettingError, fill
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.result import RunResult
from experiments.run import run
from experiments.significance import Paired, TestConfig, paired
from kg.arrays import GraphArrays

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """A metric over repetitions, each repetition one number."""

    mean: float
    sd: float
    """Sample standard deviation of the repetitions' means; NaN for a single one."""
    count: int


@dataclass(frozen=True)
class Repeated:
    """Runs of one experiment that differ in one setting."""

    name: str
    key: str
    """Dotted key of the setting."""
    values: tuple[Any, ...]
    """What it was, a value a run."""
    runs: tuple[RunResult, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that every run measured."""
        return tuple(self.runs[0].metrics)

    def spread(self, metric: str) -> Spread:
        """Mean and standard deviation over repetitions."""
        means = np.array([one.metrics[metric].value for one in self.runs])
        sd = float(means.std(ddof=1)) if len(means) > 1 else np.nan
        return Spread(float(means.mean()), sd, len(means))

    def pooled(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """(u,) int64 rows of all users measured anywhere, ascending, and (u,) float64 each user's mean.

        A user counts once, by the mean over the repetitions in which something of theirs was held out.
        """
        users = np.concatenate([one.users for one in self.runs])
        values = np.concatenate([one.values(metric) for one in self.runs])
        users, values = users[~np.isnan(values)], values[~np.isnan(values)]
        found, place = np.unique(users, return_inverse=True)
        return found, np.bincount(place, values) / np.bincount(place)

    def interval(self, metric: str) -> Interval:
        """Mean over users of :meth:`pooled` with its bootstrap interval."""
        config = fill(EvaluationConfig, self.runs[0].config.get("measure") or {}, "measure")
        return intervals({metric: self.pooled(metric)[1]}, config)[metric]

    def summary(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "name": self.name,
            "key": self.key,
            "values": list(self.values),
            "runs": [one.run_id for one in self.runs],
            "metrics": {
                metric: {"spread": vars(self.spread(metric)), "pooled": vars(self.interval(metric))}
                for metric in self.metrics
            },
        }


def repeat(
    config: Mapping[str, Any],
    graph: GraphArrays,
    home: Home,
    key: str,
    values: Sequence[Any],
    progress: Progress | None = None,
) -> Repeated:
    """Runs an experiment once for each value of one setting; each run is saved like any other.

    Args:
        config: settings of an experiment, as :func:`configs.loading.load` gives them.
        graph: whole, as exported.
        home: where results and versions go.
        key: dotted, ``seed`` or ``split.settings.fold`` mostly; it must stand in ``config``.
        values: one a run, no two alike.
        progress: told in words what is done now.

    Raises:
        SettingError: no value, a value twice, or a key that is not there; nothing has run then.
    """
    values = tuple(values)
    if not values or len({repr(value) for value in values}) < len(values):
        raise SettingError(f"a repetition needs values that differ, got {list(values)} for {key!r}")
    settings = [_with(config, key, value) for value in values]
    found = []
    for place, (value, one) in enumerate(zip(values, settings, strict=True), 1):
        prefix = f"{key}={value} ({place}/{len(values)})"
        told = None if progress is None else _prefixed(progress, prefix)
        found.append(run(one, graph, home, told))
    return Repeated(found[0].name, key, values, tuple(found))


def paired_repeated(
    first: Repeated, second: Repeated, metric: str, config: TestConfig | None = None
) -> Paired:
    """Tests two repeated experiments user by user, each user by the mean over repetitions.

    Raises:
        SettingError: they were not repeated over the same splits.
    """
    splits = [[one.split_hash for one in repeated.runs] for repeated in (first, second)]
    if splits[0] != splits[1]:
        raise SettingError(
            f"only repetitions over the same splits can be compared, {first.name} has {first.key} "
            f"{list(first.values)}, {second.name} {second.key} {list(second.values)}: repeat both alike"
        )
    (users, ours), (others, theirs) = first.pooled(metric), second.pooled(metric)
    _, place, other_place = np.intersect1d(users, others, assume_unique=True, return_indices=True)
    return paired(ours[place], theirs[other_place], config)


def _with(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    settings = deepcopy(dict(config))
    *above, last = key.split(".")
    place: Any = settings
    for part in above:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise SettingError(
            f"experiment {config.get('name')!r} has no setting {key!r} to repeat over: write it into the file"
        )
    place[last] = value
    return settings


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda told: progress(f"{prefix}: {told}")
