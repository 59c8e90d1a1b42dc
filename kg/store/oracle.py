"""The house's own questions answered from plain records, loop by loop: what Cypher is held equal to.

Slow on purpose: nothing here is clever, so that it can be read beside the text it answers."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from kg import questions, schema
from kg.records import Hyperedge, Node
from kg.store.base import GraphStore

Rows = list[dict[str, Any]]
Given = Mapping[str, Any]


class Records:
    """All that a store holds, read once."""

    def __init__(self, store: GraphStore) -> None:
        self.nodes: dict[str, Node] = {node.id: node for type in schema.NODES for node in store.nodes(type)}
        self._store = store

    def facts(self, *types: str) -> Iterable[Hyperedge]:
        """The facts of some types."""
        for type in types:
            yield from self._store.hyperedges(type)

    def told(self, node_id: str, name: str) -> Any:
        """A property of a node, None where it is not known."""
        return self.nodes[node_id].properties.get(name)


def answer(store: GraphStore, text: str, given: Given) -> Rows | None:
    """Rows of a text of :data:`kg.questions.TEXTS`, in no order; None for any other text."""
    found = _ANSWERS.get(text)
    return None if found is None else found(Records(store), given)


def _one(fact: Hyperedge, role: str) -> str:
    return fact.members[role][0]


def _began(fact: Hyperedge, at: int) -> bool:
    return fact.start_ts is None or fact.start_ts <= at


def _holds(fact: Hyperedge, at: int) -> bool:
    return _began(fact, at) and (fact.end_ts is None or at < fact.end_ts)


def _is_in(fact: Hyperedge, given: Given) -> bool:
    return any(region in given["region_ids"] for region in fact.members["region"])


def _windows(records: Records, given: Given) -> Rows:
    found = []
    for fact in records.facts("AVAILABLE"):
        if _one(fact, "content") == given["content_id"] and _is_in(fact, given):
            if _holds(fact, given["at"]):
                platform = _one(fact, "platform")
                tiers = fact.properties.get("quality_tiers")
                row = {"id": fact.id, "platform_id": platform, "platform": records.told(platform, "name")}
                row |= {name: fact.properties.get(name) for name in ("offer", "price", "currency")}
                row |= {"start_ts": fact.start_ts, "end_ts": fact.end_ts}
                row |= {"simulated": fact.properties.get("simulated")}
                row |= {"quality_tiers": None if tiers is None else list(tiers)}
                found.append({**row, "source": fact.source, "confidence": fact.confidence})
    return found


def _expiring(records: Records, given: Given) -> Rows:
    ends = {
        (_one(fact, "content"), fact.end_ts)
        for fact in records.facts("AVAILABLE")
        if _is_in(fact, given)
        and fact.end_ts is not None
        and _holds(fact, given["at"])
        and fact.end_ts <= given["until"]
    }
    return [{"content_id": content_id, "end_ts": end_ts} for content_id, end_ts in ends]


def _shared(records: Records, given: Given) -> Rows:
    found = []
    for type in given["types"]:
        around: dict[str, set[str]] = defaultdict(set)
        for fact in records.facts(type):
            other = next(ids[0] for role, ids in fact.members.items() if role != "content")
            around[_one(fact, "content")].add(other)
        own = around.get(given["content_id"], set())
        for content_id, theirs in around.items():
            if content_id != given["content_id"] and own & theirs:
                title = records.told(content_id, "title")
                found.append({"id": content_id, "title": title, "type": type, "shared": len(own & theirs)})
    return found


def _content(records: Records, given: Given) -> Rows:
    node = records.nodes.get(given["content_id"])
    if node is None or node.type != "Content":
        return []
    told = {
        name: list(value) if isinstance(value, tuple) else value for name, value in node.properties.items()
    }
    return [{"properties": {**told, "id": node.id}}]


def _about(records: Records, given: Given) -> Rows:
    found = set()
    for fact in records.facts("BELONGS_TO", "MADE_BY", "MADE_IN", "SPOKEN_IN"):
        if _one(fact, "content") == given["content_id"]:
            other = next(ids[0] for role, ids in fact.members.items() if role != "content")
            found.add((fact.type, other, records.told(other, "name")))
    return [{"type": type, "id": other, "name": name} for type, other, name in found]


def _credited(records: Records, given: Given) -> Rows:
    return [
        {
            "type": fact.type,
            "id": fact.id,
            "person_id": _one(fact, "person"),
            "name": records.told(_one(fact, "person"), "name"),
            "character": fact.properties.get("character"),
            "billing_order": fact.properties.get("billing_order"),
        }
        for fact in records.facts(*given["types"])
        if _one(fact, "content") == given["content_id"]
    ]


def _from_friends(records: Records, given: Given) -> Rows:
    user, at = given["user_id"], given["at"]
    follows = {
        _one(fact, "followed")
        for fact in records.facts("FOLLOWS")
        if _one(fact, "user") == user and _holds(fact, at)
    }
    rated: set[str] = set()
    liked: set[str] = set()
    friends: dict[str, set[str]] = defaultdict(set)
    for fact in records.facts("RATED"):
        if not _began(fact, at):
            continue
        who, content, is_liked = _one(fact, "user"), _one(fact, "content"), _likes(fact, given)
        if who == user:
            rated.add(content)
            liked |= {content} if is_liked else set()
        if who in follows and is_liked:
            friends[content].add(who)
    genres: dict[str, set[str]] = defaultdict(set)
    for fact in records.facts("BELONGS_TO"):
        genres[_one(fact, "content")].add(_one(fact, "genre"))
    found = []
    for content, who in friends.items():
        close = sum(bool(genres[content] & genres[own]) for own in liked)
        if content not in rated and close:
            title = records.told(content, "title")
            found.append({"content_id": content, "title": title, "friends": len(who), "close": close})
    return found


def _likes(fact: Hyperedge, given: Given) -> bool:
    rating = fact.properties.get("rating")
    return rating is not None and rating >= given["least"]


def _rated_well(records: Records, given: Given) -> Rows:
    ratings: dict[str, list[float | None]] = defaultdict(list)
    for fact in records.facts("RATED"):
        if _began(fact, given["at"]):
            ratings[_one(fact, "content")].append(fact.properties.get("rating"))  # type: ignore[arg-type]
    found = []
    for content, every in ratings.items():
        trust, total = records.told(content, "trust"), sum(one for one in every if one is not None)
        is_few = given["least_ratings"] <= len(every) <= given["most_ratings"]
        if trust is not None and trust > given["trust"] and is_few:
            if total >= given["rating"] * len(every):
                row = {"content_id": content, "title": records.told(content, "title"), "trust": trust}
                found.append({**row, "ratings": len(every), "total": total})
    return found


def _candidates(records: Records, given: Given) -> Rows:
    at = given["at"]
    offered = {
        _one(fact, "content")
        for fact in records.facts("AVAILABLE")
        if _is_in(fact, given)
        and _holds(fact, at)
        and (given["any_platform"] or _one(fact, "platform") in given["platform_ids"])
    }
    likes: dict[str, int] = defaultdict(int)
    for fact in records.facts("RATED", "DISMISSED"):
        if _began(fact, at):
            if _one(fact, "user") == given["user_id"]:
                offered.discard(_one(fact, "content"))
            likes[_one(fact, "content")] += fact.type == "RATED" and _likes(fact, given)
    return [
        {
            "content_id": content,
            "title": records.told(content, "title"),
            "release_year": records.told(content, "release_year"),
            "likes": likes[content],
        }
        for content in offered
    ]


def _trusted(records: Records, given: Given) -> Rows:
    names = ("title", "trust", "completeness", "last_verified_ts")
    found = []
    for node in records.nodes.values():
        trust, completeness, seen = (node.properties.get(name) for name in names[1:])
        if node.type == "Content" and None not in (trust, completeness, seen):
            if trust > given["trust"] and completeness > given["completeness"] and seen <= given["at"]:
                found.append({"content_id": node.id, **{name: node.properties.get(name) for name in names}})
    return found


_ANSWERS: Mapping[str, Callable[[Records, Given], Rows]] = MappingProxyType(
    {
        questions.WINDOWS: _windows,
        questions.EXPIRING: _expiring,
        questions.SHARED_BELOW: _shared,
        questions.SHARED_ABOVE: _shared,
        questions.CONTENT: _content,
        questions.ABOUT: _about,
        questions.CREDITED: _credited,
        questions.FROM_FRIENDS: _from_friends,
        questions.RATED_WELL: _rated_well,
        questions.CANDIDATES: _candidates,
        questions.TRUSTED: _trusted,
    }
)
