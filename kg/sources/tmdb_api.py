"""The Movie Database through its API: films with people, keywords, and where they can be watched."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kg.http import Key
from kg.offers import Offers, platform_key
from kg.places import made_in
from kg.records import Hyperedge, Node
from kg.replies import ApiSource
from kg.sources import sources
from kg.tables import BadValue, known
from kg.titled import of_genres
from kg.vocabulary import slug

_OURS = {
    "amazon-prime-video": "amazon-prime",
    "disney-plus": "disney-plus",
    "max": "hbo-max",
    "apple-tv-plus": "apple-tv-plus",
    "paramount-plus": "paramount-plus",
}
_OFFERS = {"flatrate": "subscription", "free": "free", "ads": "ads", "rent": "rent", "buy": "buy"}
_JOBS = {
    "Director": "DIRECTED",
    "Writer": "WROTE",
    "Screenplay": "WROTE",
    "Producer": "PRODUCED",
    "Director of Photography": "SHOT",
}


@dataclass(frozen=True)
class TmdbApiConfig:
    """What is asked, and where the replies lie."""

    folder: Path
    """Takes one file a reply; remove it to ask anew."""
    region: str = "US"
    """Films that can be watched here are listed; offers of all countries are told."""
    providers: str = ""
    """TMDB's numbers of services, ``|`` between (8 is Netflix); '' asks for all."""
    base: str = ""
    """Address of the API, '' for the public one."""
    per_s: float = 20.0
    """Requests a second; TMDB asks for fewer than about 40."""


@sources.register("tmdb_api", TmdbApiConfig)
class TmdbApi(ApiSource):
    """Films of a region: one request a page of the list (TMDB shows 500 pages at most), one more a film.

    This product uses the TMDB API but is not endorsed or certified by TMDB. Offers come from JustWatch and
    hold from the day on which they were seen.
    """

    name = "tmdb_api"
    reliability = 0.70
    base = "https://api.themoviedb.org/3"
    items = "results"
    credit = "This product uses the TMDB API but is not endorsed or certified by TMDB; offers by JustWatch"
    key = Key(
        "TMDB_API_TOKEN",
        "themoviedb.org, settings, API read access token",
        header="Authorization",
        form="Bearer {}",
    )
    config: TmdbApiConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        asked = {"watch_region": self.config.region, "sort_by": "primary_release_date.asc", "page": "1"}
        if self.config.providers:
            asked["with_watch_providers"] = self.config.providers
        for file, place, found in self.listing("/discover/movie", asked, lambda film: str(film["id"])):
            yield from self.tell_object(file, place, self._film, found)

    def next_page(self, reply: Any, parameters: Mapping[str, str]) -> Mapping[str, str] | None:
        page, pages = int(parameters["page"]), int(reply.get("total_pages") or 0)
        if page >= 500 and pages > 500:
            self.repair("list longer than 500 pages cut there: ask for fewer providers")
            return None
        return {**parameters, "page": str(page + 1)} if page < pages else None

    def _film(self, listed: dict[str, Any]) -> Iterator[Node | Hyperedge]:
        appended = "credits,external_ids,keywords,watch/providers"
        file, film = self.reply(f"/movie/{int(listed['id'])}", {"append_to_response": appended})
        content, observed_ts = f"content:tmdb:{film['id']}", self.observed_ts(file)
        imdb = film.get("imdb_id") or (film.get("external_ids") or {}).get("imdb_id")
        released = film.get("release_date") or None
        named = known(
            kind="movie",
            title=film["title"],
            original_title=film.get("original_title"),
            synopsis=film.get("overview"),
            tagline=film.get("tagline"),
            original_language=film.get("original_language"),
            release_date=released,
            release_year=int(released[:4]) if released else None,
            runtime_minutes=film.get("runtime") or None,
            tmdb_rating=film.get("vote_average") or None,  # 0 is no vote
            vote_count=film.get("vote_count"),
            popularity=film.get("popularity"),
            observed_ts=observed_ts,
            ids=(*((f"imdb:{imdb}",) if imdb else ()), f"tmdb:{film['id']}"),
            sources=(self.name,),
        )
        offers = Offers(self, content)
        for region, found in ((film.get("watch/providers") or {}).get("results") or {}).items():
            self._offers(offers, region, found, observed_ts)
        yield Node("Content", content, named)
        yield from of_genres(self, content, [genre["name"] for genre in film.get("genres") or ()])
        yield from made_in(
            self, content, [place["iso_3166_1"] for place in film.get("production_countries") or ()]
        )
        yield from self._keywords(content, (film.get("keywords") or {}).get("keywords") or ())
        yield from self._people(content, film.get("credits") or {})
        yield from offers.records()

    def _offers(self, offers: Offers, region: str, found: dict[str, Any], observed_ts: int) -> None:
        for word, offer in _OFFERS.items():
            for provider in found.get(word) or ():
                platform = (platform_key(provider["provider_name"], _OURS), provider["provider_name"])
                offers.add(platform, region, offer, (observed_ts, None), {"deep_link": found.get("link")})

    def _keywords(self, content: str, found: list[dict[str, Any]]) -> Iterator[Node | Hyperedge]:
        for word in {slug(part["name"]): part["name"] for part in found}.items():
            key, name = word
            if not key:
                continue
            if self.is_new(f"keyword:{key}"):
                yield Node("Keyword", f"keyword:{key}", {"name": name, "sources": (self.name,)})
            members = {"content": (content,), "keyword": (f"keyword:{key}",)}
            yield Hyperedge("HAS_KEYWORD", members, self.name)

    def _people(self, content: str, credits: dict[str, Any]) -> Iterator[Node | Hyperedge]:
        told: set[tuple[str, str]] = set()
        for part in (*(credits.get("cast") or ()), *(credits.get("crew") or ())):
            type = _JOBS.get(part["job"]) if "job" in part else "ACTED_IN"
            person = f"person:tmdb:{part['id']}"
            if type is None or (type, person) in told:
                continue
            told.add((type, person))
            if not part.get("name"):
                raise BadValue("name", str(part)[:80], "a person has a name: remove the file to ask again")
            if self.is_new(person):
                named = {"name": part["name"], "ids": (f"tmdb:{part['id']}",), "sources": (self.name,)}
                yield Node("Person", person, named)
            told_too = {}
            if type == "ACTED_IN":
                told_too = known(character=part.get("character"), billing_order=part.get("order"))
            yield Hyperedge(type, {"person": (person,), "content": (content,)}, self.name, told_too)
