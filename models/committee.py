"""Several closed-form models that are asked together; how their scores become one, a subclass decides."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.history import recent
from models.interface import ModelFacts, Recommender, Trainable, Training, Users, recommenders

Members = Mapping[str, Mapping[str, Any]]
"""Label of a member -> ``model``, a closed-form recommender (the label where left out); ``recency``, after
how many later likes one counts 1/e for this member (null: all count alike); the model's own settings."""


@dataclass(frozen=True)
class Member:
    """One model of a committee, and how it looks at a history."""

    label: str
    model: Recommender
    recency: float | None

    def users(self, users: Users) -> Users:
        """The people as this member sees them."""
        return recent(users, self.recency)


def check_members(members: Members, kind: str) -> None:
    """Refuses a committee without anybody, and a recency that is none.

    Raises:
        SettingError: says which member, and why.
    """
    if not members:
        raise SettingError(f"{kind} needs at least one member: name it under `members`")
    for label, settings in members.items():
        recency = settings.get("recency")
        is_number = isinstance(recency, int | float) and not isinstance(recency, bool)
        if recency is not None and not (is_number and recency > 0):
            raise SettingError(f"member {label!r} of {kind} needs a recency above 0 or null, got {recency!r}")


class Committee(Recommender):
    """Fits its members, asks them, and explains by them; the fusion of their scores is a subclass's."""

    own_keys: tuple[str, ...] = ("model", "recency")
    """Keys of a member's settings that are not its model's."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        # by label: a version that comes back from disk has lost the order in which they were written
        self._members = [self._made(label, settings) for label, settings in sorted(config.members.items())]
        stated = [member.model.facts for member in self._members]
        self.facts = ModelFacts(
            scores_cold_user=any(facts.scores_cold_user for facts in stated),
            scores_cold_content=any(facts.scores_cold_content for facts in stated),
            draws_on=tuple(sorted({fact for facts in stated for fact in facts.draws_on})),
            is_personal=any(facts.is_personal for facts in stated),
        )
        self._latest: tuple[bytes, list[Users], list[np.ndarray]] = (b"", [], [])

    def _made(self, label: str, settings: Mapping[str, Any]) -> Member:
        name = settings.get("model", label)
        if issubclass(recommenders[name], Trainable) or issubclass(recommenders[name], Committee):
            raise SettingError(f"a committee asks closed-form models, {name!r} is none: leave it out")
        own = {key: value for key, value in settings.items() if key not in self.own_keys}
        return Member(label, recommenders.build(name, own), settings.get("recency"))

    def fit(self, training: Training) -> None:
        self._latest = (b"", [], [])
        for member in self._members:
            member.model.fit(training)

    @abstractmethod
    def influence(self, users: Users, scores: list[np.ndarray], content_row: int) -> np.ndarray:
        """(m,) float64, 0 or more: what each member gave to the first user's fused score of a content."""

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        """Each member's part of the fused score, handed on in proportion to what helped it there."""
        first = users.first()
        is_other = first.history.indices != content_row
        given = np.zeros(first.history.nnz)
        seen, scores = self._asked(first)
        parts = self.influence(first, scores, content_row).tolist()
        for member, one, part in zip(self._members, seen, parts, strict=True):
            if part > 0:
                helped = np.maximum(member.model.contributions(one, content_row), 0) * is_other
                if (total := helped.sum()) > 0:
                    given += part * helped / total
        return given

    def arrays(self) -> dict[str, np.ndarray]:
        named = ((member.label, member.model.arrays()) for member in self._members)
        return {f"{label}/{key}": array for label, arrays in named for key, array in arrays.items()}

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self._latest = (b"", [], [])
        for member in self._members:
            prefix = f"{member.label}/"
            own = {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
            member.model.restore(own, graph)

    def scores(self, users: Users) -> list[np.ndarray]:
        """(b, i) of each member."""
        return self._asked(users)[1]

    def _asked(self, users: Users) -> tuple[list[Users], list[np.ndarray]]:
        """The people as each member sees them, and its (b, i) scores.

        Those of the last single person are kept: the list is explained next.
        """
        key, latest = key_of(users) if len(users.rows) == 1 else b"", self._latest
        if key and latest[0] == key:
            return latest[1:]
        seen = [member.users(users) for member in self._members]
        scores = [member.model.score(one) for member, one in zip(self._members, seen, strict=True)]
        if key:
            self._latest = (key, seen, scores)
        return seen, scores


def key_of(users: Users) -> bytes:
    """Equal for equal people with equal histories."""
    history = users.history
    parts = [np.int64(users.rows[0]).tobytes(), history.indices.tobytes(), history.data.tobytes()]
    return b"|".join([*parts, b"" if users.times is None else users.times.data.tobytes()])
