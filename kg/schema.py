"""Every node type, fact type, role and column name, once.

A store, a source and an export read these tables; none keeps a list of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "flag", "texts"]
Form = Literal["date", "currency"]
EARLIEST_TS, LATEST_TS = -(2**33), 2**34
"""UTC seconds that a time lies between (1697 to 2514): milliseconds and years lie outside."""
LONGEST_TEXT = 100_000
"""Letters that a text may have."""
OFFERS = ("subscription", "free", "ads", "rent", "buy")
"""Ways to watch; the first stands first for somebody who subscribes to its platform."""
QUALITIES = ("SD", "HD", "FHD", "QHD", "4K", "8K", "HDR10", "HDR10_PLUS", "DOLBY_VISION")
"""Quality tiers, the plainest first."""


@dataclass(frozen=True)
class Column:
    """One property of a node or a fact."""

    kind: Kind
    low: float | None = None
    """Smallest value allowed, None where there is no bound."""
    high: float | None = None
    """Largest value allowed, None where there is no bound."""
    is_observed: bool = False
    """True for what a source counted on a day (votes, scores): never a feature before that day."""
    choices: tuple[str, ...] = ()
    """The only words allowed, where there is a list of them."""
    form: Form | None = None
    """How a text is written: a date as exact as known (``1999``, ``1999-03``, ``1999-03-31``), ISO 4217."""
    is_rare: bool = False
    """True for what few nodes have: arrays leave the column out where none has it."""


@dataclass(frozen=True)
class NodeType:
    """A label: its nodes are called ``<prefix>:<key>``."""

    name: str
    prefix: str
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class Role:
    """A part that members play in a fact: which node types may, and how many of them."""

    name: str
    types: tuple[str, ...]
    least: int = 1
    most: int | None = 1
    """None where there is no upper bound."""


@dataclass(frozen=True)
class FactType:
    """A kind of fact; arity two is stored as a relationship, more as a node linked to each member."""

    name: str
    roles: tuple[Role, ...]
    columns: Mapping[str, Column]

    @property
    def is_binary(self) -> bool:
        """True where the fact always has exactly two members."""
        return len(self.roles) == 2 and all(role.least == role.most == 1 for role in self.roles)

    @property
    def label(self) -> str:
        """Label of the node that stands for a fact of three or more members (``Available``)."""
        return "".join(word.capitalize() for word in self.name.split("_"))

    def member_type(self, role: str) -> str:
        """Relationship type from the fact's node to a member (``AVAILABLE_PLATFORM``)."""
        return f"{self.name}_{role.upper()}"

    def role(self, name: str) -> Role:
        """The role called ``name``."""
        for role in self.roles:
            if role.name == name:
                return role
        raise KeyError(f"{self.name} has no role {name!r}; it has {', '.join(r.name for r in self.roles)}")


TEXT, TEXTS, FLAG, NUMBER, INTEGER = (
    Column("text"),
    Column("texts"),
    Column("flag"),
    Column("number"),
    Column("integer"),
)
SHARE, COUNT = Column("number", 0, 1), Column("integer", 0)
TIME = Column("integer", EARLIEST_TS, LATEST_TS)  # UTC seconds
RATING = Column("number", 0, 10)
DATE, CURRENCY = Column("text", form="date"), Column("text", form="currency")
EXCLUSIVITY = Column("text", choices=("exclusive", "shared", "none"))
TIERS = Column("texts", choices=QUALITIES)

NODE_COLUMNS: Mapping[str, Column] = {"ids": TEXTS, "sources": TEXTS, "simulated": FLAG}
"""Columns that every node has: other identifiers as ``scheme:value``, who told us, whether it is made up."""

FACT_COLUMNS: Mapping[str, Column] = {"simulated": FLAG}
"""Columns that every fact has besides start_ts, end_ts, source and confidence."""


def _node(name: str, prefix: str, /, **columns: Column) -> NodeType:
    return NodeType(name, prefix, {**NODE_COLUMNS, **columns})


def _fact(name: str, /, *roles: Role, **columns: Column) -> FactType:
    return FactType(name, roles, {**FACT_COLUMNS, **columns})


NODES: Mapping[str, NodeType] = {
    node.name: node
    for node in (
        _node(
            "Content",
            "content",
            kind=Column("text", choices=("movie", "series", "season", "episode")),
            title=TEXT,
            original_title=TEXT,
            alternate_titles=TEXTS,
            release_date=DATE,
            release_year=Column("integer", 1870, 2100),
            runtime_minutes=Column("integer", 1, 6000),
            synopsis=TEXT,
            tagline=TEXT,
            maturity_rating=TEXT,
            original_language=TEXT,
            seasons=COUNT,
            season_number=COUNT,
            episode_number=COUNT,
            air_status=TEXT,
            imdb_rating=Column("number", 0, 10, is_observed=True),
            tmdb_rating=Column("number", 0, 10, is_observed=True),
            ratings=Column("texts", is_observed=True, is_rare=True),  # see kg.ratings, where several tell
            vote_count=Column("integer", 0, is_observed=True),
            popularity=Column("number", 0, is_observed=True),
            observed_ts=TIME,  # when the columns marked is_observed were counted
            trust=SHARE,
            completeness=SHARE,
            last_verified_ts=TIME,
        ),
        _node("Person", "person", name=TEXT, birth_date=DATE, death_date=DATE, known_for=TEXT),
        _node(
            "User",
            "user",
            region=TEXT,
            language=TEXT,
            subscriptions=TEXTS,
            age_band=TEXT,
            account_created_ts=TIME,
            may_learn=FLAG,
        ),
        _node("Genre", "genre", name=TEXT, parent=TEXT, level=COUNT),
        _node("Mood", "mood", name=TEXT, parent=TEXT, level=COUNT),
        _node("Theme", "theme", name=TEXT, parent=TEXT, level=COUNT),
        _node("Keyword", "keyword", name=TEXT, parent=TEXT, level=COUNT),
        _node("Company", "company", name=TEXT, code=TEXT),
        _node("Language", "language", name=TEXT, code=TEXT),
        _node("Award", "award", name=TEXT),
        _node(
            "Platform",
            "platform",
            name=TEXT,
            kind=Column("text", choices=("SVOD", "TVOD", "AVOD", "FREE")),
            website=TEXT,
            deep_link_template=TEXT,
            regions=TEXTS,
        ),
        _node("Region", "region", name=TEXT, continent=TEXT, groups=TEXTS),
        _node(
            "License",
            "license",
            licensor=TEXT,
            licensee=TEXT,
            exclusivity=EXCLUSIVITY,
            is_sublicensable=FLAG,
            regions=TEXTS,
            holdback_days=COUNT,
            valid_from_ts=TIME,
            valid_until_ts=TIME,
            pricing_model=TEXT,
            quality_tiers=TIERS,
            languages=TEXTS,
        ),
    )
}

_USER, _CONTENT, _PERSON = Role("user", ("User",)), Role("content", ("Content",)), Role("person", ("Person",))


def _about(name: str, role: str, /, *types: str, **columns: Column) -> FactType:
    return _fact(name, _CONTENT, Role(role, types), **columns)


def _credit(name: str, /, **columns: Column) -> FactType:
    return _fact(name, _PERSON, _CONTENT, job=TEXT, **columns)


FACTS: Mapping[str, FactType] = {
    fact.name: fact
    for fact in (
        _about("BELONGS_TO", "genre", "Genre", relevance=SHARE),
        _about("HAS_MOOD", "mood", "Mood", intensity=SHARE),
        _about("HAS_THEME", "theme", "Theme", intensity=SHARE),
        _about("HAS_KEYWORD", "keyword", "Keyword", intensity=SHARE),
        _credit("ACTED_IN", character=TEXT, billing_order=COUNT),
        _credit("DIRECTED"),
        _credit("WROTE"),
        _credit("PRODUCED"),
        _credit("SHOT"),
        _about("AWARDED", "award", "Award", result=Column("text", choices=("won", "nominated"))),
        _about("MADE_BY", "company", "Company"),
        _about("MADE_IN", "region", "Region"),
        _about("SPOKEN_IN", "language", "Language"),
        _about("HAS_SEASON", "season", "Content", number=COUNT),
        _about("HAS_EPISODE", "episode", "Content", number=COUNT),
        _about("SEQUEL_OF", "original", "Content", number=COUNT),
        _fact("RATED", _USER, _CONTENT, rating=RATING),
        _fact("WATCHLISTED", _USER, _CONTENT),
        _fact("DISMISSED", _USER, _CONTENT),
        _fact("FOLLOWS", _USER, Role("followed", ("User",))),
        _fact("TAGGED", _USER, _CONTENT, Role("keyword", ("Keyword",))),
        _fact(
            "VIEWED",
            _USER,
            _CONTENT,
            Role("platform", ("Platform",), least=0),
            Role("region", ("Region",), least=0),
            device=TEXT,
            progress=SHARE,
            duration_s=Column("number", 0),
            session=TEXT,
        ),
        _fact(
            "AVAILABLE",
            _CONTENT,
            Role("platform", ("Platform",)),
            Role("region", ("Region",), most=None),
            Role("license", ("License",), least=0),
            offer=Column("text", choices=OFFERS),
            price=Column("number", 0),
            currency=CURRENCY,
            quality_tiers=TIERS,
            audio_languages=TEXTS,
            subtitle_languages=TEXTS,
            dubbed_languages=TEXTS,
            deep_link=TEXT,
            exclusivity=EXCLUSIVITY,
            is_verified=FLAG,
        ),
        _fact("LICENSED", _CONTENT, Role("license", ("License",)), Role("region", ("Region",), most=None)),
    )
}

USER_FACTS = tuple(name for name, fact in FACTS.items() if fact.roles[0].name == "user")
"""Facts that a person's doing made: what a split hides from training where it is ahead or held out."""

FIXED_AT_RELEASE = (
    *("BELONGS_TO", "HAS_MOOD", "HAS_THEME", "HAS_KEYWORD"),
    *("ACTED_IN", "DIRECTED", "WROTE", "PRODUCED", "SHOT"),
    *("MADE_BY", "MADE_IN", "SPOKEN_IN", "HAS_SEASON", "HAS_EPISODE", "SEQUEL_OF"),
)
"""Facts about a content that hold from its release on, dated or not."""

SOMEWHERE = "region:ZZ"
"""Region of an offer whose country the source does not tell (ISO 3166 keeps ZZ for private use)."""


def node_type_of(node_id: str) -> NodeType:
    """The type that the prefix of ``node_id`` names.

    Raises:
        KeyError: no node type has this prefix.
    """
    prefix = node_id.partition(":")[0]
    if prefix not in _BY_PREFIX:
        raise KeyError(
            f"a node id begins with one of {', '.join(sorted(_BY_PREFIX))} and a colon, got {node_id!r}"
        )
    return _BY_PREFIX[prefix]


_BY_PREFIX = {node.prefix: node for node in NODES.values()}


def observed(type: str, names: Iterable[str]) -> list[str]:
    """Of ``names``, the columns of a node type that a source counted on a day.

    Example:
        >>> observed("Content", ["id", "title", "vote_count"])
        ['vote_count']
    """
    columns = NODES[type].columns
    return [name for name in names if name in columns and columns[name].is_observed]
