"""The table of all attention mechanisms: quality by task, cost by length, as it lies in ``attention.json``.

``attention.json`` is one object: ``format`` (1), the fields of :class:`Table`, and in ``rows`` one object a
mechanism with the fields of :class:`Row`; ``qualities`` maps a task to the fields of :class:`Quality`, whose
``to`` maps a reference to the fields of :class:`Against`; ``costs`` lists those of :class:`Cost`. What is not
known is null. :meth:`Table.load` reads it back."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation import Interval
from experiments.result import ResultError, plain
from experiments.significance import Paired

FORMAT = 1
FILE = "attention.json"
REFERENCES = ("multi_head", "mean")
"""Mechanisms that every other is tested against, where they were measured."""
LEAST_K = 1024
"""Slopes are taken from here on: below it, what is paid once covers what grows."""


@dataclass(frozen=True)
class Cost:
    """Time and memory at one length: q = k, a batch of one, one head, one thread, float32."""

    k: int
    forward_s: float | None = None
    """Median seconds of a pass."""
    train_s: float | None = None
    """Median seconds of a pass with its gradient."""
    forward_bytes: int | None = None
    """Most memory of a pass, beyond the process with its inputs."""
    train_bytes: int | None = None
    """Most memory of a pass with its gradient."""
    repetitions: int = 0
    """Passes that the median is of."""
    ended: str = ""
    """``memory`` or ``time`` where it went past the limit, an error in words, empty where it fitted."""
    stage: str = ""
    """Where it ended: ``forward`` or ``train``."""


@dataclass(frozen=True)
class Against:
    """A mechanism minus a reference on the same users, each user by the mean over seeds."""

    paired: Paired
    p: float
    """After Holm's correction over all differences of the task."""


@dataclass(frozen=True)
class Quality:
    """One mechanism on one task."""

    value: Interval | None = None
    """Mean over users of each user's mean over seeds, with its interval over users."""
    seed_values: tuple[float, ...] = ()
    """Mean over users, one a seed."""
    sd: float | None = None
    """Of the seeds' means; None for a single one."""
    validation: float | None = None
    rate: float | None = None
    """Learning rate, chosen on validation."""
    epochs: int | None = None
    cut: tuple[float, ...] = ()
    """Rates whose training the time limit ended before its last epoch: they are not judged at their best."""
    fit_s: float | None = None
    """Seconds of one training, mean over seeds."""
    parameters: int | None = None
    """Of the attention alone."""
    to: Mapping[str, Against] = field(default_factory=dict)
    """Reference -> difference; not to itself."""
    error: str = ""
    """Why there is no value; empty where there is one."""


@dataclass(frozen=True)
class Row:
    """One mechanism."""

    name: str
    family: str
    nature: str
    qualities: Mapping[str, Quality] = field(default_factory=dict)
    """Task -> what was measured."""
    costs: tuple[Cost, ...] = ()
    """By k."""

    def cost(self, k: int) -> Cost | None:
        """What was measured at a length."""
        return next((one for one in self.costs if one.k == k), None)

    @property
    def largest_k(self) -> int | None:
        """The largest length at which a pass with its gradient fitted time and memory."""
        return max((one.k for one in self.costs if not one.ended), default=None)

    def slope(self, what: str) -> float | None:
        """Growth of a field of :class:`Cost`, ``train_s`` say, see :func:`slope`."""
        points = [(one.k, getattr(one, what)) for one in self.costs if one.k >= LEAST_K and not one.ended]
        return slope([point for point in points if point[1]])


@dataclass(frozen=True)
class TaskNote:
    """How a task was run."""

    split_hash: str
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    model: Mapping[str, Any]
    train: Mapping[str, Any]
    users: int
    code_revisions: tuple[str, ...] = ()
    """Of the runs; several where some were made before the code changed."""


@dataclass(frozen=True)
class Table:
    """All mechanisms."""

    title: str
    """Says what was cut, where something was."""
    graph: str
    graph_hash: str
    metric: str
    tasks: Mapping[str, TaskNote]
    rows: tuple[Row, ...]
    """By name."""
    command: str
    code_revision: str
    machine: Mapping[str, Any]
    made: str
    """ISO 8601, UTC."""
    simulated: str = ""
    """A sentence where data is made up."""
    level: float = 0.01
    """What p must stay below, after Holm, for a difference to be called one."""

    def row(self, name: str) -> Row:
        """One mechanism.

        Raises:
            ResultError: it is not in the table.
        """
        found = next((one for one in self.rows if one.name == name), None)
        if found is None:
            raise ResultError(
                f"no mechanism {name!r} in the table; there are {', '.join(one.name for one in self.rows)}"
            )
        return found

    def best(self, task: str) -> list[Row]:
        """Rows with a value on a task, best on validation first; equals by name."""
        known = [row for row in self.rows if task in row.qualities and row.qualities[task].value is not None]
        return sorted(known, key=lambda row: (-(row.qualities[task].validation or 0.0), row.name))

    def shortlist(self, task: str, best: int = 8, cheapest: int = 3) -> tuple[str, ...]:
        """What is worth a larger graph: the best on validation, the cheapest, and the two references."""
        names = [row.name for row in self.best(task)[:best]]
        names += [row.name for row in self.cheapest(task)[:cheapest]]
        names += [name for name in REFERENCES if any(row.name == name for row in self.rows)]
        return tuple(dict.fromkeys(names))

    def cheapest(self, task: str) -> list[Row]:
        """Rows with a value on a task, the shortest training first."""
        return sorted(self.best(task), key=lambda row: (row.qualities[task].fit_s or math.inf, row.name))

    def summary(self) -> dict[str, Any]:
        """All of it as plain values; what is no number is None."""
        return plain({"format": FORMAT, **asdict(self)})

    def save(self, folder: Path) -> Path:
        """Writes ``attention.json`` into a folder, over the one before."""
        path, aside = Path(folder) / FILE, Path(folder) / f".{FILE}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_text(json.dumps(self.summary(), indent=1, allow_nan=False), encoding="utf-8")
            aside.replace(path)
        except OSError as error:
            raise ResultError(
                f"a table needs a folder that can be written, {folder} gave {error}: "
                "choose another with --out"
            ) from error
        return path

    @classmethod
    def load(cls, path: Path) -> "Table":
        """The table in a file, or in ``attention.json`` of a folder.

        Raises:
            ResultError: there is none, or it is spoilt or of another format.
        """
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT:
                raise ValueError("it is of another format")
            told["rows"] = tuple(_row(one) for one in told["rows"])
            told["tasks"] = {name: _note(one) for name, one in told["tasks"].items()}
            return cls(**told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(
                f"{path} must hold the table of mechanisms, it cannot be read ({error}): "
                "run `mg bench attention`"
            ) from None


def merged(new: Table, old: Table | None) -> Table:
    """A table with what an older one of the same graph knows besides; not of a task run otherwise since."""
    if old is None or (old.graph, old.graph_hash, old.title) != (new.graph, new.graph_hash, new.title):
        return new
    alike = {task for task, one in old.tasks.items() if _settings(one) == _settings(new.tasks.get(task, one))}
    rows = {}
    for past in old.rows:
        known = {task: one for task, one in past.qualities.items() if task in alike}
        if known or past.costs:
            rows[past.name] = replace(past, qualities=known)
    for row in new.rows:
        past = rows.get(row.name, row)
        qualities, costs = {**past.qualities, **row.qualities}, row.costs or past.costs
        rows[row.name] = replace(row, qualities=qualities, costs=costs)
    return replace(new, tasks={**old.tasks, **new.tasks}, rows=tuple(rows[name] for name in sorted(rows)))


def _settings(note: TaskNote) -> Any:
    """What two runs must share to stand in one table."""
    return plain(asdict(replace(note, users=0, code_revisions=())))


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope of log value over log k: 1 grows with k, 2 with its square; None below two points.

    Example:
        >>> round(slope([(1024, 3.0), (4096, 48.0), (16384, 768.0)]), 6)
        2.0
    """
    if len(points) < 2:
        return None
    x, y = (np.log([float(point[place]) for point in points]) for place in (0, 1))
    return float(np.polyfit(x, y, 1)[0])


def _row(told: Mapping[str, Any]) -> Row:
    qualities = {task: _quality(one) for task, one in told["qualities"].items()}
    costs = tuple(Cost(**one) for one in told["costs"])
    return Row(**{**told, "qualities": qualities, "costs": costs})


def _quality(told: Mapping[str, Any]) -> Quality:
    value = None if told["value"] is None else Interval(**told["value"])
    to = {name: Against(Paired(**one["paired"]), one["p"]) for name, one in told["to"].items()}
    tuples = {name: tuple(told.get(name, ())) for name in ("seed_values", "cut")}
    return Quality(**{**told, "value": value, "to": to, **tuples})


def _note(told: Mapping[str, Any]) -> TaskNote:
    tuples = {name: tuple(told[name]) for name in ("seeds", "rates", "code_revisions")}
    return TaskNote(**{**told, **tuples})
