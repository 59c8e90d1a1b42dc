"""Films with one 0/1 column a platform: MoviesOnStreamingPlatforms, 2020 and 2021."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kg.places import made_in, spoken_in
from kg.records import Hyperedge, Node
from kg.schema import SOMEWHERE
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_files, integer, known, number, words
from kg.titled import credited, of_genres, titled
from kg.vocabulary import platform_node, region_node
from kg.windows import day_ts

_FLAGS = {
    "Netflix": "netflix",
    "Hulu": "hulu",
    "Prime Video": "amazon-prime",
    "Disney+": "disney-plus",
}
_COLUMNS = Columns(
    {"Title": ("name",), "Year": ("release_year",), **{flag: () for flag in _FLAGS}},
    {
        "Age": ("age_certification",),
        "IMDb": ("imdb_score", "imdb_rating"),
        "Directors": ("director",),
        "Genres": ("genre",),
        "Country": ("countries",),
        "Language": ("languages",),
        "Runtime": ("runtime_minutes", "duration"),
    },
)
_FILE = re.compile(r"MoviesOnStreamingPlatforms(_updated)?\.csv(?:\.gz)?")


@dataclass(frozen=True)
class PlatformFlagsConfig:
    """Where the files lie, and when they were collected."""

    folder: Path
    """Holds MoviesOnStreamingPlatforms_updated.csv and/or MoviesOnStreamingPlatforms.csv."""
    updated: str = "2020-01-01"
    """Day of the file called ``_updated``, which is the older one; its year alone is known."""
    plain: str = "2021-01-01"
    """Day of the other one; its year alone is known."""


@sources.register("platform_flags", PlatformFlagsConfig)
class PlatformFlags(TableSource):
    """Which of four platforms had a film; the older file also tells people, genres, countries and languages.

    The window of a platform ends where the newer file begins, and a film that is in both has two of them. No
    country is told: the region is ZZ. ``Type`` is 0 in every row and not read.
    """

    name = "platform_flags"
    reliability = 0.70
    tells_its_files_alone = True
    config: PlatformFlagsConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        found = find_files(Path(self.config.folder), _FILE, "MoviesOnStreamingPlatforms.csv")
        days = {path: self.config.updated if match[1] else self.config.plain for path, match in found}
        yield region_node("ZZ", self.name)
        yield from (platform_node(platform, self.name) for platform in _FLAGS.values())
        for path, day in sorted(days.items(), key=lambda pair: pair[1]):
            starts = day_ts(day)
            ends = min((day_ts(later) for later in days.values() if day_ts(later) > starts), default=None)
            told: set[str] = set()

            def read(
                row: Row, starts: int = starts, ends: int | None = ends, told: set[str] = told
            ) -> Iterator[Node | Hyperedge]:
                return self._film(row, starts, ends, told)

            for line, row in self.table(path, _COLUMNS):
                yield from self.tell(path, line, read, row)

    def _film(
        self, row: Row, start_ts: int, end_ts: int | None, told: set[str]
    ) -> Iterator[Node | Hyperedge]:
        if not row["Title"]:
            self.repair("title without a name dropped")
            return
        platforms = [platform for flag, platform in _FLAGS.items() if _is_set(row, flag)]
        node = titled(
            self, "movie", row["Title"], integer(row["Year"], "Year"), self._properties(row, start_ts)
        )
        if node.id in told:
            self.repair("repeated title left out")
            return
        yield node
        yield from of_genres(self, node.id, words(row["Genres"], "Genres"))
        yield from made_in(self, node.id, words(row["Country"], "Country"))
        yield from spoken_in(self, node.id, words(row["Language"], "Language"))
        yield from credited(self, "DIRECTED", node.id, words(row["Directors"], "Directors"))
        for platform in platforms:
            members = {"content": (node.id,), "platform": (f"platform:{platform}",), "region": (SOMEWHERE,)}
            yield Hyperedge("AVAILABLE", members, self.name, {"offer": "subscription"}, start_ts, end_ts)
        told.add(node.id)

    def _properties(self, row: Row, start_ts: int) -> dict[str, str | int | float]:
        rating = number(row["IMDb"].partition("/")[0], "IMDb")
        runtime = integer(row["Runtime"], "Runtime")
        if runtime == 0:
            self.repair("runtime 0 read as not known")
        return known(
            maturity_rating=row["Age"],
            imdb_rating=rating,
            observed_ts=start_ts if rating is not None else None,
            runtime_minutes=runtime or None,
        )


def _is_set(row: Row, flag: str) -> bool:
    value = number(row[flag], flag)
    if value not in (0, 1, None):
        raise BadValue(flag, row[flag], "0 or 1 belongs here: mend the cell")
    return value == 1
