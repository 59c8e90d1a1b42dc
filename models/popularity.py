"""The floor: what everybody else liked, and chance.

A model that does not beat these has learned nothing about anybody."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Training, Users, recommenders

DAY_S = 86_400


@dataclass(frozen=True)
class RandomConfig:
    """:class:`Random` takes no settings; its seed is the run's."""


@recommenders.register("random", RandomConfig)
class Random(Recommender):
    """Scores drawn from [0, 1): the same ones for the same seed and user row, whoever else is asked for."""

    facts = ModelFacts(scores_cold_user=False, scores_cold_content=True, draws_on=(), is_personal=False)
    config: RandomConfig

    def fit(self, training: Training) -> None:
        self._size, self._seed = training.positives.shape[1], training.seed

    def score(self, users: Users) -> np.ndarray:
        scores = np.empty((len(users.rows), self._size), np.float32)  # (b, i)
        for place, row in enumerate(users.rows):
            # somebody unknown is row -1, and a seed has no sign
            scores[place] = np.random.default_rng([self._seed, int(row) + 1]).random(self._size, np.float32)
        return scores

    def arrays(self) -> dict[str, np.ndarray]:
        return {"size_and_seed": np.array([self._size, self._seed], np.int64)}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._size, self._seed = (int(value) for value in arrays["size_and_seed"])


@dataclass(frozen=True)
class PopularityConfig:
    """Settings of :class:`Popularity`."""

    half_life_days: float | None = None
    """Days, above 0, after which a positive counts half, seen from training's last; None is all time."""

    def __post_init__(self) -> None:
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise SettingError(
                f"half_life_days must be above 0, got {self.half_life_days}: leave it out to count all time"
            )


@recommenders.register("popularity", PopularityConfig)
class Popularity(Recommender):
    """How many people liked a content, all time or with recent ones counting more.

    Example:
        >>> config = PopularityConfig(half_life_days=10)
        >>> 0.5 ** (20 * DAY_S / (config.half_life_days * DAY_S))
        0.25
    """

    facts = ModelFacts(scores_cold_user=False, scores_cold_content=False, draws_on=(), is_personal=False)
    config: PopularityConfig

    def fit(self, training: Training) -> None:
        contents, weights = training.positives.indices, np.ones(training.positives.nnz)
        if self.config.half_life_days is not None and training.times.nnz:
            contents, age_s = training.times.indices, training.times.data.max() - training.times.data
            weights = 0.5 ** (age_s / (self.config.half_life_days * DAY_S))
        count = training.positives.shape[1]
        scores = np.bincount(contents, weights, count)
        liked = np.bincount(contents, minlength=count) > 0
        smallest = np.finfo(np.float32).tiny  # a like too old to count still counts more than none
        self._scores = np.where(liked, np.maximum(scores, smallest), 0).astype(np.float32)  # (i,)

    def score(self, users: Users) -> np.ndarray:
        return np.repeat(self._scores[None], len(users.rows), axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"scores": self._scores}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._scores = arrays["scores"]
