"""What each step of a ranking did and took, as a reply tells it."""

import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from models.steps import Moved, Step
from serve.instant_tier import InstantTier, Learned
from serve.snapshot import Snapshot

SHOWN_MOVES = 10


class Clock:
    """Milliseconds of each part of an answer."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends a part."""
        now = time.perf_counter()
        self.laps[name], self._last = round((now - self._last) * 1e3, 3), now
        self.laps["total"] = round((now - self._start) * 1e3, 3)


class Move(BaseModel):
    """A content that a step put elsewhere; ``after`` is null where it was taken out."""

    content_id: str
    title: str
    before: int
    after: int | None


class StepReply(BaseModel):
    """What one step of the ranking did."""

    name: str
    said: str
    is_left_out: bool = False
    removed: int | None = None
    moved: list[Move] = Field([], description=f"the first {SHOWN_MOVES}")


def told(snapshot: Snapshot, step: Step, n: int, diversity: float) -> StepReply:
    """A step of ranking, for a list of ``n``."""
    moved: Sequence[Moved] = step.moved
    if step.name == "diversity":
        # what stood below the list and stays there did not move as far as a reader can see
        moved = [move for move in moved if move.after is not None or move.before <= n]
    said = {
        "availability": f"of the best {len(step.before)}, what cannot be watched there and then",
        "diversity": f"MMR with λ {1 - diversity:.2f} on genres, out of the best {len(step.before)}",
    }
    gone = len(step.before) - len(step.rows) if step.name == "availability" else None
    return StepReply(name=step.name, said=said.get(step.name, ""), removed=gone, moved=moves(snapshot, moved))


def moves(snapshot: Snapshot, moved: Sequence[Moved]) -> list[Move]:
    """The first few moves, with titles."""
    return [
        Move(
            content_id=snapshot.content_ids[move.content_row],
            title=snapshot.title(move.content_row),
            before=move.before,
            after=move.after,
        )
        for move in moved[:SHOWN_MOVES]
    ]


def instant_step(
    snapshot: Snapshot, tier: InstantTier, learned: Learned, moved: Sequence[Moved], n: int
) -> StepReply:
    """What the instant tier did to a list of ``n``."""
    size = tier.head.spec.dtype.itemsize
    if not learned.events and not learned.likes:
        return StepReply(name="instant tier", said="no feedback of this person to learn from yet: as before")
    does = f"{len(moved)} contents changed places among the first {n}" if moved else "no place changed"
    said = f"an adapter of {size:,} bytes, learned from {learned_from(learned)}: {does}"
    return StepReply(name="instant tier", said=said, moved=moves(snapshot, moved))


def learned_from(learned: Learned) -> str:
    """What an adapter learned from, in words."""
    likes = f"{learned.likes:,} {'like' if learned.likes == 1 else 'likes'} that training knew"
    if not learned.events:
        return f"{likes}, no feedback yet"
    told = f"{learned.events:,} {'event' if learned.events == 1 else 'events'} of feedback"
    return f"{told} and {likes}" if learned.likes else told


def places_changed(before: np.ndarray, after: np.ndarray, allowed: np.ndarray, n: int) -> list[Moved]:
    """Contents in the first ``n`` by either scores whose place differs, by their place afterwards.

    Args:
        before: (i,) scores.
        after: (i,) scores.
        allowed: (i,) bool, what may stand in the list; places count among these from 1.
        n: length of the list.

    Cost: two sorts of the allowed contents.

    Example:
        >>> one, other = np.array([3.0, 2.0, 1.0]), np.array([3.0, 2.0, 2.5])
        >>> [(move.content_row, move.before, move.after) for move in places_changed(one, other, one > 0, 2)]
        [(2, 3, 2), (1, 2, 3)]
    """
    rows = np.flatnonzero(allowed)
    orders = [np.argsort(-scores[rows], kind="stable") for scores in (before, after)]
    places = np.empty((2, len(rows)), np.int64)
    for place, order in zip(places, orders, strict=True):
        place[order] = np.arange(1, len(rows) + 1)
    seen = np.flatnonzero((places.min(axis=0) <= n) & (places[0] != places[1]))
    seen = seen[np.argsort(places[1][seen], kind="stable")]
    return [Moved(int(rows[one]), int(places[0][one]), int(places[1][one])) for one in seen.tolist()]
