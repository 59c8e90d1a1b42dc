"""Files of equal records that grow: read through a map, written by calls that can say the disk is full.

A store into a map that meets a full disk kills the process; a call that writes says so instead. Both see the
same pages, and so do other processes."""

import hashlib
import mmap
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np


class AdapterBankError(ValueError):
    """A bank, or a record for it, that cannot be used: what must hold, what came, what to do."""


class MappedFile:
    """Records of one type in one file that is there. n records in it, room included."""

    def __init__(self, path: Path, dtype: np.dtype, writable: bool = False) -> None:
        self.path, self.dtype = Path(path), dtype
        self._handle = os.open(self.path, os.O_RDWR if writable else os.O_RDONLY)
        self.view = self._mapped()

    def __len__(self) -> int:
        return len(self.view)

    def refresh(self) -> None:
        """Sees what another process made longer."""
        self.view = self._mapped()

    def grow(self, count: int) -> None:
        """Makes room for ``count`` records in all, zeros, with a place on the disk for each.

        Raises:
            OSError: the disk is full; the file is as long as before.
        """
        before, after = os.fstat(self._handle).st_size, count * self.dtype.itemsize
        if after <= before:
            return
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._handle, before, after - before)
            else:
                self._put(bytes(after - before), before)
        except OSError:
            os.ftruncate(self._handle, before)
            raise
        self.refresh()

    def write(self, first: int, records: np.ndarray) -> None:
        """Records at the places from ``first`` on; there must be room."""
        self._put(records.tobytes(), first * self.dtype.itemsize)

    def write_bytes(self, place: int, offset: int, told: bytes) -> None:
        """A part of one record, from its byte ``offset`` on."""
        self._put(told, place * self.dtype.itemsize + offset)

    def sync(self) -> None:
        """Returns when all of it is on the disk."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Lets go of the file; what reads the map keeps it alive."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _put(self, told: bytes, offset: int) -> None:
        left = memoryview(told)
        while left:
            written = os.pwrite(self._handle, left, offset)
            left, offset = left[written:], offset + written

    def _mapped(self) -> np.ndarray:
        count = os.fstat(self._handle).st_size // self.dtype.itemsize
        if not count:
            return np.empty(0, self.dtype)
        mapped = mmap.mmap(self._handle, count * self.dtype.itemsize, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self.dtype, count)


@cache
def weights(words: int, seed: bytes) -> np.ndarray:
    """(words + 1,) uint64, equal for equal seeds: what :func:`digests` multiplies by."""
    return np.frombuffer(hashlib.shake_128(seed).digest(8 * (words + 1)), "<u8").astype(np.uint64)


def digests(words: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A 32-bit hash of each row, any two different rows meeting with a chance of 2⁻³² over the factors.

    Args:
        words: (b, n) uint32.
        factors: (n + 1,) uint64.

    Returns:
        (b,) uint64 below 2³²: the upper half of f₀ + Σ fᵢ wᵢ modulo 2⁶⁴.

    Source: Lemire and Kaser, "Strongly universal string hashing is fast", The Computer Journal 57(11), 2014,
    the multilinear family.
    """
    return (factors[0] + words.astype(np.uint64) @ factors[1:]) >> np.uint64(32)


@dataclass(frozen=True)
class Head:
    """What a bank is at its last commit: everything told here is on the disk."""

    commits: int = 1
    """So far, from 1."""
    applied: int = 0
    """Place in the log of feedback up to which events were taken."""
    rows: int = 0
    """Used so far, those of people forgotten included."""
    holes: int = 0
    """Rows of people who were forgotten."""
    rows_file: int = 1
    """Number in the name of the file of rows."""
    index_file: int = 1


_HEAD = np.dtype([("sum", "<u8"), ("told", "<i8", (len(Head.__dataclass_fields__),))])
_HEAD_FACTORS = weights(_HEAD["told"].itemsize // 4, b"head of a bank of adapters")


class HeadFile:
    """Two copies of the head, written in turn: a crash amid one leaves the other."""

    def __init__(self, path: Path, writable: bool = False) -> None:
        self._file = MappedFile(path, _HEAD, writable)
        self._seen: bytes | None = None
        self._head = Head()

    def read(self) -> Head:
        """The newest whole copy.

        Raises:
            AdapterBankError: there is none.
        """
        told = self._file.view.tobytes()
        if told == self._seen:
            return self._head
        copies = np.frombuffer(told, _HEAD)
        sums = digests(np.ascontiguousarray(copies["told"]).view("<u4"), _HEAD_FACTORS)
        whole = [
            Head(*copy["told"].tolist())
            for copy, sum_ in zip(copies, sums, strict=True)
            if copy["sum"] == sum_
        ]
        if not whole:
            raise AdapterBankError(
                f"{self._file.path} must hold the head of a bank, it is cut off or damaged: put a whole copy "
                "of the folder back, or move it away and replay the log of feedback"
            )
        self._seen, self._head = told, max(whole, key=lambda head: head.commits)
        return self._head

    def write(self, head: Head) -> None:
        """Over the older copy, and waits for the disk."""
        self._file.grow(2)
        copy = np.zeros(1, _HEAD)
        copy["told"] = [getattr(head, name) for name in Head.__dataclass_fields__]
        copy["sum"] = digests(copy["told"].view("<u4"), _HEAD_FACTORS)
        self._file.write(head.commits % 2, copy)
        self._file.sync()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()
