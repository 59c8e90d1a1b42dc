"""A generated world as a source like any other."""

from collections.abc import Iterator

from kg.records import Hyperedge, Node
from kg.sources import Source, sources
from kg.worlds import WorldConfig, world


@sources.register("world", WorldConfig)
class WorldSource(Source):
    """Tells the records of :func:`kg.worlds.world`: simulated, and counted as what they imitate."""

    name = "world"
    reliability = 0.7
    tells_its_files_alone = True
    config: WorldConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        for record in world(self.config).records:
            self.rows += 1
            yield record
