"""MovieLens as CSV (ml-latest-small, 20m, 25m, 32m): movies, links, ratings, tags and the tag genome."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kg.privacy import user_id
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, find_file, known, missing, moment_ts, number, words
from kg.titles import take_apart
from kg.vocabulary import GENRES, genre_node, genres_of, slug

_MOVIES = Columns({"movieId": ("item_id", "movie"), "title": ("name",), "genres": ("genre",)})
_LINKS = Columns({"movieId": ("item_id", "movie")}, {"imdbId": ("imdb",), "tmdbId": ("tmdb",)})
_RATINGS = Columns(
    {"userId": ("user",), "movieId": ("item_id", "movie"), "rating": ("score",), "timestamp": ("time", "ts")}
)
_GENOME_TAGS = Columns({"tagId": (), "tag": ("keyword",)})
_GENOME = Columns({"movieId": ("item_id", "movie"), "tagId": (), "relevance": ("score",)})
_TAGS = Columns(
    {"userId": ("user",), "movieId": ("item_id", "movie"), "tag": ("keyword",), "timestamp": ("time", "ts")}
)


@dataclass(frozen=True)
class MovieLensConfig:
    """Where the files lie."""

    folder: Path
    """Holds movies.csv, ratings.csv and, if known, links.csv and tags.csv."""
    top_rating: float = 5.0
    """Best rating of the scale; ratings are stretched to 0..10."""
    least_relevance: float = 0.5
    """0 to 1; tags of the genome that say less of a film are left out."""


@sources.register("movielens", MovieLensConfig)
class MovieLens(TableSource):
    """Films with their IMDb and TMDB ids, who rated them and with what they were tagged.

    People come as keyed hashes (:func:`kg.privacy.user_id`). The ids of the films are held in memory.

    Source: Harper and Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015.
    """

    name = "movielens"
    reliability = 0.70
    tells_its_files_alone = True
    config: MovieLensConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        folder = Path(self.config.folder)
        films: set[str] = set()
        yield from self._films(folder, self._links(folder), films)
        yield from self._ratings(find_file(folder, "ratings.csv"), films)
        if _has(folder, "tags.csv"):
            yield from self._tags(find_file(folder, "tags.csv"), films)
        if _has(folder, "genome-scores.csv"):
            yield from self._genome(folder, films)

    def _links(self, folder: Path) -> dict[str, tuple[str, ...]]:
        if not folder.is_dir():
            raise missing(folder, "movies.csv")
        if not _has(folder, "links.csv"):
            self.repair("no links.csv: films without IMDb ids")
            return {}
        found = {}
        for _, row in self.table(find_file(folder, "links.csv"), _LINKS):
            imdb = f"imdb:tt{row['imdbId'].removeprefix('tt'):0>7}" if row["imdbId"] else None
            tmdb = f"tmdb:{row['tmdbId'].partition('.')[0]}" if row["tmdbId"] else None
            found[row["movieId"]] = tuple(pair for pair in (imdb, tmdb) if pair)
        return found

    def _films(
        self, folder: Path, links: dict[str, tuple[str, ...]], films: set[str]
    ) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if not row["title"]:
                self.repair("film without a title dropped")
                return
            title = take_apart(row["title"])
            key = f"movielens:{row['movieId']}"
            if links and row["movieId"] not in links:
                self.repair("film that links.csv does not hold told without IMDb id")
            ids = (*links.get(row["movieId"], ()), key)
            yield Node(
                "Content",
                f"content:{key}",
                known(
                    kind="movie",
                    title=title.title,
                    alternate_titles=title.alternates,
                    release_year=title.year,
                    ids=ids,
                    sources=(self.name,),
                ),
            )
            for genre in dict.fromkeys(
                id for word in words(row["genres"], "genres") for id in genres_of(word)
            ):
                if self.is_new(genre):
                    if genre.partition(":")[2] not in GENRES:
                        self.repair("genre that our table does not know kept as it is")
                    yield genre_node(genre, self.name)
                yield Hyperedge("BELONGS_TO", {"content": (f"content:{key}",), "genre": (genre,)}, self.name)
            films.add(row["movieId"])

        path = find_file(folder, "movies.csv")
        for line, row in self.table(path, _MOVIES):
            yield from self.tell(path, line, read, row)

    def _ratings(self, path: Path, films: set[str]) -> Iterator[Node | Hyperedge]:
        stretch = 10 / self.config.top_rating

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            rating = number(row["rating"], "rating")
            if rating is None or not 0 <= rating <= self.config.top_rating:
                remedy = f"a rating lies in 0..{self.config.top_rating:g}: mend it or set top_rating"
                raise BadValue("rating", row["rating"], remedy)
            yield from self._event("RATED", row, films, {"rating": rating * stretch})

        for line, row in self.table(path, _RATINGS):
            yield from self.tell(path, line, read, row)

    def _tags(self, path: Path, films: set[str]) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            key = slug(row["tag"])
            if not key:
                self.repair("tag without letters dropped")
                return
            if self.is_new(f"keyword:{key}"):
                words = " ".join(row["tag"].lower().split())
                yield Node("Keyword", f"keyword:{key}", {"name": words, "sources": (self.name,)})
            yield from self._event("TAGGED", row, films, {}, keyword=(f"keyword:{key}",))

        for line, row in self.table(path, _TAGS):
            yield from self.tell(path, line, read, row)

    def _genome(self, folder: Path, films: set[str]) -> Iterator[Node | Hyperedge]:
        tags = {
            row["tagId"]: row["tag"]
            for _, row in self.table(find_file(folder, "genome-tags.csv"), _GENOME_TAGS)
        }
        path = find_file(folder, "genome-scores.csv")

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            relevance = number(row["relevance"], "relevance")
            if relevance is None or not 0 <= relevance <= 1:
                raise BadValue("relevance", row["relevance"], "0 to 1 belongs here: mend the cell")
            if row["movieId"] not in films:
                raise BadValue(
                    "movieId", row["movieId"], "no such film in movies.csv: add it or remove the row"
                )
            if not (key := slug(tags.get(row["tagId"], ""))):
                raise BadValue(
                    "tagId", row["tagId"], "no such tag in genome-tags.csv: add it or remove the row"
                )
            if relevance < self.config.least_relevance:
                self.repair("tag of the genome below least_relevance left out")
                return
            if self.is_new(f"keyword:{key}"):
                yield Node("Keyword", f"keyword:{key}", {"name": tags[row["tagId"]], "sources": (self.name,)})
            members = {"content": (f"content:movielens:{row['movieId']}",), "keyword": (f"keyword:{key}",)}
            yield Hyperedge("HAS_KEYWORD", members, self.name, {"intensity": relevance})

        for line, row in self.table(path, _GENOME):
            yield from self.tell(path, line, read, row)

    def _event(
        self,
        type: str,
        row: Row,
        films: set[str],
        properties: dict[str, float],
        **members: tuple[str, ...],
    ) -> Iterator[Node | Hyperedge]:
        at = moment_ts(row["timestamp"], "timestamp")
        if row["movieId"] not in films:
            raise BadValue("movieId", row["movieId"], "no such film in movies.csv: add it or remove the row")
        person = user_id(self.name, row["userId"])
        if self.is_new(person):
            yield Node("User", person, {"sources": (self.name,)})
        named = {"user": (person,), "content": (f"content:movielens:{row['movieId']}",), **members}
        yield Hyperedge(type, named, self.name, properties, start_ts=at)


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()
