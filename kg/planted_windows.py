"""Made-up windows in which agreement, contested prices, broken exclusivity and broken licences are planted.

What is planted about a content depends on the seed and its number alone, so that no answer has to be kept."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np

from kg.intervals import Span
from kg.records import Hyperedge, Node, Value
from kg.windows import BLOCKS, DAY_S, day_ts

Kind = Literal[
    *("plain", "agreeing", "contested", "exclusive", "licensed"),
    *("content", "territory", "time", "holdback", "quality", "language"),
]
BOUNDS: tuple[Kind, ...] = ("content", "territory", "time", "holdback", "quality", "language")
"""Bounds of a licence, of which a window breaks one."""
KINDS: tuple[Kind, ...] = ("agreeing", "contested", "exclusive", "licensed", *BOUNDS)
"""What may be planted about a content; all others are plain."""
PLATFORMS = ("netflix", "amazon-prime", "hulu", "hbo-max", "disney-plus", "paramount-plus", "apple-tv-plus")
FIRST_TS = day_ts("2024-01-01")
"""Begin of the year in which every window begins, but for a broken holdback."""
AS_OF = day_ts("2027-01-01")
"""UTC seconds at which every window has begun and ended: when to ask for the planted answers."""
_OUTSIDE = "ZA"  # in no block, so in no territory
_HOLDBACK_DAYS = 30


@dataclass(frozen=True)
class Planted:
    """All that is told about where one content is, and what is right."""

    kind: Kind
    content_id: str
    platform_id: str
    regions: tuple[str, ...]
    """ISO codes of the first window."""
    span: Span
    """Of the conflict where there is one; of what holds for ``agreeing``; else of the window."""
    told: tuple[Hyperedge, ...]
    """By the first source."""
    told_again: tuple[Hyperedge, ...] = ()
    """By a second source, which is more reliable."""
    licence: Node | None = None
    release_date: str | None = None
    """A date that the content must have for its holdback to be broken."""


def plant(
    seed: int,
    number: int,
    content_id: str,
    other_id: str | None,
    year: int,
    share: float,
    by: tuple[str, str],
) -> Planted:
    """The windows of a content.

    Args:
        seed: of the world.
        number: of the content.
        content_id: of the content.
        other_id: another content, for a licence that covers something else; None plants no such licence.
        year: of release.
        share: 0 to 1, chance that something is planted; else there is one plain window.
        by: names of the first and the second source.

    Example:
        >>> plant(0, 1, "content:a:1", None, 2000, 0.0, ("one", "two")).kind
        'plain'
    """
    random = np.random.default_rng([seed, 1, number])
    kind: Kind = KINDS[int(random.integers(len(KINDS)))] if random.random() < share else "plain"
    if kind == "content" and other_id is None:
        kind = "plain"
    return _Windows(kind, number, content_id, by, random).plant(other_id, year)


class _Windows:
    """The windows of one content."""

    def __init__(
        self, kind: Kind, number: int, content_id: str, by: tuple[str, str], random: np.random.Generator
    ) -> None:
        self.kind, self.content_id, self.by = kind, content_id, by
        self.license_id = f"license:large:{number}"
        platform, other = random.choice(len(PLATFORMS), size=2, replace=False).tolist()
        self.platform, self.other = f"platform:{PLATFORMS[platform]}", f"platform:{PLATFORMS[other]}"
        self.codes = BLOCKS[int(random.integers(len(BLOCKS)))]
        self.start = FIRST_TS + DAY_S * int(random.integers(0, 300))
        self.end = self.start + DAY_S * int(random.integers(60, 400))

    def plant(self, other_id: str | None, year: int) -> Planted:
        kind, start, end = self.kind, self.start, self.end
        if kind == "agreeing":
            again = self._window(start + 10 * DAY_S, end + 30 * DAY_S, source=self.by[1])
            return self._planted(Span(start, end + 30 * DAY_S), self._window(start, end), again=(again,))
        if kind == "contested":
            ours = self._window(start, end, offer="rent", price=3.99, currency="EUR")
            span = Span(start + 5 * DAY_S, end - 5 * DAY_S)
            terms: dict[str, Value] = {"offer": "rent", "price": 4.99, "currency": "EUR"}
            again = self._window(span.first, span.last, source=self.by[1], **terms)
            return self._planted(span, ours, again=(again,))
        if kind == "exclusive":
            ours = self._window(start, end, exclusivity="exclusive")
            rival = self._window(start + 20 * DAY_S, end + 40 * DAY_S, platform=self.other)
            return self._planted(Span(start + 20 * DAY_S, end), ours, rival)
        if kind == "plain":
            return self._planted(Span(start, end), self._window(start, end))
        return self._under_licence(other_id, year)

    def _under_licence(self, other_id: str | None, year: int) -> Planted:
        kind, start, end = self.kind, self.start, self.end
        terms: dict[str, Any] = {"quality_tiers": ("SD", "HD"), "languages": ("de", "en")}
        said: dict[str, Any] = {"quality_tiers": ("HD",), "audio_languages": ("en",)}
        codes, last, released = self.codes, end, None
        facts: list[Hyperedge] = []
        if kind == "territory":
            codes = (*codes, _OUTSIDE)
        elif kind == "time":
            last = end + 30 * DAY_S
        elif kind == "quality":
            said["quality_tiers"] = ("4K", "HD")
        elif kind == "language":
            said["audio_languages"] = ("en", "fr")
        elif kind == "holdback":
            released = date(year, 6, 15).isoformat()
            start = day_ts(released) + 10 * DAY_S
            end = last = max(end, start + 60 * DAY_S)
            terms["holdback_days"] = _HOLDBACK_DAYS
        else:  # a licence of this content, or of another one
            named = self.content_id if kind == "licensed" else other_id
            facts.append(self._licensed(named or self.content_id))
        held = {"regions": self.codes, "valid_from_ts": start, "valid_until_ts": end, **terms}
        licence = Node("License", self.license_id, {**held, "simulated": True, "sources": (self.by[0],)})
        window = self._window(start, last, codes=codes, license_id=self.license_id, **said)
        return self._planted(Span(start, last), window, *facts, licence=licence, released=released)

    def _planted(
        self,
        span: Span,
        *told: Hyperedge,
        again: tuple[Hyperedge, ...] = (),
        licence: Node | None = None,
        released: str | None = None,
    ) -> Planted:
        return Planted(
            self.kind, self.content_id, self.platform, self.codes, span, told, again, licence, released
        )

    def _window(
        self,
        start: int,
        end: int,
        *,
        source: str = "",
        platform: str = "",
        codes: tuple[str, ...] = (),
        license_id: str = "",
        **said: Value,
    ) -> Hyperedge:
        members = {
            "content": (self.content_id,),
            "platform": (platform or self.platform,),
            "region": tuple(f"region:{code}" for code in codes or self.codes),
        }
        if license_id:
            members["license"] = (license_id,)
        terms = {"offer": "subscription", **said, "simulated": True}
        return Hyperedge("AVAILABLE", members, source or self.by[0], terms, start, end)

    def _licensed(self, content_id: str) -> Hyperedge:
        members = {
            "content": (content_id,),
            "license": (self.license_id,),
            "region": tuple(f"region:{code}" for code in self.codes),
        }
        return Hyperedge("LICENSED", members, self.by[0], {"simulated": True}, self.start, self.end)
