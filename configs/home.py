"""Where this project keeps what it makes: one folder, ``MG_HOME`` or ``.mg`` where you stand."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """Paths under one root; nothing is made before it is written to."""

    root: Path

    @classmethod
    def here(cls) -> "Home":
        """The home that ``MG_HOME`` names, else ``.mg`` in the working folder."""
        return cls(Path(os.environ.get("MG_HOME") or ".mg").resolve())

    @property
    def data(self) -> Path:
        """Data sets that were downloaded."""
        return self.root / "data"

    @property
    def models(self) -> Path:
        """Root of the ModelStore."""
        return self.root / "models"

    @property
    def benches(self) -> Path:
        """What long benchmarks keep, so that they go on where they were broken off; one folder each."""
        return self.root / "benches"

    def runs(self, graph: str) -> Path:
        """Results of experiments on a graph, one folder a run."""
        return self.root / "graphs" / graph / "runs"

    def searches(self, graph: str) -> Path:
        """Searches for settings on a graph, one folder a search."""
        return self.root / "graphs" / graph / "searches"

    def ladder(self, graph: str, version: str) -> Path:
        """Weights by which a version (``name/number``) answers strangers."""
        return self.root / "graphs" / graph / "ladders" / f"{version.replace('/', '-')}.json"

    def head(self, graph: str, version: str) -> Path:
        """What instant adapters of a version (``name/number``) bend, one file."""
        return self.root / "graphs" / graph / "heads" / f"{version.replace('/', '-')}.safetensors"

    def database(self, graph: str) -> Path:
        """Folder of the embedded database of a graph."""
        return self.root / "graphs" / graph / "database"

    def arrays(self, graph: str) -> Path:
        """Exports of a graph, one folder a hash."""
        return self.root / "graphs" / graph / "arrays"

    def imports(self, graph: str) -> Path:
        """What imports leave behind: rejects, the identity log."""
        return self.root / "graphs" / graph / "imports"

    def feedback(self, graph: str) -> Path:
        """Durable log of what people did, one SQLite file a graph."""
        return self.root / "graphs" / graph / "feedback.sqlite"

    def memory(self, graph: str) -> Path:
        """Folder of the ReasoningBank of a graph: what worked for which queries."""
        return self.root / "graphs" / graph / "memory"

    def adapters(self, graph: str) -> Path:
        """Folder of users' instant adapters of a graph: a bank, or one folder a base with a bank each."""
        return self.root / "graphs" / graph / "adapters"

    def exposures(self, graph: str) -> Path:
        """Who was answered by which version while a candidate is tried, one SQLite file a graph."""
        return self.root / "graphs" / graph / "exposures.sqlite"
