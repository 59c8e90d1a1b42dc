"""How good recommendations are: one registered function a metric, a value for every user.

All ranking metrics read the same two things, so a list is ranked once.
u users · n recommendations in a list · i contents · k cut-off."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.registry import Registry, SettingError

Metric = Callable[[Tensor, Tensor, int], Tensor]
ListMetric = Callable[[Tensor, Tensor, int], Tensor]

metrics: Registry[Metric] = Registry("metric")
list_metrics: Registry[ListMetric] = Registry("list metric")
metric = metrics.register
list_metric = list_metrics.register


@dataclass(frozen=True)
class Cutoff:
    """A metric and its cut-off, written ``ndcg@10``."""

    metric: str
    k: int

    def __str__(self) -> str:
        return f"{self.metric}@{self.k}"


def parse(text: str) -> Cutoff:
    """The metric and cut-off that ``ndcg@10`` means.

    Raises:
        SettingError: not of this form.
        UnknownName: no metric has this name.
    """
    name, at, number = text.partition("@")
    if not at or not number.isdigit() or int(number) < 1:
        raise SettingError(f"a metric is written name@k with k from 1, as in ndcg@10, got {text!r}")
    if name not in list_metrics:
        metrics[name]
    return Cutoff(name, int(number))


def measure(names: tuple[str, ...], hits: Tensor, positives: Tensor) -> dict[str, Tensor]:
    """(u,) float64 for each of ``names`` (``ndcg@10``) that is a ranking metric."""
    wanted: Mapping[str, Cutoff] = {name: parse(name) for name in names}
    return {
        name: metrics[cutoff.metric](hits, positives, cutoff.k)
        for name, cutoff in wanted.items()
        if cutoff.metric in metrics
    }


@metric("ndcg")
def ndcg(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """Discounted gain of the first ``k`` recommendations over the best possible gain.

    Args:
        hits: (u, n) bool; hits[j, r] is True when recommendation r of user j is held out.
        positives: (u,) int64 count of held-out contents per user.
        k: cut-off, 1 <= k <= n.

    Returns:
        (u,) float64 in [0, 1]; NaN for a user with nothing held out, so that whoever takes
        the mean decides what such a user counts for.

    Source: Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with binary gain.
    """
    first = _first(hits, k)
    discount = 1 / torch.log2(torch.arange(2, k + 2.0, dtype=torch.float64))  # (k,), rank 1 gains 1
    best = discount.cumsum(0)[positives.clamp(1, k) - 1]  # (u,)
    return _known(first @ discount / best, positives)


@metric("recall")
def recall(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """Share of the held-out contents that stand among the first ``k``; arguments as in :func:`ndcg`."""
    return _known(_first(hits, k).sum(1) / positives.clamp(1), positives)


@metric("precision")
def precision(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """Share of the first ``k`` that are held out; a list shorter than k counts as filled with misses."""
    return _known(_first(hits, k).sum(1) / k, positives)


@metric("hit_rate")
def hit_rate(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """1 where at least one of the first ``k`` is held out, else 0."""
    return _known(_first(hits, k).amax(1), positives)


@metric("mrr")
def mrr(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """1 over the rank of the first held-out content, 0 where none stands among the first ``k``."""
    first = _first(hits, k)
    return _known((first / torch.arange(1, k + 1, dtype=torch.float64)).amax(1), positives)


@metric("map")
def average_precision(hits: Tensor, positives: Tensor, k: int) -> Tensor:
    """Mean over *all* held-out contents of the precision at their ranks, 0 for those below rank ``k``.

    Divides by the number of positives, as ``ranx`` and trec_eval do, not by min(k, positives): a user with
    more than k of them cannot reach 1.
    """
    first = _first(hits, k)
    rank = torch.arange(1, k + 1, dtype=torch.float64)
    return _known((first.cumsum(1) / rank * first).sum(1) / positives.clamp(1), positives)


@list_metric("coverage")
def coverage(rows: Tensor, popularity: Tensor, k: int) -> Tensor:
    """Share of the rankable contents that stand among the first ``k`` of at least one user.

    Args:
        rows: (u, n) int64 rows of recommended contents, -1 where a list is shorter.
        popularity: (i,) float64, how many users liked a content in training; NaN where it may not be ranked.
        k: cut-off, 1 <= k <= n.

    Returns:
        () float64 in [0, 1].
    """
    counts = _counts(rows, popularity, k)
    return (counts > 0).double().mean()


@list_metric("gini")
def gini(rows: Tensor, popularity: Tensor, k: int) -> Tensor:
    """How unevenly the first ``k`` fall on the rankable contents: 0 all alike, near 1 a few get everything.

    Arguments and result as in :func:`coverage`.

    Source: Fleder and Hosanagar, Management Science 55(5), 2009.
    """
    counts = _counts(rows, popularity, k).sort().values
    size, total = len(counts), counts.sum()
    place = torch.arange(1, size + 1, dtype=torch.float64)
    return ((2 * place - size - 1) @ counts / (size * total.clamp(1))).clamp(0, 1)


@list_metric("novelty")
def novelty(rows: Tensor, popularity: Tensor, k: int) -> Tensor:
    """Mean surprise of the first ``k`` in bits: -log2 of a content's share of all likes, plus one each.

    Arguments as in :func:`coverage`; () float64, 0 or more.

    Source: Vargas and Castells, RecSys 2011 (popularity-based discovery), smoothed so that no like is finite.
    """
    counts = _counts(rows, popularity, k)
    liked = popularity[~popularity.isnan()].double() + 1
    return (counts @ -torch.log2(liked / liked.sum())) / counts.sum().clamp(1)


def _first(hits: Tensor, k: int) -> Tensor:
    """(u, k) float64 of the first k recommendations."""
    n = hits.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in 1..{n}, the length of the recommendation lists, got k={k}")
    return hits[:, :k].double()


def _known(values: Tensor, positives: Tensor) -> Tensor:
    return torch.where(positives > 0, values, torch.nan)


def _counts(rows: Tensor, popularity: Tensor, k: int) -> Tensor:
    """(r,) float64: how often each rankable content stands among the first k."""
    if not 1 <= k <= rows.shape[1]:
        raise ValueError(
            f"k must lie in 1..{rows.shape[1]}, the length of the recommendation lists, got k={k}"
        )
    shown = rows[:, :k].flatten()
    counts = torch.bincount(shown[shown >= 0], minlength=len(popularity)).double()
    return counts[~popularity.isnan()]
