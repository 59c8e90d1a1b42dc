"""Pieces of Cypher that the stores share, made from the schema once."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kg import schema
from kg.records import Hyperedge
from kg.store.encoding import fact_of

MARKER = "MediaGateway"
"""Label of the one node that says whose database this is; no node type of the schema."""
MEMBER_TYPES = {
    fact.member_type(role.name): (fact.name, role.name)
    for fact in schema.FACTS.values()
    if not fact.is_binary
    for role in fact.roles
}
"""Relationship type from a fact's node to a member -> (fact, role)."""
_BY_LABEL = {fact.label: fact for fact in schema.FACTS.values() if not fact.is_binary}
CONSTRAINED = {label: f"(n:`{label}`)" for label in (MARKER, *schema.NODES, *_BY_LABEL)} | {
    kind.name: f"()-[n:`{kind.name}`]-()" for kind in schema.FACTS.values() if kind.is_binary
}
"""Label or relationship type -> the pattern whose ``id`` must be unique."""
_NOT_CODE = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|`[^`]*`|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LOAD_CSV = re.compile(r"\bLOAD\s+CSV\b", re.IGNORECASE)


def _count_queries() -> dict[str, str]:
    found = {label: f"MATCH (n:`{label}`) RETURN count(n) AS n" for label in schema.NODES}
    for fact in schema.FACTS.values():
        pattern = f"()-[n:`{fact.name}`]->()" if fact.is_binary else f"(n:`{fact.label}`)"
        found[fact.name] = f"MATCH {pattern} RETURN count(n) AS n"
    return found


COUNTS = _count_queries()
"""Type -> the statement that counts it."""


def reads_files(query: str) -> bool:
    """Whether a question holds LOAD CSV outside of texts and comments, also spelt with escapes.

    Example:
        >>> reads_files("LOAD /* x */ CSV FROM 'a' AS l RETURN l"), reads_files("RETURN 'LOAD CSV'")
        (True, False)
    """
    code = re.sub(r"\\u+([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), query)
    return _LOAD_CSV.search(_NOT_CODE.sub(" ", code)) is not None


def fact_over(label: str, properties: Mapping[str, Any], members: Sequence[Sequence[str]]) -> Hyperedge:
    """The fact of three or more members that a node and its relationships stand for."""
    by_role: dict[str, tuple[str, ...]] = {}
    for member_type, node_id in sorted(members):
        role = MEMBER_TYPES[member_type][1]
        by_role[role] = (*by_role.get(role, ()), node_id)
    return fact_of(_BY_LABEL[label].name, properties, by_role)
