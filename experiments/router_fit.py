"""Fits what a router reads with: FastGRNN in torch, and a logistic regression over hashed TF-IDF features.

q queries · f features · c classes."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from configs.registry import fill
from models.fastgrnn import FastGRNNConfig, QueryClassifier
from models.queries import INTENTS
from models.reading import (
    MOST_FEATURES,
    buckets_of,
    dequantise,
    features_of,
    letters_of,
    quantise,
    quantise_linear,
    runs_of,
)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Read:
    """Queries as a router reads them."""

    words: Sequence[Sequence[str]]
    """One word or more of each."""
    intents: np.ndarray
    """(q,) int, places in INTENTS."""
    templates: np.ndarray | None = None
    """(q,) int, equal for fillings of one template; None where each query is its own."""


@dataclass(frozen=True)
class FitConfig:
    """Settings of :func:`fit_grnn` and :func:`fit_linear`."""

    epochs: int = 4
    batch: int = 128
    learning_rate: float = 0.004
    weight_decay: float = 0.0001
    word_dropout: float = 0.2
    label_smoothing: float = 0.05
    inverse_penalty: float = 10.0
    """C of the regression, above 0."""
    model: Mapping[str, Any] | None = None
    """Settings of :class:`FastGRNNConfig`."""


def fit_grnn(
    train: Read, choose: Sequence[Read], config: FitConfig, seed: int, say: Progress
) -> QueryClassifier:
    """Trains on batches of queries; keeps the epoch with the least cross entropy on those to choose on."""
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 78])
    module = QueryClassifier(fill(FastGRNNConfig, config.model or {}, "model of the router"))
    encoded, held = _Encoded(train), [_Encoded(part) for part in choose]
    batches = -(-len(train.words) // config.batch)
    optimizer = torch.optim.AdamW(module.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, config.epochs * batches, pct_start=0.15
    )
    best, kept = np.inf, module.state_dict()
    for epoch in range(config.epochs):
        module.train()
        for rows in np.array_split(rng.permutation(len(train.words)), batches):
            logits = module(*encoded.batch(rows, rng, config.word_dropout))
            loss = nn.functional.cross_entropy(
                logits, encoded.intents[rows], label_smoothing=config.label_smoothing
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        value = float(np.mean([_loss(module, part) for part in held]))
        say(f"epoch {epoch + 1} of {config.epochs}, cross entropy on the templates for choosing {value:.3f}")
        if value < best:
            best, kept = value, copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    return module.eval()


def fit_linear(train: Read, inverse_penalty: float) -> dict[str, np.ndarray]:
    """Weights of :class:`models.reading.LinearReader`, fitted by scikit-learn and rounded to int8."""
    said = [[np.concatenate([letters_of(word) for word in own]), runs_of(own)] for own in train.words]
    hashes = kept_features(said, train.templates)
    idf_bytes, idf_scale = _idf_of(said, hashes)
    model = LogisticRegression(C=inverse_penalty, max_iter=200, tol=1e-3)
    model.fit(matrix_of(train.words, hashes, idf_bytes.astype(np.float32) * idf_scale), train.intents)
    matrix, bias = np.zeros((len(hashes), len(INTENTS))), np.full(len(INTENTS), -1e3)
    matrix[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return quantise_linear(hashes, matrix, bias, idf_bytes, float(idf_scale))


def kept_features(said: Sequence[Sequence[np.ndarray]], templates: np.ndarray | None) -> np.ndarray:
    """(f,) uint32, rising: features that two templates have at least, those of most templates first.

    What one template alone says cannot tell the class of another one.

    Args:
        said: the hashes of each query, in parts.
        templates: (q,) int; None where each query is its own.
    """
    own = np.arange(len(said)) if templates is None else templates
    pairs = [(np.int64(number) << 32) | _all(parts) for number, parts in zip(own, said, strict=True)]
    hashes, counts = np.unique(np.unique(np.concatenate(pairs)) & 0xFFFFFFFF, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:MOST_FEATURES]
    return np.sort(hashes[first[counts[first] >= min(2, counts.max())]]).astype(np.uint32)


def matrix_of(words: Sequence[Sequence[str]], hashes: np.ndarray, idf: np.ndarray) -> csr_matrix:
    """(q, f) features of queries, weighed as :func:`models.reading.features_of` weighs them."""
    made = [features_of(own, hashes, idf) for own in words]
    borders = np.concatenate(([0], np.cumsum([len(rows) for rows, _ in made])))
    places, values = (np.concatenate(part) for part in zip(*made, strict=True))
    return csr_matrix((values, places, borders), shape=(len(words), len(hashes)))


def rounded(module: QueryClassifier) -> QueryClassifier:
    """A copy of the classifier with the weights that int8 keeps: what the reader in NumPy must equal."""
    other = QueryClassifier(module.config)
    other.take(dequantise(quantise(module.floats())))
    return other.eval()


def logits_of(module: QueryClassifier, words: Sequence[Sequence[str]]) -> np.ndarray:
    """(q, c) float32 of a classifier in torch."""
    encoded = _Encoded(Read(words, np.zeros(len(words), int)))
    with torch.no_grad():
        return module(*encoded.batch(np.arange(len(words)), None, 0.0)).numpy()


class _Encoded:
    """Queries as rows of distinct words."""

    def __init__(self, read: Read) -> None:
        known: dict[str, int] = {}
        self.rows = [[known.setdefault(word, len(known)) for word in words] for words in read.words]
        self.grams = [torch.from_numpy(buckets_of(word).copy()) for word in known]
        self.intents = torch.from_numpy(read.intents)

    def batch(
        self, which: np.ndarray, rng: np.random.Generator | None, dropout: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What :class:`QueryClassifier` reads; ``dropout`` is the share of words left out, never all."""
        kept = [self.rows[row] for row in which]
        if rng is not None and dropout:
            kept = [[word for word in row if rng.random() >= dropout] or row for row in kept]
        distinct = sorted({word for row in kept for word in row}) or [0]
        at = {word: place for place, word in enumerate(distinct)}
        place = torch.full((len(kept), max(1, *(len(row) for row in kept), 1)), -1)
        for line, row in enumerate(kept):
            place[line, : len(row)] = torch.tensor([at[word] for word in row], dtype=torch.long)
        grams = [self.grams[word] for word in distinct] if self.grams else [torch.zeros(1, dtype=torch.long)]
        sizes = torch.tensor([0, *(len(own) for own in grams[:-1])])
        return torch.cat(grams), sizes.cumsum(0), place


@torch.no_grad()
def _loss(module: QueryClassifier, part: _Encoded) -> float:
    module.eval()
    logits = module(*part.batch(np.arange(len(part.rows)), None, 0.0))
    return nn.functional.cross_entropy(logits, part.intents).item()


def _idf_of(said: Sequence[Sequence[np.ndarray]], hashes: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """(f,) uint8 idf, ln((1 + q) / (1 + queries with the feature)) + 1, and what one step of it is."""
    every = np.concatenate([_all(parts) for parts in said])
    there = np.bincount(np.searchsorted(hashes, every[np.isin(every, hashes)]), minlength=len(hashes))
    idf = np.log((1 + len(said)) / (1 + there)) + 1
    scale = np.float32(idf.max() / 255)
    return np.rint(idf / scale).astype(np.uint8), scale


def _all(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Distinct hashes of a query as int64."""
    return np.unique(np.concatenate(parts)).astype(np.int64)
