"""What catalogues without identifiers have in common: contents by title, people by name, genres by word."""

from collections.abc import Iterator
from typing import Any

from kg.records import Hyperedge, Node
from kg.tables import BadValue, TableSource, known, undated
from kg.vocabulary import GENRES, genre_node, genres_of, slug

_TITLE_LIMIT = 1000


def titled(source: TableSource, kind: str, title: str, year: int | None, told: dict[str, Any]) -> Node:
    """A content known by kind, year and title alone; identity joins it with what other sources tell.

    A title that a spreadsheet took for a date (``15-Aug``) stays, and what it was stands beside it.

    Raises:
        BadValue: a title of more than 1,000 letters, or without any.
    """
    if len(title) > _TITLE_LIMIT:
        remedy = f"a title has at most {_TITLE_LIMIT:,} letters, this one {len(title):,}: shorten it"
        raise BadValue("title", title[:80], remedy)
    if not (key := slug(title)):
        raise BadValue("title", title, "a title has letters or digits: mend the cell")
    before = undated(title)
    if before is not None:
        source.repair("title that a spreadsheet took for a date told with what it was")
    named = known(
        kind=kind,
        title=title,
        release_year=year,
        alternate_titles=(before,) if before else (),
        sources=(source.name,),
    )
    return Node("Content", f"content:title:{kind}:{year or ''}:{key}", {**named, **told})


def of_genres(source: TableSource, content: str, words: list[str]) -> Iterator[Node | Hyperedge]:
    """Genres of a content, each once; the node of a genre before the first fact that names it."""
    for genre in dict.fromkeys(id for word in words for id in genres_of(word)):
        if source.is_new(genre):
            if genre.partition(":")[2] not in GENRES:
                source.repair("genre that our table does not know kept as it is")
            yield genre_node(genre, source.name)
        yield Hyperedge("BELONGS_TO", {"content": (content,), "genre": (genre,)}, source.name)


def credited(
    source: TableSource, type: str, content: str, names: list[str], ordered: bool = False
) -> Iterator[Node | Hyperedge]:
    """People of a content by name alone: two of one name are one node until told apart."""
    told: set[str] = set()
    for place, name in enumerate(names):
        key = slug(name)
        if not key or key in told:
            source.repair("name without letters left out" if not key else "repeated credit left out")
            continue
        told.add(key)
        person = f"person:name:{key}"
        if source.is_new(person):
            yield Node("Person", person, {"name": name, "sources": (source.name,)})
        members = {"person": (person,), "content": (content,)}
        yield Hyperedge(type, members, source.name, {"billing_order": place} if ordered else {})
