"""What sources' words for genres, countries and platforms mean here: one table each."""

import re
import unicodedata
from functools import cache

import pycountry

from kg.records import Node

GENRES = {
    "action": "Action",
    "adult": "Adult",
    "adventure": "Adventure",
    "animation": "Animation",
    "biography": "Biography",
    "children": "Children",
    "comedy": "Comedy",
    "crime": "Crime",
    "documentary": "Documentary",
    "drama": "Drama",
    "european": "European",
    "family": "Family",
    "fantasy": "Fantasy",
    "film-noir": "Film-Noir",
    "foreign": "Foreign",
    "game-show": "Game-Show",
    "history": "History",
    "horror": "Horror",
    "imax": "IMAX",
    "music": "Music",
    "musical": "Musical",
    "mystery": "Mystery",
    "news": "News",
    "politics": "Politics",
    "reality": "Reality",
    "romance": "Romance",
    "science-fiction": "Science Fiction",
    "short": "Short",
    "soap": "Soap",
    "sport": "Sport",
    "talk-show": "Talk-Show",
    "thriller": "Thriller",
    "tv-movie": "TV Movie",
    "war": "War",
    "western": "Western",
}
"""Our genres: key of the id -> name."""

_GENRE_WORDS = {
    "childrens": ("children",),
    "documentation": ("documentary",),
    "kids": ("children",),
    "reality-tv": ("reality",),
    "sci-fi": ("science-fiction",),
    "scifi": ("science-fiction",),
    "talk": ("talk-show",),
    "action-and-adventure": ("action", "adventure"),
    "sci-fi-and-fantasy": ("science-fiction", "fantasy"),
    "war-and-politics": ("war", "politics"),
}
_NO_GENRE = ("", "unknown", "no-genres-listed", "n-a")

PLATFORMS = {
    "netflix": ("Netflix", "SVOD"),
    "amazon-prime": ("Amazon Prime Video", "SVOD"),
    "disney-plus": ("Disney+", "SVOD"),
    "hbo-max": ("HBO Max", "SVOD"),
    "paramount-plus": ("Paramount+", "SVOD"),
    "apple-tv-plus": ("Apple TV+", "SVOD"),
    "apple-tv": ("Apple TV", "TVOD"),
    "hulu": ("Hulu", "SVOD"),
    "crunchyroll": ("Crunchyroll", "SVOD"),
}
"""Platforms: key of the id -> name, kind."""

FORMER_COUNTRIES = {
    "SU": "Soviet Union",
    "YU": "Yugoslavia",
    "XC": "Czechoslovakia",
    "CS": "Serbia and Montenegro",
    "DD": "East Germany",
    "XG": "East Germany",
    "AN": "Netherlands Antilles",
    "XK": "Kosovo",
}
"""Codes that ISO 3166 gave up or never gave, as sources use them: each is a region of its own."""
_COUNTRY_WORDS = {
    "LEBANON": "LB",
    "UNITED STATES OF AMERICA": "US",
    "UNITED STATES": "US",
    "USA": "US",
    "UNITED KINGDOM": "GB",
    "UK": "GB",
}
_EU = "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE".split()
_LATAM = "AR BO BR CL CO CR CU DO EC GT HN MX NI PA PE PY SV UY VE".split()
_NORDICS = "DK FI IS NO SE".split()


def slug(words: str) -> str:
    """Words as the key of an id: lower case, accents dropped, hyphens between.

    Example:
        >>> slug("Sci-Fi & Fantasy"), slug("Children's"), slug("Amélie")
        ('sci-fi-and-fantasy', 'childrens', 'amelie')
    """
    plain = unicodedata.normalize("NFKD", words.replace("&", " and ").lower())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return "-".join(re.findall(r"\w+", plain.replace("'", "").replace("’", "")))


@cache
def genres_of(word: str) -> tuple[str, ...]:
    """Ids of the genres that a source's word names; none for its word for no genre.

    Example:
        >>> genres_of("Sci-Fi"), genres_of("Action & Adventure"), genres_of("(no genres listed)")
        (('genre:science-fiction',), ('genre:action', 'genre:adventure'), ())
    """
    key = slug(word)
    if key in _NO_GENRE:
        return ()
    return tuple(f"genre:{name}" for name in _GENRE_WORDS.get(key, (key,)))


def genre_node(genre_id: str, source: str) -> Node:
    """The genre behind one of the ids of :func:`genres_of`."""
    key = genre_id.partition(":")[2]
    return Node(
        "Genre", genre_id, {"name": GENRES.get(key, key.replace("-", " ").title()), "sources": (source,)}
    )


@cache
def country_of(word: str) -> str | None:
    """The two-letter code that a source's word for a country means, None where it means none.

    Example:
        >>> country_of("Lebanon"), country_of("NA"), country_of("SU"), country_of("XX")
        ('LB', 'NA', 'SU', None)
    """
    code = word.strip().upper()
    code = _COUNTRY_WORDS.get(code, code)
    return code if code in FORMER_COUNTRIES or pycountry.countries.get(alpha_2=code) else None


def region_node(code: str, source: str) -> Node:
    """The region of a code that :func:`country_of` gave, or ``ZZ`` for somewhere."""
    country = pycountry.countries.get(alpha_2=code)
    name = FORMER_COUNTRIES.get(code) or (getattr(country, "common_name", country.name) if country else None)
    groups = [
        group for group, codes in (("EU", _EU), ("LATAM", _LATAM), ("NORDICS", _NORDICS)) if code in codes
    ]
    if country:
        groups.append("WORLD")
    return Node(
        "Region",
        f"region:{code}",
        {"name": name or "somewhere", "groups": tuple(groups), "sources": (source,)},
    )


def platform_node(key: str, source: str) -> Node:
    """The platform of a key of :data:`PLATFORMS`; another key gives its own words as name."""
    name, kind = PLATFORMS.get(key, (key.replace("-", " ").title(), "SVOD"))
    return Node("Platform", f"platform:{key}", {"name": name, "kind": kind, "sources": (source,)})


@cache
def language_name(code: str) -> str | None:
    """The English name of an ISO 639 code, None for a code that is none."""
    found = pycountry.languages.get(alpha_2=code) if len(code) == 2 else pycountry.languages.get(alpha_3=code)
    return found.name if found else None
