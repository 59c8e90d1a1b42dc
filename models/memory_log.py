"""What a ReasoningBank keeps on disk: a snapshot, and a log of what changed since; both JSON lines.

A snapshot is written aside and renamed, and names the generation of its log: whoever crashes between the two
leaves either the old pair or the new one."""

import base64
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models import journal
from models.memory_heard import Heard
from models.memory_pattern import Evidence, MemoryBankError, Pattern, number_of

FORMAT = "media-gateway reasoning bank"
VERSION = 1
_SNAPSHOT = "snapshot.jsonl"
_CUT_OFF = b" cut off"  # as models.journal marks a line that a crash cut off
_COUNTS = ("created_ts", "used_ts", "confidence", "uses", "positives", "segment")


@dataclass(frozen=True)
class Change:
    """What one line of the log says: all of it happened, or nothing."""

    put: tuple[Pattern, ...] = ()
    """New, or in place of one of the same id and vector."""
    drop: tuple[str, ...] = ()
    """Ids; dropped before anything is put."""
    heard: tuple[Heard, ...] = ()
    """Observations that are counted by this."""


@dataclass(frozen=True)
class Snapshot:
    """All patterns at one moment."""

    generation: int = 0
    width: int | None = None
    """Of the vectors; None before there is any."""
    next_number: int = 1
    """Of the next pattern's id; a number is never given twice."""
    patterns: tuple[Pattern, ...] = ()
    heard: tuple[Heard, ...] = ()
    """The latest observations that were counted, oldest first."""


@dataclass(frozen=True)
class Place:
    """Up to where a log was read."""

    generation: int = 0
    offset: int = 0
    """Bytes; 0 before the header was read."""
    width: int | None = None
    """Of the vectors; None before it is known."""
    cut_off: int = 0
    """Lines that a crash cut off, passed over on the way here."""


class MemoryLog:
    """Snapshot and log in one folder; who may write is the bank's business.

    Cost: a change is one line, the disk waited for; a snapshot is about 0.7 kB a pattern of width 64.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.snapshot_path = self.folder / _SNAPSHOT

    def path(self, generation: int) -> Path:
        """The log that follows the snapshot of a generation."""
        return self.folder / f"log-{generation}.jsonl"

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes with every new snapshot; None where there is none."""
        try:
            told = self.snapshot_path.stat()
        except FileNotFoundError:
            return None
        return told.st_ino, told.st_mtime_ns, told.st_size

    def size_bytes(self, generation: int) -> tuple[int, int]:
        """Bytes of the snapshot and of its log."""
        sizes = []
        for path in (self.snapshot_path, self.path(generation)):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                sizes.append(0)
        return sizes[0], sizes[1]

    def read_snapshot(self) -> Snapshot:
        """The newest snapshot; an empty one where there is none.

        Raises:
            MemoryBankError: it is of another format, or cut off.
        """
        try:
            lines = self.snapshot_path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return Snapshot()
        header = _header(self.snapshot_path, lines[0], "snapshot")
        patterns = tuple(
            _pattern(self.snapshot_path, number, _json(self.snapshot_path, number, line), header.get("width"))
            for number, line in enumerate(lines[1:-1], 2)
        )
        if len(patterns) != header.get("patterns") or lines[-1]:
            raise MemoryBankError(
                f"{self.snapshot_path} must hold {header.get('patterns')} patterns, got {len(patterns)}: "
                "put a whole copy back, or move the folder away and start anew"
            )
        newest = max((number_of(one.pattern_id) for one in patterns), default=0)
        following = max(header.get("next", 1), newest + 1)
        heard = _heard(self.snapshot_path, 1, header.get("heard", ()))
        return Snapshot(header["generation"], header["width"], following, patterns, heard)

    def read_changes(self, place: Place, known: Mapping[str, Pattern]) -> tuple[list[Change], Place]:
        """What stands in the log behind ``place``, oldest first, and the place after it.

        Args:
            place: up to where it was read before.
            known: patterns by id, as they stand there.

        Raises:
            MemoryBankError: a line is none of ours.
        """
        path = self.path(place.generation)
        if self.size_bytes(place.generation)[1] <= place.offset:
            return [], place
        try:
            with path.open("rb") as file:
                file.seek(place.offset)
                read = file.read()
        except FileNotFoundError:
            return [], place
        whole, now, changes = read[: read.rfind(b"\n") + 1], dict(known), []
        width, cut_off, has_header = place.width, place.cut_off, place.offset > 0
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            if line.endswith(_CUT_OFF):
                cut_off += 1
            elif not has_header:
                width, has_header = _width_told(path, line, place), True
            else:
                changes.append(_change(path, number, _json(path, number, line), now, width))
        if not has_header:  # read again from the start: the header is still to come
            return [], place
        return changes, Place(place.generation, place.offset + len(whole), width, cut_off)

    def tail_bytes(self, generation: int) -> int:
        """Bytes after the last whole line: of a line that a crash cut off, or that is being written."""
        try:
            with self.path(generation).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read() in (b"", b"\n"):
                    return 0
                file.seek(0)
                read = file.read()
        except FileNotFoundError:
            return 0
        return len(read) - read.rfind(b"\n") - 1

    def append(self, place: Place, change: Change, known: Mapping[str, Pattern]) -> Place:
        """Writes a change behind ``place`` and waits for the disk.

        Returns:
            The place after it.

        Raises:
            OSError: it could not be written, and does not count.
        """
        path = self.path(place.generation)
        cut_off = place.cut_off + bool(self.tail_bytes(place.generation))
        if not self._has_header(path):
            journal.append(path, {**_told("log"), "generation": place.generation, "width": place.width})
        journal.append(path, _line(change, known))
        return Place(place.generation, path.stat().st_size, place.width, cut_off)

    def compact(self, snapshot: Snapshot) -> None:
        """Writes a snapshot aside, renames it, and deletes the logs before it.

        Raises:
            OSError: it could not be written; the one before stands, with its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.snapshot_path.with_name(f".{_SNAPSHOT}")
        header = {"generation": snapshot.generation, "width": snapshot.width, "next": snapshot.next_number}
        if snapshot.heard:
            header["heard"] = [list(asdict(one).values()) for one in snapshot.heard]
        try:
            with aside.open("w", encoding="utf-8") as file:
                file.write(_dumps({**_told("snapshot"), **header, "patterns": len(snapshot.patterns)}) + "\n")
                file.writelines(_dumps(_as_json(pattern)) + "\n" for pattern in snapshot.patterns)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(self.snapshot_path)
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        journal.sync(self.folder)
        self.clean(snapshot.generation)

    def clean(self, generation: int) -> None:
        """Deletes what a crash amid :meth:`compact` left: logs of other generations, a snapshot put aside."""
        kept = self.path(generation)
        self.snapshot_path.with_name(f".{_SNAPSHOT}").unlink(missing_ok=True)
        for path in self.folder.glob("log-*.jsonl"):
            if path != kept:
                path.unlink(missing_ok=True)

    def _has_header(self, path: Path) -> bool:
        try:
            with path.open("rb") as file:
                return any(line.endswith(b"\n") and not line.endswith(_CUT_OFF + b"\n") for line in file)
        except FileNotFoundError:
            return False


def _told(kind: str) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "kind": kind}


def _header(path: Path, line: bytes, kind: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
        is_ours = _told(kind).items() <= told.items() and {"generation", "width"} <= told.keys()
    except (ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise MemoryBankError(
            f"{path} must open as the {kind} of a {FORMAT}, version {VERSION}, got {line[:80]!r}: move it "
            "away, or read it with the release that wrote it"
        )
    return told


def _json(path: Path, number: int, line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise MemoryBankError(
            f"line {number} of {path} is no JSON ({error}): put a whole copy back; nothing was changed"
        ) from None


def _dumps(told: Mapping[str, Any]) -> str:
    return json.dumps(told, allow_nan=False, separators=(",", ":"))


def _as_json(pattern: Pattern) -> dict[str, Any]:
    return {
        "id": pattern.pattern_id,
        "vector": base64.b64encode(pattern.vector.astype("<f4").tobytes()).decode(),
        "founder": pattern.founder,
        "steps": pattern.steps,
        "context": dict(pattern.context),
        **{name: getattr(pattern, name) for name in _COUNTS},
        "users": _users(pattern.users),
    }


def _users(users: Mapping[str, Evidence]) -> dict[str, Any]:
    return {user_id: list(asdict(one).values()) for user_id, one in users.items()}


def _evidence(users: Mapping[str, Any]) -> dict[str, Evidence]:
    return {user_id: Evidence(*told[:-1], tuple(told[-1])) for user_id, told in users.items()}


def _pattern(path: Path, number: int, told: Any, width: int | None) -> Pattern:
    try:
        vector = np.frombuffer(base64.b64decode(told["vector"], validate=True), "<f4").astype(np.float32)
        if len(vector) != width or not np.isfinite(vector).all():
            raise ValueError(f"a vector of width {len(vector)}, or not finite")
        number_of(told["id"])
        return Pattern(
            told["id"],
            vector,
            told["founder"],
            tuple(told["steps"]),
            told["context"],
            users=_evidence(told["users"]),
            **{name: told[name] for name in _COUNTS},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MemoryBankError(
            f"line {number} of {path} must be a pattern of width {width} ({error}): put a whole copy back; "
            "nothing was changed"
        ) from None


def _line(change: Change, known: Mapping[str, Pattern]) -> dict[str, Any]:
    """A pattern that is there already is told by what moved alone: its vector stands once."""
    new = [_as_json(one) for one in change.put if one.pattern_id not in known]
    moved = [_moved(known[one.pattern_id], one) for one in change.put if one.pattern_id in known]
    heard = [list(asdict(one).values()) for one in change.heard]
    parts = {"drop": list(change.drop), "new": new, "moved": moved, "heard": heard}
    return {name: part for name, part in parts.items() if part}


def _moved(before: Pattern, after: Pattern) -> dict[str, Any]:
    said = {name: one for name, one in after.users.items() if before.users.get(name) != one}
    counts = {name: getattr(after, name) for name in _COUNTS}
    gone = sorted(set(before.users) - set(after.users))
    return {"id": after.pattern_id, **counts, "users": _users(said), "gone": gone}


def _width_told(path: Path, line: bytes, place: Place) -> int:
    """Width that the header of a log tells, held against the snapshot before it."""
    header = _header(path, line, "log")
    if header["generation"] != place.generation or place.width not in (None, header["width"]):
        raise MemoryBankError(
            f"{path} must follow generation {place.generation} with vectors of width {place.width}, it says "
            f"{header['generation']} and {header['width']}: put the log of this snapshot back"
        )
    return header["width"]


def _change(path: Path, number: int, told: Any, now: dict[str, Pattern], width: int | None) -> Change:
    """One line as a change; ``now`` is brought up to it."""
    try:
        drop, new, moved = (told.get(name, ()) for name in ("drop", "new", "moved"))
        for pattern_id in drop:
            now.pop(pattern_id, None)
        put = [_pattern(path, number, one, width) for one in new]
        put += [_patched(now[one["id"]], one) for one in moved]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MemoryBankError(
            f"line {number} of {path} must be a change of patterns that are there ({error!r}): put a whole "
            "copy back; nothing was changed"
        ) from None
    now.update({one.pattern_id: one for one in put})
    return Change(tuple(put), tuple(drop), _heard(path, number, told.get("heard", ())))


def _heard(path: Path, number: int, told: Any) -> tuple[Heard, ...]:
    try:
        found = tuple(Heard(*one) for one in told)
        if not all(isinstance(text, str) for one in found for text in (one.key, one.said, one.pattern_id)):
            raise TypeError("an observation is three texts")
    except TypeError as error:
        raise MemoryBankError(
            f"line {number} of {path} must name the observations that were counted ({error}): put a whole "
            "copy back; nothing was changed"
        ) from None
    return found


def _patched(before: Pattern, told: Mapping[str, Any]) -> Pattern:
    users = {name: one for name, one in before.users.items() if name not in set(told["gone"])}
    users.update(_evidence(told["users"]))
    return replace(before, users=users, **{name: told[name] for name in _COUNTS})
