"""Made-up availability for the contents of another source that tells none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kg.records import Hyperedge, Node
from kg.sources import Source, sources
from kg.windows import WindowsConfig, places, windows


@dataclass(frozen=True)
class SimulatedConfig:
    """Whose contents get windows."""

    of: str = "world"
    """Registered name of the source that tells the contents."""
    folder: Path | None = None
    """Its folder, where it has one."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its other settings."""
    seed: int = 0
    """Fixes every draw."""


@sources.register("simulated", SimulatedConfig)
class Simulated(Source):
    """Windows for every content of the source ``of``; every one of them is marked simulated."""

    name = "simulated"
    reliability = 0.70  # counts as the aggregator that it imitates
    config: SimulatedConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        yield from places(self.name)
        yield from (Node("Content", content_id) for content_id in self._contents)
        for window in windows(self._contents, self.name, WindowsConfig(seed=self.config.seed)):
            self.rows += 1
            yield window

    @cached_property
    def _contents(self) -> list[str]:
        folder = {} if self.config.folder is None else {"folder": self.config.folder}
        told = sources.build(self.config.of, {**folder, **self.config.settings})
        ids = (record.id for record in told.read() if isinstance(record, Node) and record.type == "Content")
        return list(dict.fromkeys(ids))
