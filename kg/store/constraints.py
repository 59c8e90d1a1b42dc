"""Makes the uniqueness constraints that merging and questions rely on, and checks that they stand."""

from typing import TYPE_CHECKING, Any

from kg.store.base import StoreError
from kg.store.statements import CONSTRAINED

if TYPE_CHECKING:
    from kg.store.bolt import BoltStore

Covered = tuple[tuple[str, ...], tuple[str, ...]]
"""Labels or types, and properties, that a constraint or an index covers."""


def ensure(store: "BoltStore") -> None:
    """Creates what is missing, then looks whether every type's ``id`` is unique and has its index.

    Raises:
        StoreError: a constraint covers something else, its index is not in use, or data that stand there
            already break it.
    """
    there = _standing(store)
    missing = [(name, pattern) for name, pattern in CONSTRAINED.items() if f"id_of_{name}" not in there]

    def constrain(tx: Any) -> None:
        for name, pattern in missing:
            tx.run(
                f"CREATE CONSTRAINT `id_of_{name}` IF NOT EXISTS FOR {pattern} REQUIRE n.id IS UNIQUE"
            ).consume()

    if missing:
        store.transact(constrain)
        there = _standing(store)
    states = _index_states(store)
    for name in CONSTRAINED:
        covered, state = there.get(f"id_of_{name}"), states.get(((name,), ("id",)), "missing")
        if covered != ((name,), ("id",)) or state != "ONLINE":
            raise StoreError(
                f"constraint id_of_{name} must make the ids of {name} unique by an index in use, "
                f"{_told(covered)} and its index is {state.lower()}: drop it, or name an empty database, "
                "and repeat"
            )


def _index_states(store: "BoltStore") -> dict[Covered, str]:
    rows = store.read("SHOW INDEXES YIELD labelsOrTypes, properties, state")
    return {
        (tuple(row["labelsOrTypes"] or ()), tuple(row["properties"] or ())): row["state"] for row in rows
    }  # a lookup index of Neo4j covers no types


def _standing(store: "BoltStore") -> dict[str, Covered]:
    """Name -> the types and properties that a constraint covers."""
    rows = store.read("SHOW CONSTRAINTS YIELD name, labelsOrTypes, properties")
    return {row["name"]: (tuple(row["labelsOrTypes"]), tuple(row["properties"])) for row in rows}


def _told(covered: Covered | None) -> str:
    if covered is None:
        return "it is not there after it was made"
    return f"it covers {', '.join(covered[1])} of {', '.join(covered[0])}"
