"""Trains the query router on made-up queries, calibrates it, and measures it beside what is simpler.

Four parts of templates never meet: trained on; chosen on; and, written apart, calibrated on and tested on."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from configs.registry import SettingError, fill
from experiments.router_fit import FitConfig, Progress, Read, fit_grnn, fit_linear
from experiments.routing import Row, Scored, border_of, chosen_f1, measure_row, temperature_of
from experiments.routing_baselines import key_words
from kg.arrays import GraphArrays
from models.fastgrnn import FastGRNNConfig
from models.queries import (
    INTENTS,
    KIN,
    ORDERS,
    Queries,
    Query,
    Template,
    are_kin,
    misspell,
    sentence_of,
    words_in,
)
from models.reading import Spelled, quantise, words_of
from models.router import Calibration, Router, softmax, words_to
from models.slots import Gazetteer
from models.spelling import Speller

GRNN_ROW, LINEAR_ROW, BOTH_ROW, WORDS_ROW = (
    "FastGRNN int8",
    "TF-IDF regression int8",
    "both together",
    "key words",
)
"""Rows of the table; one of the first three is served."""


LINEAR_SHARE = 0.7
"""Of the regression in both together; of .3, .5 and .7 the best on the part for choosing."""
HELD_PARTS = ("calibrate", "test")
"""Parts that nothing is chosen or fitted on."""


@dataclass(frozen=True)
class RouterConfig:
    """Settings of :func:`train_router`; ``configs/router/router.yaml`` says what each is."""

    seed: int = 0
    """Of the cut, the fillings and the training."""
    each: int = 20
    held_each: int = 10
    misspelt_share: float = 0.4
    missing_share: float = 0.2
    unmasked_share: float = 0.15
    coverage: float = 0.9
    threshold: float = 0.5
    fit: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`FitConfig`."""

    def __post_init__(self) -> None:
        shares = (self.misspelt_share, self.missing_share, self.unmasked_share, self.coverage, self.threshold)
        if min(self.each, self.held_each) < 1 or not all(0 <= share < 1 for share in shares):
            raise SettingError(f"counts are 1 or more and shares in 0..1, got {asdict(self)}")
        fill(
            FastGRNNConfig, fill(FitConfig, self.fit, "fit of the router").model or {}, "model of the router"
        )


@dataclass(frozen=True)
class RouterResult:
    """A trained router and what it and its references reach."""

    router: Router
    """The served one, rounded to int8 and calibrated."""
    rows: tuple[Row, ...]
    """FastGRNN, the regression, both together, and key words."""
    ahead: str
    """Row that is served: the highest macro F1 on the templates for choosing."""
    queries: Mapping[str, int]
    """Part -> queries."""
    templates: Mapping[str, int]
    """Part -> templates."""
    train_s: float
    """Wall seconds of both fits."""
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
    words = known_words(made)
    spelled = Spelled(gazetteer, Speller(words))
    started = time.perf_counter()
    weights = fit_members(parts, spelled, settings, say)
    train_s = time.perf_counter() - started
    say("calibrate and measure")
    routers = _members(weights, words_to(words), gazetteer, parts)
    scorers = {name: router.logits for name, router in routers.items()} | {WORDS_ROW: key_words}
    scored = {
        name: {part: _score(scorer, own) for part, own in parts.held.items()}
        for name, scorer in scorers.items()
    }
    ahead = max(routers, key=lambda name: chosen_f1(scored[name]))
    return RouterResult(
        _calibrated(routers[ahead], scored[ahead]["calibrate"], settings),
        tuple(measure_row(name, own, settings.coverage, settings.seed) for name, own in scored.items()),
        ahead,
        {"train": len(parts.train)} | {name: len(own) for name, own in parts.held.items()},
        {name: len({query.template for query in own}) for name, own in parts.held.items()}
        | {"train": len({query.template for query in parts.train})},
        train_s,
        settings,
        graph.hash,
    )


def known_words(made: Queries) -> list[str]:
    """Words that slips are set right to: of the training templates, commonest first, and of the lexicon."""
    times = Counter(
        word
        for one in made.templates
        if one.part == "train"
        for own in sorted(words_in(one.text))
        for word in words_of(own)
    )
    said = [
        word
        for slots in made.lexicon.values()
        for words in slots.values()
        for name in words.values()
        for word in words_of(name)
    ]
    return [word for word, _ in sorted(times.items(), key=lambda pair: (-pair[1], pair[0]))] + said


def fit_members(
    parts: "Parts", spelled: Spelled, settings: RouterConfig, say: Progress
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights of FastGRNN and of the regression, both int8, fitted on the same queries."""
    config = fill(FitConfig, settings.fit, "fit of the router")
    train = read_for_training(parts.train, spelled, settings)
    choose = [_read(parts.held[name], spelled) for name in ("choose", "choose-misspelt")]
    say("fit the regression")
    linear = fit_linear(train, config.inverse_penalty)
    return quantise(fit_grnn(train, choose, config, settings.seed, say).floats()), linear


def draw_parts(made: Queries, settings: RouterConfig) -> Parts:
    """Queries of all parts; a share of those to train on is misspelt; none held out equals one of these."""
    rng = np.random.default_rng([settings.seed, 77])
    drawn = {part: made.draw(part, settings.held_each) for part in ("choose", "calibrate", "test", ORDERS)}
    train = made.draw("train", settings.each)
    is_kin = kin_of_held(train, [query for part in HELD_PARTS for query in drawn[part]])
    train = [
        _misspelt(query, rng) if rng.random() < settings.misspelt_share else query
        for query, near in zip(train, is_kin, strict=True)
        if not near
    ]
    seen, held = {query.text.lower() for query in train}, {}
    for part, queries in drawn.items():
        held[part] = [query for query in queries if query.text.lower() not in seen]
        slipped = [_misspelt(query, rng) for query in held[part]]
        held[f"{part}-misspelt"] = [query for query in slipped if query.text.lower() not in seen]
    return Parts(train, held)


def check_leaks(parts: Parts) -> None:
    """Refuses held-out queries whose template, one of its family, sentence or title was trained on."""
    own = {query.template for query in parts.train}
    _check_kin(own, {query.template for queries in parts.held.values() for query in queries})
    _check_forms(parts)
    own = {sentence_of(one) for one in own}
    texts = {query.text.lower() for query in parts.train}
    titles = {words.lower() for query in parts.train for words in _names(query)}
    for part, queries in parts.held.items():
        for query in queries:
            for what, is_seen in (
                ("template", sentence_of(query.template) in own),
                ("sentence", query.text.lower() in texts),
                ("title or person", any(words.lower() in titles for words in _names(query))),
            ):
                if is_seen:
                    raise LeakError(
                        f"the part {part} must not share a {what} with the training, {query.text!r} does: "
                        "cut the parts again"
                    )


def kin_of_held(train: Sequence[Query], held: Sequence[Query]) -> np.ndarray:
    """(q,) bool, whether a query's sentence is kin of one held out in its class and language.

    Sentences are compared as they were chosen of their templates, before slots are filled: a template of many
    choices may put together the very sentence that another template is, and its family does not show it.

    Args:
        train: q queries.
        held: of the parts that are calibrated and tested on.

    Cost: one sparse product of distinct sentences; a second for 20,000 times 600.
    """
    groups = {(query.template.intent, query.template.language) for query in held}
    near: set[tuple[str, str, str]] = set()
    for group in groups:
        own, other = (
            sorted({query.form for query in queries if _group_of(query) == group})
            for queries in (train, held)
        )
        near |= {(*group, form) for form in _near(own, other)}
    return np.array([(*_group_of(query), query.form) in near for query in train], bool)


def _near(forms: Sequence[str], held: Sequence[str]) -> list[str]:
    if not forms:
        return []
    words = {
        word: place for place, word in enumerate(sorted(frozenset().union(*map(words_in, [*forms, *held]))))
    }
    first, second = (_matrix(own, words) for own in (forms, held))
    shared = (first @ second.T).toarray()
    union = first.sum(1)[:, None] + second.sum(1)[None, :] - shared
    return [forms[place] for place in np.flatnonzero((shared > KIN * union).any(1))]


def _matrix(forms: Sequence[str], words: Mapping[str, int]) -> csr_array:
    """(f, w) 1 where a sentence has a word."""
    rows = [[words[word] for word in words_in(form)] for form in forms]
    borders = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
    places = np.array([place for row in rows for place in row], np.int64)
    return csr_array((np.ones(len(places)), places, borders), shape=(len(forms), len(words)))


def _group_of(query: Query) -> tuple[str, str]:
    return query.template.intent, query.template.language


def _check_forms(parts: Parts) -> None:
    held = [query for part in HELD_PARTS for query in parts.held[part]]
    near = kin_of_held(parts.train, held)
    if near.any():
        raise LeakError(
            f"the training must not share a sentence's kin with what is held out, "
            f"{parts.train[int(near.argmax())].form!r} does: leave it out"
        )


def _check_kin(train: Set[Template], held: Set[Template]) -> None:
    said: dict[tuple[str, str], list[tuple[frozenset[str], Template]]] = {}
    for one in train:
        said.setdefault((one.intent, one.language), []).append((words_in(one.text), one))
    for one in held:
        if one.part == ORDERS:
            continue
        words = words_in(one.text)
        near = (other for own, other in said.get((one.intent, one.language), ()) if are_kin(words, own))
        if other := next(near, None):
            raise LeakError(
                f"the part {one.part} must not share a template's family with the training, {one.text!r} is "
                f"kin of {other.text!r}: write another one"
            )


def read_for_training(queries: Sequence[Query], spelled: Spelled, settings: RouterConfig) -> Read:
    """Queries as a router reads them, some words missing; in a share names stay, for names no graph knows."""
    rng, bare = np.random.default_rng([settings.seed, 80]), Spelled(None, spelled.speller)
    words = []
    for query in queries:
        own = (bare if rng.random() < settings.unmasked_share else spelled).words(query.text)
        words.append([word for word in own if rng.random() >= settings.missing_share] or own)
    return Read(words, _intents(queries), _numbers(queries))


def _read(queries: Sequence[Query], spelled: Spelled) -> Read:
    return Read([spelled.words(query.text) for query in queries], _intents(queries))


def _intents(queries: Sequence[Query]) -> np.ndarray:
    return np.array([INTENTS.index(query.intent) for query in queries])


def _members(
    weights: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    words: np.ndarray,
    gazetteer: Gazetteer,
    parts: Parts,
) -> dict[str, Router]:
    """Row -> router: each member alone, and the mean of both at the temperatures of the part for choosing."""
    grnn, linear = ({**own, "words": words} for own in weights)
    made = {GRNN_ROW: Router(grnn, None, gazetteer), LINEAR_ROW: Router(linear, None, gazetteer)}
    queries = [*parts.held["choose"], *parts.held["choose-misspelt"]]
    heat = [_temperature(_score(router.logits, queries)) for router in made.values()]
    shares = (1 - LINEAR_SHARE, LINEAR_SHARE)
    blend = np.array([share / one for share, one in zip(shares, heat, strict=True)], np.float32)
    return made | {BOTH_ROW: Router({**grnn, **linear, "blend": blend}, None, gazetteer)}


def _temperature(part: Scored) -> float:
    return temperature_of(part.logits, part.intents)


def _calibrated(router: Router, part: Scored, settings: RouterConfig) -> Router:
    """Temperature and border from the templates for calibration: one number each from many."""
    temperature = _temperature(part)
    border = border_of(softmax(part.logits / temperature), part.intents, settings.coverage)
    calibration = Calibration(temperature, settings.threshold, border, settings.coverage)
    return Router(router.weights, calibration, router.gazetteer)


def _score(scorer: Callable[[str], np.ndarray], queries: Sequence[Query]) -> Scored:
    return Scored(np.stack([scorer(query.text) for query in queries]), _intents(queries), _numbers(queries))


def _numbers(queries: Sequence[Query]) -> np.ndarray:
    """(q,) int, equal for fillings of one template."""
    known: dict[Template, int] = {}
    return np.array([known.setdefault(query.template, len(known)) for query in queries])


def _misspelt(query: Query, rng: np.random.Generator) -> Query:
    return replace(query, text=misspell(query.text, rng))


def _names(query: Query) -> list[str]:
    return [words for slot, words in query.slots.items() if slot.startswith(("title", "person"))]
