"""What the graph adds: the same model with the true facts, with none, with shuffled and with rewired ones.

Settings are chosen on validation with the true facts; every variant is measured on test over several seeds.
u test users · s seeds."""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from configs.home import Home
from configs.registry import SettingError, fill
from experiments.audit import audit
from experiments.evaluation import EvaluationConfig, Interval, evaluate, intervals
from experiments.graph_variants import VARIANTS, can_vary, changed_share, varied
from experiments.result import ResultError, plain
from experiments.run import ExperimentConfig, code_revision, machine
from experiments.significance import Paired, TestConfig, holm, paired
from experiments.splits import Part, Split, SplitConfig, split
from experiments.tuning import BudgetConfig, Tuning, fitted, tune
from kg import schema
from kg.arrays import GraphArrays
from models.interface import recommenders

FILE, FORMAT = "graph_gain.json", 1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class GraphGainConfig:
    """How the gain of the graph is measured."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of model and variant; each user's value is the mean over them."""
    metric: str = "ndcg@10"
    is_retuned: bool = False
    """True lets each variant choose its own settings on validation, with the budget that the true graph had;
    False gives all the settings and epochs chosen with the true graph."""
    test: TestConfig = TestConfig()

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise SettingError(f"the gain of a graph needs seeds, each once, got {self.seeds}")


@dataclass(frozen=True)
class VariantResult:
    """One variant over all seeds."""

    name: str
    value: Interval
    """Mean over users of each user's mean over seeds."""
    seed_values: tuple[float, ...]
    """Mean over users, one a seed."""
    deviation: float
    """Standard deviation of these; NaN for one seed."""
    changed_share: float
    """Of the true facts, how many this variant does not hold; mean over seeds."""
    settings: Mapping[str, Any]
    epochs: int | None
    validation: float
    """Of the settings, on the graph they were chosen with."""
    trials: int
    gain: Paired | None = None
    """True facts minus this variant; None for the true facts themselves."""
    p: float | None = None
    """After Holm's correction over the variants."""


@dataclass(frozen=True)
class GraphGain:
    """What one model gains from the graph, by one split."""

    gain_id: str
    name: str
    """Of the experiment."""
    model: str
    graph: str
    graph_hash: str
    split_name: str
    split_hash: str
    metric: str
    seeds: tuple[int, ...]
    types: tuple[str, ...]
    """Fact types that were varied."""
    is_retuned: bool
    level: float
    least_users: int
    warm_users: int
    variants: tuple[VariantResult, ...]
    verdict: str
    """Whether the graph adds anything, in a sentence."""
    config: Mapping[str, Any]
    code_revision: str
    machine: Mapping[str, Any]
    started: str
    seconds: float
    folder: Path = field(default=Path(), compare=False)

    def variant(self, name: str) -> VariantResult:
        """One variant by name."""
        return next(one for one in self.variants if one.name == name)

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON; what is no number is None."""
        told = {key: value for key, value in vars(self).items() if key not in ("folder", "variants")}
        rows = [
            {**vars(one), "value": vars(one.value), "gain": None if one.gain is None else vars(one.gain)}
            for one in self.variants
        ]
        return plain({**told, "variants": rows})

    def save(self, parent: Path, values: Mapping[str, np.ndarray]) -> "GraphGain":
        """Writes the result and each user's values aside, then renames to ``parent/gain_id``."""
        target, aside = Path(parent) / self.gain_id, Path(parent) / f".{self.gain_id}"
        try:
            aside.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(aside / "per_user.npz", allow_pickle=False, **values)
            text = json.dumps({"format": FORMAT, **self.summary()}, indent=1, allow_nan=False)
            (aside / FILE).write_text(text, encoding="utf-8")
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise ResultError(
                f"a result needs a place that can be written, {parent} gave {error}: "
                "free space or choose another home"
            ) from error
        return replace(self, folder=target)


def graph_gain(
    config: Mapping[str, Any],
    graph: GraphArrays,
    home: Home,
    gain: GraphGainConfig | None = None,
    progress: Progress | None = None,
) -> GraphGain:
    """Runs an experiment's model on the true facts, none, shuffled and rewired ones, and saves what came out.

    Args:
        config: settings of :class:`ExperimentConfig`; its seed gives way to ``gain.seeds``.
        graph: whole, as exported.
        home: where the result goes.
        gain: seeds, metric, test.
        progress: told in words what is done now.

    Raises:
        SettingError: a setting that does not fit, or a model that reads no facts.
    """
    gain, say = gain or GraphGainConfig(), progress or (lambda _: None)
    settings = fill(ExperimentConfig, config, "experiment")
    types = varied_types(settings.model, graph)
    started, clock = datetime.now(UTC), time.monotonic()
    say("split and audit")
    cut = split(graph, fill(SplitConfig, settings.split, "split"))
    audit(cut, graph)
    study = _Study(settings, cut, types, gain, say)
    values, rows = {}, []
    for name in VARIANTS:
        values[name], row = study.measure(name)
        rows.append(row)
    rows = _tested(rows, values, gain.test)
    found = GraphGain(
        gain_id=f"graph-gain-{settings.name}-{started:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        name=settings.name,
        model=str(settings.model["name"]),
        graph=graph.name,
        graph_hash=graph.hash,
        split_name=cut.config.name,
        split_hash=cut.hash,
        metric=gain.metric,
        seeds=gain.seeds,
        types=types,
        is_retuned=gain.is_retuned,
        level=gain.test.level,
        least_users=gain.test.least_users,
        warm_users=cut.warm_users,
        variants=rows,
        verdict=verdict(str(settings.model["name"]), gain.metric, rows, cut.warm_users, gain.test),
        config=dict(config),
        code_revision=code_revision(),
        machine=machine(),
        started=started.isoformat(timespec="milliseconds"),
        seconds=time.monotonic() - clock,
    )
    return found.save(home.runs(graph.name), {"users": cut.test.users, **values})


def varied_types(model: Mapping[str, Any], graph: GraphArrays) -> tuple[str, ...]:
    """Fact types that a variant changes: all that nobody did, and of what people did what the model reads.

    Raises:
        SettingError: the model reads no facts, so that no graph could add to it.
    """
    settings = dict(model)
    name = settings.pop("name")
    reads = recommenders.build(name, settings).facts.draws_on
    if not reads:
        raise SettingError(
            f"{name} reads nothing but what users liked, so no graph can add to it: "
            "choose a model whose facts are not empty, as hypergraph or knowledge"
        )
    done = set(schema.USER_FACTS) - (set(reads) - {"RATED"})
    return tuple(
        type for type in schema.FACTS if graph.fact_count(type) and type not in done and can_vary(type)
    )


class _Study:
    """One experiment over variants and seeds."""

    def __init__(
        self,
        settings: ExperimentConfig,
        cut: Split,
        types: tuple[str, ...],
        gain: GraphGainConfig,
        say: Progress,
    ) -> None:
        self.settings, self.cut, self.types, self.gain, self.say = settings, cut, types, gain, say
        self.report = replace(
            fill(EvaluationConfig, settings.measure, "measure"), metrics=(gain.metric,), list_metrics=()
        )
        self.tuning: Tuning | None = None

    def measure(self, name: str) -> tuple[np.ndarray, VariantResult]:
        """(u,) mean over seeds of each user's value, and all that is said of the variant."""
        tuning = self._tuned(name)
        found, changed = [], []
        for seed in self.gain.seeds:
            self.say(f"{name} facts, seed {seed}")
            part = self._part(self.cut.test, name, seed)
            epochs = tuning.best.epochs or 1
            model, _, _ = fitted(tuning.model, tuning.train, part.training, None, epochs)
            found.append(evaluate(model, part, self.report).values[self.gain.metric])
            changed.append(changed_share(self.cut.full.graph, part.training.graph, self.types))
        values = np.mean(found, axis=0)  # (u,)
        means = [float(np.nanmean(one)) for one in found]
        return values, VariantResult(
            name,
            intervals({self.gain.metric: values}, self.report)[self.gain.metric],
            tuple(means),
            float(np.std(means, ddof=1)) if len(means) > 1 else float("nan"),
            float(np.mean(changed)),
            {key: value for key, value in tuning.model.items() if key != "name"},
            tuning.best.epochs,
            tuning.best.value,
            len(tuning.trials),
        )

    def _tuned(self, name: str) -> Tuning:
        """Settings chosen on validation, with the true facts or (retuned) with those of the variant."""
        if self.tuning is None or self.gain.is_retuned:
            self.say(f"choose settings with {name} facts")
            budget = replace(fill(BudgetConfig, self.settings.budget, "budget"), metric=self.gain.metric)
            validation = self._part(self.cut.validation, name, self.gain.seeds[0])
            cut = replace(self.cut, validation=validation)
            one = self.settings
            self.tuning = tune(one.model, one.train, one.tune, cut, budget, self.say)
        return self.tuning

    def _part(self, part: Part, name: str, seed: int) -> Part:
        training = part.training
        liked = np.bincount(training.positives.indices, minlength=len(training.rankable)) > 0
        graph = varied(training.graph, name, self.types, training.rankable | liked, seed)
        return replace(part, training=replace(training, graph=graph, seed=seed))


def _tested(
    rows: list[VariantResult], values: Mapping[str, np.ndarray], test: TestConfig
) -> tuple[VariantResult, ...]:
    """Rows with the difference of the true facts to each of the others."""
    tests = [paired(values["true"], values[row.name], test) for row in rows[1:]]
    corrected = holm([one.p for one in tests])
    later = [replace(row, gain=one, p=p) for row, one, p in zip(rows[1:], tests, corrected, strict=True)]
    return (rows[0], *later)


def verdict(
    model: str, metric: str, rows: tuple[VariantResult, ...], warm_users: int, test: TestConfig
) -> str:
    """Whether the graph adds anything, in a sentence that the numbers allow."""
    told = {row.name: row for row in rows if row.gain is not None}
    none = told["none"].gain
    by = f"{none.difference:+.4f} {metric} ({none.low:+.4f} to {none.high:+.4f}, p = {told['none'].p:.4f})"
    if warm_users < test.least_users:
        return (
            f"Nothing is said of what the graph adds to {model}: {warm_users} warm users are fewer than "
            f"{test.least_users}; true facts minus none gave {by}."
        )
    sure = {name for name, row in told.items() if row.p < test.level}
    above = {name for name in sure if told[name].gain.difference > 0}
    wrong = [name for name in told if name != "none" and name not in above]
    if "none" in sure and "none" not in above:
        return f"The graph takes away from {model}: true facts minus none is {by}."
    if "none" in above and not wrong:
        return f"The graph adds to {model}: true facts minus none is {by}, and wrong facts are worse too."
    if "none" in above:
        return (
            f"Facts add to {model}: true facts minus none is {by}; but true ones are not shown to be better "
            f"than {' or '.join(wrong)} ones, so that what they say is not shown to matter."
        )
    rest = f" True facts are better than {' and '.join(sorted(above))} ones." if above else ""
    return (
        f"The graph is not shown to add anything to {model}: true facts minus none is {by}; "
        f"the smallest gain that would show is {none.detectable:.4f}.{rest}"
    )
