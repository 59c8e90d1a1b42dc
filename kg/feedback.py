"""What people did, durable before anybody is told so: an append-only log in one SQLite file.

A process that is killed loses no event that it acknowledged; several processes may write to one log."""

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from kg.privacy import user_id as keyed_user_id

Event = Literal["rating", "like", "dislike", "dismiss", "watchlist", "watched"]
EVENTS: tuple[str, ...] = get_args(Event)
RANGES = {"rating": (0.0, 10.0), "watched": (0.0, 1.0)}
"""Values that an event must carry; the others carry none."""
POSITIVE_RATING = 8.0
"""Ratings from here on, 0 to 10, count as liked by whoever reads the log."""
LIKE_RATING, DISLIKE_RATING = 9.0, 2.0
"""What a like and a dislike stand for on the scale of ratings, 0 to 10."""
WATCHED_SHARE = 0.7
"""Above this progress a content counts as watched, and as liked where no opinion was given."""
_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL,
  content_id TEXT NOT NULL,
  event TEXT NOT NULL,
  value REAL,
  ts INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_of_user ON feedback (user_id, number);
"""


class FeedbackError(RuntimeError):
    """A log that cannot be opened or written: nothing was recorded."""


class KeyTaken(ValueError):
    """An idempotency key that stands for another event already."""


@dataclass(frozen=True)
class FeedbackEvent:
    """One thing that a person did with a content."""

    user_id: str
    content_id: str
    event: str
    """One of :data:`EVENTS`."""
    key: str
    """Sending the same key again records nothing new."""
    ts: int
    """UTC seconds when it happened."""
    value: float | None = None
    """rating: 0 to 10; watched: progress, 0 to 1; None for the rest."""
    number: int = 0
    """Place in the log, from 1; 0 before it is written."""

    def __post_init__(self) -> None:
        if self.event not in EVENTS:
            raise ValueError(f"event must be one of {', '.join(EVENTS)}, got {self.event!r}: use one of them")
        allowed = RANGES.get(self.event)
        if allowed is None and self.value is not None:
            raise ValueError(f"a {self.event} carries no value, got {self.value!r}: leave it out")
        if allowed and (self.value is None or not allowed[0] <= self.value <= allowed[1]):
            raise ValueError(
                f"a {self.event} carries a value in {allowed[0]:g}..{allowed[1]:g}, "
                f"got {self.value!r}: send one"
            )


class Recorded(NamedTuple):
    """What became of an event that was handed in; the disk has it."""

    is_new: bool
    """False if its key was there already for the same event."""
    number: int
    """Its place in the log, from 1."""


@dataclass(frozen=True)
class Opinion:
    """What somebody's feedback says of one content, all events taken together."""

    content_id: str
    is_positive: bool
    is_negative: bool
    ts: int
    """UTC seconds of the event that decided."""


def hashed_user(user_id: str) -> str:
    """The id under which somebody is written down: graph ids stay, any other name is hashed.

    Example:
        >>> hashed_user("user:world:7")
        'user:world:7'
        >>> hashed_user("ann@example.org").startswith("user:feedback:")
        True
    """
    if user_id.startswith("user:") and len(user_id) > len("user:"):
        return user_id
    return keyed_user_id("feedback", user_id)


def opinions(events: list[FeedbackEvent], positive_rating: float) -> list[Opinion]:
    """One opinion a content, in the order of first mention; the latest explicit one counts.

    A rating, like, dislike or dismissal is explicit. Having watched more than :data:`WATCHED_SHARE` counts as
    a like only where nothing explicit was said. A watchlist entry is no opinion.
    """
    said: dict[str, tuple[bool | None, int]] = {}
    explicit: set[str] = set()
    for event in events:
        verdict = _verdict(event, positive_rating)
        if event.event in ("rating", "like", "dislike", "dismiss"):
            explicit.add(event.content_id)
            said[event.content_id] = verdict, event.ts
        elif event.content_id not in explicit and (verdict is not None or event.content_id not in said):
            said[event.content_id] = verdict, event.ts
    return [
        Opinion(content_id, verdict is True, verdict is False, ts)
        for content_id, (verdict, ts) in said.items()
    ]


def _verdict(event: FeedbackEvent, positive_rating: float) -> bool | None:
    if event.event == "rating":
        return float(event.value or 0.0) >= positive_rating
    if event.event == "watched":
        return True if float(event.value or 0.0) > WATCHED_SHARE else None
    return {"like": True, "dislike": False, "dismiss": False}.get(event.event)


class FeedbackLog:
    """Append-only log of :class:`FeedbackEvent`; ``append`` returns after the disk has it.

    Threads that append at once share one transaction: whoever gets to write does so for all that wait, so
    that the disk is waited for once and not once each.

    Example:
        >>> import tempfile
        >>> log = FeedbackLog(Path(tempfile.mkdtemp()) / "feedback.sqlite")
        >>> event = FeedbackEvent("user:world:1", "content:world:2", "like", key="a", ts=0)
        >>> log.append(event), log.append(event)
        (True, False)
        >>> log.record(event)
        Recorded(is_new=False, number=1)
        >>> [event.event for event in log.read()]
        ['like']
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._open = threading.local()
        self._waiting: deque[_Waiting] = deque()
        self._writing = threading.Lock()

    def append(self, event: FeedbackEvent) -> bool:
        """Writes an event and waits for the disk; False if its key is there already for the same event.

        Raises:
            KeyTaken: the key stands for another event.
            FeedbackError: the file cannot be opened or written; nothing was recorded.
        """
        return self.record(event).is_new

    def record(self, event: FeedbackEvent) -> Recorded:
        """As :meth:`append`, and says at which place of the log the event stands."""
        mine = _Waiting(event)
        self._waiting.append(mine)
        with self._writing:
            if mine.outcome is None:  # nobody wrote it while we waited
                self._settle([self._waiting.popleft() for _ in range(len(self._waiting))])
        if not isinstance(mine.outcome, Recorded):
            raise mine.outcome or FeedbackError(f"nothing was recorded of {event.key!r}: send it again")
        return mine.outcome

    def append_many(self, events: Sequence[FeedbackEvent]) -> list[Recorded]:
        """Writes events in one transaction and waits for the disk once: all of them, or none.

        Raises:
            KeyTaken: a key stands for another event; nothing was recorded.
            FeedbackError: the file cannot be opened or written; nothing was recorded.
        """
        with self._writing:
            return [outcome for outcome in self._insert(events, whole=True) if isinstance(outcome, Recorded)]

    def forget(self, user_id: str) -> int:
        """Erases all that one person did, in the file and in its journal; the number of events.

        The places of other events stay as they are. Another process that is amid reading may keep the
        journal in use: then this is refused, and erased once it is asked again.

        Raises:
            FeedbackError: the file cannot be written, or is in use.
        """
        try:
            connection = self._connection(make=False)
            if connection is None:
                return 0
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
            with self._writing, connection:
                count = connection.execute("DELETE FROM feedback WHERE user_id = ?", (user_id,)).rowcount
            (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from None
        if is_busy:
            raise FeedbackError(f"{self.path} is being read, its journal still holds {user_id}: ask again")
        return count

    def _settle(self, group: "list[_Waiting]") -> None:
        """Gives each of a group its outcome; what one of them does wrong is not another one's trouble."""
        try:
            outcomes = self._insert([one.event for one in group], whole=False)
        except (
            FeedbackError,
            ValueError,
            OverflowError,
            TypeError,
        ) as error:  # raised where it is waited for
            if len(group) > 1:
                for one in group:
                    self._settle([one])
                return
            outcomes = [error]
        for one, outcome in zip(group, outcomes, strict=True):
            one.outcome = outcome

    def _insert(self, events: Sequence[FeedbackEvent], whole: bool) -> list[Recorded | Exception]:
        """One transaction; a key that is taken is an outcome, or with ``whole`` undoes all of it."""
        try:
            connection = self._connection(make=True)
            with connection:  # one transaction, committed or rolled back
                outcomes = [_inserted(connection, event) for event in events]
                for outcome in outcomes:
                    if whole and isinstance(outcome, Exception):
                        raise outcome
        except (sqlite3.Error, OSError) as error:
            raise self._refused(error) from None
        return outcomes

    def _refused(self, error: Exception) -> FeedbackError:
        return FeedbackError(
            f"the log {self.path} must be writable ({error}), nothing was recorded: "
            "free the disk or mend the file's permissions, then send the event again with the same key"
        )

    def of_user(self, user_id: str) -> list[FeedbackEvent]:
        """What one person did, oldest first."""
        return self._select("WHERE user_id = ? ORDER BY number", (user_id,))

    def read(self, after: int = 0) -> Iterator[FeedbackEvent]:
        """All events whose place in the log is larger than ``after``, oldest first, a thousand at a time."""
        while page := self._select("WHERE number > ? ORDER BY number LIMIT 1000", (after,)):
            yield from page
            after = page[-1].number

    def close(self) -> None:
        """Lets go of this thread's connection."""
        connection = getattr(self._open, "connection", None)
        if connection is not None:
            connection.close()
            del self._open.connection

    def _select(self, where: str, values: tuple[object, ...]) -> list[FeedbackEvent]:
        try:
            connection = self._connection(make=False)
            if connection is None:
                return []
            rows = connection.execute(f"SELECT {_COLUMNS} FROM feedback {where}", values).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise FeedbackError(
                f"the log {self.path} must be a feedback log ({error}): mend its permissions, or move it away"
            ) from None
        return [FeedbackEvent(row[1], row[2], row[3], row[0], row[5], row[4], row[6]) for row in rows]

    def _connection(self, make: bool) -> sqlite3.Connection | None:
        connection = getattr(self._open, "connection", None)
        if connection is None:
            if not make and not self.path.exists():
                return None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=10)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_TABLE)
            self._open.connection = connection
        return connection


@dataclass
class _Waiting:
    """An event of a thread that waits for the disk."""

    event: FeedbackEvent
    outcome: Recorded | Exception | None = None


def _inserted(connection: sqlite3.Connection, event: FeedbackEvent) -> Recorded | Exception:
    row = (event.key, event.user_id, event.content_id, event.event, event.value, event.ts)
    cursor = connection.execute(
        "INSERT INTO feedback (key, user_id, content_id, event, value, ts) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO NOTHING",
        row,
    )
    if cursor.rowcount:
        return Recorded(True, int(cursor.lastrowid or 0))
    there = connection.execute(f"SELECT {_COLUMNS} FROM feedback WHERE key = ?", (event.key,)).fetchone()
    if (there[1], there[2], there[3], there[4]) != row[1:5]:
        return KeyTaken(
            f"an idempotency key stands for one event, {event.key!r} was used for another: make a new key"
        )
    return Recorded(False, there[6])


_COLUMNS = "key, user_id, content_id, event, value, ts, number"
