"""Questions that people ask the graph, each one a Cypher text that ArcadeDB and Neo4j answer alike."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any

from configs.registry import SettingError, UnknownName
from kg import schema
from kg.availability import DAY_S, OFFER_ORDER, UNKNOWN_OFFER
from kg.records import Node
from kg.store.base import GraphStore
from kg.store.encoding import node_of

CREDITS = ("DIRECTED", "WROTE", "ACTED_IN", "PRODUCED", "SHOT")
"""Facts between a person and a content, in the order in which a page shows them."""
SHARED_WEIGHT: Mapping[str, float] = MappingProxyType(
    {
        "DIRECTED": 3.0,
        "WROTE": 2.0,
        "ACTED_IN": 2.0,
        "HAS_MOOD": 1.0,
        "HAS_THEME": 1.0,
        "HAS_KEYWORD": 1.0,
        "BELONGS_TO": 1.0,
    }
)
"""What one shared node counts for when two titles are compared."""


@dataclass(frozen=True)
class Window:
    """One offer of a content in a region."""

    platform_id: str
    platform: str
    offer: str
    price: float | None
    currency: str | None
    start_ts: int | None
    end_ts: int | None
    """None is open: the end is not known."""
    simulated: bool


@dataclass(frozen=True)
class Ending:
    """A content that a platform loses soon."""

    content_id: str
    end_ts: int


@dataclass(frozen=True)
class Similar:
    """A content that shares people, genres, moods, themes or keywords with another one."""

    content_id: str
    title: str
    score: float
    """Sum of SHARED_WEIGHT over the nodes that both have."""
    shared: Mapping[str, int]
    """How many nodes are shared, by type of fact."""


@dataclass(frozen=True)
class Credit:
    """A person's part in a content."""

    fact: str
    person_id: str
    name: str | None
    """None where the source has no names."""
    character: str | None
    billing_order: int | None


@dataclass(frozen=True)
class Title:
    """What is known of one content."""

    content: Node
    genres: tuple[str, ...]
    credits: tuple[Credit, ...]
    companies: tuple[str, ...]
    countries: tuple[str, ...]
    languages: tuple[str, ...]


_WINDOWS = """
MATCH (f:`Available`)-[:`AVAILABLE_CONTENT`]->(c:`Content` {id: $content_id})
MATCH (f)-[:`AVAILABLE_REGION`]->(:`Region` {id: $region_id})
WHERE (f.start_ts IS NULL OR f.start_ts <= $at) AND (f.end_ts IS NULL OR $at < f.end_ts)
MATCH (f)-[:`AVAILABLE_PLATFORM`]->(p:`Platform`)
RETURN f.id AS id, p.id AS platform_id, p.name AS platform, f.offer AS offer, f.price AS price,
       f.currency AS currency, f.start_ts AS start_ts, f.end_ts AS end_ts, f.simulated AS simulated
"""

_EXPIRING = """
MATCH (f:`Available`)-[:`AVAILABLE_REGION`]->(:`Region` {id: $region_id})
WHERE (f.start_ts IS NULL OR f.start_ts <= $at) AND $at < f.end_ts AND f.end_ts <= $until
MATCH (f)-[:`AVAILABLE_CONTENT`]->(c:`Content`)
RETURN DISTINCT c.id AS content_id, f.end_ts AS end_ts
"""

_SHARED_BELOW = """
MATCH (c:`Content` {id: $content_id})-[r]->(x)<-[s]-(o:`Content`)
WHERE type(r) IN $types AND type(s) = type(r) AND o.id <> $content_id
RETURN o.id AS id, o.title AS title, type(r) AS type, count(DISTINCT x) AS shared
"""

_SHARED_ABOVE = """
MATCH (c:`Content` {id: $content_id})<-[r]-(x)-[s]->(o:`Content`)
WHERE type(r) IN $types AND type(s) = type(r) AND o.id <> $content_id
RETURN o.id AS id, o.title AS title, type(r) AS type, count(DISTINCT x) AS shared
"""

_CONTENT = "MATCH (c:`Content` {id: $content_id}) RETURN properties(c) AS properties"

_ABOUT = """
MATCH (c:`Content` {id: $content_id})-[r]->(x)
WHERE type(r) IN ['BELONGS_TO', 'MADE_BY', 'MADE_IN', 'SPOKEN_IN']
RETURN DISTINCT type(r) AS type, x.id AS id, x.name AS name
"""

_CREDITED = """
MATCH (c:`Content` {id: $content_id})<-[r]-(p:`Person`)
WHERE type(r) IN $types
RETURN type(r) AS type, r.id AS id, p.id AS person_id, p.name AS name, r.character AS character,
       r.billing_order AS billing_order
"""


def where_to_watch(store: GraphStore, content_id: str, region: str, at: int) -> list[Window]:
    """Offers of a content in a region (ISO code) that hold at ``at`` (UTC seconds).

    In the order of :data:`kg.availability.OFFER_ORDER`, then by price, platform and start.
    """
    rows = store.cypher(_WINDOWS, {"content_id": content_id, "region_id": f"region:{region}", "at": at})
    rows.sort(key=lambda row: _preference(row))
    return [
        Window(
            platform_id=row["platform_id"],
            platform=row["platform"] or row["platform_id"],
            offer=row["offer"] or UNKNOWN_OFFER,
            price=row["price"],
            currency=row["currency"],
            start_ts=row["start_ts"],
            end_ts=row["end_ts"],
            simulated=bool(row["simulated"]),
        )
        for row in rows
    ]


def expiring(store: GraphStore, region: str, days: int, at: int) -> list[Ending]:
    """Contents that some platform loses in a region within ``days``, soonest first."""
    found = store.cypher(_EXPIRING, {"region_id": f"region:{region}", "at": at, "until": at + days * DAY_S})
    ends = [Ending(row["content_id"], row["end_ts"]) for row in found]
    return sorted(ends, key=lambda end: (end.end_ts, end.content_id))


def similar(store: GraphStore, content_id: str, n: int) -> list[Similar]:
    """The ``n`` contents that share most with one, the heaviest first, then by id."""
    if n < 1:
        raise SettingError(f"n lies above 0, got {n}: ask for at least one")
    found: dict[str, tuple[str, dict[str, int]]] = {}
    for query, subject in ((_SHARED_BELOW, "Content"), (_SHARED_ABOVE, "Person")):
        types = [type for type in SHARED_WEIGHT if schema.FACTS[type].roles[0].types[0] == subject]
        for row in store.cypher(query, {"content_id": content_id, "types": types}):
            _, shared = found.setdefault(row["id"], (row["title"] or "", {}))
            shared[row["type"]] = row["shared"]
    every = [
        Similar(other, title, sum(SHARED_WEIGHT[type] * count for type, count in shared.items()), shared)
        for other, (title, shared) in found.items()
    ]
    return sorted(every, key=lambda one: (-one.score, one.content_id))[:n]


def title(store: GraphStore, content_id: str) -> Title | None:
    """What is known of one content, None where there is none with this id."""
    parameters: dict[str, Any] = {"content_id": content_id}
    content = store.cypher(_CONTENT, parameters)
    if not content:
        return None
    about: dict[str, list[str]] = {}
    for row in store.cypher(_ABOUT, parameters):
        about.setdefault(row["type"], []).append(row["name"] or row["id"].partition(":")[2])
    credited = store.cypher(_CREDITED, {**parameters, "types": list(CREDITS)})
    credited.sort(key=_billing)
    credited = list({(row["type"], row["person_id"]): row for row in reversed(credited)}.values())[::-1]
    names = {type: tuple(sorted(found)) for type, found in about.items()}
    return Title(
        content=node_of("Content", content[0]["properties"]),
        genres=names.get("BELONGS_TO", ()),
        credits=tuple(
            Credit(row["type"], row["person_id"], row["name"], row["character"], row["billing_order"])
            for row in credited
        ),
        companies=names.get("MADE_BY", ()),
        countries=names.get("MADE_IN", ()),
        languages=names.get("SPOKEN_IN", ()),
    )


QUERIES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"where_to_watch": where_to_watch, "expiring": expiring, "similar": similar, "title": title}
)
"""Questions by the name that `mg query` knows them by."""


def ask(store: GraphStore, question: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    """Answers a named question, or a read-only Cypher text, as plain rows.

    Args:
        store: where the graph is.
        question: a name of :data:`QUERIES`, or Cypher.
        parameters: by name, as typed; whole numbers are read as such.

    Raises:
        UnknownName: a single word that names no question.
        SettingError: a parameter that the question does not have or needs, or that is no number.
        StoreError: a text that is not read-only Cypher.
    """
    values = {
        name: int(text) if re.fullmatch(r"-?\d{1,18}", text) else text for name, text in parameters.items()
    }
    name = question.replace("-", "_")
    if name not in QUERIES:
        if re.fullmatch(r"\w*", name):
            near = difflib.get_close_matches(name, QUERIES, n=3, cutoff=0.3) or list(QUERIES)
            raise UnknownName(
                f"no question is called {question!r}; nearest: {', '.join(near)}; or write Cypher"
            )
        return store.cypher(question, values)
    signature = inspect.signature(QUERIES[name])
    wanted = {each.name: each.annotation for each in list(signature.parameters.values())[1:]}
    if wanted.keys() != values.keys():
        raise SettingError(
            f"{name} takes {', '.join(wanted)}, got {', '.join(values) or 'nothing'}: give each"
        )
    for each, type in wanted.items():
        if type is int and not isinstance(values[each], int):
            raise SettingError(
                f"{each} of {name} is a whole number (times: UTC seconds), got {values[each]!r}: give one"
            )
    given = {each: str(parameters[each]) if type is str else values[each] for each, type in wanted.items()}
    answer = QUERIES[name](store, **given)
    found = answer if isinstance(answer, list) else [answer] if answer is not None else []
    return [{field.name: _plain(getattr(one, field.name)) for field in fields(one)} for one in found]


def _plain(value: Any) -> Any:
    if isinstance(value, Node):
        return {"type": value.type, "id": value.id, **value.properties}
    if isinstance(value, tuple):
        return [asdict(part) if is_dataclass(part) else part for part in value]
    return value


def _preference(row: Mapping[str, Any]) -> tuple[Any, ...]:
    offer = row["offer"] or UNKNOWN_OFFER
    rank = OFFER_ORDER.index(offer) if offer in OFFER_ORDER else len(OFFER_ORDER)
    platform = row["platform"] or row["platform_id"]
    return rank, row["price"] or 0.0, platform, row["platform_id"], row["start_ts"] or 0, row["id"]


def _billing(row: Mapping[str, Any]) -> tuple[Any, ...]:
    order = row["billing_order"]
    return (
        CREDITS.index(row["type"]),
        order is None,
        order or 0,
        row["name"] or "",
        row["person_id"],
        row["id"],
    )
