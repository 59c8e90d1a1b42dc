"""Decides which records are one node: by identifiers first, then by title, year and kind.

Which records join depends on what was said, not on who spoke first; said twice, it changes nothing."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from configs.registry import import_parts
from kg import schema
from kg.records import Node
from kg.sources import sources

import_parts("kg.sources")

SCHEMES = ("eidr", "gracenote", "imdb", "tmdb", "justwatch", "movielens", "ml100k", "freebase")
"""Identifiers that several sources share, the most trusted first; others rank behind, by name."""
RESOLVED = ("Content", "Person", "Company", "Award", "License")
"""Types that are known by identifiers; nodes of other types are one where their ids are equal."""
DEFAULT_RELIABILITY = 0.7
"""Of a stored node none of whose sources is registered here: that of an aggregator."""
_TOGETHER = ("title", "release_year", "kind")
_ARTICLE = re.compile(r"^(?:the|an?|la|le|les|el|il|der|die|das)\s+(?=\S)")
_BRACKETS = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_TITLE_IDS = "title"  # a key made of title, year and kind by a source without identifiers: it proves nothing


@dataclass(frozen=True)
class Merge:
    """One record that turned out to be another node: an entry of the identity log."""

    kept: str
    """Id of the node that stands."""
    merged: str
    """Id that the record came with; facts that name it mean ``kept``."""
    evidence: str
    """What showed it: ``imdb:tt0114709``, or ``title: heat, 1995, movie``."""
    is_contested: bool = False
    """True where an identifier joins two records whose titles and years both disagree."""
    was_stored: bool = False
    """True where ``merged`` stood in the store as a node of its own: it has to be erased there."""


@dataclass
class _Record:
    node: Node
    reliability: float
    is_stored: bool
    order: int


class Resolver:
    """Collects the nodes of all sources and says which are one.

    Two records are one when they share an identifier and no stronger one contradicts; then, for contents,
    when title, exact year and kind agree, and no identifier contradicts. An identifier or a title that
    contradicting records claim joins nothing: better two nodes than a wrong one.

    Example:
        >>> resolver = Resolver()
        >>> for key in ("movielens:6", "justwatch:tm1"):
        ...     resolver.add(Node("Content", f"content:{key}", {"ids": ("imdb:tt0113277",)}), 0.7)
        >>> resolver.finish()
        >>> resolver.canonical("content:justwatch:tm1")
        'content:imdb:tt0113277'
    """

    def __init__(self, existing: Iterable[Node] = (), by_title: bool = True) -> None:
        """Starts from the nodes that a store holds.

        Args:
            existing: nodes that stand already; their ids are kept.
            by_title: False joins by identifiers only.
        """
        self.log: list[Merge] = []
        self._by_title = by_title
        self._records: dict[
            str, list[_Record]
        ] = {}  # node id -> what was said under it, the stored one first
        self._parent: dict[str, str] = {}
        self._members: dict[str, list[str]] = {}  # root -> node ids of its group
        self._ids: dict[str, dict[str, set[str]]] = {}  # root -> scheme -> values
        self._evidence: dict[str, str] = {}  # node id -> what joined it
        self._canonical: dict[str, str] = {}
        self._finished = False
        self._count = 0
        for node in sorted(existing, key=lambda node: node.id):
            self._keep(node, _reliability_of(node), is_stored=True)

    def add(self, node: Node, reliability: float) -> None:
        """Takes in what a source says of a node; sources are added in the order in which they win ties."""
        if self._finished:
            raise RuntimeError(
                f"nodes are added before finish(), got {node.id} after it: make a new Resolver"
            )
        known = self._records.get(node.id)
        if known is None or all(node.properties != record.node.properties for record in known):
            self._keep(node, reliability, is_stored=False)
        elif not any(not record.is_stored for record in known):
            self._keep(node, reliability, is_stored=False)

    def finish(self) -> None:
        """Decides; from here on ``nodes``, ``canonical`` and ``log`` answer."""
        if self._finished:
            return
        self._finished = True
        claims = self._open_groups()
        self._join_aliases(claims)
        self._join_by_ids(claims)
        if self._by_title:
            self._join_by_title()
        self._name_groups(claims)

    def nodes(self) -> Iterator[Node]:
        """One node a group that somebody spoke of since the store, by id; the store's others are left out."""
        self._must_be_finished()
        for root in sorted(self._members, key=lambda root: self._canonical[root]):
            records = [record for member in self._members[root] for record in self._records[member]]
            if any(not record.is_stored for record in records):
                yield _merge(self._canonical[root], records)

    def canonical(self, node_id: str) -> str:
        """The id of the node that ``node_id`` means; an id that nobody described stays as it is."""
        self._must_be_finished()
        return self._canonical.get(node_id, node_id)

    def _must_be_finished(self) -> None:
        if not self._finished:
            raise RuntimeError("identity is decided over all records at once: call finish() first")

    def _keep(self, node: Node, reliability: float, is_stored: bool) -> None:
        self._records.setdefault(node.id, []).append(_Record(node, reliability, is_stored, self._count))
        self._count += 1

    def _open_groups(self) -> dict[tuple[str, str, str], list[str]]:
        """Makes each node id a group; returns who claims an identifier: (type, scheme, value) -> node ids."""
        claims: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for node_id in sorted(self._records):
            self._parent[node_id] = node_id
            self._members[node_id] = [node_id]
            known: dict[str, set[str]] = {}
            for scheme, value in _identifiers(node_id, self._records[node_id]):
                if value not in known.setdefault(scheme, set()):
                    known[scheme].add(value)
                    claims[self._records[node_id][0].node.type, scheme, value].append(node_id)
            self._ids[node_id] = known
        return claims

    def _join_aliases(self, claims: Mapping[tuple[str, str, str], list[str]]) -> None:
        """A record under an id that a stored node took over before is that node."""
        for node_id, records in self._records.items():
            if any(record.is_stored for record in records):
                continue
            scheme, _, value = node_id.partition(":")[2].partition(":")
            holders = [
                other
                for other in claims.get((records[0].node.type, scheme, value), ())
                if self._records[other][0].is_stored
            ]
            if len(holders) == 1:
                self._join([holders[0], node_id], f"{scheme}:{value}")

    def _join_by_ids(self, claims: Mapping[tuple[str, str, str], list[str]]) -> None:
        shared = [(claim, members) for claim, members in claims.items() if len(members) > 1]
        for (_, scheme, value), members in sorted(shared, key=lambda pair: (_rank(pair[0][1]), pair[0])):
            if scheme == _TITLE_IDS:
                continue
            roots = sorted({self._root(member) for member in members})
            if len(roots) > 1 and not self._contradict(roots, stronger_than=scheme):
                self._join(members, f"{scheme}:{value}")

    def _join_by_title(self) -> None:
        blocks: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        for node_id, records in self._records.items():
            for record in records:
                if (block := _block(record.node)) is not None:
                    blocks[block].append(node_id)
        for block, members in sorted(blocks.items()):
            roots = sorted({self._root(member) for member in members})
            if len(roots) > 1 and not self._contradict(roots):
                self._join(members, f"title: {', '.join(map(str, block))}")

    def _contradict(self, roots: list[str], stronger_than: str | None = None) -> bool:
        """Whether two of these groups differ in a scheme (one that ranks before ``stronger_than``)."""
        for place, first in enumerate(roots):
            for second in roots[place + 1 :]:
                for scheme in self._ids[first].keys() & self._ids[second].keys():
                    if scheme == _TITLE_IDS or (stronger_than and _rank(scheme) >= _rank(stronger_than)):
                        continue
                    if not self._ids[first][scheme] & self._ids[second][scheme]:
                        return True
        return False

    def _join(self, members: list[str], evidence: str) -> None:
        kept = self._root(members[0])
        for member in members[1:]:
            root = self._root(member)
            if root == kept:
                continue
            self._parent[root] = kept
            self._members[kept] += self._members.pop(root)
            for scheme, values in self._ids.pop(root).items():
                self._ids[kept].setdefault(scheme, set()).update(values)
            self._evidence.setdefault(root, evidence)
            self._evidence.setdefault(member, evidence)
        self._evidence.setdefault(kept, evidence)

    def _root(self, node_id: str) -> str:
        while self._parent[node_id] != node_id:
            self._parent[node_id] = self._parent[self._parent[node_id]]
            node_id = self._parent[node_id]
        return node_id

    def _name_groups(self, claims: Mapping[tuple[str, str, str], list[str]]) -> None:
        for root, members in self._members.items():
            if len(members) == 1:
                self._canonical[root] = self._mint(root, claims) if self._is_new(root) else root
        for root, members in self._members.items():
            if len(members) > 1:
                self._name_group(root, members, claims)
        for (_, scheme, value), holders in claims.items():  # ids of former imports stay as aliases
            alias = f"{holders[0].partition(':')[0]}:{scheme}:{value}"
            if alias not in self._canonical and len({self._root(holder) for holder in holders}) == 1:
                self._canonical[alias] = self._canonical[self._root(holders[0])]

    def _name_group(
        self, root: str, members: list[str], claims: Mapping[tuple[str, str, str], list[str]]
    ) -> None:
        stored = sorted((member for member in members if not self._is_new(member)), key=_id_rank)
        kept = stored[0] if stored else self._mint(root, claims)
        known = {
            f"{scheme}:{value}" for id in stored[:1] for scheme, value in _identifiers(id, self._records[id])
        }
        first = max(
            (record for id in members for record in self._records[id]), key=lambda r: r.reliability
        ).node
        for member in sorted(members):
            self._canonical[member] = kept
            was_known = member.partition(":")[2] in known and member not in stored[1:]
            if member != kept and not was_known:
                node = self._records[member][0].node
                self.log.append(
                    Merge(
                        kept,
                        member,
                        self._evidence.get(member, "same group"),
                        _disagree(first, node),
                        member in stored,
                    )
                )

    def _is_new(self, node_id: str) -> bool:
        return not self._records[node_id][0].is_stored

    def _mint(self, root: str, claims: Mapping[tuple[str, str, str], list[str]]) -> str:
        """The id of a new node: its strongest identifier that nobody else claims."""
        first = self._records[self._members[root][0]][0].node
        for scheme in sorted(self._ids[root], key=_rank):
            for value in sorted(self._ids[root][scheme]):
                if all(self._root(other) == root for other in claims[first.type, scheme, value]):
                    return f"{root.partition(':')[0]}:{scheme}:{value}"
        return min(self._members[root], key=_id_rank)


def normalise_title(title: str) -> str:
    """A title as it is compared: lower case, ASCII, ``&`` as ``and``, without brackets and leading article.

    Example:
        >>> normalise_title("The Fast & the Furious (2001)"), normalise_title("Amélie")
        ('fast and the furious', 'amelie')
    """
    bare = _BRACKETS.sub(" ", title) or title
    plain = unicodedata.normalize("NFKD", bare.replace("&", " and ").lower())
    folded = "".join(letter for letter in plain if not unicodedata.combining(letter)).replace("'", "")
    words = " ".join(re.findall(r"\w+", folded.replace("’", "")))
    return _ARTICLE.sub("", words)


def _identifiers(node_id: str, records: list[_Record]) -> Iterator[tuple[str, str]]:
    if records[0].node.type not in RESOLVED:
        return
    scheme, colon, value = node_id.partition(":")[2].partition(":")
    if colon:
        yield scheme, value
    for record in records:
        for pair in record.node.properties.get("ids", ()):  # type: ignore[union-attr]
            scheme, _, value = pair.partition(":")
            yield scheme, value


def _rank(scheme: str) -> tuple[int, str]:
    return (SCHEMES.index(scheme) if scheme in SCHEMES else len(SCHEMES), scheme)


def _id_rank(node_id: str) -> tuple[tuple[int, str], str]:
    return _rank(node_id.partition(":")[2].partition(":")[0]), node_id


def _block(node: Node) -> tuple[str, int, str] | None:
    if node.type != "Content":
        return None
    title, year, kind = (node.properties.get(name) for name in _TOGETHER)
    words = normalise_title(str(title)) if title else ""
    return (words, int(year), str(kind)) if words and year and kind else None  # type: ignore[arg-type]


def _disagree(first: Node, second: Node) -> bool:
    titles = [normalise_title(str(node.properties.get("title", ""))) for node in (first, second)]
    years = [node.properties.get("release_year") for node in (first, second)]
    if not all(titles) or None in years:
        return False
    return titles[0] != titles[1] and abs(int(years[0]) - int(years[1])) > 1  # type: ignore[arg-type]


def _reliability_of(node: Node) -> float:
    told = [sources[name].reliability for name in node.properties.get("sources", ()) if name in sources]  # type: ignore[union-attr]
    return max(told, default=DEFAULT_RELIABILITY)


def _merge(node_id: str, records: list[_Record]) -> Node:
    """One node out of what several records say, see graph.md 5: conflicts."""
    type = records[0].node.type
    if len(records) == 1 and records[0].node.id == node_id:
        return records[0].node
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
    ids = {pair for properties in told for pair in properties.get("ids", ())}
    if type in RESOLVED:
        ids |= {key for record in records if ":" in (key := record.node.id.partition(":")[2])}
    if ids:
        merged["ids"] = tuple(sorted(ids, key=lambda pair: (_rank(pair.partition(":")[0]), pair)))
    if any("sources" in properties for properties in told):
        merged["sources"] = tuple(
            sorted({name for properties in told for name in properties.get("sources", ())})
        )
    if "simulated" in merged:  # what one real source tells is real
        merged["simulated"] = all(properties.get("simulated", False) for properties in told)
    return Node(type, node_id, merged)


def _merge_content(merged: dict[str, Any], told: list[Mapping[str, Any]]) -> None:
    whole = next((properties for properties in told if all(name in properties for name in _TOGETHER)), None)
    if whole is not None:  # from one record, so that the block of the node is the block of a record
        merged.update({name: whole[name] for name in _TOGETHER})
    if "synopsis" in merged:
        merged["synopsis"] = max(
            (p["synopsis"] for p in told if "synopsis" in p), key=lambda text: (len(text), text)
        )
    if "release_date" in merged:
        merged["release_date"] = min(p["release_date"] for p in told if "release_date" in p)
    titles = {p["title"] for p in told if "title" in p} | {
        t for p in told for t in p.get("alternate_titles", ())
    }
    others = sorted(titles - {merged.get("title")})
    merged.pop("alternate_titles", None)
    if others:
        merged["alternate_titles"] = tuple(others)
    _take_latest_counts(merged, told)


def _take_latest_counts(merged: dict[str, Any], told: list[Mapping[str, Any]]) -> None:
    counted = sorted(told, key=lambda properties: -properties.get("observed_ts", -(2**62)))  # stable
    for name, column in schema.NODES["Content"].columns.items():
        if column.is_observed and name in merged:
            merged[name] = next(properties[name] for properties in counted if name in properties)
    if "observed_ts" in merged:
        merged["observed_ts"] = max(p["observed_ts"] for p in told if "observed_ts" in p)


def as_row(merge: Merge) -> dict[str, Any]:
    """A log entry as plain values, for a line of JSON."""
    return {field: getattr(merge, field) for field in replace(merge).__dataclass_fields__}
