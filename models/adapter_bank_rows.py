"""A person's row: a name and two slots, of which a write never touches the one that the last commit holds.

Whoever is killed amid a write leaves a slot whose checksum does not fit; the other one stands, and the log of
feedback tells what came after it. b people of a batch."""

from pathlib import Path

import numpy as np

from models.adapter_bank_files import MappedFile, digests, weights
from models.adapter_bank_index import NAME_BYTES, Names

_STEP = 65_536
"""Rows that a file grows by at most."""
_LEAST = 256


class Rows:
    """All rows in one file; which row is whose is the index's business."""

    def __init__(self, path: Path, packed: np.dtype, writable: bool = False) -> None:
        padding = -packed.itemsize % 8
        self.packed = packed
        self._slot = np.dtype(
            [("sum", "<u4"), ("turn", "<u4"), ("record", packed), ("pad", "u1", (padding,))]
        )
        row = np.dtype([("name", f"S{NAME_BYTES}"), ("slots", self._slot, (2,))])
        self.file = MappedFile(path, row, writable)
        self._factors = weights((NAME_BYTES + self._slot.itemsize) // 4 - 1, b"slot of a bank of adapters")

    def __len__(self) -> int:
        return len(self.file)

    def are(self, rows: np.ndarray, names: Names) -> np.ndarray:
        """(b,) bool: which of these rows hold these names."""
        if len(rows) and int(rows.max()) >= len(self.file):
            self.file.refresh()  # another process made it longer
        inside = rows < len(self.file)
        return (
            inside & (self.file.view["name"][np.where(inside, rows, 0)] == names)
            if len(self.file)
            else inside
        )

    def newest(self, rows: np.ndarray, names: Names, is_last: bool) -> tuple[np.ndarray, np.ndarray]:
        """What these people's rows hold, and (b,) bool, False where no slot is whole.

        Args:
            rows: (b,) of :meth:`are`.
            names: (b,) whose they are.
            is_last: True also takes the older slot, where a crash cut the newer one off; a slot that is just
                being written is whole when one asks again.
        """
        slots = self.file.view["slots"]
        first = slots["turn"][rows].argmax(axis=1)
        chosen = slots[rows, first]  # a copy: a writer may go on
        is_whole = self._are_whole(chosen, names)
        torn = np.flatnonzero(~is_whole)
        if is_last and len(torn):
            other = slots[rows[torn], 1 - first[torn]]
            is_right = self._are_whole(other, names[torn])
            chosen[torn[is_right]] = other[is_right]
            is_whole[torn] = is_right
        return chosen["record"], is_whole

    def overwrite(self, rows: np.ndarray, names: Names, packed: np.ndarray, turn: int) -> None:
        """New records for people who are there: over what this turn wrote, or else over the older slot."""
        turns = self.file.view["slots"]["turn"][rows].astype(np.int64)  # (b, 2)
        kept = np.where(turns < turn, turns, -1).argmax(axis=1)
        told, size = self._sealed(names, packed, turn).tobytes(), self._slot.itemsize
        for number, (row, slot) in enumerate(zip(rows.tolist(), (1 - kept).tolist(), strict=True)):
            self.file.write_bytes(row, NAME_BYTES + slot * size, told[number * size : (number + 1) * size])

    def append(self, first: int, names: Names, packed: np.ndarray, turn: int) -> None:
        """New people in the rows from ``first`` on; there must be room."""
        for start in range(0, len(names), _STEP):
            part = slice(start, start + _STEP)
            block = np.zeros(len(names[part]), self.file.dtype)
            block["name"] = names[part]
            block["slots"][:, 0] = self._sealed(names[part], packed[part], turn)
            self.file.write(first + start, block)

    def make_room(self, count: int) -> None:
        """For so many rows in all, and then some."""
        if count > len(self.file):
            self.file.grow(count + min(_STEP, max(_LEAST, count // 4)))

    def blank(self, row: int) -> None:
        """Zeros over all that a row holds."""
        self.file.write(row, np.zeros(1, self.file.dtype))

    def blocks(self, first: int, end: int) -> list[tuple[int, np.ndarray]]:
        """Rows from ``first`` to ``end``, as parts of the map with the number of the first in each."""
        return [
            (start, self.file.view[start : min(end, start + _STEP)]) for start in range(first, end, _STEP)
        ]

    def whole(self, block: np.ndarray) -> np.ndarray:
        """(n,) bool: which rows of a block hold a person with a whole slot."""
        names = np.ascontiguousarray(block["name"])
        either = [self._are_whole(np.ascontiguousarray(block["slots"][:, slot]), names) for slot in (0, 1)]
        return (names != b"") & (either[0] | either[1])

    def torn(self, block: np.ndarray) -> np.ndarray:
        """(n, 2) bool: slots that were written and do not fit their checksum."""
        names = np.ascontiguousarray(block["name"])
        slots = [np.ascontiguousarray(block["slots"][:, slot]) for slot in (0, 1)]
        return np.stack([(one["turn"] > 0) & ~self._are_whole(one, names) for one in slots], axis=1)

    def _sealed(self, names: Names, packed: np.ndarray, turn: int) -> np.ndarray:
        slots = np.zeros(len(names), self._slot)
        slots["turn"], slots["record"] = turn, packed
        slots["sum"] = self._sums(slots, names)
        return slots

    def _are_whole(self, slots: np.ndarray, names: Names) -> np.ndarray:
        return (slots["turn"] > 0) & (slots["sum"] == self._sums(slots, names))

    def _sums(self, slots: np.ndarray, names: Names) -> np.ndarray:
        words = slots.view("<u4").reshape(len(slots), self._slot.itemsize // 4)[
            :, 1:
        ]  # all but the sum itself
        return digests(
            np.hstack([names.view("<u4").reshape(len(names), NAME_BYTES // 4), words]), self._factors
        )
