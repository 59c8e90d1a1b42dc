"""What each step of ranking costs and brings: a saved model's best candidates, taken through steps or not.

u users · c candidates of a user, best first · i contents."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig, Interval, Report, evaluate
from experiments.lists import rank
from experiments.saved import Listed, Saved
from experiments.significance import Paired, holm, paired
from experiments.splits import Part
from experiments.watchable import Watchable, watchable
from kg.arrays import GraphArrays
from kg.rights import trust_table
from kg.trust import LEAST_TRUST, latest
from models.evening import Evening, runtime_fit
from models.interface import Recommender, Users
from models.pipeline import Situation, StepsConfig, apply
from models.ranking import genres_of
from models.steps import taste_of

Progress = Callable[[str], None]
METRICS = ("ndcg@10", "recall@10", "diversity@10", "miscalibration@10")
COVERAGE = "coverage@10"
NONE = StepsConfig(availability=False)
ALONE: Mapping[str, StepsConfig] = {
    "none": NONE,
    "availability": StepsConfig(),
    "trusted": replace(NONE, least_trust=LEAST_TRUST),
    "trust": replace(NONE, trust=0.2),
    "context": replace(NONE, context=0.2),
    "expiring": replace(NONE, expiring=0.1),
    "calibration": replace(NONE, calibration=0.5),
    "diversity mmr": replace(NONE, diversity="mmr"),
    "diversity dpp": replace(NONE, diversity="dpp"),
    "caps": replace(NONE, most_of_genre=3, most_of_platform=5),
}
"""Each step alone. The strengths are where a service would start, not tuned."""
_ALL = StepsConfig(
    availability=False,
    trust=0.2,
    context=0.2,
    expiring=0.1,
    calibration=0.5,
    diversity="mmr",
    most_of_genre=3,
    most_of_platform=5,
)
VARIANTS: Mapping[str, StepsConfig] = {
    **ALONE,
    "all but availability": _ALL,
    "all": replace(_ALL, availability=True),
}


@dataclass(frozen=True)
class StepsMeasure:
    """How steps are measured."""

    candidates: int = 100
    """Best contents of each user that steps may order, at least 10."""
    n: int = 10
    """Length of a list."""
    minutes: float = 100.0
    """What everybody has tonight, for the step by context; above 0."""
    region: str = ""
    """Where everybody watches, an ISO code; '' is each user's own, else the one with most contents."""

    def __post_init__(self) -> None:
        if not self.candidates >= self.n >= 10 or not self.minutes > 0:
            raise SettingError(
                "steps are measured with candidates >= n >= 10 and minutes above 0, got "
                f"{self.candidates}, {self.n} and {self.minutes}"
            )


@dataclass(frozen=True)
class Variant:
    """What the lists are like after some steps."""

    name: str
    summary: Mapping[str, Interval]
    coverage: float
    changed: float
    """Mean share of the first ten that were not among the first ten without steps."""
    against_none: Mapping[str, Paired]
    """Metric -> this minus none, user by user; empty for none itself."""
    p: float | None
    """Of the difference in NDCG@10, after Holm over all variants; None for none itself."""


@dataclass(frozen=True)
class StepsReport:
    """The table of :func:`measure_steps`."""

    run_id: str
    model: str
    graph: str
    split_name: str
    split_hash: str
    users: int
    variants: tuple[Variant, ...]
    unknown: Mapping[str, str]
    """Step -> what the graph does not tell, so that the step moves nothing."""
    simulated: tuple[str, ...]
    """Fact types of the graph, read here, that are made up."""

    def summary(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


def measure_steps(
    saved: Saved, config: StepsMeasure | None = None, progress: Progress | None = None
) -> StepsReport:
    """Measures the steps of :data:`VARIANTS` on the test users of a saved run.

    Every variant gets the same candidates with the same scores; what differs is the steps alone.

    Args:
        saved: the run, opened.
        config: how.
        progress: told in words what is done now.
    """
    config, say = config or StepsMeasure(), progress or (lambda _: None)
    part = saved.split.test
    say("candidates")
    pool = candidates_of(saved.model, part, config.candidates)
    known = _Known(part, config)
    reports = {}
    for name, steps in VARIANTS.items():
        say(name)
        lists = _lists(pool, steps, known, config.n)
        if steps.least_trust and (short := np.count_nonzero((lists < 0).any(axis=1))):
            known.unknown[name] = f"too little that is trusted ({short} of {len(lists)} lists would be short)"
            lists = _lists(pool, NONE, known, config.n)
        reports[name] = _measured(part, lists)
    return _report(saved, reports, known)


def candidates_of(model: Recommender, part: Part, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(u, n) content rows, best first, -1 where fewer are left, and (u, n) float64 their scores."""
    rows = rank(model, part.asked, part.users, n)
    scores = np.full(rows.shape, -np.inf)
    for start in range(0, len(rows), 64):
        block = slice(start, min(start + 64, len(rows)))
        who = part.users[block]
        found = model.score(Users(who, part.history[who], part.times[who]))
        at = np.maximum(rows[block], 0)
        scores[block] = np.where(rows[block] >= 0, np.take_along_axis(found, at, axis=1), -np.inf)
    return rows, scores


class _Known:
    """What the graph tells of contents, users and the moment, for :class:`models.pipeline.Situation`."""

    def __init__(self, part: Part, config: StepsMeasure) -> None:
        self.part, self.config = part, config
        self.graph: GraphArrays = part.training.graph if part.whole is None else part.whole
        self.genres = genres_of(part.training.graph)
        table = trust_table(self.graph, latest(self.graph))
        told = self.graph.numbers("Content", "trust")  # what the graph itself says goes before what we count
        self.trust = np.where(np.isnan(told), table.values(), told)
        self.offered = table.availability if self.graph.fact_count("AVAILABLE") else None
        self.fit = runtime_fit(self.graph.numbers("Content", "runtime_minutes"), Evening(config.minutes))
        self.unknown = {
            step: why
            for step, why, is_known in (
                ("availability", "no offer", self.watched is not None),
                ("expiring", "no offer", self.watched is not None),
                ("trust", "trust of no content", not np.isnan(self.trust).all()),
                ("context", "runtime of no content", not np.isnan(self.fit).all()),
            )
            if not is_known
        }

    @cached_property
    def watched(self) -> Watchable | None:
        if not self.graph.fact_count("AVAILABLE"):
            return None
        return watchable(self.graph, self.part.users, self.config.region)

    @cached_property
    def ends_ts(self) -> np.ndarray | None:
        """(i,) last end of all windows that hold at the moment, of whatever region."""
        if self.watched is None:
            return None
        contents = self.graph.incidence("AVAILABLE", "content")[1]
        starts, ends = self.graph.starts("AVAILABLE"), self.graph.ends("AVAILABLE")
        holds = (starts <= self.watched.moment) & (self.watched.moment < ends)
        last = np.full(self.graph.size("Content"), np.iinfo(np.int64).min)
        np.maximum.at(last, contents[holds], ends[holds])
        return last

    @cached_property
    def platforms(self) -> sp.csr_array | None:
        """(i, p) platforms that have a content at the moment, in whatever region."""
        if self.watched is None:
            return None
        contents = self.graph.incidence("AVAILABLE", "content")[1]
        platforms = self.graph.incidence("AVAILABLE", "platform")[1]
        starts, ends = self.graph.starts("AVAILABLE"), self.graph.ends("AVAILABLE")
        holds = (starts <= self.watched.moment) & (self.watched.moment < ends)
        shape = (self.graph.size("Content"), self.graph.size("Platform"))
        found = sp.csr_array((np.ones(holds.sum()), (contents[holds], platforms[holds])), shape=shape)
        found.sum_duplicates()
        return found

    def situations(self) -> Iterator[Situation]:
        """One for each test user."""
        history = self.part.history
        for place, user in enumerate(self.part.users):
            liked = history.indices[history.indptr[user] : history.indptr[user + 1]]
            yield Situation(
                self.genres,
                None if self.watched is None else self.watched.masks[self.watched.of_user[place]],
                self.trust,
                self.fit,
                self.ends_ts,
                0 if self.watched is None else self.watched.moment,
                taste_of(liked, self.genres),
                self.platforms,
                self.offered,
            )


def _lists(pool: tuple[np.ndarray, np.ndarray], steps: StepsConfig, known: _Known, n: int) -> np.ndarray:
    """(u, n) content rows after the steps, -1 where fewer are left."""
    found = np.full((len(pool[0]), n), -1, np.int64)
    for place, situation in enumerate(known.situations()):
        there = pool[0][place] >= 0
        rows, scores = pool[0][place][there], pool[1][place][there]
        taken = apply(rows, scores, steps, situation, n)
        best = (taken[-1].rows if taken else rows)[:n]
        found[place, : len(best)] = best
    return found


def _measured(part: Part, lists: np.ndarray) -> Report:
    short = np.count_nonzero((lists < 0).any(axis=1))
    if short:  # what nobody listed would fill them
        raise SettingError(
            f"steps left {short} of {len(lists)} users fewer than {lists.shape[1]} contents: "
            "take more candidates"
        )
    model = Listed(part.users, lists, part.history.shape[1])
    config = EvaluationConfig(metrics=METRICS, list_metrics=(COVERAGE,), regions=0, platforms=0)
    return evaluate(model, part, config)


def _report(saved: Saved, reports: Mapping[str, Report], known: _Known) -> StepsReport:
    first = reports["none"]
    others = [name for name in reports if name != "none"]
    against = {
        name: {metric: paired(reports[name].values[metric], first.values[metric]) for metric in METRICS}
        for name in others
    }
    p = dict(zip(others, holm([against[name]["ndcg@10"].p for name in others]), strict=True))
    variants = tuple(
        Variant(
            name,
            report.summary,
            float(report.lists[COVERAGE]),
            _changed(report.rows[:, :10], first.rows[:, :10]),
            against.get(name, {}),
            p.get(name),
        )
        for name, report in reports.items()
    )
    simulated = tuple(sorted(known.graph.simulated_types & {"AVAILABLE", "BELONGS_TO"}))
    run = saved.run
    users = len(first.users)
    return StepsReport(
        run.run_id,
        run.model,
        run.graph,
        run.split_name,
        run.split_hash,
        users,
        variants,
        known.unknown,
        simulated,
    )


def _changed(lists: np.ndarray, first: np.ndarray) -> float:
    same = (lists[:, :, None] == first[:, None]).any(axis=2)
    return float(1 - same.mean())
