"""How good recommendations are: one registered function a metric, a value for every user.

All read one frozen :class:`experiments.ranked.Ranked`, so a list is ranked once.
u users · n recommendations in a list · i contents · g genres · k cut-off."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from configs.registry import SettingError
from experiments.ranked import Ranked, list_metric, list_metrics, metric, metrics

CALIBRATION_SMOOTHING = 0.01
"""How much of a user's own genres is mixed into those of a list, so that a missing genre stays finite."""
PAIRS_AT_ONCE = 2_048
"""Users whose contents are compared pair by pair at once."""


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


def measure(names: tuple[str, ...], ranked: Ranked) -> dict[str, Tensor]:
    """(u,) float64 for each of ``names`` (``ndcg@10``) that is a ranking metric."""
    wanted: Mapping[str, Cutoff] = {name: parse(name) for name in names}
    return {
        name: metrics[cutoff.metric](ranked, cutoff.k)
        for name, cutoff in wanted.items()
        if cutoff.metric in metrics
    }


def needs(name: str) -> tuple[str, ...]:
    """Fields of :class:`Ranked` that a metric or list metric reads besides hits and positives."""
    return (list_metrics if name in list_metrics else metrics)[name].needs


def counts_hits(text: str) -> bool:
    """Whether the metric in ``ndcg@10`` is told by hits, so that it can be told of a group of contents."""
    return metrics[parse(text).metric].counts_hits


@metric("ndcg")
def ndcg(ranked: Ranked, k: int) -> Tensor:
    """Discounted gain of the first ``k`` recommendations over the best possible gain.

    Args:
        ranked: lists and what is held out.
        k: cut-off, 1 <= k <= n.

    Returns:
        (u,) float64 in [0, 1]; NaN for a user with nothing held out, so that whoever takes
        the mean decides what such a user counts for.

    Source: Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, with binary gain.
    """
    gain, best = _gains(ranked.first(k), ranked.positives, k)
    return _known(gain / best, ranked.positives)


@metric("recall")
def recall(ranked: Ranked, k: int) -> Tensor:
    """Share of the held-out contents that stand among the first ``k``; arguments as in :func:`ndcg`."""
    return _known(ranked.first(k).sum(1) / ranked.positives.clamp(1), ranked.positives)


@metric("precision")
def precision(ranked: Ranked, k: int) -> Tensor:
    """Share of the first ``k`` that are held out; a list shorter than k counts as filled with misses."""
    return _known(ranked.first(k).sum(1) / k, ranked.positives)


@metric("hit_rate")
def hit_rate(ranked: Ranked, k: int) -> Tensor:
    """1 where at least one of the first ``k`` is held out, else 0."""
    return _known(ranked.first(k).amax(1), ranked.positives)


@metric("mrr")
def mrr(ranked: Ranked, k: int) -> Tensor:
    """1 over the rank of the first held-out content, 0 where none stands among the first ``k``."""
    first = ranked.first(k)
    return _known((first / torch.arange(1, k + 1, dtype=torch.float64)).amax(1), ranked.positives)


@metric("map")
def average_precision(ranked: Ranked, k: int) -> Tensor:
    """Mean over *all* held-out contents of the precision at their ranks, 0 for those below rank ``k``.

    Divides by the number of positives, as ``ranx`` and trec_eval do, not by min(k, positives): a user with
    more than k of them cannot reach 1.
    """
    return _known(_precisions(ranked, k) / ranked.positives.clamp(1), ranked.positives)


@metric("capped_map")
def capped_average_precision(ranked: Ranked, k: int) -> Tensor:
    """Precision at the ranks of held-out contents among the first ``k``, over min(k, positives).

    A perfect list is 1 for everybody. ``torchmetrics`` divides by what it found among the first k instead.

    Source: the divisor of the Million Song Dataset Challenge (McFee et al., WWW 2012).
    """
    return _known(_precisions(ranked, k) / ranked.positives.clamp(1, k), ranked.positives)


@metric("serendipity", needs=("rows", "popularity", "history"))
def serendipity(ranked: Ranked, k: int) -> Tensor:
    """Share of the first ``k`` that are held out and that the most liked contents would not have shown.

    Expected is what popularity alone would recommend to the same user: the k most liked contents that the
    user has not liked yet, ties by content row.

    Returns:
        (u,) float64 in [0, 1].

    Source: Ge, Delgado-Battenfeld, Jannach, "Beyond accuracy", RecSys 2010, with popularity as the primitive
    recommender.
    """
    rows, _ = ranked.shown(k)
    return _known((ranked.first(k) * ~_expected(ranked, rows, k)).sum(1) / k, ranked.positives)


@metric("regret", needs=("available", "reachable"), larger_is_better=False)
def regret(ranked: Ranked, k: int) -> Tensor:
    """How much gain is lost against an oracle that may show the same available contents: 0 is none.

    The oracle puts the held-out contents that the user can watch first. A hit that cannot be watched gains
    nothing.

    Returns:
        (u,) float64 in [0, 1]; NaN where nothing that is held out can be watched.

    Source: discounted gain as in :func:`ndcg`; the oracle is ours.
    """
    reachable = ranked.need("reachable")
    gain, best = _gains(ranked.first(k) * ranked.watchable(k), reachable, k)
    return _known(1 - gain / best, reachable)


@metric("availability", needs=("rows", "available"), counts_hits=False)
def availability(ranked: Ranked, k: int) -> Tensor:
    """Share of what stands among the first ``k`` that the user can watch.

    Returns:
        (u,) float64 in [0, 1]; NaN for an empty list.
    """
    _, is_shown = ranked.shown(k)
    return _share((ranked.watchable(k) & is_shown).double().sum(1), is_shown.double().sum(1))


@metric("diversity", needs=("rows", "genres"), counts_hits=False)
def diversity(ranked: Ranked, k: int) -> Tensor:
    """Mean difference in genres of two contents among the first ``k``: 1 minus shared over united genres.

    Returns:
        (u,) float64 in [0, 1]; NaN for a list of fewer than two.

    Source: Ziegler et al., WWW 2005 (intra-list similarity), with Jaccard over genres as in
    :func:`models.ranking.diversify`; two contents without genres differ by 1.

    Cost: O(u k² g).
    """
    rows, is_shown = ranked.shown(k)
    genres = torch.from_numpy(ranked.need("genres").toarray()).bool().float()
    parts = zip(rows.split(PAIRS_AT_ONCE), is_shown.split(PAIRS_AT_ONCE), strict=True)
    return torch.cat([_unlike(genres[part], there) for part, there in parts])


@metric("miscalibration", needs=("rows", "genres", "history"), larger_is_better=False, counts_hits=False)
def miscalibration(ranked: Ranked, k: int) -> Tensor:
    """How far the genres of the first ``k`` are from those of the user's history, in nats: 0 is calibrated.

    Returns:
        (u,) float64, 0 or more; NaN where the history or the list has no genre.

    Source: Steck, "Calibrated recommendations", RecSys 2018, eq. 2 to 6: KL(p || q~), alpha = 0.01, without
    weights by time.
    """
    rows, is_shown = ranked.shown(k)
    genres = ranked.need("genres").toarray().astype(np.float64)
    spread = torch.from_numpy(genres / np.maximum(genres.sum(axis=1, keepdims=True), 1))  # (i, g)
    listed = (spread[rows] * is_shown[:, :, None]).sum(1)
    liked = torch.from_numpy(np.asarray(ranked.need("history").astype(np.float64) @ spread.numpy()))
    wanted, found = (_share(side, side.sum(1, keepdim=True)) for side in (liked, listed))
    smoothed = (1 - CALIBRATION_SMOOTHING) * found + CALIBRATION_SMOOTHING * wanted
    return torch.where(wanted == 0, smoothed * 0, wanted * (wanted / smoothed).log()).sum(1).clamp(0)


@metric("popularity_bias", needs=("rows", "popularity", "history"), larger_is_better=False, counts_hits=False)
def popularity_bias(ranked: Ranked, k: int) -> Tensor:
    """How much more liked the first ``k`` are than the user's history, as a share of it: 0 is as liked.

    Returns:
        (u,) float64, -1 or more; NaN for an empty list or history.

    Source: Abdollahpouri et al., "The unfairness of popularity bias in recommendation", RMSE at RecSys 2019:
    their group average popularity, taken user by user.
    """
    rows, is_shown = ranked.shown(k)
    liked = ranked.need("popularity").nan_to_num(0).double()
    listed = _share((liked[rows] * is_shown).sum(1), is_shown.double().sum(1))
    history = ranked.need("history")
    total = torch.from_numpy(np.asarray(history.astype(np.float64) @ liked.numpy()))
    own = _share(total, torch.from_numpy(np.diff(history.indptr).astype(np.float64)))
    return _share(listed - own, own)


@list_metric("coverage")
def coverage(ranked: Ranked, k: int) -> Tensor:
    """Share of the rankable contents that stand among the first ``k`` of at least one user.

    Args:
        ranked: of which ``rows`` and ``popularity`` are read.
        k: cut-off, 1 <= k <= n.

    Returns:
        () float64 in [0, 1].
    """
    counts = _counts(ranked, k)
    return (counts > 0).double().mean()


@list_metric("gini")
def gini(ranked: Ranked, k: int) -> Tensor:
    """How unevenly the first ``k`` fall on the rankable contents: 0 all alike, near 1 a few get everything.

    Arguments and result as in :func:`coverage`.

    Source: Fleder and Hosanagar, Management Science 55(5), 2009.
    """
    counts = _counts(ranked, k).sort().values
    size, total = len(counts), counts.sum()
    place = torch.arange(1, size + 1, dtype=torch.float64)
    return ((2 * place - size - 1) @ counts / (size * total.clamp(1))).clamp(0, 1)


@list_metric("novelty")
def novelty(ranked: Ranked, k: int) -> Tensor:
    """Mean surprise of the first ``k`` in bits: -log2 of a content's share of all likes, plus one each.

    Arguments as in :func:`coverage`; () float64, 0 or more.

    Source: Vargas and Castells, RecSys 2011 (popularity-based discovery), smoothed so that no like is finite.
    """
    counts = _counts(ranked, k)
    popularity = ranked.need("popularity")
    liked = popularity[~popularity.isnan()].double() + 1
    return (counts @ -torch.log2(liked / liked.sum())) / counts.sum().clamp(1)


def _known(values: Tensor, positives: Tensor) -> Tensor:
    return torch.where(positives > 0, values, torch.nan)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Part over whole, NaN where the whole is 0."""
    return torch.where(whole > 0, part / whole.clamp(1e-300), torch.nan)


def _gains(hits: Tensor, positives: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(u,) float64 discounted gain of (u, k) hits, and the most that so many positives can gain."""
    discount = 1 / torch.log2(torch.arange(2, k + 2.0, dtype=torch.float64))  # (k,), rank 1 gains 1
    return hits @ discount, discount.cumsum(0)[positives.long().clamp(1, k) - 1]


def _precisions(ranked: Ranked, k: int) -> Tensor:
    """(u,) float64 sum of the precision at the rank of each hit."""
    first = ranked.first(k)
    return (first.cumsum(1) / torch.arange(1, k + 1, dtype=torch.float64) * first).sum(1)


def _expected(ranked: Ranked, rows: Tensor, k: int) -> Tensor:
    """(u, k) bool: whether popularity alone would show a content among its first k to this user."""
    popularity, history = ranked.need("popularity").numpy(), ranked.need("history")
    width = len(popularity)
    place = np.empty(width, np.int64)  # of a content by how liked it is, those not rankable last
    place[np.argsort(-np.nan_to_num(popularity, nan=-1.0), kind="stable")] = np.arange(width)
    users = np.arange(len(rows))
    liked = np.sort(np.repeat(users, np.diff(history.indptr)) * width + place[history.indices])
    asked = place[rows.numpy()]
    # liked contents that stand before it make room
    before = np.searchsorted(liked, users[:, None] * width + asked) - history.indptr[:-1, None]
    return torch.from_numpy(asked - before < k)


def _unlike(genres: Tensor, there: Tensor) -> Tensor:
    """(b,) float64 mean over pairs of 1 - Jaccard of (b, k, g) genres, of those that are ``there`` (b, k)."""
    shared = (genres @ genres.transpose(1, 2)).double()
    sizes = genres.sum(2).double()
    united = sizes[:, :, None] + sizes[:, None] - shared
    pairs = (there[:, :, None] & there[:, None]).triu(1).double()
    return _share(((1 - shared / united.clamp(1)) * pairs).sum((1, 2)), pairs.sum((1, 2)))


def _counts(ranked: Ranked, k: int) -> Tensor:
    """(r,) float64: how often each rankable content stands among the first k."""
    rows, is_shown = ranked.shown(k)
    popularity = ranked.need("popularity")
    counts = torch.bincount(rows[is_shown], minlength=len(popularity)).double()
    return counts[~popularity.isnan()]
