"""Which digests were seen before: in memory while they are few, then in a file, so that memory stays flat."""

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

WIDTH = 12
"""Bytes of a digest."""
_SLOTS = 64
_BUCKET = _SLOTS * WIDTH
_EMPTY = bytes(WIDTH)
_AT_ONCE = 2048
"""Buckets that are split together: 3 MB."""


class Seen:
    """A set of digests of :data:`WIDTH` bytes that only grows.

    The file is a table of buckets of 64 digests; a digest's first bits name its bucket. A bucket that is full
    doubles the table, which splits each bucket in two by one bit more.

    Source: Fagin et al., "Extendible hashing", ACM TODS 4(3), 1979; ours doubles the table, not a directory.

    Cost: a read and a write of the file a digest; ``in_memory`` digests of memory, about 90 bytes each, and
    about 25 bytes of disk a digest.

    Example:
        >>> with Seen(Path("."), in_memory=2) as seen:
        ...     [seen.add(bytes([place]) * 12) for place in (1, 2, 3, 4, 3, 1)]
        [True, True, True, True, False, False]
    """

    def __init__(self, folder: Path, in_memory: int = 100_000) -> None:
        """Begins empty.

        Args:
            folder: takes the file, which has no name and goes with this process.
            in_memory: digests that are kept in memory before the file is begun.
        """
        self._folder, self._most = folder, in_memory
        self._few: set[bytes] | None = set()
        self._file: IO[bytes] | None = None
        self._bits = 0
        self._zeros = False  # twelve bytes of zero mean an empty slot

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, digest: bytes) -> bool:
        """Takes a digest in; True where it was not there before.

        Raises:
            OSError: the disk is full.
        """
        if self._few is not None:
            before = len(self._few)
            self._few.add(digest)
            if len(self._few) > self._most:
                self._spill(self._few)
            return self._few is None or len(self._few) > before
        if digest == _EMPTY:
            is_new, self._zeros = not self._zeros, True
            return is_new
        return self._put(digest)

    def _spill(self, few: set[bytes]) -> None:
        self._few, self._bits = None, 4
        self._file = self._fresh(self._bits)
        for digest in few:
            self.add(digest)

    def _put(self, digest: bytes) -> bool:
        while True:
            place = (int.from_bytes(digest[:4], "big") >> (32 - self._bits)) * _BUCKET
            bucket = os.pread(self._handle, _BUCKET, place)
            found = bucket.find(digest)
            while found % WIDTH and found > 0:  # a match across two digests is none
                found = bucket.find(digest, found + 1)
            if found >= 0:
                return False
            used = -(-len(bucket.rstrip(b"\0")) // WIDTH) * WIDTH
            if used < _BUCKET:
                _write(self._handle, digest, place + used)
                return True
            self._double()

    @property
    def _handle(self) -> int:
        if self._file is None:
            raise ValueError("the table must be open, it is closed: begin a new one")
        return self._file.fileno()

    def _fresh(self, bits: int) -> IO[bytes]:
        file = TemporaryFile(dir=self._folder, buffering=0)
        file.truncate(_BUCKET << bits)
        return file

    def _double(self) -> None:
        """Twice as many buckets, each digest by one bit more."""
        wider = self._fresh(self._bits + 1)
        for first in range(0, 1 << self._bits, _AT_ONCE):
            raw = os.pread(self._handle, _AT_ONCE * _BUCKET, first * _BUCKET)
            slots = np.frombuffer(raw, np.uint8).reshape(-1, WIDTH)  # (k * 64, 12)
            digests = slots[slots.any(axis=1)]
            heads = digests[:, :4].astype(np.uint32) @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.uint32)
            buckets = (heads >> np.uint32(31 - self._bits)).astype(np.int64) - 2 * first
            order = np.argsort(buckets, kind="stable")
            buckets = buckets[order]
            rank = np.arange(len(buckets)) - np.searchsorted(buckets, buckets)
            split = np.zeros((2 * len(raw) // _BUCKET, _SLOTS, WIDTH), np.uint8)
            split[buckets, rank] = digests[order]
            _write(wider.fileno(), split.tobytes(), 2 * first * _BUCKET)
        if self._file is not None:
            self._file.close()
        self._file, self._bits = wider, self._bits + 1


def _write(file: int, data: bytes, place: int) -> None:
    """Writes all of it; a disk that becomes full amid a write takes a part and says nothing."""
    if os.pwrite(file, data, place) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
