"""Time to fit models in closed form on made-up likes, and iALS beside ``implicit`` called by hand."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from models.factors import IALS, IALSConfig
from models.graph_filter import IdealFilter, IdealFilterConfig, PolynomialFilter, PolynomialFilterConfig
from models.interface import Recommender, Training, Users
from models.item_item import EASE, EASEConfig

MIDDLE = (6_000, 3_000, 400_000)
"""Users, contents and likes, about as in MovieLens-1M."""
LARGE = (30_000, 41_000, 800_000)
"""About as in Gowalla."""
KEPT = 200


@dataclass(frozen=True)
class Row:
    """What one model took."""

    what: str
    shape: str
    seconds: float
    """Median to fit."""
    bar: str
    reference_s: float | None = None
    """Median of the reference; None where there is none."""
    ratio: float | None = None
    """Median of ours over the reference's, each pair measured in turn."""
    note: str = ""
    peak_bytes: int = 0
    """Most memory of this process so far."""


def likes(users: int, contents: int, count: int, seed: int = 0) -> sp.csr_array:
    """(u, i) float32 likes: contents drawn by a power law of their rank, users by a log-normal.

    Every content has at least one like; pairs drawn twice count once, so that a few per cent are missing.
    """
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1, users)
    popularity = (np.arange(contents) + 10.0) ** -0.8
    rows = rng.choice(users, count, p=activity / activity.sum())
    columns = rng.choice(contents, count, p=popularity / popularity.sum())
    rows = np.concatenate([rows, rng.integers(users, size=contents)])
    columns = np.concatenate([columns, np.arange(contents)])
    found = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, contents))
    found.sum_duplicates()
    found.data[:] = 1
    return found


def measure(repetitions: int, is_large: bool, say: Callable[[str], None]) -> list[Row]:
    """Fits each model; the reference in turn with ours, so that a noisy minute meets both.

    Args:
        repetitions: how often iALS and its reference run, 1 or more.
        is_large: True also fits EASE on 41,000 contents, which takes 7 GB and minutes.
        say: told what is fitted now.
    """
    middle, large = _training(likes(*MIDDLE)), _training(likes(*LARGE))
    say("iALS and implicit in turn")
    rows = [_beside_implicit(middle, repetitions)]
    for what, model, training, bar in (
        ("ease", EASE(EASEConfig()), middle, "<= 5 s"),
        ("graph_filter", IdealFilter(IdealFilterConfig()), large, "<= 30 s"),
        ("polynomial_filter", PolynomialFilter(PolynomialFilterConfig()), large, "<= 30 s"),
    ):
        say(what)
        rows.append(_fit(what, model, training, bar))
    if is_large:
        say("ease on 41,000 contents")
        rows.append(_fit("ease", EASE(EASEConfig(kept=KEPT)), large, "<= 16 GiB"))
    return rows


def _fit(what: str, model: Recommender, training: Training, bar: str) -> Row:
    started = time.perf_counter()
    model.fit(training)
    seconds = time.perf_counter() - started
    some = Users(np.arange(20), training.positives[:20])
    started = time.perf_counter()
    model.score(some)
    note = f"20 users scored in {1000 * (time.perf_counter() - started):.0f} ms"
    return Row(what, _shape(training), seconds, bar, note=note, peak_bytes=_peak())


def _beside_implicit(training: Training, repetitions: int) -> Row:
    config, by_hand = IALSConfig(), sp.csr_matrix(training.positives)
    by_hand = by_hand[np.flatnonzero(np.diff(by_hand.indptr))]  # who likes nothing teaches nothing
    ours, theirs, ratios, is_equal = [], [], [], True
    for _ in range(repetitions):
        model = IALS(config)
        started = time.perf_counter()
        model.fit(training)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        with threadpool_limits(limits=1, user_api="blas"):  # as implicit itself advises
            reference = AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.regularization,
                alpha=config.alpha,
                iterations=config.iterations,
                random_state=training.seed,
            )
            reference.fit(by_hand, show_progress=False)
        theirs.append(time.perf_counter() - started)
        ratios.append(ours[-1] / theirs[-1])
        is_equal &= np.array_equal(model.arrays()["vectors"], reference.item_factors)
    note = "factors equal to the bit" if is_equal else "FACTORS DIFFER"
    return Row(
        "ials", _shape(training), median(ours), "<= 1.05", median(theirs), median(ratios), note, _peak()
    )


def _training(positives: sp.csr_array) -> Training:
    times = positives.astype(np.int64)
    return Training(None, positives, times, np.ones(positives.shape[1], bool))  # no model here reads a graph


def _shape(training: Training) -> str:
    users, contents = training.positives.shape
    return f"{users:,} x {contents:,}, {training.positives.nnz:,} likes"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
