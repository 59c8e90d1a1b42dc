"""Which contents may stand in a list: what a request rules out, and how much each rule took.

Availability is not here: it is a step of the ranking, with a moment and a place."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from serve.endpoints import ID_LENGTH, Request
from serve.problems import Problem, shown
from serve.snapshot import Snapshot, folded

Name = Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]


class Filters(Request):
    """What may stand in the list."""

    include_rated: bool = Field(
        False, description="hide only what the model was trained on as liked, not all that was rated or told"
    )
    include_unavailable: bool = Field(False, description="let in what cannot be watched in the region")
    genres: list[Name] | None = Field(None, max_length=50, description="any of these, by name or id")
    kinds: list[Literal["movie", "series", "season", "episode"]] | None = Field(None, max_length=4)
    max_minutes: int | None = Field(
        None, ge=1, le=6000, description="contents of unknown length are left out"
    )


class Context(Request):
    """The evening."""

    minutes: int | None = Field(
        None, ge=1, le=6000, description="time at hand: what is known to be longer is left out"
    )


@dataclass(frozen=True)
class Taken:
    """What one filter took out of what those before it had left."""

    name: str
    said: str
    removed: int


def hard_filters(
    snapshot: Snapshot, filters: Filters, context: Context, hidden: np.ndarray, exclude: Sequence[str]
) -> tuple[np.ndarray, list[Taken]]:
    """(i,) bool of what may stand in a list, availability apart; and what each filter took out.

    Args:
        snapshot: the version that answers.
        filters: those of the request.
        context: the evening.
        hidden: (h,) content rows that this person need not see again.
        exclude: content ids to leave out; unknown ones are passed over.
    """
    allowed, steps = snapshot.rankable.copy(), []
    left = int(np.count_nonzero(allowed))

    def note(name: str, said: str) -> None:
        nonlocal left
        now = int(np.count_nonzero(allowed))
        steps.append(Taken(name, said, left - now))
        left = now

    allowed[hidden] = False
    note("hide_seen", "liked in training" if filters.include_rated else "rated, or told in feedback")
    rows = [row for id in exclude if (row := snapshot.row(id)) is not None]
    if rows:
        allowed[rows] = False
        note("exclude", "asked to be left out")
    if filters.genres is not None:
        allowed &= snapshot.has_genre(_genre_rows(snapshot, filters.genres))
        note("genres", f"none of {', '.join(filters.genres)}")
    if filters.kinds is not None:
        allowed &= np.isin(snapshot.kinds, filters.kinds)
        note("kinds", f"none of {', '.join(filters.kinds)}")
    if filters.max_minutes is not None:
        allowed &= snapshot.minutes <= filters.max_minutes  # NaN is not
        note("max_minutes", f"longer than {filters.max_minutes} minutes, or of unknown length")
    if context.minutes is not None:
        allowed &= ~(snapshot.minutes > context.minutes)
        note("context", f"longer than the {context.minutes} minutes at hand")
    return allowed, steps


def _genre_rows(snapshot: Snapshot, genres: list[str]) -> list[int]:
    known = {folded(name): row for row, name in enumerate(snapshot.genre_names) if name}
    found = []
    for genre in genres:
        row = snapshot.graph.row_of(genre) if genre.startswith("genre:") else known.get(folded(genre))
        if row is None:
            near = difflib.get_close_matches(folded(genre), known, n=3, cutoff=0.4) or sorted(known)[:3]
            raise Problem(
                422,
                "unknown-genre",
                f"filters.genres names genres of graph {snapshot.graph.name!r}, got {shown(genre)}: "
                f"use {', '.join(near) or 'none, it has none'} (all stand in GET /v1/catalogue)",
            )
        found.append(row)
    return found
