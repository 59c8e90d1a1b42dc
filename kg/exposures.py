"""Who was answered by which version while a candidate was tried, and what it cost: one SQLite file a graph.

People stand in it as a salted hash of one trial; nobody's id is written."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS exposures (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  trial TEXT NOT NULL,
  person TEXT NOT NULL,
  arm TEXT NOT NULL,
  ts INTEGER NOT NULL,
  latency_ms REAL NOT NULL,
  beside_ms REAL,
  overlap REAL,
  error TEXT,
  contents TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS exposures_of_trial ON exposures (trial, number);
"""
_COLUMNS = "trial, person, arm, ts, latency_ms, contents, beside_ms, overlap, error"


class ExposureError(RuntimeError):
    """A log that cannot be opened, read or written."""


@dataclass(frozen=True)
class Exposure:
    """One answer given while a candidate was tried."""

    trial: str
    """Salt of the candidate."""
    person: str
    """Salted hash of the user id."""
    arm: str
    """champion, canary or shadow."""
    ts: int
    """UTC seconds when it was given."""
    latency_ms: float
    """Of the version of the arm."""
    contents: tuple[str, ...] = ()
    """What was shown, best first; nothing for a shadow."""
    beside_ms: float | None = None
    """Of the champion for the same request, where both answered it."""
    overlap: float | None = None
    """Share of the champion's contents that a shadow names too, 0 to 1."""
    error: str | None = None
    """Kind of error where the version could not answer; whoever asked was answered by the champion."""


class ExposureLog:
    """Append-only; batches are on disk when ``append`` returns, several processes may write.

    Example:
        >>> import tempfile
        >>> log = ExposureLog(Path(tempfile.mkdtemp()) / "exposures.sqlite")
        >>> log.append([Exposure("t", "00", "canary", 7, 1.5, ("content:a",))])
        >>> [(one.arm, one.contents) for one in log.read("t")], list(log.read("other"))
        ([('canary', ('content:a',))], [])
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._open = threading.local()

    def append(self, exposures: Sequence[Exposure]) -> None:
        """Writes a batch in one transaction.

        Raises:
            ExposureError: nothing of it was recorded.
        """
        rows = [
            (
                *(one.trial, one.person, one.arm, one.ts, one.latency_ms),
                json.dumps(one.contents),
                *(one.beside_ms, one.overlap, one.error),
            )
            for one in exposures
        ]
        try:
            with self._connection() as connection:
                places = ", ".join("?" * len(_COLUMNS.split(", ")))
                connection.executemany(f"INSERT INTO exposures ({_COLUMNS}) VALUES ({places})", rows)
        except (sqlite3.Error, OSError) as error:
            raise ExposureError(
                f"the log {self.path} must be writable ({error}), {len(rows)} answers were not recorded: "
                "free the disk or mend the file's permissions"
            ) from None

    def read(self, trial: str) -> Iterator[Exposure]:
        """All answers of one trial, oldest first, a thousand at a time."""
        after = 0
        while page := self._page(trial, after):
            for row in page:
                yield Exposure(*row[1:6], tuple(json.loads(row[6])), *row[7:])
            after = page[-1][0]

    def forget(self, but: str) -> int:
        """Deletes the answers of all trials but one, whose numbers stand in the audit log; says how many."""
        try:
            with self._connection() as connection:
                return connection.execute("DELETE FROM exposures WHERE trial != ?", (but,)).rowcount
        except (sqlite3.Error, OSError) as error:
            raise ExposureError(f"the log {self.path} must be writable ({error}): free the disk") from None

    def close(self) -> None:
        """Lets go of this thread's connection."""
        connection = getattr(self._open, "connection", None)
        if connection is not None:
            connection.close()
            del self._open.connection

    def _page(self, trial: str, after: int) -> list[tuple[object, ...]]:
        if not self.path.exists():
            return []
        try:
            return (
                self._connection()
                .execute(
                    f"SELECT number, {_COLUMNS} FROM exposures WHERE trial = ? AND number > ? "
                    "ORDER BY number LIMIT 1000",
                    (trial, after),
                )
                .fetchall()
            )
        except (sqlite3.Error, OSError) as error:
            raise ExposureError(
                f"the log {self.path} must be a log of answers ({error}): mend it, or move it away"
            ) from None

    def _connection(self) -> sqlite3.Connection:
        connection = getattr(self._open, "connection", None)
        if connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=10)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_TABLE)
            self._open.connection = connection
        return connection
