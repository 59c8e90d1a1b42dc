"""What a search may try, as data: a dotted key of the experiment -> a choice, a range of ints or of floats.

Knows nothing of Ray and Optuna; :mod:`experiments.search` proposes from it."""

import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from configs.loading import load
from configs.registry import Registry, SettingError, fill, import_parts
from experiments import metrics
from experiments.run import ExperimentConfig
from experiments.tuning import lay_over
from models.attention.base import attentions
from models.interface import recommenders

SAMPLERS, PRUNERS = ("tpe", "gp", "random", "grid"), ("none", "asha", "hyperband")
COSTS = ("fit_s", "size_bytes")
"""Objectives besides metrics: seconds of fitting, bytes of all that was learned; both are to be small."""
_EVERY: Mapping[str, Registry[Any]] = {"attention": attentions, "model": recommenders}
"""Whose names ``choice: every`` stands for, by the word before ``.name``."""


@dataclass(frozen=True)
class Choice:
    """One of some values, in no order."""

    key: str
    values: tuple[Any, ...]

    @property
    def labels(self) -> tuple[Any, ...]:
        """The values as a study stores them: a list or mapping as its JSON."""
        return tuple(
            value if value is None or isinstance(value, str | int | float) else json.dumps(value)
            for value in self.values
        )

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values that must fit the experiment before a trial begins."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Whole or real numbers from ``low`` to ``high``, both included."""

    key: str
    low: float
    high: float
    scale: str
    """``linear``, ``log``, or for whole numbers ``pow2``: powers of two alone."""
    is_whole: bool

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values that must fit the experiment before a trial begins."""
        return (self.low, self.high)


@dataclass(frozen=True)
class SearchConfig:
    """A file in ``configs/search/``."""

    name: str
    """Of the search, and of the run and the version that its best trial becomes."""
    base: str | Mapping[str, Any]
    """The experiment, ``experiments/x.yaml`` or its settings; its own grid and budget are not used."""
    space: Mapping[str, Any]
    """Dotted key under ``model.`` or ``train.`` -> ``{choice: [...]}``, ``{choice: every}``,
    ``{int: [low, high], scale: linear | log | pow2}`` or ``{float: [low, high], scale: linear | log}``."""
    objective: str | Mapping[str, str] = "ndcg@10"
    """A metric on validation, or several objectives with ``max`` or ``min`` each; ``fit_s`` and
    ``size_bytes`` may stand beside metrics."""
    trials: int = 30
    """How many are proposed at most, failed ones among them, 1 or more."""
    sampler: str = "tpe"
    """``tpe``, ``gp``, ``random``, or ``grid``: every point of choices once, in an order the seed draws."""
    pruner: str = "none"
    """``none``, ``asha`` or ``hyperband``: what ends a training that promises little, one objective only."""
    seed: int = 0
    """Of the proposals; the model's stands in the base."""
    seconds: float | None = None
    """No trial begins after this much time of all sittings together; None has no limit."""
    workers: int = 1
    """Trials at once, each in a process of Ray's; 0 runs them one by one in this process, without Ray."""
    threads: int = 1
    """Of each trial, 1 or more."""
    memory_bytes: int | None = None
    """What a trial may take beyond its idle process, on Linux; one that wants more fails."""
    mlflow: bool = True
    """Whether finished trials are also written to ``mlflow.db`` in the folder."""
    keeps_values: bool = False
    """Whether each trial's metric of each validation user is kept in ``values/`` of the folder."""

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise SettingError(f"a search's name becomes a folder, it must have no slash, got {self.name!r}")
        _one_of("sampler", self.sampler, SAMPLERS)
        _one_of("pruner", self.pruner, PRUNERS)
        if min(self.trials, self.threads, self.workers + 1) < 1 or (self.seconds or 1) <= 0:
            raise SettingError(
                "a search needs trials and threads of 1 or more, workers of 0 or more, seconds above 0; got "
                f"{self.trials}, {self.threads}, {self.workers}, {self.seconds}"
            )
        if self.memory_bytes is not None and self.memory_bytes < 2**20:
            raise SettingError(
                f"memory_bytes of a trial must be 1 MiB or more, got {self.memory_bytes}: it is in bytes"
            )
        if len(self.objectives) > 1 and self.pruner != "none":
            raise SettingError(
                f"a pruner knows one objective, got {', '.join(self.objectives)}: write pruner: none"
            )
        ranges = [one.key for one in self.dimensions if isinstance(one, Range)]
        if self.sampler == "grid" and ranges:
            raise SettingError(
                f"a grid tries every point, {ranges[0]} is a range: write choice: [...] or another sampler"
            )
        experiment = self.experiment
        for dimension in self.dimensions:
            for value in dimension.probes:
                _must_fit(experiment, dimension.key, value)

    @cached_property
    def objectives(self) -> dict[str, str]:
        """Name -> ``max`` or ``min``, the first metric first."""
        told = {self.objective: "max"} if isinstance(self.objective, str) else dict(self.objective)
        if not told:
            raise SettingError("a search needs an objective: write objective: ndcg@10")
        for name, direction in told.items():
            _one_of(f"direction of {name}", direction, ("max", "min"))
            if name not in COSTS:
                metrics.parse(name)
        if all(name in COSTS for name in told):
            raise SettingError(f"one objective must be a metric, got {', '.join(told)}: add ndcg@10: max")
        return told

    @property
    def most(self) -> int:
        """How many trials there will be: a grid ends with its last point."""
        if self.sampler != "grid":
            return self.trials
        points = math.prod(len(one.values) for one in self.dimensions if isinstance(one, Choice))
        return min(self.trials, points)

    @property
    def metric(self) -> str:
        """The metric that trainings stop by and that pruners see: the first of the objectives."""
        return next(name for name in self.objectives if name not in COSTS)

    @cached_property
    def experiment(self) -> ExperimentConfig:
        """The base as an experiment, its training watched by :attr:`metric`."""
        told = dict(self.base) if isinstance(self.base, Mapping) else load(self.base)
        told["train"] = {**(told.get("train") or {}), "metric": self.metric}
        return fill(ExperimentConfig, {**told, "name": self.name, "tune": {}}, "base")

    @cached_property
    def dimensions(self) -> tuple[Choice | Range, ...]:
        """The space, read."""
        if not isinstance(self.space, Mapping) or not self.space:
            raise SettingError(
                "a search's space must name at least one key, as model.factors: {choice: [64, 128]}; "
                f"got {self.space!r}"
            )
        import_parts("models")
        return tuple(dimension(key, told) for key, told in self.space.items())

    def identity(self, graph_hash: str, split_hash: str) -> str:
        """Short hash of all that a proposal or its value depends on; more trials or time keep it."""
        experiment = self.experiment
        told = [self.space, self.objectives, self.sampler, self.pruner, self.seed]
        told += [experiment.model, experiment.train, experiment.seed, graph_hash, split_hash]
        told += [True] if self.keeps_values else []
        return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=6).hexdigest()


def read_search(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of :class:`SearchConfig` out of a file, the base read in.

    Args:
        name: a path, or a name such as ``search/ials.yaml``.
        overrides: ``key.key=value`` each, for the search; ``base.key.key=value`` for its experiment.
    """
    ours = [one for one in overrides if not one.startswith("base.")]
    settings = load(name, ours)
    if isinstance(settings.get("base"), str):
        theirs = [one.removeprefix("base.") for one in overrides if one.startswith("base.")]
        settings["base"] = load(settings["base"], theirs)
    return settings


def dimension(key: str, told: Any) -> Choice | Range:
    """One line of a space.

    Raises:
        SettingError: it is none of the three kinds, or its bounds do not fit.

    Example:
        >>> dimension("model.dim", {"int": [16, 128], "scale": "pow2"})
        Range(key='model.dim', low=16, high=128, scale='pow2', is_whole=True)
    """
    kinds = set(told) & {"choice", "int", "float"} if isinstance(told, Mapping) else set()
    if len(kinds) != 1:
        raise SettingError(f"{key} must say one of choice, int or float, as {{int: [16, 128]}}; got {told!r}")
    kind = kinds.pop()
    known = {kind} if kind == "choice" else {kind, "scale"}
    for word in set(told) - known:
        near = difflib.get_close_matches(word, known, n=1) or sorted(known)
        raise SettingError(f"{key} has no setting {word!r} beside {kind}; nearest: {', '.join(near)}")
    return _choice(key, told[kind]) if kind == "choice" else _range(key, kind, told)


def _choice(key: str, values: Any) -> Choice:
    if values == "every":
        *_, part, last = ["", *key.split(".")]
        if last != "name" or part not in _EVERY:
            raise SettingError(
                f"choice: every stands for the names of {' or '.join(_EVERY)}, as model.attention.name; "
                f"{key} must list its values"
            )
        values = list(_EVERY[part])
    if not isinstance(values, list | tuple) or not values:
        raise SettingError(f"{key} must list the values to choose from, got {values!r}")
    return Choice(key, tuple(values))


def _range(key: str, kind: str, told: Mapping[str, Any]) -> Range:
    bounds, scale = told[kind], told.get("scale", "linear")
    _one_of(f"scale of {key}", scale, ("linear", "log", "pow2") if kind == "int" else ("linear", "log"))
    allowed = int if kind == "int" else (int, float)
    if (
        not isinstance(bounds, list | tuple)
        or len(bounds) != 2
        or not all(isinstance(one, allowed) and not isinstance(one, bool) for one in bounds)
        or not all(math.isfinite(one) for one in bounds)
    ):
        raise SettingError(f"{key} must give {kind}: [low, high] as two numbers, got {bounds!r}")
    low, high = bounds
    if not low < high:
        raise SettingError(f"{key} must give its lower bound first, got {kind}: [{low}, {high}]: swap them")
    if scale != "linear" and low <= 0:
        raise SettingError(
            f"{key} on a {scale} scale needs bounds above 0, got {low}: raise it or use linear"
        )
    if scale == "pow2" and any(one & (one - 1) for one in (low, high)):
        raise SettingError(f"{key} on a pow2 scale needs powers of two as bounds, got {low} and {high}")
    return Range(key, low, high, scale, kind == "int")


def _must_fit(experiment: ExperimentConfig, key: str, value: Any) -> None:
    model, train = lay_over(experiment.model, experiment.train, {key: value})
    fill(ExperimentConfig, {**vars(experiment), "model": model, "train": train}, "base")
    if key != "model.name":  # another model takes other settings: that is for its trial to say
        recommenders.build(model.pop("name"), model)


def _one_of(what: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1, cutoff=0.3) or known
        raise SettingError(f"{what} must be one of {', '.join(known)}, got {value!r}; nearest: {near[0]}")
