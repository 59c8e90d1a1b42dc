"""Trains the query router on made-up queries, calibrates it, and measures it beside what is simpler.

Four parts of templates never meet: trained on; chosen and tempered on; calibrated on; tested on."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError, fill
from experiments.routing import Row, Scored, border_of, calibrated, measure_rows
from experiments.routing_baselines import key_words, linear
from kg.arrays import GraphArrays
from models.fastgrnn import FastGRNNConfig, QueryClassifier
from models.queries import INTENTS, ORDERS, Queries, Query, misspell
from models.router import Calibration, Router, buckets_of, dequantise, quantise, words_of
from models.slots import Gazetteer

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RouterConfig:
    """Settings of :func:`train_router`; ``configs/router/router.yaml`` says what each is."""

    seed: int = 0
    """Of the cut, the fillings and the training."""
    each: int = 40
    held_each: int = 20
    misspelt_share: float = 0.4
    word_dropout: float = 0.1
    unmasked_share: float = 0.2
    epochs: int = 12
    batch: int = 128
    learning_rate: float = 0.004
    weight_decay: float = 0.0001
    coverage: float = 0.9
    threshold: float = 0.5
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`FastGRNNConfig`."""

    def __post_init__(self) -> None:
        counts = (self.each, self.held_each, self.epochs, self.batch)
        shares = (self.misspelt_share, self.word_dropout, self.unmasked_share, self.coverage, self.threshold)
        if min(counts) < 1 or not all(0 <= share < 1 for share in shares) or not self.learning_rate > 0:
            raise SettingError(
                f"counts are 1 or more, shares in 0..1 and the learning rate above 0, got {asdict(self)}"
            )
        fill(FastGRNNConfig, self.model, "model of the router")


@dataclass(frozen=True)
class RouterResult:
    """A trained router and what it and its references reach."""

    router: Router
    """Rounded to int8 and calibrated."""
    rows: tuple[Row, ...]
    """FastGRNN first, then the logistic regression and the key words."""
    ahead: str
    """Name of the row that has the higher macro F1 on the templates for choosing; saved is FastGRNN."""
    queries: Mapping[str, int]
    """Part -> queries."""
    templates: Mapping[str, int]
    """Part -> templates."""
    train_s: float
    """Wall seconds of the training of FastGRNN."""
    config: RouterConfig
    graph_hash: str

    def summary(self) -> dict[str, Any]:
        """All but the weights, as JSON knows it."""
        told = {"ahead": self.ahead, "queries": dict(self.queries), "templates": dict(self.templates)}
        rows = [asdict(row) for row in self.rows]
        return {
            **told,
            "rows": rows,
            "train_s": self.train_s,
            "config": asdict(self.config),
            "graph_hash": self.graph_hash,
        }


class LeakError(ValueError):
    """A held-out template or title that the training has seen."""


@dataclass(frozen=True)
class Parts:
    """Queries by what they are for; each held-out part has its misspelt twin."""

    train: Sequence[Query]
    held: Mapping[str, Sequence[Query]]
    """choose, calibrate, test, orders, and each with ``-misspelt``."""


def train_router(
    config: Mapping[str, Any], graph: GraphArrays, progress: Progress | None = None
) -> RouterResult:
    """Trains, rounds, calibrates and measures a router on queries about a graph.

    Args:
        config: settings of :class:`RouterConfig`, as :func:`configs.loading.load` gives them.
        graph: whose titles, people and platforms fill the templates.
        progress: told in words what is done now.

    Raises:
        SettingError: a setting that does not fit.
        LeakError: training and held-out queries share a template, a sentence or a title.
    """
    settings, say = fill(RouterConfig, config, "router"), progress or (lambda _: None)
    made = Queries(graph, settings.seed)
    gazetteer = Gazetteer.of(graph)
    parts = draw_parts(made, settings)
    check_leaks(parts)
    parts = masked(parts, gazetteer, settings)
    started = time.perf_counter()
    module = fit(parts, gazetteer, settings, say)
    train_s = time.perf_counter() - started
    say("calibrate and measure")
    router = _calibrated_router(Router(quantise(module.floats()), None, gazetteer), parts, settings)
    regression = linear(parts.train)
    scorers = {
        "FastGRNN int8": router.logits,
        "TF-IDF logistic regression": lambda text: regression(gazetteer.mask(text)),
        "key words": key_words,
    }
    scored = {name: _scored(scorer, parts.held) for name, scorer in scorers.items()}
    rows, chosen = measure_rows(scored, settings.coverage, settings.seed)
    return RouterResult(
        router,
        rows,
        max(chosen, key=lambda name: chosen[name]),
        {"train": len(parts.train)} | {name: len(own) for name, own in parts.held.items()},
        {name: len({query.template for query in own}) for name, own in parts.held.items()}
        | {"train": len({query.template for query in parts.train})},
        train_s,
        settings,
        graph.hash,
    )


def draw_parts(made: Queries, settings: RouterConfig) -> Parts:
    """Queries of all parts; a share of those for training is misspelt."""
    rng = np.random.default_rng([settings.seed, 77])
    train = [
        _misspelt(query, rng) if rng.random() < settings.misspelt_share else query
        for query in made.draw("train", settings.each)
    ]
    held: dict[str, Sequence[Query]] = {}
    for part in ("choose", "calibrate", "test", ORDERS):
        held[part] = made.draw(part, settings.held_each)
        held[f"{part}-misspelt"] = [_misspelt(query, rng) for query in held[part]]
    return Parts(train, held)


def check_leaks(parts: Parts) -> None:
    """Refuses held-out queries whose template, sentence or title was trained on."""
    own = {query.template.text for query in parts.train}
    texts = {query.text.lower() for query in parts.train}
    titles = {words.lower() for query in parts.train for words in _names(query)}
    for part, queries in parts.held.items():
        for query in queries:
            for what, is_seen in (
                ("template", query.template.text in own),
                ("sentence", query.text.lower() in texts),
                ("title or person", any(words.lower() in titles for words in _names(query))),
            ):
                if is_seen:
                    raise LeakError(
                        f"the part {part} must not share a {what} with the training, {query.text!r} does: "
                        "cut the parts again"
                    )


def masked(parts: Parts, gazetteer: Gazetteer, settings: RouterConfig) -> Parts:
    """Training queries as a router reads them; in a share names stay, for names that no graph knows."""
    rng = np.random.default_rng([settings.seed, 80])
    train = [
        query if rng.random() < settings.unmasked_share else replace(query, text=gazetteer.mask(query.text))
        for query in parts.train
    ]
    return Parts(train, parts.held)


def fit(parts: Parts, gazetteer: Gazetteer, settings: RouterConfig, say: Progress) -> QueryClassifier:
    """Trains on batches of queries; keeps the epoch with the best macro F1 on the part for choosing."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, 78])
    module = QueryClassifier(fill(FastGRNNConfig, settings.model, "model of the router"))
    train, choose = (
        _Encoded(parts.train),
        [
            _Encoded(parts.held["choose"]),
            _Encoded(parts.held["choose-misspelt"]),
        ],
    )
    steps = settings.epochs * -(-len(parts.train) // settings.batch)
    optimizer = torch.optim.AdamW(
        module.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, steps, pct_start=0.15)
    best, kept = -np.inf, module.state_dict()
    for epoch in range(settings.epochs):
        module.train()
        for rows in np.array_split(rng.permutation(len(parts.train)), -(-len(parts.train) // settings.batch)):
            loss = nn.functional.cross_entropy(
                module(*train.batch(rows, rng, settings.word_dropout)),
                train.intents[rows],
                label_smoothing=0.05,
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        value = -float(np.mean([_loss(module, part) for part in choose]))
        say(f"epoch {epoch + 1} of {settings.epochs}, likelihood on the templates for choosing {value:.3f}")
        if value > best:
            best, kept = value, copy.deepcopy(module.state_dict())
    module.load_state_dict(kept)
    return module.eval()


def rounded(module: QueryClassifier) -> QueryClassifier:
    """A copy of the classifier with the weights that int8 keeps: what :class:`Router` must equal."""
    other = QueryClassifier(module.config)
    other.take(dequantise(quantise(module.floats())))
    return other.eval()


def logits_of(module: QueryClassifier, texts: Sequence[str]) -> np.ndarray:
    """(q, c) float32 of a classifier in torch."""
    encoded = _Encoded([Query(text, INTENTS[0], None) for text in texts])  # type: ignore[arg-type]
    with torch.no_grad():
        return module(*encoded.batch(np.arange(len(texts)), None, 0.0)).numpy()


class _Encoded:
    """Queries as rows of distinct words."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self.words: dict[str, int] = {}
        self.rows = [
            [self.words.setdefault(word, len(self.words)) for word in words_of(query.text)]
            for query in queries
        ]
        self.grams = [torch.from_numpy(buckets_of(word).copy()) for word in self.words]
        self.intents = torch.tensor([INTENTS.index(query.intent) for query in queries])

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


def _calibrated_router(router: Router, parts: Parts, settings: RouterConfig) -> Router:
    held = {
        name: _score(router.logits, parts.held[name]) for name in ("choose", "choose-misspelt", "calibrate")
    }
    temperature, chances = calibrated(held["choose"], held["choose-misspelt"], held["calibrate"])
    border = border_of(chances, held["calibrate"].intents, settings.coverage)
    calibration = Calibration(temperature, settings.threshold, border, settings.coverage)
    return Router(router.weights, calibration, router.gazetteer)


def _scored(scorer: Callable[[str], np.ndarray], held: Mapping[str, Sequence[Query]]) -> dict[str, Scored]:
    return {part: _score(scorer, queries) for part, queries in held.items()}


def _score(scorer: Callable[[str], np.ndarray], queries: Sequence[Query]) -> Scored:
    templates = {query.template: 0 for query in queries}
    numbers = {template: number for number, template in enumerate(templates)}
    return Scored(
        np.stack([scorer(query.text) for query in queries]),
        np.array([INTENTS.index(query.intent) for query in queries]),
        np.array([numbers[query.template] for query in queries]),
    )


def _misspelt(query: Query, rng: np.random.Generator) -> Query:
    return replace(query, text=misspell(query.text, rng))


def _read(queries: Sequence[Query], gazetteer: Gazetteer) -> list[Query]:
    return [replace(query, text=gazetteer.mask(query.text)) for query in queries]


def _names(query: Query) -> list[str]:
    return [words for slot, words in query.slots.items() if slot.startswith(("title", "person"))]
