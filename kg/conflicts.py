"""What one node says where its records disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kg import schema
from kg.ratings import gathered
from kg.records import Node

SCHEMES = ("eidr", "gracenote", "imdb", "tmdb", "justwatch", "movielens", "ml100k", "freebase")
"""Identifiers that several sources share, the most trusted first; others rank behind, by name."""
RESOLVED = ("Content", "Person", "Company", "Award", "License")
"""Types that are known by identifiers; nodes of other types are one where their ids are equal."""
TOGETHER = ("title", "release_year", "kind")
"""Taken from one record, so that the title, year and kind of a node are those of a record."""


@dataclass(frozen=True, slots=True)
class Record:
    """A node as one teller has it."""

    node: Node
    reliability: float
    is_stored: bool
    """True for what the store holds already."""
    order: int
    """Place among all that was told; wins ties."""


def merge(node_id: str, records: Sequence[Record]) -> Node:
    """One node out of what several records say."""
    type, own = records[0].node.type, records[0].node
    if len(records) == 1 and own.id == node_id and _is_plain(own):
        return own
    ranked = sorted(
        records, key=lambda record: (-record.reliability, not record.is_stored)
    )  # stable: ties as added
    told = [record.node.properties for record in ranked]
    merged: dict[str, Any] = {}
    for properties in told:
        for name, value in properties.items():
            merged.setdefault(name, value)
    if type == "Content":
        _merge_content(merged, told)
        merged.pop("ratings", None)
        kept = gathered((record.node.properties, record.is_stored) for record in ranked)
        if kept:
            merged["ratings"] = kept
    ids = {pair for properties in told for pair in properties.get("ids", ())}
    if type in RESOLVED:
        ids |= {key for record in records if ":" in (key := record.node.id.partition(":")[2])}
    if ids:
        merged["ids"] = tuple(sorted(ids, key=lambda pair: (rank(pair.partition(":")[0]), pair)))
    if any("sources" in properties for properties in told):
        merged["sources"] = tuple(
            sorted({name for properties in told for name in properties.get("sources", ())})
        )
    if "simulated" in merged:  # what one real source tells is real
        merged["simulated"] = all(properties.get("simulated", False) for properties in told)
    return Node(type, node_id, merged)


def _merge_content(merged: dict[str, Any], told: list[Mapping[str, Any]]) -> None:
    whole = next((properties for properties in told if all(name in properties for name in TOGETHER)), None)
    if whole is not None:  # from one record, so that the block of the node is the block of a record
        merged.update({name: whole[name] for name in TOGETHER})
    if "synopsis" in merged:
        merged["synopsis"] = max(
            (p["synopsis"] for p in told if "synopsis" in p), key=lambda text: (len(text), text)
        )
    if "release_date" in merged:
        merged["release_date"] = min((p["release_date"] for p in told if "release_date" in p), key=_day)
    titles = {p["title"] for p in told if "title" in p} | {
        t for p in told for t in p.get("alternate_titles", ())
    }
    others = sorted(titles - {merged.get("title")})
    merged.pop("alternate_titles", None)
    if others:
        merged["alternate_titles"] = tuple(others)
    _take_latest_counts(merged, told)


def _day(date: str) -> tuple[str, int]:
    """The last day that a date may mean: a year alone is not earlier than a day in it."""
    return date + "-12-31"[len(date) - len("1999") :], -len(date)


def _take_latest_counts(merged: dict[str, Any], told: list[Mapping[str, Any]]) -> None:
    counted = sorted(told, key=lambda properties: -properties.get("observed_ts", -(2**62)))  # stable
    for name, column in schema.NODES["Content"].columns.items():
        if column.is_observed and name in merged:
            merged[name] = next(properties[name] for properties in counted if name in properties)
    if "observed_ts" in merged:
        merged["observed_ts"] = max(p["observed_ts"] for p in told if "observed_ts" in p)


def rank(scheme: str) -> tuple[int, str]:
    """Place of an identifier's scheme, the most trusted first."""
    return (SCHEMES.index(scheme) if scheme in SCHEMES else len(SCHEMES), scheme)


def _is_plain(node: Node) -> bool:
    """Whether merging a node with nothing leaves it as it is."""
    if node.type not in RESOLVED:
        return True
    return node.type != "Content" and node.properties.get("ids") == (node.id.partition(":")[2],)
