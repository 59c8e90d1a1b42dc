"""Films of two sources with all identifiers hidden, and which of them are one: to fit and measure a matcher.

The answers are the IMDb ids of the sources; ``configs/identity/wrong_ids.yaml`` corrects the wrong ones."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.loading import load
from kg.matching import CONTENT_FEATURES, Matcher, Profile, content_pairs, content_row, rows_of
from kg.matching_fit import Labelled, Quality, calibration_error, fit, one_to_one, quality
from kg.profiles import Profiles
from kg.records import Node
from kg.sources import Source

WRONG_IDS = "identity/wrong_ids.yaml"


@dataclass(frozen=True)
class Films:
    """Contents of one source: profiles without any identifier, and the IMDb ids that were hidden."""

    profiles: list[Profile]
    imdb: dict[str, str]
    """Id of a content -> ``tt…``; those without are left out."""


@dataclass(frozen=True)
class HiddenIds:
    """Candidate pairs of two sources: the left place, the right place, features, and the answers."""

    left: Films
    right: Films
    pairs: list[tuple[int, int]]
    rows: np.ndarray
    """(p, f) float64."""

    @property
    def is_test(self) -> np.ndarray:
        """(p,) bool: pairs whose left film falls into the half that is measured."""
        return np.array([in_test(self.left.profiles[one].id) for one, _ in self.pairs])

    def true(self, wrong: Mapping[str, str]) -> set[tuple[str, str]]:
        """Pairs of ids that are one film by IMDb ids, after ``wrong`` (id -> right IMDb id) was applied."""
        holders: dict[str, list[str]] = defaultdict(list)
        for id, imdb in self.right.imdb.items():
            holders[wrong.get(id, imdb)].append(id)
        return {(id, other) for id, imdb in self.left.imdb.items() for other in holders[wrong.get(id, imdb)]}

    def is_known(self) -> np.ndarray:
        """(p,) bool: pairs in which both films have an IMDb id, so that the answer is known."""
        left, right = self.left, self.right
        return np.array(
            [left.profiles[a].id in left.imdb and right.profiles[b].id in right.imdb for a, b in self.pairs]
        )

    def ids(self, pair: tuple[int, int]) -> tuple[str, str]:
        """A pair as ids."""
        return self.left.profiles[pair[0]].id, self.right.profiles[pair[1]].id


@dataclass(frozen=True)
class Measured:
    """What a matcher does on the half of the films that it was not fitted on."""

    given: Quality
    """Against the ids as the sources give them."""
    corrected: Quality
    """Against the ids after the wrong ones were corrected."""
    calibration_error: float
    """Of all candidate pairs with known answers, ids corrected."""
    calibration_error_near: float
    """The same over pairs of at least 5%, where the errors are."""
    pairs: int


def wrong_ids() -> dict[str, str]:
    """Id of a content -> its right IMDb id, for records whose own is wrong: a hand-checked list."""
    return {str(entry["record"]): str(entry["right"]) for entry in load(WRONG_IDS)["wrong"]}


def in_test(content_id: str) -> bool:
    """Whether a film falls into the half that is measured: by the first byte of a hash of its id."""
    return hashlib.blake2b(content_id.encode()).digest()[0] % 2 == 1


def films(source: Source) -> Films:
    """Reads a source; every content that is known by an own id, its kind as the source says it."""
    profiles, nodes = Profiles(), {}
    for record in source.read():
        profiles.hear(record)
        if isinstance(record, Node) and record.type == "Content":
            nodes.setdefault(record.id, record)
    imdb = {id: value for id, node in nodes.items() if (value := node.ids.get("imdb"))}
    return Films([profiles.content(id, (id,), (node,)) for id, node in nodes.items()], imdb)


def hide_ids(left: Films, right: Films) -> HiddenIds:
    """Candidate pairs between two sources, found without identifiers.

    Cost: about 10 s for MovieLens small and 24,532 titles of JustWatch.
    """
    together, border = [*left.profiles, *right.profiles], len(left.profiles)
    across = [pair for pair in content_pairs(together) if pair[0] < border <= pair[1]]
    kept, rows = rows_of(together, across, content_row)
    return HiddenIds(left, right, [(one, other - border) for one, other in kept], rows)


def fit_hidden(hidden: HiddenIds, fitted_on: str) -> Matcher:
    """Weights from the half of the films that is not measured, by the ids as given."""
    answers = hidden.true({})
    use = ~hidden.is_test & hidden.is_known()
    is_same = np.array([hidden.ids(pair) in answers for pair in hidden.pairs])
    groups = np.array([one for one, _ in hidden.pairs])
    return fit(Labelled(hidden.rows[use], is_same[use], groups[use]), CONTENT_FEATURES, fitted_on)


def measure(hidden: HiddenIds, matcher: Matcher) -> Measured:
    """Joins the films of the other half one to one and counts the pairs whose answer is known."""
    chosen = np.flatnonzero(hidden.is_test)
    pairs, known = [hidden.pairs[place] for place in chosen], hidden.is_known()[chosen]
    probability = matcher.probability(hidden.rows[chosen])
    joined = [hidden.ids(pair) for pair in one_to_one(pairs, probability, matcher.threshold)]
    joined = [(one, other) for one, other in joined if one in hidden.left.imdb and other in hidden.right.imdb]
    told = [{pair for pair in hidden.true(wrong) if in_test(pair[0])} for wrong in ({}, wrong_ids())]
    is_same = np.array([hidden.ids(pair) in told[1] for pair in pairs])
    near = known & (probability >= 0.05)
    return Measured(
        quality(joined, told[0]),
        quality(joined, told[1]),
        calibration_error(probability[known], is_same[known]),
        calibration_error(probability[near], is_same[near]),
        int(known.sum()),
    )
