"""One import of a generated world in a process of its own, so that it can be broken off at any moment.

It says on its output how far it is (``ready``, ``opened``, ``imported``), and in files what came of it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps import console
from kg import schema
from kg.arrays import export
from kg.identity_log import FILE, IdentityLog
from kg.ingest import ImportRefused, ingest
from kg.records import Hyperedge, Node, SourceError
from kg.sources import Source
from kg.sources.world import WorldSource
from kg.store.base import GraphStore, StoreError
from kg.store.bolt import BoltConfig, BoltStore
from kg.store.embedded import EmbeddedStore
from kg.worlds import WorldConfig, world

GRAPH = "media-gateway-bench"
OURS = (StoreError, SourceError, ImportRefused)
"""Errors that are meant for people: what must hold, what came, what to do."""


@dataclass(frozen=True)
class Settings:
    """One import."""

    home: str
    """Takes the embedded database, the writer's lock and what imports leave behind."""
    world: dict[str, Any]
    """Settings of :class:`kg.worlds.WorldConfig`."""
    result: str = ""
    """File for what the graph holds at the end; '' does not look."""
    said: str = ""
    """File for what was said where it did not end."""
    is_base: bool = False
    """Imports what stands before: half of the second records nameless, the others joined, then set apart."""
    login: tuple[str, str, str] | None = None
    """Address, user and password of a server; None takes the embedded one."""


class Before(Source):
    """The world before somebody learned which of its records are one: every other second record is bare."""

    name, reliability = "world", WorldSource.reliability
    config: WorldConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        whole = world(self.config)
        bare = set(sorted(whole.truth.duplicates)[::2])
        for record in whole.records:
            self.rows += 1
            yield Node("Content", record.id) if isinstance(record, Node) and record.id in bare else record


class Elsewhere(Source):
    """Somebody who tells of second records once, and never again: what they told must not get lost."""

    name, reliability = "elsewhere", 0.4
    config: WorldConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        yield Node("Theme", "theme:again", {"name": "again"})
        for twin, content in sorted(world(self.config).truth.duplicates.items()):
            for told in (twin, content):
                self.rows += 1
                members = {"content": (told,), "theme": ("theme:again",)}
                yield Hyperedge("HAS_THEME", members, self.name, {"intensity": 0.5})


def held(store: GraphStore) -> dict[str, Any]:
    """Counts, the hash of the export, and relationships as seen from where they start and where they end."""
    found: dict[str, Any] = {"counts": store.count(), "hash": export(store, GRAPH).hash}
    if isinstance(store, EmbeddedStore):
        steps = ("outE", "inE")
        sums = ", ".join(f"sum({step}().size()) AS `{step}`" for step in steps)
        labels = [*schema.NODES, *(kind.label for kind in schema.FACTS.values() if not kind.is_binary)]
        rows = [row for label in labels for row in store.server.query(f"SELECT {sums} FROM `{label}`")]
        found["ends"] = [sum(row[step] or 0 for row in rows) for step in steps]
    return found


def run(settings: Settings) -> None:
    """Imports; says how far it is, and at the end what the graph holds."""
    home, config = Path(settings.home), WorldConfig(**settings.world)
    sources: list[Source] = [Before(config), Elsewhere(config)] if settings.is_base else [WorldSource(config)]
    _say("ready")
    with _opened(settings, home) as store:
        _say("opened")
        ingest(sources, store, home / "imports")
        _say("imported")
        found = held(store) if settings.result else {}
    if settings.is_base:
        log = IdentityLog(home / "imports" / FILE)
        for entry in log.entries()[::2]:
            if entry.merge.merged.startswith("content:worldtwin:"):
                log.undo(entry.key)
    if settings.result:
        Path(settings.result).write_text(json.dumps(found), encoding="utf-8")


def _opened(settings: Settings, home: Path) -> GraphStore:
    if settings.login is None:
        return EmbeddedStore(home / "database", GRAPH)
    return BoltStore(*settings.login, GRAPH, config=BoltConfig(retry_s=3, lock=home / "writer.lock"))


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    """Reads settings as JSON from its input; what goes wrong is said as ``mg`` says it."""
    settings = Settings(**json.load(sys.stdin))
    try:
        run(settings)
    except Exception as error:
        is_ours = isinstance(error, OURS) or console.is_full_disk(error)
        words = {"is_ours": is_ours, "words": console.sentence(error)}
        if settings.said:
            Path(settings.said).write_text(json.dumps(words), encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
