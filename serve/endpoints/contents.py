"""GET /v1/contents: find a content by its title."""

import numpy as np
from pydantic import BaseModel, Field

from serve.endpoints import Endpoint, Reply, Request, endpoints
from serve.snapshot import Snapshot, folded


class ContentsRequest(Request):
    """Words of a title; nothing asks for what most people liked."""

    title: str = Field("", max_length=200, description="every word must stand in the title, in any order")
    n: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=10_000_000, description="how many to pass over: the next page")


class Hit(BaseModel):
    """One content that fits."""

    content_id: str
    title: str
    year: int | None
    kind: str | None


class ContentsReply(Reply):
    """One page of contents, best fit first."""

    contents: list[Hit]
    found: int = Field(description="how many fit in all")


@endpoints.register("contents")
class Contents(Endpoint):
    """Compares lower-case words without accents; what begins with them stands first, then what most liked."""

    name = "contents"
    method = "GET"
    path = "/v1/contents"
    summary = "Find contents by title"
    Request = ContentsRequest
    Reply = ContentsReply

    def answer(self, request: ContentsRequest) -> ContentsReply:
        snapshot = self.gateway.snapshot()
        rows = _search(snapshot, folded(request.title))
        page = rows[request.offset : request.offset + request.n]
        return ContentsReply(
            found=len(rows),
            contents=[
                Hit(
                    content_id=snapshot.content_ids[row],
                    title=snapshot.title(row),
                    year=snapshot.years[row],
                    kind=str(snapshot.kinds[row]) or None,
                )
                for row in page
            ],
        )


def _search(snapshot: Snapshot, wanted: str) -> list[int]:
    if not wanted:
        return np.argsort(-snapshot.popularity, kind="stable").tolist()
    words, titles, popularity = wanted.split(), snapshot.folded_titles, snapshot.popularity
    rows = [row for row, title in enumerate(titles) if all(word in title for word in words)]
    return sorted(
        rows,
        key=lambda row: (
            titles[row] != wanted,
            not titles[row].startswith(wanted),
            -float(popularity[row]),
            row,
        ),
    )
