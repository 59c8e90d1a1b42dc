"""Makes queries of a known class out of templates, and cuts templates, titles and people into parts.

A part holds whole templates and whole titles: what is tested is other sentences about other titles, never
other fillings of a sentence that was trained on."""

import hashlib
import re
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
SHARES = (0.68, 0.08, 0.12, 0.12)
"""Of templates, titles and people, by part."""
_CHOICE, _SLOT = re.compile(r"\[([^\]]*)\]"), re.compile(r"\{([a-z]+)([23]?)\}")
_KEYS = "qwertyuiop asdfghjkl zxcvbnm"
_AROUND: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "en": (("hey,", "hi,", "please,", "so", "ok,", "can you tell me:"), ("?", "please", "thanks", "!")),
    "de": (("hallo,", "bitte,", "also", "sag mal,"), ("?", "bitte", "danke")),
    "es": (("hola,", "por favor,", "oye,"), ("?", "por favor", "gracias")),
    "fr": (("bonjour,", "salut,", "dis,"), ("?", "s'il te plaît", "merci")),
}


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


class Queries:
    """Templates and what fills them, cut into parts by a seed.

    Args:
        graph: gives titles, people and platforms; one that has none of a kind gets a few made-up names.
        seed: of the cut and of all draws.
        templates: class -> language -> sentences; None takes ``configs/router/templates.yaml``.
    """

    def __init__(self, graph: GraphArrays, seed: int = 0, templates: Mapping[str, Any] | None = None) -> None:
        self.seed = seed
        self.templates = cut(templates or load("router/templates.yaml"), seed)
        self.lexicon = load("router/lexicon.yaml")
        self.platforms = names(graph, "Platform", "name") or ["Netflix", "Disney+", "Hulu"]
        self._titles = _by_part(names(graph, "Content", "title"), "Harbour", seed)
        self._people = _by_part(names(graph, "Person", "name"), "Ada Storm", seed)

    def draw(self, part: str, each: int) -> list[Query]:
        """``each`` fillings of every template of a part, so that templates weigh alike."""
        rng = np.random.default_rng([self.seed, (*PARTS, ORDERS).index(part)])
        return [self._fill(one, rng) for one in self.templates if one.part == part for _ in range(each)]

    def pool(self, slot: str, part: str) -> Sequence[str]:
        """Titles or people of a part; the part of word orders has those of the test."""
        place = "test" if part == ORDERS else part
        return (self._titles if slot == "title" else self._people)[place]

    def _fill(self, template: Template, rng: np.random.Generator) -> Query:
        slots: dict[str, str] = {}
        text = _CHOICE.sub(lambda found: _pick(found.group(1).split("|"), rng), template.text)
        for slot, number in dict.fromkeys(_SLOT.findall(text)):
            while (words := self._word(slot, template, rng)) in slots.values():
                continue
            slots[slot + number] = words
        text = _SLOT.sub(lambda found: slots[found.group(1) + found.group(2)], text)
        return Query(_around(text, template.language, rng), template.intent, template, slots)

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


def cut(templates: Mapping[str, Any], seed: int) -> tuple[Template, ...]:
    """Every template with its part: by shares within a class and a language; word orders apart.

    Raises:
        SettingError: a class that is none of :data:`INTENTS` or is missing, or a sentence that stands twice.
    """
    if set(templates) != set(INTENTS):
        raise SettingError(f"templates must have the classes {', '.join(INTENTS)}, got {sorted(templates)}")
    made = []
    for at, intent in enumerate(INTENTS):
        for language, sentences in templates[intent].items():
            is_order = language.endswith("-orders")
            rng = np.random.default_rng([seed, at, *language.encode()])
            borders = np.cumsum(SHARES) * len(sentences)
            for place, which in enumerate(rng.permutation(len(sentences))):
                part = ORDERS if is_order else PARTS[int(np.searchsorted(borders, place, side="right"))]
                made.append(Template(intent, language[:2], sentences[which], part))
    twice = {one.text for one in made if sum(one.text == other.text for other in made) > 1}
    if twice:
        raise SettingError(f"a sentence stands in one class and once, these do not: {sorted(twice)[:3]}")
    return tuple(made)


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


def _around(text: str, language: str, rng: np.random.Generator) -> str:
    before, after = _AROUND[language]
    text = " ".join(text.split())
    if rng.random() < 0.2:
        text = f"{_pick(before, rng)} {text}"
    if rng.random() < 0.3:
        end = _pick(after, rng)
        text += end if len(end) == 1 else f" {end}"
    return text


def _by_part(all_names: Sequence[str], made_up: str, seed: int) -> dict[str, list[str]]:
    """Names by part; by a hash of the name, so that a graph that grows moves no name."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in all_names:
        digest = hashlib.blake2b(f"{seed}:{name.lower()}".encode(), digest_size=4).digest()
        place = np.searchsorted(np.cumsum(SHARES), int.from_bytes(digest) / 2**32, side="right")
        parts[PARTS[min(int(place), len(PARTS) - 1)]].append(name)
    for part, own in parts.items():  # three titles stand in one sentence
        own += [f"{made_up} {part.title()} {number}" for number in range(max(0, 4 - len(own)))]
    return parts


def _pick(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
