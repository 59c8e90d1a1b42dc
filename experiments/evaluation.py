"""Ranks every content for every user, and says how good that is: per user before any mean.

u users · i contents · n recommendations in a list · m metrics · r resamples · b users in a block."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from configs.registry import SettingError
from experiments import metrics
from experiments.lists import BLOCK_BYTES, Lists, lists_of, rank
from experiments.metrics import Ranked
from experiments.splits import Part
from experiments.watchable import Watchable, contents_by_place, watchable
from models.interface import Recommender
from models.ranking import genres_of

__all__ = ["EvaluationConfig", "Interval", "Report", "evaluate", "hits_of", "intervals", "rank", "value_of"]

METRICS = ("ndcg@10", "recall@10", "recall@20", "precision@10", "hit_rate@10", "mrr@10", "map@10")
TASKS = ("known", "available")
LIST_METRICS = ("coverage@10", "gini@10", "novelty@10")


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and how sure we want to be."""

    metrics: tuple[str, ...] = METRICS
    """``name@k`` each, ranking or list metrics."""
    list_metrics: tuple[str, ...] = LIST_METRICS
    resamples: int = 2_000
    """Bootstrap samples of users, at least 100."""
    confidence: float = 0.95
    """Of the interval, above 0 and below 1."""
    cold_positives: int = 10
    """Users with fewer positives in training are reported as cold."""
    head_share: float = 0.5
    """The most liked contents that hold this share of training positives are the head, others the tail."""
    cold_likes: int = 5
    """Contents with fewer likes in training are reported as cold."""
    regions: int = 12
    """How many regions are reported apart, those with most contents first."""
    platforms: int = 12
    """How many platforms are reported apart, those with most contents first."""
    task: str = "known"
    """``known`` ranks what may be ranked; ``available`` only what each user can watch."""
    region: str = ""
    """Where people watch, an ISO code; '' is each user's own, else the region with most contents."""
    moment: int | None = None
    """When people watch, UTC seconds; None is the first moment at which most windows hold."""
    own_subscriptions: bool = False
    """Whether only platforms count that a user pays for, where that is known."""
    block_bytes: int = BLOCK_BYTES
    """Memory for the scores of one block of users."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100 or not 0 < self.confidence < 1 or not 0 < self.head_share < 1:
            raise SettingError(
                "an evaluation needs resamples >= 100, confidence and head_share above 0 and below 1, got "
                f"{self.resamples}, {self.confidence}, {self.head_share}"
            )
        if self.task not in TASKS or min(self.regions, self.platforms, self.cold_likes) < 0:
            raise SettingError(
                f"task is one of {', '.join(TASKS)}, regions, platforms and cold_likes are 0 or more, got "
                f"{self.task!r}, {self.regions}, {self.platforms}, {self.cold_likes}"
            )
        for name in (*self.metrics, *self.list_metrics):
            metrics.parse(name)

    @property
    def reads_availability(self) -> bool:
        """Whether the task or a metric asks what can be watched."""
        asked = (metrics.metrics[metrics.parse(name).metric] for name in self.metrics)
        return self.task == "available" or any("available" in metric.needs for metric in asked)

    @property
    def n(self) -> int:
        """Length of the lists that the metrics need."""
        return max((metrics.parse(name).k for name in (*self.metrics, *self.list_metrics)), default=1)


@dataclass(frozen=True)
class Interval:
    """A mean over users with its bootstrap interval."""

    value: float
    low: float
    high: float
    users: int


@dataclass(frozen=True)
class Report:
    """What one model reached on one part."""

    users: np.ndarray
    """(u,) int64 rows of the users that were measured, ascending."""
    values: Mapping[str, np.ndarray]
    """Metric -> (u,) float64, a value for every user."""
    summary: Mapping[str, Interval]
    lists: Mapping[str, float]
    """What the lists are like taken together: coverage, Gini, novelty."""
    groups: Mapping[str, Mapping[str, Interval]]
    """Group -> metric -> interval; a group without anybody has NaN and 0 users."""
    unreachable: int
    """Held-out pairs whose content training does not know; they count as missed, for every model alike."""
    rows: np.ndarray = field(repr=False)
    """(u, n) int64 recommended contents, best first, -1 where fewer may be ranked."""
    group_values: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)
    """Group -> metric -> (u,) float64 for the same users, NaN for those outside the group."""
    flat_users: int = 0
    """Users for whom the model scores all alike: it tells nothing apart, the list is in the order of rows."""
    moment: int | None = None
    """UTC seconds of which availability is told; None where it was not asked."""

    @property
    def discriminates(self) -> bool:
        """False for a model that tells no content from another for anybody."""
        return self.flat_users < len(self.users)


class _Measured:
    """The lists of one model on one part, and what metrics hold them against, computed when read."""

    def __init__(self, part: Part, lists: Lists, watched: Watchable | None = None) -> None:
        self.part, self.lists, self.watched = part, lists, watched

    @cached_property
    def popularity(self) -> np.ndarray:
        """(i,) int64 likes in training."""
        return np.bincount(self.part.training.positives.indices, minlength=len(self.part.training.rankable))

    @cached_property
    def hits(self) -> np.ndarray:
        """(u, n) bool."""
        return hits_of(self.lists.rows, self.part)

    def ranked(self, names: tuple[str, ...], inside: np.ndarray | None = None) -> Ranked:
        """What the metrics ``names`` read; with ``inside`` (i,) bool only held-out contents there count."""
        part, rows = self.part, self.lists.rows
        found = [metrics.parse(name).metric for name in names]
        needs = {need for name in found for need in metrics.needs(name)}
        held_out = part.held_out[part.users]
        hits, positives = self.hits, np.diff(held_out.indptr)
        if inside is not None:
            hits, positives = hits & inside[np.maximum(rows, 0)], held_out @ inside.astype(np.float64)
        given: dict[str, Callable[[], object]] = {
            "rows": lambda: torch.from_numpy(rows),
            "popularity": lambda: self._counted,
            "genres": lambda: self._genres,
            "history": lambda: part.history[part.users],
            "available": lambda: torch.from_numpy(self.watched.has(rows)),
            "reachable": lambda: torch.from_numpy(self._reachable(inside)),
        }
        values = {name: given[name]() for name in sorted(needs)}
        return Ranked(torch.from_numpy(hits), torch.from_numpy(positives.astype(np.int64)), **values)

    @cached_property
    def _counted(self) -> torch.Tensor:
        return torch.from_numpy(np.where(self.part.training.rankable, self.popularity, np.nan))

    @cached_property
    def _genres(self) -> object:
        return genres_of(self.part.training.graph)

    @cached_property
    def _watched_likes(self) -> object:
        return self.watched.keep(self.part.held_out[self.part.users])

    def _reachable(self, inside: np.ndarray | None) -> np.ndarray:
        """(u,) int64 held-out contents that each user can watch."""
        if inside is None:
            return np.diff(self._watched_likes.indptr).astype(np.int64)
        return (self._watched_likes @ inside.astype(np.float64)).astype(np.int64)

    def measure(self, names: tuple[str, ...], inside: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Metric -> (u,) float64."""
        found = metrics.measure(names, self.ranked(names, inside))
        return {name: value.numpy() for name, value in found.items()}

    def list_value(self, name: str) -> float:
        """A list metric of all lists together."""
        cutoff = metrics.parse(name)
        return float(metrics.list_metrics[cutoff.metric](self.ranked((name,)), cutoff.k))


def evaluate(model: Recommender, part: Part, config: EvaluationConfig) -> Report:
    """Full ranking of every user of whom something is held out.

    Raises:
        SettingError: the part has no such user, or availability is asked of a graph that tells none.
    """
    users = part.users
    if not len(users):
        raise SettingError("an evaluation needs at least one user of whom something is held out, got none")
    watched = _watchable(part, config) if config.reads_availability else None
    may = watched if config.task == "available" else None
    made = _Measured(part, _lists(model, part, config.n, config.block_bytes, may), watched)
    values = made.measure(config.metrics)
    lists = {name: made.list_value(name) for name in config.list_metrics}
    groups = _groups(made, values, config)
    return Report(
        users,
        values,
        intervals(values, config),
        lists,
        {name: intervals(group, config) for name, group in groups.items()},
        part.unreachable if may is None else _out_of_reach(part, may),
        made.lists.rows,
        groups,
        int(made.lists.is_flat.sum()),
        None if watched is None else watched.moment,
    )


def _watchable(part: Part, config: EvaluationConfig) -> Watchable:
    graph = part.training.graph if part.whole is None else part.whole
    return watchable(graph, part.users, config.region, config.moment, config.own_subscriptions)


def _lists(model: Recommender, part: Part, n: int, block_bytes: int, may: Watchable | None) -> Lists:
    """Lists of all users of a part, of what they can watch where ``may`` says so."""
    if may is None:
        return lists_of(model, part.asked, part.users, n, block_bytes)
    found = Lists(np.empty((len(part.users), n), np.int64), np.empty(len(part.users), bool))
    for number, mask in enumerate(may.masks):
        places = np.flatnonzero(may.of_user == number)
        asked = replace(part.asked, rankable=part.asked.rankable & mask)
        one = lists_of(model, asked, part.users[places], n, block_bytes)
        found.rows[places], found.is_flat[places] = one.rows, one.is_flat
    return found


def _out_of_reach(part: Part, may: Watchable) -> int:
    """Held-out pairs that may not be ranked, because training does not know or the user cannot watch them."""
    kept = may.keep(part.held_out[part.users])
    return part.held_out.nnz - int(np.count_nonzero(part.training.rankable[kept.indices]))


def value_of(model: Recommender, part: Part, metric: str) -> float:
    """One metric over the users of a part, their mean where each has a value; what settings are chosen by."""
    cutoff = metrics.parse(metric)
    if cutoff.metric in metrics.list_metrics:
        return _Measured(part, lists_of(model, part.asked, part.users, cutoff.k), None).list_value(metric)
    values = per_user_of(model, part, metric)
    return float(values[~np.isnan(values)].mean())


def per_user_of(model: Recommender, part: Part, metric: str) -> np.ndarray:
    """(t,) float64 of one ranking metric for each of ``part.users``, NaN for a user without a value."""
    config = EvaluationConfig(metrics=(metric,))
    lists = lists_of(model, part.asked, part.users, metrics.parse(metric).k)
    made = _Measured(part, lists, _watchable(part, config) if config.reads_availability else None)
    return made.measure((metric,))[metric]


def hits_of(rows: np.ndarray, part: Part) -> np.ndarray:
    """(u, n) bool: which recommendations to ``part.users`` are held out."""
    width = part.held_out.shape[1]
    held = np.repeat(np.arange(part.held_out.shape[0]), np.diff(part.held_out.indptr)) * width
    held = held + part.held_out.indices
    return (rows >= 0) & np.isin(part.users[:, None] * width + np.maximum(rows, 0), held)


def intervals(values: Mapping[str, np.ndarray], config: EvaluationConfig) -> dict[str, Interval]:
    """Mean and bootstrap interval of each metric; users without a value (NaN) are left out."""
    names = list(values)
    if not names:
        return {}
    found = {}
    columns = np.stack([values[name] for name in names], axis=1)  # (u, m)
    alike: dict[bytes, list[int]] = {}  # metrics that are known of the same users are drawn together
    for place, column in enumerate(columns.T):
        alike.setdefault(np.isnan(column).tobytes(), []).append(place)
    for places in alike.values():
        known = ~np.isnan(columns[:, places[0]])
        # in this order of memory a mean adds the users one by one, as it does for all metrics at once
        told = _intervals(np.ascontiguousarray(columns[known][:, places]), config)
        found.update({names[place]: interval for place, interval in zip(places, told, strict=True)})
    return {name: found[name] for name in names}


def _intervals(columns: np.ndarray, config: EvaluationConfig) -> list[Interval]:
    if not len(columns):
        return [Interval(np.nan, np.nan, np.nan, 0)] * columns.shape[1]
    tail = (1 - config.confidence) / 2
    means = bootstrap(columns, config.resamples, config.seed)  # (r, m)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    values = zip(columns.mean(axis=0), low, high, strict=True)
    return [Interval(float(one), float(least), float(most), len(columns)) for one, least, most in values]


def bootstrap(columns: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(r, m) means of ``columns`` (u, m) over users drawn with replacement.

    Source: Efron, "Bootstrap methods", Annals of Statistics 7(1), 1979; interval by percentiles.

    Cost: O(r (u + m u)) through one matrix product a chunk of about 4 M draws.
    """
    count = len(columns)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    chunk = max(1, 4_000_000 // count)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = times @ columns / count
    return means


def _groups(
    made: _Measured, values: Mapping[str, np.ndarray], config: EvaluationConfig
) -> dict[str, dict[str, np.ndarray]]:
    """Users by what is known of them, contents by likes and by place: (u,) values, NaN outside."""
    part = made.part
    is_cold = np.diff(part.history.indptr)[part.users] < config.cold_positives
    found = {
        f"{name} users": {metric: np.where(mask, value, np.nan) for metric, value in values.items()}
        for name, mask in (("cold", is_cold), ("warm", ~is_cold))
    }
    is_head = head(made.popularity, config.head_share)
    inside = {
        "head contents": is_head,
        "tail contents": ~is_head,
        "cold contents": made.popularity < config.cold_likes,
    }
    whole = part.training.graph if part.whole is None else part.whole
    if whole is not None:
        inside |= contents_by_place(whole, config.regions, config.platforms)
    names = tuple(name for name in config.metrics if metrics.counts_hits(name))
    return found | {name: made.measure(names, mask) for name, mask in inside.items()}


def head(popularity: np.ndarray, share: float) -> np.ndarray:
    """(i,) bool: the fewest contents that together hold ``share`` of all likes, ties by content row."""
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    is_head = np.zeros(len(popularity), bool)
    is_head[order] = (before < share * popularity.sum()) & (popularity[order] > 0)
    return is_head
