"""Measures identity on catalogues with planted duplicates, and fits a matcher to such catalogues."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kg.identity import Resolver
from kg.matching import (
    CONTENT_FEATURES,
    PERSON_FEATURES,
    Matchers,
    Profile,
    content_pairs,
    content_row,
    person_pairs,
    person_row,
    rows_of,
)
from kg.matching_fit import Labelled, Quality, fit, quality
from kg.profiles import Profiles
from kg.records import Node
from kg.strong_ids import CATALOGUES
from kg.world_duplicates import NOISES, Duplicates, DuplicatesConfig, Noise, duplicates

_FITTED_SEEDS = range(1000, 1003)
"""Seeds of the catalogues that a matcher is fitted on; what is measured has others."""


@dataclass(frozen=True)
class Planted:
    """How the resolver did on one kind of noise."""

    noise: Noise
    contents: Quality
    people: Quality
    across: int
    """Nodes that hold two different ids of one strong scheme: must be 0."""


def fit_planted(films: int = 400) -> Matchers:
    """Matchers for contents and people, fitted on generated catalogues of every kind of noise."""
    worlds = [
        duplicates(DuplicatesConfig(films, noise, seed=seed)) for seed in _FITTED_SEEDS for noise in NOISES
    ]
    fitted_on = f"generated catalogues: {len(worlds)} pairs of {films} films, {', '.join(NOISES)}"
    contents = [_labelled(one, "Content") for one in worlds]
    people = [_labelled(one, "Person") for one in worlds]
    return Matchers(
        fit(_together(contents), CONTENT_FEATURES, fitted_on),
        fit(_together(people), PERSON_FEATURES, fitted_on),
    )


def measure_planted(matchers: Matchers, noise: Noise, films: int = 600, seed: int = 0) -> Planted:
    """Resolves catalogues of one kind of noise and counts pairs that are one node.

    Example:
        >>> measure_planted(fit_planted(60), "written", films=60).across
        0
    """
    planted = duplicates(DuplicatesConfig(films, noise, seed=seed))
    resolver = resolve(planted, matchers)
    across = sum(
        any(len(held) > 1 for held in _strong_ids(node).values())
        for node in resolver.nodes()
        if node.type == "Content"
    )
    contents = quality(_pairs(resolver, planted, "Content"), planted.contents.items())
    return Planted(
        noise, contents, quality(_pairs(resolver, planted, "Person"), planted.people.items()), across
    )


def resolve(planted: Duplicates, matchers: Matchers) -> Resolver:
    """The records of both catalogues, resolved."""
    resolver = Resolver(matchers=matchers)
    for record in planted.records:
        resolver.add(record, 0.7) if isinstance(record, Node) else resolver.hear(record)
    resolver.finish()
    return resolver


def _pairs(resolver: Resolver, planted: Duplicates, type: str) -> list[tuple[str, str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for record in planted.records:
        if isinstance(record, Node) and record.type == type:
            groups[resolver.canonical(record.id)].append(record.id)
    return [pair for members in groups.values() for pair in combinations(members, 2)]


def _strong_ids(node: Node) -> Mapping[str, set[str]]:
    held: dict[str, set[str]] = defaultdict(set)
    for pair in node.properties.get("ids", ()):  # type: ignore[union-attr]
        scheme, _, value = pair.partition(":")
        if scheme in CATALOGUES:
            held[scheme].add(value)
    return held


def _labelled(planted: Duplicates, type: str) -> Labelled:
    profiles, nodes = Profiles(), []
    for record in planted.records:
        profiles.hear(record)
        if isinstance(record, Node) and record.type == type:
            nodes.append(record)
    told: Sequence[Profile]
    if type == "Content":
        told = [profiles.content(node.id, (node.id,), (node,)) for node in nodes]
        pairs, rows = rows_of(told, content_pairs(told), content_row)
    else:
        told = [profiles.person(node.id, (node.id,), planted.contents) for node in nodes]
        pairs, rows = rows_of(told, person_pairs(told), person_row)
    answers = planted.contents if type == "Content" else planted.people
    true = {frozenset(pair) for pair in answers.items()}
    across = [_scheme(told[a].id) != _scheme(told[b].id) for a, b in pairs]  # a catalogue tells a film once
    same = np.array([frozenset((told[a].id, told[b].id)) in true for a, b in pairs])
    groups = np.array([a for a, _ in pairs])
    return Labelled(rows[across], same[across], groups[across])


def _scheme(node_id: str) -> str:
    return node_id.split(":")[1]


def _together(parts: Sequence[Labelled]) -> Labelled:
    return Labelled(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.is_same for part in parts]),
        np.concatenate([part.groups + 100_000 * place for place, part in enumerate(parts)]),
    )
