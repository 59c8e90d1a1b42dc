"""Facts that wait on disk until identity is decided: no source is read twice, and memory stays flat."""

import marshal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from kg import schema
from kg.records import Hyperedge, Value
from kg.store.base import StoreError

_AT_ONCE = 4096
"""Facts that are held in memory before they are written down together."""
_EXACT = frozenset((str, int, float, bool))


class WaitingFacts:
    """A list of facts in two files without a name, which go with this process.

    Facts of three or more members stand before those of two, each in the order in which they came: a first
    load sends the former as nodes, and nodes go before edges.

    Cost: memory of 4,096 facts; about 150 bytes of disk a fact.
    """

    def __init__(self, folder: Path) -> None:
        self._wide, self._pairs = _Part(folder), _Part(folder)
        self._is_pair = {name: kind.is_binary for name, kind in schema.FACTS.items()}
        self.count = 0

    def __enter__(self) -> "WaitingFacts":
        return self

    def __exit__(self, *_: object) -> None:
        self._wide.close()
        self._pairs.close()

    def add(self, fact: Hyperedge) -> None:
        """Puts a fact at the end.

        Raises:
            StoreError: the disk is full.
        """
        self.count += 1
        (self._pairs if self._is_pair[fact.type] else self._wide).add(fact)

    def __iter__(self) -> Iterator[Hyperedge]:
        yield from self._wide
        yield from self._pairs


class _Part:
    """One file of facts, some thousand of them a line of length and content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._last: list[tuple[Any, ...]] = []

    def add(self, fact: Hyperedge) -> None:
        self._last.append(_plain(fact))
        if len(self._last) == _AT_ONCE:
            self._write_down()

    def __iter__(self) -> Iterator[Hyperedge]:
        if self._file is not None:
            self._file.seek(0)
            while head := self._file.read(8):
                for said in marshal.loads(self._file.read(int.from_bytes(head, "big"))):
                    yield Hyperedge.known_sound(*said)
            self._file.seek(0, 2)
        for said in self._last:
            yield Hyperedge.known_sound(*said)

    def _write_down(self) -> None:
        packed = marshal.dumps(self._last)
        try:
            if self._file is None:
                self._file = TemporaryFile(dir=self._folder)
            self._file.write(len(packed).to_bytes(8, "big") + packed)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"{self._folder} must take the facts that wait for identity ({error}): free some disk, "
                "then repeat"
            ) from error
        self._last.clear()

    def close(self) -> None:
        self._last.clear()
        if self._file is not None:
            self._file.close()


def _plain(fact: Hyperedge) -> tuple[Any, ...]:
    """The arguments of a fact, of Python's own types: an array's float is no float to :mod:`marshal`."""
    members, properties, confidence = fact.members, fact.properties, fact.confidence
    if type(members) is not dict or not all(map(_is_plain, members.values())):
        members = {role: tuple(map(str, ids)) for role, ids in members.items()}
    if properties:
        properties = {
            name: value if type(value) in _EXACT else _exact(value) for name, value in properties.items()
        }
    confidence = confidence if type(confidence) is float else _exact(confidence)
    return fact.type, members, str(fact.source), properties or {}, fact.start_ts, fact.end_ts, confidence


def _is_plain(ids: tuple[str, ...]) -> bool:
    return type(ids) is tuple and all(type(node_id) is str for node_id in ids)


def _exact(value: Value) -> Value:
    if isinstance(value, tuple):
        return tuple(map(str, value))
    return next(kind(value) for kind in (str, int, float) if isinstance(value, kind))
