"""In which countries a platform has a title: one file a platform and month, by IMDb id."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kg.records import Hyperedge, Node
from kg.schema import SOMEWHERE
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_files, integer, known, number, words
from kg.vocabulary import country_of, genre_node, genres_of, platform_node, region_node, slug
from kg.windows import day_ts

_COLUMNS = Columns(
    {
        "title": ("name",),
        "type": ("kind",),
        "imdbId": ("imdb_id", "imdb"),
        "availableCountries": ("countries", "available_countries"),
    },
    {
        "genres": ("genre",),
        "releaseYear": ("year",),
        "imdbAverageRating": ("imdb_rating", "averageRating"),
        "imdbNumVotes": ("votes", "numVotes"),
    },
)
_FILE = re.compile(r"([a-z0-9-]+?)-(\d{4})-(\d{2})\.csv(?:\.gz)?")
_KINDS = {"movie": "movie", "tv": "series", "series": "series", "show": "series"}
_IMDB = re.compile(r"tt\d{7,9}")
_SHOPS = ("apple-tv",)
"""Platforms whose file mixes a subscription with a shop: the offer is not known there."""


@dataclass(frozen=True)
class AvailabilityConfig:
    """Where the files lie."""

    folder: Path
    """Holds ``<platform>-<year>-<month>.csv`` files."""


@sources.register("availability_by_country", AvailabilityConfig)
class AvailabilityByCountry(TableSource):
    """One fact a title: the platform has it in these countries from the first day of the file's month on.

    A row without countries says that the title is somewhere: its region is ZZ. A row without IMDb id is known
    by its title, year and kind.
    """

    name = "availability_by_country"
    reliability = 0.70
    tells_its_files_alone = True
    tells_snapshots = True
    config: AvailabilityConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        found = find_files(Path(self.config.folder), _FILE, "<platform>-<year>-<month>.csv")
        months: dict[str, list[int]] = {}
        for _, match in found:
            months.setdefault(match[1], []).append(day_ts(f"{match[2]}-{match[3]}-01"))
        for path, match in found:
            platform, start_ts = match[1], day_ts(f"{match[2]}-{match[3]}-01")
            end_ts = min((later for later in months[platform] if later > start_ts), default=None)
            yield platform_node(platform, self.name)
            yield from self._file(path, platform, start_ts, end_ts)

    def _file(
        self, path: Path, platform: str, start_ts: int, end_ts: int | None
    ) -> Iterator[Node | Hyperedge]:
        offer = {} if platform in _SHOPS else {"offer": "subscription"}

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if not row["title"]:
                self.repair("title without a name dropped")
                return
            content = self._content(row, start_ts)
            yield content
            yield from self._genres(row, content.id)
            regions = [f"region:{code}" for code in self._countries(row)] or [SOMEWHERE]
            for region in regions:
                if self.is_new(region):
                    yield region_node(region.partition(":")[2], self.name)
            members = {
                "content": (content.id,),
                "platform": (f"platform:{platform}",),
                "region": tuple(regions),
            }
            yield Hyperedge("AVAILABLE", members, self.name, offer, start_ts, end_ts)

        for line, row in self.table(path, _COLUMNS, drops_repeats=True):
            yield from self.tell(path, line, read, row)

    def _content(self, row: Row, start_ts: int) -> Node:
        kind = _KINDS.get(row["type"].lower())
        if kind is None:
            raise BadValue("type", row["type"], f"one of {', '.join(_KINDS)} belongs here: mend the cell")
        year = integer(row["releaseYear"], "releaseYear")
        is_known = bool(_IMDB.fullmatch(row["imdbId"]))
        if row["imdbId"] and not is_known:
            self.repair("IMDb id of another shape left out")
        key = f"imdb:{row['imdbId']}" if is_known else f"title:{kind}:{year or ''}:{slug(row['title'])}"
        return Node(
            "Content",
            f"content:{key}",
            known(
                kind=kind,
                title=row["title"],
                release_year=year,
                imdb_rating=number(row["imdbAverageRating"], "imdbAverageRating"),
                vote_count=integer(row["imdbNumVotes"], "imdbNumVotes"),
                observed_ts=start_ts,
                ids=(key,) if is_known else (),
                sources=(self.name,),
            ),
        )

    def _genres(self, row: Row, content: str) -> Iterator[Node | Hyperedge]:
        for genre in dict.fromkeys(id for word in words(row["genres"], "genres") for id in genres_of(word)):
            if self.is_new(genre):
                yield genre_node(genre, self.name)
            yield Hyperedge("BELONGS_TO", {"content": (content,), "genre": (genre,)}, self.name)

    def _countries(self, row: Row) -> list[str]:
        codes = []
        for word in dict.fromkeys(words(row["availableCountries"], "availableCountries")):
            code = country_of(word)
            if code is None:
                self.repair("country code that means no country dropped")
            else:
                codes.append(code)
        return sorted(codes)
