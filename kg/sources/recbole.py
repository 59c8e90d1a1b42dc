"""Atomic files of RecBole: ratings, contents, people, and facts of Freebase about the contents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from configs.loading import load
from kg.privacy import age_band, user_id
from kg.records import Hyperedge, Node, SourceError
from kg.sources import sources
from kg.tables import BadValue, Columns, Row, TableSource, inside, integer, known, missing, number
from kg.titles import move_article, take_apart
from kg.vocabulary import GENRES, genre_node, genres_of, slug

_INTER = Columns(
    {"user_id": ("user",), "item_id": ("item",), "rating": ("score",), "timestamp": ("time", "ts")}
)
_ITEM = Columns(
    {"item_id": ("item",), "movie_title": ("title", "name")},
    {"release_year": ("year",), "class": ("genre", "genres", "categories")},
)
_USER = Columns({"user_id": ("user",)}, {"age": ()})
_LINK = Columns({"item_id": ("item",), "entity_id": ("entity",)})
_KG = Columns({"head_id": ("head",), "relation_id": ("relation",), "tail_id": ("tail",)})

_CREDITS = {
    "film.film.actor": "ACTED_IN",
    "film.film.directed_by": "DIRECTED",
    "film.film.written_by": "WROTE",
    "film.film.produced_by": "PRODUCED",
    "film.film.cinematography": "SHOT",
}
_AWARDS = {"film.film.award_won": "won", "film.film.award_nomination": "nominated"}
_ABOUT = {
    "film.film.production_companies": ("MADE_BY", "company", "Company"),
    "film.film.language": ("SPOKEN_IN", "language", "Language"),
    "film.film.subjects": ("HAS_KEYWORD", "keyword", "Keyword"),
}
_INVERSE = {
    "film.actor.film": "film.film.actor",
    "film.director.film": "film.film.directed_by",
    "film.writer.film": "film.film.written_by",
    "film.producer.film": "film.film.produced_by",
    "film.cinematographer.film": "film.film.cinematography",
    "film.production_company.films": "film.film.production_companies",
    "film.film_subject.films": "film.film.subjects",
    "film.film.sequel": "film.film.prequel",
}
"""Relations that say from the other end what their partner says: each fact becomes one record."""
_LEFT_OUT = {
    "film.film.genre": "genre of Freebase left out: genres come from the contents' file",
    "film.film_genre.films_in_this_genre": "genre of Freebase left out: genres come from the contents' file",
    "film.film.rating": "maturity rating without a name left out",
    "film.content_rating.film": "maturity rating without a name left out",
    "film.film.country": "country without a code left out",
}
_NO_YEAR = ("", "v", "unknown", "unkonwn")


@dataclass(frozen=True)
class RecBoleConfig:
    """Where the files lie, and how their numbers are meant."""

    folder: Path
    """Holds one ``*.inter`` and one ``*.item``; ``.user``, ``.link`` and ``.kg`` are read too."""
    top_rating: float = 5.0
    """Best rating of the scale; ratings are stretched to 0..10."""
    numbering: Mapping[str, str] = field(default_factory=dict)
    """Stem -> settings file ``id in .link: id in .item`` for a release whose .link counts otherwise."""


@sources.register("recbole", RecBoleConfig)
class RecBole(TableSource):
    """Contents, people as keyed hashes with an age band, ratings, and Freebase's facts about linked contents.

    Raw ids, zip code, sex and occupation of people are not kept. Freebase's people, companies, awards,
    subjects and languages have an id and no name. The facts about linked contents are held in memory, to read
    each once.

    The ``.link`` of RecBole's ml-100k numbers films as later MovieLens releases do, not as its ``.item``
    does: taken as it stands it gives nearly every film the facts of another (RUCAIBox/RecSysDatasets, issue
    130). ``numbering`` mends that; a link that it does not hold is left out.

    Source: Zhao et al., "RecBole", CIKM 2021; Zhao et al., "KB4Rec", Data Intelligence 1(2), 2019.
    """

    name = "recbole"
    reliability = 0.70
    tells_its_files_alone = True
    config: RecBoleConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        inter, item = self._file("inter"), self._file("item")
        if inter is None or item is None:
            raise missing(Path(self.config.folder), "*.inter and *.item")
        self._scheme = slug(inter.stem).replace("-", "")
        contents: set[str] = set()
        films = self._films_by_entity()
        yield from self._contents(
            item, contents, {item: entity for entity, items in films.items() for item in items}
        )
        if (user := self._file("user")) is not None:
            yield from self._users(user)
        yield from self._ratings(inter, contents)
        if films and (facts := self._file("kg")) is not None:
            known_films = {
                entity: [f"content:{self._scheme}:{item}" for item in items if item in contents]
                for entity, items in films.items()
            }
            yield from self._facts(facts, known_films)

    def _file(self, kind: str) -> Path | None:
        folder = Path(self.config.folder)
        if not folder.is_dir():
            raise missing(folder, "*.inter and *.item")
        found = sorted(folder.glob(f"*.{kind}"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise SourceError(folder, f"one file *.{kind}", names, "keep one data set a folder")
        return inside(folder, found[0]) if found else None

    def _films_by_entity(self) -> dict[str, list[str]]:
        path = self._file("link")
        if path is None:
            return {}
        stated = self.config.numbering.get(path.stem)
        numbering = _numbering(stated) if stated else None
        films: dict[str, list[str]] = {}
        for _, row in self.table(path, _LINK, delimiter="\t"):
            items = [row["item_id"]] if numbering is None else numbering.get(row["item_id"], [])
            if not items:
                self.repair("link to a content that the numbering does not hold left out")
            elif items != [row["item_id"]]:
                self.repair("link renumbered as the contents are")
            films.setdefault(row["entity_id"], []).extend(items)
        return films

    def _contents(
        self, path: Path, contents: set[str], entities: dict[str, str]
    ) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            if not row["movie_title"]:
                self.repair("content without a title dropped")
                return
            title = take_apart(row["movie_title"])
            key = f"{self._scheme}:{row['item_id']}"
            year = None
            if row["release_year"].lower() not in _NO_YEAR:
                year = integer(row["release_year"], "release_year")
            elif title.year is None:
                self.repair("release year that is none left out")
            entity = entities.get(row["item_id"])
            yield Node(
                "Content",
                f"content:{key}",
                known(
                    kind="movie",
                    title=move_article(title.title),
                    alternate_titles=title.alternates,
                    release_year=year or title.year,
                    ids=(key, *((f"freebase:{entity}",) if entity else ())),
                    sources=(self.name,),
                ),
            )
            for genre in dict.fromkeys(id for word in row["class"].split() for id in genres_of(word)):
                if self.is_new(genre):
                    if genre.partition(":")[2] not in GENRES:
                        self.repair("genre that our table does not know kept as it is")
                    yield genre_node(genre, self.name)
                yield Hyperedge("BELONGS_TO", {"content": (f"content:{key}",), "genre": (genre,)}, self.name)
            contents.add(row["item_id"])

        for line, row in self.table(path, _ITEM, delimiter="\t"):
            yield from self.tell(path, line, read, row)

    def _users(self, path: Path) -> Iterator[Node | Hyperedge]:
        def read(row: Row) -> Iterator[Node | Hyperedge]:
            age = integer(row["age"], "age")
            person = user_id(self._scheme, row["user_id"])
            if self.is_new(person):
                band = age_band(age) if age else None
                yield Node("User", person, known(age_band=band, sources=(self.name,)))

        for line, row in self.table(path, _USER, delimiter="\t"):
            yield from self.tell(path, line, read, row)

    def _ratings(self, path: Path, contents: set[str]) -> Iterator[Node | Hyperedge]:
        stretch = 10 / self.config.top_rating

        def read(row: Row) -> Iterator[Node | Hyperedge]:
            rating, at = number(row["rating"], "rating"), number(row["timestamp"], "timestamp")
            if rating is None or not 0 <= rating <= self.config.top_rating:
                remedy = f"a rating lies in 0..{self.config.top_rating:g}: mend it or set top_rating"
                raise BadValue("rating", row["rating"], remedy)
            if at is None or at < 0:
                raise BadValue("timestamp", row["timestamp"], "UTC seconds belong here: mend the cell")
            if row["item_id"] not in contents:
                self.repair("rating of a content that was dropped left out")
                return
            person = user_id(self._scheme, row["user_id"])
            if self.is_new(person):
                yield Node("User", person, {"sources": (self.name,)})
            members = {"user": (person,), "content": (f"content:{self._scheme}:{row['item_id']}",)}
            yield Hyperedge("RATED", members, self.name, {"rating": rating * stretch}, start_ts=int(at))

        for line, row in self.table(path, _INTER, delimiter="\t"):
            yield from self.tell(path, line, read, row)

    def _facts(self, path: Path, films: dict[str, list[str]]) -> Iterator[Node | Hyperedge]:
        told: dict[tuple[str, str, str], None] = {}  # (film, relation, other), in the order of the file
        for _, row in self.table(path, _KG, delimiter="\t"):
            head, relation, tail = row["head_id"], row["relation_id"], row["tail_id"]
            if relation in _LEFT_OUT:
                self.repair(_LEFT_OUT[relation])
                continue
            if relation in _INVERSE:
                head, relation, tail = tail, _INVERSE[relation], head
            if head not in films:
                self.repair("fact about an entity that no content is linked to left out")
            elif (head, relation, tail) in told:
                self.repair("fact told from both ends read once")
            else:
                told[head, relation, tail] = None
        for head, relation, tail in told:
            for content in films[head]:
                yield from self._fact(content, relation, tail, films, told, head)

    def _fact(
        self,
        content: str,
        relation: str,
        entity: str,
        films: dict[str, list[str]],
        told: Mapping[tuple[str, str, str], None],
        head: str,
    ) -> Iterator[Node | Hyperedge]:
        if relation in _CREDITS:
            yield from self._named("Person", "person", entity)
            members = {"person": (f"person:freebase:{entity}",), "content": (content,)}
            yield Hyperedge(_CREDITS[relation], members, self.name)
        elif relation in _ABOUT:
            type, role, node_type = _ABOUT[relation]
            yield from self._named(node_type, role, entity)
            yield Hyperedge(type, {"content": (content,), role: (f"{role}:freebase:{entity}",)}, self.name)
        elif relation in _AWARDS:
            if _AWARDS[relation] == "nominated" and (head, "film.film.award_won", entity) in told:
                self.repair("nomination for an award that was won left out")
                return
            yield from self._named("Award", "award", entity)
            members = {"content": (content,), "award": (f"award:freebase:{entity}",)}
            yield Hyperedge("AWARDED", members, self.name, {"result": _AWARDS[relation]})
        elif relation == "film.film.prequel":
            for original in films.get(entity, ()):
                if original != content:
                    yield Hyperedge("SEQUEL_OF", {"content": (content,), "original": (original,)}, self.name)
        else:
            self.repair(f"relation {relation} that we have no fact for left out")

    def _named(self, type: str, prefix: str, entity: str) -> Iterator[Node]:
        node_id = f"{prefix}:freebase:{entity}"
        if self.is_new(node_id):
            yield Node(type, node_id, {"ids": (f"freebase:{entity}",), "sources": (self.name,)})


def _numbering(settings: str) -> dict[str, list[str]]:
    pairs = load(settings)
    return {
        str(old): [str(new) for new in (news if isinstance(news, list) else [news])]
        for old, news in pairs.items()
    }
