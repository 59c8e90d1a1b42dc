"""Catalogues of streaming platforms as JustWatch lists them for one country: titles and credits."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_files, inside, integer, known, number, words
from kg.vocabulary import GENRES, country_of, genre_node, genres_of, platform_node, region_node
from kg.windows import day_ts

_TITLES = Columns(
    {
        "id": ("jw_id", "justwatch_id"),
        "title": ("name",),
        "type": ("kind", "object_type"),
        "release_year": ("year",),
    },
    {
        "description": ("synopsis", "plot"),
        "age_certification": ("maturity_rating", "age"),
        "runtime": ("runtime_minutes", "duration"),
        "genres": ("genre", "listed_in"),
        "production_countries": ("countries", "country"),
        "seasons": (),
        "imdb_id": ("imdb",),
        "imdb_score": ("imdb_rating",),
        "imdb_votes": ("votes",),
        "tmdb_popularity": ("popularity",),
        "tmdb_score": ("tmdb_rating",),
    },
)
_CREDITS = Columns(
    {"person_id": ("person",), "id": ("title_id", "jw_id"), "name": ("person_name",), "role": ("job",)},
    {"character": ("character_name",)},
)
_TITLE_FILE = re.compile(r"([a-z0-9-]+?)-(\d{4})(?:-(\d{2}))?-titles\.csv(?:\.gz)?")
_KINDS = {
    "movie": "movie",
    "film": "movie",
    "show": "series",
    "series": "series",
    "tv": "series",
    "tv show": "series",
}
_JOBS = {
    "ACTOR": "ACTED_IN",
    "DIRECTOR": "DIRECTED",
    "WRITER": "WROTE",
    "SCREENPLAY": "WROTE",
    "PRODUCER": "PRODUCED",
    "CINEMATOGRAPHER": "SHOT",
}
_IMDB = re.compile(r"tt\d{7,9}")
_MONTHS = {"amazon-prime-2022": 5, "netflix-2022": 7, "crunchyroll-2022": 1}
_USUAL_MONTH = 4
"""The 2023 files are of April; a name may tell the month itself (``netflix-2024-05-titles.csv``)."""


@dataclass(frozen=True)
class JustWatchConfig:
    """Where the files lie, and what is known of them."""

    folder: Path
    """Holds ``<platform>-<year>-titles.csv`` and ``<platform>-<year>-credits.csv.gz``."""
    region: str = "US"
    """Country that was listed, ISO 3166-1 alpha-2."""
    later: Mapping[str, str] = field(default_factory=dict)
    """Platform -> day of a later snapshot of it for this region in another source: the window ends there."""


@dataclass(frozen=True)
class _Snapshot:
    path: Path
    platform: str
    start_ts: int
    end_ts: int | None

    @property
    def credits(self) -> Path | None:
        """The file of credits beside the titles, if there is one."""
        bare = self.path.name.removesuffix(".gz").removesuffix("-titles.csv")
        found = [self.path.with_name(f"{bare}-credits.csv{end}") for end in ("", ".gz")]
        return next((inside(self.path.parent, path) for path in found if path.is_file()), None)


@sources.register("justwatch", JustWatchConfig)
class JustWatch(TableSource):
    """Titles, plots, genres, countries, cast and directors, and a window of availability a snapshot.

    A snapshot of day D gives the window [D, next snapshot of that platform and region), the last one open.
    Days: the first of the month in which the file was collected; Crunchyroll's is known by its year alone and
    counts from January.
    """

    name = "justwatch"
    reliability = 0.70
    tells_its_files_alone = True
    tells_snapshots = True
    config: JustWatchConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        yield from self._region(self.config.region)
        named: set[str] = set()
        for snapshot in self._snapshots():
            titles: set[str] = set()
            yield platform_node(snapshot.platform, self.name)
            yield from self._titles(snapshot, titles, named)
            if snapshot.credits:
                yield from self._credits(snapshot.credits, titles)

    def _snapshots(self) -> list[_Snapshot]:
        found = []
        for path, match in find_files(Path(self.config.folder), _TITLE_FILE, "<platform>-<year>-titles.csv"):
            platform, year, month = match.groups()
            month = month or _MONTHS.get(f"{platform}-{year}", _USUAL_MONTH)
            found.append((platform, day_ts(f"{year}-{int(month):02d}-01"), path))
        found.sort()
        ends: dict[str, int] = {platform: day_ts(day) for platform, day in self.config.later.items()}
        snapshots = []
        for platform, start_ts, path in reversed(found):
            snapshots.append(_Snapshot(path, platform, start_ts, ends.get(platform)))
            ends[platform] = start_ts
        return sorted(snapshots, key=lambda snapshot: (-snapshot.start_ts, snapshot.platform))

    def _titles(self, snapshot: _Snapshot, titles: set[str], named: set[str]) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if row["id"] in titles:
                self.repair("repeated title left out")
                return
            if not row["title"] and row["imdb_id"] not in named:
                self.repair("title without a name dropped")
                return
            if not row["title"]:
                self.repair("title without a name known by its IMDb id")
            elif row["imdb_id"]:
                named.add(row["imdb_id"])
            content = Node("Content", f"content:justwatch:{row['id']}", self._content(row, snapshot))
            facts = [*self._about(row, content.id), self._window(content.id, snapshot)]
            titles.add(row["id"])
            yield content
            yield from facts

        for line, row in self.table(snapshot.path, _TITLES):
            yield from self.tell(snapshot.path, line, read, row)

    def _content(self, row: Row, snapshot: _Snapshot) -> dict[str, Any]:
        kind = _KINDS.get(row["type"].lower())
        if kind is None:
            raise BadValue("type", row["type"], f"one of {', '.join(_KINDS)} belongs here: mend the cell")
        ids = [f"justwatch:{row['id']}"]
        if _IMDB.fullmatch(row["imdb_id"]):
            ids.insert(0, f"imdb:{row['imdb_id']}")
        elif row["imdb_id"]:
            self.repair("IMDb id of another shape left out")
        runtime = integer(row["runtime"], "runtime")
        if runtime == 0:
            self.repair("runtime 0 read as not known")
        return known(
            kind=kind,
            title=row["title"],
            synopsis=row["description"],
            release_year=integer(row["release_year"], "release_year"),
            runtime_minutes=runtime or None,
            maturity_rating=row["age_certification"],
            seasons=integer(row["seasons"], "seasons"),
            imdb_rating=number(row["imdb_score"], "imdb_score"),
            tmdb_rating=number(row["tmdb_score"], "tmdb_score") or None,  # 0 is no vote
            vote_count=integer(row["imdb_votes"], "imdb_votes"),
            popularity=number(row["tmdb_popularity"], "tmdb_popularity"),
            observed_ts=snapshot.start_ts,
            ids=tuple(ids),
            sources=(self.name,),
        )

    def _about(self, row: Row, content: str) -> Iterator[Node | Hyperedge]:
        genres = (id for word in words(row["genres"], "genres") for id in genres_of(word))
        for genre in dict.fromkeys(genres):
            if self.is_new(genre):
                if genre.partition(":")[2] not in GENRES:
                    self.repair("genre that our table does not know kept as it is")
                yield genre_node(genre, self.name)
            yield Hyperedge("BELONGS_TO", {"content": (content,), "genre": (genre,)}, self.name)
        for word in dict.fromkeys(words(row["production_countries"], "production_countries")):
            code = country_of(word)
            if code is None:
                self.repair("country code that means no country dropped")
                continue
            if code != word:
                self.repair("country written out read as its code")
            yield from self._region(code)
            yield Hyperedge("MADE_IN", {"content": (content,), "region": (f"region:{code}",)}, self.name)

    def _region(self, code: str) -> Iterator[Node]:
        if self.is_new(f"region:{code}"):
            yield region_node(code, self.name)

    def _window(self, content: str, snapshot: _Snapshot) -> Hyperedge:
        members = {
            "content": (content,),
            "platform": (f"platform:{snapshot.platform}",),
            "region": (f"region:{self.config.region}",),
        }
        offer = {"offer": "subscription"}
        return Hyperedge("AVAILABLE", members, self.name, offer, snapshot.start_ts, snapshot.end_ts)

    def _credits(self, path: Path, titles: set[str]) -> Iterator[Node | Hyperedge]:
        for title, lines in itertools.groupby(self.table(path, _CREDITS), key=lambda line: line[1]["id"]):
            if title not in titles:
                self.repair("credit of a title that was dropped left out", sum(1 for _ in lines))
                continue
            told: set[tuple[str, str]] = set()
            order = itertools.count()

            def read(
                row: Row, told: set[tuple[str, str]] = told, order: Iterator[int] = order
            ) -> Iterator[Node | Hyperedge]:
                return self._credit(row, told, order)

            for line, row in lines:
                yield from self.tell(path, line, read, row)

    def _credit(
        self, row: Row, told: set[tuple[str, str]], order: Iterator[int]
    ) -> Iterator[Node | Hyperedge]:
        job = row["role"].upper()
        if job not in _JOBS:
            raise BadValue("role", row["role"], f"one of {', '.join(_JOBS)} belongs here: mend the cell")
        if not row["person_id"]:
            raise BadValue("person_id", "", "an id belongs here: fill the cell or remove the row")
        if (row["person_id"], job) in told:
            self.repair("repeated credit left out")
            return
        told.add((row["person_id"], job))
        person = f"person:justwatch:{row['person_id']}"
        if self.is_new(person):
            ids = (person.partition(":")[2],)
            yield Node("Person", person, known(name=row["name"], ids=ids, sources=(self.name,)))
        properties: dict[str, Any] = {}
        if job == "ACTOR":
            properties = known(character=row["character"], billing_order=next(order))
        members = {"person": (person,), "content": (f"content:justwatch:{row['id']}",)}
        yield Hyperedge(_JOBS[job], members, self.name, properties)
