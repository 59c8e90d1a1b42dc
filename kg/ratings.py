"""Every rating that a source gives a content, kept with who gave it: one text each in the column ``ratings``.

The columns ``imdb_rating`` and ``tmdb_rating`` hold the one that was counted last; this keeps the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kg.records import Node

COLUMNS = ("imdb_rating", "tmdb_rating")


@dataclass(frozen=True, order=True)
class Rating:
    """What one source says of one scale.

    Example:
        >>> Rating("imdb_rating", "justwatch", 7.5, 1_656_633_600).written
        'imdb_rating justwatch 7.5 1656633600'
        >>> Rating.read("tmdb_rating tmdb 8.0 -")
        Rating(column='tmdb_rating', source='tmdb', value=8.0, observed_ts=None)
    """

    column: str
    source: str
    """Several with + between them where it is not known which of them told."""
    value: float
    """Of 10."""
    observed_ts: int | None
    """UTC seconds at which it was counted, None where not known."""

    @property
    def written(self) -> str:
        """As the column holds it."""
        when = "-" if self.observed_ts is None else self.observed_ts
        return f"{self.column} {self.source} {float(self.value)!r} {when}"

    @classmethod
    def read(cls, text: str) -> "Rating":
        """What ``written`` wrote; names of sources hold no spaces."""
        column, source, value, when = text.split(" ")
        return cls(column, source, float(value), None if when == "-" else int(when))


def ratings_of(node: Node) -> tuple[Rating, ...]:
    """Every rating of a content by scale and source; those of one source alone stand in its columns only."""
    kept = node.properties.get("ratings")
    if kept is not None:
        return tuple(Rating.read(text) for text in kept)  # type: ignore[union-attr]
    return tuple(_told(node.properties))


def gathered(told: Iterable[tuple[Mapping[str, Any], bool]]) -> tuple[str, ...]:
    """What to keep of several records of one content; nothing where no scale has two tellers.

    Args:
        told: properties of each record, and whether it stood in the store already: what a source tells now
            goes before what it told then, and of two at one time the higher one counts, whichever came first.
    """
    found: dict[tuple[str, str], tuple[tuple[int, bool, float], Rating]] = {}
    for properties, has_stood in told:
        kept = [Rating.read(text) for text in properties.get("ratings", ())]
        for rating in kept or _told(properties):
            rank = (rating.observed_ts or 0, not has_stood, rating.value)
            there = found.get((rating.column, rating.source))
            if there is None or rank > there[0]:
                found[rating.column, rating.source] = rank, rating
    newest = [rating for _, rating in found.values()]
    certain = [rating for rating in newest if "+" not in rating.source]
    doubtful = [rating for rating in newest if not _is_known_by_now(rating, certain)]
    every = sorted({*certain, *doubtful})
    many = {column for column in COLUMNS if sum(rating.column == column for rating in every) > 1}
    return tuple(rating.written for rating in every if rating.column in many)


def _is_known_by_now(rating: Rating, certain: Iterable[Rating]) -> bool:
    """Whether one of those who may have told a rating tells it now, or something newer."""
    tellers = set(rating.source.split("+"))
    return any(one.column == rating.column and one.source in tellers for one in certain)


def _told(properties: Mapping[str, Any]) -> Iterable[Rating]:
    source = "+".join(sorted(properties.get("sources", ()))).replace(" ", "_") or "unknown"
    for column in COLUMNS:
        if column in properties:
            yield Rating(column, source, float(properties[column]), properties.get("observed_ts"))
