"""All that the rest of the house knows of a model.

A recommender is fitted on what training may see and scores every content; whatever ranks, filters or explains
works on these scores."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from configs.registry import Registry
from kg.arrays import GraphArrays


@dataclass(frozen=True)
class Training:
    """What a model may see: nothing held out is in either part.

    u users · i contents, both in the rows of ``graph``.
    """

    graph: GraphArrays
    """Training graph: facts of users that are held out, or lie after the split, are not in it."""
    positives: sp.csr_array
    """(u, i) float32, 1 where a user liked a content in training."""
    times: sp.csr_array
    """(u, i) int64 UTC seconds of those positives, same places."""
    rankable: np.ndarray
    """(i,) bool, contents that may be recommended (known in training)."""
    seed: int = 0


@dataclass(frozen=True)
class Users:
    """Whom to score for: rows of the graph, and what each has liked so far.

    ``rows`` (b,) int64 is -1 for somebody the graph does not know; ``history`` (b, i) float32 csr may hold
    more than training saw: a model that can re-score on live history does so. ``times`` (b, i) int64 UTC
    seconds stand at the places of ``history``; None where nobody told when.
    """

    rows: np.ndarray
    history: sp.csr_array
    times: sp.csr_array | None = None

    def first(self) -> "Users":
        """The first of them alone; no copy where there is no other."""
        if len(self.rows) == 1:
            return self
        return Users(self.rows[:1], self.history[:1], None if self.times is None else self.times[:1])


@dataclass(frozen=True)
class Reason:
    """One content of a user's history, and its part in the score of the content that was recommended."""

    content_row: int
    contribution: float
    share: float
    """Of all that the history gave for it, above 0 and at most 1."""


@dataclass(frozen=True)
class ModelFacts:
    """What a model states about itself; the contract test holds it to them."""

    scores_cold_user: bool
    """True if somebody without a row but with a history gets scores that depend on that history."""
    scores_cold_content: bool
    """True if a content without any training positive can score above one that has some."""
    draws_on: tuple[str, ...]
    """Fact types it reads besides what users liked."""
    is_personal: bool = True
    """False for a floor: what somebody liked never moves that person's scores."""


class Recommender(ABC):
    """Scores every content for every user; a larger score is better.

    A class is registered with ``@recommenders.register(name, Config)`` and made from its config alone.
    """

    facts: ClassVar[ModelFacts]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def fit(self, training: Training) -> None:
        """Learns in closed form, or makes ready to be trained (see :class:`Trainable`)."""

    @abstractmethod
    def score(self, users: Users) -> np.ndarray:
        """(b, i) float32 scores, finite; nothing is masked here."""

    def contributions(self, users: Users, content_row: int) -> np.ndarray:
        """(h,) float64 parts of a score that the first user's history gave, as its indices stand.

        Zeros where the model does not read single contents of a history: then only graph paths can be shown.
        """
        return np.zeros(users.first().history.nnz)

    def reasons(self, users: Users, content_row: int, n: int = 3) -> list[Reason]:
        """Contents of the first user's history that gave most to a score, largest first, ties by content row.

        A content is no reason for itself; what gave nothing or took away is none either.
        """
        contents = users.first().history.indices
        given = self.contributions(users, content_row)
        kept = np.flatnonzero((given > 0) & (contents != content_row))
        total = given[kept].sum()
        kept = kept[np.lexsort((contents[kept], -given[kept]))][:n]
        return [
            Reason(int(contents[place]), float(given[place]), float(given[place] / total)) for place in kept
        ]

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, by name: what :class:`models.store.ModelStore` writes."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        """Takes back what :meth:`arrays` gave; scores are the same to the bit."""


class Trainable(Recommender):
    """A recommender learned by gradient steps in the one training loop, ``experiments.training.fit``.

    ``fit`` makes ready (features, indices, parameters), the loop then calls :meth:`steps` once an epoch and
    minimises the losses; before it measures or saves it calls :meth:`freeze`.
    """

    module: nn.Module

    @abstractmethod
    def steps(self, generator: torch.Generator) -> Any:
        """Iterates over one epoch: callables without argument, each giving the () loss of one batch."""

    @abstractmethod
    def freeze(self) -> None:
        """Computes what scoring needs (embeddings of all nodes) from the present parameters."""


recommenders: Registry[type[Recommender]] = Registry("recommender")
