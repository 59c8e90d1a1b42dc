"""What records are compared by before any likeness: identifiers, and title with year and kind."""

from collections.abc import Iterable
from dataclasses import replace

from kg.conflicts import RESOLVED, TOGETHER, Record, rank
from kg.records import Node
from kg.strong_ids import is_sound
from kg.titles import normalise_title


def identifiers(records: list[Record]) -> tuple[str, ...]:
    """What the records under one id say of other ids, as ``scheme:value``."""
    if records[0].node.type not in RESOLVED:
        return ()
    if len(records) == 1:
        told: Iterable[str] = records[0].node.properties.get("ids", ())  # type: ignore[assignment]
    else:
        told = dict.fromkeys(pair for record in records for pair in record.node.properties.get("ids", ()))  # type: ignore[union-attr]
    return tuple(pair for pair in told if is_sound(pair))


def without_ids(node: Node, others: frozenset[str]) -> Node:
    """The node without those of its identifiers that, written as node ids, are among ``others``."""
    prefix = node.id.partition(":")[0]
    ids = tuple(pair for pair in node.properties["ids"] if f"{prefix}:{pair}" not in others)  # type: ignore[union-attr]
    return replace(node, properties={**node.properties, "ids": ids})


def id_rank(node_id: str) -> tuple[tuple[int, str], str]:
    """Order of node ids: by how trusted their scheme is, then by name."""
    return rank(node_id.partition(":")[2].partition(":")[0]), node_id


def block_of(node: Node) -> tuple[str, int, str] | None:
    """Comparable title, year and kind of a content; None where one of them is not known."""
    if node.type != "Content":
        return None
    title, year, kind = (node.properties.get(name) for name in TOGETHER)
    words = normalise_title(str(title)) if title else ""
    return (words, int(year), str(kind)) if words and year and kind else None  # type: ignore[arg-type]


def disagree(first: Node, second: Node) -> bool:
    """Whether both the titles and the years of two contents differ, so that an id of both is doubtful."""
    titles = [normalise_title(str(node.properties.get("title", ""))) for node in (first, second)]
    years = [node.properties.get("release_year") for node in (first, second)]
    if not all(titles) or None in years:
        return False
    return titles[0] != titles[1] and abs(int(years[0]) - int(years[1])) > 1  # type: ignore[arg-type]
