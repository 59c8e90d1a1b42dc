"""Makes queries of a known class out of templates, and cuts templates, titles and people into parts.

A part holds whole families of templates and whole titles: what is tested is other sentences about other
titles, never other fillings or a paraphrase of a sentence that was trained on."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.loading import load
from configs.registry import SettingError
from kg.arrays import GraphArrays

INTENTS = (
    "content_discovery",
    "personal_recommendation",
    "metadata_lookup",
    "availability_check",
    "comparison",
    "trending",
)
"""Classes of queries; the first is also what an unsure router falls back to."""
PARTS = ("train", "choose", "calibrate", "test")
ORDERS = "orders"
"""Part of the word orders that no other part has."""
POOL = (
    "router/templates.yaml",
    "router/typed.yaml",
    "router/languages.yaml",
    "router/spoken.yaml",
    "router/grammar.yaml",
    "router/turns.yaml",
    "router/manners.yaml",
    "router/tongues.yaml",
)
"""Templates that are trained on and chosen on; parts of their sentences stand in ``router/phrases.yaml``."""
HELD = "router/held.yaml"
"""Templates that are calibrated on and tested on, written apart from the others."""
SHARES: Mapping[str, float] = {"train": 0.85, "choose": 0.15, "calibrate": 0.5, "test": 0.5}
"""Of the families of the pool, and of those held."""
NAME_SHARES = (0.68, 0.08, 0.12, 0.12)
"""Of titles and people, by part."""
WIDER = 2
"""How many fillings a sentence of parts has, for one of a fixed sentence."""
KIN = 0.6
"""Templates that share more than this of their words are of one family."""
_CHOICE, _SLOT = re.compile(r"\[([^\]]*)\]"), re.compile(r"\{([a-z]+)([23]?)\}")
_PART = re.compile(r"<([a-z]+)>")
_WORD = re.compile(r"\w+")
_KEYS = "qwertyuiop asdfghjkl zxcvbnm"


@dataclass(frozen=True)
class Template:
    """One sentence with gaps."""

    intent: str
    language: str
    """Two letters."""
    text: str
    part: str
    """One of :data:`PARTS`, or :data:`ORDERS`."""


@dataclass(frozen=True)
class Query:
    """A filled template."""

    text: str
    intent: str
    template: Template
    slots: Mapping[str, str] = field(default_factory=dict)
    """Slot -> the words that filled it; a second title is ``title2``."""
    form: str = ""
    """The sentence that was chosen of the template, its slots not yet filled, before it was varied."""


class Queries:
    """Templates and what fills them, cut into parts by a seed.

    Args:
        graph: gives titles, people and platforms; one that has none of a kind gets a few made-up names.
        seed: of the cut and of all draws.
        pool: class -> language -> sentences to train and choose on; None takes the files of :data:`POOL`.
        held: as ``pool``, to calibrate and test on; None takes :data:`HELD`.

    Queries for training are varied: other words of the same meaning, a greeting before, thanks behind. All
    others are filled as they were written.
    """

    def __init__(
        self,
        graph: GraphArrays,
        seed: int = 0,
        pool: Mapping[str, Any] | None = None,
        held: Mapping[str, Any] | None = None,
    ) -> None:
        self.seed = seed
        self.templates = cut(pool or joined([load(name) for name in POOL]), held or load(HELD), seed)
        self.lexicon, self.around = load("router/lexicon.yaml"), load("router/around.yaml")
        self.phrases = load("router/phrases.yaml")
        self.platforms = sorted({*names(graph, "Platform", "name"), *self.lexicon["en"]["platform"].values()})
        self._titles = _by_part(names(graph, "Content", "title"), "Harbour", seed)
        self._people = _by_part(names(graph, "Person", "name"), "Ada Storm", seed)

    def draw(self, part: str, each: int) -> list[Query]:
        """``each`` fillings of every template of a part, so that templates weigh alike; of those for training
        that are put together of parts, :data:`WIDER` times as many.
        """
        rng = np.random.default_rng([self.seed, (*PARTS, ORDERS).index(part)])
        own = [one for one in self.templates if one.part == part]
        times = [each * (WIDER if part == "train" and _PART.search(one.text) else 1) for one in own]
        return [self._fill(one, rng) for one, count in zip(own, times, strict=True) for _ in range(count)]

    def pool(self, slot: str, part: str) -> Sequence[str]:
        """Titles or people of a part; the part of word orders has those of the test."""
        place = "test" if part == ORDERS else part
        return (self._titles if slot == "title" else self._people)[place]

    def _fill(self, template: Template, rng: np.random.Generator) -> Query:
        slots: dict[str, str] = {}
        form = text = " ".join(self._chosen(template, rng).split())
        if template.part == "train":
            text = _varied(text, self.around[template.language], rng)
        for slot, number in dict.fromkeys(_SLOT.findall(text)):
            while (words := self._word(slot, template, rng)) in slots.values():
                continue
            slots[slot + number] = words
        text = _SLOT.sub(lambda found: slots[found.group(1) + found.group(2)], text)
        return Query(" ".join(text.split()), template.intent, template, slots, form)

    def _chosen(self, template: Template, rng: np.random.Generator) -> str:
        """The sentence without choices and parts; a part that comes from a choice is chosen in turn."""
        text, parts = template.text, self.phrases[template.language]
        while _CHOICE.search(text) or _PART.search(text):
            text = _CHOICE.sub(lambda found: _pick(found.group(1).split("|"), rng), text)
            text = _PART.sub(lambda found: _pick(parts[found.group(1)], rng), text)
        return text

    def _word(self, slot: str, template: Template, rng: np.random.Generator) -> str:
        if slot in ("title", "person"):
            words = _pick(self.pool(slot, template.part), rng)
            return words.lower() if rng.random() < 0.7 else words
        if slot == "platform":
            return _pick(self.platforms, rng).lower()
        if slot == "year":
            return str(rng.integers(1930, 2026))
        if slot == "minutes":
            return str(5 * rng.integers(4, 37))
        return _pick(list(self.lexicon[template.language][slot].values()), rng)


def joined(files: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Sentences of several files under class and language."""
    made: dict[str, dict[str, list[str]]] = {}
    for file in files:
        for intent, languages in file.items():
            for language, sentences in languages.items():
                made.setdefault(intent, {}).setdefault(language, []).extend(sentences)
    return made


def cut(pool: Mapping[str, Any], held: Mapping[str, Any], seed: int) -> tuple[Template, ...]:
    """Every template with its part: families by a hash within a class and a language; word orders apart.

    Sentences of the pool that are kin of one held out are left out.

    Raises:
        SettingError: a class that is none of :data:`INTENTS` or is missing, or a sentence that stands twice.
    """
    made = []
    for source in (pool, held):
        if set(source) != set(INTENTS):
            raise SettingError(f"templates must have the classes {', '.join(INTENTS)}, got {sorted(source)}")
    for source, parts in ((_apart(pool, held), PARTS[:2]), (held, PARTS[2:])):
        for intent in INTENTS:
            for language, sentences in source[intent].items():
                for text, part in _dealt(sentences, f"{seed}:{intent}:{language}", parts):
                    is_order = language.endswith("-orders")
                    made.append(Template(intent, language[:2], text, ORDERS if is_order else part))
    times = Counter(sentence_of(one) for one in made)
    if twice := sorted(text for text, count in times.items() if count > 1):
        raise SettingError(f"a sentence stands in one class and once, these do not: {twice[:3]}")
    return tuple(made)


def _apart(pool: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, dict[str, list[str]]]:
    """The pool without sentences that are kin of one held out in their class and language."""
    made: dict[str, dict[str, list[str]]] = {}
    same = {text for languages in held.values() for own in languages.values() for text in own}
    for intent, languages in pool.items():
        made[intent] = {}
        for language, sentences in languages.items():
            kin = [words_in(text) for text in held[intent].get(language, ())]
            made[intent][language] = [
                text
                for text in sentences
                if text not in same and not any(are_kin(words_in(text), other) for other in kin)
            ]
    return made


def sentence_of(template: Template) -> str:
    """What tells a template from others; parts are other words in every language.

    Example:
        >>> sentence_of(Template("trending", "de", "<hot> <now>", "train"))
        'de: <hot> <now>'
    """
    return f"{template.language}: {template.text}" if _PART.search(template.text) else template.text


def words_in(template: str) -> frozenset[str]:
    """Words of a template, those of all its choices, and its slots.

    Example:
        >>> sorted(words_in("[who|which person] directed {title}?"))
        ['directed', 'person', 'title', 'which', 'who']
    """
    return frozenset(_WORD.findall(template.lower()))


def are_kin(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether two templates say nearly the same: they share more than :data:`KIN` of their words."""
    return len(first & second) > KIN * len(first | second)


def families(sentences: Sequence[str]) -> list[list[str]]:
    """Templates by family: kin, and kin of kin, stand together."""
    made: list[list[tuple[str, frozenset[str]]]] = []
    for text in sentences:
        words = words_in(text)
        near = [own for own in made if any(are_kin(words, other) for _, other in own)]
        made = [own for own in made if own not in near]
        made.append([(text, words), *(member for own in near for member in own)])
    return [sorted(text for text, _ in own) for own in made]


def _dealt(sentences: Sequence[str], salt: str, parts: Sequence[str]) -> list[tuple[str, str]]:
    """Sentences with their part; families in the order of their hash, cut by :data:`SHARES`."""
    ordered = sorted(families(sentences), key=lambda own: _hash(f"{salt}:{own[0]}"))
    first, taken, made = SHARES[parts[0]] * len(sentences), 0, []
    for own in ordered:
        part = parts[0] if taken + len(own) / 2 <= first else parts[1]
        made += [(text, part) for text in own]
        taken += len(own)
    return made


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


def names(graph: GraphArrays, type: str, column: str) -> list[str]:
    """Distinct names of a type's nodes, in order; none for a type that the graph lacks."""
    if not graph.size(type):
        return []
    return sorted({name.strip() for name in graph.texts(type, column) if name.strip()})


def misspell(text: str, rng: np.random.Generator, share: float = 0.25) -> str:
    """The text with one slip in some words of four letters or more, at least one where there is such a word.

    Args:
        text: a query.
        rng: draws words, places and slips: swapped, lost, doubled, or a neighbour on the keyboard.
        share: of those words, in 0..1.
    """
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) >= 4]
    hit = [place for place in long if rng.random() < share] or long[: 1 if long else 0]
    for place in hit:
        words[place] = _slip(words[place], rng)
    return " ".join(words)


def _slip(word: str, rng: np.random.Generator) -> str:
    at, kind = int(rng.integers(1, len(word) - 1)), int(rng.integers(4))
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    near = _KEYS[max(0, _KEYS.find(word[at].lower()) - 1)]
    return word[:at] + (near if near != " " else "e") + word[at + 1 :]


def _varied(text: str, around: Mapping[str, Any], rng: np.random.Generator) -> str:
    """The sentence in other words of the same meaning, sometimes greeted and thanked."""
    for alike in around["alike"]:
        said = next((words for words in alike if f" {words} " in f" {text} "), None)
        if said is not None and rng.random() < 0.4:
            text = f" {text} ".replace(f" {said} ", f" {_pick(alike, rng)} ", 1).strip()
    if rng.random() < 0.2:
        text = f"{_pick(around['before'], rng)} {text}"
    if rng.random() < 0.3:
        end = _pick(around["after"], rng)
        text += end if not end[0].isalnum() else f" {end}"
    return text


def _by_part(all_names: Sequence[str], made_up: str, seed: int) -> dict[str, list[str]]:
    """Names by part; by a hash of the name, so that a graph that grows moves no name."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in all_names:
        place = np.searchsorted(np.cumsum(NAME_SHARES), _hash(f"{seed}:{name.lower()}") / 2**32, side="right")
        parts[PARTS[min(int(place), len(PARTS) - 1)]].append(name)
    for part, own in parts.items():  # three titles stand in one sentence
        own += [f"{made_up} {part.title()} {number}" for number in range(max(0, 4 - len(own)))]
    return parts


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
