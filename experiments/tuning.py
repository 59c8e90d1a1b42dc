"""Chooses settings on validation alone, with one rule of effort for every model.

A grid is data: a dotted key of the experiment -> the values to try."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from configs.registry import SettingError, fill
from experiments.evaluation import value_of
from experiments.splits import Part, Split
from experiments.training import Epoch, FitConfig, fit
from models.interface import Recommender, Trainable, Training, recommenders

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BudgetConfig:
    """How much may be tried; the same for every model that is compared."""

    trials: int = 12
    """At most, 1 or more; a larger grid is thinned by a draw of the seed."""
    seconds: float = 600.0
    """No trial begins after this much time; the first always runs."""
    metric: str = "ndcg@10"
    """What is chosen by, on validation."""

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.seconds > 0:
            raise SettingError(
                f"a budget needs trials of 1 or more and seconds above 0, got {self.trials}, {self.seconds}"
            )


@dataclass(frozen=True)
class Trial:
    """One point of the grid, fitted on training and measured on validation."""

    settings: Mapping[str, Any]
    """Dotted key -> value."""
    value: float
    seconds: float
    epochs: int | None = None
    """Best number of epochs; None for a model in closed form."""
    curve: tuple[Epoch, ...] = ()
    fit_s: float | None = field(default=None, compare=False)
    """Part of ``seconds`` that fitting took; of a training all its epochs, also those before a break."""


@dataclass(frozen=True)
class Tuning:
    """All trials, and the one that was chosen."""

    best: Trial
    trials: tuple[Trial, ...]
    points: int
    """Size of the whole grid; what is above ``len(trials)`` did not fit the budget."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the model as chosen, its ``name`` among them."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the training as chosen."""
    cut: str = ""
    """What the budget left out, in a sentence; empty where all points were tried."""


def tune(
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    split: Split,
    budget: BudgetConfig,
    progress: Progress | None = None,
) -> Tuning:
    """Fits each point of the grid that the budget allows, keeps the best on validation; the first wins ties.

    Args:
        model: ``name`` of a recommender and its settings.
        train: settings of :class:`FitConfig`, for models that are trained.
        grid: keys under ``model.`` or ``train.``, each with values to try; empty means one trial as it is.
        split: only its validation part is looked at.
        budget: how much may be tried.
        progress: told after each trial.
    """
    points = _points(grid)
    chosen = _thinned(points, budget.trials, split.config.seed)
    started, trials = time.monotonic(), []
    for place, settings in enumerate(chosen, 1):
        if trials and time.monotonic() - started >= budget.seconds:
            break
        tried, _ = try_out(model, train, settings, split.validation, budget.metric, progress)
        trials.append(tried)
        if progress is not None:
            progress(f"trial {place}/{len(chosen)}: {budget.metric} {trials[-1].value:.4f}")
    best = max(trials, key=lambda trial: trial.value)
    best_model, best_train = lay_over(model, train, best.settings)
    cut = _cut(len(trials), len(points), budget)
    if cut and progress is not None:
        progress(cut)
    return Tuning(best, tuple(trials), len(points), best_model, best_train, cut)


def try_out(
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    settings: Mapping[str, Any],
    part: Part,
    metric: str,
    progress: Progress | None = None,
    folder: Path | None = None,
    watch: Callable[[Epoch], None] | None = None,
) -> tuple[Trial, Recommender]:
    """One trial: settings laid over, fitted on what ``part`` may see and measured on what it holds out.

    Args:
        model: ``name`` of a recommender and its settings.
        train: settings of :class:`FitConfig`.
        settings: dotted key -> value, laid over both.
        part: the validation part of a split.
        metric: what it is measured by.
        progress: told after each epoch.
        folder: where a training keeps its checkpoint; None keeps none.
        watch: told each epoch; what it raises ends the trial.

    Returns:
        The trial, and the model as it was fitted.
    """
    started = time.monotonic()
    laid = lay_over(model, train, settings)
    recommender, curve, epochs = fitted(
        *laid, part.training, part, progress=progress, folder=folder, watch=watch
    )
    fit_s = sum(epoch.seconds for epoch in curve) if curve else time.monotonic() - started
    value = value_of(recommender, part, metric)
    return Trial(dict(settings), value, time.monotonic() - started, epochs, curve, fit_s), recommender


def fitted(
    model: Mapping[str, Any],
    train: Mapping[str, Any],
    training: Training,
    validation: Part | None,
    epochs: int | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
    watch: Callable[[Epoch], None] | None = None,
) -> tuple[Recommender, tuple[Epoch, ...], int | None]:
    """A model made from its settings and fitted: in closed form, or by the training loop.

    Args:
        model: ``name`` of a recommender and its settings.
        train: settings of :class:`FitConfig`.
        training: what it learns from.
        validation: what stops a training early; None trains ``epochs``.
        epochs: how many, instead of what ``train`` says; then no time budget ends it.
        progress: told after each epoch.
        folder: where a training keeps its checkpoint, and takes it up; None keeps none.
        watch: told each epoch; what it raises ends the training.

    Returns:
        The model, its learning curve and its best epoch (None in closed form).
    """
    settings = dict(model)
    recommender = recommenders.build(settings.pop("name"), settings)
    if not isinstance(recommender, Trainable):
        recommender.fit(training)
        return recommender, (), None
    config = fill(FitConfig, train, "train")
    if epochs is not None:
        config = replace(config, epochs=epochs, seconds=None)
    if config.workers > 1:
        from experiments.distributed import (
            fit_distributed,
        )  # Ray: seconds of import that most runs do without

        if watch is not None:
            raise SettingError("a training in several workers cannot be watched: set train.workers to 1 here")
        recommender, found = fit_distributed(model, training, validation, config, progress, folder)
    else:
        found = fit(recommender, training, validation, config, progress, folder, watch)
    return recommender, found.curve, found.best_epoch


def lay_over(
    model: Mapping[str, Any], train: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of model and training with dotted keys laid over them.

    Raises:
        SettingError: a key that does not begin with ``model.`` or ``train.``, or leads through a value.
    """
    both: dict[str, Any] = {"model": deepcopy(dict(model)), "train": deepcopy(dict(train))}
    for key, value in settings.items():
        *above, last = key.split(".")
        if not above or above[0] not in both:
            raise SettingError(f"a grid's keys begin with model. or train., got {key!r}: write model.{key}")
        place = both
        for part in above:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingError(f"{key!r} leads through {part!r}, which is a value: mend the grid")
        place[last] = value
    return both["model"], both["train"]


def _points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise SettingError(f"a grid names the values to try as a list, {key!r} has {values!r}")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _cut(tried: int, points: int, budget: BudgetConfig) -> str:
    if tried == points:
        return ""
    ended = (
        f"{budget.trials} trials" if tried == min(points, budget.trials) else f"{budget.seconds:g} seconds"
    )
    return (
        f"{tried} of {points} points of the grid were tried: the budget of {ended} ended first; "
        "raise it or write the grid smaller"
    )


def _thinned(points: list[dict[str, Any]], most: int, seed: int) -> list[dict[str, Any]]:
    if len(points) <= most:
        return points
    kept = np.random.default_rng(seed).choice(len(points), most, replace=False)
    return [points[place] for place in sorted(kept)]
