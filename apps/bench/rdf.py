"""A generated world as RDF, written and read by us and by pyoxigraph's own writer and parser, in turn."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from kg.copying import Fingerprint
from kg.rdf import bare_triples, bare_write, triples
from kg.rdf_write import write
from kg.sources import sources
from kg.worlds import WorldConfig, world

ENDINGS = {"ntriples": "nt", "turtle": "ttl", "jsonld": "jsonld"}
BAR_S = {"write": 6.0, "parse": 3.0}
"""For a million triples of N-Triples."""
_PER_USER = 310
"""Triples of a user and what they rated, about."""


@dataclass(frozen=True)
class Row:
    """One step in one format."""

    what: str
    format: str
    ours_s: float
    """Median wall time, for a million triples."""
    ours_cpu_s: float
    """The same in seconds of a processor, which a machine under load does not stretch as much."""
    reference_s: float | None
    """The same triples by pyoxigraph alone; None where it has nothing alike."""
    bar_s: float | None
    note: str

    @property
    def ratio(self) -> float | None:
        """Ours over the reference."""
        return None if self.reference_s is None else self.ours_s / self.reference_s


@dataclass(frozen=True)
class Found:
    """What a run of the benchmark saw."""

    triples: int
    rows: list[Row]
    is_same: bool
    """Whether every format gave back the same records, told by counts and hash."""


def measure(size: int, repeats: int, formats: Sequence[str], tell: Callable[[str], None]) -> Found:
    """Writes and reads a world of about ``size`` triples in each format, ours and the reference in turn.

    Args:
        size: triples, about.
        repeats: how often each side runs; the median counts.
        formats: of :data:`ENDINGS`.
        tell: told in words what is being done.
    """
    tell("making a world")
    users = max(4, size // _PER_USER)
    config = WorldConfig(users=users, contents=min(1_000, max(12, users)), duplicate_share=0.0)
    records = world(config).records
    before = Fingerprint(records)
    rows, is_same, count = [], True, 0
    with TemporaryDirectory(prefix="mg-bench.") as folder:
        for format in formats:
            tell(format)
            ending = ENDINGS[format]
            ours, theirs = Path(folder) / f"ours.{ending}", Path(folder) / f"theirs.{ending}"
            count = write(records, ours).triples
            bare = list(bare_triples(ours))
            steps = [
                (
                    "write",
                    lambda path=ours: write(records, path),
                    lambda found=bare, path=theirs: bare_write(found, path),
                ),
                (
                    "parse",
                    lambda path=ours: _drain(triples(path)),
                    lambda path=ours: _drain(bare_triples(path)),
                ),
                ("read as records", lambda path=ours: _drain(_records(path)), None),
            ]
            for what, run, reference in steps:
                rows.append(_row(what, format, run, reference, repeats, 1e6 / count))
            del bare
            after = Fingerprint(_records(ours))
            is_same &= (after.counts, after.hash) == (before.counts, before.hash)
    return Found(count, rows, is_same)


def _row(
    what: str,
    format: str,
    run: Callable[[], Any],
    reference: Callable[[], Any] | None,
    repeats: int,
    scale: float,
) -> Row:
    ours, theirs, cpu = [], [], []
    for _ in range(repeats):
        began = time.process_time()
        ours.append(_seconds(run) * scale)
        cpu.append((time.process_time() - began) * scale)
        if reference is not None:
            theirs.append(_seconds(reference) * scale)
    bar = BAR_S.get(what) if format == "ntriples" else None
    note = "from our records; the reference from its own objects" if what == "write" else ""
    return Row(what, format, median(ours), median(cpu), median(theirs) if theirs else None, bar, note)


def _records(path: Path) -> Any:
    return sources.build("rdf", {"path": str(path)}).read()


def _drain(found: Any) -> None:
    deque(found, maxlen=0)


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
