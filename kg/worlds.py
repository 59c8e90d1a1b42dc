"""Small made-up graphs whose right answers are known.

Nothing in them is real: every record says that it is simulated."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kg.records import Hyperedge, Node
from kg.vocabulary import genre_node
from kg.windows import WindowsConfig, day_ts, places, windows

SOURCE = "world"
_WORDS = (
    ("harbour", "captain", "storm", "lighthouse", "voyage"),
    ("detective", "murder", "witness", "alibi", "city"),
    ("galaxy", "robot", "signal", "orbit", "colony"),
    ("wedding", "letter", "summer", "dance", "paris"),
    ("battle", "empire", "siege", "sword", "throne"),
    ("haunted", "cellar", "whisper", "curse", "midnight"),
)
_GENRES = (
    ("adventure", "family"),
    ("crime", "mystery"),
    ("science-fiction", "action"),
    ("romance", "comedy"),
    ("history", "war"),
    ("horror", "thriller"),
)
_COUNTRIES = ("US", "GB", "FR", "DE", "JP", "IN")
_LANGUAGES = (("en", "English"), ("fr", "French"), ("de", "German"), ("ja", "Japanese"))
MOST_GROUPS = len(_WORDS)


@dataclass(frozen=True)
class WorldConfig:
    """Settings of :func:`world`."""

    users: int = 120
    """At least 4."""
    contents: int = 150
    """At least 12."""
    groups: int = 4
    """Tastes, 2 to 6: each a circle of users who love the contents of two genres."""
    ratings_per_user: int = 30
    """On average."""
    faithful_share: float = 0.85
    """Share of a user's ratings that fall on contents of the own group."""
    duplicate_share: float = 0.05
    """Share of contents that a second record tells of, under another id."""
    seed: int = 0
    """Fixes every draw."""

    def __post_init__(self) -> None:
        if self.users < 4 or self.contents < 12:
            raise ValueError(
                f"a world has at least 4 users and 12 contents, got {self.users} and {self.contents}: "
                "ask for more"
            )
        if not 2 <= self.groups <= MOST_GROUPS:
            raise ValueError(f"groups lie in 2..{MOST_GROUPS}, got {self.groups}: each needs its own genres")
        if not (0 <= self.faithful_share <= 1 and 0 <= self.duplicate_share <= 1):
            raise ValueError(
                f"shares lie in 0..1, got faithful_share={self.faithful_share}, "
                f"duplicate_share={self.duplicate_share}"
            )


@dataclass(frozen=True)
class Truth:
    """What was planted."""

    user_group: dict[str, int]
    """User id -> taste."""
    content_group: dict[str, int]
    """Content id -> the taste that loves it; ids of duplicates are left out."""
    duplicates: dict[str, str] = field(default_factory=dict)
    """Id of a second record -> id of the content that it is."""


@dataclass(frozen=True)
class World:
    """Records, nodes before the facts that name them, and the right answers."""

    records: list[Node | Hyperedge]
    truth: Truth

    def nodes(self, type: str) -> list[Node]:
        """The nodes of a type."""
        return [record for record in self.records if isinstance(record, Node) and record.type == type]

    def hyperedges(self, type: str) -> list[Hyperedge]:
        """The facts of a type."""
        return [record for record in self.records if isinstance(record, Hyperedge) and record.type == type]


def world(config: WorldConfig) -> World:
    """A world with planted tastes, duplicates, people and windows.

    Users of a taste rate contents of their group high (mean 8.8 of 10) and others low (mean 4.5), popular
    ones more often, from 2023 to 2024; people, genres, keywords and plots of a content follow its group, so
    that models of behaviour and models of content can both find the right ones. Some contents stand twice,
    with facts under both ids.

    Example:
        >>> small = world(WorldConfig(users=8, contents=12, groups=2))
        >>> len(small.nodes("User")), sorted(small.truth.content_group.values())[:3]
        (8, [0, 0, 0])
    """
    return _Builder(config).build()


def checkerboard(
    users: int = 40, contents: int = 40, groups: int = 2, share: float = 0.6, seed: int = 0
) -> World:
    """A world in which users of group g rate only contents of group g, each with chance ``share``, all 10.

    The right contents of a user are those of the own group that are left; every trainable model must find
    them. User j and content j belong to group j modulo ``groups``.
    """
    random = np.random.default_rng(seed)
    genres = [f"genre:{_GENRES[group % MOST_GROUPS][0]}" for group in range(groups)]
    records: list[Node | Hyperedge] = [genre_node(genre, SOURCE) for genre in dict.fromkeys(genres)]
    content_group = {f"content:world:{place:04d}": place % groups for place in range(contents)}
    user_group = {f"user:world:{place:04d}": place % groups for place in range(users)}
    for content_id in content_group:
        title = {
            "title": f"Square {content_id[-4:]}",
            "kind": "movie",
            "release_year": 2000,
            "simulated": True,
        }
        records.append(Node("Content", content_id, title))
    records += [Node("User", user_id, {"simulated": True}) for user_id in user_group]
    for content_id, group in content_group.items():
        records.append(_fact("BELONGS_TO", {"content": content_id, "genre": genres[group]}))
    first_ts = day_ts("2023-01-01")
    for user_id, group in user_group.items():
        own = [content_id for content_id, other in content_group.items() if other == group]
        rated = [own[place] for place in np.flatnonzero(random.random(len(own)) < share)]
        random.shuffle(rated)
        for step, content_id in enumerate(rated):
            at = first_ts + step * 86_400 + int(random.integers(86_400))
            records.append(_fact("RATED", {"user": user_id, "content": content_id}, at, rating=10.0))
    return World(records, Truth(user_group, content_group))


class _Builder:
    """Draws a world step by step from one generator."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.random = np.random.default_rng(config.seed)
        self.content_ids = [f"content:world:{place:05d}" for place in range(config.contents)]
        self.groups = np.arange(config.contents) % config.groups
        self.popularity = self.random.permutation(1 / np.arange(1, config.contents + 1) ** 0.5)
        twins = self.random.choice(
            config.contents, size=round(config.contents * config.duplicate_share), replace=False
        )
        self.twins = {self.content_ids[place]: f"content:worldtwin:{place:05d}" for place in sorted(twins)}

    def build(self) -> World:
        config = self.config
        user_group = {f"user:world:{place:05d}": place % config.groups for place in range(config.users)}
        records = [*self._shared_nodes(), *self._contents(), *self._people()]
        records += [self._user(user_id) for user_id in user_group]
        for place, content_id in enumerate(self.content_ids):
            records += self._about(place, content_id)
        for user_id, group in user_group.items():
            records += self._ratings(user_id, group)
        users = list(user_group)
        for user_id, group in user_group.items():
            friends = [other for other in users if user_group[other] == group and other != user_id]
            for friend in (
                self.random.choice(friends, size=min(2, len(friends)), replace=False) if friends else ()
            ):
                records.append(
                    _fact("FOLLOWS", {"user": user_id, "followed": str(friend)}, day_ts("2023-01-01"))
                )
        records += windows(self.content_ids, SOURCE, WindowsConfig(seed=config.seed))
        truth = Truth(
            user_group,
            dict(zip(self.content_ids, self.groups.tolist(), strict=True)),
            {twin: content_id for content_id, twin in self.twins.items()},
        )
        return World(records, truth)

    def _shared_nodes(self) -> list[Node]:
        nodes = list(places(SOURCE))
        nodes += [
            genre_node(f"genre:{key}", SOURCE) for pair in _GENRES[: self.config.groups] for key in pair
        ]
        nodes += [
            _node("Language", f"language:{code}", name=name, code=code, simulated=False)
            for code, name in _LANGUAGES
        ]
        nodes += [
            _node("Keyword", f"keyword:{word}", name=word)
            for words in _WORDS[: self.config.groups]
            for word in words
        ]
        nodes += [
            _node("Company", f"company:world:{place}", name=f"Studio {place + 1}") for place in range(6)
        ]
        return nodes

    def _contents(self) -> list[Node]:
        nodes = []
        for place, content_id in enumerate(self.content_ids):
            words = _WORDS[self.groups[place]]
            first, second = self.random.choice(words, size=2, replace=False)
            known: dict[str, Any] = {
                "kind": "series" if place % 7 == 3 else "movie",
                "title": f"The {str(first).title()} and the {str(second).title()} {place + 1}",
                "release_year": int(self.random.integers(1960, 2023)),
                "runtime_minutes": int(self.random.integers(70, 180)),
                "synopsis": f"A story of {' and '.join(self.random.permutation(words))}, part {place + 1}.",
                "ids": (content_id.partition(":")[2],),
            }
            nodes.append(_node("Content", content_id, **known))
            if content_id in self.twins:
                copied = {name: known[name] for name in ("kind", "release_year", "ids")}
                nodes.append(
                    _node("Content", self.twins[content_id], title=f"{known['title']} (again)", **copied)
                )
        return nodes

    def _people(self) -> list[Node]:
        self.cast = [
            [f"person:world:{group}-{place}" for place in range(12)] for group in range(self.config.groups)
        ]
        return [
            _node(
                "Person", person, name=f"Player {person.rpartition(':')[2]}", ids=(person.partition(":")[2],)
            )
            for circle in self.cast
            for person in circle
        ]

    def _user(self, user_id: str) -> Node:
        age = str(self.random.choice(("18-24", "25-34", "35-44", "45-54")))
        return _node("User", user_id, region="US", age_band=age, may_learn=True)

    def _about(self, place: int, content_id: str) -> list[Hyperedge]:
        group = int(self.groups[place])
        facts = [
            _fact("BELONGS_TO", {"content": content_id, "genre": f"genre:{key}"})
            for key in _GENRES[group][: 1 + place // self.config.groups % 2]
        ]
        named = self.twins.get(content_id, content_id)  # facts of a twin's people stand under its own id
        crew = self.random.choice(self.cast[group], size=4, replace=False)
        facts.append(_fact("DIRECTED", {"person": str(crew[0]), "content": named}))
        facts += [
            _fact("ACTED_IN", {"person": str(person), "content": named}, billing_order=order)
            for order, person in enumerate(crew[1:])
        ]
        for word in self.random.choice(_WORDS[group], size=2, replace=False):
            facts.append(_fact("HAS_KEYWORD", {"content": named, "keyword": f"keyword:{word}"}))
        country = _COUNTRIES[int(self.random.integers(len(_COUNTRIES)))]
        language = _LANGUAGES[int(self.random.integers(len(_LANGUAGES)))][0]
        facts.append(_fact("MADE_IN", {"content": content_id, "region": f"region:{country}"}))
        facts.append(_fact("SPOKEN_IN", {"content": content_id, "language": f"language:{language}"}))
        facts.append(_fact("MADE_BY", {"content": content_id, "company": f"company:world:{place % 6}"}))
        return facts

    def _ratings(self, user_id: str, group: int) -> list[Hyperedge]:
        config, random = self.config, self.random
        weight = self.popularity.copy()
        own = self.groups == group
        weight[own] *= config.faithful_share / weight[own].sum()
        weight[~own] *= (1 - config.faithful_share) / weight[~own].sum()
        most = min(int(own.sum()), config.contents // 2)
        wanted = min(most, max(5, int(random.poisson(config.ratings_per_user))))
        rated = random.choice(config.contents, size=wanted, replace=False, p=weight / weight.sum())
        first_ts = day_ts("2023-01-01") + int(random.integers(0, 300)) * 86_400
        times = np.sort(first_ts + random.integers(0, 400 * 86_400, size=wanted))
        facts = []
        for content, at in zip(rated.tolist(), times.tolist(), strict=True):
            mean = 8.8 if own[content] else 4.5
            rating = float(np.clip(np.round(random.normal(mean, 1.0) * 2) / 2, 1, 10))
            facts.append(
                _fact("RATED", {"user": user_id, "content": self.content_ids[content]}, at, rating=rating)
            )
        return facts


def _node(type: str, node_id: str, simulated: bool = True, **known: Any) -> Node:
    return Node(type, node_id, {**known, "sources": (SOURCE,), "simulated": simulated})


def _fact(type: str, members: dict[str, str], start_ts: int | None = None, **known: Any) -> Hyperedge:
    named = {role: (member,) for role, member in members.items()}
    return Hyperedge(type, named, SOURCE, {**known, "simulated": True}, start_ts)
