"""Questions that people ask the graph, each one a Cypher text that ArcadeDB and Neo4j answer alike."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from types import MappingProxyType
from typing import Any

from configs.registry import SettingError, UnknownName
from kg import questions, schema
from kg.answers import Candidate, Credit, Ending, FromFriends, Gem, Similar, Title, Trusted, Window
from kg.availability import DAY_S, OFFER_ORDER, UNKNOWN_OFFER, quality
from kg.records import Node
from kg.regions import groups_of
from kg.store.base import GraphStore
from kg.store.encoding import node_of
from kg.trust import LEAST_AVAILABILITY, UNKNOWN_SOURCE, reliabilities

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
GEM_RATING, GEM_TRUST = 7.5, 0.7
"""A hidden gem is rated at least so, of 10, and trusted more than this."""
LEAST_TRUSTED, LEAST_COMPLETE = 0.8, 0.9
"""What is trusted only is trusted more than the first and complete above the second."""


def where_to_watch(
    store: GraphStore, content_id: str, region: str, at: int, subscriptions: str = ""
) -> list[Window]:
    """Offers of a content in a region (ISO code) that hold at ``at`` (UTC seconds).

    Subscriptions that somebody has come first, then by :data:`kg.availability.OFFER_ORDER`, then by price,
    quality, trust, platform and start.

    Args:
        store: where the graph is.
        content_id: of the content.
        region: ISO 3166-1 alpha-2; windows of a group of countries (EU, WORLD) count for each of them.
        at: the moment.
        subscriptions: platforms that somebody pays for, with commas between them.
    """
    given = {"content_id": _id(content_id, "Content"), "region_ids": _regions(region), "at": at}
    known, paid = reliabilities(), _platforms(subscriptions)
    found = []
    for row in store.cypher(questions.WINDOWS, given):
        trust = known.get(row["source"], UNKNOWN_SOURCE) * row["confidence"]
        window = Window(
            platform_id=row["platform_id"],
            platform=row["platform"] or row["platform_id"],
            offer=row["offer"] or UNKNOWN_OFFER,
            price=row["price"],
            currency=row["currency"],
            start_ts=row["start_ts"],
            end_ts=row["end_ts"],
            simulated=bool(row["simulated"]),
            quality_tiers=tuple(row["quality_tiers"] or ()),
            source=row["source"],
            trust=trust,
            is_verified=trust >= LEAST_AVAILABILITY,
        )
        found.append((_preference(window, paid), row["id"], window))
    return [window for _, _, window in sorted(found, key=lambda one: one[:2])]


def expiring(store: GraphStore, region: str, days: int, at: int) -> list[Ending]:
    """Contents that some platform loses in a region within ``days``, soonest first."""
    _at_least("days", days, 0)
    given = {"region_ids": _regions(region), "at": at, "until": at + days * DAY_S}
    ends = [Ending(row["content_id"], row["end_ts"]) for row in store.cypher(questions.EXPIRING, given)]
    return sorted(ends, key=lambda end: (end.end_ts, end.content_id))


def from_friends(store: GraphStore, user_id: str, at: int, n: int = 20, least: int = 8) -> list[FromFriends]:
    """What people whom a user follows like, close to what the user likes, and has not rated yet.

    Args:
        store: where the graph is.
        user_id: of the user.
        at: UTC seconds; what happened later does not count.
        n: how many, most friends first, then the closest, then by id.
        least: rating from which on somebody likes a content.
    """
    _at_least("n", n, 1)
    given = {"user_id": _id(user_id, "User"), "at": at, "least": least}
    found = [
        FromFriends(row["content_id"], row["title"] or "", row["friends"], row["close"])
        for row in store.cypher(questions.FROM_FRIENDS, given)
    ]
    return sorted(found, key=lambda one: (-one.friends, -one.close, one.content_id))[:n]


def hidden_gems(
    store: GraphStore, at: int, n: int = 20, least_ratings: int = 3, most_ratings: int = 20
) -> list[Gem]:
    """Contents that few rated and these well: mean of at least 7.5, trust above 0.7.

    Trust is what the graph says of a content; ``mg graph verify`` writes it there.

    Args:
        store: where the graph is.
        at: UTC seconds; later ratings do not count.
        n: how many, the best mean first, then the fewer ratings, then by id.
        least_ratings: fewer prove nothing.
        most_ratings: more are no secret.
    """
    _at_least("n", n, 1)
    _at_least("least_ratings", least_ratings, 1)
    given = {"at": at, "least_ratings": least_ratings, "most_ratings": most_ratings}
    given |= {"rating": GEM_RATING, "trust": GEM_TRUST}
    found = [
        Gem(
            row["content_id"], row["title"] or "", row["total"] / row["ratings"], row["ratings"], row["trust"]
        )
        for row in store.cypher(questions.RATED_WELL, given)
    ]
    return sorted(found, key=lambda one: (-one.rating, one.ratings, one.content_id))[:n]


def candidates(
    store: GraphStore,
    user_id: str,
    region: str,
    at: int,
    n: int = 500,
    subscriptions: str = "",
    least: int = 8,
) -> list[Candidate]:
    """What a model may rank for a user: can be watched there and then, not rated and not dismissed yet.

    Args:
        store: where the graph is.
        user_id: of the user; one whom the graph does not know has nothing rated.
        region: ISO 3166-1 alpha-2.
        at: UTC seconds.
        n: how many, the most liked first, then by id.
        subscriptions: the only platforms that count, with commas between them; '' counts all.
        least: rating from which on somebody likes a content.
    """
    _at_least("n", n, 1)
    paid = _platforms(subscriptions)
    given = {"user_id": _id(user_id, "User"), "region_ids": _regions(region), "at": at, "least": least}
    given |= {"platform_ids": list(paid), "any_platform": not paid}
    found = [
        Candidate(row["content_id"], row["title"] or "", row["release_year"], row["likes"])
        for row in store.cypher(questions.CANDIDATES, given)
    ]
    return sorted(found, key=lambda one: (-one.likes, one.content_id))[:n]


def trusted(store: GraphStore, at: int, n: int = 100) -> list[Trusted]:
    """Contents of trust above 0.8 that are complete above 0.9 and verified by ``at`` (UTC seconds).

    Trust, completeness and when it was verified are what the graph says; ``mg graph verify`` writes them.
    The ``n`` most trusted first, then by id.
    """
    _at_least("n", n, 1)
    given = {"at": at, "trust": LEAST_TRUSTED, "completeness": LEAST_COMPLETE}
    found = [Trusted(**row) for row in store.cypher(questions.TRUSTED, given)]
    return sorted(found, key=lambda one: (-one.trust, one.content_id))[:n]


def similar(store: GraphStore, content_id: str, n: int) -> list[Similar]:
    """The ``n`` contents that share most with one, the heaviest first, then by id."""
    _at_least("n", n, 1)
    _id(content_id, "Content")
    found: dict[str, tuple[str, dict[str, int]]] = {}
    for query, subject in ((questions.SHARED_BELOW, "Content"), (questions.SHARED_ABOVE, "Person")):
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
    parameters: dict[str, Any] = {"content_id": _id(content_id, "Content")}
    content = store.cypher(questions.CONTENT, parameters)
    if not content:
        return None
    about: dict[str, list[str]] = {}
    for row in store.cypher(questions.ABOUT, parameters):
        about.setdefault(row["type"], []).append(row["name"] or row["id"].partition(":")[2])
    credited = store.cypher(questions.CREDITED, {**parameters, "types": list(CREDITS)})
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
    {
        "from_friends": from_friends,
        "hidden_gems": hidden_gems,
        "where_to_watch": where_to_watch,
        "candidates": candidates,
        "similar": similar,
        "expiring": expiring,
        "trusted": trusted,
        "title": title,
    }
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
    wanted = dict(list(inspect.signature(QUERIES[name]).parameters.items())[1:])
    needed = [each for each, told in wanted.items() if told.default is told.empty]
    if not set(needed) <= values.keys() <= wanted.keys():
        some = [f"{each}={wanted[each].default!r}" for each in wanted if each not in needed]
        raise SettingError(
            f"{name} takes {', '.join(needed + some)}, got {', '.join(values) or 'nothing'}: give each"
        )
    for each, value in values.items():
        if wanted[each].annotation is int and not isinstance(value, int):
            raise SettingError(
                f"{each} of {name} is a whole number (times: UTC seconds), got {value!r}: give one"
            )
    given = {
        each: str(parameters[each]) if wanted[each].annotation is str else value
        for each, value in values.items()
    }
    answer = QUERIES[name](store, **given)
    found = answer if isinstance(answer, list) else [answer] if answer is not None else []
    return [{field.name: _plain(getattr(one, field.name)) for field in fields(one)} for one in found]


def _plain(value: Any) -> Any:
    if isinstance(value, Node):
        return {"type": value.type, "id": value.id, **value.properties}
    if isinstance(value, tuple):
        return [asdict(part) if is_dataclass(part) else part for part in value]
    return value


def _preference(window: Window, paid: tuple[str, ...]) -> tuple[Any, ...]:
    rank = OFFER_ORDER.index(window.offer) if window.offer in OFFER_ORDER else len(OFFER_ORDER)
    is_paid_for = window.offer == "subscription" and window.platform_id in paid
    order = (not is_paid_for, rank, window.price or 0.0, -quality(window.quality_tiers), -window.trust)
    return *order, window.platform, window.platform_id, window.start_ts or 0


def _id(node_id: str, type: str) -> str:
    prefix = f"{schema.NODES[type].prefix}:"
    if not node_id.startswith(prefix) or len(node_id) == len(prefix) or len(node_id.encode()) > 4096:
        raise SettingError(
            f"the id of a {type} is written {prefix}<key>, in at most 4096 bytes, got {node_id[:80]!r}: "
            "write it so"
        )
    return node_id


def _regions(region: str) -> list[str]:
    """Ids of a country and of the groups that it belongs to."""
    code = region.upper().removeprefix("REGION:")
    if not re.fullmatch("[A-Z]{2}", code):
        raise SettingError(f"a region is two letters, ISO 3166-1 alpha-2, got {region[:80]!r}: write it so")
    return [f"region:{code}", *(f"region:{group}" for group in groups_of(code))]


def _platforms(subscriptions: str) -> tuple[str, ...]:
    names = (name.strip().removeprefix("platform:") for name in subscriptions.split(","))
    return tuple(dict.fromkeys(f"platform:{name}" for name in names if name))


def _at_least(name: str, number: int, least: int) -> None:
    if number < least:
        raise SettingError(f"{name} is {least} or more, got {number}: ask for more")


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
