"""Decides which records are one node: by identifiers first, then by title, year and kind, or by likeness.

Which records join depends on what was said, not on who spoke first; said twice, it changes nothing."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from configs.registry import import_parts
from kg.conflicts import RESOLVED, Record, merge, rank
from kg.identity_keys import block_of, disagree, id_rank, identifiers, without_ids
from kg.likeness import Join, content_joins, person_joins
from kg.matching import Matchers
from kg.profiles import Profiles
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.strong_ids import CATALOGUES, CONTESTED

import_parts("kg.sources")

DEFAULT_RELIABILITY = 0.7
"""Of a stored node none of whose sources is registered here: that of an aggregator."""
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
    probability: float = 1.0
    """That of the likeness that joined it; 1 for an identifier, or an equal title, year and kind."""


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

    def __init__(
        self,
        existing: Iterable[Node] = (),
        by_title: bool = True,
        matchers: Matchers | None = None,
        apart: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """Starts from the nodes that a store holds.

        Args:
            existing: nodes that stand already; their ids are kept.
            by_title: False joins by identifiers only.
            matchers: join by their probability instead of by equal title, year and kind; wants ``hear``.
            apart: id of a record -> ids that it must not be one with, because somebody undid that merge.
        """
        self.log: list[Merge] = []
        self.stale: list[str] = []
        """Stored nodes that hold what was set apart since: erase them, the sources tell their parts anew."""
        self._by_title, self._matchers, self._apart = by_title, matchers, dict(apart or {})
        self._profiles = Profiles() if matchers else None
        self._contested: set[str] = set()  # node ids that were joined against their ids
        self._sureness: dict[str, float] = {}  # node id -> probability that joined it
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
            if self._holds_what_is_apart(node):
                self.stale.append(node.id)
            else:
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

    def hear(self, fact: Hyperedge) -> None:
        """Takes in a fact that may bear on likeness: people and genres of a content."""
        if self._profiles is not None:
            self._profiles.hear(fact)

    def finish(self) -> None:
        """Decides; from here on ``nodes``, ``canonical`` and ``log`` answer."""
        if self._finished:
            return
        self._finished = True
        self._collect_claims()
        self._join_aliases()
        self._join_by_ids()
        if self._matchers is not None:
            self._join_by_likeness(self._matchers)
        elif self._by_title:
            self._join_by_title()
        self._name_groups()
        self._standing = {self._canonical.get(id, id) for id in self._records}

    def nodes(self) -> Iterator[Node]:
        """One node a group that somebody spoke of since the store, by id; the store's others are left out."""
        self._must_be_finished()
        roots = (node_id for node_id in self._records if node_id not in self._parent)
        for root in sorted(roots, key=self.canonical):
            records = [record for member in self._group(root) for record in self._records[member]]
            if any(not record.is_stored for record in records):
                yield self._marked(root, merge(self.canonical(root), records))

    def canonical(self, node_id: str) -> str:
        """The id of the node that ``node_id`` means; an id that nobody described stays as it is."""
        self._must_be_finished()
        return self._canonical.get(node_id, node_id)

    def stands(self, node_id: str) -> bool:
        """Whether a node of this id was told or stored, and is no other by now."""
        self._must_be_finished()
        return node_id in self._standing

    def _must_be_finished(self) -> None:
        if not self._finished:
            raise RuntimeError("identity is decided over all records at once: call finish() first")

    def _holds_what_is_apart(self, node: Node) -> bool:
        if not self._apart or node.type not in RESOLVED:
            return False
        named = _names(node)
        return any(named & self._apart[one] for one in named & self._apart.keys())

    def _set_apart_from(self, node: Node) -> frozenset[str]:
        """Ids that the record must not go by: those it was set apart from, and those set apart from it."""
        named = _names(node)
        theirs = {one for one in named & self._apart.keys() - {node.id} if named & self._apart[one]}
        return self._apart.get(node.id, frozenset()) | theirs

    def _keep(self, node: Node, reliability: float, is_stored: bool) -> None:
        if self._profiles is not None:
            self._profiles.hear(node)
        if self._apart and "ids" in node.properties and (others := self._set_apart_from(node)):
            node = without_ids(node, others)
        self._records.setdefault(node.id, []).append(Record(node, reliability, is_stored, self._count))
        self._count += 1

    def _collect_claims(self) -> None:
        claims = defaultdict(list)
        for node_id in sorted(self._records):
            prefix = node_id.partition(":")[0]
            for pair in identifiers(self._records[node_id]):
                claim = f"{prefix}:{pair}"
                if claim != node_id and (not claims[claim] or claims[claim][-1] != node_id):
                    claims[claim].append(node_id)
        self._claims = dict(sorted(claims.items(), key=lambda pair: id_rank(pair[0])))

    def _holders(self, claim: str) -> list[str]:
        """Nodes that an identifier names, the one of that id included."""
        others = self._claims.get(claim, [])
        return [claim, *others] if claim in self._records else others

    def _join_aliases(self) -> None:
        """A record under an id that a stored node took over before is that node."""
        for claim, others in self._claims.items():
            if claim in self._records and self._is_new(claim):
                stored = [other for other in others if not self._is_new(other)]
                if len(stored) == 1 and not self._are_apart(self._root(stored[0]), self._root(claim)):
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
            found = {block for record in records if (block := block_of(record.node)) is not None}
            if not found and len(records) > 1:  # the title of one and the year of another
                found = {block} if (block := block_of(merge(root, records))) is not None else set()
            for block in found:
                blocks[block].append(root)
        for block, members in sorted(blocks.items()):
            roots = sorted({self._root(member) for member in members})
            if len(roots) > 1 and not self._contradict(roots):
                self._join(members, f"title: {', '.join(map(str, block))}")

    def _join_by_likeness(self, matchers: Matchers) -> None:
        """The surest pairs first; one id a scheme in a group, or contested ones where all else agrees."""
        groups = {root: self._group(root) for root in self._roots("Content")}
        for join in content_joins(groups, self._records, self._profiles, matchers.content):
            self._join_alike(join)
        if matchers.person is None:
            return
        contents = {member: self._root(member) for member in self._records if member.startswith("content:")}
        people = {root: self._group(root) for root in self._roots("Person")}
        for join in person_joins(people, contents, self._profiles, matchers.person):
            self._join_alike(join)

    def _join_alike(self, join: Join) -> None:
        roots = [self._root(join.one), self._root(join.other)]
        if roots[0] == roots[1] or self._are_apart(*roots):
            return
        is_contested = self._contradict(roots)
        if not is_contested or join.agrees:
            for root in roots:
                self._sureness.setdefault(root, join.probability)
            self._join(sorted(roots), join.evidence)
            if is_contested:
                self._contested.update(roots)

    def _roots(self, type: str) -> list[str]:
        return sorted(
            id
            for id, records in self._records.items()
            if id not in self._parent and records[0].node.type == type
        )

    def _are_apart(self, first: str, second: str) -> bool:
        if not self._apart:
            return False
        ours, theirs = set(self._group(first)), set(self._group(second))
        return any(
            self._apart[one] & others
            for own, others in ((ours, theirs), (theirs, ours))
            for one in own & self._apart.keys()
        )

    def _marked(self, root: str, node: Node) -> Node:
        """With ids of a strong scheme marked as contested where it holds two; only where likeness joins."""
        if self._matchers is None or node.type not in RESOLVED:
            return node
        held: dict[str, set[str]] = defaultdict(set)
        for pair in node.properties.get("ids", ()):  # type: ignore[union-attr]
            held[pair.partition(":")[0]].add(pair)
        doubted = {pair for scheme in CATALOGUES if len(held[scheme]) > 1 for pair in held[scheme]}
        if self._contested & set(self._group(root)):
            doubted |= {pair for pairs in held.values() if len(pairs) > 1 for pair in pairs}
        marks = {f"{CONTESTED}:{pair}" for pair in doubted if not pair.startswith(f"{CONTESTED}:")}
        if not marks - held[CONTESTED]:
            return node
        ids = sorted(
            marks | set(node.properties["ids"]), key=lambda pair: (rank(pair.partition(":")[0]), pair)
        )  # type: ignore[arg-type]
        return replace(node, properties={**node.properties, "ids": tuple(ids)})

    def _contradict(self, roots: list[str], stronger_than: str | None = None) -> bool:
        """Whether two of these groups differ in a scheme (one that ranks before ``stronger_than``)."""
        for place, first in enumerate(roots):
            for second in roots[place + 1 :]:
                if self._are_apart(first, second):
                    return True
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
                for pair in (*own, *identifiers(self._records[member])):
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
        stored = sorted((member for member in members if not self._is_new(member)), key=id_rank)
        kept = stored[0] if stored else self._mint(root)
        known = set(identifiers(self._records[kept])) if stored else set()
        told = [record for member in members for record in self._records[member]]
        first = max(told, key=lambda record: record.reliability).node
        for member in sorted(members):
            self._canonical[member] = kept
            if member != kept and (member in stored or member.partition(":")[2] not in known):
                evidence = self._evidence.get(member, "an identifier of its group")
                is_contested = disagree(first, self._records[member][0].node) or member in self._contested
                sureness = self._sureness.get(member, 1.0)
                self.log.append(Merge(kept, member, evidence, is_contested, member in stored, sureness))

    def _is_new(self, node_id: str) -> bool:
        return not self._records[node_id][0].is_stored

    def _is_unique(self, claim: str) -> bool:
        return len({self._root(holder) for holder in self._holders(claim)}) == 1

    def _mint(self, root: str) -> str:
        """The id of a new node: its strongest identifier that nobody else claims."""
        prefix, _, own = root.partition(":")
        if root not in self._members and identifiers(self._records[root]) in ((), (own,)):
            return root
        known = self._ids_of(root)
        for scheme in sorted(known, key=rank):
            for value in sorted(known[scheme]):
                if self._is_unique(f"{prefix}:{scheme}:{value}"):
                    return f"{prefix}:{scheme}:{value}"
        return min(self._group(root), key=id_rank)


def _names(node: Node) -> set[str]:
    """Its id, and its other identifiers written as ids."""
    prefix = node.id.partition(":")[0]
    return {node.id, *(f"{prefix}:{pair}" for pair in node.properties.get("ids", ()))}  # type: ignore[union-attr]


def _reliability_of(node: Node) -> float:
    told = [sources[name].reliability for name in node.properties.get("sources", ()) if name in sources]  # type: ignore[union-attr]
    return max(told, default=DEFAULT_RELIABILITY)


def as_row(merge: Merge) -> dict[str, Any]:
    """A log entry as plain values, for a line of JSON."""
    return {field: getattr(merge, field) for field in replace(merge).__dataclass_fields__}
