"""Streaming Availability API (Movie of the Night, through RapidAPI): who has what, where, until when."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kg.http import Key
from kg.offers import Offers, platform_key, tiers
from kg.records import Hyperedge, Node
from kg.replies import ApiSource
from kg.sources import sources
from kg.tables import BadValue, known
from kg.titled import credited, of_genres

_OURS = {
    "prime": "amazon-prime",
    "disney": "disney-plus",
    "hbo": "hbo-max",
    "apple": "apple-tv",
    "paramount": "paramount-plus",
}
_OFFERS = {
    "subscription": "subscription",
    "addon": "subscription",
    "free": "free",
    "rent": "rent",
    "buy": "buy",
}


@dataclass(frozen=True)
class StreamingAvailabilityConfig:
    """What is asked, and where the replies lie."""

    folder: Path
    """Takes one file a reply; remove it to ask anew."""
    country: str = "us"
    """ISO 3166-1 alpha-2, in small letters."""
    catalogs: str = ""
    """Services, commas between (``netflix,prime.subscription``); '' asks for all."""
    base: str = ""
    """Address of the API, '' for the public one."""
    per_s: float = 1.0
    """Requests a second."""


@sources.register("streaming_availability", StreamingAvailabilityConfig)
class StreamingAvailability(ApiSource):
    """Shows of a country with their offers: price, quality, languages, link, since when and until when."""

    name = "streaming_availability"
    reliability = 0.70  # an aggregator of what platforms show
    base = "https://streaming-availability.p.rapidapi.com"
    items = "shows"
    credit = "Streaming Availability API by Movie of the Night"
    key = Key("RAPIDAPI_KEY", "rapidapi.com, Streaming Availability, free plan", header="X-RapidAPI-Key")
    config: StreamingAvailabilityConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        asked = {"country": self.config.country, "series_granularity": "show"}
        if self.config.catalogs:
            asked["catalogs"] = self.config.catalogs
        for file, place, found in self.listing("/shows/search/filters", asked, lambda show: show["id"]):
            yield from self.tell_object(file, place, self._show, found)

    def next_page(self, reply: Any, parameters: Mapping[str, str]) -> Mapping[str, str] | None:
        cursor = reply.get("nextCursor")
        return {**parameters, "cursor": str(cursor)} if reply.get("hasMore") and cursor else None

    def _show(self, show: dict[str, Any]) -> Iterator[Node | Hyperedge]:
        content = f"content:motn:{show['id']}"
        ids = [f"imdb:{show['imdbId']}"] if show.get("imdbId") else []
        kind = {"movie": "movie", "series": "series"}[show["showType"]]
        tmdb = str(show.get("tmdbId") or "").rpartition("/")[2]
        if tmdb and kind == "movie":  # ids of series count apart from those of films
            ids.append(f"tmdb:{tmdb}")
        named = known(
            kind=kind,
            title=show["title"],
            original_title=show.get("originalTitle"),
            synopsis=show.get("overview"),
            release_year=show.get("releaseYear") or show.get("firstAirYear"),
            runtime_minutes=show.get("runtime") or None,
            seasons=show.get("seasonCount"),
            ids=(*ids, f"motn:{show['id']}"),
            sources=(self.name,),
        )
        offers = Offers(self, content)
        for country, options in (show.get("streamingOptions") or {}).items():
            for option in options:
                self._offer(offers, country, option)
        yield Node("Content", content, named)
        yield from of_genres(self, content, [genre["name"] for genre in show.get("genres") or ()])
        yield from credited(self, "ACTED_IN", content, list(show.get("cast") or ()), ordered=True)
        people = show.get("directors") or show.get("creators") or ()
        yield from credited(self, "DIRECTED" if show.get("directors") else "WROTE", content, list(people))
        yield from offers.records()

    def _offer(self, offers: Offers, country: str, option: dict[str, Any]) -> None:
        if option["type"] not in _OFFERS:
            raise BadValue("type", option["type"], f"one of {', '.join(_OFFERS)} belongs here: leave it out")
        service = option.get("addon") or option["service"]
        price = option.get("price") or {}
        told = {
            "deep_link": option.get("link"),
            "quality_tiers": tiers(option.get("quality")),
            "audio_languages": tuple(audio["language"] for audio in option.get("audios") or ()),
            "subtitle_languages": tuple(text["locale"]["language"] for text in option.get("subtitles") or ()),
            "price": float(price["amount"]) if price else None,
            "currency": price.get("currency"),
        }
        held = (option.get("availableSince"), option.get("expiresOn"))
        platform = (platform_key(service["id"], _OURS), service["name"])
        offers.add(platform, country, _OFFERS[option["type"]], held, told)
