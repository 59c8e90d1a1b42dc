"""Where one process finds adapters: in the bank, or in memory where another process writes it or it refuses.

The bank only saves work: whatever it holds is compared with the log of feedback before it bends an answer."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import Timeout

from models.adapter_bank import AdapterBank, AdapterBankError
from models.adapters import AdapterSpec

_RETRY_S = 5.0
_KEPT = 20_000  # people in memory, some hundred bytes each
log = logging.getLogger(__name__)


class Shelf:
    """Records by user id, of one head; whoever calls ``write``, ``take_over`` or ``forget`` holds a lock.

    Args:
        folder: of the bank.
        spec: what its records fit.
        clock: seconds that never go back.
        count_fault: called whenever the bank refuses.
    """

    def __init__(
        self, folder: Path, spec: AdapterSpec, clock: Callable[[], float], count_fault: Callable[[], None]
    ) -> None:
        self.folder, self.spec = folder, spec
        self.why_not: str | None = None
        """Why the bank cannot be used; None while all is well, whichever process writes it."""
        self._clock, self._count_fault = clock, count_fault
        self._reader: AdapterBank | None = None
        self._writer: AdapterBank | None = None
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._tried_s = self._read_s = float("-inf")

    @property
    def writer(self) -> AdapterBank | None:
        """The bank, where this process is the one that writes it."""
        return self._writer

    def take_over(self) -> bool:
        """Becomes the writer where nobody else is; True if it became it just now."""
        if self._writer is not None or self._clock() - self._tried_s < _RETRY_S:
            return False
        self._tried_s = self._clock()
        try:
            self._writer = AdapterBank(self.folder, self.spec, writable=True)
        except (AdapterBankError, OSError) as error:
            if not isinstance(error.__context__, Timeout):  # a writer elsewhere is as it should be
                self._refused(error)
            return False
        self._reader, self.why_not = None, None
        return True

    def read(self, user_ids: Sequence[str]) -> np.ndarray:
        """(b,) records, fresh for whoever is not there; the newer one of bank and memory."""
        found = self._from_bank(user_ids)
        for place, user_id in enumerate(user_ids):
            kept = self._kept.get(user_id)
            if kept is not None and (kept["number"], kept["events"]) > (
                found["number"][place],
                found["events"][place],
            ):
                found[place] = kept
        return found

    def write(self, user_ids: Sequence[str], records: np.ndarray) -> None:
        """Puts records in place of those before: into the bank, or where that cannot be into memory."""
        if self._writer is not None:
            try:
                self._writer.write(user_ids, records)
                for user_id in user_ids:
                    self._kept.pop(user_id, None)
                return
            except AdapterBankError as error:
                self._refused(error)
        for user_id, record in zip(user_ids, records, strict=True):
            self._kept[user_id] = record.copy()
            self._kept.move_to_end(user_id)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def commit(self, applied: int) -> None:
        """All events up to this place of the log are in the bank, on the disk."""
        if self._writer is not None:
            try:
                self._writer.commit(applied)
            except AdapterBankError as error:
                self._refused(error)

    def must_write(self) -> AdapterBank:
        """The bank, to write.

        Raises:
            AdapterBankError: another process writes it, or it refused.
        """
        self._tried_s = float("-inf")
        self.take_over()
        if self._writer is None:
            why_not = self.why_not or "another process writes it: ask that one"
            raise AdapterBankError(f"{self.folder} must be open to write here, {why_not}")
        return self._writer

    def forget(self, user_id: str) -> None:
        """Erases somebody here.

        Raises:
            AdapterBankError: another process writes the bank, or it refused.
        """
        self.must_write().forget(user_id)
        self._kept.pop(user_id, None)

    def close(self) -> None:
        """Lets another process write."""
        for bank in (self._writer, self._reader):
            if bank is not None:
                try:
                    bank.close()
                except (AdapterBankError, OSError) as error:
                    self._refused(error)
        self._writer = self._reader = None

    def _from_bank(self, user_ids: Sequence[str]) -> np.ndarray:
        try:
            bank = self._writer or self._opened()
            if bank is not None:
                return bank.read(user_ids)
        except (AdapterBankError, OSError, ValueError) as error:
            self._refused(error)
        return self.spec.fresh(len(user_ids))

    def _opened(self) -> AdapterBank | None:
        """The bank to read; one that refused is tried again after a while."""
        if self._reader is None and self._clock() - self._read_s >= _RETRY_S:
            self._read_s = self._clock()
            self._reader = AdapterBank(self.folder, self.spec)
            self.why_not = None
        return self._reader

    def _refused(self, error: Exception) -> None:
        """Goes on without the bank, and says so; it is tried again after a while."""
        self._count_fault()
        if self.why_not is None:
            log.warning("adapters go on without their bank: %s", error)
        self.why_not = str(error)
        writer, self._writer, self._reader = self._writer, None, None
        self._tried_s = self._read_s = self._clock()
        if writer is not None:
            try:
                writer.close()
            except (AdapterBankError, OSError):
                log.warning("the bank %s could not be closed in order", self.folder)
