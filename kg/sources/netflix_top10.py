"""Netflix's weekly Top 10: by country, and worldwide with what was watched."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kg.places import country_code
from kg.records import Hyperedge, Node
from kg.schema import SOMEWHERE
from kg.sources import sources
from kg.tables import (
    BadValue,
    Columns,
    Row,
    TableSource,
    find_file,
    integer,
    iso_date,
    known,
    missing,
    number,
)
from kg.titled import titled
from kg.vocabulary import platform_node, region_node, slug
from kg.windows import DAY_S, day_ts

_RANKS = {
    "week": ("week_end",),
    "category": (),
    "weekly_rank": ("rank",),
    "show_title": ("title",),
}
_COUNTRIES = Columns({**_RANKS, "country_iso2": ("country", "country_code")}, {"season_title": ()})
_GLOBAL = Columns(
    _RANKS, {"season_title": (), "weekly_hours_viewed": ("hours_viewed",), "weekly_views": ("views",)}
)
_FILES = {
    "all-weeks-countries.tsv": _COUNTRIES,
    "all-weeks-global.tsv": _GLOBAL,
}
_WEEK_S = 7 * DAY_S
_PLATFORM = "platform:netflix"


@dataclass(frozen=True)
class NetflixTop10Config:
    """Where the files lie."""

    folder: Path
    """Holds all-weeks-countries.tsv and/or all-weeks-global.tsv."""


@sources.register("netflix_top10", NetflixTop10Config)
class NetflixTop10(TableSource):
    """A title in the list of a week and a country was on Netflix there in that week.

    Each week is a window of its own: Monday to Sunday, ``week`` being the Sunday. The worldwide list names no
    country (region ZZ) and tells views, or hours before mid-2023, of the last week that a title was listed:
    its popularity on that day. Contents are known by title alone. Ranks have no fact type: they are checked
    and not told.

    Source: Netflix Top 10, netflix.com/tudum/top10; credit Netflix.
    """

    name = "netflix_top10"
    reliability = 1.0
    tells_its_files_alone = True
    config: NetflixTop10Config

    def records(self) -> Iterator[Node | Hyperedge]:
        folder = Path(self.config.folder)
        there = {name: columns for name, columns in _FILES.items() if self._has(folder, name)}
        if not there:
            raise missing(folder, " or ".join(_FILES))
        yield platform_node("netflix", self.name)
        for name, columns in reversed(there.items()):
            path = find_file(folder, name)
            told: set[int] = set()  # 8 bytes a listing

            def read(row: Row, told: set[int] = told) -> Iterator[Node | Hyperedge]:
                return self._listing(row, told)

            for line, row in self.table(path, columns, delimiter="\t"):
                yield from self.tell(path, line, read, row)

    def _has(self, folder: Path, name: str) -> bool:
        return any((folder / f"{name}{end}").is_file() for end in ("", ".gz"))

    def _listing(self, row: Row, told: set[int]) -> Iterator[Node | Hyperedge]:
        kind = _kind(row)
        rank = integer(row["weekly_rank"], "weekly_rank")
        if rank is None or not 1 <= rank <= 10:
            raise BadValue("weekly_rank", row["weekly_rank"], "1 to 10 belongs here: mend the cell")
        week = iso_date(row["week"], "week")
        if week is None:
            raise BadValue("week", row["week"], "the Sunday that ends the week belongs here: fill the cell")
        end_ts = day_ts(week) + DAY_S
        region = self._region(row)
        show = titled(self, kind, row["show_title"], None, self._watched(row, end_ts))
        if self.is_new(show.id):
            yield show
        yield from self._season(row, show.id)
        listing = hash((show.id, region, end_ts))
        if listing in told:
            self.repair("title listed more than once a week told once")
            return
        told.add(listing)
        if self.is_new(region):
            yield region_node(region.partition(":")[2], self.name)
        members = {"content": (show.id,), "platform": (_PLATFORM,), "region": (region,)}
        offer = {"offer": "subscription"}
        yield Hyperedge("AVAILABLE", members, self.name, offer, end_ts - _WEEK_S, end_ts)

    def _region(self, row: Row) -> str:
        if "country_iso2" not in row:
            return SOMEWHERE
        code = country_code(row["country_iso2"])
        if code is None:
            raise BadValue(
                "country_iso2", row["country_iso2"], "a country's code belongs here: mend the cell"
            )
        return f"region:{code}"

    def _watched(self, row: Row, end_ts: int) -> dict[str, float | int]:
        watched = None
        for column in ("weekly_views", "weekly_hours_viewed"):
            watched = watched if watched is not None else number(row.get(column, ""), column)
        return known(popularity=watched, observed_ts=end_ts if watched is not None else None)

    def _season(self, row: Row, show: str) -> Iterator[Node | Hyperedge]:
        title = row["season_title"]
        if title.lower() in ("", "n/a") or not slug(title) or slug(title) == slug(row["show_title"]):
            return
        key = f"content:title:season::{slug(row['show_title'])}:{slug(title)}"
        if self.is_new(key):
            yield Node("Content", key, {"kind": "season", "title": title, "sources": (self.name,)})
            yield Hyperedge("HAS_SEASON", {"content": (show,), "season": (key,)}, self.name)


def _kind(row: Row) -> str:
    category = row["category"].lower()
    if category.startswith("film"):
        return "movie"
    if category.startswith("tv"):
        return "series"
    raise BadValue("category", row["category"], "Films … or TV … belongs here: mend the cell")
