"""Watchmode API: titles of a service or region, and where each can be watched."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kg.http import Key
from kg.offers import Offers, platform_key, tiers
from kg.records import Hyperedge, Node
from kg.replies import ApiSource
from kg.sources import sources
from kg.tables import known
from kg.titled import of_genres

_OURS = {
    "amazon-prime": "amazon-prime",
    "amazon-prime-video": "amazon-prime",
    "prime-video": "amazon-prime",
    "disney": "disney-plus",
    "max": "hbo-max",
    "hbo-max": "hbo-max",
    "appletv": "apple-tv-plus",
    "paramount": "paramount-plus",
}
_OFFERS = {"sub": "subscription", "free": "free", "rent": "rent", "buy": "buy", "purchase": "buy"}
_KINDS = {
    "movie": "movie",
    "tv_movie": "movie",
    "short_film": "movie",
    "tv_series": "series",
    "tv_miniseries": "series",
    "tv_special": "series",
}
_DOLLARS = {"US": "USD", "CA": "CAD", "AU": "AUD", "GB": "GBP"}
"""Currencies of regions whose prices come without one."""


@dataclass(frozen=True)
class WatchmodeConfig:
    """What is asked, and where the replies lie."""

    folder: Path
    """Takes one file a reply; remove it to ask anew."""
    regions: str = "US"
    """ISO 3166-1 alpha-2, commas between."""
    source_ids: str = ""
    """Watchmode's numbers of services, commas between (203 is Netflix); '' asks for all."""
    base: str = ""
    """Address of the API, '' for the public one."""
    per_s: float = 2.0
    """Requests a second."""


@sources.register("watchmode", WatchmodeConfig)
class Watchmode(ApiSource):
    """Titles with their details and offers; one request a page of titles, one more a title.

    An offer holds from the day on which it was seen; nobody says until when.
    """

    name = "watchmode"
    reliability = 0.70
    base = "https://api.watchmode.com/v1"
    items = "titles"
    credit = "Streaming data powered by Watchmode.com"
    key = Key("WATCHMODE_API_KEY", "api.watchmode.com, free plan", parameter="apiKey")
    config: WatchmodeConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        asked = {"regions": self.config.regions, "limit": "250", "page": "1"}
        if self.config.source_ids:
            asked["source_ids"] = self.config.source_ids
        for file, place, found in self.listing("/list-titles/", asked, lambda title: str(title["id"])):
            yield from self.tell_object(file, place, self._title, found)

    def next_page(self, reply: Any, parameters: Mapping[str, str]) -> Mapping[str, str] | None:
        page = int(parameters["page"])
        return {**parameters, "page": str(page + 1)} if page < int(reply.get("total_pages") or 0) else None

    def _title(self, listed: dict[str, Any]) -> Iterator[Node | Hyperedge]:
        file, title = self.reply(
            f"/title/{int(listed['id'])}/details/",
            {"append_to_response": "sources", "regions": self.config.regions},
        )
        content = f"content:watchmode:{title['id']}"
        kind = _KINDS[title["type"]]
        ids = [f"imdb:{title['imdb_id']}"] if title.get("imdb_id") else []
        if title.get("tmdb_id") and title.get("tmdb_type") == "movie":
            ids.append(f"tmdb:{title['tmdb_id']}")
        named = known(
            kind=kind,
            title=title["title"],
            original_title=title.get("original_title"),
            synopsis=title.get("plot_overview"),
            release_year=title.get("year"),
            release_date=title.get("release_date"),
            runtime_minutes=title.get("runtime_minutes") or None,
            maturity_rating=title.get("us_rating"),
            original_language=title.get("original_language"),
            ids=(*ids, f"watchmode:{title['id']}"),
            sources=(self.name,),
        )
        offers = Offers(self, content)
        for entry in title.get("sources") or ():
            self._offer(offers, entry, self.observed_ts(file))
        yield Node("Content", content, named)
        yield from of_genres(self, content, list(title.get("genre_names") or ()))
        yield from offers.records()

    def _offer(self, offers: Offers, entry: dict[str, Any], observed_ts: int) -> None:
        offer = _OFFERS.get(entry["type"])
        if offer is None:  # tve: for customers of a television provider
            self.repair("offer of a kind that we have no word for left out")
            return
        price, currency = entry.get("price"), _DOLLARS.get(entry["region"])
        if price is not None and currency is None:
            self.repair("price without a currency left out")
        told = {
            "deep_link": entry.get("web_url"),
            "quality_tiers": tiers(entry.get("format")),
            "price": price,
            "currency": currency,
        }
        platform = (platform_key(entry["name"], _OURS), entry["name"])
        offers.add(platform, entry["region"], offer, (observed_ts, None), told)
