"""Ways to meet the next window of time: each takes the model of the last one and what is new.

p likes of training."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from configs.registry import Registry, SettingError
from experiments.training import FitConfig, fit
from models.continual import Anchors, Continued, Drift, EWCConfig, Reservoir, gradients
from models.interface import Recommender, Trainable, Training, recommenders

BORDERS = ("window", "drift")


@dataclass(frozen=True)
class Beginning:
    """What all ways begin from: one model, learned on the first window."""

    settings: Mapping[str, Any]
    """``name`` of the model and its settings."""
    model: Trainable
    epochs: int
    """That it was trained."""
    train: Mapping[str, Any]
    """Settings of its training."""
    training: Training

    def made(self) -> Any:
        """Another such model, nothing learned."""
        return made_of(self.settings)


def made_of(settings: Mapping[str, Any]) -> Any:
    """A model from its ``name`` and settings, nothing learned."""
    told = {key: value for key, value in settings.items() if key != "name"}
    return recommenders.build(settings["name"], told)


class Learner(ABC):
    """One way to go on. A class is registered with ``@learners.register(name, Config)``."""

    parameters = 0
    """That it moves in a window."""
    kept_bytes = 0
    """That it keeps beside the model from window to window."""
    seconds = 0.0
    """Spent on windows after the first."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def begin(self, beginning: Beginning) -> None:
        """Takes the model of the first window."""
        self.beginning, self.model = beginning, beginning.model

    def meet(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        """Learns a window: (p,) bool ``is_new`` marks its likes, none is older than ``since_s``."""
        started = time.monotonic()
        self.model = self.learn(training, is_new, since_s)
        self.seconds += time.monotonic() - started
        return self.model

    @abstractmethod
    def learn(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        """The model afterwards."""


learners: Registry[type[Learner]] = Registry("way to learn on")


@dataclass(frozen=True)
class FrozenConfig:
    """:class:`Frozen` takes no settings."""


@learners.register("frozen", FrozenConfig)
class Frozen(Learner):
    """Learns nothing after the first window."""

    def learn(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        return self.model


@dataclass(frozen=True)
class StepsConfig:
    """How long and how fast a window is learned."""

    learning_rate: float = 1e-3
    epochs: int = 5

    def fit(self) -> FitConfig:
        """Settings of the training loop."""
        return FitConfig(learning_rate=self.learning_rate, epochs=self.epochs, threads=1)


@dataclass(frozen=True)
class TunedConfig(StepsConfig):
    """Settings of :class:`Tuned`."""

    strength: float = 0.0
    """λ of EWC++, 0 or more."""
    memory: float = 0.99
    """γ of EWC++, in [0, 1)."""
    examples: int = 200
    """Likes of a window that EWC++ looks at when it is over."""
    border: str = "window"
    """Where a task ends: after each ``window``, or after one in which gradients ``drift``."""
    replay: int = 0
    """Old likes that are kept and learned again, 0 or more."""

    def __post_init__(self) -> None:
        if self.border not in BORDERS or self.replay < 0:
            raise SettingError(
                f"border must be one of {BORDERS} and replay 0 or more, got {self.border!r}, {self.replay}"
            )
        self.ewc()

    def ewc(self) -> EWCConfig:
        """Settings of EWC++."""
        return EWCConfig(self.strength, self.memory, self.examples)


@learners.register("tuned", TunedConfig)
class Tuned(Learner):
    """Goes on with all parameters on what is new: plainly, held by EWC++, or with old likes among the new."""

    config: TunedConfig

    def begin(self, beginning: Beginning) -> None:
        super().begin(beginning)
        self._anchors: Anchors | None = None
        self._buffer = Reservoir(self.config.replay, beginning.training.seed) if self.config.replay else None
        self._drift = Drift()
        everything = np.ones(beginning.training.positives.nnz, bool)
        self._end(Continued(beginning.model, {}, everything), beginning.training, everything)

    def learn(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        is_learned = is_new
        if self._buffer is not None:
            is_learned = is_new | np.isin(_pairs(training), self._buffer.pairs)
        going = Continued(self.beginning.made(), self.model.arrays(), is_learned, self._anchors)
        fit(going, training, None, self.config.fit())
        self.parameters = sum(value.numel() for value in going.module.parameters())
        self._end(going, training, is_new)
        return going.base

    def _end(self, going: Continued, training: Training, is_new: np.ndarray) -> None:
        """What is kept of a window for those to come."""
        if self._buffer is not None:
            self._buffer.add(np.random.default_rng(training.seed).permutation(_pairs(training)[is_new]))
            self.kept_bytes = self._buffer.pairs.nbytes
        if self.config.strength:
            going.base.learn(is_new)
            if self._anchors is None or self.config.border == "window" or self._drifts(going, training.seed):
                self._anchors = going.anchored(self.config.ewc(), training.seed)
            self.kept_bytes = sum(value.nbytes for value in self._anchors.state_dict().values())

    def _drifts(self, going: Continued, seed: int) -> bool:
        parameters = {
            name: value for name, value in going.module.named_parameters() if name != "token_vector.weight"
        }  # a row a content: most examples reach few of them
        drawn = going.base.examples(torch.Generator().manual_seed(seed), self.config.examples)
        for example in drawn:
            found = gradients(example(), parameters)
            flat = [
                torch.zeros(parameters[name].numel()) if value is None else value.flatten()
                for name, value in found.items()
            ]
            if self._drift.add(torch.cat(flat)):
                self._drift.restart()
                return True
        return False


@dataclass(frozen=True)
class LowRankConfig(StepsConfig):
    """Settings of :class:`LowRank`; what they mean says :class:`models.adapted.AdaptedConfig`."""

    rank: int = 8
    alpha: float = 16.0
    strength: float = 0.0
    memory: float = 0.99
    examples: int = 200


@learners.register("low_rank", LowRankConfig)
class LowRank(Learner):
    """Goes on with the base tier alone: the model of the first window stays frozen."""

    config: LowRankConfig

    def learn(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        names = ("rank", "alpha", "strength", "memory", "examples")
        told = {name: getattr(self.config, name) for name in names}
        base = dict(self.beginning.settings)
        going = recommenders.build("adapted", {"base": base, "since_s": since_s - 1, **told})
        going.stand_on(self.model.arrays())
        fit(going, training, None, self.config.fit())
        self.parameters = sum(value.size for name, value in going.adapter().items() if "lora" in name)
        self.kept_bytes = 4 * self.parameters
        return going


@dataclass(frozen=True)
class RetrainedConfig:
    """:class:`Retrained` takes no settings: it trains as the first window was."""


@learners.register("retrained", RetrainedConfig)
class Retrained(Learner):
    """A new model after each window, on all that was ever told."""

    def learn(self, training: Training, is_new: np.ndarray, since_s: int) -> Recommender:
        model, told = self.beginning.made(), dict(self.beginning.train)
        fit(model, training, None, FitConfig(**{**told, "epochs": self.beginning.epochs, "seconds": None}))
        self.parameters = sum(value.numel() for value in model.module.parameters())
        self.kept_bytes = 16 * training.positives.nnz
        return model


def _pairs(training: Training) -> np.ndarray:
    """(p,) int64 ``user · contents + content`` of each like, as training's stand."""
    liked = training.positives.tocsr()
    users = np.repeat(np.arange(liked.shape[0], dtype=np.int64), np.diff(liked.indptr))
    return users * liked.shape[1] + liked.indices
