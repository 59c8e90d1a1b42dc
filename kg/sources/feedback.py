"""What people told the endpoints, as facts: the log of feedback is a source like any other.

A rating, like or dislike becomes RATED, a dismissal DISMISSED, a watchlist entry WATCHLISTED, having watched
VIEWED."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kg.feedback import DISLIKE_RATING, LIKE_RATING, FeedbackEvent, FeedbackLog
from kg.records import Hyperedge, Node, SourceError
from kg.sources import Source, sources

_WENT_BACK = "time of an event that a clock gone back put before the one before it moved behind it"


@dataclass(frozen=True)
class FeedbackConfig:
    """Where the log lies."""

    path: str
    """SQLite file that the endpoints write."""


@sources.register("feedback", FeedbackConfig)
class FeedbackSource(Source):
    """Reads the log in its order; the same person and content rated twice are two facts, each with its time.

    Every row was checked when it was written, so no row is rejected. Where the clock went back between two
    events of a person, the later one is told a second after the earlier one: the log knows the order, and the
    last opinion must stay the last.
    """

    name = "feedback"
    reliability = 0.20  # a user's report

    def __init__(self, config: FeedbackConfig) -> None:
        super().__init__(config)
        self.path = Path(config.path)

    def records(self) -> Iterator[Node | Hyperedge]:
        if not self.path.is_file():
            raise SourceError(
                self.path,
                "a feedback log is one SQLite file",
                "no such file",
                "serve and give feedback first",
            )
        log = FeedbackLog(self.path)
        last: dict[str, int] = {}  # person -> UTC seconds of what they did last
        for event in log.read():
            self.rows += 1
            if event.user_id not in last:
                yield Node("User", event.user_id, {"sources": (self.name,)})
            elif event.ts < last[event.user_id]:
                event = replace(event, ts=last[event.user_id] + 1)
                self.repairs[_WENT_BACK] = self.repairs.get(_WENT_BACK, 0) + 1
            last[event.user_id] = event.ts
            yield as_fact(event)
        log.close()


def as_fact(event: FeedbackEvent) -> Hyperedge:
    """The fact that an event stands for."""
    type, properties = _FACTS[event.event]
    if event.event == "rating":
        properties = {"rating": float(event.value or 0.0)}
    elif event.event == "watched":
        properties = {"progress": float(event.value or 0.0)}
    members = {"user": (event.user_id,), "content": (event.content_id,)}
    return Hyperedge(type, members, FeedbackSource.name, properties, start_ts=event.ts)


_FACTS = {
    "rating": ("RATED", {}),
    "like": ("RATED", {"rating": LIKE_RATING}),
    "dislike": ("RATED", {"rating": DISLIKE_RATING}),
    "dismiss": ("DISMISSED", {}),
    "watchlist": ("WATCHLISTED", {}),
    "watched": ("VIEWED", {}),
}
