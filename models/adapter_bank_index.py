"""Which row is a person's: an open-addressing table in a mapped file, read without loading it.

A tag of 64 bits says where to look; that it is the person is decided by the name in the row, so that two
people of one tag are told apart exactly. b people asked for."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from models.adapter_bank_files import MappedFile, digests, weights

ENTRY = np.dtype([("tag", "<u8"), ("row", "<u8")])
"""Row 0 is nobody; otherwise one more than the row, or :data:`GONE`."""
GONE = np.uint64(2**64 - 1)
_LEAST = 1024
Names = np.ndarray
"""(b,) of S48, see :func:`named`."""
NAME_BYTES = 48


def named(user_ids: Sequence[str]) -> Names:
    """Ids as rows hold them: up to 47 bytes as they are, a longer one as its 256-bit hash.

    Raises:
        ValueError: an id is empty.
    """
    return np.array([_name(user_id) for user_id in user_ids], f"S{NAME_BYTES}")


def _name(user_id: str) -> bytes:
    told = user_id.encode()
    if not told:
        raise ValueError("a person needs an id, got an empty one: send the id of the graph")
    if len(told) < NAME_BYTES and b"\0" not in told:
        return told
    return b"\xff" + base64.b85encode(hashlib.blake2b(told, digest_size=32).digest())


def capacity_for(rows: int) -> int:
    """Entries for so many rows: a power of two, at most half of it used."""
    return max(_LEAST, 1 << (2 * rows - 1).bit_length() if rows else 0)


class Index:
    """The table in one file.

    Cost: 16 bytes an entry, two to four entries a person; a look-up reads about 1.5 of them.
    """

    def __init__(self, path: Path, key: bytes, writable: bool = False) -> None:
        self.file = MappedFile(path, ENTRY, writable)
        self._factors = [weights(NAME_BYTES // 4, key + half) for half in (b"upper", b"lower")]

    def __len__(self) -> int:
        return len(self.file)

    def tags(self, names: Names) -> np.ndarray:
        """(b,) uint64, keyed: who does not know the key cannot choose ids that meet."""
        words = names.view("<u4").reshape(len(names), NAME_BYTES // 4)
        upper, lower = (digests(words, factors) for factors in self._factors)
        return upper << np.uint64(32) | lower

    def find(self, tags: np.ndarray, is_same: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """(b,) rows, -1 for nobody.

        Args:
            tags: (b,) of :meth:`tags`.
            is_same: given rows and which of the b they stand for, says whose they are.
        """
        view, mask = self.file.view, np.uint64(len(self.file) - 1)
        rows, at = np.full(len(tags), -1), tags & mask
        pending = np.arange(len(tags))
        for _ in range(len(view)):
            if not len(pending):
                break
            entries = view[at[pending]]
            is_hit = (entries["tag"] == tags[pending]) & (entries["row"] != 0) & (entries["row"] != GONE)
            hits = np.flatnonzero(is_hit)
            found = (entries["row"][hits] - np.uint64(1)).astype(np.int64)
            is_right = is_same(found, pending[hits])
            rows[pending[hits[is_right]]] = found[is_right]
            is_over = entries["row"] == 0
            is_over[hits[is_right]] = True
            pending = pending[~is_over]
            at[pending] = (at[pending] + np.uint64(1)) & mask
        return rows

    def of_tag(self, tag: np.ndarray) -> list[tuple[int, int]]:
        """Place and row of every entry of a (1,) tag, wherever it stands."""
        view = self.file.view
        places = np.flatnonzero((view["tag"] == tag) & (view["row"] != 0) & (view["row"] != GONE))
        return [(place, int(view["row"][place]) - 1) for place in places.tolist()]

    def add(self, tags: np.ndarray, rows: np.ndarray) -> None:
        """Entries for people who are not there."""
        _place(self.file.view, tags, rows, self._write)

    def drop(self, place: int) -> None:
        """Leaves nothing of an entry but that there was one."""
        self._write(np.array([place]), np.array([(0, GONE)], ENTRY))

    def fill(self, tags: np.ndarray, rows: np.ndarray, capacity: int) -> None:
        """Makes a new, empty file the table of these people, on the disk."""
        table = np.zeros(capacity, ENTRY)

        def store(places: np.ndarray, entries: np.ndarray) -> None:
            table[places] = entries

        _place(table, tags, rows, store)
        self.file.grow(capacity)
        self.file.write(0, table)
        self.file.sync()

    def living(self) -> tuple[np.ndarray, np.ndarray]:
        """Tags and rows of all entries."""
        entries = self.file.view[(self.file.view["row"] != 0) & (self.file.view["row"] != GONE)]
        return entries["tag"].copy(), (entries["row"] - np.uint64(1)).astype(np.int64)

    def _write(self, places: np.ndarray, entries: np.ndarray) -> None:
        told, size = entries.tobytes(), ENTRY.itemsize
        for number, place in enumerate(places.tolist()):
            self.file.write_bytes(place, 0, told[number * size : (number + 1) * size])


def _place(
    view: np.ndarray, tags: np.ndarray, rows: np.ndarray, store: Callable[[np.ndarray, np.ndarray], None]
) -> None:
    """Each to the first free entry from its own place on; of two who meet there, one goes on."""
    mask = np.uint64(len(view) - 1)
    at, pending = tags & mask, np.arange(len(tags))
    while len(pending):
        places = at[pending]
        taken = view["row"][places]
        free = np.flatnonzero((taken == 0) | (taken == GONE))
        winners = free[np.unique(places[free], return_index=True)[1]]
        entries = np.empty(len(winners), ENTRY)
        entries["tag"] = tags[pending[winners]]
        entries["row"] = rows[pending[winners]].astype(np.uint64) + np.uint64(1)
        store(places[winners].astype(np.int64), entries)
        is_placed = np.zeros(len(pending), bool)
        is_placed[winners] = True
        pending = pending[~is_placed]
        at[pending] = (at[pending] + np.uint64(1)) & mask
