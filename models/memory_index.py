"""The index of a ReasoningBank kept on disk beside its patterns, so that opening does not build it again.

It is a copy of what the patterns say: whoever finds none, an old one or a broken one builds it anew."""

import hashlib
import os
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.index import IndexConfig, VectorIndex

_NAME, _DIGEST = "index.bin", 32


class IndexFile:
    """One file: the digest of what was indexed, the digest of the index, the index.

    Args:
        folder: of the bank.
        writes: True while the process that writes the bank opens it; else the file is only read.

    Cost: about 4 (d + 32) bytes a pattern of width d; a hash of all vectors when a bank is opened.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.path, self.writes = Path(folder) / _NAME, writes

    def load(self, vectors: np.ndarray, config: IndexConfig) -> VectorIndex | None:
        """The index of exactly these (v, d) vectors in this order; None where it is another's, or broken."""
        try:
            read = self.path.read_bytes()
        except OSError:
            return None
        told, payload = read[:_DIGEST], memoryview(read)[2 * _DIGEST :]
        if (
            told != _digest(vectors, config)
            or read[_DIGEST : 2 * _DIGEST] != hashlib.sha256(payload).digest()
        ):
            return None
        return VectorIndex.restored(vectors.shape[1], np.frombuffer(payload, np.uint8), config)

    def keep(self, index: VectorIndex, vectors: np.ndarray) -> None:
        """Writes the index of (v, d) vectors, aside and then in place; a disk that refuses leaves none."""
        if not self.writes:
            return
        payload = index.kept()
        aside = self.path.with_name(f".{_NAME}.{uuid.uuid4().hex[:8]}")
        try:
            with aside.open("wb") as file:
                file.write(_digest(vectors, index.config) + hashlib.sha256(payload).digest())
                file.write(payload)
            os.replace(aside, self.path)
        except OSError:  # opening is slower, nothing else: patterns stand in other files
            with suppress(OSError):
                aside.unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Removes the file and what a crash left of it: both hold queries that may have to be forgotten.

        Raises:
            OSError: the disk refused.
        """
        for path in (self.path, *self.path.parent.glob(f".{_NAME}.*")):
            path.unlink(missing_ok=True)


def _digest(vectors: np.ndarray, config: IndexConfig) -> bytes:
    made = hashlib.sha256(repr((sorted(asdict(config).items()), vectors.shape)).encode())
    made.update(np.ascontiguousarray(vectors, np.float32))
    return made.digest()
