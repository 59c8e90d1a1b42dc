"""Ranking and metrics at the size of a large catalogue, beside the same in plain NumPy.

u users · i contents · n recommendations in a list · b users in a block."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import scipy.sparse as sp
import torch

from experiments import metrics
from experiments.evaluation import hits_of
from experiments.lists import BLOCK_BYTES, lists_of
from experiments.metrics import Ranked
from experiments.splits import Part
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users

METRICS = ("ndcg@10", "recall@20", "precision@10", "hit_rate@10", "mrr@10", "map@10")
WIDTH, SEEN, HELD_OUT, N = 64, 27, 10, 20
OURS, REFERENCE = "ours", "NumPy: product, mask and argpartition a block"


@dataclass(frozen=True)
class Row:
    """What one side took."""

    what: str
    seconds: tuple[float, ...]
    """Of each repetition."""
    cpu_s: float
    """Processor time of the quickest, all threads."""
    peak_bytes: int | None
    """Most memory of this process until then, interpreter and libraries too; None after the first side."""
    is_equal: bool
    """Whether lists and metrics are those of the other side."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds of the last repetition."""

    @property
    def median_s(self) -> float:
        """Median of the repetitions."""
        return median(self.seconds)


class Factors(Recommender):
    """Scores are products of two random factor matrices."""

    facts = ModelFacts(scores_cold_user=False, scores_cold_content=False, draws_on=())

    def __init__(self, users: int, contents: int, seed: int = 0) -> None:
        super().__init__(None)
        draw = np.random.default_rng(seed)
        self.users = draw.standard_normal((users, WIDTH), dtype=np.float32)
        self.contents = draw.standard_normal((WIDTH, contents), dtype=np.float32)
        self.spent_s = 0.0

    def fit(self, training: Training) -> None:
        """Nothing is learned."""

    def score(self, users: Users) -> np.ndarray:
        """(b, i) float32."""
        before = time.perf_counter()
        scores = self.users[users.rows] @ self.contents
        self.spent_s += time.perf_counter() - before
        return scores

    def arrays(self) -> dict[str, np.ndarray]:
        """Nothing is kept."""
        return {}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        """Nothing is taken back."""


def measure(users: int, contents: int, repetitions: int, progress: Callable[[str], None]) -> list[Row]:
    """Both sides in turn; ours runs before anything of the other, so that its peak is its own."""
    part, model = part_of(users, contents), Factors(users, contents)
    sides = {OURS: _ours, REFERENCE: _reference}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    found, stages, peak = {}, {}, 0
    for repetition in range(repetitions):
        for name, run in sides.items():
            progress(f"{name}, {repetition + 1} of {repetitions}")
            before, before_cpu = time.perf_counter(), time.process_time()
            found[name], stages[name] = run(model, part)
            seconds[name].append(time.perf_counter() - before)
            cpu[name].append(time.process_time() - before_cpu)
            peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    is_equal = _are_equal(found[OURS], found[REFERENCE])
    return [
        Row(
            name, tuple(seconds[name]), min(cpu[name]), peak if name == OURS else None, is_equal, stages[name]
        )
        for name in sides
    ]


def part_of(users: int, contents: int, seed: int = 0) -> Part:
    """About 27 seen and 10 held-out contents a user, all of which may be ranked."""
    draw = np.random.default_rng(seed)
    pairs = np.repeat(np.arange(users), SEEN + HELD_OUT) * contents
    pairs += draw.integers(contents, size=len(pairs))
    is_held_out = np.tile(np.arange(SEEN + HELD_OUT) >= SEEN, users)
    pairs, first = np.unique(pairs, return_index=True)
    rows, columns, held = pairs // contents, pairs % contents, is_held_out[first]

    def matrix(mask: np.ndarray) -> sp.csr_array:
        ones = np.ones(mask.sum(), np.float32)
        return sp.csr_array((ones, (rows[mask], columns[mask])), shape=(users, contents))

    seen = matrix(~held)
    training = Training(None, seen, seen.astype(np.int64), np.ones(contents, bool))
    return Part(training, matrix(held), np.zeros(users, np.int64), None)


Found = tuple[np.ndarray, dict[str, torch.Tensor]]


def _ours(model: Factors, part: Part) -> tuple[Found, dict[str, float]]:
    model.spent_s, started = 0.0, time.perf_counter()
    rows = lists_of(model, part.asked, part.users, N).rows
    ranked_s = time.perf_counter() - started
    return (rows, _metrics(hits_of(rows, part), part)), {
        "product": model.spent_s,
        "choice": ranked_s - model.spent_s,
        "metrics": time.perf_counter() - started - ranked_s,
    }


def _reference(model: Factors, part: Part) -> tuple[Found, dict[str, float]]:
    model.spent_s, started = 0.0, time.perf_counter()
    contents = part.held_out.shape[1]
    rows, block = [], max(1, BLOCK_BYTES // (4 * contents))
    for start in range(0, len(part.users), block):
        users = part.users[start : start + block]
        seen = part.training.positives[users]
        scores = model.score(Users(users, seen))
        scores[np.repeat(np.arange(len(users)), np.diff(seen.indptr)), seen.indices] = -np.inf
        best = np.argpartition(-scores, N, axis=1)[:, :N]
        best.sort(axis=1)
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        rows.append(np.take_along_axis(best, order, axis=1))
    lists = np.concatenate(rows)
    held = part.held_out.tocoo()
    hits = np.isin(part.users[:, None] * contents + lists, held.row.astype(np.int64) * contents + held.col)
    return (lists, _metrics(hits, part)), {"all": time.perf_counter() - started}


def _metrics(hits: np.ndarray, part: Part) -> dict[str, torch.Tensor]:
    positives = np.diff(part.held_out.indptr)[part.users].astype(np.int64)
    return metrics.measure(METRICS, Ranked(torch.from_numpy(hits), torch.from_numpy(positives)))


def _are_equal(ours: Found, theirs: Found) -> bool:
    return np.array_equal(ours[0], theirs[0]) and all(
        torch.equal(ours[1][name], theirs[1][name]) for name in METRICS
    )
