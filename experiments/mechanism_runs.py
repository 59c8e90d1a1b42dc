"""What the comparison of mechanisms keeps on disk: small files, written aside and renamed into place."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.result import ResultError, plain


@dataclass(frozen=True)
class ChosenRate:
    """What validation chose for a mechanism, or why nothing."""

    mechanism: str
    rate: float | None = None
    validation: float | None = None
    """Its metric with that rate."""
    epochs: int | None = None
    """Best number of epochs, on validation."""
    fit_s: float | None = None
    tried: Mapping[str, float | None] = field(default_factory=dict)
    """Rate -> metric on validation; None where the trial failed."""
    cut: tuple[float, ...] = ()
    """Rates whose training the time limit ended before its last epoch."""
    error: str = ""
    file: Path | None = field(default=None, compare=False)

    @cached_property
    def values(self) -> np.ndarray:
        """(v,) float64 metric of each validation user."""
        return _arrays(self.file)["values"]


@dataclass(frozen=True)
class SeedRun:
    """One mechanism with one seed, measured on test."""

    mechanism: str
    seed: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Mean over users."""
    fit_s: float | None = None
    """Seconds of training on training and validation."""
    parameters: int | None = None
    """Of the attention alone."""
    error: str = ""
    code_revision: str = ""
    file: Path | None = field(default=None, compare=False)

    @cached_property
    def users(self) -> np.ndarray:
        """(u,) int64 rows of the test users, ascending."""
        return _arrays(self.file)["users"]

    def values(self, metric: str) -> np.ndarray:
        """(u,) float64 of a metric for each test user."""
        return _arrays(self.file)[metric]


class Records:
    """The files of one study in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def chosen(self, name: str) -> ChosenRate:
        """What was chosen for a mechanism."""
        return ChosenRate(**_told(self._rate(name)), file=self._rate(name).with_suffix(".npz"))

    def has_chosen(self, name: str) -> bool:
        """Whether validation has spoken."""
        return self._rate(name).is_file()

    def keep_chosen(self, one: ChosenRate, values: np.ndarray | None) -> None:
        """Writes what was chosen, with (v,) values of the validation users."""
        _write(self._rate(one.mechanism), one, {} if values is None else {"values": values})

    def runs(self, name: str, seeds: Sequence[int]) -> Iterator[SeedRun]:
        """Runs of a mechanism by seed, those that there are."""
        for seed in seeds:
            path = self._run(name, seed)
            if path.is_file():
                yield SeedRun(**_told(path), file=path.with_suffix(".npz"))

    def has_run(self, name: str, seed: int) -> bool:
        """Whether a seed was measured, or failed."""
        return self._run(name, seed).is_file()

    def keep_run(self, one: SeedRun, arrays: Mapping[str, np.ndarray] | None) -> None:
        """Writes a run with its values per user."""
        _write(self._run(one.mechanism, one.seed), one, arrays or {})

    def forget(self, name: str) -> None:
        """Removes all of a mechanism; its next search is another one."""
        if not self.has_chosen(name):
            return
        (self.folder / name / "attempt").write_text(str(self._attempt(name) + 1), encoding="utf-8")
        for path in (self.folder / name).glob("*.*"):
            path.unlink()

    def attempt(self, names: Sequence[str]) -> str:
        """What a search's name ends with: empty unless a mechanism was forgotten before."""
        most = max((self._attempt(name) for name in names), default=0)
        return f"_{most}" if most else ""

    def _attempt(self, name: str) -> int:
        path = self.folder / name / "attempt"
        return int(path.read_text(encoding="utf-8")) if path.is_file() else 0

    def _rate(self, name: str) -> Path:
        return self.folder / name / "rate.json"

    def _run(self, name: str, seed: int) -> Path:
        return self.folder / name / f"seed-{seed}.json"


def _write(path: Path, record: ChosenRate | SeedRun, arrays: Mapping[str, np.ndarray]) -> None:
    """The arrays first, the record last: a record that is there is whole."""
    told = {name: value for name, value in asdict(record).items() if name != "file"}
    aside = path.parent / f".{path.stem}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(aside.with_suffix(".npz"), allow_pickle=False, **arrays)
        aside.with_suffix(".npz").replace(path.with_suffix(".npz"))
        aside.with_suffix(".json").write_text(json.dumps(plain(told), indent=1), encoding="utf-8")
        with aside.with_suffix(".json").open("rb") as file:
            os.fsync(file.fileno())
        aside.with_suffix(".json").replace(path)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise ResultError(
            f"a bench needs a place that can be written, {path.parent} gave {error}: "
            "free space and run it again, it goes on"
        ) from error


def _told(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultError(
            f"{path} must hold a record of the bench, it cannot be read ({error}): "
            "remove it and run the bench again"
        ) from None


def _arrays(path: Path | None) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise ResultError(
            f"{path} must hold values per user, it cannot be read ({error}): run the bench again with --again"
        ) from None
