"""What a study of mechanisms found, weighed: means with intervals, and differences to the references.

u test users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs.registry import fill
from experiments.evaluation import EvaluationConfig, intervals
from experiments.mechanism_runs import ChosenRate, SeedRun
from experiments.mechanism_table import REFERENCES, Against, Cost, Quality, Row, TaskNote
from experiments.significance import TestConfig, holm, paired
from experiments.spaces import SearchConfig
from models.attention.base import attentions

NAME, RATE = "model.attention.name", "train.learning_rate"


@dataclass(frozen=True)
class Study:
    """What was found on one task."""

    task: str
    settings: SearchConfig
    split_hash: str
    seeds: tuple[int, ...]
    chosen: Mapping[str, ChosenRate]
    """Mechanism -> its rate, or why there is none."""
    runs: Mapping[str, tuple[SeedRun, ...]]
    """Mechanism -> its runs by seed; none where no rate could be chosen."""
    folder: Path


def finished(study: Study) -> dict[str, tuple[SeedRun, ...]]:
    """Mechanisms of which every seed was measured, with their runs."""
    return {
        name: runs
        for name, runs in study.runs.items()
        if len(runs) == len(study.seeds) and not any(run.error for run in runs)
    }


def why_unfinished(study: Study, name: str) -> str:
    """Why there is no value of a mechanism that is not among the finished."""
    if name not in study.chosen:
        return "it was not run"
    errors = (f"seed {run.seed}: {run.error}" for run in study.runs[name] if run.error)
    return study.chosen[name].error or next(errors, "not measured yet")


def per_user(runs: Sequence[SeedRun], metric: str) -> np.ndarray:
    """(u,) float64 of a metric for each test user: the mean over seeds."""
    return np.mean([run.values(metric) for run in runs], axis=0)


def qualities(
    study: Study, references: Sequence[str] = REFERENCES, test: TestConfig | None = None
) -> dict[str, Quality]:
    """What each mechanism reached, and how far it is from each reference; Holm over all of these."""
    whole, metric = finished(study), study.settings.metric
    values = {name: per_user(runs, metric) for name, runs in whole.items()}
    pairs = [(name, other) for other in references if other in values for name in values if name != other]
    tests = {pair: paired(values[pair[0]], values[pair[1]], test) for pair in pairs}
    corrected = dict(zip(pairs, holm([tests[pair].p for pair in pairs]), strict=True))
    config = fill(EvaluationConfig, study.settings.experiment.measure, "measure")
    found = {}
    for name, chosen in study.chosen.items():
        told = Quality(
            validation=chosen.validation,
            rate=chosen.rate,
            epochs=chosen.epochs,
            cut=tuple(chosen.cut),
            error="" if name in whole else why_unfinished(study, name),
        )
        if name in whole:
            to = {
                other: Against(tests[name, other], corrected[name, other])
                for _, other in pairs
                if other != name
            }
            told = _measured(told, whole[name], metric, values[name], config, to)
        found[name] = told
    return found


def _measured(
    told: Quality,
    runs: Sequence[SeedRun],
    metric: str,
    values: np.ndarray,
    config: EvaluationConfig,
    to: Mapping[str, Against],
) -> Quality:
    means = tuple(float(run.metrics[metric]) for run in runs)
    return replace(
        told,
        value=intervals({metric: values}, config)[metric],
        seed_values=means,
        sd=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        fit_s=float(np.mean([run.fit_s for run in runs])),
        parameters=runs[0].parameters,
        to=to,
    )


def rows(studies: Sequence[Study], costs: Mapping[str, Sequence[Cost]] | None = None) -> tuple[Row, ...]:
    """One row a mechanism of what was found of it, by name."""
    found = {study.task: qualities(study) for study in studies}
    names = sorted({name for told in (*found.values(), costs or {}) for name in told})
    return tuple(
        Row(
            name,
            attentions[name].family,
            attentions[name].nature,
            {task: told[name] for task, told in found.items() if name in told},
            tuple((costs or {}).get(name, ())),
        )
        for name in names
    )


def note(study: Study) -> TaskNote:
    """How a study was run."""
    experiment, whole = study.settings.experiment, finished(study)
    users = next((len(runs[0].users) for runs in whole.values()), 0)
    rates = tuple(study.settings.space[RATE]["choice"])
    revisions = tuple(sorted({run.code_revision for runs in whole.values() for run in runs}))
    split = study.split_hash
    return TaskNote(split, study.seeds, rates, experiment.model, experiment.train, users, revisions)
