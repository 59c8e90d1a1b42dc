"""Fits what a version's instant adapters bend: chosen among a few settings on validation, and measured there.

b users asked for · i contents · u users."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.registry import SettingError, fill, import_parts
from experiments.loops import loops
from experiments.replay import ReplayMeasure, blind, replay
from experiments.result import RunResult
from experiments.run import seeded
from experiments.significance import TestConfig, paired
from experiments.splits import Part, Split, SplitConfig, split
from experiments.stream import Stream
from experiments.tuning import fitted, lay_over
from kg.arrays import GraphArrays
from models.head_files import FittedHead, HeadSettings, Shown
from models.instant import InstantConfig
from models.interface import Recommender, Users

Progress = Callable[[str], None]
KEPT_BYTES = 512 * 2**20
"""Scores of the model that are kept, because every setting is asked the same."""
FOLDS = 5
"""Parts of the people of validation: of each is told what the setting adds that is best for the others."""
PEOPLE, FIRST = 200, 100
"""People of whom the spread of the model's scores is taken, drawn by the seed; contents that come first."""


@dataclass(frozen=True)
class AdapterFitConfig:
    """What is fitted, and what is tried on validation: a file in ``configs/adapt/``."""

    name: str = "adapters"
    kind: str = "linear"
    """A registered head."""
    width: int = 64
    """See :class:`models.heads.HeadConfig`."""
    popularity: float = 0.5
    """See :class:`models.following.FollowingConfig`."""
    gap_s: tuple[float, ...] = (60.0, 604_800.0)
    """To try: after how many seconds one content tells little of the next."""
    spreads: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
    """To try with each: what one event is worth, in standard deviations of the model's own scores over the
    contents that come first, so that one list fits every model."""
    instant: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`models.instant.InstantConfig`."""
    measure: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`experiments.replay.ReplayMeasure`; the first metric decides."""
    test: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`TestConfig`."""

    def __post_init__(self) -> None:
        if not (
            self.gap_s and self.spreads and all(0 < one < np.inf for one in (*self.gap_s, *self.spreads))
        ):
            raise SettingError(
                f"adapters are tried with gap_s and spreads, one each or more and above 0, got {self.gap_s} "
                f"and {self.spreads}"
            )
        fill(ReplayMeasure, self.measure, "measure"), fill(TestConfig, self.test, "test")
        self.head(self.gap_s[0], 1.0)

    def tier(self) -> InstantConfig:
        """How events move adapters."""
        settings = {name: tuple(one) if isinstance(one, list) else one for name, one in self.instant.items()}
        return fill(InstantConfig, settings, "instant")

    def head(self, gap_s: float, weight: float) -> HeadSettings:
        """How a head is fitted, with a weight on the scale of the model's scores."""
        return HeadSettings(self.kind, self.width, len(self.tier().fades), weight, gap_s, self.popularity)


@dataclass(frozen=True)
class Tried:
    """One setting, replayed on validation."""

    gap_s: float
    spreads: float
    """What one event is worth, in standard deviations of the model's scores."""
    value: float
    """Mean over people of the metric that decides."""


@dataclass(frozen=True)
class AdapterFit:
    """What is served, and how it was chosen."""

    fitted: FittedHead
    tried: tuple[Tried, ...]
    settings: HeadSettings
    spread: float
    """Standard deviation of the model's scores over what comes first, the median of people."""


def fit_adapters(
    run: RunResult,
    graph: GraphArrays,
    config: AdapterFitConfig | None = None,
    progress: Progress | None = None,
) -> AdapterFit:
    """Chooses settings by replays on validation, then fits the head on all that the version knows.

    The model is fitted anew without what validation holds out. Test is not looked at.

    Args:
        run: whose version it is for.
        graph: the one it ran on.
        config: what is tried.
        progress: told in words what is done now.

    Raises:
        SettingError: validation cannot be kept from the version's model.
        ResultError: the graph is not the run's.

    Cost: one fit of the model, one replay of validation a setting; the model scores each question once where
    its scores fit :data:`KEPT_BYTES`.
    """
    config, say = config or AdapterFitConfig(), progress or (lambda _: None)
    training = run.version_training(graph)
    cut = seeded(split(graph, fill(SplitConfig, run.config.get("split") or {}, "split")), run.seed)
    say("fit the model without validation")
    model = _Remembered(_model_of(run, cut))
    bench = _Bench(cut, model, config)
    spread = _spread(model, cut.validation, run.seed)
    if not spread > 0:
        raise SettingError(
            f"{run.version} scores all contents alike, so that no adapter has a scale: take another version"
        )
    live = bench.replayed(config.head(config.gap_s[0], spread), is_on=False)
    points = list(itertools.product(config.gap_s, config.spreads))
    values, tried = [], []
    for gap_s, share in points:
        values.append(bench.replayed(config.head(gap_s, share * spread)))
        tried.append(Tried(gap_s, share, float(values[-1].mean())))
        say(f"setting {len(tried)}/{len(points)}, {bench.metric} {tried[-1].value:.4f}")
    best = max(tried, key=lambda one: one.value)
    settings, shown = config.head(best.gap_s, best.spreads * spread), bench.shown(np.stack(values), live)
    say("fit the head on all that the version knows")
    fitted = FittedHead(settings.fitted(training), config.tier(), shown)
    return AdapterFit(fitted, tuple(tried), settings, spread)


def _model_of(run: RunResult, cut: Split) -> Recommender:
    """The model of a run, fitted on training alone with the settings that the run chose."""
    import_parts("models")
    if run.model == "adapted" and run.settings.get("version"):
        raise SettingError(
            f"{run.version} was adapted from {run.settings['version']}, which may know what validation "
            "holds out: fit adapters for a version that `mg run` fitted"
        )
    best = max(run.trials, key=lambda trial: trial.value) if run.trials else None
    model = {"name": run.model, **run.settings}
    _, train = lay_over(model, run.config.get("train") or {}, best.settings if best else {})
    epochs = best.epochs if best else None
    return fitted(model, train, cut.validation.training, None, epochs or 1)[0]


def _spread(model: "_Remembered", part: Part, seed: int) -> float:
    """Median over people of the standard deviation of the best :data:`FIRST` scores of what may be shown.

    Lists are decided there; over all contents one model's scores spread by what it does not even consider.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(part.users, min(PEOPLE, len(part.users)), replace=False))
    history = part.history[rows]
    scores = np.array(model.model.score(Users(rows, history, part.times[rows])), np.float64)  # (b, i)
    scores[:, ~part.training.rankable] = -np.inf
    scores[np.repeat(np.arange(len(rows)), np.diff(history.indptr)), history.indices] = -np.inf
    best = -np.sort(-scores, axis=1)[:, :FIRST]
    return float(np.median([row[np.isfinite(row)].std() for row in best if np.isfinite(row).any()] or [0.0]))


class _Bench:
    """Replays adapters on validation over one model."""

    def __init__(self, cut: Split, model: "_Remembered", config: AdapterFitConfig) -> None:
        self._part, self._model, self._config = cut.validation, model, config
        self._stream = Stream.of(cut.validation, cut.config)
        self._measure: ReplayMeasure = fill(ReplayMeasure, config.measure, "measure")
        self._test: TestConfig = fill(TestConfig, config.test, "test")

    @property
    def metric(self) -> str:
        """What decides."""
        return self._measure.metrics[0]

    def replayed(self, head: HeadSettings, is_on: bool = True) -> np.ndarray:
        """(u,) what each person reaches: validation in order, each event ranked before it is learned."""
        named = {name: getattr(head, name) for name in ("width", "weight", "gap_s", "popularity")}
        settings = {**named, "head": head.kind, "instant": _plain(self._config.tier()), "instant_tier": is_on}
        loop = loops.build("instant", settings)
        loop.begin(self._model, blind(self._part))
        return replay(self._stream, loop, self._measure).per_user(self.metric)

    def shown(self, values: np.ndarray, live: np.ndarray) -> Shown:
        """What adapters add above live history, (u,), whichever of the settings, (s, u), would be chosen.

        The best of several settings looks better than it is where it was chosen: so of each person is taken
        what the setting reaches that is best for the people of the other parts.
        """
        fold = np.random.default_rng(self._measure.seed).permutation(len(live)) % FOLDS
        found = np.empty(len(live))
        for part in range(min(FOLDS, len(live))):
            mine = fold == part
            others = values[:, ~mine] if not mine.all() else values
            found[mine] = values[others.mean(axis=1).argmax(), mine]
        tested, warm = paired(found, live, self._test), int(self._part.warm.sum())
        is_enough = warm >= self._test.least_users and tested.p < self._test.level
        return Shown(
            metric=self.metric,
            without=float(live.mean()),
            gain=tested.difference,
            low=tested.low,
            high=tested.high,
            p=tested.p,
            users=tested.users,
            tried=len(values),
            is_better=bool(is_enough and tested.difference > 0),
        )


def _plain(tier: InstantConfig) -> dict[str, Any]:
    return {**vars(tier), "fades": list(tier.fades)}


class _Remembered:
    """A fitted model that keeps its answers while they fit: every setting asks the same questions."""

    def __init__(self, model: Recommender) -> None:
        self.model = model
        self._kept: dict[tuple[bytes, ...], np.ndarray] = {}
        self._bytes = 0

    def score(self, users: Users) -> np.ndarray:
        """(b, i) of the model, to the bit."""
        history = users.history
        question = tuple(one.tobytes() for one in (users.rows, history.indptr, history.indices))
        if question not in self._kept:
            scores = np.asarray(self.model.score(users))
            if self._bytes + scores.nbytes > KEPT_BYTES:
                return scores
            self._kept[question], self._bytes = scores, self._bytes + scores.nbytes
        return self._kept[question]
