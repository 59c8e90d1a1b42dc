"""How alike two records are: what is compared, in which pairs, and the probability that they are one.

A feature is 0 where one of the two does not know; its weight times its value is its part of the log odds."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
from rapidfuzz import fuzz
from rapidfuzz.distance import JaroWinkler

from configs.loading import find

MOST_OF_BLOCK = 60
"""A word that more titles share than this finds no candidates."""
_LEAST_ALIKE = 0.6
_MOST_OF_TITLE = 500
_MOST_YEARS = 10  # apart, for two whose titles are not equal
_SAME_NAME = 88  # of 100: one slip in a name of eight letters
_MOST_SPELLINGS = 150  # comparisons of names a pair; longer lists are compared as they are spelt
_MOST_PEOPLE = 8  # whose pairs find candidates: the first by name

CONTENT_FEATURES = (
    "title_equal",
    "title_alike",
    "title_words_within",
    "title_words_alike",
    "title_numbers_differ",
    "title_is_other",
    "title_words",
    "title_length",
    "title_shared_by",
    "year_equal",
    "year_off_by_1",
    "year_off_by_2",
    "year_off_by_5",
    "year_off_by_more",
    "title_and_year_equal",
    "title_equal_year_off_by_1",
    "kind_differs",
    "runtime_equal",
    "runtime_near",
    "runtime_far",
    "genres_alike",
    "genres_none_shared",
    "genres_all_shared",
    "people_shared",
    "people_some_shared",
    "people_none_shared",
)
PERSON_FEATURES = (
    "name_equal",
    "name_alike",
    "name_words_within",
    "name_by_initials",
    "name_rare",
    "titles_shared",
    "titles_none_shared",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a node that bears on who it is; in no order, so that none decides."""

    id: str
    names: frozenset[str] = frozenset()
    """Comparable titles, or a person's names."""
    years: frozenset[int] = frozenset()
    kinds: frozenset[str] = frozenset()
    runtimes: frozenset[int] = frozenset()
    genres: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()
    """People of a content as comparable names, contents of a person as ids."""


@dataclass(frozen=True)
class Matcher:
    """A calibrated probability that two profiles are of one node: logistic in the features, kept as JSON."""

    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    threshold: float
    """Two profiles of at least this probability are joined; 0 to 1."""
    fitted_on: str
    """What the weights were fitted on, in words."""

    def probability(self, rows: np.ndarray) -> np.ndarray:
        """(p, f) float64 features -> (p,) float64 in [0, 1]."""
        return 1 / (1 + np.exp(-np.clip(rows @ np.asarray(self.weights) + self.intercept, -60, 60)))

    def parts(self, row: np.ndarray) -> dict[str, float]:
        """What each feature of one pair adds to the log odds, the heaviest first; zeros are left out."""
        told = {
            name: float(w * x) for name, w, x in zip(self.features, self.weights, row, strict=True) if w * x
        }
        return dict(sorted(told.items(), key=lambda pair: -abs(pair[1])))


@dataclass(frozen=True)
class Matchers:
    """One matcher a node type that is resolved by probability."""

    content: Matcher
    person: Matcher | None = None

    @classmethod
    def load(cls, name: str | Path) -> "Matchers":
        """Reads weights from a path or a name under ``configs/``.

        Raises:
            ValueError: the file is no weights, or was fitted on other features.
        """
        path = _weights_file(name)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            parts = {kind: _matcher(part) for kind, part in told.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} must hold weights of `mg identity fit`, got {error}: fit them again"
            ) from None
        expected = {"content": CONTENT_FEATURES, "person": PERSON_FEATURES}
        for kind, matcher in parts.items():
            if matcher.features != expected.get(kind):
                raise ValueError(
                    f"{path} must weigh the features of a {kind} compared now, it has other features: "
                    "run `mg identity fit` again"
                )
        return cls(**parts)

    def save(self, path: Path) -> None:
        """Writes the weights as JSON."""
        told = {
            kind: _plain(part) for kind, part in (("content", self.content), ("person", self.person)) if part
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


@dataclass
class Commonness:
    """How many profiles have a name: a name that many have says less."""

    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, profiles: Iterable[Profile]) -> "Commonness":
        """Counts over all profiles."""
        return cls(Counter(name for profile in profiles for name in profile.names))


def content_row(one: Profile, other: Profile, common: Commonness) -> np.ndarray | None:
    """(f,) float64 features of two contents (:data:`CONTENT_FEATURES`); None where no title is near.

    Titles that differ over years that are far apart are not near either. Cost: 20 to 200 microseconds.
    """
    found = _nearest(one.names, other.names)
    if found is None:
        return None
    alike, title, second = found
    is_equal = float(title.replace(" ", "") == second.replace(" ", ""))
    apart = min((abs(a - b) for a, b in product(one.years, other.years)), default=None)
    if apart is not None and apart > _MOST_YEARS and not is_equal:
        return None
    runtime = min((abs(a - b) for a, b in product(one.runtimes, other.runtimes)), default=None)
    longest = max(one.runtimes | other.runtimes, default=0)
    genres, people = _overlap(one.genres, other.genres), _people_shared(one.others, other.others, alike > 0.7)
    values = (
        is_equal,
        alike,
        fuzz.token_set_ratio(title, second) / 100,
        fuzz.token_sort_ratio(title, second) / 100,
        float(set(re.findall(r"\d+", title)) != set(re.findall(r"\d+", second))),
        float(len(one.names) + len(other.names) > 2),
        is_equal * len(title.split()) / 5,
        min(len(title), 30) / 30,
        float(np.log1p(max(common.counts[title], common.counts[second]) - 1)) if is_equal else 0.0,
        float(apart == 0),
        float(apart == 1),
        float(apart == 2),
        float(apart is not None and 2 < apart <= 5),
        float(apart is not None and apart > 5),
        is_equal * (apart == 0),
        is_equal * (apart == 1),
        float(bool(one.kinds and other.kinds and not one.kinds & other.kinds)),
        float(runtime is not None and runtime <= 1),
        float(runtime is not None and 1 < runtime <= max(5, 0.06 * longest)),
        float(runtime is not None and runtime > max(5, 0.06 * longest)),
        0.0 if genres is None else genres,
        float(genres == 0),
        float(genres == 1),
        0.0 if people is None else people,
        float(bool(people)),
        float(people == 0),
    )
    return np.array(values)


def person_row(one: Profile, other: Profile, common: Commonness) -> np.ndarray | None:
    """(f,) float64 features of two people (:data:`PERSON_FEATURES`); None where no name is near."""
    near = [(JaroWinkler.similarity(a, b), a, b) for a, b in product(sorted(one.names), sorted(other.names))]
    if not near or max(near)[0] < 0.8:
        return None
    alike, name, second = max(near)
    shared = len(one.others & other.others)
    values = (
        float(name == second),
        alike,
        fuzz.token_set_ratio(name, second) / 100,
        float(name != second and _by_initials(name, second)),
        1 / max(1, common.counts[name], common.counts[second]),
        min(shared, 3) / 3,
        float(bool(one.others and other.others and not shared)),
    )
    return np.array(values)


def content_pairs(profiles: Sequence[Profile]) -> list[tuple[int, int]]:
    """Places of contents that may be one: equal titles, a rare word, like ends and years, or two people.

    Cost: linear in profiles, since every block is bounded; larger ones are passed over.
    """
    frequency = Counter(word for profile in profiles for name in profile.names for word in set(name.split()))
    blocks: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, profile in enumerate(profiles):
        for key in _content_keys(profile, frequency):
            blocks[key].append(place)
    return sorted(_pairs_of(blocks, whole=("title",)))


def person_pairs(profiles: Sequence[Profile]) -> list[tuple[int, int]]:
    """Places of people who may be one: an equal name, or a like name and a content in common."""
    blocks: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, profile in enumerate(profiles):
        for name in profile.names:
            blocks["name", name].append(place)
            for word in name.split():
                for content in profile.others:
                    blocks["word", word[:3], content].append(place)
    return sorted(_pairs_of(blocks, whole=("name",)))


def rows_of(
    profiles: Sequence[Profile],
    pairs: Iterable[tuple[int, int]],
    row: Callable[[Profile, Profile, Commonness], np.ndarray | None],
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """The pairs that are worth a look, and their (p, f) float64 features."""
    common = Commonness.of(profiles)
    kept, rows = [], []
    for one, other in pairs:
        values = row(profiles[one], profiles[other], common)
        if values is not None:
            kept.append((one, other))
            rows.append(values)
    width = len(CONTENT_FEATURES if row is content_row else PERSON_FEATURES)
    return kept, np.array(rows) if rows else np.empty((0, width))


def agree(one: Profile, other: Profile) -> bool:
    """Whether two contents are plainly one film in spite of their ids.

    Title, year and kind are equal, neither runtime (2 minutes) nor people (half of them) disagree, and at
    least one of these two is known on both sides.
    """
    is_named_alike = bool(one.names & other.names and one.years & other.years and one.kinds & other.kinds)
    runtime = min((abs(a - b) for a, b in product(one.runtimes, other.runtimes)), default=None)
    people = _people_shared(one.others, other.others)
    known = [fits for fits in (_at_most(runtime, 2), _at_least(people, 0.5)) if fits is not None]
    return is_named_alike and bool(known) and all(known)


def describe(one: Profile, other: Profile) -> str:
    """What two profiles have in common and what not, in words: the evidence of a join."""
    shared = sorted(one.names & other.names)
    told = [f"{shared[0]}" if shared else f"{min(one.names, default='?')} ~ {min(other.names, default='?')}"]
    for what, ours, theirs in (("", one.years, other.years), ("minutes ", one.runtimes, other.runtimes)):
        if ours and theirs:
            same = sorted(ours & theirs)
            told.append(f"{what}{same[0]}" if same else f"{what}{min(ours)} ~ {min(theirs)}")
    if one.others and other.others:
        told.append(f"{len(one.others & other.others)} of {min(len(one.others), len(other.others))} shared")
    return ", ".join(told)


def _at_most(value: float | None, bound: float) -> bool | None:
    return None if value is None else value <= bound


def _at_least(value: float | None, bound: float) -> bool | None:
    return None if value is None else value >= bound


def _nearest(ours: frozenset[str], theirs: frozenset[str]) -> tuple[float, str, str] | None:
    best: tuple[float, str, str] | None = None
    for title, second in product(sorted(ours), sorted(theirs)):
        alike = fuzz.ratio(title.replace(" ", ""), second.replace(" ", "")) / 100
        if alike < _LEAST_ALIKE and fuzz.token_set_ratio(title, second) < 100:
            continue
        if best is None or alike > best[0]:
            best = alike, title, second
    return best


def _overlap(ours: frozenset[str], theirs: frozenset[str]) -> float | None:
    return len(ours & theirs) / min(len(ours), len(theirs)) if ours and theirs else None


def _people_shared(ours: frozenset[str], theirs: frozenset[str], is_near: bool = True) -> float | None:
    """Share of the shorter list that the other has too; where titles are near, spelt otherwise included."""
    few, many = sorted((ours, theirs), key=len)
    if not few:
        return None
    shared, rest, open_ = len(few & many), few - many, many - few
    if is_near and len(rest) * len(open_) <= _MOST_SPELLINGS:
        shared += sum(any(_is_same_name(*sorted((name, other))) for other in open_) for name in rest)
    return shared / len(few)


@lru_cache(maxsize=1 << 18)
def _is_same_name(name: str, other: str) -> bool:
    return fuzz.ratio(name.replace(" ", ""), other.replace(" ", "")) >= _SAME_NAME or _by_initials(
        name, other
    )


def _by_initials(name: str, other: str) -> bool:
    """Whether two names agree once a given name is an initial: ``b muller`` and ``bela muller``."""
    ours, theirs = name.split(), other.split()
    if len(ours) != len(theirs) or not set(ours) & set(theirs):
        return False
    rest = [sorted(set(words) - set(others)) for words, others in ((ours, theirs), (theirs, ours))]
    return all(min(len(a), len(b)) == 1 and a[0] == b[0] for a, b in zip(*rest, strict=False))


def _content_keys(profile: Profile, frequency: Counter[str]) -> Iterator[tuple[str, ...]]:
    for name in profile.names:
        together = name.replace(" ", "")
        yield "title", together
        rare = sorted(set(name.split()), key=lambda word: (frequency[word], word))
        for word in rare[:3]:
            if frequency[word] <= MOST_OF_BLOCK:
                yield "word", word
        for year in profile.years:
            for near in (year, year + 1):  # two whose years differ by one meet in one of them
                yield "start", together[:4], str(near)
                yield "end", together[-4:], str(near)
    for pair in combinations(sorted(profile.others)[:_MOST_PEOPLE], 2):
        yield ("people", *pair)


def _pairs_of(blocks: Mapping[tuple[str, ...], list[int]], whole: tuple[str, ...]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for key, places in blocks.items():
        if 1 < len(places) <= (_MOST_OF_TITLE if key[0] in whole else MOST_OF_BLOCK):
            found.update(combinations(sorted(set(places)), 2))
    return found


def _weights_file(name: str | Path) -> Path:
    path = Path(name)
    return path if path.is_file() else find(name)


def _matcher(part: Mapping[str, object]) -> Matcher:
    weights: Mapping[str, float] = part["weights"]  # type: ignore[assignment]
    return Matcher(
        tuple(weights),
        tuple(float(value) for value in weights.values()),
        float(part["intercept"]),  # type: ignore[arg-type]
        float(part["threshold"]),  # type: ignore[arg-type]
        str(part["fitted_on"]),
    )


def _plain(matcher: Matcher) -> dict[str, object]:
    weights = {name: round(value, 5) for name, value in zip(matcher.features, matcher.weights, strict=True)}
    return {
        "fitted_on": matcher.fitted_on,
        "threshold": round(matcher.threshold, 5),
        "intercept": round(matcher.intercept, 5),
        "weights": weights,
    }
