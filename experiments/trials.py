"""One trial of a search as a plain function: bounded threads and memory, and an outcome whatever happens.

Runs in any process; :mod:`experiments.search` calls it in Ray's."""

import math
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits

from experiments.checkpoint import CheckpointError
from experiments.evaluation import per_user_of, value_of
from experiments.splits import Part
from experiments.studies import SearchTrial
from experiments.training import Epoch, TrainingError
from experiments.tuning import Trial, try_out
from models.interface import Recommender

LOCK_S = 60.0
"""How long a trial waits for a worker of a search that was killed to let go of its folder."""


class Pruned(Exception):
    """Ends a training that promises little."""


@dataclass(frozen=True)
class Job:
    """What a worker needs besides the data."""

    number: int
    model: Mapping[str, Any]
    """Of the base."""
    train: Mapping[str, Any]
    settings: Mapping[str, Any]
    """Dotted key -> value, laid over both."""
    objectives: tuple[str, ...]
    """Metrics, ``fit_s`` and ``size_bytes``, at least one metric."""
    metric: str
    """The metric that is measured first, see :attr:`experiments.spaces.SearchConfig.metric`."""
    folder: Path | None = None
    """Where its checkpoint lies; None keeps none."""
    threads: int = 1
    memory_bytes: int | None = None
    values: Path | None = None
    """File for the metric of each validation user, in the order of ``part.users``; None keeps none."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job; fields as in :class:`experiments.studies.SearchTrial`."""

    state: str
    values: tuple[float, ...] = ()
    seconds: float = 0.0
    error: str = ""
    curve: tuple[Epoch, ...] = ()
    epochs: int | None = None
    from_epoch: int = 0
    node: str = ""


def carry_out(job: Job, part: Part, go_on: Callable[[Epoch], bool] | None = None) -> Outcome:
    """Fits and measures what a job says; an error of the model becomes a failed outcome.

    Args:
        job: what.
        part: the validation part of a split.
        go_on: told each epoch of a training; False ends it as pruned.
    """
    seen: list[Epoch] = []
    started = time.monotonic()

    def watch(epoch: Epoch) -> None:
        seen.append(epoch)
        if go_on is not None and not go_on(epoch):
            raise Pruned

    # a thread of its own: whatever ends it comes back as a value
    with ThreadPoolExecutor(1, f"trial-{job.number}") as pool:
        future = pool.submit(_bounded, job, part, watch)
        error = future.exception()
    if error is not None:
        return Outcome(
            state="pruned" if isinstance(error, Pruned) else "failed",
            seconds=time.monotonic() - started,
            error="" if isinstance(error, Pruned) else reason(error, job.memory_bytes),
            curve=tuple(seen),
            from_epoch=seen[0].number - 1 if seen else 0,
        )
    trial, values = future.result()
    wrong = [name for name, value in zip(job.objectives, values, strict=True) if not math.isfinite(value)]
    return Outcome(
        state="failed" if wrong else "complete",
        values=() if wrong else values,
        seconds=trial.seconds,
        error=f"{wrong[0]} must be a number, it came out as nan or infinite" if wrong else "",
        curve=trial.curve,
        epochs=trial.epochs,
        from_epoch=len(trial.curve) - len(seen),
    )


def _bounded(job: Job, part: Part, watch: Callable[[Epoch], None]) -> tuple[Trial, tuple[float, ...]]:
    folder = job.folder
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    alone = nullcontext() if folder is None else FileLock(folder / ".lock", timeout=LOCK_S)
    with alone, bounded(job.threads, job.memory_bytes):
        trial, model = _tried(job, part, watch)
        if job.values is not None:
            _keep(job.values, per_user_of(model, part, job.metric))
        return trial, _values(job, trial, model, part)


@contextmanager
def bounded(threads: int, memory_bytes: int | None) -> Iterator[None]:
    """Gives what runs inside so many threads, and so much memory beyond what the process holds."""
    torch.set_num_threads(threads)
    with threadpool_limits(threads), memory_limit(memory_bytes):
        yield


def _tried(job: Job, part: Part, watch: Callable[[Epoch], None]) -> tuple[Trial, Recommender]:
    told = (job.model, job.train, job.settings, part, job.metric)
    try:
        return try_out(*told, folder=job.folder, watch=watch)
    except CheckpointError:
        # spoilt by whatever broke it off: the trial begins anew rather than fail for good
        for path in job.folder.glob("*.safetensors") if job.folder else ():
            path.unlink()
        return try_out(*told, folder=job.folder, watch=watch)


def _values(job: Job, trial: Trial, model: Recommender, part: Part) -> tuple[float, ...]:
    known = {
        job.metric: lambda: trial.value,
        "fit_s": lambda: float(trial.fit_s or 0.0),
        "size_bytes": lambda: float(sum(array.nbytes for array in model.arrays().values())),
    }
    return tuple(
        float(known[name]() if name in known else value_of(model, part, name)) for name in job.objectives
    )


def _keep(path: Path, values: np.ndarray) -> None:
    """Writes aside and renames: who reads it finds it whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    np.save(aside, values, allow_pickle=False)
    aside.replace(path)


def outcome_of(told: Mapping[str, Any]) -> Outcome:
    """The outcome that a study keeps of a trial, out of its attributes."""
    kept = dict(told.get("outcome") or {"state": "failed", "error": "nothing is known of it"})
    kept["curve"] = tuple(Epoch(**epoch) for epoch in kept.get("curve", ()))
    kept["values"] = tuple(kept.get("values", ()))
    return Outcome(**kept)


def trial_of(number: int, told: Mapping[str, Any]) -> SearchTrial:
    """The trial that a study keeps, out of its attributes."""
    known = {"settings": told.get("settings", {}), "started": told.get("started", "")}
    return SearchTrial(number=number, **known, **vars(outcome_of(told)))


def forget(folder: Path) -> None:
    """Removes what a finished trial kept for the case that it would be broken off."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def memory_limit(most: int | None) -> Iterator[None]:
    """Lets this process take ``most`` bytes more than it holds now; an allocation beyond raises MemoryError.

    Mapped files and shared memory, as the graph, do not count (``RLIMIT_DATA``, Linux 4.7).
    """
    if most is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _data_bytes() + most
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("memory_bytes needs /proc/self/status with VmData, as on Linux: leave it out here")


def reason(error: BaseException, memory_bytes: int | None) -> str:
    """Why a trial failed, in a line."""
    said = f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]
    if is_memory(error) and memory_bytes is not None:
        return f"it wanted more than memory_bytes={memory_bytes}: {said}"
    if isinstance(error, TrainingError):
        return str(error)
    return said


def is_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left."""
    return isinstance(error, MemoryError) or "allocate memory" in str(error) or "bad_alloc" in str(error)
