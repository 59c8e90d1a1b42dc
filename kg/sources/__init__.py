"""One file a source: each reads its files as nodes and facts, and says which rows it could not read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from configs.registry import Registry
from kg.records import Hyperedge, Node, Reject


class Source(ABC):
    """Somebody who tells us nodes and facts.

    ``read`` may be called more than once and tells the same.
    It streams: memory does not grow with the file. A node stands before the facts that name it.
    """

    name: ClassVar[str]
    reliability: ClassVar[float]
    """0 to 1: platform API 1.0, licensor .95, aggregator .70, link check .60, scraped .40, report .20."""
    tells_snapshots: ClassVar[bool] = False
    """True where the end of a window is the day of the next snapshot, which nobody knew before."""
    tells_its_files_alone: ClassVar[bool] = False
    """True where all that it tells hangs on its settings and on the files and folders that they name by path:
    an import of the same once more need not read them."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.rejects: list[Reject] = []
        self.repairs: dict[str, int] = {}
        """What was mended on the way, and how often."""
        self.rows = 0

    @abstractmethod
    def records(self) -> Iterator[Node | Hyperedge]:
        """What the source tells, row by row; a row that cannot be read goes to ``self.rejects``."""

    def read(self) -> Iterator[Node | Hyperedge]:
        """Starts the count of rows, rejects and repairs anew and tells everything once."""
        self.rejects, self.repairs, self.rows = [], {}, 0
        yield from self.records()


sources: Registry[type[Source]] = Registry("source")
