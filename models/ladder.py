"""The ladder of a cold start: what is known of somebody, rung by rung, and scores out of all of it.

History, then genres declared, then titles and people named, then who one is, then what is liked where one
lives now, then what is liked at all.
b people asked for · u users of training · i contents · g genres · p people in credits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import Recommender, Training, Users
from models.ladder_weights import ALWAYS, RUNGS, LadderWeights
from models.ranking import genres_of

CREDITS = ("ACTED_IN", "DIRECTED", "WROTE")
DAY_S = 86_400
UNKNOWN = -1


@dataclass(frozen=True)
class Known:
    """What is known of some people; empty rows and -1 are not known."""

    history: sp.csr_array
    """(b, i) float32 what they liked."""
    times: sp.csr_array
    """(b, i) int64 UTC seconds, same places."""
    genres: sp.csr_array
    """(b, g) 1 where a genre was declared."""
    titles: sp.csr_array
    """(b, i) 1 where a title was named."""
    people: sp.csr_array
    """(b, p) 1 where a person was named."""
    groups: np.ndarray
    """(b,) int64 among :attr:`Ladder.group_names`."""
    regions: np.ndarray
    """(b,) int64 among :attr:`Ladder.region_names`."""


@dataclass(frozen=True)
class LadderConfig:
    """Settings of :class:`Ladder`."""

    trend_days: float = 30.0
    """After how many days before the last like of training one counts 1/e for the trend, above 0."""
    shrinkage: float = 30.0
    """Of how many people the likes of all count beside those of a group or region, 0 or more."""

    def __post_init__(self) -> None:
        if not self.trend_days > 0 or not self.shrinkage >= 0:
            raise SettingError(
                "a ladder needs trend_days above 0 and shrinkage >= 0, got "
                f"{self.trend_days} and {self.shrinkage}"
            )


@dataclass(frozen=True)
class Told:
    """What each rung says of some people."""

    features: Mapping[str, np.ndarray]
    """Rung -> (b, i) float64, of the rungs that know something of anybody."""
    knows: Mapping[str, np.ndarray]
    """Rung -> (b,) bool: whether it knows anything of a person."""
    events: np.ndarray
    """(b,) int64 lengths of the histories."""
    rankable: np.ndarray
    """(i,) bool"""

    def without(self, *rungs: str) -> "Told":
        """The same as if what these rungs read were not known of anybody."""
        nobody = np.zeros(len(self.events), bool)
        return replace(self, knows={**self.knows, **dict.fromkeys(rungs, nobody)})

    def answer(self, weights: LadderWeights) -> "Answer":
        """Scores of all contents, as the weights of what is known of each person blend the rungs."""
        scores = np.zeros(self.features["popularity"].shape)
        shares = {rung: np.zeros(len(scores)) for rung in RUNGS}
        for person in range(len(scores)):
            rungs = [rung for rung in RUNGS if self.knows[rung][person]]
            for rung, weight in weights.of(rungs, int(self.events[person])).items():
                if weight:
                    part = weight * self.features[rung][person]
                    scores[person] += part
                    shares[rung][person] = part[self.rankable].std()
        total = sum(shares.values())
        return Answer(scores, {rung: part / np.where(total > 0, total, 1) for rung, part in shares.items()})


@dataclass(frozen=True)
class Answer:
    """Scores, and what they come from."""

    scores: np.ndarray
    """(b, i) float64"""
    shares: Mapping[str, np.ndarray]
    """Rung -> (b,) its part in telling contents apart, from 0 to 1; all parts of a person sum to 1."""

    @property
    def rungs(self) -> list[str]:
        """(b,) the rung that answered each person: of the largest part; the higher one where parts tie."""
        parts = np.stack([self.shares[rung] for rung in RUNGS], axis=1)
        return [RUNGS[place] for place in np.argmax(np.round(parts, 12), axis=1)]


class Ladder:
    """Scores contents for people of whom little is known.

    history: the model on what was liked. genres: likes of users weighted by how much their genres lean as the
    declared ones do. titles: the model on the named titles as a history. people: contents that named people
    made, by likes. demographics: likes of users of one's group. trending: late likes of users of one's
    region. popularity: all likes. Groups and regions are shrunk to all users; a rung that knows nothing is
    left out.

    Cost: O(b u + likes of training · b) for genres, two calls of the model, one product over credits.
    """

    def __init__(self, model: Recommender, training: Training, config: LadderConfig | None = None) -> None:
        """Takes a fitted model that scores somebody without a row from a history, and what it was fitted on.

        Raises:
            SettingError: the model cannot do that.
        """
        if not model.facts.scores_cold_user:
            raise SettingError(
                f"{type(model).__name__} cannot score somebody it was not trained on: take a model that can, "
                "as ease, item_knn or ials"
            )
        self.model, self.config = model, config or LadderConfig()
        graph, positives = training.graph, training.positives
        self._positives, self._rankable = positives.astype(np.float32), training.rankable
        self.group_names, self._groups = _numbered(graph.texts("User", "age_band"))
        self.region_names, self._regions = _numbered(graph.texts("User", "region"))
        self.credits = credits_of(graph)
        self._late = _late(training, self.config.trend_days)
        self._popularity = _share(np.asarray(positives.sum(axis=0), np.float64))
        taste = _rows(self._positives @ _spread(genres_of(graph)))
        self._usual = taste[taste.any(axis=1)].mean(axis=0) if taste.any() else np.zeros(taste.shape[1])
        self._taste = _unit(np.where(taste.any(axis=1, keepdims=True), taste - self._usual, 0))  # (u, g)

    def groups_of(self, users: np.ndarray) -> np.ndarray:
        """(b,) int64 group of users of the graph, :data:`UNKNOWN` where not known."""
        return self._groups[users]

    def regions_of(self, users: np.ndarray) -> np.ndarray:
        """(b,) int64 region of users of the graph, :data:`UNKNOWN` where not known."""
        return self._regions[users]

    def told(self, known: Known) -> Told:
        """What each rung says of some people.

        Shares of likes are told as logarithms, scores of the model as standard scores among what may be
        ranked: both then add up as log-odds do.
        """
        everybody = np.ones(len(known.groups), bool)
        knows = {
            "history": np.diff(known.history.indptr) > 0,
            "genres": np.diff(known.genres.indptr) > 0,
            "titles": np.diff(known.titles.indptr) > 0,
            "people": np.diff(known.people.indptr) > 0,
            "demographics": known.groups != UNKNOWN,
            **dict.fromkeys(ALWAYS, everybody),
        }
        found = {rung: self._says(rung, known) for rung in RUNGS if knows[rung].any()}
        return Told(found, knows, np.diff(known.history.indptr).astype(np.int64), self._rankable)

    def answer(self, known: Known, weights: LadderWeights) -> Answer:
        """Scores of all contents for some people, and which rungs they come from."""
        return self.told(known).answer(weights)

    def _says(self, rung: str, known: Known) -> np.ndarray:
        """(b, i) float64 of one rung."""
        if rung in ("history", "titles"):
            return self._by_model(getattr(known, rung), known.times if rung == "history" else None)
        if rung == "genres":
            shares = self._by_genres(known.genres)
        elif rung == "people":
            shares = ((known.people @ self.credits.T).toarray() > 0) * self._popularity
        elif rung == "demographics":
            shares = self._of_group(self._positives, self._groups, known.groups)
        elif rung == "trending":
            shares = self._of_group(self._late, self._regions, known.regions)
        else:
            shares = np.repeat(self._popularity[None], len(known.groups), axis=0)
        return self._log(shares)

    def _by_model(self, history: sp.csr_array, times: sp.csr_array | None) -> np.ndarray:
        """(b, i) standard scores of the model for people without a row."""
        rows = np.full(history.shape[0], -1)
        scores = self.model.score(Users(rows, history, times)).astype(np.float64)
        told = scores[:, self._rankable]
        deviation = told.std(axis=1, keepdims=True)
        return (scores - told.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, np.inf)

    def _by_genres(self, declared: sp.csr_array) -> np.ndarray:
        """(b, i) share of likes among users whose genres lean as the declared ones do."""
        wanted = _rows(declared.astype(np.float64).toarray())
        leaning = _unit(np.where(wanted.any(axis=1, keepdims=True), wanted - self._usual, 0))
        alike = np.maximum(leaning @ self._taste.T, 0) ** 2  # (b, u)
        return _share(np.asarray(alike @ self._positives, np.float64))

    def _of_group(self, likes: sp.csr_array, of_user: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """(b, i) share of likes within the group of each person, shrunk to those of all users."""
        whole = _share(np.asarray(likes.sum(axis=0), np.float64))
        usual = self.config.shrinkage * likes.sum() / max(np.count_nonzero(np.diff(likes.indptr)), 1)
        found = np.empty((len(asked), len(whole)))
        for group in np.unique(asked):
            members = np.flatnonzero(of_user == group) if group != UNKNOWN else np.empty(0, np.int64)
            own = np.asarray(likes[members].sum(axis=0), np.float64)
            found[asked == group] = _share(own + usual * whole) if own.any() else whole
        return found

    def _log(self, shares: np.ndarray) -> np.ndarray:
        """Logarithm of shares of likes, of which one like of training is never told from none."""
        return np.log(shares + 1 / max(self._positives.nnz, 1))


def credits_of(graph: GraphArrays) -> sp.csr_array:
    """(i, p) float32: 1 where a person acted in, directed or wrote a content."""
    contents, people = [], []
    for type in CREDITS:
        contents.append(graph.incidence(type, "content")[1])
        people.append(graph.incidence(type, "person")[1])
    rows, columns = np.concatenate(contents), np.concatenate(people)
    shape = (graph.size("Content"), graph.size("Person"))
    found = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    found.sum_duplicates()
    found.data[:] = 1
    return found


def _late(training: Training, days: float) -> sp.csr_array:
    """(u, i) float32 likes that fade with their age at the last like of training."""
    times = training.times
    if not times.nnz:
        return training.positives.astype(np.float32)
    age_s = times.data.max() - times.data
    fresh = np.exp(-age_s / (days * DAY_S)).astype(np.float32)
    return sp.csr_array((fresh, times.indices, times.indptr), shape=times.shape)


def _numbered(names: list[str]) -> tuple[list[str], np.ndarray]:
    """The distinct names, and (n,) int64 which is whose; :data:`UNKNOWN` for ''."""
    known = sorted(set(names) - {""})
    places = {name: place for place, name in enumerate(known)}
    return known, np.array([places.get(name, UNKNOWN) for name in names], np.int64)


def _spread(genres: sp.csr_array) -> np.ndarray:
    """(i, g) 1 over the genres of a content at each of them."""
    return _rows(genres.toarray().astype(np.float64))


def _rows(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-12)


def _unit(matrix: np.ndarray) -> np.ndarray:
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
