"""Short paths in the graph from one content to another, through what both have; and how to say them.

i contents · v nodes of all types · e entries (content, node, link) · h of a history · s their entries."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kg import schema
from kg.arrays import GraphArrays
from models.phrases import NAMELESS, Link, Shared, quoted, say

LINKS = (
    Link("DIRECTED", "content", "person", "director", "directors", "directed", is_only=True),
    Link("ACTED_IN", "content", "person", "actor", "actors", "acted in"),
    Link("WROTE", "content", "person", "writer", "writers", "wrote"),
    Link("PRODUCED", "content", "person", "producer", "producers", "produced"),
    Link("SHOT", "content", "person", "cinematographer", "cinematographers", "shot", is_only=True),
    Link("HAS_KEYWORD", "content", "keyword", "keyword", "keywords"),
    Link("TAGGED", "content", "keyword", "tag", "tags"),
    Link("HAS_THEME", "content", "theme", "theme", "themes"),
    Link("HAS_MOOD", "content", "mood", "mood", "moods"),
    Link("BELONGS_TO", "content", "genre", "genre", "genres"),
    Link("AWARDED", "content", "award", "award", "awards"),
    Link("MADE_BY", "content", "company", "company", "companies"),
    Link("MADE_IN", "content", "region", "country", "countries"),
    Link("SPOKEN_IN", "content", "language", "language", "languages"),
    Link("SEQUEL_OF", "content", "original", "original", "originals", direct="is a sequel of"),
    Link("SEQUEL_OF", "original", "content", "sequel", "sequels", direct="is continued by"),
    Link("HAS_SEASON", "content", "season", "season", "seasons", direct="has the season"),
    Link("HAS_SEASON", "season", "content", "series", "series", direct="is a season of"),
    Link("HAS_EPISODE", "content", "episode", "episode", "episodes", direct="has the episode"),
    Link("HAS_EPISODE", "episode", "content", "season", "seasons", direct="is an episode of"),
)


@dataclass(frozen=True)
class Path:
    """All short paths between a content and one of a history, as one."""

    content_row: int
    """The content of the history."""
    title: str
    shared: tuple[Shared, ...]
    """What both have, the most surprising first."""
    surprise: float
    """Σ −log(share of contents that have it) over what both have."""

    @property
    def facts(self) -> frozenset[str]:
        """Fact types that it goes through."""
        return frozenset(fact for shared in self.shared for fact in (shared.link.fact, shared.theirs.fact))

    @property
    def text(self) -> str:
        """In words, without an id: "shares two actors and the director with *Heat*"."""
        return say(self.shared, self.title)


class GraphPaths:
    """Who is linked to what, as one csr over all links; built once from a graph.

    A path has at most three hops from a person: to a title of the history, to what it has, to the content
    that has it too; or one hop less where one title continues the other.

    Cost: O(e log e) once; O(s) a question, times the log of how much a content has.
    """

    facts: ClassVar[frozenset[str]] = frozenset(link.fact for link in LINKS)
    """Fact types that a path may go through."""

    def __init__(self, graph: GraphArrays) -> None:
        self._graph = graph
        self._types = tuple(schema.NODES)
        self._first = np.cumsum([0, *(graph.size(type) for type in self._types)]).tolist()
        total = max(self._first[-1], 1)  # v
        self._names = {
            type: table["title" if type == "Content" else "name"].combine_chunks()
            for type, table in graph.nodes.items()
            if type not in ("User", "License")
        }
        keys = [self._entries(number) for number in range(len(LINKS))]
        # (e,) one int64 a (content, node, link), ascending
        rest, links = np.divmod(np.unique(np.concatenate(keys)), len(LINKS))
        contents, nodes = np.divmod(rest, total)
        self._nodes, self._links = nodes.astype(np.int32), links.astype(np.int8)
        count = graph.size("Content")
        self._starts = np.searchsorted(contents, np.arange(count + 1))
        having = np.bincount(np.unique(rest) % total, minlength=total)
        self._surprise = np.log(max(count, 1) / np.maximum(having, 1))  # (v,)

    def between(
        self, history: np.ndarray, content_row: int, facts: Sequence[str] | None = None, n: int = 3
    ) -> list[Path]:
        """The most surprising paths from a history to a content, one a content of the history.

        Args:
            history: (h,) content rows.
            content_row: the content that was recommended.
            facts: fact types that a path may go through; None allows all.
            n: how many at most.
        """
        history = np.unique(np.asarray(history, np.int64))
        history = history[history != content_row]
        own = slice(self._starts[content_row], self._starts[content_row + 1])
        allowed = np.array([facts is None or link.fact in facts for link in LINKS])
        is_own = allowed[self._links[own]]
        nodes, links = self._nodes[own][is_own], self._links[own][is_own]
        if not len(nodes) or not len(history):
            return []
        place, node, theirs = self._having(history, nodes, allowed)
        is_first = np.ones(len(place), bool)
        # a node may be had in two ways (who directed also wrote): it surprises once
        is_first[1:] = (place[1:] != place[:-1]) | (node[1:] != node[:-1])
        total = np.bincount(place[is_first], self._surprise[node[is_first]], len(history))
        best = np.flatnonzero(total > 0)
        best = best[np.argsort(-total[best], kind="stable")][:n]
        ours = _links_of(nodes, links)
        found = []
        for one, start, end in zip(
            best.tolist(), place.searchsorted(best), place.searchsorted(best, "right"), strict=True
        ):
            shared = self._merged(ours, _links_of(node[start:end], theirs[start:end]))
            row = int(history[one])
            found.append(Path(row, self.title(row), shared, float(total[one])))
        return found

    def title(self, content_row: int) -> str:
        """Title of a content in words that can be shown."""
        return self._names["Content"][int(content_row)].as_py() or NAMELESS

    def _entries(self, number: int) -> np.ndarray:
        """(e,) int64 keys of one kind of link: ((content · v) + node) · links + link."""
        link = LINKS[number]
        facts, contents = self._graph.incidence(link.fact, link.content_role)
        others, members = self._graph.incidence(link.fact, link.node_role)
        if not np.array_equal(facts, others):
            raise ValueError(
                f"a {link.fact} must have one {link.content_role} and one {link.node_role}: export again"
            )
        first, total = self._border(schema.FACTS[link.fact].role(link.node_role).types[0])
        return (contents * total + first + members) * len(LINKS) + number

    def _border(self, type: str) -> tuple[int, int]:
        """Number of the first node of a type, and of all nodes."""
        return self._first[self._types.index(type)], self._first[-1]

    def _having(
        self, history: np.ndarray, nodes: np.ndarray, allowed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which contents of a history have, or are, one of ``nodes`` (ascending).

        Returns:
            Place in the history, node, and number of their link (-1: the content is the node), ascending.
        """
        starts = self._starts[history]
        lengths = self._starts[history + 1] - starts
        ends = lengths.cumsum()
        entries = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
        node, link = self._nodes[entries], self._links[entries]
        kept = np.flatnonzero(_among(nodes, node) & allowed[link])
        place = np.searchsorted(ends, kept, side="right")
        themselves = (history + self._border("Content")[0]).astype(np.int32)
        direct = np.flatnonzero(_among(nodes, themselves))
        if not len(direct):
            return place, node[kept], link[kept]
        place, node = np.r_[place, direct], np.r_[node[kept], themselves[direct]]
        link = np.r_[link[kept], np.full(len(direct), -1, np.int8)]
        order = np.lexsort((link, node, place))
        return place[order], node[order], link[order]

    def _merged(self, ours: dict[int, list[int]], theirs: dict[int, list[int]]) -> tuple[Shared, ...]:
        """Shared nodes by how both contents have them; a node had alike by both counts as that alone."""
        groups: dict[tuple[int, int], list[int]] = {}
        for node, others in theirs.items():
            # of several ways the first of LINKS: directed stands before wrote
            alike = [link for link in ours[node] if link in others]
            pair = (alike[0], alike[0]) if alike else (ours[node][0], others[0])
            groups.setdefault(pair, []).append(node)
        found = [self._group(*pair, members) for pair, members in groups.items()]
        return tuple(sorted(found, key=lambda group: (-group.surprise, group.link.one, group.theirs.one)))

    def _group(self, ours: int, theirs: int, nodes: list[int]) -> Shared:
        names = [self._name(node) for node in nodes]
        return Shared(
            LINKS[ours],
            LINKS[theirs] if theirs >= 0 else LINKS[ours],
            tuple(name for name in names if name),
            len(nodes),
            float(self._surprise[nodes].sum()),
            is_direct=theirs < 0,
        )

    def _name(self, node: int) -> str:
        """What a node is called, '' where nobody told; its id is not a name."""
        type = self._types[bisect_right(self._first, node) - 1]
        name = self._names[type][node - self._border(type)[0]].as_py() or ""
        return quoted(name) if name and type == "Content" else name


def _among(sorted_nodes: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """(s,) bool: which of ``nodes`` are among the sorted ones, of which there is at least one."""
    at = sorted_nodes.searchsorted(nodes)
    return sorted_nodes[np.minimum(at, len(sorted_nodes) - 1)] == nodes


def _links_of(nodes: np.ndarray, links: np.ndarray) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for node, link in zip(nodes.tolist(), links.tolist(), strict=True):
        found.setdefault(node, []).append(link)
    return found
