"""The folder of a bank: which files count, who writes them, and what is made good after a crash.

``head.bin`` names the files of rows and of the index and tells what is committed; ``spec.json`` says what the
adapters fit onto. Whoever is killed leaves files that no head names, or rows behind the last commit: the next
writer deletes the first and takes over the second where they are whole."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from models import journal
from models.adapter_bank_files import AdapterBankError, Head, HeadFile
from models.adapter_bank_index import Index, Names, capacity_for
from models.adapter_bank_packing import Packing, packed_dtype
from models.adapter_bank_rows import Rows
from models.adapter_bank_spec import BankSpec, read_spec, write_spec
from models.adapters import AdapterSpec

_HEAD = "head.bin"


@dataclass(frozen=True)
class BankFiles:
    """Rows and index that one head names."""

    head: Head
    rows: Rows
    index: Index

    def find(self, names: Names) -> np.ndarray:
        """(b,) rows, -1 for strangers."""
        return self.index.find(self.index.tags(names), lambda rows, which: self.rows.are(rows, names[which]))

    def erase(self, name: Names, row: int) -> None:
        """Zeros over a row, -1 for none, and over whatever of the index led there or leads nowhere."""
        if row >= 0:
            self.rows.blank(row)
            self.rows.file.sync()
        tag = self.index.tags(name)
        for place, found in self.index.of_tag(tag):
            there = self.rows.file.view["name"][found : found + 1].copy()
            if not len(there) or there[0] in (b"", name[0]) or self.index.tags(there)[0] != tag[0]:
                self.index.drop(place)

    def close(self) -> None:
        """Lets go of both."""
        self.rows.file.close()
        self.index.file.close()


class BankFolder:
    """One folder, opened to read or to write."""

    def __init__(
        self, folder: Path, spec: AdapterSpec | None, packing: Packing | None, writable: bool
    ) -> None:
        """Opens it; to read, one without a bank is an empty bank.

        Raises:
            AdapterBankError: another process writes it, it fits another base, or its files are none of ours.
        """
        self.path = Path(folder)
        self.guard = threading.RLock()
        self.next_row = self.taken = 0
        self.is_dirty = False
        self._head_file: HeadFile | None = None
        self._files: BankFiles | None = None
        self._lock = self._locked() if writable else None
        try:
            told = read_spec(self.path)
            if told is None and spec is None:
                raise AdapterBankError(f"{self.path} holds no bank of adapters: name the folder of one")
            self.told = BankSpec.new(spec, packing or "float16") if told is None else told
            self.told.fitting(spec, packing)
            self.packed = packed_dtype(self.told.spec, self.told.packing)
            if writable:
                self._open_to_write(is_new=told is None)
        except BaseException:
            self.close()
            raise

    @property
    def is_writable(self) -> bool:
        """True for the process that writes it."""
        return self._lock is not None

    def close(self) -> None:
        """Lets another process write."""
        if self._files is not None:
            self._files.close()
        if self._head_file is not None:
            self._head_file.close()
        if self._lock is not None:
            self._lock.release()
        self._files = self._head_file = self._lock = None

    def current(self) -> BankFiles | None:
        """Files of the newest commit; None where there is no bank yet."""
        if self._lock is not None:
            return self._files
        with self.guard:
            if self._head_file is None:
                told = read_spec(self.path)
                if told is None:
                    return None
                self.told = told.fitting(self.told.spec, None)
                self.packed = packed_dtype(told.spec, told.packing)
                try:
                    self._head_file = HeadFile(self.path / _HEAD)
                except FileNotFoundError:
                    raise self._cut_off(f"no {_HEAD}") from None
            for _ in range(100):  # again where a compaction deleted what the head had named
                head = self._head_file.read()
                if self._files is not None and self._files.head == head:
                    return self._files
                with suppress(FileNotFoundError):
                    self._files = self._followed(head)
                    return self._files
            raise self._cut_off(f"no file {head.rows_file} of rows, or {head.index_file} of the index")

    def mine(self) -> BankFiles:
        """Files to write.

        Raises:
            AdapterBankError: it was opened to read.
        """
        if self._lock is None or self._files is None:
            raise AdapterBankError(
                f"{self.path} was opened to read (or is closed): open it with writable=True in the one "
                "process that writes it"
            )
        return self._files

    @property
    def turn(self) -> int:
        """Of the slots that are written before the next commit."""
        return self.mine().head.commits + 1

    def append(self, names: Names, packed: np.ndarray) -> None:
        """New people: room first, so that a full disk changes nothing; then rows, then the index."""
        end = self.next_row + len(names)
        self.mine().rows.make_room(end)
        if 2 * end > len(self.mine().index):
            self._enlarge_index(capacity_for(2 * end))
        files, self.is_dirty = self.mine(), True
        files.rows.append(self.next_row, names, packed, self.turn)
        files.index.add(files.index.tags(names), np.arange(self.next_row, end))
        self.next_row = end

    def commit(self, holes: int = 0) -> None:
        """Returns when all that was written is on the disk; ``holes`` rows more were erased."""
        files = self.mine()
        if self.is_dirty:
            files.rows.file.sync()
            files.index.file.sync()
        head = replace(files.head, applied=self.taken, rows=self.next_row, holes=files.head.holes + holes)
        self._become(files, head)
        self.is_dirty = False

    def compact(self) -> None:
        """Rows and index anew, without the rows that hold nobody."""
        self.commit()
        before = self.mine()
        head = replace(
            before.head, rows_file=before.head.rows_file + 1, index_file=before.head.index_file + 1
        )
        fresh = None
        try:
            fresh = self._made(head)
            self._become(fresh, replace(head, rows=_copied(before, fresh), holes=0))
        except BaseException:
            if fresh is not None:
                fresh.close()
            self._clean()
            raise
        before.close()
        self._clean()

    def size_bytes(self) -> int:
        """On the disk."""
        return sum(path.stat().st_blocks * 512 for path in self.path.glob("*") if path.is_file())

    def _enlarge_index(self, capacity: int) -> None:
        self.commit()
        before = self.mine()
        head = replace(before.head, index_file=before.head.index_file + 1)
        self._path("index", head.index_file).touch()
        index = Index(self._path("index", head.index_file), self.told.key, writable=True)
        try:
            index.fill(*before.index.living(), capacity)
            self._become(replace(before, index=index), head)
        except BaseException:
            index.file.close()
            self._clean()
            raise
        before.index.file.close()
        self._clean()

    def _become(self, files: BankFiles, head: Head) -> None:
        """Makes these files the ones that count; what they hold is on the disk already."""
        if self._head_file is None:
            raise AdapterBankError(f"{self.path} is closed: open it again")
        before = self.mine()
        if files.index is not before.index:
            journal.sync(self.path)  # new names, which the head is about to tell
        head = replace(head, commits=before.head.commits + 1)
        self._head_file.write(head)
        self._files, self.next_row = replace(files, head=head), head.rows

    def _followed(self, head: Head) -> BankFiles:
        before = self._files
        if before is not None:
            if (before.head.rows_file, before.head.index_file) == (head.rows_file, head.index_file):
                return replace(before, head=head)
        return self._opened(head)  # another thread may still read the ones before

    def _opened(self, head: Head, writable: bool = False) -> BankFiles:
        """The files of a head, which must be as long as it says."""
        rows = Rows(self._path("rows", head.rows_file), self.packed, writable)
        index = Index(self._path("index", head.index_file), self.told.key, writable)
        if len(rows) < head.rows or len(index) & (len(index) - 1) or len(index) < 2 * head.rows:
            raise self._cut_off(f"{len(rows):,} rows and {len(index):,} entries for {head.rows:,} users")
        return BankFiles(head, rows, index)

    def _made(self, head: Head) -> BankFiles:
        """New, empty files to be filled."""
        paths = [self._path("rows", head.rows_file), self._path("index", head.index_file)]
        for path in paths:
            path.unlink(missing_ok=True)
            path.touch()
        return BankFiles(head, Rows(paths[0], self.packed, True), Index(paths[1], self.told.key, True))

    def _path(self, kind: str, number: int) -> Path:
        return self.path / f"{kind}-{number}.bin"

    def _open_to_write(self, is_new: bool) -> None:
        with disk(self.path):
            if is_new:
                (self.path / _HEAD).touch()
            try:
                self._head_file = HeadFile(self.path / _HEAD, writable=True)
                self._files = None if is_new else self._opened(self._head_file.read(), writable=True)
            except FileNotFoundError as error:
                raise self._cut_off(f"no {Path(error.filename).name}") from None
            if is_new:
                self._make()
            head = self.mine().head
            self.taken, self.next_row = head.applied, head.rows
            self._clean()
            self._recover()

    def _make(self) -> None:
        """A new bank; ``spec.json`` comes last, and before it there is none."""
        files = self._made(Head())
        files.index.fill(np.empty(0, np.uint64), np.empty(0, np.int64), capacity_for(0))
        files.rows.file.sync()
        if self._head_file is not None:
            self._head_file.write(files.head)
        self._files = files
        write_spec(self.path, self.told)

    def _cut_off(self, came: str) -> AdapterBankError:
        return AdapterBankError(
            f"{self.path} must hold the files that its head names, whole; got {came}: put a whole copy "
            "back, or move the folder away and replay the log of feedback"
        )

    def _recover(self) -> None:
        """Takes over whole rows that came after the last commit, and blanks those that a crash cut off."""
        files, end, kept = self.mine(), self.mine().head.rows, 0
        for start, block in files.rows.blocks(end, len(files.rows)):
            is_whole = files.rows.whole(block)
            names = np.ascontiguousarray(block["name"])
            rows = start + np.flatnonzero(is_whole)
            found = files.find(names[is_whole])
            files.index.add(files.index.tags(names[is_whole][found < 0]), rows[found < 0])
            mine = rows[(found < 0) | (found == rows)]
            for row in np.setdiff1d(start + np.flatnonzero(names != b""), mine).tolist():
                files.rows.blank(row)
            end, kept = (int(mine[-1]) + 1 if len(mine) else end), kept + len(mine)
        if end > files.head.rows:
            self.is_dirty, self.next_row = True, end
            self.commit(holes=end - files.head.rows - kept)

    def _clean(self) -> None:
        """Deletes files that the head does not name: a crash or a full disk amid a compaction leaves such."""
        head = self.mine().head
        kept = {self._path("rows", head.rows_file), self._path("index", head.index_file)}
        for path in (*self.path.glob("rows-*.bin"), *self.path.glob("index-*.bin")):
            if path not in kept:
                path.unlink(missing_ok=True)
        journal.sync(self.path)

    def _locked(self) -> FileLock:
        with disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise AdapterBankError(
                    f"one process writes a bank, another one holds {self.path}: ask that one, or stop it "
                    "and try again; reading needs no leave"
                ) from None
        return lock


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Says in our words what a disk refuses."""
    try:
        yield
    except OSError as error:
        raise AdapterBankError(
            f"a bank needs a place that can be written, {folder} gave {error}: free space and "
            "write again; what was committed stands, the log of feedback tells the rest"
        ) from error


def _copied(before: BankFiles, fresh: BankFiles) -> int:
    """Puts all rows that hold somebody into fresh files, on the disk; their number."""
    blocks = before.rows.blocks(0, before.head.rows)
    fresh.rows.file.grow(int(sum((block["name"] != b"").sum() for _, block in blocks)))
    tags, end = [np.empty(0, np.uint64)], 0
    for _, block in blocks:
        kept = block[block["name"] != b""]
        if len(kept):
            fresh.rows.file.write(end, kept)
            tags.append(fresh.index.tags(np.ascontiguousarray(kept["name"])))
            end += len(kept)
    fresh.index.fill(np.concatenate(tags), np.arange(end), capacity_for(2 * end))
    fresh.rows.file.sync()
    return end
