"""Loops side by side in one replay: tuned on validation, fitted once a model, compared user by user.

u users · k blocks."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from configs.loading import load
from configs.registry import SettingError, UnknownName, fill, import_parts
from experiments.audit import audit
from experiments.evaluation import Interval, intervals
from experiments.loops import Loop, loops
from experiments.replay import Replayed, ReplayMeasure, blind, replay
from experiments.result import plain
from experiments.run import ExperimentConfig, code_revision, machine, seeded
from experiments.significance import Paired, TestConfig, holm, paired
from experiments.splits import Part, Split, SplitConfig, split
from experiments.stream import Stream
from experiments.tuning import BudgetConfig, Tuning, fitted, tune
from kg.arrays import GraphArrays
from models.interface import Recommender

Progress = Callable[[str], None]
PARTS = ("test", "validation")
TURNS = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, None))
"""How many blocks into a replay somebody is: from, to (None is the end)."""


@dataclass(frozen=True)
class RowConfig:
    """One row of a replay's table."""

    model: str
    """Label of one of the models."""
    loop: str = "live"
    """A registered loop."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the loop."""
    tune: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Setting of the loop -> values to try: all points are replayed on validation, the best is kept."""


@dataclass(frozen=True)
class ReplayConfig:
    """A file in ``configs/replay/``."""

    name: str
    models: Mapping[str, str]
    """Label -> a file of ``configs/experiments/``: its model, tuned on validation by its grid and budget."""
    rows: Mapping[str, Mapping[str, Any]]
    """Name of a row -> settings of :class:`RowConfig`."""
    pairs: tuple[Sequence[str], ...] = ()
    """Rows to compare, each [first, second]; empty compares every row with all above it."""
    part: str = "test"
    """``test`` measures; ``validation`` is what settings may be chosen by."""
    seed: int = 0
    split: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`SplitConfig`, instead of those of the models' files."""
    measure: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`experiments.replay.ReplayMeasure`; loops are chosen by the first metric."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`TestConfig`."""

    def __post_init__(self) -> None:
        import_parts("models")
        if self.part not in PARTS or not self.rows:
            raise SettingError(
                f"a replay has rows and its part is one of {', '.join(PARTS)}, got {len(self.rows)} rows and "
                f"{self.part!r}"
            )
        for what, config in (("split", SplitConfig), ("measure", ReplayMeasure), ("test", TestConfig)):
            fill(config, getattr(self, what), what)
        for name in self.rows:
            self._check_row(name)
        known = {frozenset(pair) for pair in itertools.combinations(self.rows, 2)}
        for pair in self.pairs:
            if len(pair) != 2 or frozenset(pair) not in known:
                raise SettingError(f"pairs are [first, second] of two rows each, got {list(pair)}: name rows")

    def row(self, name: str) -> RowConfig:
        """Settings of a row."""
        return fill(RowConfig, self.rows[name], f"row {name!r} of replay {self.name!r}")

    def experiment(self, label: str) -> ExperimentConfig:
        """What a model is made and tuned by."""
        return fill(ExperimentConfig, load(self.models[label]), f"model {label!r} of replay {self.name!r}")

    def compared(self) -> list[tuple[str, str]]:
        """All pairs of rows that are tested, as first minus second."""
        if self.pairs:
            return [(first, second) for first, second in self.pairs]
        return [(below, above) for above, below in itertools.combinations(self.rows, 2)]

    def _check_row(self, name: str) -> None:
        row = self.row(name)
        if row.model not in self.models:
            raise UnknownName(
                f"row {name!r} asks model {row.model!r}, there are {', '.join(self.models) or 'none'}: "
                "name it under `models`"
            )
        for point in points(row):
            loops.build(row.loop, point)


@dataclass(frozen=True)
class RowResult:
    """What one loop reached."""

    name: str
    model: str
    """Registered name of the recommender."""
    loop: str
    model_settings: Mapping[str, Any]
    """As chosen on validation."""
    settings: Mapping[str, Any]
    """Of the loop, as chosen on validation."""
    tried: int
    """Points of the loop's settings that were replayed on validation; 0 where nothing was to choose."""
    metrics: Mapping[str, Interval]
    """Metric -> mean over users, of each the mean over blocks, with its interval."""
    block_means: Mapping[str, float]
    """Metric -> mean over all blocks, whosever they are."""
    by_turn: tuple[Interval, ...]
    """First metric at each of :data:`TURNS`: mean over users who come so far."""
    score_us: float
    """Microseconds of an answer, asked as the replay does: many people at once where a loop allows it."""
    learn_us: float
    """Microseconds of an event."""
    budget_cut: str = ""
    """What the budget left untried of the model's grid, in a sentence; empty where nothing."""
    said: str = ""
    """What else the loop tells of its replay."""


@dataclass(frozen=True)
class Difference:
    """First row minus second, on the same users, by the first metric."""

    first: str
    second: str
    paired: Paired
    p: float
    """After Holm over all differences of the table."""
    is_better: bool
    """Whether the first is above the second by more than luck."""
    is_worse: bool
    """Whether it is below by more than luck."""


@dataclass(frozen=True)
class ReplayTable:
    """All rows of a replay, and how it was made."""

    name: str
    graph: str
    graph_hash: str
    split_name: str
    split_hash: str
    part: str
    seed: int
    users: int
    warm_users: int
    """With at least one like in the history at the split."""
    events: int
    blocks: int
    same_second: int
    """Users whose first block shares its second with the history: a draw of the split parts them."""
    unreachable: int
    """Events of contents that training does not know: every row misses them."""
    rows: tuple[RowResult, ...]
    differences: tuple[Difference, ...]
    level: float
    least_users: int
    """With fewer warm users nothing is called better."""
    confidence: float
    """Of the rows' intervals."""
    config: Mapping[str, Any]
    code_revision: str
    machine: Mapping[str, Any]
    seconds: float
    values: Mapping[str, np.ndarray] = field(repr=False, default_factory=dict)
    """Row -> (u,) float64 of the first metric, users ascending by row."""

    @property
    def metric(self) -> str:
        """What rows are compared by."""
        return next(iter(self.rows[0].metrics))

    def row(self, name: str) -> RowResult:
        """One row by name."""
        found = next((one for one in self.rows if one.name == name), None)
        if found is None:
            raise UnknownName(f"no row {name!r}; there are {', '.join(one.name for one in self.rows)}")
        return found

    def summary(self) -> dict[str, Any]:
        """All but the values per user, as plain values."""
        told = asdict(self) | {"turns": TURNS, "metric": self.metric}
        del told["values"]
        return plain(told)


def replay_table(
    config: Mapping[str, Any], graph: GraphArrays, progress: Progress | None = None
) -> ReplayTable:
    """Replays every row of a config on a graph.

    Models are tuned on validation as experiments are, fitted on training and validation and asked; loops with
    something to choose are first replayed on validation with the model fitted on training alone.

    Args:
        config: settings of :class:`ReplayConfig`, as :func:`configs.loading.load` gives them.
        graph: whole, as exported.
        progress: told in words what is done now.

    Raises:
        SettingError: a setting that does not fit.
        LeakageError: the split or a loop lets a model see what it is asked for.
    """
    settings, started = fill(ReplayConfig, config, "replay"), time.monotonic()
    cut = split(graph, fill(SplitConfig, settings.split, "split"))
    audit(cut, graph)
    room = _Room(settings, seeded(cut, settings.seed), progress or (lambda _: None))
    found = {name: room.row(name) for name in settings.rows}
    results, test = tuple(result for result, _ in found.values()), fill(TestConfig, settings.test, "test")
    values = {name: replayed.per_user(room.measure.metrics[0]) for name, (_, replayed) in found.items()}
    part, stream = room.part, room.stream(settings.part)
    warm = int(part.warm.sum())
    return ReplayTable(
        settings.name,
        graph.name,
        graph.hash,
        cut.config.name,
        cut.hash,
        settings.part,
        settings.seed,
        len(part.users),
        warm,
        len(stream.events),
        len(stream),
        stream.same_second,
        part.unreachable,
        results,
        _differences(settings.compared(), values, test, warm >= test.least_users),
        test.level,
        test.least_users,
        room.measure.confidence,
        dict(config),
        code_revision(),
        machine(),
        time.monotonic() - started,
        values,
    )


def points(row: RowConfig) -> list[dict[str, Any]]:
    """Settings of a row's loop at each point of its grid; the row's own where nothing is to choose."""
    grid = itertools.product(*row.tune.values())
    return [{**row.settings, **dict(zip(row.tune, one, strict=True))} for one in grid]


class _Room:
    """Fits each model once a part, and replays."""

    def __init__(self, settings: ReplayConfig, cut: Split, say: Progress) -> None:
        self.settings, self.cut, self.say = settings, cut, say
        self.measure: ReplayMeasure = fill(ReplayMeasure, settings.measure, "measure")
        self._tuned: dict[str, Tuning] = {}
        self._models: dict[tuple[str, str], Recommender] = {}
        self._streams: dict[str, Stream] = {}

    @property
    def part(self) -> Part:
        return getattr(self.cut, self.settings.part)

    def stream(self, part: str) -> Stream:
        if part not in self._streams:
            self._streams[part] = Stream.of(getattr(self.cut, part), self.cut.config)
        return self._streams[part]

    def row(self, name: str) -> tuple[RowResult, Replayed]:
        row = self.settings.row(name)
        tried = points(row)
        best = tried[0] if len(tried) == 1 else self._chosen(name, row, tried)
        self.say(f"{name}: {self.settings.part}")
        found, loop = self._replayed(row, best, self.settings.part)
        model = dict(self.tuned(row.model).model)
        result = RowResult(
            name,
            model.pop("name"),
            row.loop,
            model,
            best,
            len(tried) if len(tried) > 1 else 0,
            found.summary,
            {metric: float(values.mean()) for metric, values in found.values.items()},
            _by_turn(found, self.stream(self.settings.part)),
            1e6 * found.score_s / len(found.block_users),
            1e6 * found.learn_s / len(self.stream(self.settings.part).events),
            self.tuned(row.model).cut,
            loop.said(),
        )
        return result, found

    def tuned(self, label: str) -> Tuning:
        """The settings of a model, chosen on validation."""
        if label not in self._tuned:
            self.say(f"tune {label}")
            one = self.settings.experiment(label)
            budget = fill(BudgetConfig, one.budget, "budget")
            self._tuned[label] = tune(one.model, one.train, one.tune, self.cut, budget)
        return self._tuned[label]

    def _model(self, label: str, part: str) -> Recommender:
        if (label, part) not in self._models:
            tuning = self.tuned(label)
            self.say(f"fit {label} for {part}")
            training = getattr(self.cut, part).training
            model, _, _ = fitted(tuning.model, tuning.train, training, None, tuning.best.epochs or 1)
            self._models[label, part] = model
        return self._models[label, part]

    def _chosen(self, name: str, row: RowConfig, tried: list[dict[str, Any]]) -> dict[str, Any]:
        values = []
        for place, point in enumerate(tried, 1):
            found, _ = self._replayed(row, point, "validation")
            values.append(found.summary[self.measure.metrics[0]].value)
            self.say(f"{name}: point {place}/{len(tried)}, {self.measure.metrics[0]} {values[-1]:.4f}")
        return tried[int(np.argmax(values))]

    def _replayed(self, row: RowConfig, settings: Mapping[str, Any], part: str) -> tuple[Replayed, Loop]:
        loop: Loop = loops.build(row.loop, settings)
        loop.begin(self._model(row.model, part), blind(getattr(self.cut, part)))
        return replay(self.stream(part), loop, self.measure), loop


def _by_turn(found: Replayed, stream: Stream) -> tuple[Interval, ...]:
    """First metric by how far into the replay: of each user the mean over those blocks."""
    metric, told = found.measure.metrics[0], []
    for least, most in TURNS:
        turn = stream.turns + 1
        inside = (turn >= least) & (turn <= (most or turn.max()))
        _, place = np.unique(stream.users[inside], return_inverse=True)
        mean = np.bincount(place, found.values[metric][inside]) / np.bincount(place)
        told.append(intervals({metric: mean}, found.measure.intervals())[metric])
    return tuple(told)


def _differences(
    pairs: Sequence[tuple[str, str]], values: Mapping[str, np.ndarray], config: TestConfig, is_enough: bool
) -> tuple[Difference, ...]:
    found = [paired(values[first], values[second], config) for first, second in pairs]
    told = []
    for (first, second), one, p in zip(pairs, found, holm([one.p for one in found]), strict=True):
        is_shown = is_enough and p < config.level
        better, worse = is_shown and one.difference > 0, is_shown and one.difference < 0
        told.append(Difference(first, second, one, p, better, worse))
    return tuple(told)
