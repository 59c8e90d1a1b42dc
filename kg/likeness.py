"""Finds which groups of records are alike enough to be one node: candidates, probability, evidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kg.conflicts import Record
from kg.matching import (
    Commonness,
    Matcher,
    Profile,
    agree,
    content_pairs,
    content_row,
    describe,
    person_pairs,
    person_row,
    rows_of,
)
from kg.profiles import Profiles


@dataclass(frozen=True)
class Join:
    """Two groups that are probably one node."""

    one: str
    other: str
    """Ids of a record of either group."""
    probability: float
    evidence: str
    agrees: bool = False
    """True where all that is known agrees, so that they are one even against their ids."""


@dataclass(frozen=True)
class Likeness:
    """How a matcher sees two nodes, for somebody who asks why."""

    probability: float
    evidence: str
    parts: dict[str, float]
    """Feature -> what it adds to the log odds."""


def content_joins(
    groups: Mapping[str, Sequence[str]],
    records: Mapping[str, Sequence[Record]],
    profiles: Profiles | None,
    matcher: Matcher,
) -> list[Join]:
    """Pairs of contents over the threshold, and those that agree in all; the surest first."""
    if profiles is None:
        return []
    told = [
        profiles.content(root, members, [record.node for member in members for record in records[member]])
        for root, members in sorted(groups.items())
    ]
    return _joins(told, content_pairs(told), content_row, matcher, "likeness", agree)


def person_joins(
    groups: Mapping[str, Sequence[str]], contents: dict[str, str], profiles: Profiles | None, matcher: Matcher
) -> list[Join]:
    """Pairs of people over the threshold, the surest first; ``contents``: content -> its group by now."""
    if profiles is None:
        return []
    told = [profiles.person(root, members, contents) for root, members in sorted(groups.items())]
    return _joins(told, person_pairs(told), person_row, matcher, "name and titles", lambda one, other: False)


def compare(one: Profile, other: Profile, matcher: Matcher, common: Commonness) -> Likeness | None:
    """Two contents beside each other; None where not even their titles are near."""
    return _seen(content_row(one, other, common), one, other, matcher)


def compare_people(one: Profile, other: Profile, matcher: Matcher, common: Commonness) -> Likeness | None:
    """Two people beside each other; None where not even their names are near."""
    return _seen(person_row(one, other, common), one, other, matcher)


def _seen(row: np.ndarray | None, one: Profile, other: Profile, matcher: Matcher) -> Likeness | None:
    if row is None:
        return None
    probability = float(matcher.probability(row[None])[0])
    return Likeness(probability, describe(one, other), matcher.parts(row))


def _joins(
    profiles: Sequence[Profile],
    pairs: Sequence[tuple[int, int]],
    row: Callable[[Profile, Profile, Commonness], np.ndarray | None],
    matcher: Matcher,
    word: str,
    agrees: Callable[[Profile, Profile], bool],
) -> list[Join]:
    kept, rows = rows_of(profiles, pairs, row)
    joins = []
    for (first, second), probability in zip(kept, matcher.probability(rows).tolist(), strict=True):
        one, other = profiles[first], profiles[second]
        is_plain = agrees(one, other)
        if probability >= matcher.threshold or is_plain:
            evidence = f"{word} {probability:.3f}: {describe(one, other)}"
            joins.append(Join(one.id, other.id, round(probability, 6), evidence, is_plain))
    return sorted(joins, key=lambda join: (-join.probability, join.one, join.other))
