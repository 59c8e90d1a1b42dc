"""Several closed-form models as one whose weights are learned: boosted trees over what the members say.

The trees learn from likes that no member had seen: the last ones of each history are kept back, members are
fitted on the others, and only then on all. u users · b users asked for · r contents that are ranked
· m members · f features · c candidates of a user."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import lightgbm
import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.committee import Committee, check_members, key_of
from models.history import recent
from models.interface import Training, Users, recommenders
from models.item_item import places
from models.ranking import RRF_OFFSET, genres_of, ranks, top

CONTEXT = ("log popularity", "log history length", "release year", "years after the history", "genres alike")
_OF_MEMBER = 2  # features a member: where it ranks a content, and how far it stands out


@dataclass(frozen=True)
class FusionConfig:
    """Settings of :class:`Fusion`."""

    members: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "item_knn": {"recency": 5.0, "similarity": "tfidf"},
            "ease": {"recency": 20.0, "regularization": 200.0},
            "ials": {"recency": 5.0, "regularization": 30.0},
        }
    )
    """See :data:`models.committee.Members`."""
    candidates: int = 100
    """Best contents of the members' rank fusion that the trees order, 1 or more; the others stand below."""
    trees: int = 100
    """1 or more."""
    leaves: int = 8
    """Of a tree, 2 or more."""
    learning_rate: float = 0.05
    """Of boosting, above 0 and at most 1."""
    least_candidates: int = 50
    """Candidates that a leaf must hold, 1 or more."""
    held_back: float = 0.2
    """Share of each history, the last ones, that the trees learn from; above 0 and below 1."""
    recency: float = 8.0
    """Like a member's, for the context features: year and genres of the history."""

    def __post_init__(self) -> None:
        check_members(self.members, "fusion")
        if min(self.candidates, self.trees, self.least_candidates) < 1 or self.leaves < 2:
            raise SettingError(
                "fusion needs candidates, trees and least_candidates of 1 or more and leaves of 2 or more, "
                f"got {self.candidates}, {self.trees}, {self.least_candidates} and {self.leaves}"
            )
        if not 0 < self.learning_rate <= 1 or not 0 < self.held_back < 1 or not self.recency > 0:
            raise SettingError(
                "fusion needs learning_rate in 0..1 above 0, held_back above 0 and below 1 and recency above "
                f"0, got {self.learning_rate}, {self.held_back} and {self.recency}"
            )


@recommenders.register("fusion", FusionConfig)
class Fusion(Committee):
    """Gradient-boosted trees order the candidates that rank fusion finds.

    A feature is never a raw score: per member log rank and standard score within the user, then what the
    context says (popularity in training, length of the history, release year, its distance to the history's,
    genres shared with it). With too little to learn from (no like kept back among the candidates) the order
    of rank fusion stays.

    Source: stacking, Wolpert 1992; trees by LightGBM, Ke et al., NeurIPS 2017, on the binary log loss.
    Reasons follow the trees: a member's part is the sum of its features' SHAP values (Lundberg et al. 2020).

    Cost: every member is fitted twice; O(b r log r) for the ranks, then c · trees comparisons a user.
    """

    config: FusionConfig

    def fit(self, training: Training) -> None:
        self._begin(training)
        seen, kept_back = hold_back(training, self.config.held_back)
        super().fit(seen)
        self._trees = self._learn(seen, kept_back)
        super().fit(training)
        self._begin(training)

    def score(self, users: Users) -> np.ndarray:
        fused, chosen, features = self._look(users)
        scores = (fused / (1 + fused)).astype(np.float32)  # below 1: below every candidate
        if self._trees and len(features):
            scores[chosen] = 1 + self._booster.predict(features, num_threads=1)
        full = np.full((len(users.rows), self._size), np.float32(-1))
        full[:, self._contents] = scores
        return full

    def influence(self, users: Users, scores: list[np.ndarray], content_row: int) -> np.ndarray:
        count, place = len(self._members), np.searchsorted(self._contents, content_row)
        if place == len(self._contents) or self._contents[place] != content_row:
            return np.zeros(count)
        if not self._trees:
            ranked = [1 + np.count_nonzero(own[0] > own[0, content_row]) for own in scores]
            return 1 / np.array(ranked)
        key, described = key_of(users), self._described  # one read: other threads write it too
        if described[0] != key:  # the list of one person is explained title by title
            self._described = described = (key, *self._look(users)[1:])
        _, chosen, features = described
        if chosen[0, place]:
            this = features[[np.count_nonzero(chosen[0, :place])]]
        else:
            alone = np.zeros_like(chosen)
            alone[0, place] = True
            this = self._look(users, alone)[2]
        given = self._booster.predict(this, pred_contrib=True, num_threads=1)[0, : _OF_MEMBER * count]
        return np.maximum(given.reshape(count, _OF_MEMBER).sum(axis=1), 0)  # 0 where a member spoke against

    def arrays(self) -> dict[str, np.ndarray]:
        return super().arrays() | {
            "trees": np.frombuffer(self._trees.encode(), np.uint8).copy(),
            "rankable": self._contents,
            "size": np.array([self._size], np.int64),
            "popularity": self._popularity,
            "year": self._year,
            "genres": self._genres,
        }

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        super().restore(arrays, graph)
        self._forget()
        self._trees = arrays["trees"].tobytes().decode()
        self._contents, self._size = arrays["rankable"], int(arrays["size"][0])
        self._popularity, self._year, self._genres = arrays["popularity"], arrays["year"], arrays["genres"]

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        return lightgbm.Booster(model_str=self._trees)

    def _forget(self) -> None:
        """Drops what was made of other trees."""
        self.__dict__.pop("_booster", None)
        self._described: tuple[bytes, np.ndarray, np.ndarray] = (b"", np.empty((1, 0)), np.empty((0, 0)))

    def _begin(self, training: Training) -> None:
        """What the context features read of a training."""
        self._forget()
        self._size = training.positives.shape[1]
        likes = np.bincount(training.positives.indices, minlength=self._size)
        # where no member can tell unliked contents apart, they stand below all others
        self._contents = np.flatnonzero(training.rankable & ((likes > 0) | self.facts.scores_cold_content))
        self._popularity = np.log1p(likes).astype(np.float32)
        self._year = training.graph.numbers("Content", "release_year").astype(np.float32)
        genres = genres_of(training.graph).toarray()
        self._genres = (genres / np.maximum(np.linalg.norm(genres, axis=1, keepdims=True), 1e-9)).astype("f4")

    def _learn(self, seen: Training, kept_back: sp.csr_array) -> str:
        """The trees as LightGBM writes them; '' where there is nothing to learn."""
        self._popularity = np.log1p(np.bincount(seen.positives.indices, minlength=self._size)).astype("f4")
        rows, answers = [], []
        for users in _blocks(seen, np.flatnonzero(np.diff(kept_back.indptr))):
            _, chosen, features = self._look(users)
            rows.append(features)
            answers.append(kept_back[users.rows][:, self._contents].toarray()[chosen] > 0)
        if not rows or not np.concatenate(answers).any():
            return ""
        answer = np.concatenate(answers)
        settings = {
            "objective": "binary",
            "num_leaves": self.config.leaves,
            "learning_rate": self.config.learning_rate,
            "min_data_in_leaf": min(self.config.least_candidates, max(1, len(answer) // 20)),
            "lambda_l2": 1.0,
            "feature_fraction": 0.8,
            "seed": seen.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(np.concatenate(rows), answer.astype(np.float32))
        return lightgbm.train(settings, data, self.config.trees).model_to_string()

    def _look(
        self, users: Users, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the members find, and how the candidates look to the trees.

        Args:
            users: b of them.
            chosen: (b, r) bool, whom to describe; None takes the best of rank fusion not liked already.

        Returns:
            (b, r) float64 rank fusion, 0 for what was liked already; ``chosen``; (c, f) float32 features of
            the chosen, user by user.
        """
        unseen = self._unseen(users.history)
        standards = [_standard(scores[:, self._contents], unseen) for scores in self.scores(users)]
        ranked = [ranks(np.where(unseen, standard, -np.inf)) for standard in standards]
        fused = np.where(unseen, sum(1 / (RRF_OFFSET + rank) for rank in ranked), 0.0)
        if chosen is None:
            chosen = np.zeros(fused.shape, bool)
            best = top(np.where(unseen, fused, -np.inf), self.config.candidates)
            chosen[np.nonzero(best >= 0)[0], best[best >= 0]] = True
        columns = []
        for standard, rank in zip(standards, ranked, strict=True):
            columns += [-np.log(3 + rank[chosen]), standard[chosen]]
        columns += [column[chosen] for column in self._context(users)]
        return fused, chosen, np.stack(columns, axis=1).astype(np.float32)

    def _unseen(self, history: sp.csr_array) -> np.ndarray:
        """(b, r) bool: what was not liked yet."""
        unseen = np.ones((history.shape[0], len(self._contents)), bool)
        place = places(self._contents, self._size)[history.indices]
        row = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
        unseen[row[place >= 0], place[place >= 0]] = False
        return unseen

    def _context(self, users: Users) -> list[np.ndarray]:
        """(b, r) each, in the order of :data:`CONTEXT`; NaN where the year of either side is not known."""
        shape = len(users.rows), len(self._contents)
        history = recent(users, self.config.recency).history
        weight = history @ (~np.isnan(self._year)).astype(np.float32)
        when = (history @ np.nan_to_num(self._year)) / np.where(weight > 0, weight, np.nan)  # (b,)
        taste = history @ self._genres
        taste = taste / np.maximum(np.linalg.norm(taste, axis=1, keepdims=True), 1e-9)
        year, length = self._year[self._contents], np.log1p(np.diff(history.indptr))
        return [
            np.broadcast_to(self._popularity[self._contents], shape),
            np.broadcast_to(length[:, None], shape),
            np.broadcast_to(year, shape),
            np.round(year[None] - when[:, None], 2),
            np.round(taste @ self._genres[self._contents].T, 4),
        ]


def hold_back(training: Training, share: float) -> tuple[Training, sp.csr_array]:
    """A training without the last likes of everybody, and those likes.

    The share is rounded down; likes of one moment stand in the order of their contents.

    Returns:
        The training with the rest, and (u, i) float32 what was kept back.
    """
    positives, times = training.positives, training.times
    counts = np.diff(positives.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((positives.indices, times.data, row))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - positives.indptr[row]
    is_last = place >= (counts - np.floor(counts * share + 1e-9))[row]

    def only(matrix: sp.csr_array, kept: np.ndarray) -> sp.csr_array:
        starts = np.r_[0, np.cumsum(np.bincount(row[kept], minlength=len(counts)))]
        return sp.csr_array((matrix.data[kept], matrix.indices[kept], starts), shape=matrix.shape)

    rest = replace(training, positives=only(positives, ~is_last), times=only(times, ~is_last))
    return rest, only(positives, is_last)


def _blocks(training: Training, rows: np.ndarray, size: int = 64) -> Iterator[Users]:
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        yield Users(block, training.positives[block], training.times[block])


def _standard(scores: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """(b, r) float64: standard deviations above the mean of what was not liked yet; 0 where all tie.

    To four digits: the last bits of a product over many rows are not those of a product over one.
    """
    scores = scores.astype(np.float64)
    count = np.maximum(unseen.sum(axis=1, keepdims=True), 1)
    apart = np.where(unseen, scores - np.where(unseen, scores, 0).sum(axis=1, keepdims=True) / count, 0)
    deviation = np.sqrt((apart**2).sum(axis=1, keepdims=True) / count)
    return np.round(apart / np.where(deviation > 1e-12, deviation, np.inf), 4)
