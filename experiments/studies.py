"""What a search found, as it lies on disk: one folder a search, its summary rewritten after every trial.

Reads without Ray and Optuna; the study itself, ``study.sqlite3`` beside it, is what a search goes on from."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from experiments.result import plain
from experiments.training import Epoch

FORMAT = 1
FILE = "search.json"
STUDY = "study.sqlite3"
"""SQLite database of Optuna: ``optuna-dashboard sqlite:///FOLDER/study.sqlite3`` shows it."""
STATES = ("complete", "pruned", "failed")


def values_file(folder: Path, number: int) -> Path:
    """Where a trial of a search in ``folder`` keeps each validation user's metric, if it was asked to."""
    return Path(folder) / "values" / f"{number:05d}.npy"


class SearchError(RuntimeError):
    """A search that is not there, is not whole, or that somebody else is running."""


@dataclass(frozen=True)
class SearchTrial:
    """One proposal: what was tried, and what became of it."""

    number: int
    """From 0, in the order in which they were proposed."""
    settings: Mapping[str, Any]
    """Dotted key -> value."""
    values: tuple[float, ...]
    """One an objective, as the search's ``objectives`` stand; empty where it failed or was pruned early."""
    state: str
    """One of ``STATES``."""
    seconds: float
    """On its worker; of one that was broken off, from where it was taken up."""
    error: str = ""
    """Why it failed, empty otherwise."""
    curve: tuple[Epoch, ...] = ()
    """Of a model that is trained."""
    started: str = ""
    """ISO 8601, UTC."""
    epochs: int | None = None
    """Best number of epochs; None for a model in closed form."""
    from_epoch: int = 0
    """Epochs that it took from its checkpoint after it had been broken off; 0 where it ran in one go."""
    node: str = ""
    """Ray's name of the machine that ran it."""


@dataclass(frozen=True)
class SearchResult:
    """All finished trials of a search, and what is best among them."""

    name: str
    graph: str
    graph_hash: str
    split_hash: str
    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    """``max`` or ``min``, one an objective."""
    trials: tuple[SearchTrial, ...]
    """By number."""
    best: tuple[int, ...]
    """Numbers: the best trial, or with several objectives the Pareto front, by number."""
    importances: Mapping[str, float]
    """Dotted key -> part of the variation of the first objective that it explains, largest first."""
    seconds: float
    """Of all sittings together."""
    config: Mapping[str, Any]
    """The search as it was written, its base under ``experiment``."""
    run_id: str | None = None
    """The run that measured the best trial on test; None before that."""
    folder: Path = field(default=Path(), compare=False)

    @property
    def complete(self) -> tuple[SearchTrial, ...]:
        """Trials with a value for every objective."""
        return tuple(trial for trial in self.trials if trial.state == "complete")

    def trial(self, number: int) -> SearchTrial:
        """The trial of a number.

        Raises:
            SearchError: there is none.
        """
        for one in self.trials:
            if one.number == number:
                return one
        raise SearchError(
            f"search {self.name} has no finished trial {number}; there are "
            f"{', '.join(str(one.number) for one in self.trials) or 'none yet'}"
        )

    def summary(self) -> dict[str, Any]:
        """All of it as plain values for JSON; what is no number is None."""
        told = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "folder"}
        told["trials"] = [{**vars(one), "curve": [vars(epoch) for epoch in one.curve]} for one in self.trials]
        return plain(told)

    @classmethod
    def load(cls, folder: Path) -> "SearchResult":
        """The search in a folder, as far as it is.

        Raises:
            SearchError: no search there, or its file is cut off or of another format.
        """
        path = Path(folder) / FILE
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT:
                raise ValueError("it is of another format")
            told["trials"] = tuple(_trial(one) for one in told["trials"])
            for name in ("objectives", "directions", "best"):
                told[name] = tuple(told[name])
            return cls(**told, folder=Path(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchError(
                f"{path} must hold a search, it cannot be read ({error}): run `mg search` again, it goes on"
            ) from None

    def save(self, folder: Path) -> "SearchResult":
        """Writes the summary over the one before; a crash leaves one of the two whole.

        Raises:
            SearchError: the place cannot be written, as on a full disk.
        """
        aside = Path(folder) / f".{FILE}"
        try:
            with aside.open("w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, **self.summary()}, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(Path(folder) / FILE)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise SearchError(
                f"a search needs a place that can be written, {folder} gave {error}: "
                "free space and run it again, it goes on"
            ) from error
        return replace(self, folder=Path(folder))


@dataclass(frozen=True)
class Standing:
    """How far a search is; told after every epoch and every trial."""

    result: SearchResult
    total: int
    """Trials that are to be made."""
    running: Mapping[int, str]
    """Number of a trial under way -> its last epoch in words."""
    left_s: float | None
    """Estimated seconds until all are done; None before the first is."""


def searches(parent: Path) -> Iterator[SearchResult]:
    """All searches in a folder, by name; one that cannot be read is left out."""
    for path in sorted(Path(parent).glob(f"*/{FILE}")):
        try:
            yield SearchResult.load(path.parent)
        except SearchError:
            continue  # `SearchResult.load` of its folder says what is wrong


def pareto_front(trials: tuple[SearchTrial, ...], directions: tuple[str, ...]) -> tuple[int, ...]:
    """Numbers of the complete trials that no other one equals or beats in every objective and beats in one.

    With one objective that is the best trial, the first of equals.

    Example:
        >>> tried = [SearchTrial(n, {}, v, "complete", 0.0) for n, v in enumerate([(1.0, 5.0), (2.0, 5.0)])]
        >>> pareto_front(tuple(tried), ("max", "min"))
        (1,)
    """
    signs = [1 if direction == "max" else -1 for direction in directions]
    points = {
        trial.number: tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))
        for trial in trials
        if trial.state == "complete" and all(math.isfinite(value) for value in trial.values)
    }
    if len(directions) == 1:
        return (max(points, key=lambda number: (points[number], -number)),) if points else ()
    return tuple(
        number
        for number, one in points.items()
        if not any(
            other != one and all(b >= a for a, b in zip(one, other, strict=True)) for other in points.values()
        )
    )


def _trial(told: Mapping[str, Any]) -> SearchTrial:
    curve = tuple(Epoch(**epoch) for epoch in told["curve"])
    values = tuple(math.nan if value is None else value for value in told["values"])
    return SearchTrial(**{**told, "values": values, "curve": curve})
