"""The same graph with other facts: none, shuffled, or rewired with equal degrees.

Only facts change; nodes, their columns and what users liked stay as they are. f facts of a type."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from kg import schema
from kg.arrays import GraphArrays

ROUNDS, TRADES = 20, 6
"""Passes over all facts of a type in which pairs may trade contents, and trades a fact that suffice."""


@dataclass(frozen=True)
class Side:
    """One type's facts, seen from the content that they are about."""

    role: str
    """The role that the content plays."""
    contents: np.ndarray
    """(f,) int64 rows of contents."""
    rest: np.ndarray
    """(f,) int64 code of all other members together: equal codes, equal members."""
    apart: np.ndarray | None
    """(f,) int64 row of the other content where both sides are contents: nobody is related to itself."""


Change = Callable[[Side, np.ndarray, np.random.Generator], np.ndarray]
"""A side, (i,) bool core contents, random numbers -> (f,) contents that take the place of the old ones."""


def varied(
    graph: GraphArrays, variant: str, types: Sequence[str], core: np.ndarray, seed: int
) -> GraphArrays:
    """A graph whose facts of some types are those of a variant.

    Args:
        graph: what training may see.
        variant: ``true``, or one of ``CHANGES`` or ``none``.
        types: fact types that change; others stay.
        core: (i,) bool, contents that may be recommended or were liked: these trade among themselves, so
            that no variant has more or fewer facts about them.
        seed: of what is drawn.
    """
    if variant == "true":
        return graph
    if variant == "none":
        return graph.keep({type: np.zeros(graph.fact_count(type), bool) for type in types})
    change, facts = CHANGES[variant], dict(graph.facts)
    for place, type in enumerate(sorted(set(types) & set(facts))):
        side = side_of(graph, type)
        contents = change(side, core, np.random.default_rng([seed, place]))
        at = facts[type].column_names.index(side.role)
        facts[type] = facts[type].set_column(at, side.role, pa.array(contents, pa.int32()))
    told = f"{graph.hash} {variant} {seed} {sorted(types)}"
    digest = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
    return replace(graph, facts=facts, hash=digest, folder=None)


def side_of(graph: GraphArrays, type: str) -> Side:
    """The facts of a type by content and all the rest.

    Raises:
        ValueError: no single content plays a role in this type.
    """
    roles = schema.FACTS[type].roles
    found = _about(type)
    if not found:
        raise ValueError(f"a graph varies by facts about one content, {type} is not: leave it out")
    others = [role.name for role in roles if role is not found[0]]
    contents = graph.incidence(type, found[0].name)[1]
    rest = _codes(graph.facts[type], others)
    apart = graph.incidence(type, found[1].name)[1] if len(found) > 1 else None
    return Side(found[0].name, contents, rest, apart)


def can_vary(type: str) -> bool:
    """True for facts about one content: another one can take its place."""
    return bool(_about(type))


def _about(type: str) -> list[schema.Role]:
    """The roles of a type that exactly one content plays."""
    roles = schema.FACTS[type].roles
    return [role for role in roles if "Content" in role.types and role.least == role.most == 1]


def _codes(table: pa.Table, roles: Sequence[str]) -> np.ndarray:
    """(f,) int64, 0 or more: one number a distinct combination of members."""
    if len(roles) == 1 and pa.types.is_integer(table[roles[0]].type):
        return table[roles[0]].to_numpy().astype(np.int64)
    codes: dict[Any, int] = {}
    columns = [table[role].to_pylist() for role in roles]
    members = (
        tuple(tuple(one) if isinstance(one, list) else one for one in row)
        for row in zip(*columns, strict=True)
    )
    return np.array([codes.setdefault(row, len(codes)) for row in members], np.int64)


def shuffled(side: Side, core: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contents trade all their facts of a type: whatever was said of one is said of another.

    The facts of a content stay together and every other member keeps its degree; which content they tell of
    is drawn.
    """
    other = np.arange(len(core))
    for group in (np.flatnonzero(core), np.flatnonzero(~core)):
        other[group] = rng.permutation(group)
    return other[side.contents]


def rewired(side: Side, core: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pairs of facts trade contents, again and again: both sides keep their degree.

    A trade that would say a thing twice, or relate a content to itself, is not made; what stood twice before
    may do so still. It ends when facts have traded ``TRADES`` times on average, or after ``ROUNDS``.

    Source: double edge swaps as in Maslov and Sneppen, Science 296, 2002, many disjoint pairs at a time.

    Cost: O(rounds · f log f).
    """
    contents, width = side.contents.copy(), int(side.rest.max(initial=0)) + 1
    groups = [np.flatnonzero(core[contents] == is_core) for is_core in (True, False)]
    traded = 0
    for _ in range(ROUNDS):
        one, other = np.concatenate([_paired(group, rng) for group in groups], axis=1)
        proposed = np.concatenate(
            [contents[other] * width + side.rest[one], contents[one] * width + side.rest[other]]
        )
        _, place, times = np.unique(proposed, return_inverse=True, return_counts=True)
        is_new = (times[place] == 1) & ~np.isin(proposed, contents * width + side.rest)
        fits = is_new[: len(one)] & is_new[len(one) :]
        if side.apart is not None:
            fits &= (contents[other] != side.apart[one]) & (contents[one] != side.apart[other])
        one, other = one[fits], other[fits]
        contents[one], contents[other] = contents[other], contents[one]
        traded += 2 * len(one)
        if traded >= TRADES * len(contents):
            break
    return contents


def _paired(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(2, m) members of a group in random pairs; one is left over where their number is odd."""
    return rng.permutation(group)[: len(group) // 2 * 2].reshape(2, -1)


CHANGES: Mapping[str, Change] = {"shuffled": shuffled, "rewired": rewired}
VARIANTS = ("true", "none", *CHANGES)
"""In the order in which they are shown."""


def changed_share(graph: GraphArrays, other: GraphArrays, types: Sequence[str]) -> float:
    """Of the facts of ``graph``, how many ``other`` does not hold, 0 to 1."""
    gone = count = 0
    for type in types:
        if not graph.fact_count(type):
            continue
        side = side_of(graph, type)
        count += len(side.contents)
        if not other.fact_count(type):
            gone += len(side.contents)
            continue
        width = int(side.rest.max(initial=0)) + 1
        left = other.incidence(type, side.role)[1] * width + side.rest
        gone += int(np.count_nonzero(~np.isin(side.contents * width + side.rest, left)))
    return gone / count if count else 0.0
