"""Brings sources into a store: nodes first, so that identity is decided, then facts over these.

Each source is read once; its facts wait on disk meanwhile.
Importing the same thing twice changes nothing; an import that was broken off is simply started again."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from kg import schema
from kg.fingerprints import fingerprint
from kg.identity import Resolver
from kg.identity_log import FILE as IDENTITY_FILE
from kg.identity_log import IdentityLog
from kg.matching import Matchers
from kg.records import Hyperedge, Node
from kg.seen import Seen
from kg.set_aside import FILE as ASIDE_FILE
from kg.set_aside import SetAside
from kg.sources import Source
from kg.store.base import GraphStore, WriteReport
from kg.store.embedded import EmbeddedStore
from kg.waiting_facts import WaitingFacts

Record = TypeVar("Record")
_EVERY_S = 0.2
_ALL = 2**31 - 1


class ImportRefused(ValueError):
    """Sources of which too many rows cannot be read."""


@dataclass(frozen=True)
class Progress:
    """How far an import has come."""

    stage: str
    """``reading``, then ``nodes`` and ``facts``, or ``loading`` both of them into an empty graph."""
    done: int
    total: int | None
    """None where it is not known how many rows there are."""
    rows_per_s: float


@dataclass(frozen=True)
class IngestReport:
    """What an import did."""

    nodes: int
    """Nodes that the sources told, after identity was decided."""
    hyperedges: int
    """Facts that the sources told, each once."""
    written: int
    unchanged: int
    rows: int
    rejects: int
    repairs: dict[str, int]
    """What was mended, and how often."""
    merges: int
    """Records that turned out to be another node."""
    counts: dict[str, int]
    """What the store holds now, by type."""
    seconds: float


def ingest(
    sources: Sequence[Source],
    store: GraphStore,
    folder: Path,
    max_reject_share: float = 0.01,
    progress: Callable[[Progress], None] | None = None,
    matchers: Matchers | None = None,
) -> IngestReport:
    """Imports what the sources tell.

    Facts stream; nodes are held. Of facts told twice (same members, source and start) the first stays.

    Args:
        sources: read once, in this order.
        store: where it goes.
        folder: takes ``rejects.jsonl`` (of this import) and ``identity.jsonl`` (of all imports); facts that
            leave the store for a while stand there until they are back.
        max_reject_share: 0 to 1; more rows than this that cannot be read refuse the import.
        progress: called a few times a second.
        matchers: join by their probability; None joins by ids, and by equal title, year and kind.

    Raises:
        ImportRefused: too many rows cannot be read; nothing is written then.
        SourceError: a source cannot be read at all.
        StoreError: the store cannot take it.
    """
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    log, aside = IdentityLog(folder / IDENTITY_FILE), SetAside(folder / ASIDE_FILE)
    mark = None if matchers or aside.path.exists() else _Mark(sources, log)
    if mark and (report := mark.repeated(store, max_reject_share)):
        return replace(report, seconds=time.perf_counter() - began)
    with WaitingFacts(folder) as waiting:
        told = _Told(sources, folder, waiting, _Meter(progress))
        resolver = told.resolve(store, matchers, log)
        rows, rejects = _counted(sources)
        _write_rejects(folder / "rejects.jsonl", sources)
        if _is_too_many(rejects, rows, max_reject_share):
            raise ImportRefused(
                f"at most {max_reject_share:.1%} of the rows may be unreadable, {rejects} of {rows} are: "
                f"see {folder / 'rejects.jsonl'}, mend the source or allow a larger share"
            )
        _erase_stale(store, sources, resolver, aside)
        log.append(resolver.log)
        written = _write(store, told, resolver, mark)
    if others := aside.facts():
        store.write(fact for fact in others if all(map(resolver.stands, _members(fact))))
    aside.clear()
    return told.report(store, written, len(resolver.log), time.perf_counter() - began)


def _counted(sources: Sequence[Source]) -> tuple[int, int]:
    """Rows and rejects."""
    return sum(source.rows for source in sources), sum(len(source.rejects) for source in sources)


def _is_too_many(rejects: int, rows: int, share: float) -> bool:
    return rejects > share * max(rows, rejects)


class _Mark:
    """By what an import is known again, so that the same one once more reads and writes nothing."""

    def __init__(self, sources: Sequence[Source], log: IdentityLog) -> None:
        self._sources = sources
        self._apart = sorted((record, sorted(others)) for record, others in log.apart().items())
        self._print = fingerprint(sources, self._apart)

    def repeated(self, store: GraphStore, max_reject_share: float) -> IngestReport | None:
        """What the first load told, where it was of the same and nobody has written since; else None."""
        said = store.note() if self._print and isinstance(store, EmbeddedStore) else None
        noted = json.loads(said) if said else {}
        if noted.get("of") != self._print or not noted:
            return None
        report = IngestReport(**noted["report"])
        if report.counts != store.count() or _is_too_many(report.rejects, report.rows, max_reject_share):
            return None
        return replace(report, written=0, unchanged=report.nodes + report.hyperedges, merges=0)

    def note(self, report: IngestReport) -> str | None:
        """What to keep of a first load; None where its files changed meanwhile."""
        if self._print is None or fingerprint(self._sources, self._apart) != self._print:
            return None
        return json.dumps({"of": self._print, "report": asdict(report)})


class _Told:
    """What the sources tell: nodes that are held, facts that wait until it is known who their members are."""

    def __init__(
        self, sources: Sequence[Source], folder: Path, waiting: WaitingFacts, meter: "_Meter"
    ) -> None:
        self._sources, self._folder, self._waiting, self._meter = sources, folder, waiting, meter
        self._ours: Counter[str] = Counter()
        self.node_count = self.fact_count = 0

    def resolve(self, store: GraphStore, matchers: Matchers | None, log: IdentityLog) -> Resolver:
        """Reads the sources and decides who is who, the nodes that stand in the store among them."""
        existing = (node for type in schema.NODES for node in store.nodes(type))
        resolver = Resolver(existing, matchers=matchers, apart=log.apart())
        for source in self._sources:
            for record in self._meter.over("reading", source.read()):
                if isinstance(record, Node):
                    resolver.add(record, source.reliability)
                else:
                    resolver.hear(record)
                    self._waiting.add(record)
        resolver.finish()
        return resolver

    def nodes(self, resolver: Resolver) -> Iterator[Node]:
        """The nodes, each once."""
        self.node_count = 0
        for node in resolver.nodes():
            self.node_count += 1
            yield node

    def facts(self, resolver: Resolver, waiting: Iterable[Hyperedge]) -> Iterator[Hyperedge]:
        """Of the facts that waited, each once and over the ids of the nodes that stand."""
        self._ours, self.fact_count = Counter(), 0
        with Seen(self._folder) as seen:
            for fact in waiting:
                kept = _over_standing_nodes(fact, resolver)
                if kept is None:
                    self._ours["facts of a node with itself left out"] += 1
                elif seen.add(bytes.fromhex(kept.id.rpartition(":")[2])):
                    self.fact_count += 1
                    yield kept
                else:
                    self._ours["facts told twice, the first kept"] += 1

    def write(self, store: GraphStore, resolver: Resolver) -> WriteReport:
        """Nodes, then facts, into a store in which something may stand."""
        nodes = store.write(self._meter.over("nodes", self.nodes(resolver)))
        waiting = self._meter.over("facts", iter(self._waiting), self._waiting.count)
        facts = store.write(self.facts(resolver, waiting))
        return WriteReport(nodes.nodes_written, facts.hyperedges_written, nodes.unchanged + facts.unchanged)

    def first_load(self, store: EmbeddedStore, resolver: Resolver, mark: _Mark | None) -> WriteReport:
        """Nodes and facts into an empty embedded store, noted so that the same once more is known again."""

        def note() -> str | None:
            nothing = WriteReport(0, 0, 0)
            return mark and mark.note(self.report(store, nothing, 0, 0.0))

        step = self._meter.stage("loading")
        facts = self.facts(resolver, self._waiting)  # the widest come first
        return store.first_load(self.nodes(resolver), facts, step, True, note)

    def report(self, store: GraphStore, written: WriteReport, merges: int, seconds: float) -> IngestReport:
        """What was told, and what became of it."""
        rows, rejects = _counted(self._sources)
        return IngestReport(
            nodes=self.node_count,
            hyperedges=self.fact_count,
            written=written.nodes_written + written.hyperedges_written,
            unchanged=written.unchanged,
            rows=rows,
            rejects=rejects,
            repairs=dict(sorted(self._repairs().items())),
            merges=merges,
            counts=store.count(),
            seconds=seconds,
        )

    def _repairs(self) -> Counter[str]:
        """What the sources and this import mended."""
        total = Counter(self._ours)
        for source in self._sources:
            total.update(source.repairs)
        return total


def _over_standing_nodes(fact: Hyperedge, resolver: Resolver) -> Hyperedge | None:
    """The fact with its members' ids replaced; None where two of its roles fell together on one node."""
    canonical, members, is_same = resolver.canonical, dict(fact.members), True
    for role, ids in fact.members.items():
        meant = (canonical(ids[0]),) if len(ids) == 1 else tuple(dict.fromkeys(map(canonical, ids)))
        if meant != ids:
            members[role], is_same = meant, False
    if is_same:
        return fact
    named = [node_id for ids in members.values() for node_id in ids]
    return None if len(set(named)) < len(named) else fact.over(members)


def _write(store: GraphStore, told: _Told, resolver: Resolver, mark: _Mark | None) -> WriteReport:
    if isinstance(store, EmbeddedStore) and store.is_fresh():
        return told.first_load(store, resolver, mark)
    report = told.write(store, resolver)
    return replace(report, hyperedges_written=report.hyperedges_written + _move_merged(store, resolver))


def _erase_stale(store: GraphStore, sources: Sequence[Source], resolver: Resolver, aside: SetAside) -> None:
    """Erases nodes that hold what was set apart; keeps their facts that these sources do not tell anew."""
    ours = {source.name for source in sources}
    for stale in resolver.stale:
        found = {one.fact.id: one.fact for one in store.neighbours(stale, limit=_ALL)}
        aside.keep(fact for fact in found.values() if fact.source not in ours)
        store.erase(stale)


def _members(fact: Hyperedge) -> list[str]:
    return [node_id for ids in fact.members.values() for node_id in ids]


def _move_merged(store: GraphStore, resolver: Resolver) -> int:
    """Facts of stored nodes that turned out to be another node move there; the nodes go."""
    moved = 0
    for merge in resolver.log:
        if not merge.was_stored:
            continue
        facts = {found.fact.id: found.fact for found in store.neighbours(merge.merged, limit=_ALL)}
        kept = [_over_standing_nodes(fact, resolver) for fact in facts.values()]
        moved += store.write(fact for fact in kept if fact is not None).hyperedges_written
        store.erase(merge.merged)
    return moved


def _write_rejects(path: Path, sources: Sequence[Source]) -> None:
    rows = [{"source": source.name, **asdict(reject)} for source in sources for reject in source.rejects]
    aside = path.with_suffix(".new")
    aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    aside.replace(path)


class _Meter:
    """Tells how far a stage has come, a few times a second."""

    def __init__(self, tell: Callable[[Progress], None] | None) -> None:
        self._tell = tell

    def stage(self, name: str) -> Callable[[int, int | None], None]:
        """A function that takes rows done and rows in all; says so now and then, and at the end."""
        began = last = time.perf_counter()

        def step(done: int, total: int | None = None) -> None:
            nonlocal last
            now = time.perf_counter()
            if self._tell is not None and (now - last > _EVERY_S or done == total):
                last = now
                self._tell(Progress(name, done, total, done / max(now - began, 1e-9)))

        return step

    def over(self, name: str, records: Iterator[Record], total: int | None = None) -> Iterator[Record]:
        """The same records, counted on their way."""
        step, done = self.stage(name), 0
        for done, record in enumerate(records, 1):
            yield record
            if done % 256 == 0:
                step(done, total)
        step(done, done)
