"""A shelf of patterns that is on disk: one process writes, others follow, a crash loses nothing told."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from models.index import IndexConfig
from models.memory_heard import Heard, HeardKeys
from models.memory_index import IndexFile
from models.memory_log import Change, MemoryLog, Place, Snapshot
from models.memory_pattern import MemoryBankError, Pattern, number_of
from models.memory_shelf import Shelf

_LOG_BYTES = 1 << 20
"""A log of so many bytes, and longer than its snapshot, is made a new snapshot."""


class MemoryStore:
    """Patterns of one folder, in memory as they are on disk."""

    def __init__(
        self, folder: Path, create_positives: int, keys_at_most: int, index: IndexConfig | None, writes: bool
    ) -> None:
        """Opens a folder; one without a bank is an empty bank.

        Raises:
            MemoryBankError: another process writes it, or its files are none of ours.
        """
        self.log = MemoryLog(folder)
        self._index = IndexFile(folder, writes)
        self.shelf = Shelf(create_positives, index, self._index)
        self.heard = HeardKeys(keys_at_most)
        self._lock = self._locked() if writes else None
        try:
            self._reload()
            self._index.writes = False  # learning never waits for tens of megabytes
            if writes:
                self.log.clean(self.place.generation)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Lets another process write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def cut_off(self) -> int:
        """Lines at which a crash cut the log off; none of them was acknowledged."""
        return self.place.cut_off + bool(self.log.tail_bytes(self.place.generation))

    @property
    def size_bytes(self) -> int:
        """Of snapshot and log; the kept index is made of these."""
        return sum(self.log.size_bytes(self.place.generation))

    def refresh(self) -> bool:
        """Takes over what was written since; True if there was anything."""
        if self.log.stamp() != self._stamp:
            self._reload()
            return True
        changes, self.place = self.log.read_changes(self.place, self.shelf)
        for change in changes:
            self._take(change)
        return bool(changes)

    def make_ready(self) -> None:
        """Before a change: this process may write, and knows all that is on disk.

        Raises:
            MemoryBankError: it was opened to read.
        """
        if self._lock is None:
            raise MemoryBankError(
                f"{self.log.folder} was opened to read (or is closed): open it with writes=True in the one "
                "process that writes it"
            )
        self.refresh()

    def write(self, change: Change, width: int) -> None:
        """A change on disk, then in memory.

        Raises:
            MemoryBankError: the disk refused; nothing changed.
        """
        try:
            self.log.folder.mkdir(parents=True, exist_ok=True)
            self.place = self.log.append(replace(self.place, width=width), change, self.shelf)
        except OSError as error:
            raise self._refused(error) from error
        self._take(change)
        snapshot, log = self.log.size_bytes(self.place.generation)
        if log > max(_LOG_BYTES, snapshot):
            with suppress(MemoryBankError):  # the change is on disk: a snapshot that fails is tried again
                self.rewrite({**self.shelf})

    def rewrite(self, patterns: Mapping[str, Pattern]) -> None:
        """These patterns as a new snapshot, and nothing else in any file; then in memory.

        Raises:
            MemoryBankError: the disk refused; nothing changed.
        """
        generation, width = self.place.generation + 1, self.place.width
        kept, heard = tuple(patterns.values()), self._heard_of(patterns)
        try:
            self._index.drop()  # first: it holds the queries of those that go
            self.log.compact(Snapshot(generation, width, self.next_number, kept, heard))
        except OSError as error:
            self.refresh()  # the rename may have come through before the disk refused the rest
            raise self._refused(error) from error
        self.place, self._stamp = Place(generation, 0, width), self.log.stamp()
        put = tuple(one for one in kept if self.shelf.get(one.pattern_id) is not one)
        drop = tuple(name for name in self.shelf if name not in patterns)
        self.heard.replace(heard)
        self._take(Change(put, drop))

    def _heard_of(self, patterns: Mapping[str, Pattern]) -> tuple[Heard, ...]:
        """What was counted; of a pattern that is gone not even its id is kept."""
        return tuple(one if one.pattern_id in patterns else replace(one, pattern_id="") for one in self.heard)

    def _refused(self, error: OSError) -> MemoryBankError:
        return MemoryBankError(
            f"a bank needs a place that can be written, {self.log.folder} gave {error}: free space and try "
            "again; what was acknowledged before stands"
        )

    def _reload(self) -> None:
        while True:  # again where a new snapshot came between a snapshot and its log
            stamp = self.log.stamp()
            snapshot = self.log.read_snapshot()
            there = {one.pattern_id: one for one in snapshot.patterns}
            place = Place(snapshot.generation, 0, snapshot.width)
            changes, place = self.log.read_changes(place, there)
            if self.log.stamp() == stamp:
                break
        self.place, self._stamp, self.next_number = place, stamp, snapshot.next_number
        self.heard.replace(snapshot.heard)
        gone = tuple(name for name in self.shelf if name not in there)
        for change in (Change(snapshot.patterns, gone), *changes):  # who stays keeps its place in the index
            self._take(change)

    def _take(self, change: Change) -> None:
        self.shelf.apply(change)
        self.heard.add(change.heard)
        newest = max((number_of(one.pattern_id) for one in change.put), default=0)
        self.next_number = max(self.next_number, newest + 1)

    def _locked(self) -> FileLock:
        try:
            self.log.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.log.folder / ".lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise MemoryBankError(
                f"one process writes a bank, another one holds {self.log.folder}: ask that one, or stop it "
                "and try again; reading needs no leave"
            ) from None
        except OSError as error:
            raise self._refused(error) from error
        return lock
