"""Every attention mechanism on one task with equal effort: a learning rate by validation, then seeds on test.

Goes on where it was broken off: rates by the study of their search, seeds by the files of finished runs.
u test users · v validation users."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from configs.home import Home
from configs.registry import SettingError, fill, import_parts
from experiments.chosen import cut_for
from experiments.evaluation import EvaluationConfig, evaluate
from experiments.mechanism_runs import ChosenRate, Records, SeedRun
from experiments.mechanism_study import NAME, RATE, Study, finished, note, per_user, qualities, rows
from experiments.mechanism_table import Table
from experiments.run import code_revision
from experiments.search import ray_for, search, spread
from experiments.spaces import SearchConfig, read_search
from experiments.splits import Part, Split
from experiments.studies import SearchError, SearchResult, SearchTrial, Standing, values_file
from experiments.tuning import fitted, lay_over
from kg.arrays import GraphArrays
from models.attention.base import Attention, attentions

__all__ = [
    "TASKS",
    "Study",
    "StudyConfig",
    "Table",
    "bench_home",
    "finished",
    "finished_study",
    "note",
    "per_user",
    "qualities",
    "rows",
    "study",
    "task_search",
]

Progress = Callable[[str], None]
TASKS = ("neighbourhood", "history")


@dataclass(frozen=True)
class StudyConfig:
    """How mechanisms are compared on one task."""

    search: Mapping[str, Any]
    """Settings of :class:`experiments.spaces.SearchConfig` over a mechanism's name and its learning rate."""
    mechanisms: tuple[str, ...] = ()
    """Registered names; empty means every one."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Measured on test; the rate is chosen with the seed of the experiment, which is best one of them."""
    again: tuple[str, ...] = ()
    """Mechanisms of which all that is kept is forgotten first."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise SettingError(f"a study needs seeds, each once, got {self.seeds}")
        if set(self.search.get("space") or {}) != {NAME, RATE}:
            raise SettingError(
                f"a study's search chooses {NAME} and {RATE} alone, got "
                f"{sorted(self.search.get('space') or {})}"
            )
        for name in (*self.mechanisms, *self.again):
            attentions[name]  # an unknown one is named with its nearest

    def shorter(self, epochs: int, rates: Sequence[float], seeds: Sequence[int]) -> "StudyConfig":
        """The same with fewer epochs, rates and seeds."""
        base = {**self.search["base"], "train": {**self.search["base"]["train"], "epochs": epochs}}
        space = {**self.search["space"], RATE: {"choice": list(rates)}}
        return replace(self, search={**self.search, "base": base, "space": space}, seeds=tuple(seeds))


def task_search(task: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The search of a task as its file in ``configs/search/`` writes it, with overrides."""
    return read_search(f"search/attention_{task}.yaml", overrides)


def bench_home(home: Home) -> Home:
    """Where the bench keeps searches and runs: apart, so that they crowd no leaderboard."""
    return Home(home.benches / "attention")


def study(
    task: str, config: StudyConfig, graph: GraphArrays, home: Home, progress: Progress | None = None
) -> Study:
    """Trains every mechanism with each rate, then over seeds with the better one, and measures it on test.

    Rates and epochs are chosen on validation with one seed; each seed then trains that many epochs on
    training and validation together. A mechanism that fails is kept with its reason, the others go on.

    Args:
        task: one of ``TASKS``; names the records.
        config: what is compared.
        graph: whole, as exported.
        home: under its ``benches`` all is kept.
        progress: told in words what is done now.

    Returns:
        All that is kept of the task with these settings, also mechanisms that earlier calls compared.

    Raises:
        SettingError: a setting that does not fit.
        SearchError: another process is at the same study.
    """
    names = _names(config)
    settings, cut, records = _opened(task, config, graph, home)
    work = _Work(config, graph, bench_home(home), cut, records, progress or (lambda _: None))
    work.forget()
    if work.is_left(names):
        with ray_for(settings, graph, records.folder, None):  # one for rates and seeds
            work.choose(names)
            work.measure([one for one in map(records.chosen, names) if not one.error])
    return _read(task, config, settings, cut, records)


def finished_study(task: str, config: StudyConfig, graph: GraphArrays, home: Home) -> Study:
    """What there is of a study by now; trains nothing. Arguments as in :func:`study`."""
    return _read(task, config, *_opened(task, config, graph, home))


def _names(config: StudyConfig) -> tuple[str, ...]:
    import_parts("models")
    return tuple(config.mechanisms) or tuple(attentions)


def _opened(
    task: str, config: StudyConfig, graph: GraphArrays, home: Home
) -> tuple[SearchConfig, Split, Records]:
    settings = fill(SearchConfig, _search_of(config, _names(config)[:1]), f"search of {task}")
    cut = cut_for(settings, graph)
    place = bench_home(home).searches(graph.name).parent
    return settings, cut, Records(place / f"{task}-{_identity(settings, graph, cut)}")


def _read(task: str, config: StudyConfig, settings: SearchConfig, cut: Split, records: Records) -> Study:
    # also those of other calls: every difference of the task is corrected together with all others
    names = [name for name in attentions if records.has_chosen(name)]
    chosen = {name: records.chosen(name) for name in names}
    runs = {name: tuple(records.runs(name, config.seeds)) for name in names}
    return Study(task, settings, cut.hash, config.seeds, chosen, runs, records.folder)


class _Work:
    """What is left to do of a study, and the doing."""

    def __init__(
        self,
        config: StudyConfig,
        graph: GraphArrays,
        place: Home,
        cut: Split,
        records: Records,
        say: Progress,
    ) -> None:
        self.config, self.graph, self.place, self.cut, self.records = config, graph, place, cut, records
        self.say = say

    def forget(self) -> None:
        """Drops what is kept of the mechanisms that are to be done again."""
        for name in self.config.again:
            self.records.forget(name)

    def is_left(self, names: Sequence[str]) -> bool:
        """Whether a rate must be chosen or a seed measured."""
        known = [self.records.chosen(name) for name in names if self.records.has_chosen(name)]
        return len(known) < len(names) or any(
            not self.records.has_run(one.mechanism, seed)
            for one in known
            if not one.error
            for seed in self.config.seeds
        )

    def choose(self, names: Sequence[str]) -> None:
        """A rate for each mechanism that has none yet, by one search over all of them."""
        left = [name for name in names if not self.records.has_chosen(name)]
        fits = []
        for name in left:
            try:
                fill(SearchConfig, _search_of(self.config, [name]), "search")
                fits.append(name)
            except (ValueError, KeyError) as error:
                self.records.keep_chosen(ChosenRate(name, error=str(error)), None)
        if fits:
            result = self._search(fits)
            for name in fits:
                self._keep(name, result)

    def _search(self, names: Sequence[str]) -> SearchResult:
        told = _search_of(self.config, names)
        # what is chosen again is searched anew, beside the study that chose before
        told["name"] = f"{told['name']}{self.records.attempt(names)}"
        settings = fill(SearchConfig, told, "search")
        identity = settings.identity(self.graph.hash, self.cut.hash)
        folder = self.place.searches(self.graph.name) / f"{settings.name}-{identity}"
        try:
            return search(told, self.graph, self.place, lambda one: self.say(_words(one)))
        except SearchError:
            result = SearchResult.load(folder)
            if result.complete or len(result.trials) < settings.most:
                raise
            return result  # every trial failed: each says why

    def _keep(self, name: str, result: SearchResult) -> None:
        mine = [trial for trial in result.trials if trial.settings[NAME] == name]
        complete = [trial for trial in mine if trial.state == "complete"]
        tried = {str(one.settings[RATE]): one.values[0] if one.values else None for one in mine}
        if not complete:
            why = next((trial.error for trial in mine if trial.error), "it was never tried")
            self.records.keep_chosen(ChosenRate(name, tried=tried, error=why), None)
            return
        best = max(complete, key=lambda trial: trial.values[0])
        found = ChosenRate(
            name,
            rate=best.settings[RATE],
            validation=best.values[0],
            epochs=best.epochs or 1,
            fit_s=_fit_s(result, best),
            tried=tried,
            cut=_cut(complete, self.config),
        )
        self.records.keep_chosen(found, np.load(values_file(result.folder, best.number)))

    def measure(self, chosen: Sequence[ChosenRate]) -> None:
        """Runs on test what has not run yet."""
        jobs = [
            (one, seed)
            for one in chosen
            for seed in self.config.seeds
            if not self.records.has_run(one.mechanism, seed)
        ]
        settings = fill(SearchConfig, _search_of(self.config, [name for name in attentions][:1]), "search")
        revision = code_revision() if jobs else ""
        given = (
            self.cut.test,
            settings.experiment.model,
            settings.experiment.train,
            settings.experiment.measure,
        )
        done = spread(seed_run, jobs, given, settings, self.graph, self.records.folder)
        for number, ((one, seed), found) in enumerate(done, 1):
            if isinstance(found, Exception):
                found = SeedRun(one.mechanism, seed, error=str(found).strip().splitlines()[0]), None
            self.records.keep_run(replace(found[0], code_revision=revision), found[1])
            self.say(f"seeds: {number} of {len(jobs)} runs, {one.mechanism} {found[0].error or 'measured'}")


def seed_run(
    given: tuple[Part, Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], job: tuple[ChosenRate, int]
) -> tuple[SeedRun, dict[str, np.ndarray]]:
    """One mechanism with one seed: trained on training and validation with what was chosen, measured on test.

    Args:
        given: the test part, settings of model, training and evaluation.
        job: what was chosen, and the seed.

    Returns:
        The record, and (u,) values of each metric beside the (u,) rows of the users.
    """
    part, model, train, measure = given
    chosen, seed = job
    laid = lay_over(model, train, {NAME: chosen.mechanism, RATE: chosen.rate})
    part = replace(part, training=replace(part.training, seed=seed))
    recommender, curve, _ = fitted(*laid, part.training, None, chosen.epochs)
    report = evaluate(recommender, part, fill(EvaluationConfig, measure, "measure"))
    found = SeedRun(
        chosen.mechanism,
        seed,
        metrics={name: one.value for name, one in report.summary.items()},
        fit_s=sum(epoch.seconds for epoch in curve),
        parameters=parameters_of(recommender.module),
    )
    return found, {"users": report.users, **report.values}


def parameters_of(module: nn.Module) -> int:
    """Numbers that the attention in a model learns, each once."""
    held = {
        id(one): one.numel()
        for part in module.modules()
        if isinstance(part, Attention)
        for one in part.parameters()
    }
    return sum(held.values())


def _search_of(config: StudyConfig, names: Sequence[str]) -> dict[str, Any]:
    space = {**config.search["space"], NAME: {"choice": list(names)}}
    return {**config.search, "space": space}


def _identity(settings: SearchConfig, graph: GraphArrays, cut: Split) -> str:
    """Of all that a value depends on besides the mechanism, so that a new one joins those that are there."""
    alike = replace(settings, space={RATE: settings.space[RATE]})
    return alike.identity(graph.hash, cut.hash)


def _fit_s(result: SearchResult, trial: SearchTrial) -> float:
    return trial.values[result.objectives.index("fit_s")] if "fit_s" in result.objectives else trial.seconds


def _cut(trials: Sequence[SearchTrial], config: StudyConfig) -> tuple[float, ...]:
    """Rates whose training the time limit ended before its last epoch."""
    train = fill(SearchConfig, _search_of(config, [trials[0].settings[NAME]]), "search").experiment.train
    return tuple(one.settings[RATE] for one in trials if 0 < len(one.curve) < int(train.get("epochs", 1)))


def _words(standing: Standing) -> str:
    left = "" if standing.left_s is None else f", about {standing.left_s:.0f} s left"
    return f"rates: {len(standing.result.trials)} of {standing.total} trials{left}"
