"""One experiment: split, audit, tune, fit, evaluate, save.

Settings are chosen on validation; the model is then fitted on training and validation and measured once."""

import os
import platform
import resource
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from configs.home import Home
from configs.loading import load
from configs.registry import SettingError, fill, import_parts
from experiments.audit import audit
from experiments.evaluation import EvaluationConfig, Report, evaluate, rank
from experiments.result import ResultError, RunResult, load_runs, per_user, runs
from experiments.splits import Part, Split, SplitConfig, split
from experiments.training import FitConfig
from experiments.tuning import BudgetConfig, Tuning, fitted, lay_over, tune
from kg.arrays import GraphArrays
from models.interface import Recommender, recommenders
from models.store import ModelStore, ModelVersion, SaveInfo

__all__ = ["ExperimentConfig", "ResultError", "RunResult", "load_runs", "run", "runs"]

Progress = Callable[[str], None]
SAMPLE_USERS, SAMPLE_LENGTH = 100, 20
"""How many whole lists a run keeps, and how long: what the gate holds against the endpoint's answer."""


@dataclass(frozen=True)
class ExperimentConfig:
    """A file in ``configs/experiments/``."""

    name: str
    """Of the experiment, and of the versions it saves."""
    model: Mapping[str, Any]
    """``name`` of a recommender, and its settings."""
    seed: int = 0
    """Of the model; the split has its own, so that several seeds stay on one split."""
    split: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`SplitConfig`."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`FitConfig`, for models that are trained."""
    tune: Mapping[str, Any] = field(default_factory=dict)
    """The grid: dotted key under ``model.`` or ``train.`` -> values."""
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`BudgetConfig`."""
    measure: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`EvaluationConfig`."""
    floor: str = "popularity"
    """Model that is measured beside, as the bar for a first promotion."""

    def __post_init__(self) -> None:
        if "name" not in self.model:
            raise SettingError(f"experiment {self.name!r} must name its model: write model: {{name: ease}}")
        import_parts("models")
        for part in (self.model, {"name": self.floor}):
            settings = dict(part)
            config = recommenders.config_of(settings.pop("name"))
            if config is not None:
                fill(config, settings, f"model of experiment {self.name!r}")
        fill(SplitConfig, self.split, "split")
        fill(FitConfig, self.train, "train")
        fill(BudgetConfig, self.budget, "budget")
        fill(EvaluationConfig, self.measure, "measure")
        lay_over(self.model, self.train, {key: None for key in self.tune})


def run(
    config: Mapping[str, Any],
    graph: GraphArrays,
    home: Home,
    progress: Progress | None = None,
    tuned: Tuning | None = None,
    search: str = "",
    bar: tuple[str, Recommender] | None = None,
) -> RunResult:
    """Runs an experiment on a graph and saves its result and its model.

    Args:
        config: settings of :class:`ExperimentConfig`, as :func:`configs.loading.load` gives them.
        graph: whole, as exported.
        home: where the result and the version go.
        progress: told in words what is done now.
        tuned: what a search on the same split has chosen already; None tunes here.
        search: folder name of that search.
        bar: name and fitted model that is measured beside, instead of the floor of ``config``.

    Raises:
        SettingError: a setting that does not fit.
        LeakageError: the split lets a model see what it is asked for; nothing is saved.
    """
    settings = fill(ExperimentConfig, config, "experiment")
    say, clock = progress or (lambda _: None), _Clock()
    started = datetime.now(UTC)
    with clock.stage("split"):
        say("split and audit")
        cut = split(graph, fill(SplitConfig, settings.split, "split"))
        checked = audit(cut, graph)
        cut = seeded(cut, settings.seed)
    with clock.stage("tune"):
        budget = fill(BudgetConfig, settings.budget, "budget")
        tuning = tuned or tune(settings.model, settings.train, settings.tune, cut, budget, say)
    with clock.stage("fit"):
        say("fit on training and validation")
        model, _, _ = fitted(tuning.model, tuning.train, cut.full, None, tuning.best.epochs or 1, say)
    with clock.stage("measure"):
        say("measure on test")
        measure = fill(EvaluationConfig, settings.measure, "measure")
        report = evaluate(model, cut.test, measure)
        floor_name, floor_model = bar or (settings.floor, None)
        floor = floor_report(settings.floor, cut.test, measure, floor_model)
        sample = sample_lists(model, cut.test, settings.seed)
    with clock.stage("save"):
        run_id = f"{settings.name}-{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        revision = code_revision()
        version = _save(settings, run_id, revision, model, cut, graph, report, home)
    result = RunResult(
        run_id=run_id,
        name=settings.name,
        model=str(settings.model["name"]),
        config=dict(config),
        settings={key: value for key, value in tuning.model.items() if key != "name"},
        graph=graph.name,
        graph_hash=graph.hash,
        split_name=cut.config.name,
        split_hash=cut.hash,
        seed=settings.seed,
        validation=tuning.best.value,
        metrics=report.summary,
        lists=report.lists,
        groups=report.groups,
        trials=tuning.trials,
        curve=tuning.best.curve,
        audit={check.name: check.looked_at for check in checked.checks},
        warm_users=cut.warm_users,
        unreachable=report.unreachable,
        floor=floor_name,
        version=version.ref,
        size_bytes=sum(path.stat().st_size for path in version.folder.iterdir()),
        code_revision=revision,
        machine=machine(),
        started=started.isoformat(timespec="milliseconds"),
        seconds=clock.seconds,
        stages=clock.stages,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        budget_cut=tuning.cut,
        search=search,
        flat_users=report.flat_users,
    )
    return result.save(
        home.runs(graph.name),
        per_user(report.users, report.values, floor.values, sample, report.group_values),
    )


def seeded(cut: Split, seed: int) -> Split:
    """The same split for models that draw from another seed."""

    def of(part: Part) -> Part:
        return replace(part, training=replace(part.training, seed=seed))

    return replace(cut, validation=of(cut.validation), test=of(cut.test))


def floor_report(
    name: str, part: Part, config: EvaluationConfig, fitted: Recommender | None = None
) -> Report:
    """What the bar for a first promotion reaches on the same users; its values per user alone are read."""
    floor = fitted or recommenders.build(name, {})
    if fitted is None:
        floor.fit(part.training)
    return evaluate(floor, part, replace(config, list_metrics=(), regions=0, platforms=0))


def sample_lists(model: Recommender, part: Part, seed: int) -> dict[str, list[str]]:
    """User id -> content ids, best first, for some test users drawn by the seed.

    Each is scored alone, as an endpoint does it: products over a block may round the last bit otherwise.
    """
    count = min(SAMPLE_USERS, len(part.users))
    users = np.sort(np.random.default_rng(seed).choice(part.users, count, replace=False))
    rows = rank(model, part.training, users, SAMPLE_LENGTH, block_bytes=1)
    graph = part.training.graph
    return {
        graph.id_of("User", user): [graph.id_of("Content", content) for content in row if content >= 0]
        for user, row in zip(users, rows, strict=True)
    }


def _save(
    settings: ExperimentConfig,
    run_id: str,
    revision: str,
    model: Recommender,
    cut: Split,
    graph: GraphArrays,
    report: Report,
    home: Home,
) -> ModelVersion:
    found = {
        name: {"value": one.value, "low": one.low, "high": one.high} for name, one in report.summary.items()
    }
    info = SaveInfo(
        graph=graph.name,
        graph_hash=graph.hash,
        training=cut.full,
        metrics={**found, **report.lists},
        split_hash=cut.hash,
        seeds=(settings.seed,),
        code_revision=revision,
        licence=licence_of(graph.name),
        groups={
            name: {metric: asdict(one) for metric, one in group.items()}
            for name, group in report.groups.items()
        },
        split=asdict(cut.config),
        experiment={"run": run_id, **asdict(settings)},
        note=f"Measured by run {run_id} on {cut.config.name}: {len(report.users)} test users, full ranking.",
    )
    return ModelStore(home.models).save(settings.name, model, info)


def licence_of(graph: str) -> str:
    """What the publishers of a data set allow, as its file in ``configs/graph/`` says."""
    try:
        return str(load(f"graph/{graph}.yaml").get("licence", "unknown"))
    except FileNotFoundError:
        return "unknown"


def code_revision() -> str:
    """The commit that this code is of, marked where files differ from it; else the installed version."""
    root = Path(__file__).parent.parent
    if (root / ".git").exists():
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode == 0 and told.stdout.strip():
            return told.stdout.strip()
    try:
        return metadata.version("media-gateway")
    except metadata.PackageNotFoundError:
        return "unknown"


def machine() -> dict[str, Any]:
    """What a wall time depends on."""
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
    }


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before = time.monotonic()
        yield
        self.stages[name] = time.monotonic() - before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started
