"""DELETE /v1/users/{id}: erases what somebody told, and what was learned from it."""

from typing import Any

from pydantic import Field

from kg.feedback import FeedbackError, hashed_user
from models.adapter_bank import AdapterBankError
from serve.endpoints import ID_LENGTH, Endpoint, Reply, Request, endpoints
from serve.problems import Problem
from serve.snapshot import Snapshot


class ForgetUserRequest(Request):
    """Whom."""

    id: str = Field(min_length=1, max_length=ID_LENGTH, description="a graph's id; any other name is hashed")


class ForgetUserReply(Reply):
    """Stands for: no file of the log or of a bank holds anything of theirs."""

    events: int = Field(description="of feedback that were erased")
    note: str


@endpoints.register("forget_user")
class ForgetUser(Endpoint):
    """Erases feedback and adapters of somebody; whom the graph knows it knows until it is imported anew."""

    name = "forget_user"
    method = "DELETE"
    path = "/v1/users/{id}"
    summary = "Erase somebody's feedback and adapters"
    Request = ForgetUserRequest
    Reply = ForgetUserReply

    def answer(self, request: ForgetUserRequest) -> ForgetUserReply:
        user_id = hashed_user(request.id)
        try:
            events = self.gateway.adaptation.forget(user_id)
        except AdapterBankError as error:
            raise Problem(409, "not-erased", str(error)) from None
        except FeedbackError as error:
            raise Problem(503, "not-erased", str(error)) from None
        return ForgetUserReply(
            events=events, note="the graph and versions fitted on it keep what was imported of them"
        )

    def example(self, snapshot: Snapshot) -> dict[str, Any]:
        return {"id": "user:nobody:1"}
