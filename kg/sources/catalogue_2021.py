"""Four catalogues of 2021 (Netflix, Amazon Prime Video, Disney+, Hulu) without identifiers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kg.places import made_in
from kg.records import Hyperedge, Node
from kg.schema import SOMEWHERE
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_files, integer, iso_date, known, words
from kg.titled import credited, of_genres, titled
from kg.vocabulary import platform_node, region_node
from kg.windows import day_ts

_COLUMNS = Columns(
    {"type": ("kind",), "title": ("name",), "release_year": ("year",)},
    {
        "director": ("directors",),
        "cast": ("actors",),
        "country": ("countries", "production_countries"),
        "date_added": ("added",),
        "rating": ("age_certification", "maturity_rating"),
        "duration": ("runtime",),
        "listed_in": ("genres", "genre", "categories"),
        "description": ("synopsis", "plot"),
    },
)
_FILE = re.compile(r"([a-z]+(?:_[a-z]+)*)_titles\.csv(?:\.gz)?")
_KINDS = {"movie": "movie", "tv show": "series", "series": "series", "show": "series"}
_PLATFORMS = {"amazon_prime": "amazon-prime", "disney_plus": "disney-plus"}
_DURATION = re.compile(r"(\d+)\s*(min|seasons?)", re.IGNORECASE)


@dataclass(frozen=True)
class Catalogue2021Config:
    """Where the files lie, and when they were collected."""

    folder: Path
    """Holds ``<platform>_titles.csv`` files."""
    seen: Mapping[str, str] = field(
        default_factory=lambda: {
            "netflix": "2021-09-25",
            "amazon-prime": "2021-10-10",
            "hulu": "2021-10-24",
            "disney-plus": "2021-11-26",
        }
    )
    """Platform -> day on which its file was collected: the last arrival in it. A window without an
    arrival date starts there."""
    seen_otherwise: str = "2021-10-01"
    """The same for a platform that ``seen`` does not hold."""


@sources.register("catalogue_2021", Catalogue2021Config)
class Catalogue2021(TableSource):
    """Titles with plot, people, genres, countries and the day on which the platform added them.

    Contents are known by title and year, people by name. Nobody says in which country the platform has
    a title: the region is ZZ, from the day it was added on.
    """

    name = "catalogue_2021"
    reliability = 0.70
    tells_its_files_alone = True
    config: Catalogue2021Config

    def records(self) -> Iterator[Node | Hyperedge]:
        yield region_node("ZZ", self.name)
        for path, match in find_files(Path(self.config.folder), _FILE, "<platform>_titles.csv"):
            platform = _PLATFORMS.get(match[1], match[1].replace("_", "-"))
            yield platform_node(platform, self.name)
            told: set[str] = set()

            def read(row: Row, platform: str = platform, told: set[str] = told) -> Iterator[Node | Hyperedge]:
                return self._title(row, platform, told)

            for line, row in self.table(path, _COLUMNS):
                yield from self.tell(path, line, read, row)

    def _title(self, row: Row, platform: str, told: set[str]) -> Iterator[Node | Hyperedge]:
        kind = _KINDS.get(row["type"].lower())
        if kind is None:
            raise BadValue("type", row["type"], f"one of {', '.join(_KINDS)} belongs here: mend the cell")
        if not row["title"]:
            self.repair("title without a name dropped")
            return
        added = iso_date(row["date_added"], "date_added")
        node = titled(
            self, kind, row["title"], integer(row["release_year"], "release_year"), self._properties(row)
        )
        if node.id in told:
            self.repair("repeated title left out")
            return
        yield node
        yield from of_genres(self, node.id, words(row["listed_in"], "listed_in"))
        yield from made_in(self, node.id, words(row["country"], "country"))
        yield from credited(self, "ACTED_IN", node.id, words(row["cast"], "cast"), ordered=True)
        yield from credited(self, "DIRECTED", node.id, words(row["director"], "director"))
        if added is None:
            self.repair("no arrival date: the window starts when the catalogue was collected")
        start_ts = day_ts(added or self.config.seen.get(platform, self.config.seen_otherwise))
        members = {"content": (node.id,), "platform": (f"platform:{platform}",), "region": (SOMEWHERE,)}
        yield Hyperedge("AVAILABLE", members, self.name, {"offer": "subscription"}, start_ts)
        told.add(node.id)

    def _properties(self, row: Row) -> dict[str, str | int]:
        rating, duration = row["rating"], row["duration"]
        if _DURATION.fullmatch(rating):
            self.repair("duration found in the rating column")
            rating, duration = "", duration or rating
        found = _DURATION.fullmatch(duration)
        if duration and not found:
            raise BadValue("duration", duration, "'90 min' or '2 Seasons' belongs here: mend the cell")
        length = int(found[1]) if found else 0
        is_film = bool(found and found[2].lower() == "min")
        if found and length == 0:
            self.repair("runtime 0 read as not known")
        return known(
            synopsis=row["description"],
            maturity_rating=rating,
            runtime_minutes=(length or None) if is_film else None,
            seasons=(length or None) if not is_film else None,
        )
