"""What the banks of people's adapters hold, for pages: how many, how large, of which base, when last."""

from dataclasses import dataclass
from itertools import islice

from configs.home import Home
from models.adapter_bank import AdapterBank

LOOKED_AT = 20_000
"""People whose records are read for events and dates; a bank of a million is not read for a page."""


@dataclass(frozen=True)
class BankStatus:
    """One bank."""

    name: str
    """Of its folder where a graph has one bank a base, else empty."""
    base: str
    """Hash of the head that its adapters bend; empty where it is not named."""
    users: int
    user_bytes: int
    """Of one person's adapter, serialised."""
    size_bytes: int
    """On the disk."""
    rank: int
    width: int
    applied: int
    """Events of the log that are in the bank."""
    events: int
    """That moved adapters, of the first :data:`LOOKED_AT` people."""
    last_ts: int | None
    """UTC seconds of the latest of them; None where nothing was learned."""
    is_whole: bool
    """Whether those are all people."""


def bank_statuses(graph: str, home: Home) -> list[BankStatus]:
    """Every bank of a graph, by name; none where nothing was learned.

    Raises:
        AdapterBankError: a folder holds files that are none of a bank's.
    """
    root = home.adapters(graph)
    folders = sorted(path.parent for path in (*root.glob("spec.json"), *root.glob("*/spec.json")))
    found = []
    for folder in folders:
        with AdapterBank(folder) as bank:
            found.append(_status(bank, "" if folder == root else folder.name))
    return found


def _status(bank: AdapterBank, name: str) -> BankStatus:
    stats, people = bank.stats(), list(islice(bank.users(), LOOKED_AT))
    records = bank.read(people)
    last = int(records["last_ts"].max()) if len(people) else 0
    return BankStatus(
        name,
        stats.spec.base,
        stats.users,
        stats.record_bytes,
        stats.size_bytes,
        stats.spec.rank,
        stats.spec.width,
        stats.applied,
        int(records["events"].sum()),
        last if last > 0 else None,
        len(people) == stats.users,
    )
