"""GET /v1/users: people of the graph, page by page, to try recommendations on."""

import numpy as np
from pydantic import BaseModel, Field

from serve.endpoints import Endpoint, Reply, Request, endpoints


class UsersRequest(Request):
    """A page, and part of an id."""

    query: str = Field("", max_length=200, description="part of the id")
    n: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=100_000_000)


class UserReply(BaseModel):
    """One person: the graph knows a keyed hash, never a name."""

    user_id: str
    liked: int = Field(description="contents liked in training")
    rated: int
    favourites: list[str] = Field(
        description="titles of up to three liked contents, those fewest people like"
    )


class UsersReply(Reply):
    """One page, in the order of ids."""

    users: list[UserReply]
    found: int


@endpoints.register("users")
class Users(Endpoint):
    """Lists people so that the explorer can offer somebody to choose."""

    name = "users"
    method = "GET"
    path = "/v1/users"
    summary = "People of the graph, page by page"
    Request = UsersRequest
    Reply = UsersReply

    def answer(self, request: UsersRequest) -> UsersReply:
        snapshot = self.gateway.snapshot()
        wanted = request.query.casefold()
        rows = [row for row, id in enumerate(snapshot.user_ids) if wanted in id.casefold()]
        liked, rated = np.diff(snapshot.positives.indptr), np.diff(snapshot.rated.indptr)
        page = rows[request.offset : request.offset + request.n]
        users = []
        for row in page:
            contents = snapshot.positives.indices[snapshot.positives.indptr[row] :][: liked[row]]
            rare = contents[np.argsort(snapshot.popularity[contents], kind="stable")]
            users.append(
                UserReply(
                    user_id=snapshot.user_ids[row],
                    liked=int(liked[row]),
                    rated=int(rated[row]),
                    favourites=[snapshot.title(content) for content in rare[:3].tolist()],
                )
            )
        return UsersReply(users=users, found=len(rows))
