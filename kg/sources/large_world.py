"""A generated world of any size, as two sources that tell of the same contents."""

from collections.abc import Iterator

from kg.large_world import SHOP, SOURCE, LargeWorld, LargeWorldConfig
from kg.records import Hyperedge, Node
from kg.sources import Source, sources


@sources.register(SOURCE, LargeWorldConfig)
class LargeWorldSource(Source):
    """Tells the records of :class:`kg.large_world.LargeWorld`, never holding them: simulated."""

    name = SOURCE
    reliability = 0.7
    tells_its_files_alone = True
    config: LargeWorldConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        for record in LargeWorld(self.config).records():
            self.rows += 1
            yield record


@sources.register(SHOP, LargeWorldConfig)
class LargeWorldShop(Source):
    """Tells some of its windows once more, some with another price; counts as a platform's API: simulated."""

    name = SHOP
    reliability = 1.0
    tells_its_files_alone = True
    config: LargeWorldConfig

    def records(self) -> Iterator[Node | Hyperedge]:
        for record in LargeWorld(self.config).told_again():
            self.rows += 1
            yield record
