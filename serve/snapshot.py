"""One version and its graph, opened for answering: everything a request reads, none of it ever changed.

What the hot path needs of the graph is unfolded once into NumPy arrays and Python lists; Arrow is read for
the few contents that a reply names."""

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.home import Home
from configs.registry import import_parts
from kg import schema
from kg.arrays import GraphArrays
from kg.availability import AvailabilityIndex
from models.interface import Recommender, Users
from models.paths import GraphPaths
from models.ranking import genres_of
from models.store import ModelStore, ModelVersion

CREDITS = ("DIRECTED", "WROTE", "ACTED_IN", "PRODUCED", "SHOT")
ABOUT = {
    "genre": ("BELONGS_TO", "Genre"),
    "mood": ("HAS_MOOD", "Mood"),
    "theme": ("HAS_THEME", "Theme"),
    "keyword": ("HAS_KEYWORD", "Keyword"),
    "company": ("MADE_BY", "Company"),
    "country": ("MADE_IN", "Region"),
    "language": ("SPOKEN_IN", "Language"),
}


@dataclass(frozen=True)
class Snapshot:
    """A version ready to answer. i contents, u users, g genres, all in the rows of the graph."""

    graph: GraphArrays
    version: ModelVersion
    model: Recommender
    availability: AvailabilityIndex
    paths: GraphPaths
    """Links between contents, made ready for explanations."""
    positives: sp.csr_array
    """(u, i) float32, what training saw each user like."""
    times: sp.csr_array
    """(u, i) int64 UTC seconds of those likes, same places."""
    rated: sp.csr_array
    """(u, i) bool, everything each user has rated in the graph, held out or not."""
    rankable: np.ndarray
    """(i,) bool"""
    popularity: np.ndarray
    """(i,) float32 count of training positives: what an unknown person is shown."""
    content_ids: list[str]
    titles: list[str]
    years: list[int | None]
    kinds: np.ndarray
    """(i,) str"""
    minutes: np.ndarray
    """(i,) float64, NaN where not known"""
    genres: sp.csr_array
    """(i, g) float32 0 or 1"""
    genre_names: list[str]

    @cached_property
    def folded_titles(self) -> list[str]:
        """Titles as a search compares them: lower case, no accents, words only."""
        return [folded(title) for title in self.titles]

    @cached_property
    def user_ids(self) -> list[str]:
        """Ids of all users."""
        return self.graph.ids("User")

    @cached_property
    def regions(self) -> list[str]:
        """Countries with at least one window, the one with most first."""
        rows, counts = np.unique(self.graph.incidence("AVAILABLE", "region")[1], return_counts=True)
        codes = [self.availability.regions[row] for row in rows[np.argsort(-counts, kind="stable")]]
        return [code for code in codes if f"region:{code}" != schema.SOMEWHERE]

    @cached_property
    def ratings(self) -> np.ndarray:
        """(f,) float64 of the RATED facts."""
        return self.graph.fact_numbers("RATED", "rating")

    def row(self, content_id: str) -> int | None:
        """The row of a content; None for an id that is not a content here."""
        return self.graph.row_of(content_id) if content_id.startswith("content:") else None

    def user_row(self, user_id: str) -> int | None:
        """The row of a user; None for somebody the graph does not know."""
        return self.graph.row_of(user_id) if user_id.startswith("user:") else None

    def facts_of(self, type: str, content_row: int) -> np.ndarray:
        """Rows in the table of a fact type that one content is in."""
        order, first = self._by_content(type)
        return order[first[content_row] : first[content_row + 1]]

    def members_of(self, type: str, role: str, content_row: int) -> np.ndarray:
        """Rows of the nodes that play ``role`` in the facts of a content, one a fact."""
        facts = self.facts_of(type, content_row)
        if not len(facts):
            return facts
        if (type, role) not in self._members:
            self._members[type, role] = self.graph.incidence(type, role)[1]
        return self._members[type, role][facts]

    def named(self, about: str, content_row: int) -> list[str]:
        """Names of the genres, keywords, countries, … of a content; nameless ones are left out."""
        type, node_type = ABOUT[about]
        names = self.names(node_type)
        rows = self.members_of(type, schema.FACTS[type].roles[1].name, content_row)
        return sorted({names[row] for row in rows if names[row]})

    def names(self, node_type: str) -> list[str]:
        """Names of all nodes of a type, '' where not known."""
        if node_type not in self._named:
            self._named[node_type] = self.graph.texts(node_type, "name")
        return self._named[node_type]

    def title(self, row: int) -> str:
        """The title of a content; one without says so."""
        return self.titles[row] or "untitled"

    def of_user(self, column: str, row: int) -> Any:
        """One property of a user; None where not known."""
        return self.graph.nodes["User"][column][row].as_py()

    def has_genre(self, rows: list[int]) -> np.ndarray:
        """(i,) bool, contents that belong to one of these genres."""
        return np.asarray(self.genres[:, rows].sum(axis=1)).ravel() > 0

    def genre_rows(self, content_row: int) -> np.ndarray:
        """Rows of the genres of a content."""
        return self.genres.indices[self.genres.indptr[content_row] : self.genres.indptr[content_row + 1]]

    def genres_of(self, content_row: int) -> list[str]:
        """Names of the genres of a content."""
        return [self.genre_names[row] for row in self.genre_rows(content_row) if self.genre_names[row]]

    def _by_content(self, type: str) -> tuple[np.ndarray, np.ndarray]:
        if type not in self._sorted:
            facts, contents = self.graph.incidence(type, "content")
            order = np.argsort(contents, kind="stable")
            first = np.searchsorted(contents[order], np.arange(len(self.content_ids) + 1))
            self._sorted[type] = facts[order], first
        return self._sorted[type]

    @cached_property
    def _sorted(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def _members(self) -> dict[tuple[str, str], np.ndarray]:
        return {}

    @cached_property
    def _named(self) -> dict[str, list[str]]:
        return {}


def open_snapshot(home: Home, store: ModelStore, version: ModelVersion) -> Snapshot:
    """Loads a version and the graph it was trained on; every file is checked on the way.

    Raises:
        OSError, ValueError: a file is missing, cut off or not what was written; the message names it.
    """
    graph = GraphArrays.open(home.arrays(version.graph) / version.graph_hash)
    training = version.training()
    import_parts("models")
    model = store.restore(version, graph)
    return Snapshot(
        graph=graph,
        version=version,
        model=model,
        availability=AvailabilityIndex(graph),
        paths=GraphPaths(graph),
        positives=training.positives,
        times=training.times,
        rated=_rated(graph),
        rankable=np.asarray(training.rankable, bool),
        popularity=np.asarray(training.positives.sum(axis=0), np.float32).ravel(),
        content_ids=graph.ids("Content"),
        titles=graph.texts("Content", "title"),
        years=graph.nodes["Content"]["release_year"].to_pylist(),
        kinds=np.array(graph.texts("Content", "kind"), str),
        minutes=graph.numbers("Content", "runtime_minutes"),
        genres=genres_of(graph),
        genre_names=graph.texts("Genre", "name"),
    )


def warm_up(snapshot: Snapshot) -> None:
    """Builds what is built at first use (indices by id, content, title), so that no request waits for it."""
    snapshot.graph.row_of("user:"), snapshot.graph.row_of("content:"), snapshot.graph.row_of("region:")
    snapshot.graph.row_of("platform:")
    _ = snapshot.folded_titles, snapshot.user_ids, snapshot.regions, snapshot.ratings
    for type in ("RATED", *CREDITS, *(type for type, _ in ABOUT.values())):
        snapshot._by_content(type)
    nobody = Users(np.array([-1]), sp.csr_array((1, len(snapshot.content_ids)), dtype=np.float32))
    snapshot.model.score(nobody)


def folded(text: str) -> str:
    """Lower case, accents and punctuation gone, single blanks.

    Example:
        >>> folded("Amélie (2001) – Le fabuleux…")
        'amelie 2001 le fabuleux'
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(sign if sign.isalnum() else " " for sign in plain if not unicodedata.combining(sign))
    return " ".join(kept.split())


def _rated(graph: GraphArrays) -> sp.csr_array:
    users, contents = graph.pairs("RATED")
    shape = (graph.size("User"), graph.size("Content"))
    return sp.csr_array((np.ones(len(users), bool), (users, contents)), shape=shape)
