"""A search killed by SIGKILL at random moments against an unbroken one, and what Ray costs a trial."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from configs.home import Home
from configs.loading import load
from configs.registry import fill, import_parts
from experiments.chosen import cut_for
from experiments.search import search
from experiments.spaces import SearchConfig
from experiments.studies import SearchError, SearchResult, searches
from experiments.trials import Job, carry_out
from kg.arrays import GraphArrays

LONGEST_S = 2.0
"""After its first word a sitting is killed within this time."""
_SHARED = {"sampler": "random", "threads": 1, "mlflow": False, "seed": 0}


@dataclass(frozen=True)
class Sitting:
    """One sitting of a search that was killed, or the last, which was not."""

    search: str
    killed_after_s: float | None
    """Since its first word; None for the last."""
    finished_before: int
    finished_after: int
    lost: int
    """Finished trials that are not there any more, or not as they were."""
    rerun: int
    """Finished trials that were run again."""
    resumed: int
    """Trials that by now took epochs from a checkpoint."""


@dataclass(frozen=True)
class Kills:
    """All sittings of a search beside the unbroken one."""

    sittings: tuple[Sitting, ...]
    trials: int
    same_settings: bool
    same_values: bool
    same_best: bool


@dataclass(frozen=True)
class Cost:
    """What a trial costs beyond the plain function."""

    what: str
    trials: int
    s_per_trial: float
    overhead_s: float
    """A trial, over the plain function in this process."""
    said: str = ""


def kill(home: Home, graph: str, kills: int, workers: int, tell: Callable[[str], None]) -> tuple[Kills, ...]:
    """Kills two searches, of a model in closed form and of a trained one, at moments that a seed draws."""
    arrays = GraphArrays.current(home.arrays(graph))
    rng = np.random.default_rng(0)
    configs = _configs(workers)
    return tuple(
        _killed(config, arrays, kills // 2 + (kills % 2 if place else 0), rng, tell)
        for place, config in enumerate(configs)
    )


def cost(home: Home, graph: str, trials: int) -> list[Cost]:
    """The same trials as plain calls, through a search in this process, and through Ray, in turn."""
    arrays = GraphArrays.current(home.arrays(graph))
    config = {**_configs(0)[0], "trials": trials, "name": "cost"}
    with TemporaryDirectory(prefix="mg-bench-search-") as scratch:
        place = Path(scratch)
        here_s, here = _timed(config, arrays, Home(place / "here"))
        plain_s = _plain(config, arrays, here)
        found = [
            Cost("plain function", trials, plain_s, 0.0),
            Cost("search in this process", trials, here_s, here_s - plain_s),
        ]
        try:
            ray_s, through = _timed({**config, "workers": 1}, arrays, Home(place / "ray"))
            again_s = _plain(config, arrays, through)
            found.append(Cost("search with Ray", trials, ray_s, ray_s - again_s))
            found.append(Cost("plain function again", trials, again_s, 0.0))
        except SearchError as error:
            found.append(Cost("search with Ray", 0, float("nan"), float("nan"), str(error)))
    return found


def _configs(workers: int) -> list[dict[str, Any]]:
    measure = {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100}
    ials = {**load("experiments/ials.yaml"), "measure": measure}
    light = {
        "name": "x",
        "model": {"name": "lightgcn", "width": 16, "layers": 1, "batch": 4096},
        "train": {"learning_rate": 0.01, "epochs": 6, "patience": 6, "threads": 1},
        "split": ials["split"],
        "measure": measure,
    }
    return [
        {
            "name": "killed_ials",
            "base": ials,
            "space": {
                "model.factors": {"int": [8, 64], "scale": "pow2"},
                "model.regularization": {"float": [1.0, 100.0], "scale": "log"},
            },
            "trials": 30,
            "workers": workers,
            **_SHARED,
        },
        {
            "name": "killed_lightgcn",
            "base": light,
            "space": {
                "train.learning_rate": {"float": [0.003, 0.03], "scale": "log"},
                "model.width": {"choice": [8, 16, 32]},
            },
            "trials": 20,
            "workers": workers,
            **_SHARED,
        },
    ]


def _killed(
    config: Mapping[str, Any],
    graph: GraphArrays,
    kills: int,
    rng: np.random.Generator,
    tell: Callable[[str], None],
) -> Kills:
    sittings: list[Sitting] = []
    with TemporaryDirectory(prefix="mg-bench-search-") as scratch:
        place = Path(scratch)
        home = Home(place / "killed")
        for _ in range(kills):
            before = _there(home, graph)
            after_s = float(rng.uniform(0, LONGEST_S))
            _sit(config, graph, home, after_s)
            sittings.append(_sitting(config, after_s, before, _there(home, graph)))
            tell(str(sittings[-1]))
        before = _there(home, graph)
        last = search(config, graph, home)
        sittings.append(_sitting(config, None, before, last))
        tell(str(sittings[-1]))
        whole = search(config, graph, Home(place / "whole"))
    return Kills(
        tuple(sittings),
        len(last.trials),
        [one.settings for one in last.trials] == [one.settings for one in whole.trials],
        [one.values for one in last.trials] == [one.values for one in whole.trials],
        last.best == whole.best,
    )


def _sit(config: Mapping[str, Any], graph: GraphArrays, home: Home, after_s: float) -> None:
    """A search in a process of its own, killed this long after it first spoke."""
    ours, theirs = multiprocessing.Pipe()
    # not a fork: Ray's connections of this process would hang in a copy of it
    fresh = multiprocessing.get_context("spawn")
    process = fresh.Process(target=_speak, args=(config, graph.folder, home, theirs))
    process.start()
    theirs.close()
    try:
        ours.recv()
        time.sleep(after_s)
    except EOFError:
        pass  # it was done before it had anything to say
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def _speak(config: Mapping[str, Any], folder: Path, home: Home, wire: Connection) -> None:
    import_parts("models")
    search(config, GraphArrays.open(folder), home, lambda standing: wire.send(len(standing.result.trials)))


def _there(home: Home, graph: GraphArrays) -> SearchResult | None:
    return next(searches(home.searches(graph.name)), None)


def _sitting(
    config: Mapping[str, Any], after_s: float | None, before: SearchResult | None, after: SearchResult | None
) -> Sitting:
    old = {one.number: one for one in before.trials} if before else {}
    new = {one.number: one for one in after.trials} if after else {}
    return Sitting(
        search=config["name"],
        killed_after_s=None if after_s is None else round(after_s, 2),
        finished_before=len(old),
        finished_after=len(new),
        lost=sum(number not in new for number in old),
        rerun=sum(number in new and new[number].started != one.started for number, one in old.items()),
        resumed=sum(one.from_epoch > 0 for one in new.values()),
    )


def _timed(config: Mapping[str, Any], graph: GraphArrays, home: Home) -> tuple[float, SearchResult]:
    """Seconds from the end of one trial to the end of the next, without what starts and ends the search."""
    ends: list[float] = []
    found = search(config, graph, home, lambda _: ends.append(time.monotonic()))
    return (ends[-1] - ends[0]) / max(len(ends) - 1, 1), found


def _plain(config: Mapping[str, Any], graph: GraphArrays, found: SearchResult) -> float:
    """Seconds a trial, called as a function."""
    settings = fill(SearchConfig, config, "search")
    part, experiment = cut_for(settings, graph).validation, settings.experiment
    started = time.monotonic()
    for one in found.trials:
        told = (one.number, experiment.model, experiment.train, one.settings, ("ndcg@10",), "ndcg@10")
        carry_out(Job(*told), part)
    return (time.monotonic() - started) / len(found.trials)
