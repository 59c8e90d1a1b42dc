"""MovieLens in its older layouts: ml-100k (u.data, u.item), ml-1m and ml-10m (ratings.dat with ``::``)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kg.privacy import age_band, user_id
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.tables import (
    BadValue,
    Columns,
    Row,
    TableSource,
    find_file,
    integer,
    known,
    missing,
    moment_ts,
    number,
    words,
)
from kg.titled import of_genres
from kg.titles import take_apart
from kg.vocabulary import slug

_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary"),
    *("Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi"),
    *("Thriller", "War", "Western"),
)
_RATINGS = ("userId", "movieId", "rating", "timestamp")
_TAGS = ("userId", "movieId", "tag", "timestamp")
_MOVIES = ("movieId", "title", "genres")
_ITEMS = ("movieId", "title", "released", "videoReleased", "url", *_GENRES_100K)
_USERS = ("userId", "sex", "age", "occupation", "zip")
_PEOPLE = ("userId", "age", "sex", "occupation", "zip")


@dataclass(frozen=True)
class MovieLensClassicConfig:
    """Where the files lie."""

    folder: Path
    """Holds u.data and u.item, or ratings.dat and movies.dat; people and tags are read where they are."""
    top_rating: float = 5.0
    """Best rating of the scale; ratings are stretched to 0..10."""


@sources.register("movielens_classic", MovieLensClassicConfig)
class MovieLensClassic(TableSource):
    """Films, ratings, tags, and people as keyed hashes with an age band; the files have no headers.

    Sex, occupation and zip code are not kept. The ids of the films are held in memory. Ids of
    people and films carry ``ml100k``, or ``movielens`` whose films 1m, 10m and the later releases share.

    Source: Harper and Konstan, "The MovieLens Datasets", ACM TiiS 5(4), 2015.
    """

    name = "movielens_classic"
    reliability = 0.70
    tells_its_files_alone = True
    config: MovieLensClassicConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        folder = Path(self.config.folder)
        self._films: set[str] = set()
        if (folder / "u.data").is_file():
            self._scheme = "ml100k"
            yield from self._contents(find_file(folder, "u.item"), "|", _ITEMS)
            yield from self._people(folder, "u.user", "|", _PEOPLE)
            yield from self._ratings(find_file(folder, "u.data"), "\t")
            return
        if not folder.is_dir() or not (folder / "ratings.dat").is_file():
            raise missing(folder, "u.data and u.item, or ratings.dat and movies.dat")
        self._scheme = "movielens"
        yield from self._contents(find_file(folder, "movies.dat"), "::", _MOVIES)
        yield from self._people(folder, "users.dat", "::", _USERS)
        yield from self._ratings(find_file(folder, "ratings.dat"), "::")
        if (folder / "tags.dat").is_file():
            yield from self._tags(find_file(folder, "tags.dat"))

    def _rows(self, path: Path, delimiter: str, header: Sequence[str]) -> Iterator[tuple[int, Row]]:
        return self.table(path, Columns({name: () for name in header}), delimiter, header=header)

    def _contents(self, path: Path, delimiter: str, header: Sequence[str]) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if not row["title"] or row["title"] == "unknown":
                self.repair("film without a title told by its number alone")
            title = take_apart(row["title"])
            key = f"{self._scheme}:{row['movieId']}"
            named = known(
                kind="movie",
                title=title.title,
                alternate_titles=title.alternates,
                release_year=title.year,
                ids=(key,),
                sources=(self.name,),
            )
            content = f"content:{key}"
            yield Node("Content", content, named)
            if "genres" in row:
                genres = words(row["genres"], "genres")
            else:
                genres = [genre for genre in _GENRES_100K if row[genre] == "1"]
            yield from of_genres(self, content, genres)
            self._films.add(row["movieId"])

        for line, row in self._rows(path, delimiter, header):
            yield from self.tell(path, line, read, row)

    def _people(
        self, folder: Path, name: str, delimiter: str, header: Sequence[str]
    ) -> Iterator[Node | Hyperedge]:
        if not (folder / name).is_file():
            return

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            age = integer(row["age"], "age")
            person = user_id(self._scheme, row["userId"])
            if self.is_new(person):
                band = age_band(age) if age else None
                yield Node("User", person, known(age_band=band, sources=(self.name,)))

        path = find_file(folder, name)
        for line, row in self._rows(path, delimiter, header):
            yield from self.tell(path, line, read, row)

    def _ratings(self, path: Path, delimiter: str) -> Iterator[Node | Hyperedge]:
        stretch = 10 / self.config.top_rating

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            rating = number(row["rating"], "rating")
            if rating is None or not 0 <= rating <= self.config.top_rating:
                remedy = f"a rating lies in 0..{self.config.top_rating:g}: mend it or set top_rating"
                raise BadValue("rating", row["rating"], remedy)
            yield from self._event("RATED", row, {"rating": rating * stretch}, {})

        for line, row in self._rows(path, delimiter, _RATINGS):
            yield from self.tell(path, line, read, row)

    def _tags(self, path: Path) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if not (key := slug(row["tag"])):
                self.repair("tag without letters dropped")
                return
            if self.is_new(f"keyword:{key}"):
                named = {"name": " ".join(row["tag"].lower().split()), "sources": (self.name,)}
                yield Node("Keyword", f"keyword:{key}", named)
            yield from self._event("TAGGED", row, {}, {"keyword": (f"keyword:{key}",)})

        for line, row in self._rows(path, "::", _TAGS):
            yield from self.tell(path, line, read, row)

    def _event(
        self, type: str, row: Row, properties: dict[str, float], others: dict[str, tuple[str, ...]]
    ) -> Iterator[Node | Hyperedge]:
        at = moment_ts(row["timestamp"], "timestamp")
        if row["movieId"] not in self._films:
            raise BadValue("movieId", row["movieId"], "no such film in the list: add it or remove the row")
        person = user_id(self._scheme, row["userId"])
        if self.is_new(person):
            yield Node("User", person, {"sources": (self.name,)})
        members = {"user": (person,), "content": (f"content:{self._scheme}:{row['movieId']}",), **others}
        yield Hyperedge(type, members, self.name, properties, start_ts=at)
