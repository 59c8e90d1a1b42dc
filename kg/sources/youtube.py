"""YouTube Data API: the videos of a playlist, such as a channel's films, and where they may be watched."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pycountry

from kg.http import Key
from kg.records import Hyperedge, Node
from kg.replies import ApiSource
from kg.sources import sources
from kg.tables import BadValue, known
from kg.vocabulary import country_of, platform_node, region_node

_DURATION = re.compile(r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")
_QUALITIES = {"hd": "HD", "sd": "SD"}


@dataclass(frozen=True)
class YouTubeConfig:
    """What is asked, and where the replies lie."""

    folder: Path
    """Takes one file a reply; remove it to ask anew."""
    playlist: str = ""
    """Id of the playlist; that of a channel's uploads is its own with UU in place of UC."""
    base: str = ""
    """Address of the API, '' for the public one."""
    per_s: float = 5.0
    """Requests a second; a day allows 10,000."""


@sources.register("youtube", YouTubeConfig)
class YouTube(ApiSource):
    """Public videos as films with advertisements; one request a page, one more a video.

    A video without restriction is offered in every country; one with a list of blocked countries in the
    others. It holds from its publication on.
    """

    name = "youtube"
    reliability = 1.0  # the platform itself
    base = "https://www.googleapis.com/youtube/v3"
    items = "items"
    credit = "YouTube Data API; YouTube API Services terms hold"
    key = Key("YOUTUBE_API_KEY", "console.cloud.google.com, YouTube Data API v3", parameter="key")
    config: YouTubeConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        yield platform_node("youtube", self.name)
        asked = {"part": "contentDetails", "maxResults": "50", "playlistId": self.config.playlist}
        for file, place, found in self.listing("/playlistItems", asked, _video):
            yield from self.tell_object(file, place, self._told_video, found)

    def next_page(self, reply: Any, parameters: Mapping[str, str]) -> Mapping[str, str] | None:
        token = reply.get("nextPageToken")
        return {**parameters, "pageToken": token} if token else None

    def _told_video(self, listed: dict[str, Any]) -> Iterator[Node | Hyperedge]:
        parts = {"part": "snippet,contentDetails,status,statistics", "id": _video(listed)}
        file, reply = self.reply("/videos", parts)
        found = self.objects(file, reply)
        if not found or found[0]["status"]["privacyStatus"] != "public":
            self.repair("video that is not public dropped")
            return
        video = found[0]
        snippet, details, status = video["snippet"], video["contentDetails"], video["status"]
        content = f"content:youtube:{video['id']}"
        views = (video.get("statistics") or {}).get("viewCount")
        published_ts = int(datetime.fromisoformat(snippet["publishedAt"]).timestamp())
        regions = self._regions(details.get("regionRestriction") or {})
        named = known(
            kind="movie",
            title=snippet["title"],
            synopsis=snippet.get("description"),
            original_language=(snippet.get("defaultAudioLanguage") or "").partition("-")[0],
            runtime_minutes=_minutes(details["duration"]),
            popularity=float(views) if views is not None else None,
            observed_ts=self.observed_ts(file) if views is not None else None,
            ids=(f"youtube:{video['id']}",),
            sources=(self.name,),
        )
        yield Node("Content", content, named)
        if not regions or status.get("uploadStatus", "processed") != "processed":
            self.repair("video that can be watched nowhere told without an offer")
            return
        for code in regions:
            if self.is_new(f"region:{code}"):
                yield region_node(code, self.name)
        members = {
            "content": (content,),
            "platform": ("platform:youtube",),
            "region": tuple(f"region:{code}" for code in regions),
        }
        offer = known(
            offer="ads",
            deep_link=f"https://www.youtube.com/watch?v={video['id']}",
            quality_tiers=tuple(filter(None, (_QUALITIES.get(details.get("definition", "")),))),
        )
        yield Hyperedge("AVAILABLE", members, self.name, offer, published_ts)

    def _regions(self, bound: dict[str, list[str]]) -> list[str]:
        if "allowed" in bound:
            return sorted({code for word in bound["allowed"] if (code := country_of(word))})
        blocked = set(bound.get("blocked") or ())
        return sorted(country.alpha_2 for country in pycountry.countries if country.alpha_2 not in blocked)


def _video(listed: dict[str, Any]) -> str:
    return listed["contentDetails"]["videoId"]


def _minutes(duration: str) -> int | None:
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise BadValue("duration", duration, "an ISO 8601 duration such as PT1H2M belongs here")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return round(days * 1440 + hours * 60 + minutes + seconds / 60) or None
