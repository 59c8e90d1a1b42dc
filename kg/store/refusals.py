"""What a server refuses, in our words: what must hold, what came, what to do."""

from neo4j import exceptions

from kg.store.base import StoreError


class Collision(StoreError):
    """An id that must be unique was there already."""


class Hidden(StoreError):
    """A node that is there was not matched, because another writer was at it."""


def refusal(error: exceptions.Neo4jError) -> StoreError | None:
    """The error for what a server refuses; None for a code that says nothing more."""
    code, message = error.code or "", short(error)
    if code.endswith(("ConstraintValidationFailed", "ConstraintCreationFailed")):
        return Collision(message)
    if code.endswith(("Security.Forbidden", "Statement.AccessMode")):
        return StoreError(
            f"a question may only read, this one would write ({message}): import records instead"
        )
    if "No space left" in message or code.endswith("OutOfDisk"):
        return StoreError(f"the server needs room on its disk, there is none ({message}): free some, repeat")
    if code.endswith("TransactionTimedOut"):
        return StoreError(f"a question must end in time, this one did not ({message}): ask for less")
    if code.startswith("Neo.ClientError.Statement"):
        return StoreError(f"a question is written in Cypher, the server says: {message}: mend the question")
    return None


def short(error: Exception) -> str:
    """Its message on one line, 300 characters at most."""
    message = getattr(error, "message", None) or str(error) or type(error).__name__
    return " ".join(message.split())[:300]
