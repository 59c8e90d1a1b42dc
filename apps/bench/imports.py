"""Imports broken off at random moments, then run again: the graph must be that of an unbroken run."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from apps.bench.import_places import Disk, Embedded, Neo4j, Place
from apps.bench.import_steps import GRAPH, Settings

Fault = Literal["database killed", "importer killed", "disk full"]
FAULTS: tuple[Fault, ...] = ("database killed", "importer killed", "disk full")
_ROOT = Path(__file__).resolve().parents[2]
_WORLD = {"users": 300, "contents": 400, "groups": 6, "ratings_per_user": 40, "duplicate_share": 0.1}
_LONGEST_S = 300
_REMEDY = re.compile(r": [^:]*\b(repeat|free|wait|end|mend|name|check|empty|run)\b")
_ROOM = re.compile(r"\b(room|disk|space)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """What is broken off, and how often."""

    moments: int = 20
    """Imports to break off, for each place and fault; at most twice as many are tried."""
    seed: int = 0
    """Of the moments and of the world."""
    neo4j: str = ""
    """A script that starts a server; '' leaves Neo4j out."""
    faults: Sequence[Fault] = FAULTS
    places: Sequence[str] = ("first", "onto", "neo4j")
    world: tuple[tuple[str, Any], ...] = tuple(_WORLD.items())
    """Settings of :class:`kg.worlds.WorldConfig`."""


@dataclass(frozen=True)
class Row:
    """What became of the imports of one place that one fault broke off."""

    where: str
    fault: str
    moments: int
    """Imports that were tried."""
    broken_off: int
    """Imports that the fault ended; the others ended by themselves in spite of it."""
    said: int
    """Of those, imports that lived on to say something: all but those that were killed themselves."""
    clear: int
    """Of those, imports that said what must hold, what came and what to do."""
    equal: int
    """Moments after which the same command ended with the counts and the hash of the unbroken run."""
    longest_s: float
    """The longest of the commands that were run again."""
    unclear: tuple[str, ...] = ()
    """What the others said."""
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether nothing was lost and nothing was said in riddles."""
        return self.equal == self.moments and self.clear == self.said


@dataclass(frozen=True)
class _Moment:
    is_broken_off: bool
    words: str | None
    is_clear: bool
    is_equal: bool
    seconds: float


def measure(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """A row for each place and fault, as they are found.

    Raises:
        RuntimeError: an unbroken import failed, or a server does not start.
    """
    with TemporaryDirectory(prefix="mg-bench.") as name:
        folder = Path(name)
        for kind in plan.places:
            if kind == "neo4j" and not plan.neo4j:
                continue
            base = _base(plan, folder / "base") if kind == "onto" else None
            for fault in plan.faults:
                if fault == "disk full" and os.geteuid():
                    zeros = dict.fromkeys(("moments", "broken_off", "said", "clear", "equal", "longest_s"), 0)
                    yield Row(kind, fault, **zeros, note="left out: a disk to fill is mounted by root alone")
                    continue
                with _place(kind, folder / f"{kind}-{fault.split()[0]}", fault, plan, base) as place:
                    yield _row(place, fault, plan, folder, tell)


@contextmanager
def _place(kind: str, folder: Path, fault: Fault, plan: Plan, base: Path | None) -> Iterator[Place]:
    folder.mkdir()
    disk = Disk(folder) if fault == "disk full" else None
    place: Place | None = None
    try:
        if kind == "neo4j":
            place = Neo4j(folder, disk, Path(plan.neo4j), GRAPH)
        else:
            place = Embedded(folder, disk, base)
        yield place
    finally:
        if place is not None:
            place.close()
        if disk is not None:
            disk.close()


def _row(place: Place, fault: Fault, plan: Plan, folder: Path, tell: Callable[[str], None]) -> Row:
    tell(f"{place.what}, {fault}: unbroken")
    place.fresh()
    whole = _Import(place, plan, folder, looks=True)
    longest_s = whole.seconds_of("opened" if fault == "database killed" else "ready", "imported")
    expected = whole.ended()
    if "hash" not in expected:
        raise RuntimeError(
            f"an unbroken import must end well, it says {expected['said']!r}: mend that, repeat"
        )
    draw, found = random.Random(f"{plan.seed} {place.what} {fault}"), []
    while sum(one.is_broken_off for one in found) < plan.moments and len(found) < 2 * plan.moments:
        tell(f"{place.what}, {fault}: {len(found) + 1}, for {plan.moments}")
        found.append(_broken(place, fault, draw.uniform(0, 0.97 * longest_s), expected, plan, folder))
    spoke = [one for one in found if one.words is not None]
    return Row(
        place.what,
        fault,
        len(found),
        sum(one.is_broken_off for one in found),
        len(spoke),
        sum(one.is_clear for one in spoke),
        sum(one.is_equal for one in found),
        round(max(one.seconds for one in found), 1),
        tuple(dict.fromkeys(one.words for one in spoke if one.words and not one.is_clear)),
        f"unbroken {longest_s:.1f} s",
    )


def _broken(
    place: Place, fault: Fault, after_s: float, expected: dict[str, Any], plan: Plan, folder: Path
) -> _Moment:
    """One import that is broken off so many seconds after its first word, and the same command again."""
    place.fresh()
    one = _Import(place, plan, folder)
    one.wait_for("opened" if fault == "database killed" else "ready")
    if not one.is_over(after_s):
        if fault == "database killed":
            place.kill(one.is_over)
        elif fault == "importer killed":
            one.kill()
        elif place.disk is not None:
            place.disk.fill()
    is_ours, words = one.last_words()
    if place.disk is not None:
        place.disk.free()
    if fault != "importer killed":
        place.restart()
    began = time.monotonic()
    again = _Import(place, plan, folder, looks=True).ended()
    is_clear = is_ours and _is_clear(words or "", fault)
    return _Moment(one.is_broken_off, words, is_clear, again == expected, time.monotonic() - began)


def _is_clear(words: str, fault: Fault) -> bool:
    """Whether a sentence says what to do, and speaks of the disk where that is what was wrong."""
    is_named = fault != "disk full" or _ROOM.search(words) is not None
    return "\n" not in words and _REMEDY.search(words) is not None and is_named


def _base(plan: Plan, home: Path) -> Path:
    """A home whose graph holds the world before its records were known to be one."""
    if not home.exists():
        place = Embedded(home.parent / "making", None, None)
        place.folder.mkdir()
        if (said := _Import(place, plan, home.parent, is_base=True).ended()) != {}:
            raise RuntimeError(f"the graph that stands before must be imported, it says {said}: mend that")
        place.home.rename(home)
    return home


class _Import:
    """The command, in a process of its own."""

    def __init__(
        self, place: Place, plan: Plan, folder: Path, looks: bool = False, is_base: bool = False
    ) -> None:
        self._result, self._said, self._errors = (folder / name for name in ("result", "said", "errors"))
        for path in (self._result, self._said):
            path.unlink(missing_ok=True)
        self._looks, self._is_killed = looks, False
        settings = Settings(
            home=str(place.home),
            world={**dict(plan.world), "seed": plan.seed},
            result=str(self._result) if looks else "",
            said=str(self._said),
            is_base=is_base,
            login=place.login,
        )
        with self._errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "apps.bench.import_steps"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(_ROOT)},
                text=True,
            )
        self.process.stdin.write(json.dumps(asdict(settings)))  # type: ignore[union-attr]
        self.process.stdin.close()  # type: ignore[union-attr]

    @property
    def is_broken_off(self) -> bool:
        """Whether it ended otherwise than well."""
        return self.process.wait(_LONGEST_S) != 0

    def wait_for(self, word: str) -> bool:
        """Waits until it says this; False where it ended before."""
        return any(line.strip() == word for line in self.process.stdout)  # type: ignore[union-attr]

    def seconds_of(self, first: str, last: str) -> float:
        """Seconds between two of its words."""
        self.wait_for(first)
        began = time.monotonic()
        self.wait_for(last)
        return time.monotonic() - began

    def is_over(self, after_s: float = 0.0) -> bool:
        """Whether it has ended, by itself, after so many seconds."""
        try:
            self.process.wait(after_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kills it as the kernel does, without a word."""
        self._is_killed = True
        self.process.kill()

    def last_words(self) -> tuple[bool, str | None]:
        """Whether what it said is meant for people, and what it said; None where it said nothing.

        Raises:
            RuntimeError: it did not end.
        """
        try:
            code = self.process.wait(_LONGEST_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RuntimeError(f"an import must end within {_LONGEST_S} s, it hangs: look into it") from None
        if code == 0 or self._is_killed:
            return True, None
        if not self._said.exists():
            return False, self._errors.read_text(encoding="utf-8")[-300:]
        said = json.loads(self._said.read_text(encoding="utf-8"))
        return said["is_ours"], said["words"]

    def ended(self) -> dict[str, Any]:
        """What the graph holds in the end; what it said instead, where it did not end well."""
        _, words = self.last_words()
        if words is not None:
            return {"said": words}
        return json.loads(self._result.read_text(encoding="utf-8")) if self._looks else {}
