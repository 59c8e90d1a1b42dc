"""Identifiers that prove who a record is: their shape, and the check character of an EIDR."""

import re

from kg.conflicts import SCHEMES

CATALOGUES = SCHEMES[:4]
"""Schemes that give one film one id: EIDR, Gracenote, IMDb, TMDb, the most trusted first."""
CONTESTED = "contested"
"""Scheme under which a node lists ids of which at most one can be right: ``contested:imdb:tt0118972``."""
_EIDR = re.compile(r"10\.5240/((?:[0-9A-F]{4}-){5})([0-9A-Z])")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def is_sound(pair: str) -> bool:
    """Whether ``scheme:value`` may join records: an EIDR has its check character, a contested id is none.

    Example:
        >>> [is_sound(f"eidr:10.5240/7791-8534-2C23-9030-8610-{last}") for last in "56"]
        [True, False]
    """
    scheme, _, value = pair.partition(":")
    if scheme == "eidr":
        found = _EIDR.fullmatch(value.upper())
        return found is not None and check_character(found[1].replace("-", "")) == found[2]
    return scheme != CONTESTED


def check_character(text: str) -> str:
    """The check character of letters and digits, ISO 7064 Mod 37,36.

    Source: ISO/IEC 7064:2003, hybrid systems; EIDR writes it behind the suffix of a title's id.

    Example:
        >>> check_character("779185342C2390308610")
        '5'
    """
    product = 36
    for letter in text:
        summed = (product + _ALPHABET.index(letter)) % 36 or 36
        product = summed * 2 % 37
    return _ALPHABET[(37 - product) % 36]
