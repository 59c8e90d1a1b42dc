"""Names that move from one version to another: who holds ``champion`` of a graph, and who held it before.

``aliases/GRAPH/ALIAS.json`` names the holder; ``audit.jsonl`` gets a line for every move and loses none."""

import dataclasses
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from models.verification import ModelError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class AliasMove:
    """One entry of the audit log: an alias went from one version to another."""

    graph: str
    alias: str
    version: str
    previous: str | None
    reason: str
    at_ts: float


class Aliases:
    """The aliases under one root; processes that move them at once do so one after another."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "audit.jsonl"

    def holder(self, graph: str, alias: str) -> str | None:
        """Which version holds an alias, None where none does."""
        path = self._file(graph, alias)
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["version"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} must name a version ({error}): delete it and set the alias anew"
            ) from None

    def held(self, graph: str) -> dict[str, str]:
        """Alias -> version, for every alias of a graph."""
        check_name("graph", graph)
        names = sorted(path.stem for path in (self._root / "aliases" / graph).glob("[!.]*.json"))
        holders = {alias: self.holder(graph, alias) for alias in names}
        return {alias: version for alias, version in holders.items() if version is not None}

    def move(self, graph: str, alias: str, version: str, reason: str) -> AliasMove | None:
        """Lets ``version`` hold an alias; None where it did already.

        The log is on disk before the alias moves; readers see the old version or the new one, nothing else.
        """
        path = self._file(graph, alias)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._root / ".lock"):
            previous = self.holder(graph, alias)
            if previous == version:
                return None
            move = AliasMove(graph, alias, version, previous, reason, time.time())
            self._append(dataclasses.asdict(move))
            aside = path.with_name(f".{path.name}")
            aside.write_text(json.dumps({"version": version, "at_ts": move.at_ts}), encoding="utf-8")
            sync(aside)
            aside.rename(path)
            sync(path.parent)
        return move

    def history(self, graph: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first.

        Raises:
            ModelError: a line of the log cannot be read; one that a crash cut off does not count.
        """
        lines = self._log.read_bytes().split(b"\n") if self._log.is_file() else [b""]
        moves = []
        for number, line in enumerate(lines[:-1], 1):
            if line.endswith(_CUT_OFF):
                continue
            try:
                moves.append(AliasMove(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise ModelError(
                    f"line {number} of {self._log} must be a move of an alias ({error}): mend it"
                ) from None
        return [move for move in moves if (move.graph, move.alias) == (graph, alias)]

    def _file(self, graph: str, alias: str) -> Path:
        check_name("graph", graph)
        check_name("alias", alias)
        return self._root / "aliases" / graph / f"{alias}.json"

    def _append(self, entry: Mapping[str, Any]) -> None:
        """One line more, on disk before this returns; a line cut off by a crash is marked and ended first."""
        with self._log.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(_CUT_OFF + b"\n")
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync(self._root)


_CUT_OFF = b" cut off"


def check_name(what: str, name: str) -> None:
    """Raises :class:`ModelError` for a name that could not be a folder of ours."""
    if not _NAME.fullmatch(name):
        raise ModelError(f"a {what} is named in a-z, 0-9, _, - and ., at most 64 of them, got {name[:80]!r}")


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
