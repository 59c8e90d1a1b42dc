"""Our metrics beside those of three libraries, on random cases.

Scores tie, lists are short, some users have nothing held out. Ties are broken once by our rule, score then
content row, and distinct ranks are handed on to all."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from experiments.metrics import Ranked, measure
from models.ranking import top

K, N, CONTENTS = 10, 20, 80
METRICS = ("ndcg@10", "recall@10", "precision@10", "hit_rate@10", "mrr@10", "map@10", "capped_map@10")
OTHER_DEFINITION = {
    ("torchmetrics", "map@10"): "divides by the hits found among the first k, ours by all that is held out",
    (
        "torchmetrics",
        "capped_map@10",
    ): "divides by the hits found among the first k, ours by min(k, held out)",
    ("ranx", "capped_map@10"): "divides by all that is held out",
    ("ir_measures", "capped_map@10"): "divides by all that is held out",
}
BARS = {"ranx": 1e-9, "ir_measures": 1e-9, "torchmetrics": 1e-6, "plain loop": 1e-12}


@dataclass(frozen=True)
class Row:
    """One metric against one library."""

    metric: str
    library: str
    difference: float | None
    """Largest absolute difference over all users with something held out; None where it was not compared."""
    bar: float
    users: int
    note: str = ""
    """Why it was not compared."""

    @property
    def is_within(self) -> bool:
        """Whether the two agree, or need not."""
        return self.difference is None or self.difference <= self.bar


@dataclass(frozen=True)
class Cases:
    """Random lists and what is held out; a list ends with -1 where it is short."""

    rows: np.ndarray
    """(u, 20) int64."""
    held: tuple[frozenset[int], ...]

    @property
    def ranked(self) -> Ranked:
        """What our metrics read."""
        both = zip(self.rows.tolist(), self.held, strict=True)
        hits = np.array([[row in own for row in line] for line, own in both])
        return Ranked(torch.from_numpy(hits), torch.tensor([len(own) for own in self.held]))


def measure_all(cases: int, seed: int = 0) -> list[Row]:
    """Largest difference of each metric from each library; one that is not installed is named."""
    made = cases_of(cases, seed)
    ours = {name: value.numpy() for name, value in measure(METRICS, made.ranked).items()}
    judged = np.array([bool(own) for own in made.held])
    if any(not np.array_equal(np.isnan(value), ~judged) for value in ours.values()):
        raise ValueError(
            "users with nothing held out must have no value, and all others one: mend the metrics"
        )
    rows = []
    for library, run in _LIBRARIES.items():
        theirs, why = _try(run, made)
        for name in METRICS:
            note = why or OTHER_DEFINITION.get((library, name), "")
            difference = None if note else float(np.abs(ours[name] - theirs[name])[judged].max())
            rows.append(Row(name, library, difference, BARS[library], int(judged.sum()), note))
    return rows


def cases_of(count: int, seed: int) -> Cases:
    """Users with scores that tie, between 1 and 20 contents to rank, and 0 to 14 held out."""
    draw = np.random.default_rng(seed)
    scores = draw.integers(6, size=(count, CONTENTS)).astype(np.float32)
    for line, left in zip(scores, draw.integers(1, 2 * N, count), strict=True):
        line[draw.permutation(CONTENTS)[left:]] = -np.inf
    sizes = draw.integers(15, size=count)
    held = tuple(frozenset(draw.choice(CONTENTS, size, replace=False).tolist()) for size in sizes)
    return Cases(top(scores, N), held)


Values = dict[str, np.ndarray]


def _try(run: Callable[[Cases], Values], cases: Cases) -> tuple[Values, str]:
    try:
        return run(cases), ""
    except ImportError as error:
        return {}, f"not installed ({error.name}): pip install .[dev]"


def _asked(cases: Cases) -> list[tuple[int, list[int], frozenset[int]]]:
    """(user, list without its empty end, held out) of all of whom something is held out."""
    lines = zip(cases.rows.tolist(), cases.held, strict=True)
    return [(user, [row for row in line if row >= 0], own) for user, (line, own) in enumerate(lines) if own]


def _ranx(cases: Cases) -> Values:
    ranx = importlib.import_module("ranx")
    asked, names = _asked(cases), [name for name in METRICS if ("ranx", name) not in OTHER_DEFINITION]
    qrels = ranx.Qrels({f"{user:06d}": {f"c{row}": 1 for row in own} for user, _, own in asked})
    run = ranx.Run(
        {f"{user:06d}": {f"c{row}": float(-at) for at, row in enumerate(line)} for user, line, _ in asked}
    )
    found = ranx.evaluate(qrels, run, names, return_mean=False)
    return {name: _spread([user for user, _, _ in asked], found[name], len(cases.held)) for name in names}


def _ir_measures(cases: Cases) -> Values:
    library = importlib.import_module("ir_measures")
    theirs = {
        "ndcg": "nDCG",
        "recall": "R",
        "precision": "P",
        "hit_rate": "Success",
        "mrr": "RR",
        "map": "AP",
    }
    asked = _asked(cases)
    qrels = [library.Qrel(str(user), str(row), 1) for user, _, own in asked for row in own]
    run = [
        library.ScoredDoc(str(user), str(row), float(-at))
        for user, line, _ in asked
        for at, row in enumerate(line)
    ]
    named = {library.parse_measure(f"{theirs[name]}@{K}"): f"{name}@{K}" for name in theirs}
    values = {name: np.full(len(cases.held), np.nan) for name in named.values()}
    for found in library.iter_calc(list(named), qrels, run):
        values[named[found.measure]][int(found.query_id)] = found.value
    return values


def _torchmetrics(cases: Cases) -> Values:
    library = importlib.import_module("torchmetrics.functional.retrieval")
    theirs = {
        "ndcg@10": library.retrieval_normalized_dcg,
        "recall@10": library.retrieval_recall,
        "precision@10": library.retrieval_precision,
        "hit_rate@10": library.retrieval_hit_rate,
        "mrr@10": library.retrieval_reciprocal_rank,
    }
    values = {name: np.full(len(cases.held), np.nan) for name in theirs}
    for user, line, own in _asked(cases):
        missed = len(own - set(line))
        # it knows of no positive that is not ranked: those stand behind a list filled up with misses
        target = [row in own for row in line] + [False] * (N - len(line)) + [True] * missed
        scores = torch.arange(len(target), 0, -1, dtype=torch.float32)  # it counts only what scores above 0
        for name, function in theirs.items():
            values[name][user] = function(scores, torch.tensor(target), top_k=K).item()
    return values


def _plain_loop(cases: Cases) -> Values:
    values = {name: np.full(len(cases.held), np.nan) for name in METRICS}
    for user, line, own in _asked(cases):
        found = [rank for rank, row in enumerate(line[:K], 1) if row in own]
        precisions = sum(place / rank for place, rank in enumerate(found, 1))
        best = sum(1 / np.log2(rank + 1) for rank in range(1, min(K, len(own)) + 1))
        told = {
            "ndcg@10": sum(1 / np.log2(rank + 1) for rank in found) / best,
            "recall@10": len(found) / len(own),
            "precision@10": len(found) / K,
            "hit_rate@10": float(bool(found)),
            "mrr@10": 1 / found[0] if found else 0.0,
            "map@10": precisions / len(own),
            "capped_map@10": precisions / min(K, len(own)),
        }
        for name, value in told.items():
            values[name][user] = value
    return values


def _spread(users: list[int], found: np.ndarray, count: int) -> np.ndarray:
    values = np.full(count, np.nan)
    values[users] = found
    return values


_LIBRARIES = {
    "ranx": _ranx,
    "ir_measures": _ir_measures,
    "torchmetrics": _torchmetrics,
    "plain loop": _plain_loop,
}
