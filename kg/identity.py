"""Decides which records are one node: by identifiers first, then by title, year and kind.

Which records join depends on what was said, not on who spoke first; said twice, it changes nothing."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from configs.registry import import_parts
from kg.conflicts import RESOLVED, TOGETHER, Record, merge, rank
from kg.records import Node
from kg.sources import sources

import_parts("kg.sources")

DEFAULT_RELIABILITY = 0.7
"""Of a stored node none of whose sources is registered here: that of an aggregator."""
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
        self._records: dict[str, list[Record]] = {}  # node id -> what was said under it, the stored one first
        self._parent: dict[str, str] = {}  # of nodes that joined another
        self._members: dict[str, list[str]] = {}  # root -> node ids, of groups with more than one
        self._ids: dict[
            str, dict[str, set[str]]
        ] = {}  # root -> scheme -> values, of those that were asked for
        self._claims: dict[
            str, list[str]
        ] = {}  # identifier, written as a node id -> nodes of other ids with it
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
        self._collect_claims()
        self._join_aliases()
        self._join_by_ids()
        if self._by_title:
            self._join_by_title()
        self._name_groups()

    def nodes(self) -> Iterator[Node]:
        """One node a group that somebody spoke of since the store, by id; the store's others are left out."""
        self._must_be_finished()
        roots = (node_id for node_id in self._records if node_id not in self._parent)
        for root in sorted(roots, key=self.canonical):
            records = [record for member in self._group(root) for record in self._records[member]]
            if any(not record.is_stored for record in records):
                yield merge(self.canonical(root), records)

    def canonical(self, node_id: str) -> str:
        """The id of the node that ``node_id`` means; an id that nobody described stays as it is."""
        self._must_be_finished()
        return self._canonical.get(node_id, node_id)

    def _must_be_finished(self) -> None:
        if not self._finished:
            raise RuntimeError("identity is decided over all records at once: call finish() first")

    def _keep(self, node: Node, reliability: float, is_stored: bool) -> None:
        self._records.setdefault(node.id, []).append(Record(node, reliability, is_stored, self._count))
        self._count += 1

    def _collect_claims(self) -> None:
        claims = defaultdict(list)
        for node_id in sorted(self._records):
            prefix = node_id.partition(":")[0]
            for pair in _identifiers(self._records[node_id]):
                claim = f"{prefix}:{pair}"
                if claim != node_id and (not claims[claim] or claims[claim][-1] != node_id):
                    claims[claim].append(node_id)
        self._claims = dict(sorted(claims.items(), key=lambda pair: _id_rank(pair[0])))

    def _holders(self, claim: str) -> list[str]:
        """Nodes that an identifier names, the one of that id included."""
        others = self._claims.get(claim, [])
        return [claim, *others] if claim in self._records else others

    def _join_aliases(self) -> None:
        """A record under an id that a stored node took over before is that node."""
        for claim, others in self._claims.items():
            if claim in self._records and self._is_new(claim):
                stored = [other for other in others if not self._is_new(other)]
                if len(stored) == 1:
                    self._join([stored[0], claim], claim.partition(":")[2])

    def _join_by_ids(self) -> None:
        for claim in self._claims:
            scheme = claim.split(":", 2)[1]
            holders = self._holders(claim)
            if len(holders) > 1 and scheme != _TITLE_IDS:
                roots = sorted({self._root(holder) for holder in holders})
                if len(roots) > 1 and not self._contradict(roots, stronger_than=scheme):
                    self._join(holders, claim.partition(":")[2])

    def _join_by_title(self) -> None:
        blocks: dict[tuple[str, int, str], list[str]] = defaultdict(list)
        for root in [node_id for node_id in self._records if node_id not in self._parent]:
            records = [record for member in self._group(root) for record in self._records[member]]
            found = {block for record in records if (block := _block(record.node)) is not None}
            if not found and len(records) > 1:  # the title of one and the year of another
                found = {block} if (block := _block(merge(root, records))) is not None else set()
            for block in found:
                blocks[block].append(root)
        for block, members in sorted(blocks.items()):
            roots = sorted({self._root(member) for member in members})
            if len(roots) > 1 and not self._contradict(roots):
                self._join(members, f"title: {', '.join(map(str, block))}")

    def _contradict(self, roots: list[str], stronger_than: str | None = None) -> bool:
        """Whether two of these groups differ in a scheme (one that ranks before ``stronger_than``)."""
        for place, first in enumerate(roots):
            for second in roots[place + 1 :]:
                ids, others = self._ids_of(first), self._ids_of(second)
                for scheme in ids.keys() & others.keys():
                    if scheme == _TITLE_IDS or (stronger_than and rank(scheme) >= rank(stronger_than)):
                        continue
                    if not ids[scheme] & others[scheme]:
                        return True
        return False

    def _ids_of(self, root: str) -> dict[str, set[str]]:
        if root not in self._ids:
            known: dict[str, set[str]] = defaultdict(set)
            for member in self._group(root):
                own = [member.partition(":")[2]] if member.count(":") > 1 else []
                for pair in (*own, *_identifiers(self._records[member])):
                    scheme, _, value = pair.partition(":")
                    known[scheme].add(value)
            self._ids[root] = known
        return self._ids[root]

    def _join(self, members: list[str], evidence: str) -> None:
        kept = self._root(members[0])
        group = self._members.setdefault(kept, [kept])
        self._evidence.setdefault(kept, evidence)
        for member in members[1:]:
            root = self._root(member)
            if root != kept:
                self._parent[root] = kept
                group += self._members.pop(root, [root])
                self._ids.pop(root, None)
                self._evidence.setdefault(root, evidence)
                self._evidence.setdefault(member, evidence)
        self._ids.pop(kept, None)

    def _root(self, node_id: str) -> str:
        while (above := self._parent.get(node_id)) is not None:
            if (higher := self._parent.get(above)) is None:
                return above
            self._parent[node_id] = node_id = higher
        return node_id

    def _group(self, root: str) -> list[str]:
        return self._members.get(root) or [root]

    def _name_groups(self) -> None:
        for root in self._records:
            if root in self._members:
                self._name_group(root)
            elif root not in self._parent and self._is_new(root):
                minted = self._mint(root)
                if minted != root:
                    self._canonical[root] = minted
        for claim in self._claims:  # ids of former imports stay as aliases
            if claim not in self._canonical and claim not in self._records and self._is_unique(claim):
                self._canonical[claim] = self.canonical(self._root(self._claims[claim][0]))

    def _name_group(self, root: str) -> None:
        members = self._members[root]
        stored = sorted((member for member in members if not self._is_new(member)), key=_id_rank)
        kept = stored[0] if stored else self._mint(root)
        known = set(_identifiers(self._records[kept])) if stored else set()
        told = [record for member in members for record in self._records[member]]
        first = max(told, key=lambda record: record.reliability).node
        for member in sorted(members):
            self._canonical[member] = kept
            if member != kept and (member in stored or member.partition(":")[2] not in known):
                evidence = self._evidence.get(member, "an identifier of its group")
                is_contested = _disagree(first, self._records[member][0].node)
                self.log.append(Merge(kept, member, evidence, is_contested, member in stored))

    def _is_new(self, node_id: str) -> bool:
        return not self._records[node_id][0].is_stored

    def _is_unique(self, claim: str) -> bool:
        return len({self._root(holder) for holder in self._holders(claim)}) == 1

    def _mint(self, root: str) -> str:
        """The id of a new node: its strongest identifier that nobody else claims."""
        if root not in self._members and not _identifiers(self._records[root]):
            return root
        prefix, known = root.partition(":")[0], self._ids_of(root)
        for scheme in sorted(known, key=rank):
            for value in sorted(known[scheme]):
                if self._is_unique(f"{prefix}:{scheme}:{value}"):
                    return f"{prefix}:{scheme}:{value}"
        return min(self._group(root), key=_id_rank)


def normalise_title(title: str) -> str:
    """A title as it is compared: lower case, ASCII, ``&`` as ``and``, without brackets and leading article.

    Example:
        >>> normalise_title("The Fast & the Furious (2001)"), normalise_title("Amélie")
        ('fast and the furious', 'amelie')
    """
    bare = _BRACKETS.sub(" ", title)
    bare = bare if bare.strip() else title  # "(500)" keeps its brackets
    plain = unicodedata.normalize("NFKD", bare.replace("&", " and ").lower())
    folded = "".join(letter for letter in plain if not unicodedata.combining(letter)).replace("'", "")
    words = " ".join(re.findall(r"\w+", folded.replace("’", "")))
    return _ARTICLE.sub("", words)


def _identifiers(records: list[Record]) -> tuple[str, ...]:
    """What the records under one id say of other ids, as ``scheme:value``."""
    if records[0].node.type not in RESOLVED:
        return ()
    if len(records) == 1:
        return records[0].node.properties.get("ids", ())  # type: ignore[return-value]
    return tuple(dict.fromkeys(pair for record in records for pair in record.node.properties.get("ids", ())))  # type: ignore[union-attr]


def _id_rank(node_id: str) -> tuple[tuple[int, str], str]:
    return rank(node_id.partition(":")[2].partition(":")[0]), node_id


def _block(node: Node) -> tuple[str, int, str] | None:
    if node.type != "Content":
        return None
    title, year, kind = (node.properties.get(name) for name in TOGETHER)
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


def as_row(merge: Merge) -> dict[str, Any]:
    """A log entry as plain values, for a line of JSON."""
    return {field: getattr(merge, field) for field in replace(merge).__dataclass_fields__}
