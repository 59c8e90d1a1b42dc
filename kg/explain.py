"""Says why two records are one node or are not: the log where they are, their likeness where they are not."""

from collections.abc import Sequence
from dataclasses import dataclass

from kg.identity_log import Entry, IdentityLog
from kg.likeness import Likeness, compare
from kg.matching import Commonness, Matchers
from kg.profiles import Profiles
from kg.records import Node
from kg.store.base import GraphStore

_MOST = 100_000


@dataclass(frozen=True)
class Explanation:
    """What is known of two records."""

    verdict: str
    merges: tuple[Entry, ...] = ()
    """What joined them, where they are one."""
    likeness: Likeness | None = None
    """What a matcher says of two contents that are not one; None where their titles are not even near."""


def explain(store: GraphStore, log: IdentityLog, matchers: Matchers, one: str, other: str) -> Explanation:
    """Why ``one`` and ``other`` are one node, or are not.

    Raises:
        ValueError: neither the graph nor the log knows one of them.

    Cost: reads the nodes of one type, and the facts around two of them.
    """
    chains = [log.chain(id) for id in (one, other)]
    stand = [chain[-1].merge.kept if chain else id for id, chain in zip((one, other), chains, strict=True)]
    nodes = _named(store, stand)
    for id, place in zip((one, other), stand, strict=True):
        if place not in nodes:
            raise ValueError(
                f"explain needs ids that the graph or its log knows, got {id!r}: see `mg identity log`"
            )
    if nodes[stand[0]].id == nodes[stand[1]].id:
        merges = tuple({entry.key: entry for chain in chains for entry in chain}.values())
        return Explanation(f"{one} and {other} are one node: {nodes[stand[0]].id}", merges)
    first, second = nodes[stand[0]], nodes[stand[1]]
    return Explanation(_apart(first, second, log, one, other), (), _likeness(store, matchers, first, second))


def _named(store: GraphStore, ids: Sequence[str]) -> dict[str, Node]:
    """The nodes that go by these ids, own or learned."""
    found: dict[str, Node] = {}
    for type in {"content": ("Content",), "person": ("Person",)}.get(ids[0].partition(":")[0], ()):
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


def _likeness(store: GraphStore, matchers: Matchers, first: Node, second: Node) -> Likeness | None:
    if {first.type, second.type} != {"Content"}:
        return None
    around = {node.id: store.neighbours(node.id, limit=_MOST) for node in (first, second)}
    wanted = {found.node_id for facts in around.values() for found in facts if found.role == "person"}
    profiles = Profiles()
    for person in store.nodes("Person") if wanted else ():
        if person.id in wanted:
            profiles.hear(person)
    for facts in around.values():
        for found in facts:
            profiles.hear(found.fact)
    told = [profiles.content(node.id, (node.id,), (node,)) for node in (first, second)]
    return compare(told[0], told[1], matchers.content, Commonness.of(told))
