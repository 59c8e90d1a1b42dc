"""Slots of a query, found in lists made of the graph and of words, misspelt ones too.

Longest match first, title before person before the rest; a name may differ by one slip from five letters on,
by two from ten."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.loading import load
from kg.arrays import GraphArrays

KINDS = ("title", "person", "platform", "genre", "region", "mood")
_NODES = {
    "title": ("Content", "title"),
    "person": ("Person", "name"),
    "platform": ("Platform", "name"),
    "genre": ("Genre", "name"),
    "region": ("Region", "name"),
}
MOST_WORDS, LONGEST = 24, 8
"""Words of a query that are read, and words of the longest name that is looked for."""
_COMMON = frozenset(
    "it you me she her them us the that who what where when why how is on in of for to with a i we up go if "
    "now he no yes one two three best show film films movie movies series new old life love home war man men "
    "girl girls night day house fire watch star time good bad top les la le el los was wo wie der die das "
    "que de en un une".split()
)
_YEAR = re.compile(r"\b(18[89]\d|19\d\d|20\d\d)s?\b")
_MINUTES = re.compile(r"\b(\d{1,3})\s*(?:min\b|mins\b|minutes?\b|minuten\b|minutos?\b)")
_HOURS = re.compile(r"\b(\d)(?:[.,](5))?\s*(?:h\b|hours?\b|stunden?\b|horas?\b|heures?\b)")


@dataclass(frozen=True)
class Match:
    """A name found in a query."""

    name: str
    """As the graph or the list of words writes it."""
    ids: tuple[str, ...]
    """Node ids it may mean; for a mood, its key."""
    said: str
    """As the query wrote it, in plain letters."""
    slips: int
    """Edits between the two; 0 is exact."""


@dataclass(frozen=True)
class Slots:
    """What a query speaks of."""

    matches: Mapping[str, tuple[Match, ...]] = field(default_factory=dict)
    """Kind -> names, in the order of the query; a kind without any is not in it."""
    year: int | None = None
    minutes: int | None = None
    """Free time, or the longest runtime."""

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of a kind."""
        return tuple(match.name for match in self.matches.get(kind, ()))


class Gazetteer:
    """All names that slots are found by.

    Names of one short everyday word, a title called *It* say, count only where they stand in quotes.

    Args:
        names: kind -> (name, node id) pairs.

    Cost: building O(letters); a query O(words x LONGEST) look-ups, and edit distances to the names that share
    enough pairs of letters with a run of its words.

    Example:
        >>> Gazetteer({"title": [("Toy Story", "content:1")]}).find("is toy stroy any good").names("title")
        ('Toy Story',)
    """

    def __init__(self, names: Mapping[str, Iterable[tuple[str, str]]]) -> None:
        self._known: dict[str, dict[str, tuple[str, list[str]]]] = {kind: {} for kind in KINDS}
        for kind, pairs in names.items():
            for name, node_id in pairs:
                key = plain(name)
                if key:
                    self._known[kind].setdefault(key, (name, []))[1].append(node_id)
        self._kinds: dict[str, str] = {}
        for said in {key for known in self._known.values() for key in known}:
            kinds = [kind for kind in _order(said) if said in self._known[kind]]
            if kinds[0] not in ("title", "person") or not _is_common(said):
                self._kinds[said] = kinds[0]
        self._longest_name = min(LONGEST, max((len(said.split()) for said in self._kinds), default=0))
        self._halves: dict[str, dict[tuple[int, str], list[str]]] = {}
        for kind, known in self._known.items():
            halves: dict[tuple[int, str], list[str]] = defaultdict(list)
            for key in known:
                for place, piece in enumerate(_pieces(key)):
                    halves[place, piece].append(key)
            self._halves[kind] = dict(halves)

    @classmethod
    def of(cls, graph: GraphArrays, lexicon: Mapping[str, Any] | None = None) -> "Gazetteer":
        """Names of a graph, and words of ``configs/router/lexicon.yaml`` for genres, moods and regions."""
        names: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
        for kind, (type, column) in _NODES.items():
            if graph.size(type):
                names[kind] = list(zip(graph.texts(type, column), graph.ids(type), strict=True))
        for slots in (lexicon or load("router/lexicon.yaml")).values():
            for kind, words in slots.items():
                prefix = "" if kind == "mood" else f"{kind}:"
                names[kind] += [(word, f"{prefix}{key}") for key, word in words.items()]
        return cls(names)

    def find(self, text: str) -> Slots:
        """Slots of a query; an overlap goes to the longer name, then to the one with fewer slips."""
        quoted = {plain(part) for part in re.findall(r"[\"“„«]([^\"”“»]+)[\"”“»]", text)}
        words = plain(text).split()[:MOST_WORDS]
        taken = [False] * len(words)
        found: dict[str, list[tuple[int, Match]]] = defaultdict(list)
        for is_exact in (True, False):
            for length in range(min(LONGEST, len(words)), 0, -1):
                for at in range(len(words) - length + 1):
                    if any(taken[at : at + length]):
                        continue
                    hit = self._match(" ".join(words[at : at + length]), is_exact, quoted)
                    if hit is not None:
                        found[hit[0]].append((at, hit[1]))
                        taken[at : at + length] = [True] * length
        rest = " ".join(word for word, is_taken in zip(words, taken, strict=True) if not is_taken)
        matches = {
            kind: tuple(match for _, match in sorted(own, key=lambda pair: pair[0]))
            for kind, own in found.items()
        }
        return Slots(matches, _year(rest), _minutes(text.lower()))

    def mask(self, text: str) -> str:
        """The text in plain words, each name that stands there letter by letter as the word of its kind.

        So a classifier sees that two titles are named, whichever they are. No slip is looked for: it costs
        some ten microseconds.

        Example:
            >>> Gazetteer({"title": [("Toy Story", "content:1")]}).mask("Is Toy Story good?")
            'is xtitle good'
        """
        words, made, at = plain(text).split()[:MOST_WORDS], [], 0
        while at < len(words):
            kind, length = self._longest(words, at)
            made.append(f"x{kind}" if kind else words[at])
            at += length
        return " ".join(made)

    def _longest(self, words: list[str], at: int) -> tuple[str | None, int]:
        for length in range(min(self._longest_name, len(words) - at), 0, -1):
            said = " ".join(words[at : at + length])
            kind = self._kinds.get(said)
            if kind is not None:
                return kind, length
        return None, 1

    def _match(self, said: str, is_exact: bool, quoted: set[str]) -> tuple[str, Match] | None:
        for kind in _order(said):
            known = self._known[kind]
            key, slips = (said, 0) if said in known else (None, 0)
            if key is None and not is_exact:
                key, slips = self._near(kind, said)
            if key is None or (kind in ("title", "person") and _is_common(key) and said not in quoted):
                continue
            if is_exact or slips:
                name, ids = known[key]
                return kind, Match(name, tuple(dict.fromkeys(ids)), said, slips)
        return None

    def _near(self, kind: str, said: str) -> tuple[str | None, int]:
        most = 0 if len(said) < 5 or said in _COMMON or said.isdigit() else 1 if len(said) < 10 else 2
        if not most:
            return None, 0
        halves = self._halves[kind]
        close = {key for place, piece in enumerate(_pieces(said)) for key in halves.get((place, piece), ())}
        best: tuple[int, str | None] = (most + 1, None)
        for key in sorted(close):
            if abs(len(key) - len(said)) <= most and len(key) >= 5:
                best = min(best, (edits(said, key, most), key), key=lambda pair: pair[0])
        return (best[1], best[0]) if best[0] <= most else (None, 0)


def plain(text: str) -> str:
    """Lower-case words without accents and signs, single spaces between.

    Example:
        >>> plain("Amélie: Le  Film!")
        'amelie le film'
    """
    letters = unicodedata.normalize("NFKD", text.lower().replace("'", "").replace("’", ""))
    kept = "".join(
        sign if sign.isalnum() or sign == "+" else " " for sign in letters if not unicodedata.combining(sign)
    )
    return " ".join(kept.split())


def edits(first: str, second: str, most: int) -> int:
    """Least letters put in, left out, changed, or swapped with the next; ``most + 1`` where it is more.

    Source: Damerau, CACM 7(3), 1964, each letter edited once (optimal string alignment).

    Example:
        >>> edits("stroy", "story", 2), edits("toy", "story", 1)
        (1, 2)
    """
    before: list[int] = []
    last = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        row = [i]
        for j, right in enumerate(second, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == second[j - 2] and first[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most and min(last) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def _pieces(key: str) -> tuple[str, str]:
    """First and last letters: two slips seldom touch both ends."""
    return key[:4], key[-4:]


def _order(said: str) -> tuple[str, ...]:
    """Kinds in the order in which they are tried: a name of one word is rather a genre than a title."""
    return KINDS if " " in said else (*KINDS[2:], *KINDS[:2])


def _is_common(key: str) -> bool:
    words = key.split()
    return all(word in _COMMON or word.isdigit() for word in words) or len(key) < 3


def _year(text: str) -> int | None:
    found = _YEAR.search(text)
    return int(found.group(1)) if found else None


def _minutes(text: str) -> int | None:
    if found := _MINUTES.search(text):
        return int(found.group(1))
    if found := _HOURS.search(text):
        return 60 * int(found.group(1)) + (30 if found.group(2) else 0)
    return None
