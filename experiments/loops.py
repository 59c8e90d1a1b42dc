"""How a fitted model answers in a replay: registered by name, so that a row of a table is a line of YAML.

b users asked for · i contents · e events."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from configs.registry import Registry
from experiments.splits import Part
from models.interface import Recommender, Users


class Loop(ABC):
    """One way to answer and to learn; what :class:`experiments.replay.Adaptive` asks for.

    A class is registered with ``@loops.register(name, Config)`` and made from its config alone; then
    :meth:`begin` is called once.
    """

    shares_state: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config, self.taken = config, 0

    def begin(self, model: Recommender, part: Part) -> None:
        """Takes a fitted model, and a part of which nothing that is held out is told."""
        self.model, self.part = model, part

    @abstractmethod
    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        """(b, i) finite scores; ``users`` tells all that was liked before ``at_ts`` (b,) UTC seconds."""

    def learn(self, user_rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray) -> None:
        """Counts (e,) likes; a loop that learns from them does so beside."""
        self.taken += len(user_rows)


loops: Registry[type[Loop]] = Registry("loop")


@dataclass(frozen=True)
class FrozenConfig:
    """:class:`Frozen` takes no settings."""


@loops.register("frozen", FrozenConfig)
class Frozen(Loop):
    """The model is told the history at the split, whatever was liked since.

    What was liked since is not recommended again, as with every loop.
    """

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        return self.model.score(Users(users.rows, self.part.history[users.rows], self.part.times[users.rows]))


@dataclass(frozen=True)
class LiveConfig:
    """:class:`Live` takes no settings."""


@loops.register("live", LiveConfig)
class Live(Loop):
    """The model is told all that was liked so far, and learns nothing.

    Of a linear model that is another sum, of iALS the closed-form fold-in of the person's vector, of SASRec a
    longer sequence. A model that keeps a learned vector for whom training knew answers as when frozen.
    """

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        return self.model.score(users)
