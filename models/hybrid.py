"""Several closed-form models as one: their rankings are fused, so that no scale of scores decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import ModelFacts, Recommender, Trainable, Training, Users, recommenders
from models.ranking import RRF_OFFSET, reciprocal_rank_fusion


@dataclass(frozen=True)
class HybridConfig:
    """Settings of :class:`Hybrid`."""

    members: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "ease": {"weight": 0.5},
            "ials": {"weight": 0.3},
            "item_knn": {"weight": 0.2},
        }
    )
    """Name of a closed-form recommender -> its settings, and its ``weight`` above 0 in the fusion."""

    def __post_init__(self) -> None:
        if not self.members:
            raise SettingError("hybrid needs at least one member: name it under `members`")
        for name, settings in self.members.items():
            weight = settings.get("weight")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
                raise SettingError(f"member {name!r} of hybrid needs a weight above 0, got {weight!r}")


@recommenders.register("hybrid", HybridConfig)
class Hybrid(Recommender):
    """Weighted reciprocal rank fusion of models that need no training loop.

    Source: Cormack, Clarke, Büttcher, SIGIR 2009. A reason weighs by its share in a member's score and by
    what that member gave to the fused one.
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    config: HybridConfig

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self._members: dict[str, Recommender] = {}
        for name, settings in config.members.items():
            if issubclass(recommenders[name], Trainable) or issubclass(recommenders[name], Hybrid):
                raise SettingError(f"hybrid fuses closed-form models, {name!r} is none: leave it out")
            own = {key: value for key, value in settings.items() if key != "weight"}
            self._members[name] = recommenders.build(name, own)
        stated = [member.facts for member in self._members.values()]
        self.facts = ModelFacts(
            scores_cold_user=any(facts.scores_cold_user for facts in stated),
            scores_cold_content=any(facts.scores_cold_content for facts in stated),
            draws_on=tuple(sorted({fact for facts in stated for fact in facts.draws_on})),
            is_personal=any(facts.is_personal for facts in stated),
        )
        self._weights = [float(settings["weight"]) for settings in config.members.values()]
        self._latest: tuple[bytes, list[np.ndarray]] = (b"", [])

    def fit(self, training: Training) -> None:
        self._latest = (b"", [])
        for member in self._members.values():
            member.fit(training)

    def score(self, users: Users) -> np.ndarray:
        return reciprocal_rank_fusion(self._scores(users), self._weights).astype(np.float32)

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        """Each member's share of the fused score, handed on in proportion to what helped it there."""
        first = users.first()
        is_other = first.history.indices != content_row
        given = np.zeros(first.history.nnz)
        scores = self._scores(first)
        for member, weight, own in zip(self._members.values(), self._weights, scores, strict=True):
            helped = np.maximum(member.contributions(first, content_row), 0) * is_other
            if (total := helped.sum()) > 0:
                rank = 1 + np.count_nonzero(own[0] > own[0, content_row])
                given += weight / (RRF_OFFSET + rank) * helped / total
        return given

    def arrays(self) -> dict[str, np.ndarray]:
        named = ((name, member.arrays()) for name, member in self._members.items())
        return {f"{name}/{key}": array for name, arrays in named for key, array in arrays.items()}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._latest = (b"", [])
        for name, member in self._members.items():
            prefix = f"{name}/"
            own = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
            member.restore(own, graph)

    def _scores(self, users: Users) -> list[np.ndarray]:
        """(b, i) of each member; those of the last single user are kept, whose list is explained next."""
        if len(users.rows) != 1:
            return [member.score(users) for member in self._members.values()]
        history = users.history
        key = b"".join((np.int64(users.rows[0]).tobytes(), history.indices.tobytes(), history.data.tobytes()))
        known, scores = self._latest
        if known != key:
            scores = [member.score(users) for member in self._members.values()]
            self._latest = (key, scores)
        return scores
