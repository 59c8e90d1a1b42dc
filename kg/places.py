"""Countries and languages by their names in plain words, for sources that write no codes."""

from collections.abc import Iterator
from functools import cache

import pycountry

from kg.records import Hyperedge, Node
from kg.tables import TableSource
from kg.vocabulary import FORMER_COUNTRIES, country_of, language_name, region_node, slug

_COUNTRIES = {
    "soviet-union": "SU",
    "west-germany": "DE",
    "east-germany": "DD",
    "yugoslavia": "YU",
    "federal-republic-of-yugoslavia": "YU",
    "czechoslovakia": "XC",
    "serbia-and-montenegro": "CS",
    "netherlands-antilles": "AN",
    "kosovo": "XK",
    "south-korea": "KR",
    "north-korea": "KP",
    "russia": "RU",
    "turkey": "TR",
    "palestine": "PS",
    "vatican-city": "VA",
    "swaziland": "SZ",
    "macedonia": "MK",
    "cape-verde": "CV",
    "ivory-coast": "CI",
    "the-bahamas": "BS",
    "republic-of-north-macedonia": "MK",
    "isle-of-man": "IM",
    "bosnia": "BA",
    "laos": "LA",
    "burma": "MM",
    "reunion": "RE",
    "uae": "AE",
}
_LANGUAGES = {
    "mandarin": "zh",
    "cantonese": "yue",
    "greek": "el",
    "punjabi": "pa",
    "swahili": "sw",
    "khmer": "km",
    "malay": "ms",
    "nepali": "ne",
    "tagalog": "tl",
    "brazilian-sign-language": "bzs",
    "american-sign-language": "ase",
    "sign-languages": "sgn",
    "farsi": "fa",
    "kirghiz": "ky",
    "norwegian-bokmal": "nb",
    "ukrainian-sign-language": "ukl",
    "occitan": "oc",
    "flemish": "nl",
    "gaelic": "gd",
    "irish-gaelic": "ga",
    "sinhala": "si",
    "uyghur": "ug",
    "inuktitut": "iu",
    "quechua": "qu",
    "ancient-greek": "grc",
    "aramaic": "arc",
    "filipino": "fil",
}
_NO_LANGUAGE = ("", "none", "n-a")


@cache
def country_code(word: str) -> str | None:
    """The two-letter code of a country by its code or its English name, None where the word is neither.

    Example:
        >>> [country_code(word) for word in ("South Korea", "NA", "Soviet Union", "Atlantis")]
        ['KR', 'NA', 'SU', None]
    """
    key = slug(word)
    if (code := country_of(word) or _COUNTRIES.get(key)) is not None:
        return code
    return _named().get(key)


@cache
def language_code(word: str) -> str | None:
    """The ISO 639 code of a language by its English name, None for a word that names none.

    Example:
        >>> language_code("French"), language_code("Mandarin"), language_code("None")
        ('fr', 'zh', None)
    """
    key = slug(word)
    if key in _NO_LANGUAGE:
        return None
    if key in _LANGUAGES:
        return _LANGUAGES[key]
    try:
        found = pycountry.languages.lookup(word)
    except LookupError:
        return None
    return getattr(found, "alpha_2", found.alpha_3)


@cache
def _named() -> dict[str, str]:
    found = {slug(name): code for code, name in FORMER_COUNTRIES.items()}
    for country in pycountry.countries:
        for name in (
            country.name,
            getattr(country, "common_name", ""),
            getattr(country, "official_name", ""),
        ):
            if name:
                found[slug(name)] = country.alpha_2
    return found


def made_in(source: TableSource, content: str, words: list[str]) -> Iterator[Node | Hyperedge]:
    """Where a content was made; a word that names no country is counted and left out."""
    for code in dict.fromkeys(map(country_code, words)):
        if code is None:
            source.repair("country that we do not know left out")
            continue
        if source.is_new(f"region:{code}"):
            yield region_node(code, source.name)
        yield Hyperedge("MADE_IN", {"content": (content,), "region": (f"region:{code}",)}, source.name)


def spoken_in(source: TableSource, content: str, words: list[str]) -> Iterator[Node | Hyperedge]:
    """Languages of a content; a word that names none is counted and left out."""
    for code in dict.fromkeys(map(language_code, words)):
        if code is None:
            source.repair("language that we do not know left out")
            continue
        if source.is_new(f"language:{code}"):
            named = {"name": language_name(code) or code, "code": code, "sources": (source.name,)}
            yield Node("Language", f"language:{code}", named)
        members = {"content": (content,), "language": (f"language:{code}",)}
        yield Hyperedge("SPOKEN_IN", members, source.name)
