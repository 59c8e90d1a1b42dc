"""Which countries a region means: a code means itself, a group (EU, LATAM, …) its members."""

from collections.abc import Iterable
from functools import cache

import pycountry

from kg.vocabulary import region_node


@cache
def _groups() -> dict[str, tuple[str, ...]]:
    members: dict[str, list[str]] = {}
    for code in sorted(country.alpha_2 for country in pycountry.countries):
        for group in region_node(code, "").properties["groups"]:  # type: ignore[union-attr]
            members.setdefault(str(group), []).append(code)
    return {group: tuple(codes) for group, codes in members.items()}


def expand(region_id: str) -> tuple[str, ...]:
    """ISO codes that a region id stands for.

    Example:
        >>> expand("region:NORDICS"), expand("region:US"), len(expand("region:WORLD")) > 200
        (('DK', 'FI', 'IS', 'NO', 'SE'), ('US',), True)
    """
    code = region_id.partition(":")[2]
    return _groups().get(code, (code,))


def expand_all(region_ids: Iterable[str]) -> tuple[str, ...]:
    """ISO codes of several regions, each once, in order."""
    return tuple(sorted({code for region_id in region_ids for code in expand(region_id)}))


def groups_of(code: str) -> tuple[str, ...]:
    """Groups that a country belongs to: a window of theirs is one of its own.

    Example:
        >>> groups_of("DK"), groups_of("QQ")
        (('EU', 'NORDICS', 'WORLD'), ())
    """
    return tuple(group for group, codes in sorted(_groups().items()) if code in codes)
