"""Ranks every content for every user, and says how good that is: per user before any mean.

u users · i contents · n recommendations in a list · m metrics · r resamples · b users in a block."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from configs.registry import SettingError
from experiments import metrics
from experiments.splits import Part
from models.interface import Recommender, Training, Users
from models.ranking import top

METRICS = ("ndcg@10", "recall@10", "recall@20", "precision@10", "hit_rate@10", "mrr@10", "map@10")
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
    block_bytes: int = 64 * 2**20
    """Memory for the scores of one block of users."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 100 or not 0 < self.confidence < 1 or not 0 < self.head_share < 1:
            raise SettingError(
                "an evaluation needs resamples >= 100, confidence and head_share above 0 and below 1, got "
                f"{self.resamples}, {self.confidence}, {self.head_share}"
            )
        for name in (*self.metrics, *self.list_metrics):
            metrics.parse(name)

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


def rank(
    model: Recommender,
    training: Training,
    users: np.ndarray,
    n: int,
    block_bytes: int = EvaluationConfig.block_bytes,
) -> np.ndarray:
    """The ``n`` best contents that each user has not liked in training.

    Args:
        model: fitted.
        training: whose positives are the history, and whose ``rankable`` may be recommended.
        users: (u,) int64 rows.
        n: length of the lists, 1 or more.
        block_bytes: users are scored in blocks whose scores take about this much.

    Returns:
        (u, n) int64 content rows, ties by row, -1 where fewer are left.

    Raises:
        ValueError: a score of the model is not finite.

    Cost: one pass over (b, i) scores a block; never (u, i) at once, no full sort.
    """
    contents = training.positives.shape[1]
    block = max(1, block_bytes // max(4 * contents, 1))
    best = np.empty((len(users), n), np.int64)
    for start in range(0, len(users), block):
        rows = users[start : start + block]
        history = training.positives[rows]
        scores = model.score(Users(rows, history, training.times[rows]))  # (b, i)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{type(model).__name__} must give finite scores, got NaN or infinity for users "
                f"{rows[~np.isfinite(scores).all(axis=1)][:3].tolist()}: mend its score()"
            )
        allowed = np.repeat(training.rankable[None], len(rows), axis=0)
        allowed[np.repeat(np.arange(len(rows)), np.diff(history.indptr)), history.indices] = False
        best[start : start + block] = top(scores, n, allowed)
    return best


def evaluate(model: Recommender, part: Part, config: EvaluationConfig) -> Report:
    """Full ranking of every user of whom something is held out."""
    users = part.users
    rows = rank(model, part.training, users, config.n, config.block_bytes)
    hits, positives = hits_of(rows, part), np.diff(part.held_out.indptr)[users]
    values = _measure(config.metrics, hits, positives)
    popularity = np.bincount(part.training.positives.indices, minlength=len(part.training.rankable))
    counted = torch.from_numpy(np.where(part.training.rankable, popularity, np.nan))
    lists = {
        name: float(metrics.list_metrics[cutoff.metric](torch.from_numpy(rows), counted, cutoff.k))
        for name, cutoff in ((name, metrics.parse(name)) for name in config.list_metrics)
    }
    groups = _groups(part, rows, hits, values, popularity, config)
    return Report(
        users,
        values,
        intervals(values, config),
        lists,
        {name: intervals(group, config) for name, group in groups.items()},
        part.unreachable,
        rows,
        groups,
    )


def value_of(model: Recommender, part: Part, metric: str) -> float:
    """Mean of one ranking metric over the users of a part; what settings are chosen by."""
    cutoff = metrics.parse(metric)
    rows = rank(model, part.training, part.users, cutoff.k)
    found = _measure((metric,), hits_of(rows, part), np.diff(part.held_out.indptr)[part.users])
    return float(found[metric].mean())


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
    columns = np.stack([values[name] for name in names], axis=1)  # (u, m)
    known = ~np.isnan(columns).any(axis=1)
    columns = columns[known]
    if not len(columns):
        return {name: Interval(np.nan, np.nan, np.nan, 0) for name in names}
    tail = (1 - config.confidence) / 2
    means = bootstrap(columns, config.resamples, config.seed)  # (r, m)
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    mean = columns.mean(axis=0)
    return {
        name: Interval(float(mean[place]), float(low[place]), float(high[place]), len(columns))
        for place, name in enumerate(names)
    }


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


def _measure(names: tuple[str, ...], hits: np.ndarray, positives: np.ndarray) -> dict[str, np.ndarray]:
    found = metrics.measure(names, torch.from_numpy(hits), torch.from_numpy(positives.astype(np.int64)))
    return {name: value.numpy() for name, value in found.items()}


def _groups(
    part: Part,
    rows: np.ndarray,
    hits: np.ndarray,
    values: Mapping[str, np.ndarray],
    popularity: np.ndarray,
    config: EvaluationConfig,
) -> dict[str, dict[str, np.ndarray]]:
    """Users by how much is known of them, contents by how liked they are: (u,) values, NaN outside."""
    known = np.diff(part.training.positives.indptr)[part.users]
    is_cold, is_head = known < config.cold_positives, head(popularity, config.head_share)
    found = {
        f"{name} users": {metric: np.where(mask, value, np.nan) for metric, value in values.items()}
        for name, mask in (("cold", is_cold), ("warm", ~is_cold))
    }
    for name, mask in (("head", is_head), ("tail", ~is_head)):
        inside = part.held_out[part.users] @ mask.astype(np.float64)  # (u,) positives within the group
        found[f"{name} contents"] = _measure(config.metrics, hits & mask[np.maximum(rows, 0)], inside)
    return found


def head(popularity: np.ndarray, share: float) -> np.ndarray:
    """(i,) bool: the fewest contents that together hold ``share`` of all likes, ties by content row."""
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    is_head = np.zeros(len(popularity), bool)
    is_head[order] = (before < share * popularity.sum()) & (popularity[order] > 0)
    return is_head
