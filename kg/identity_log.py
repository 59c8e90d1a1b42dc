"""The identity log of a graph: every merge with its evidence, and what somebody undid; lines are only added.

An undo takes effect in the next import, and so does a redo."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kg.identity import Merge, as_row

FILE = "identity.jsonl"


class UnknownMerge(ValueError):
    """No merge of the log has this name."""


@dataclass(frozen=True)
class Entry:
    """A merge as the log has it."""

    key: str
    """Short name of the merge: the same records give the same one in every import."""
    merge: Merge
    is_undone: bool = False


@dataclass
class _Read:
    entries: dict[str, Entry] = field(default_factory=dict)
    undone: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Key of a merge -> ids that its record must not be one with."""


def key_of(merge: Merge) -> str:
    """The short name of a merge: eight hexadecimal digits out of who was merged into whom."""
    return hashlib.blake2b(f"{merge.kept}|{merge.merged}".encode(), digest_size=4).hexdigest()


class IdentityLog:
    """The file ``identity.jsonl`` in a graph's folder of imports.

    Example:
        >>> import tempfile
        >>> log = IdentityLog(Path(tempfile.mkdtemp()) / FILE)
        >>> log.append([Merge("content:imdb:tt1", "content:justwatch:tm1", "imdb:tt1")])
        >>> log.undo(log.entries()[0].key).merge.merged
        'content:justwatch:tm1'
        >>> sorted(log.apart()["content:justwatch:tm1"])
        ['content:imdb:tt1']
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """Every merge ever made, the first first; a merge told again counts once."""
        read = self._read()
        return [Entry(key, entry.merge, key in read.undone) for key, entry in read.entries.items()]

    def apart(self) -> dict[str, frozenset[str]]:
        """Id of a record -> ids that it must not be one with: the undone merges."""
        read = self._read()
        together: dict[str, set[str]] = {}
        for key, others in read.undone.items():
            together.setdefault(read.entries[key].merge.merged, set()).update(others)
        return {record: frozenset(others) for record, others in together.items()}

    def append(self, merges: Iterable[Merge]) -> None:
        """Adds what the log does not hold yet; an import that is repeated says nothing new."""
        known = {json.dumps(line, ensure_ascii=False) for line in self._lines()}
        lines = [json.dumps(as_row(merge), ensure_ascii=False) for merge in merges]
        self._add(line for line in dict.fromkeys(lines) if line not in known)

    def undo(self, key: str) -> Entry:
        """Sets the merged record apart from all that it was one with; the next import respects it.

        Raises:
            UnknownMerge: no such merge, or it is undone already.
        """
        read = self._read()
        entry = self._entry(read, key)
        if entry.key in read.undone:
            raise UnknownMerge(
                f"merge {entry.key} must stand to be undone, it is undone: `mg identity redo` it first"
            )
        self._add([json.dumps({"undo": entry.key, "apart": self._company(read, entry), "at": _now()})])
        return entry

    def redo(self, key: str) -> Entry:
        """Takes an undo back; the next import joins again what the evidence says.

        Raises:
            UnknownMerge: no such merge, or it is not undone.
        """
        read = self._read()
        entry = self._entry(read, key)
        if entry.key not in read.undone:
            raise UnknownMerge(f"merge {entry.key} must be undone to be redone, it stands: nothing to do")
        self._add([json.dumps({"redo": entry.key, "at": _now()})])
        return entry

    def chain(self, node_id: str) -> list[Entry]:
        """The merges that led from a record to the node that it is now; undone ones are left out."""
        standing = {entry.merge.merged: entry for entry in self.entries() if not entry.is_undone}
        found: list[Entry] = []
        seen = {node_id}
        while (entry := standing.get(node_id)) is not None:
            found.append(entry)
            node_id = entry.merge.kept
            if node_id in seen:
                break
            seen.add(node_id)
        return found

    def _entry(self, read: _Read, key: str) -> Entry:
        found = [entry for known, entry in read.entries.items() if known == key or entry.merge.merged == key]
        if len(found) != 1:
            raise UnknownMerge(
                f"a merge is named by its key or its merged record, got {key!r}, which names {len(found)}: "
                "see `mg identity log`"
            )
        return found[0]

    def _company(self, read: _Read, entry: Entry) -> list[str]:
        kept = entry.merge.kept
        others = {other.merge.merged for other in read.entries.values() if other.merge.kept == kept}
        return sorted({kept, *others} - {entry.merge.merged})

    def _read(self) -> _Read:
        read = _Read()
        for line in self._lines():
            if "undo" in line:
                read.undone[str(line["undo"])] = tuple(line["apart"])
            elif "redo" in line:
                read.undone.pop(str(line["redo"]), None)
            elif "merged" in line:
                merge = _merge(line)
                read.entries.setdefault(key_of(merge), Entry(key_of(merge), merge))
        read.undone = {key: others for key, others in read.undone.items() if key in read.entries}
        return read

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What stands in the log; a last line that a crash cut off does not count."""
        text = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                if number < len(lines) and not _is_cut_off(lines, number):
                    raise ValueError(
                        f"line {number} of {self.path} must be JSON ({error}): mend it"
                    ) from None

    def _add(self, lines: Iterable[str]) -> None:
        told = list(lines)
        if not told:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        start = "\n" if self.path.is_file() and not self.path.read_bytes().endswith(b"\n") else ""
        with self.path.open("a", encoding="utf-8") as file:
            file.write((start if self.path.stat().st_size else "") + "".join(f"{line}\n" for line in told))
            file.flush()
            os.fsync(file.fileno())


def _is_cut_off(lines: list[str], number: int) -> bool:
    """Whether a line that is no JSON is the beginning of one: an import was killed while it wrote."""
    return lines[number - 1].startswith('{"') and not lines[number - 1].endswith("}")


def _merge(line: Mapping[str, Any]) -> Merge:
    return Merge(**{name: line[name] for name in Merge.__dataclass_fields__ if name in line})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
