"""Offers of one content as APIs list them: one entry a quality, gathered into one fact a way to watch."""

from collections.abc import Iterator
from typing import Any

from kg.places import country_code
from kg.records import Hyperedge, Node
from kg.schema import QUALITIES
from kg.tables import BadValue, TableSource, known
from kg.vocabulary import platform_node, region_node, slug

_TIERS = {"UHD": "4K", "2160P": "4K", "1080P": "FHD", "720P": "HD", "480P": "SD"}


class Offers:
    """What is known of a content's offers; entries that differ in quality and price alone become one fact.

    The price is the lowest one; quality tiers and languages are joined; the first link stays.
    """

    def __init__(self, source: TableSource, content: str) -> None:
        self._source, self._content = source, content
        self._found: dict[tuple[str, str, str, int | None, int | None], dict[str, Any]] = {}
        self._named: dict[str, str] = {}

    def add(
        self,
        platform: tuple[str, str],
        region: str,
        offer: str,
        held: tuple[int | None, int | None],
        told: dict[str, Any],
    ) -> None:
        """One entry of a list of offers.

        Args:
            platform: key of its id, and its name.
            region: country, by code or name.
            offer: one of :data:`kg.schema.OFFERS`.
            held: UTC seconds at which it starts and ends, None where not known.
            told: further properties of AVAILABLE.
        """
        code = country_code(region)
        if code is None:
            raise BadValue("region", region, "a country's code belongs here: ask the API's makers")
        start_ts, end_ts = held
        if start_ts is not None and end_ts is not None and end_ts <= start_ts:
            self._source.repair("offer that ends before it starts left out")
            return
        self._named.setdefault(*platform)
        there = self._found.setdefault((platform[0], code, offer, start_ts, end_ts), {})
        for name, value in known(**told).items():
            if isinstance(value, tuple):
                there[name] = tuple(dict.fromkeys((*there.get(name, ()), *value)))
            elif name not in ("price", "currency"):
                there.setdefault(name, value)
        price = told.get("price")
        if price is not None and told.get("currency") and price < there.get("price", float("inf")):
            there.update(price=price, currency=told["currency"])

    def records(self) -> Iterator[Node | Hyperedge]:
        """The facts, platforms and regions before them."""
        for (platform, code, offer, start_ts, end_ts), told in self._found.items():
            if self._source.is_new(f"platform:{platform}"):
                node = platform_node(platform, self._source.name)
                named = {**node.properties, "name": self._named[platform]}
                yield (
                    node
                    if node.properties["name"] != platform.replace("-", " ").title()
                    else Node("Platform", node.id, named)
                )
            if self._source.is_new(f"region:{code}"):
                yield region_node(code, self._source.name)
            members = {
                "content": (self._content,),
                "platform": (f"platform:{platform}",),
                "region": (f"region:{code}",),
            }
            yield Hyperedge(
                "AVAILABLE", members, self._source.name, {"offer": offer, **told}, start_ts, end_ts
            )


def platform_key(name: str, ours: dict[str, str]) -> str:
    """Key of a platform's id: ours for the words of ``ours``, else its name as a slug.

    Example:
        >>> platform_key("Amazon Prime Video", {"amazon-prime-video": "amazon-prime"})
        'amazon-prime'
    """
    key = slug(name)
    return ours.get(key, key)


def tiers(word: str | None) -> tuple[str, ...]:
    """Quality tiers that a source's word names, none for one that we do not know.

    Example:
        >>> tiers("uhd"), tiers("HD"), tiers("unknown")
        (('4K',), ('HD',), ())
    """
    name = _TIERS.get((word or "").upper(), (word or "").upper())
    return (name,) if name in QUALITIES else ()
