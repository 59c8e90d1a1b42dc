"""Films of The Movie Database as one CSV with JSON in its cells (tmdb-5000)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_file, integer, iso_date, known, number, parsed
from kg.vocabulary import country_of, genre_node, genres_of, language_name, region_node, slug
from kg.windows import day_ts

_COLUMNS = Columns(
    {"id": ("tmdb_id", "movie_id"), "title": ("name",), "overview": ("synopsis", "plot", "description")},
    {
        "original_title": (),
        "tagline": (),
        "original_language": ("language",),
        "release_date": ("released",),
        "runtime": ("runtime_minutes",),
        "vote_average": ("tmdb_score", "rating"),
        "vote_count": ("votes",),
        "popularity": (),
        "imdb_id": ("imdb",),
        "genres": (),
        "keywords": (),
        "production_companies": ("companies",),
        "production_countries": ("countries",),
        "spoken_languages": ("languages",),
    },
)
_LANGUAGES = {"cn": "yue", "xx": None}
"""TMDB's own codes: Cantonese, and no language at all."""


@dataclass(frozen=True)
class TmdbConfig:
    """Where the file lies."""

    folder: Path
    """Holds tmdb_5000_movies.csv, plain or ``.gz``."""
    observed: str = "2017-09-01"
    """Day on which votes and popularity were counted, ISO 8601."""


@sources.register("tmdb", TmdbConfig)
class Tmdb(TableSource):
    """Plots, taglines, keywords, companies, countries and languages of films by TMDB id.

    This product uses the TMDB API but is not endorsed or certified by TMDB.
    """

    name = "tmdb"
    reliability = 0.70
    tells_its_files_alone = True
    config: TmdbConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        path = find_file(Path(self.config.folder), "tmdb_5000_movies.csv", "movies.csv")
        for line, row in self.table(path, _COLUMNS, drops_repeats=True):
            yield from self.tell(path, line, self._film, row)

    def _film(self, row: Row) -> Iterator[Node | Hyperedge]:
        if not row["title"]:
            self.repair("title without a name dropped")
            return
        if not row["id"].isdigit():
            raise BadValue("id", row["id"], "a TMDB id is a whole number: mend the cell")
        content = f"content:tmdb:{row['id']}"
        facts = list(self._facts(row, content))  # before the node: a row is told whole or not at all
        yield Node("Content", content, self._properties(row))
        yield from facts

    def _properties(self, row: Row) -> dict[str, Any]:
        released = iso_date(row["release_date"], "release_date")
        ids = [f"tmdb:{row['id']}"]
        if row["imdb_id"]:
            ids.insert(0, f"imdb:{row['imdb_id']}")
        runtime = integer(row["runtime"], "runtime")
        if runtime == 0:
            self.repair("runtime 0 read as not known")
        return known(
            kind="movie",
            title=row["title"],
            original_title=row["original_title"],
            synopsis=row["overview"],
            tagline=row["tagline"],
            original_language=_LANGUAGES.get(row["original_language"], row["original_language"]),
            release_date=released,
            release_year=int(released[:4]) if released else None,
            runtime_minutes=runtime or None,
            tmdb_rating=number(row["vote_average"], "vote_average") or None,  # 0 is no vote
            vote_count=integer(row["vote_count"], "vote_count"),
            popularity=number(row["popularity"], "popularity"),
            observed_ts=day_ts(self.config.observed),
            ids=tuple(ids),
            sources=(self.name,),
        )

    def _facts(self, row: Row, content: str) -> Iterator[Node | Hyperedge]:
        for genre in dict.fromkeys(id for part in _parts(row, "genres") for id in genres_of(part["name"])):
            yield from self._about("BELONGS_TO", content, "genre", genre_node(genre, self.name))
        for part in _parts(row, "keywords"):
            if key := slug(part["name"]):
                word = Node("Keyword", f"keyword:{key}", {"name": part["name"], "sources": (self.name,)})
                yield from self._about("HAS_KEYWORD", content, "keyword", word)
        for part in _parts(row, "production_companies"):
            key = f"tmdb:{part['id']}"
            named = {"name": part["name"], "ids": (key,), "sources": (self.name,)}
            yield from self._about("MADE_BY", content, "company", Node("Company", f"company:{key}", named))
        for part in _parts(row, "production_countries"):
            code = country_of(part["iso_3166_1"])
            if code is None:
                self.repair("country code that means no country dropped")
            else:
                yield from self._about("MADE_IN", content, "region", region_node(code, self.name))
        for part in _parts(row, "spoken_languages"):
            code = _LANGUAGES.get(part["iso_639_1"], part["iso_639_1"])
            if not code:
                self.repair("language code that means no language dropped")
                continue
            named = known(name=language_name(code) or part["name"] or code, code=code, sources=(self.name,))
            yield from self._about(
                "SPOKEN_IN", content, "language", Node("Language", f"language:{code}", named)
            )

    def _about(self, type: str, content: str, role: str, node: Node) -> Iterator[Node | Hyperedge]:
        if self.is_new(node.id):
            yield node
        yield Hyperedge(type, {"content": (content,), role: (node.id,)}, self.name)


def _parts(row: Row, column: str) -> list[dict[str, Any]]:
    found = parsed(row[column], column)
    if not all(isinstance(part, dict) and "name" in part for part in found):
        raise BadValue(column, row[column][:80], "a list of objects with a name belongs here: mend the cell")
    return found
