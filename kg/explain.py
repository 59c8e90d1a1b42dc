"""Says why two records are one node or are not: the log where they are, else the rule and their likeness."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kg import schema
from kg.conflicts import RESOLVED
from kg.identity_log import Entry, IdentityLog
from kg.likeness import Likeness, compare, compare_people
from kg.matching import Commonness, Matcher, Matchers, Profile
from kg.profiles import Profiles
from kg.records import Node
from kg.store.base import GraphStore

_MOST = 100_000
_ALIKE = {
    "Content": "then by an equal title, year and kind",
    "Person": "and by nothing else: a name is no proof",
}


@dataclass(frozen=True)
class Explanation:
    """What is known of two records."""

    verdict: str
    merges: tuple[Entry, ...] = ()
    """What joined them, where they are one."""
    likeness: Likeness | None = None
    """What a matcher says of two contents, or two people, that are not one; None where not even their titles
    or names are near, and for other types."""
    rule: str = ""
    """By what records of their type are joined in this graph, where they are not one."""


def explain(
    store: GraphStore,
    log: IdentityLog,
    matchers: Matchers,
    one: str,
    other: str,
    is_weighed: bool = True,
) -> Explanation:
    """Why ``one`` and ``other`` are one node, or are not.

    Args:
        store: the graph.
        log: of its imports.
        matchers: whose probability is told.
        one: id of a record or a node, of a type that is known by identifiers (content, person, company …).
        other: another of the same type.
        is_weighed: whether imports of this graph join by that probability; else it is told for comparison.

    Raises:
        ValueError: neither the graph nor the log knows one of them, or they are of two types.

    Cost: reads the nodes of one type, and the facts around two of them.
    """
    type = _type_of(one, other)
    chains = [log.chain(id) for id in (one, other)]
    stand = [chain[-1].merge.kept if chain else id for id, chain in zip((one, other), chains, strict=True)]
    nodes = _named(store, type, stand)
    for id, place in zip((one, other), stand, strict=True):
        if place not in nodes:
            raise ValueError(
                f"explain needs ids that the graph or its log knows, got {id!r}: see `mg identity log`"
            )
    if nodes[stand[0]].id == nodes[stand[1]].id:
        merges = tuple({entry.key: entry for chain in chains for entry in chain}.values())
        return Explanation(f"{one} and {other} are one node: {nodes[stand[0]].id}", merges)
    first, second = nodes[stand[0]], nodes[stand[1]]
    matcher = {"Content": matchers.content, "Person": matchers.person}.get(type)
    likeness = None if matcher is None else _likeness(store, matcher, first, second)
    verdict, rule = _apart(first, second, log, one, other), _rule(type, matcher if is_weighed else None)
    return Explanation(verdict, (), likeness, rule)


def _type_of(one: str, other: str) -> str:
    types = []
    for id in (one, other):
        try:
            types.append(schema.node_type_of(id).name)
        except KeyError as error:
            raise ValueError(str(error.args[0])) from None
    if types[0] != types[1] or types[0] not in RESOLVED:
        raise ValueError(
            f"explain compares two ids of one type out of {', '.join(RESOLVED)}, got {one!r} and {other!r}: "
            "nodes of two types are never one, and those of other types are one where their ids are equal"
        )
    return types[0]


def _named(store: GraphStore, type: str, ids: Sequence[str]) -> dict[str, Node]:
    """The nodes that go by these ids, own or learned."""
    found: dict[str, Node] = {}
    for node in store.nodes(type):
        prefix = node.id.partition(":")[0]
        own = {node.id, *(f"{prefix}:{pair}" for pair in node.properties.get("ids", ()))}  # type: ignore[union-attr]
        for id in own.intersection(ids):
            if id == node.id or id not in found:
                found[id] = node
    return found


def _apart(first: Node, second: Node, log: IdentityLog, one: str, other: str) -> str:
    apart = log.apart()
    if other in apart.get(one, ()) or one in apart.get(other, ()):
        return f"{first.id} and {second.id} are two nodes: somebody undid their merge"
    ours, theirs = first.ids, second.ids
    for scheme in ours.keys() & theirs.keys():
        if ours[scheme] != theirs[scheme]:
            return (
                f"{first.id} and {second.id} are two nodes: {scheme} says {ours[scheme]} and {theirs[scheme]}"
            )
    return f"{first.id} and {second.id} are two nodes: they share no identifier, and nothing else joined them"


def _rule(type: str, matcher: Matcher | None) -> str:
    """By what records of a type are joined; ``matcher`` is None where no probability counts."""
    word = {"Content": "contents", "Person": "people"}.get(type, f"nodes of type {type}")
    if matcher is not None:
        likeness = "likeness" if type == "Content" else "name and titles"
        return (
            f"{word} are joined by identifiers, then by {likeness} from a probability of "
            f"{matcher.threshold:.3f} on, unless an identifier contradicts"
        )
    return f"{word} are joined by identifiers here, {_ALIKE.get(type, 'and by nothing else')}"


def _likeness(store: GraphStore, matcher: Matcher, first: Node, second: Node) -> Likeness | None:
    profiles = Profiles()
    around = {node.id: store.neighbours(node.id, limit=_MOST) for node in (first, second)}
    wanted = {found.node_id for facts in around.values() for found in facts if found.role == "person"}
    for person in _people(store, first, second, wanted):
        profiles.hear(person)
    for facts in around.values():
        for found in facts:
            profiles.hear(found.fact)
    ours, theirs = (_profile(profiles, node) for node in (first, second))
    common = _common(store, first.type, ours.names | theirs.names)
    return (compare if first.type == "Content" else compare_people)(ours, theirs, matcher, common)


def _people(store: GraphStore, first: Node, second: Node, wanted: set[str]) -> Iterator[Node]:
    """The two themselves, or the people of two contents."""
    if first.type == "Person":
        yield from (first, second)
    elif wanted:
        yield from (person for person in store.nodes("Person") if person.id in wanted)


def _profile(profiles: Profiles, node: Node) -> Profile:
    if node.type == "Content":
        return profiles.content(node.id, (node.id,), (node,))
    return profiles.person(node.id, (node.id,), {})


def _common(store: GraphStore, type: str, names: frozenset[str]) -> Commonness:
    """How many nodes of a type have each of these names."""
    counts: Counter[str] = Counter()
    for node in store.nodes(type):
        known = Profiles()
        known.hear(node)
        counts.update(_profile(known, node).names & names)
    return Commonness(counts)
