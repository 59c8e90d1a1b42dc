"""Searches for settings: Optuna proposes, Ray's workers try, SQLite remembers; the only door to both.

Optuna's study is the one ledger. Ray Tune keeps a second one, written every few seconds: after a kill the two
disagree on what was finished. So trials here are plain functions that Ray's actors call."""

import hashlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import optuna
import ray
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState
from ray.exceptions import RayError

from configs.home import Home
from configs.registry import fill, import_parts
from experiments.chosen import cut_for, measured
from experiments.result import RunResult, plain
from experiments.spaces import Choice, Range, SearchConfig
from experiments.splits import Part, Split
from experiments.studies import STUDY, SearchError, SearchResult, Standing, pareto_front
from experiments.tracking import track
from experiments.training import Epoch
from experiments.trials import Job, Outcome, carry_out, forget, outcome_of, trial_of
from kg.arrays import GraphArrays

Progress = Callable[[Standing], None]
OBJECT_STORE_BYTES = 128 * 2**20
"""Shared memory beside what the graph takes."""
STARTS = 3
"""Attempts to start Ray: one that is slow gives itself up."""


def search(
    config: Mapping[str, Any],
    graph: GraphArrays,
    home: Home,
    progress: Progress | None = None,
    address: str | None = None,
) -> SearchResult:
    """Tries what a search says, from its beginning or from where it was broken off; measures the best once.

    A finished trial is never lost or run again; one that was under way goes on with its settings, and a
    training with its checkpoint. With one objective the best trial is fitted on training and validation and
    measured on test, which makes a :class:`RunResult`; with several see :func:`fit_trial`.

    Args:
        config: settings of :class:`SearchConfig`, as :func:`experiments.spaces.read_search` gives them.
        graph: whole, as exported.
        home: where the search, the run and the version go.
        progress: told after every epoch and trial.
        address: a Ray cluster to join, whose machines share ``home``; None starts one here and ends it.

    Raises:
        SettingError: a setting that does not fit.
        SearchError: somebody else runs this search, no trial came to an end, or the place cannot be written.
    """
    settings = fill(SearchConfig, config, "search")
    cut = cut_for(settings, graph)
    folder = home.searches(graph.name) / f"{settings.name}-{settings.identity(graph.hash, cut.hash)}"
    with _alone(folder, settings.name), _full_disk_said(folder):
        ledger = _Ledger(settings, config, cut, folder)
        if ledger.is_open():
            tell = progress or (lambda _: None)
            if settings.workers == 0:
                _Here(ledger, cut.validation, tell).go()
            else:
                with _ray(settings, graph, folder, address):
                    _Spread(ledger, cut.validation, tell).go()
        result = ledger.result(is_final=True).save(folder)
        if settings.mlflow:
            track(result)
        if not result.best:
            raise SearchError(
                f"no trial of {len(result.trials)} in search {settings.name} came to an end; the first: "
                f"{next((one.error for one in result.trials if one.error), 'pruned')}"
            )
        if len(result.objectives) == 1 and result.run_id is None:
            run_id = measured(settings, result, result.best[0], graph, home).run_id
            result = ledger.measured(result.best[0], run_id)
        return result


def fit_trial(
    config: Mapping[str, Any], graph: GraphArrays, home: Home, number: int, progress: Any = None
) -> RunResult:
    """Fits one finished trial of a search on training and validation and measures it once on test.

    Raises:
        SearchError: no such trial, or it has no value.
    """
    settings = fill(SearchConfig, config, "search")
    cut = cut_for(settings, graph)
    folder = home.searches(graph.name) / f"{settings.name}-{settings.identity(graph.hash, cut.hash)}"
    with _alone(folder, settings.name):
        found = measured(settings, SearchResult.load(folder), number, graph, home, progress)
        _Ledger(settings, config, cut, folder).measured(number, found.run_id)
        return found


class _Ledger:
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
        return self.study.ask() if self._is_room() else None

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
        )

    def checkpoint(self, number: int) -> Path:
        """Where a trial keeps its checkpoint while it is under way."""
        return self.folder / "trials" / f"{number:05d}"

    def goes_on(self, trial: optuna.Trial, epoch: Epoch) -> bool:
        """Enters an epoch; False where the pruner has seen enough."""
        if len(self.settings.objectives) > 1 or epoch.value is None:
            return True
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
        result, total = self.result(), self.settings.trials
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
        return is_time and len(self.study.get_trials(deepcopy=False)) < self.settings.trials

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
        if outcome.state == "complete":
            self.study.tell(trial.number, list(outcome.values))
        else:
            state = TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL
            self.study.tell(trial.number, state=state)


class _Here:
    """One trial after the other in this process, without Ray."""

    def __init__(self, ledger: _Ledger, part: Part, tell: Progress) -> None:
        self.ledger, self.part, self.tell = ledger, part, tell

    def go(self) -> None:
        """Runs all that is left."""
        for trial in self._trials():
            outcome = carry_out(self.ledger.job(trial), self.part, partial(self._hear, trial))
            self.ledger.finish(trial, outcome)
            self.tell(self.ledger.standing({}, 1))

    def _trials(self) -> Iterator[optuna.Trial]:
        yield from self.ledger.waiting()
        while (trial := self.ledger.propose()) is not None:
            yield trial

    def _hear(self, trial: optuna.Trial, epoch: Epoch) -> bool:
        self.tell(self.ledger.standing({trial.number: _words(epoch)}, 1))
        return self.ledger.goes_on(trial, epoch)


class _Spread:
    """Keeps Ray's workers busy until the ledger has had enough."""

    def __init__(self, ledger: _Ledger, part: Part, tell: Progress) -> None:
        settings = ledger.settings
        self.ledger, self.tell = ledger, tell
        self.part = ray.put(part)
        cores = int(ray.cluster_resources().get("CPU", 0)) // settings.threads
        if not cores:
            raise SearchError(
                f"a trial needs {settings.threads} cores on one machine, Ray has "
                f"{ray.cluster_resources().get('CPU', 0):g}: lower threads or add a machine"
            )
        self.idle = [self._hire() for _ in range(min(settings.workers, cores))]
        self.waiting = ledger.waiting()
        self.under_way: dict[Any, tuple[Any, optuna.Trial]] = {}
        self.words: dict[int, str] = {}

    def go(self) -> None:
        """Runs all that is left."""
        while self._begin() or self.under_way:
            ready, _ = ray.wait(list(self.under_way), num_returns=1, timeout=5.0)
            for ref in ready:
                self._hear(ref)
            if ready:
                self.tell(self.ledger.standing(self.words, len(self.idle) + len(self.under_way)))

    def _hire(self) -> Any:
        options = {"num_cpus": self.ledger.settings.threads, "scheduling_strategy": "SPREAD"}
        return ray.remote(_Worker).options(**options).remote(self.part)

    def _begin(self) -> bool:
        while self.idle:
            trial = self.waiting.pop(0) if self.waiting else self.ledger.propose()
            if trial is None:
                return False
            worker = self.idle.pop()
            self.words[trial.number] = "begun"
            self.under_way[worker.begin.remote(self.ledger.job(trial))] = (worker, trial)
        return True

    def _hear(self, ref: Any) -> None:
        worker, trial = self.under_way.pop(ref)
        try:
            news = ray.get(ref)
        except RayError as error:
            said = str(error).strip().splitlines()
            news = Outcome(
                "failed", error=f"its worker was ended: {said[0] if said else type(error).__name__}"
            )
            worker = self._hire()
        if isinstance(news, Epoch):
            self.words[trial.number] = _words(news)
            go_on = self.ledger.goes_on(trial, news)
            self.under_way[worker.go_on.remote(go_on)] = (worker, trial)
            return
        self.ledger.finish(trial, news)
        del self.words[trial.number]
        self.idle.append(worker)


class _Worker:
    """One trial at a time in a process of its own; between two epochs it waits for a word from the search."""

    def __init__(self, part: Part) -> None:
        import_parts("models")
        self.part = part
        self.pool = ThreadPoolExecutor(1)
        self.news: SimpleQueue[Epoch | Outcome | BaseException] = SimpleQueue()
        self.verdicts: SimpleQueue[bool] = SimpleQueue()
        self.node = ray.get_runtime_context().get_node_id()

    def begin(self, job: Job) -> Epoch | Outcome:
        """Starts a trial; gives its first epoch, or its outcome where there is none."""
        future = self.pool.submit(carry_out, job, self.part, self._watched)
        future.add_done_callback(lambda done: self.news.put(done.exception() or done.result()))
        return self._next()

    def go_on(self, verdict: bool) -> Epoch | Outcome:
        """Lets the training go on or ends it; gives what comes next."""
        self.verdicts.put(verdict)
        return self._next()

    def _watched(self, epoch: Epoch) -> bool:
        self.news.put(epoch)
        return self.verdicts.get()

    def _next(self) -> Epoch | Outcome:
        news = self.news.get()
        if isinstance(news, BaseException):
            raise news
        return replace(news, node=self.node) if isinstance(news, Outcome) else news


@contextmanager
def _ray(settings: SearchConfig, graph: GraphArrays, folder: Path, address: str | None) -> Iterator[None]:
    """Ray as it runs already, the cluster at ``address``, or one of our own that ends with the search."""
    if ray.is_initialized():
        yield
        return
    quiet = {"include_dashboard": False, "configure_logging": False, "log_to_driver": False}
    own = (
        Path(tempfile.gettempdir())
        / f"mg-ray-{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"
    )
    if address is None:
        shutil.rmtree(own, ignore_errors=True)  # of a sitting that was killed
        tables = [*graph.nodes.values(), *graph.facts.values()]
        quiet |= {
            "num_cpus": settings.workers * settings.threads,
            "object_store_memory": OBJECT_STORE_BYTES + 2 * sum(table.nbytes for table in tables),
            "_temp_dir": str(own),
            "_node_ip_address": "127.0.0.1",
        }
    else:
        quiet.pop("include_dashboard")
    _start(address, quiet)
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(own, ignore_errors=True)


def _start(address: str | None, settings: Mapping[str, Any]) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for attempt in range(STARTS):
        try:
            with _minimal_ray():
                ray.init(address=address or "local", **settings)
            return
        except Exception as error:
            ray.shutdown()
            if attempt + 1 == STARTS or address is not None:
                raise SearchError(
                    f"Ray must start, {STARTS} attempts ended with {error}: it gives its helpers 15 s, too "
                    "little on a machine under load; run it again later, or write workers: 0 to do without"
                ) from error


@contextmanager
def _minimal_ray() -> Iterator[None]:
    """Starts Ray as its minimal installation does: without its agent's server for jobs, which nobody asks.

    That server listens beyond loopback, and its start is what a machine under load gets late for.
    """
    name = "ray.dashboard.optional_deps"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise SearchError(
            f"search {name} is being run by another process in {folder}: "
            "wait for it, or give this one another name"
        ) from None


@contextmanager
def _full_disk_said(folder: Path) -> Iterator[None]:
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise SearchError(
            f"a search needs a place that can be written, {folder} gave {cause}: "
            "free space and run it again, it goes on"
        ) from error


def _words(epoch: Epoch) -> str:
    return f"epoch {epoch.number}" + ("" if epoch.value is None else f": {epoch.value:.4f}")


def _sampler(settings: SearchConfig, draw: str) -> optuna.samplers.BaseSampler:
    seed = int.from_bytes(hashlib.blake2b(draw.encode(), digest_size=4).digest())
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
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
