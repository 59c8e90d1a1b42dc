"""What an experiment found, as it lies on disk: one folder a run, written aside and renamed into place.

``result.json`` holds all that is said of a run, ``per_user.npz`` each user's values and some whole lists."""

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from configs.registry import fill
from experiments.evaluation import Interval
from experiments.splits import SplitConfig, split
from experiments.training import Epoch
from experiments.tuning import Trial
from kg.arrays import GraphArrays
from models.interface import Training

FORMAT = 1
_METRIC, _FLOOR, _GROUP = "metric:", "floor:", "group:"


class ResultError(ValueError):
    """A run that is not there, is not whole, or does not belong to what it was asked for."""


@dataclass(frozen=True)
class RunResult:
    """One experiment: what was run on what, and what came out."""

    run_id: str
    name: str
    """Of the experiment, and of the versions it saves."""
    model: str
    """Registered name of the recommender."""
    config: Mapping[str, Any]
    """As it was given."""
    settings: Mapping[str, Any]
    """Of the model, as chosen on validation."""
    graph: str
    graph_hash: str
    split_name: str
    split_hash: str
    seed: int
    validation: float
    """Value on validation of the chosen settings; what models may be chosen by."""
    metrics: Mapping[str, Interval]
    """Metric -> mean over test users with its interval."""
    lists: Mapping[str, float]
    groups: Mapping[str, Mapping[str, Interval]]
    trials: tuple[Trial, ...]
    curve: tuple[Epoch, ...]
    """Of the chosen trial; empty for a model in closed form."""
    audit: Mapping[str, int]
    """Check of the leakage audit -> how much it looked at."""
    warm_users: int
    unreachable: int
    floor: str
    """Model whose values stand beside these as the bar for a first promotion."""
    version: str
    """``name/number`` in the ModelStore."""
    size_bytes: int
    """Of the version's folder."""
    code_revision: str
    machine: Mapping[str, Any]
    started: str
    seconds: float
    stages: Mapping[str, float]
    """Stage -> seconds."""
    peak_bytes: int
    """Most memory of this process until the run ended."""
    budget_cut: str = ""
    """What the budget left untried of the grid, in a sentence; empty where nothing."""
    search: str = ""
    """Folder name of the search that chose the settings; empty where the run tuned them itself."""
    flat_users: int = 0
    """Test users for whom the model scores all alike: their lists are in the order of rows."""
    folder: Path = field(default=Path(), compare=False)

    @property
    def test_users(self) -> int:
        """How many users were measured."""
        return len(self.users)

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        path = self.folder / "per_user.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise ResultError(
                f"{path} must hold the values per user, it cannot be read ({error}): run the experiment again"
            ) from None

    @property
    def users(self) -> np.ndarray:
        """(u,) int64 rows of the test users, ascending."""
        return self._arrays["users"]

    def values(self, metric: str) -> np.ndarray:
        """(u,) float64 of a metric, a value for every test user.

        Raises:
            ResultError: it was not measured.
        """
        return self._values(_METRIC, metric)

    def floor_values(self, metric: str) -> np.ndarray:
        """(u,) float64 that :attr:`floor` reached on the same users."""
        return self._values(_FLOOR, metric)

    def group_values(self, group: str, metric: str) -> np.ndarray:
        """(u,) float64 of a metric within a group, NaN for test users outside it.

        Raises:
            ResultError: the run kept none.
        """
        return self._values(_GROUP, f"{group}:{metric}")

    def sample(self) -> dict[str, list[str]]:
        """User id -> content ids of the offline ranking, best first, for test users drawn by the seed."""
        users, contents = self._arrays["sample_users"], self._arrays["sample_contents"]
        lists = zip(users.tolist(), contents.tolist(), strict=True)
        return {user: [content for content in row if content] for user, row in lists}

    def version_training(self, graph: GraphArrays) -> Training:
        """What the saved version was fitted on.

        Raises:
            ResultError: ``graph`` is not the one of this run.
        """
        found = split(graph, fill(SplitConfig, self.config.get("split") or {}, "split"))
        if found.hash != self.split_hash:
            raise ResultError(
                f"run {self.run_id} was split from graph {self.graph_hash}, got {graph.hash}: "
                "open that export"
            )
        return replace(found.full, seed=self.seed)

    def summary(self) -> dict[str, Any]:
        """All but the values per user, as plain values for JSON; what is not known is None."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "folder"}
        return plain(told)

    def _values(self, kind: str, metric: str) -> np.ndarray:
        if kind + metric not in self._arrays:
            known = [name[len(kind) :] for name in self._arrays if name.startswith(kind)]
            raise ResultError(f"run {self.run_id} did not measure {metric!r}; it has {', '.join(known)}")
        return self._arrays[kind + metric]

    @classmethod
    def load(cls, folder: Path) -> "RunResult":
        """The run in a folder.

        Raises:
            ResultError: no such run, or its file is cut off or of another format.
        """
        folder = Path(folder)
        path = folder / "result.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT:
                raise ValueError("it is of another format")
            told["metrics"] = _intervals(told["metrics"])
            told["groups"] = {name: _intervals(group) for name, group in told["groups"].items()}
            told["trials"] = tuple(
                Trial(**{**trial, "curve": tuple(Epoch(**epoch) for epoch in trial["curve"])})
                for trial in told["trials"]
            )
            told["curve"] = tuple(Epoch(**epoch) for epoch in told["curve"])
            return cls(**told, folder=folder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(
                f"{path} must hold a run, it cannot be read ({error}): run the experiment again"
            ) from None

    def save(self, parent: Path, arrays: Mapping[str, np.ndarray]) -> "RunResult":
        """Writes the run to ``parent/run_id`` aside, then renames."""
        target, aside = Path(parent) / self.run_id, Path(parent) / f".{self.run_id}"
        aside.mkdir(parents=True, exist_ok=True)
        try:
            np.savez_compressed(aside / "per_user.npz", allow_pickle=False, **arrays)
            text = json.dumps({"format": FORMAT, **self.summary()}, indent=1, allow_nan=False)
            (aside / "result.json").write_text(text, encoding="utf-8")
            for path in aside.iterdir():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise ResultError(
                f"a run needs a place that can be written, {parent} gave {error}: "
                "free space or choose another home"
            ) from error
        return replace(self, folder=target)


def load_runs(parent: Path, run_ids: Sequence[str] = (), split: str | None = None) -> list[RunResult]:
    """Runs by id; without ids the latest run of each experiment on the split that was used last.

    Args:
        parent: folder of the runs.
        run_ids: which; empty means the latest of each experiment.
        split: name of the split to look at, without ids; None means whichever was used last.

    Raises:
        ResultError: an id that is not there, or no such run at all.
    """
    if run_ids:
        for run_id in run_ids:
            if Path(run_id).name != run_id or not (Path(parent) / run_id).is_dir():
                there = ", ".join(run.run_id for run in runs(parent)) or "none yet"
                raise ResultError(f"no run {run_id!r} under {parent}; there are: {there}")
        return [RunResult.load(Path(parent) / run_id) for run_id in run_ids]
    named = (run for run in runs(parent) if split in (None, run.split_name))
    found = sorted(named, key=lambda run: (run.started, run.run_id))
    if not found:
        raise ResultError(
            f"no run{f' on {split}' if split else ''} under {parent} yet: "
            "run an experiment first, as `mg run experiments/ease.yaml`"
        )
    return list({run.name: run for run in found if run.split_hash == found[-1].split_hash}.values())


def runs(parent: Path) -> Iterator[RunResult]:
    """All whole runs in a folder, by id; one that cannot be read is left out."""
    for path in sorted(Path(parent).glob("*/result.json")):
        if not path.parent.name.startswith("."):
            try:
                yield RunResult.load(path.parent)
            except ResultError:
                continue  # `load_runs` with its id says what is wrong


def per_user(
    users: np.ndarray,
    values: Mapping[str, np.ndarray],
    floor: Mapping[str, np.ndarray],
    sample: Mapping[str, Sequence[str]],
    groups: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays that lie beside a result: values of each user, of groups and the floor, some whole lists."""
    within = {
        f"{_GROUP}{group}:{name}": value
        for group, found in (groups or {}).items()
        for name, value in found.items()
    }
    longest = max((len(row) for row in sample.values()), default=0)
    lists = [[*row, *[""] * (longest - len(row))] for row in sample.values()]
    return {
        "users": users,
        **{_METRIC + name: value for name, value in values.items()},
        **{_FLOOR + name: value for name, value in floor.items()},
        **within,
        "sample_users": np.array(list(sample), dtype=np.str_),
        "sample_contents": np.array(lists, dtype=np.str_).reshape(len(lists), longest),
    }


def plain(value: Any) -> Any:
    """Values as JSON knows them; NaN becomes None."""
    if isinstance(value, Interval | Trial | Epoch):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _intervals(told: Mapping[str, Mapping[str, Any]]) -> dict[str, Interval]:
    return {
        name: Interval(**{key: math.nan if one is None else one for key, one in interval.items()})
        for name, interval in told.items()
    }
