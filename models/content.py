"""What contents have in common, family by family, and models that know contents by it alone.

A family is one kind of fact (genres, actors, words of the synopsis …) as sparse rows of length one, so that a
product of two rows is their cosine. What was counted on a day (votes, scores) is never read.
u users · i contents · t contents with at least one positive · f flags of a family."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import normalize

from configs.registry import SettingError, fill
from kg import schema
from kg.arrays import GraphArrays
from models.features import FeaturesConfig, content_features
from models.interface import ModelFacts, Recommender, Training, Users, recommenders
from models.item_item import from_sparse_arrays, liked_contents, only, places, sparse_arrays, strongest

FACTS: Mapping[str, tuple[str, ...]] = {
    "genre": ("BELONGS_TO",),
    "actor": ("ACTED_IN",),
    "crew": ("DIRECTED", "WROTE", "PRODUCED", "SHOT"),
    "keyword": ("HAS_KEYWORD",),
    "company": ("MADE_BY",),
    "country": ("MADE_IN",),
    "language": ("SPOKEN_IN",),
}
WORDS: Mapping[str, tuple[str, ...]] = {"title": ("title",), "words": ("synopsis", "tagline")}
YEARS: Mapping[str, int] = {"period": 10, "year": 2}
"""Families of nearness in time, and the years after which it has fallen to 1/e."""
TOLD = "told"
"""Family of which other families say anything of a content; what is well described is liked more."""
WEIGHTS: Mapping[str, float] = {
    "genre": 1.0,
    "actor": 3.0,
    "crew": 0.3,
    "keyword": 2.0,
    "company": 0.5,
    "country": 0.5,
    "language": 0.3,
    "title": 0.2,
    "words": 0.3,
    "period": 1.0,
    "year": 0.3,
    "kind": 1.0,
    "told": 3.0,
}
DRAWS_ON = tuple(fact for facts in FACTS.values() for fact in facts)
LEAST = 2  # known contents that must carry a flag or a word for it to count
_BLOCK = 1024
_COMMON = 0.02  # share of known contents from which on a flag is cheaper as a dense column


def weighted(weights: Mapping[str, float]) -> dict[str, float]:
    """Weight of every family: those given, the usual ones for the rest.

    Raises:
        SettingError: a family that is not there, or a weight below 0.
    """
    for family, weight in weights.items():
        if family not in WEIGHTS:
            raise SettingError(f"no family of features is called {family!r}; there are {', '.join(WEIGHTS)}")
        if not weight >= 0:
            raise SettingError(f"the weight of {family} must be 0 or more, got {weight}")
    return {**WEIGHTS, **weights}


def families(graph: GraphArrays, known: np.ndarray, weights: Mapping[str, float]) -> sp.csr_array:
    """(i, f) float32 rows of all families side by side: a product of two rows is Σ weight · cosine.

    Args:
        graph: what training may see.
        known: (i,) bool, contents that training knows: flags and their rarity are fitted on these alone.
        weights: of every family; one with 0 is left out.
    """
    parts, told = [], []
    for family, weight in weights.items():
        flags = _family(graph, family, known) if weight > 0 and family != TOLD else None
        if flags is not None and flags.shape[1]:
            parts.append(np.float32(np.sqrt(weight)) * normalize(flags.astype(np.float32)))
            told.append(np.diff(parts[-1].indptr) > 0)
    if told and weights.get(TOLD, 0) > 0:
        # not of length one: a content of which much is told is more alike to all others like it
        share = np.sqrt(weights[TOLD] / len(told))
        parts.append(sp.csr_matrix(np.stack(told, axis=1) * np.float32(share)))
    if not parts:
        return sp.csr_array((len(known), 0), dtype=np.float32)
    return sp.csr_array(sp.hstack(parts, format="csr"), dtype=np.float32)


class Alike:
    """Products of rows of :func:`families` with those of known contents.

    Flags that many contents carry go through one dense product, all others stay sparse.
    """

    def __init__(self, rows: sp.csr_array, contents: np.ndarray) -> None:
        known = rows[contents]
        is_common = np.bincount(known.indices, minlength=rows.shape[1]) > _COMMON * len(contents)
        common, rare = np.flatnonzero(is_common), np.flatnonzero(~is_common)
        self._common, self._rare = rows[:, common], rows[:, rare]
        self._known_common = known[:, common].toarray().T  # (c, t)
        self._known_rare = sp.csr_array(known[:, rare].T)

    def to_known(self, rows: np.ndarray) -> np.ndarray:
        """(m,) rows of contents -> (m, t) float32 similarities."""
        found = self._common[rows].toarray() @ self._known_common
        found += (self._rare[rows] @ self._known_rare).toarray()
        return found


def _family(graph: GraphArrays, family: str, known: np.ndarray) -> sp.csr_matrix:
    if family in WORDS:
        return _words(graph, WORDS[family], known)
    if family in YEARS:
        return _near_years(graph, YEARS[family], len(known))
    if family == "kind":
        names, kind = np.unique(graph.texts("Content", "kind"), return_inverse=True)
        told = np.flatnonzero(names[kind] != "") if len(names) else np.empty(0, np.int64)
        return _rare(_flags(told, kind[told], len(known), len(names)), known)
    parts = []
    for fact in FACTS[family]:
        other = next(role for role in schema.FACTS[fact].roles if role.name != "content")
        contents, nodes = graph.incidence(fact, "content")[1], graph.incidence(fact, other.name)[1]
        parts.append(_flags(contents, nodes, len(known), graph.size(other.types[0])))
    return _rare(sp.hstack(parts, format="csr"), known)


def _flags(contents: np.ndarray, columns: np.ndarray, height: int, width: int) -> sp.csr_matrix:
    flags = sp.csr_matrix((np.ones(len(contents)), (contents, columns)), shape=(height, width))
    flags.data[:] = 1  # the same person may have two credits of a kind
    return flags


def _rare(flags: sp.csr_matrix, known: np.ndarray) -> sp.csr_matrix:
    """Flags that enough known contents carry, each weighted by its rarity among them."""
    flags = flags[:, np.asarray(flags[known].sum(0)).ravel() >= LEAST]
    return TfidfTransformer().fit(flags[known]).transform(flags) if flags.shape[1] else flags


def _words(graph: GraphArrays, columns: tuple[str, ...], known: np.ndarray) -> sp.csr_matrix:
    texts = [" . ".join(parts) for parts in zip(*(graph.texts("Content", c) for c in columns), strict=True)]
    reader = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=LEAST, dtype=np.float32)
    try:
        reader.fit([texts[row] for row in np.flatnonzero(known)])
    except ValueError:  # no word is in two known contents
        return sp.csr_matrix((len(known), 0))
    return reader.transform(texts)


def _near_years(graph: GraphArrays, width: int, count: int) -> sp.csr_matrix:
    """(i, years) bells around each content's year; products of two fall with the years between."""
    year = graph.numbers("Content", "release_year")
    dated = np.flatnonzero(~np.isnan(year))
    if not len(dated):
        return sp.csr_matrix((count, 0))
    centres = np.arange(year[dated].min() - width, year[dated].max() + width + 1, max(1, width // 2))
    bells = np.exp(-(((year[dated][:, None] - centres) / width) ** 2))
    rows, columns = np.nonzero(bells > 1e-3)
    return sp.csr_matrix((bells[rows, columns], (dated[rows], columns)), shape=(count, len(centres)))


@dataclass(frozen=True)
class ContentKNNConfig:
    """Settings of :class:`ContentKNN`."""

    neighbours: int = 20
    """Liked contents of which each content hears, those most like it, at least 1."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of a family of features, see :data:`WEIGHTS`."""
    cold_weight: float = 1.0
    """Scores of contents that nobody liked yet are multiplied by it, above 0."""

    def __post_init__(self) -> None:
        weighted(self.weights)
        if self.neighbours < 1 or not self.cold_weight > 0:
            raise SettingError(
                "content_knn needs neighbours >= 1 and cold_weight > 0, got "
                f"{self.neighbours} and {self.cold_weight}"
            )


@recommenders.register("content_knn", ContentKNNConfig)
class ContentKNN(Recommender):
    """Contents whose facts and words are like those of the history.

    A score is the sum, over the history, of Σ weight · cosine of the families of :func:`families`, where each
    content hears from its most similar liked contents only.

    Source: Lops, de Gemmis, Semeraro, "Content-based Recommender Systems: State of the Art and Trends",
    Recommender Systems Handbook, 2011, section 3.3 (nearest neighbours over TF-IDF).

    Cost: O(i t) time, 1,024 rows of (i, t) at once.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=DRAWS_ON)
    config: ContentKNNConfig

    def fit(self, training: Training) -> None:
        self._contents, self._size = liked_contents(training.positives), training.positives.shape[1]
        self._places = places(self._contents, self._size)
        rows = families(training.graph, self._places >= 0, weighted(self.config.weights))
        similar = Alike(rows, self._contents)
        factor = np.where(self._places >= 0, 1, self.config.cold_weight).astype(np.float32)
        blocks = []
        for first in range(0, self._size, _BLOCK):
            some = np.arange(first, min(first + _BLOCK, self._size))
            alike = similar.to_known(some) * factor[some, None]
            warm = np.flatnonzero(self._places[some] >= 0)
            alike[warm, self._places[some][warm]] = 0  # no neighbour of itself
            blocks.append(strongest(alike, self.config.neighbours))
        self._hears = sp.csr_array(sp.vstack(blocks, format="csr"), dtype=np.float32)  # (i, t)

    def score(self, users: Users) -> np.ndarray:
        history = only(users.history, self._places)
        return np.ascontiguousarray((history @ self._hears.T).toarray(), np.float32)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        history = users.first().history
        heard = np.append(self._hears[[content_row]].toarray()[0], 0)  # a place of -1 reads the last
        return heard[self._places[history.indices]].astype(np.float64) * history.data

    def arrays(self) -> dict[str, np.ndarray]:
        return {"contents": self._contents, **sparse_arrays(self._hears)}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._contents, self._size = arrays["contents"], len(arrays["indptr"]) - 1
        self._places = places(self._contents, self._size)
        self._hears = from_sparse_arrays(arrays, (self._size, len(self._contents)))


@dataclass(frozen=True)
class ContentBasedConfig:
    """Settings of :class:`ContentBased`."""

    features: Mapping[str, object] = field(default_factory=dict)
    """Settings of :class:`models.features.FeaturesConfig`."""

    def __post_init__(self) -> None:
        fill(FeaturesConfig, self.features, "features")


@recommenders.register("content_based", ContentBasedConfig)
class ContentBased(Recommender):
    """Contents near the middle of the history, in the space of text and structure.

    Source: Rocchio 1971 as in Lops et al. 2011, section 3.3, without dislikes; rows of
    :func:`models.features.content_features`, each of length one.

    Cost: O(i width) a user.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=DRAWS_ON)
    config: ContentBasedConfig

    def fit(self, training: Training) -> None:
        known = np.zeros(training.positives.shape[1], bool)
        known[liked_contents(training.positives)] = True
        settings = fill(FeaturesConfig, self.config.features, "features")
        self._vectors = np.ascontiguousarray(normalize(content_features(training.graph, known, settings)))

    def score(self, users: Users) -> np.ndarray:
        profiles = self._profiles(users)
        scores = np.empty((len(profiles), len(self._vectors)), np.float32)
        for profile, row in zip(profiles, scores, strict=True):
            np.dot(self._vectors, profile, out=row)  # user by user: many rows round otherwise than one
        return scores

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        history = users.first().history
        alike = self._vectors[history.indices] @ self._vectors[content_row]
        return alike.astype(np.float64) * history.data / max(history.nnz, 1)

    def _profiles(self, users: Users) -> np.ndarray:
        """(b, width) mean of each history."""
        history = sp.csr_array(users.history, copy=True)
        history.sort_indices()  # floats are then added in one order
        counts = np.maximum(np.diff(history.indptr), 1)[:, None]
        return (history @ self._vectors / counts).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"vectors": self._vectors}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._vectors = arrays["vectors"]
