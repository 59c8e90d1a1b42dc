"""Several closed-form models as one: their rankings are fused, so that no scale of scores decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configs.registry import SettingError
from models.committee import Committee, check_members
from models.interface import Users, recommenders
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
    """See :data:`models.committee.Members`; each with its ``weight`` above 0 in the fusion."""

    def __post_init__(self) -> None:
        check_members(self.members, "hybrid")
        for label, settings in self.members.items():
            weight = settings.get("weight")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0:
                raise SettingError(f"member {label!r} of hybrid needs a weight above 0, got {weight!r}")


@recommenders.register("hybrid", HybridConfig)
class Hybrid(Committee):
    """Weighted reciprocal rank fusion of models that need no training loop.

    Source: Cormack, Clarke, Büttcher, SIGIR 2009. A reason weighs by its share in a member's score and by
    what that member gave to the fused one.
    """

    config: HybridConfig
    own_keys = (*Committee.own_keys, "weight")

    def score(self, users: Users) -> np.ndarray:
        return reciprocal_rank_fusion(self.scores(users), self._weights).astype(np.float32)

    def influence(self, users: Users, scores: list[np.ndarray], content_row: int) -> np.ndarray:
        ranks = [1 + np.count_nonzero(own[0] > own[0, content_row]) for own in scores]
        return np.array(self._weights) / (RRF_OFFSET + np.array(ranks))

    @property
    def _weights(self) -> list[float]:
        return [float(settings["weight"]) for _, settings in sorted(self.config.members.items())]
