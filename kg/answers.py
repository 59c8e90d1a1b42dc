"""What the questions of :mod:`kg.queries` return: one row of each, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass

from kg.records import Node


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
    quality_tiers: tuple[str, ...]
    source: str
    trust: float
    """Reliability of the source x confidence."""
    is_verified: bool
    """False where trust lies below :data:`kg.trust.LEAST_AVAILABILITY`."""


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
class FromFriends:
    """A content that people whom one follows like."""

    content_id: str
    title: str
    friends: int
    """How many of them like it."""
    close: int
    """How many contents that one likes oneself share a genre with it."""


@dataclass(frozen=True)
class Gem:
    """A content that few know and like."""

    content_id: str
    title: str
    rating: float
    """Mean of all ratings, of 10."""
    ratings: int
    trust: float


@dataclass(frozen=True)
class Candidate:
    """A content that a model may rank."""

    content_id: str
    title: str
    release_year: int | None
    likes: int
    """How many people like it."""


@dataclass(frozen=True)
class Trusted:
    """A content of which much is known to be true."""

    content_id: str
    title: str | None
    trust: float
    completeness: float
    last_verified_ts: int


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
