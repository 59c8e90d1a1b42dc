"""Searches for settings: Optuna proposes and remembers (:mod:`experiments.ledger`), Ray's workers try.

Optuna's study is the one ledger. Ray Tune keeps a second one, written every few seconds: after a kill the two
disagree on what was finished. So trials here are plain functions that Ray's actors call."""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray.exceptions import NodeDiedError, RayError

from configs.home import Home
from configs.registry import fill, import_parts
from experiments.chosen import cut_for, measured
from experiments.ledger import Ledger, Proposal, disk_errors_said
from experiments.result import RunResult
from experiments.spaces import SearchConfig
from experiments.splits import Part
from experiments.studies import SearchError, SearchResult, Standing
from experiments.tracking import track
from experiments.training import Epoch
from experiments.trials import Job, Outcome, bounded, carry_out, reason
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
    with _alone(folder, settings.name), disk_errors_said(folder):
        ledger = Ledger(settings, config, cut, folder)
        if ledger.is_open():
            tell = progress or (lambda _: None)
            if settings.workers == 0:
                _Here(ledger, cut.validation, tell).go()
            else:
                with ray_for(settings, graph, folder, address):
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
        Ledger(settings, config, cut, folder).measured(number, found.run_id)
        return found


def spread(
    task: Callable[[Any, Any], Any],
    jobs: Sequence[Any],
    shared: Any,
    settings: SearchConfig,
    graph: GraphArrays,
    folder: Path,
) -> Iterator[tuple[Any, Any]]:
    """Carries out jobs with the workers, threads and memory of a search; gives each as it is done.

    Args:
        task: called with ``shared`` and a job, in any process; must be a function of a module.
        jobs: what there is to do, in this order.
        shared: what all of them read.
        settings: of a search; ``workers``, ``threads`` and ``memory_bytes`` are read.
        graph: by whose size shared memory is measured out.
        folder: gives Ray's own folder its name.

    Yields:
        A job and what the task gave, or the exception that ended it.

    Raises:
        SearchError: Ray itself was ended: that says nothing of a job.
    """
    if not jobs:
        return
    bounds = (settings.threads, settings.memory_bytes)
    if settings.workers == 0:
        for job in jobs:
            yield job, _carried(task, shared, job, *bounds)
        return
    with ray_for(settings, graph, folder, None):
        given = ray.put(shared)
        call = ray.remote(num_cpus=settings.threads, max_retries=0)(_carried)
        under_way = {call.remote(task, given, job, *bounds): job for job in jobs}
        while under_way:
            (ref,), _ = ray.wait(list(under_way), num_returns=1)
            job = under_way.pop(ref)
            try:
                yield job, ray.get(ref)
            except NodeDiedError as error:
                raise SearchError(
                    "Ray must live until all jobs are done, it was ended: run it again, what is done is kept"
                ) from error
            except RayError as error:
                yield job, error


def _carried(task: Callable[[Any, Any], Any], shared: Any, job: Any, threads: int, most: int | None) -> Any:
    import_parts("models")

    def run() -> Any:
        with bounded(threads, most):
            return task(shared, job)

    # a thread of its own: whatever ends it comes back as a value, and the other jobs go on
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        error = future.exception()
    return future.result() if error is None else RuntimeError(reason(error, most))


class _Here:
    """One trial after the other in this process, without Ray."""

    def __init__(self, ledger: Ledger, part: Part, tell: Progress) -> None:
        self.ledger, self.part, self.tell = ledger, part, tell

    def go(self) -> None:
        """Runs all that is left."""
        for trial in self._trials():
            outcome = carry_out(self.ledger.job(trial), self.part, partial(self._hear, trial))
            self.ledger.finish(trial, outcome)
            self.tell(self.ledger.standing({}, 1))

    def _trials(self) -> Iterator[Proposal]:
        yield from self.ledger.waiting()
        while (trial := self.ledger.propose()) is not None:
            yield trial

    def _hear(self, trial: Proposal, epoch: Epoch) -> bool:
        self.tell(self.ledger.standing({trial.number: _words(epoch)}, 1))
        return self.ledger.goes_on(trial, epoch)


class _Spread:
    """Keeps Ray's workers busy until the ledger has had enough."""

    def __init__(self, ledger: Ledger, part: Part, tell: Progress) -> None:
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
        self.under_way: dict[Any, tuple[Any, Proposal]] = {}
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
def ray_for(settings: SearchConfig, graph: GraphArrays, folder: Path, address: str | None) -> Iterator[None]:
    """Ray as it runs already, the cluster at ``address``, or one of our own that ends with the search.

    Whoever searches several times may hold one around all; without ``workers`` there is none.
    """
    if ray.is_initialized() or not settings.workers:
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
            with minimal_ray():
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
def minimal_ray() -> Iterator[None]:
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


def _words(epoch: Epoch) -> str:
    return f"epoch {epoch.number}" + ("" if epoch.value is None else f": {epoch.value:.4f}")
