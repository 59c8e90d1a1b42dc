"""The study of a search on disk: Optuna proposes and remembers, in one SQLite file that survives a kill.

Each entry is one transaction; a journal file of Optuna would keep the stale lock, or the half line, of a
process that was killed."""

import hashlib
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.result import plain
from experiments.spaces import Choice, Range, SearchConfig
from experiments.splits import Split
from experiments.studies import STUDY, SearchError, SearchResult, Standing, pareto_front, values_file
from experiments.training import Epoch
from experiments.trials import Job, Outcome, forget, outcome_of, trial_of

__all__ = ["Ledger", "Proposal", "disk_errors_said"]

Proposal = optuna.Trial
"""A trial under way."""


class Ledger:
    """The study on disk: what is proposed, what is under way, what came out."""

    def __init__(self, settings: SearchConfig, config: Mapping[str, Any], cut: Split, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.settings, self.config, self.cut, self.folder = settings, config, cut, folder
        self.dimensions = settings.dimensions
        self.started = time.monotonic()
        self.study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY}"),
            study_name=settings.name,
            directions=["maximize" if one == "max" else "minimize" for one in settings.objectives.values()],
            pruner=_pruner(settings),
            load_if_exists=True,
        )
        self.before_s = float(self.study.user_attrs.get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Of all sittings together."""
        return self.before_s + time.monotonic() - self.started

    def is_open(self) -> bool:
        """Whether a trial is left to be run."""
        broken = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        return bool(broken) or self._is_room()

    def waiting(self) -> list[optuna.Trial]:
        """Trials that were under way when a sitting was broken off, as they stand."""
        broken = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        for trial in broken:
            if "outcome" in trial.user_attrs:  # killed between its last word and its entry
                self._enter(trial, outcome_of(trial.user_attrs))
        return [
            optuna.Trial(self.study, trial._trial_id) for trial in broken if "outcome" not in trial.user_attrs
        ]

    def propose(self) -> optuna.Trial | None:
        """A new trial, None where the search has had enough."""
        if not self._is_room():
            return None
        if self.settings.sampler == "grid":  # it gives a trial its point when it is asked for
            self.study.sampler = _sampler(self.settings, "")
        return self.study.ask()

    def job(self, trial: optuna.Trial) -> Job:
        """What a trial is to do; what was drawn before it was broken off is drawn alike."""
        settings = {one.key: self._draw(trial, one) for one in self.dimensions}
        trial.set_user_attr("settings", settings)
        trial.set_user_attr("started", datetime.now(UTC).isoformat(timespec="milliseconds"))
        experiment, told = self.settings.experiment, self.settings
        return Job(
            number=trial.number,
            model=experiment.model,
            train=experiment.train,
            settings=settings,
            objectives=tuple(told.objectives),
            metric=told.metric,
            folder=self.checkpoint(trial.number),
            threads=told.threads,
            memory_bytes=told.memory_bytes,
            values=values_file(self.folder, trial.number) if told.keeps_values else None,
        )

    def checkpoint(self, number: int) -> Path:
        """Where a trial keeps its checkpoint while it is under way."""
        return self.folder / "trials" / f"{number:05d}"

    def goes_on(self, trial: optuna.Trial, epoch: Epoch) -> bool:
        """Enters an epoch; False where the pruner has seen enough."""
        if len(self.settings.objectives) > 1 or epoch.value is None:
            return True
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if epoch.number not in known:  # told before a kill, and again since its checkpoint was older
            trial.report(epoch.value, epoch.number)
        return not trial.should_prune()

    def finish(self, trial: optuna.Trial, outcome: Outcome) -> None:
        """Enters what became of a trial; after this it is never run again."""
        trial.set_user_attr("outcome", plain(asdict(outcome)))
        self._enter(trial, outcome)
        self.study.set_user_attr("seconds", self.seconds)
        forget(self.checkpoint(trial.number))
        self.result().save(self.folder)

    def standing(self, running: Mapping[int, str], workers: int) -> Standing:
        """How far it is, for whoever watches."""
        result, total = self.result(), self.settings.most
        spent = [trial.seconds for trial in result.trials]
        left = max(total - len(spent), 0)
        left_s = left * sum(spent) / len(spent) / max(workers, 1) if spent else None
        return Standing(result, total, dict(running), left_s)

    def result(self, is_final: bool = False) -> SearchResult:
        """All finished trials; parts of the settings are weighed at the end only."""
        finished = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        trials = tuple(
            trial_of(one.number, one.user_attrs)
            for one in self.study.get_trials(deepcopy=False, states=finished)
        )
        objectives = self.settings.objectives
        best = pareto_front(trials, tuple(objectives.values()))
        runs = self.study.user_attrs.get("runs", {})
        return SearchResult(
            name=self.settings.name,
            graph=self.cut.graph,
            graph_hash=self.cut.graph_hash,
            split_hash=self.cut.hash,
            objectives=tuple(objectives),
            directions=tuple(objectives.values()),
            trials=trials,
            best=best,
            importances=_importances(self.study) if is_final else {},
            seconds=self.seconds,
            config=plain({**self.config, "experiment": vars(self.settings.experiment)}),
            run_id=next((runs[str(number)] for number in best if str(number) in runs), None),
            folder=self.folder,
        )

    def measured(self, number: int, run_id: str) -> SearchResult:
        """Enters the run that a trial became."""
        self.study.set_user_attr("runs", {**self.study.user_attrs.get("runs", {}), str(number): run_id})
        return self.result(is_final=True).save(self.folder)

    def _is_room(self) -> bool:
        is_time = self.settings.seconds is None or self.seconds < self.settings.seconds
        return is_time and len(self.study.get_trials(deepcopy=False)) < self.settings.most

    def _draw(self, trial: optuna.Trial, one: Choice | Range) -> Any:
        # a sampler of its own for each draw: it depends on seed, number and finished trials alone
        self.study.sampler = _sampler(self.settings, f"{self.settings.seed}/{trial.number}/{one.key}")
        if isinstance(one, Choice):
            return one.values[one.labels.index(trial.suggest_categorical(one.key, one.labels))]
        if one.scale == "pow2":
            exponents = (int(one.low).bit_length() - 1, int(one.high).bit_length() - 1)
            return 2 ** trial.suggest_int(f"log2 {one.key}", *exponents)
        suggest = trial.suggest_int if one.is_whole else trial.suggest_float
        return suggest(one.key, one.low, one.high, log=one.scale == "log")

    def _enter(self, trial: optuna.Trial | FrozenTrial, outcome: Outcome) -> None:
        self.study.sampler = optuna.samplers.RandomSampler()  # a grid's would stop a loop that is not there
        if outcome.state == "complete":
            self.study.tell(trial.number, list(outcome.values))
        else:
            state = TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL
            self.study.tell(trial.number, state=state)


@contextmanager
def disk_errors_said(folder: Path) -> Iterator[None]:
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise SearchError(
            f"a search needs a place that can be written, {folder} gave {cause}: "
            "free space and run it again, it goes on"
        ) from error


def _sampler(settings: SearchConfig, draw: str) -> optuna.samplers.BaseSampler:
    seed = int.from_bytes(hashlib.blake2b(draw.encode(), digest_size=4).digest())
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "grid":
        space = {one.key: one.labels for one in settings.dimensions if isinstance(one, Choice)}
        return optuna.samplers.GridSampler(space, seed=settings.seed)
    if settings.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=settings.workers > 1)


def _pruner(settings: SearchConfig) -> optuna.pruners.BasePruner:
    if settings.pruner == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    if settings.pruner == "hyperband":
        most = int(settings.experiment.train.get("epochs", 30))
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=3)
    return optuna.pruners.NopPruner()


def _importances(study: optuna.Study) -> dict[str, float]:
    """Parts that add up to 1; empty where too little was tried to tell.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA", IJCAI 2023, as Optuna has it.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(complete) < 2 or len({tuple(trial.values) for trial in complete}) < 2:
        return {}
    sign = 1 if study.directions[0] == optuna.study.StudyDirection.MINIMIZE else -1  # it looks for low values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so again whenever it is given what to look at
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: sign * trial.values[0],
        )
    return {name.removeprefix("log2 "): float(part) for name, part in found.items()}
