"""All users' instant adapters in mapped files: one process writes, many read, a crash loses nothing told.

Rows lie in ``rows-N.bin``, the table of whose they are in ``index-N.bin``. They are no safetensors: such a
file tells the size of each tensor before the first of them, so that it cannot grow in place, and has no room
for a second slot and a checksum a row. One person leaves and comes as safetensors, in PEFT's format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from models.adapter_bank_files import AdapterBankError
from models.adapter_bank_folder import BankFolder, disk
from models.adapter_bank_index import Names, named
from models.adapter_bank_packing import Packing, pack, unpack
from models.adapter_bank_peft import load_peft, save_peft
from models.adapters import AdapterSpec

__all__ = ["AdapterBank", "AdapterBankError", "BankStats"]
_TRIES = 4
"""Readings of a row that is being written, before its older slot is taken or it counts as damaged."""


@dataclass(frozen=True)
class BankStats:
    """What a bank holds."""

    users: int
    forgotten: int
    """Rows that the next compaction frees."""
    size_bytes: int
    """On the disk, room to grow included."""
    row_bytes: int
    """Of one user on the disk: a name and two slots."""
    record_bytes: int
    """Of one user's adapter, serialised."""
    applied: int
    commits: int
    packing: Packing
    spec: AdapterSpec
    torn: int | None = None
    """Slots that a crash cut off, their other slot standing in; None where nobody looked."""
    damaged: int | None = None
    """Users of whom no slot is whole; None where nobody looked."""


class AdapterBank:
    """Adapters of all users of one base.

    A write is seen by all processes at once and outlives the death of this one; what also outlives the death
    of the machine is what was committed, and the log of feedback behind :attr:`applied` tells the rest:
    replay it from there, passing over events whose number a user's record has reached. A user whose row is
    found damaged reads as fresh and stands in :attr:`damaged`, to be learned again from the log.

    Cost: two slots, 64 bytes and up to four entries of the index a user: 1.2 GB for a million at rank 2 and
    width 64. A look-up of b users is some thirty calls of NumPy, with no loop over users but over their ids.

    Example:
        >>> import tempfile
        >>> spec = AdapterSpec(width=2, outputs=1, rank=1)
        >>> with AdapterBank(Path(tempfile.mkdtemp()), spec, writable=True) as bank:
        ...     record = bank.read(["user:a:1"])
        ...     record["up"] = 3
        ...     bank.write(["user:a:1"], record)
        ...     bank.read(["user:a:1", "user:a:2"])["up"].ravel().tolist(), bank.forget("user:a:1")
        ([3.0, 0.0], True)
    """

    def __init__(
        self,
        folder: Path,
        spec: AdapterSpec | None = None,
        writable: bool = False,
        packing: Packing | None = None,
        commit_every: int = 4096,
    ) -> None:
        """Opens a folder; to read, one without a bank is an empty bank.

        Args:
            folder: of one bank.
            spec: what the adapters must fit; None takes what the folder says.
            writable: the one process that writes.
            packing: of a bank that is made, float16 where left out; int8 loses changes below half a step.
            commit_every: records written between two commits, at most.

        Raises:
            AdapterBankError: another process writes it, it fits another base, or its files are none of ours.
        """
        self._folder = BankFolder(folder, spec, packing, writable)
        self.folder, self.commit_every = self._folder.path, commit_every
        self.spec = self._folder.told.spec
        self.damaged: set[str] = set()
        """Users whose rows were found damaged and read as fresh."""
        self._written = 0

    def __enter__(self) -> "AdapterBank":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commits what was written, and lets another process write."""
        try:
            if self._folder.is_writable and (self._folder.is_dirty or self._written):
                self.commit()
        finally:
            self._folder.close()

    @property
    def applied(self) -> int:
        """Place in the log of feedback up to which all events are in the bank, on the disk."""
        files = self._folder.current()
        return 0 if files is None else files.head.applied

    def has(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) bool: who is there."""
        files = self._folder.current()
        return np.zeros(len(user_ids), bool) if files is None else files.find(named(user_ids)) >= 0

    def read(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) of ``spec.dtype``, a copy; fresh for whoever is not there."""
        records, names = self.spec.fresh(len(user_ids)), named(user_ids)
        pending = np.arange(len(names))
        for attempt in range(_TRIES):
            files = self._folder.current()
            if files is None or not len(pending):
                return records
            rows = files.find(names[pending])
            pending, rows = pending[rows >= 0], rows[rows >= 0]
            found, is_whole = files.rows.newest(rows, names[pending], is_last=attempt == _TRIES - 1)
            records[pending[is_whole]] = unpack(self.spec, found[is_whole], self._folder.told.packing)
            pending = pending[~is_whole]
        self.damaged.update(user_ids[place] for place in pending.tolist())
        return records

    def write(self, user_ids: Sequence[str], records: np.ndarray, applied: int | None = None) -> None:
        """Puts one record a user in place of the one before.

        Args:
            user_ids: (b,), nobody twice.
            records: (b,) of ``spec.dtype``.
            applied: with these records all events up to this place of the log are in the bank.

        Raises:
            AdapterBankError: the records do not fit or are not finite, and nothing changed; or the disk
                refused, and some may be written: write them again, or replay the log.
        """
        names = self._checked(user_ids, records)
        packed = pack(self.spec, records, self._folder.told.packing)
        folder = self._folder
        with folder.guard, disk(self.folder):
            rows = folder.mine().find(names)
            there, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
            if len(new):
                folder.append(names[new], packed[new])
            if len(there):
                folder.is_dirty = True
                folder.mine().rows.overwrite(rows[there], names[there], packed[there], folder.turn)
            self._written += len(names)
            folder.taken = max(folder.taken, applied or 0)
            if self._written >= self.commit_every:
                self.commit()
        self.damaged.difference_update(user_ids)

    def commit(self, applied: int | None = None) -> None:
        """Returns when all that was written is on the disk.

        Args:
            applied: all events up to this place of the log are in the bank.
        """
        with self._folder.guard, disk(self.folder):
            self._folder.mine()
            self._folder.taken = max(self._folder.taken, applied or 0)
            self._folder.commit()
            self._written = 0

    def forget(self, user_id: str) -> bool:
        """Erases somebody: on return no file of the bank holds a byte of theirs; False for strangers.

        Their feedback is another matter: whoever replays the log learns it again.
        """
        name, folder = named([user_id]), self._folder
        with folder.guard, disk(self.folder):
            row = int(folder.mine().find(name)[0])
            folder.mine().erase(name, row)
            folder.is_dirty = True
            folder.commit(holes=int(row >= 0))
        self.damaged.discard(user_id)
        return row >= 0

    def compact(self) -> int:
        """Writes rows and index anew without the rows of people forgotten; bytes freed.

        Takes the room of a second bank while it runs; whoever is killed amid it leaves the old files.
        """
        with self._folder.guard, disk(self.folder):
            self._folder.mine()
            before = self._folder.size_bytes()
            self._folder.compact()
            return before - self._folder.size_bytes()

    def users(self) -> Iterator[str]:
        """Ids of all users, in the order in which they came; a hash for an id above 47 bytes."""
        files = self._folder.current()
        if files is None:
            return
        files.rows.file.refresh()
        for _, block in files.rows.blocks(0, len(files.rows)):
            for name in block["name"][block["name"] != b""].tolist():
                yield name.decode(errors="replace")

    def stats(self, look: bool = False) -> BankStats:
        """How much it holds.

        Args:
            look: also read every row and hold it against its checksums.
        """
        files, folder = self._folder.current(), self._folder
        if files is None:
            return BankStats(0, 0, 0, 0, folder.packed.itemsize, 0, 0, folder.told.packing, self.spec)
        torn = damaged = 0
        files.rows.file.refresh()
        for _, block in files.rows.blocks(0, len(files.rows)) if look else []:
            torn += int(files.rows.torn(block).sum())
            damaged += int(((block["name"] != b"") & ~files.rows.whole(block)).sum())
        return BankStats(
            users=(folder.next_row if folder.is_writable else files.head.rows) - files.head.holes,
            forgotten=files.head.holes,
            size_bytes=folder.size_bytes(),
            row_bytes=files.rows.file.dtype.itemsize,
            record_bytes=folder.packed.itemsize,
            applied=files.head.applied,
            commits=files.head.commits,
            packing=folder.told.packing,
            spec=self.spec,
            torn=torn if look else None,
            damaged=damaged if look else None,
        )

    def export_user(self, user_id: str, folder: Path, module: str = "head") -> None:
        """One user's adapter as PEFT reads it: ``adapter_config.json`` and ``adapter_model.safetensors``.

        Args:
            user_id: somebody who is there.
            folder: made where it is not there.
            module: name of the linear layer in the model that it is to be loaded into.

        Raises:
            AdapterBankError: nobody of that id is there.
        """
        if not self.has([user_id])[0]:
            raise AdapterBankError(
                f"{self.folder} holds nothing of {user_id!r}: name somebody who gave feedback"
            )
        save_peft(folder, self.spec, self.read([user_id])[0], module)

    def import_user(self, user_id: str, folder: Path) -> None:
        """Takes an adapter in PEFT's format for a user, in place of the one before, and commits it.

        Raises:
            AdapterBankError: it is no plain LoRA, or fits another width, rank, scale or base.
        """
        record = load_peft(folder, self.spec)
        record["number"] = self._folder.taken  # of this bank's log, not of the one where it learned
        self.write([user_id], record)
        self.commit()

    def _checked(self, user_ids: Sequence[str], records: np.ndarray) -> Names:
        if records.dtype != self.spec.dtype or records.shape != (len(user_ids),):
            raise AdapterBankError(
                f"a bank takes one record of {self.spec} a user, got {records.shape} of "
                f"{records.dtype.itemsize} bytes for {len(user_ids)} users and {self.spec.dtype.itemsize} "
                "bytes: take records of this base"
            )
        if len(set(user_ids)) != len(user_ids):
            raise AdapterBankError("one write takes one record a user, got somebody twice: keep the newest")
        for name in ("down", "up", "gathered"):
            is_finite = np.isfinite(records[name]).reshape(len(records), -1).all(axis=1)
            if not is_finite.all():
                raise AdapterBankError(
                    f"weights must be finite, {name!r} of {user_ids[int(is_finite.argmin())]} is not: bound "
                    "the step that made it; nothing was written"
                )
        return named(user_ids)
