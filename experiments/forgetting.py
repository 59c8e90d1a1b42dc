"""Forgetting curves: a model meets one window of time after another; what is left of what it knew before?

u people of a test · w windows."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from configs.registry import SettingError, fill, import_parts
from experiments.evaluation import EvaluationConfig, Interval, intervals, per_user_of
from experiments.learners import Beginning, Learner, learners, made_of
from experiments.run import code_revision, machine
from experiments.significance import Paired, TestConfig, holm, paired
from experiments.training import FitConfig, fit
from experiments.windows import CHOOSE, TEST, Windows, windows
from kg.arrays import GraphArrays
from models.interface import Trainable, recommenders

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ForgettingConfig:
    """A file in ``configs/forgetting/``."""

    name: str
    model: Mapping[str, Any]
    """``name`` of a trained model that reads histories, and its settings."""
    methods: Mapping[str, Mapping[str, Any]]
    """Name in the table -> ``way`` (registered), its settings, ``grid`` of setting -> values to choose from,
    and ``like``: the method whose chosen settings it begins with."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`FitConfig` for the first window; its epochs are chosen on validation."""
    windows: int = 6
    """Consecutive windows of time with about equally many likes, 2 or more."""
    plain: str = "fine-tuning"
    """The method that the newest window is compared with."""
    seeds: tuple[int, ...] = (0,)
    """Of the measured streams; values of a person are means over them. Settings are chosen with the first."""
    positive_rating: float = 8.0
    """Ratings from here on are likes, on the scale 0 to 10."""
    metric: str = "ndcg@10"
    """What is measured, and chosen by."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`TestConfig`."""
    measure: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`EvaluationConfig` for intervals."""

    def __post_init__(self) -> None:
        import_parts("models")
        if self.windows < 2 or not self.seeds or self.plain not in self.methods:
            raise SettingError(
                f"forgetting needs windows of 2 or more, a seed and a method called {self.plain!r}, got "
                f"{self.windows}, {self.seeds} and {', '.join(self.methods)}"
            )
        model = dict(self.model)
        kind = recommenders[model.pop("name", "")]
        if not getattr(kind, "reads_history", False) or not issubclass(kind, Trainable):
            raise SettingError(
                f"forgetting needs a trained model that reads each history anew, got {kind.__name__}: "
                "choose sasrec"
            )
        fill(FitConfig, self.train, "train")
        before: list[str] = []
        for name, told in self.methods.items():
            if told.get("like") not in (None, *before):
                raise SettingError(f"method {name!r} can be like one above it, got {told['like']!r}")
            before.append(name)
            _made(name, told, {})
        fill(TestConfig, self.test, "test")
        fill(EvaluationConfig, self.measure, "measure")


@dataclass(frozen=True)
class Method:
    """What became of one way to learn on."""

    name: str
    way: str
    settings: Mapping[str, Any]
    """As chosen on validation."""
    tried: int
    """Points of its grid."""
    chosen_by: float
    """Mean over windows of the metric on validation after the last of them."""
    curve: tuple[tuple[Interval, ...], ...]
    """After window w (row) on the test of window v <= w."""
    last: tuple[np.ndarray, ...] = field(repr=False)
    """Of each window's test (u,) values after the last window."""
    seconds: float = 0.0
    """To learn all windows after the first, mean over seeds."""
    parameters: int = 0
    kept_bytes: int = 0

    @property
    def kept(self) -> float:
        """Share of the first window's quality that is left after the last."""
        return self.curve[-1][0].value / self.curve[0][0].value


@dataclass(frozen=True)
class Compared:
    """One method against plain fine-tuning after the last window, on the same people."""

    name: str
    window: int
    """From 1."""
    paired: Paired
    p: float
    """After Holm over all differences of the table."""


@dataclass(frozen=True)
class Forgetting:
    """A whole study."""

    config: ForgettingConfig
    graph: str
    graph_hash: str
    methods: tuple[Method, ...]
    compared: tuple[Compared, ...]
    starts: tuple[int, ...]
    """UTC seconds at which each window begins."""
    likes: tuple[int, ...]
    people: tuple[int, ...]
    """Of each window's test."""
    returning: tuple[int, ...]
    """Of them, who liked something in an earlier window."""
    epochs: int
    """Of the model of the first window, chosen on validation."""
    seconds: float
    code_revision: str
    machine: Mapping[str, Any]

    def method(self, name: str) -> Method:
        """One of them by name."""
        return next(one for one in self.methods if one.name == name)

    def newest(self, name: str) -> float:
        """Value on the newest window over that of plain fine-tuning, less 1."""
        ours, plain = (self.method(one).curve[-1][-1].value for one in (name, self.config.plain))
        return ours / plain - 1


def forgetting(config: Mapping[str, Any], graph: GraphArrays, progress: Progress | None = None) -> Forgetting:
    """Runs every method over all windows: settings on validation parts, then tests measured once.

    Args:
        config: settings of :class:`ForgettingConfig`.
        graph: whole, as exported.
        progress: told in words what is done now.
    """
    settings, started = fill(ForgettingConfig, config, "forgetting"), time.monotonic()
    study = _Study(settings, graph, progress or (lambda _: None))
    chosen: dict[str, tuple[dict[str, Any], float, int]] = {}
    for name in settings.methods:
        chosen[name] = study.choose(name, chosen)
    methods = tuple(study.measured(name, *chosen[name]) for name in settings.methods)
    cut = study.cut(TEST, settings.seeds[0])
    every = range(cut.count)
    return Forgetting(
        settings,
        graph.name,
        graph.hash,
        methods,
        _compared(methods, settings),
        tuple(cut.starts),
        tuple(int((cut.window == number).sum()) for number in every),
        tuple(len(cut.asked(number).users) for number in every),
        tuple(cut.returning(number) for number in every),
        study.epochs,
        time.monotonic() - started,
        code_revision(),
        machine(),
    )


class _Study:
    """What all methods share: windows, their tests, and the model of the first window."""

    def __init__(self, settings: ForgettingConfig, graph: GraphArrays, say: Progress) -> None:
        self.settings, self.graph, self.say = settings, graph, say
        self._cuts: dict[tuple[int, int], Windows] = {}
        self._asked: dict[tuple[int, int], list[Any]] = {}
        self._begun: dict[tuple[int, int], Beginning] = {}
        self.epochs = 0

    def cut(self, held: int, seed: int) -> Windows:
        """The windows; the seed is that of training, ties of time are broken by the first one."""
        if (held, seed) not in self._cuts:
            told = self.settings
            found = windows(self.graph, told.windows, told.positive_rating, told.seeds[0], held)
            self._cuts[held, seed] = Windows(self.graph, found.likes, found.window, found.part, held, seed)
            self._asked[held, seed] = [found.asked(number) for number in range(found.count)]
        return self._cuts[held, seed]

    def begin(self, held: int, seed: int) -> Beginning:
        """The model of the first window: epochs by its validation part, then as many."""
        cut = self.cut(held, seed)
        if (held, seed) not in self._begun:
            told, training = self.settings, cut.training(0)
            config = fill(FitConfig, told.train, "train")
            model = made_of(told.model)
            if held == CHOOSE and not self.epochs:
                self.epochs = fit(model, training, self._asked[held, seed][0], config).best_epoch
                self.say(f"first window: {self.epochs} epochs by validation")
            else:
                fit(model, training, None, _exactly(config, self.epochs))
            self._begun[held, seed] = Beginning(told.model, model, self.epochs, told.train, training)
        return self._begun[held, seed]

    def choose(self, name: str, before: Mapping[str, tuple[dict[str, Any], float, int]]) -> Any:
        """Settings of a method, their value on validation, and how many were tried."""
        told = dict(self.settings.methods[name])
        grid, like = told.get("grid", {}), told.get("like")
        ground = dict(before[like][0]) if like else {}
        best: tuple[dict[str, Any], float] | None = None
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        for point in points:
            learner = _made(name, told, {**ground, **_own(told), **point})
            values = self._stream(learner, CHOOSE, self.settings.seeds[0])[-1]
            value = float(np.mean([np.nanmean(one) for one in values]))
            self.say(f"{name} {point or ''}: {value:.4f} over all windows on validation")
            if best is None or value > best[1]:
                best = {**ground, **_own(told), **point}, value
        return *best, len(points)

    def measured(self, name: str, settings: Mapping[str, Any], value: float, tried: int) -> Method:
        """A method with the settings chosen, measured on the tests."""
        told, streams, made = self.settings.methods[name], [], []
        for seed in self.settings.seeds:
            learner = _made(name, told, settings)
            streams.append(self._stream(learner, TEST, seed))
            made.append(learner)
        self.say(f"{name}: measured with {len(made)} seeds")
        means = [
            [np.mean([stream[row][column] for stream in streams], axis=0) for column in range(row + 1)]
            for row in range(len(streams[0]))
        ]
        config, metric = fill(EvaluationConfig, self.settings.measure, "measure"), self.settings.metric
        curve = tuple(tuple(intervals({metric: values}, config)[metric] for values in row) for row in means)
        return Method(
            name,
            told["way"],
            asdict(made[0].config),
            tried,
            value,
            curve,
            tuple(means[-1]),
            float(np.mean([one.seconds for one in made])),
            made[0].parameters,
            made[0].kept_bytes,
        )

    def _stream(self, learner: Learner, held: int, seed: int) -> list[list[np.ndarray]]:
        """After each window the values of (u,) people of its test and of all before."""
        beginning, cut = self.begin(held, seed), self.cut(held, seed)
        asked, metric = self._asked[held, seed], self.settings.metric
        learner.begin(beginning)
        rows = [[per_user_of(learner.model, asked[0], metric)]]
        for number in range(1, cut.count):
            training = cut.training(number)
            is_new = training.times.tocsr().data >= cut.starts[number]
            model = learner.meet(training, is_new, cut.starts[number])
            rows.append([per_user_of(model, one, metric) for one in asked[: number + 1]])
        return rows


def _own(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in ("way", "grid", "like")}


def _made(name: str, told: Mapping[str, Any], settings: Mapping[str, Any]) -> Learner:
    """A learner with these settings; those of the file alone where none are given."""
    if "way" not in told or not isinstance(told.get("grid", {}), Mapping):
        raise SettingError(f"method {name!r} needs its way and a grid of setting -> values, got {dict(told)}")
    first = {key: values[0] for key, values in told.get("grid", {}).items()}
    return learners.build(told["way"], {**_own(told), **first, **settings})


def _exactly(config: FitConfig, epochs: int) -> FitConfig:
    return FitConfig(**{**asdict(config), "epochs": max(epochs, 1), "seconds": None})


def _compared(methods: Sequence[Method], settings: ForgettingConfig) -> tuple[Compared, ...]:
    """First and newest window after the last, each method against plain fine-tuning."""
    test = fill(TestConfig, settings.test, "test")
    plain = next(one for one in methods if one.name == settings.plain)
    found = [
        (one.name, place % settings.windows + 1, paired(one.last[place], plain.last[place], test))
        for one in methods
        if one is not plain
        for place in (0, -1)
    ]
    corrected = holm([one.p for _, _, one in found]) if found else []
    return tuple(Compared(*one, p) for one, p in zip(found, corrected, strict=True))
