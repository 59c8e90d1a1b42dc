"""What sources' words for genres, countries and platforms mean here: one table each."""

import re
import unicodedata
from functools import cache

import pycountry

from kg.genre_tree import GENRES as GENRES
from kg.genre_tree import NO_GENRE, WORDS, with_parents
from kg.records import Node

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
    "UNITED STATES OF AMERICA": "US",
    "UK": "GB",
    "BOLIVIA": "BO",
    "BURMA": "MM",
    "CAPE VERDE": "CV",
    "CZECH REPUBLIC": "CZ",
    "CZECHOSLOVAKIA": "XC",
    "EAST GERMANY": "DD",
    "FEDERAL REPUBLIC OF YUGOSLAVIA": "YU",
    "GERMAN DEMOCRATIC REPUBLIC": "DD",
    "IRAN": "IR",
    "IVORY COAST": "CI",
    "KOREA": "KR",
    "KOSOVO": "XK",
    "LAOS": "LA",
    "MACEDONIA": "MK",
    "MOLDOVA": "MD",
    "PALESTINE": "PS",
    "REPUBLIC OF NORTH MACEDONIA": "MK",
    "REUNION": "RE",
    "RUSSIA": "RU",
    "SERBIA AND MONTENEGRO": "CS",
    "SOUTH KOREA": "KR",
    "NORTH KOREA": "KP",
    "SOVIET UNION": "SU",
    "SWAZILAND": "SZ",
    "SYRIA": "SY",
    "TAIWAN": "TW",
    "TANZANIA": "TZ",
    "THE DEMOCRATIC REPUBLIC OF CONGO": "CD",
    "TURKEY": "TR",
    "U.S. VIRGIN ISLANDS": "VI",
    "VATICAN CITY": "VA",
    "VENEZUELA": "VE",
    "VIETNAM": "VN",
    "WEST GERMANY": "DE",
    "YUGOSLAVIA": "YU",
}
"""Names that ISO 3166 writes otherwise or not at all; West Germany is the state that goes on."""
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
    """Ids of the genres that a source's word names, parents first; none for a word that names no genre.

    A word that our table does not know is a genre of its own.

    Example:
        >>> genres_of("Sci-Fi"), genres_of("Action & Adventure"), genres_of("(no genres listed)")
        (('genre:science-fiction',), ('genre:action', 'genre:adventure'), ())
        >>> genres_of("Superhero")
        ('genre:action', 'genre:action:superhero')
    """
    key = slug(word)
    if key in NO_GENRE:
        return ()
    return tuple(f"genre:{name}" for name in with_parents(WORDS.get(key, (key,))))


def genre_node(genre_id: str, source: str) -> Node:
    """The genre behind one of the ids of :func:`genres_of`; one below another says its parent and level."""
    key = genre_id.partition(":")[2]
    named = {"name": GENRES.get(key, key.replace("-", " ").title()), "sources": (source,)}
    parent = genre_id.rpartition(":")[0]
    above = {"parent": parent, "level": key.count(":")} if ":" in key else {}
    return Node("Genre", genre_id, {**named, **above})


@cache
def country_of(word: str) -> str | None:
    """The two-letter code that a source's word for a country means, None where it means none.

    Read are codes of two and three letters, former and odd ones, and names in English.

    Example:
        >>> country_of("Lebanon"), country_of("NA"), country_of("SU"), country_of("XX")
        ('LB', 'NA', 'SU', None)
        >>> [country_of(name) for name in ("USA", "South Korea", "West Germany", "Czechoslovakia")]
        ['US', 'KR', 'DE', 'XC']
    """
    code = word.strip().upper()
    code = _COUNTRY_WORDS.get(code, code)
    if code in FORMER_COUNTRIES or pycountry.countries.get(alpha_2=code):
        return code
    return _country_named(word.strip())


def _country_named(word: str) -> str | None:
    asked = {"alpha_3": word.upper(), "name": word, "common_name": word, "official_name": word}
    for field, value in asked.items():
        if value and (found := pycountry.countries.get(**{field: value})):
            return found.alpha_2
    return None


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
