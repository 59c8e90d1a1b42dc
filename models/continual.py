"""Learning on without forgetting: EWC++ as a part of the loss, drift of gradients, a reservoir of old likes.

n parameters of a tensor · p likes of training · t parameters in all."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import Trainable, Training, Users

Losses = Iterable[Callable[[], Tensor]]


@dataclass(frozen=True)
class EWCConfig:
    """Settings of :class:`Anchors`."""

    strength: float = 0.0
    """λ of the penalty, 0 or more; 0 holds nothing back."""
    memory: float = 0.99
    """γ of the running Fisher, 0 or more and below 1: it remembers about 1 / (1 − γ) examples."""
    examples: int = 200
    """Likes whose gradients are looked at where a task ends, 1 or more."""

    def __post_init__(self) -> None:
        if not self.strength >= 0 or not 0 <= self.memory < 1 or self.examples < 1:
            raise SettingError(
                "EWC++ needs strength of 0 or more, memory in [0, 1) and examples of 1 or more, got "
                f"{self.strength}, {self.memory} and {self.examples}"
            )


class Anchors(nn.Module):
    """EWC++: holds each parameter near where the last task left it, as firmly as the tasks so far need it.

    F ← γ F + (1 − γ) g² with g the gradient of one example's log-likelihood, not of a batch mean; the penalty
    (λ / 2) Σ F (θ − θ*)² is added to the loss, so that λ F (θ − θ*) is added to its gradient.

    Source: Chaudhry, Dokania, Ajanthan, Torr, "Riemannian Walk for Incremental Learning", ECCV 2018,
    arXiv:1801.10112, (their moving average is over batches); Kirkpatrick et al., PNAS 114(13), 2017.

    Cost: two tensors beside each parameter; a pass forward and back an example.

    Example:
        >>> theta = {"w": torch.tensor([1.0], requires_grad=True)}
        >>> anchors = Anchors(theta, EWCConfig(strength=2, memory=0.5))
        >>> anchors.settle(theta)
        >>> anchors.observe({"w": torch.tensor([4.0])})
        >>> anchors.penalty({"w": torch.tensor([1.5])}).item()
        2.0
    """

    def __init__(self, parameters: Mapping[str, Tensor], config: EWCConfig) -> None:
        super().__init__()
        self.config, self.names = config, list(parameters)
        for place, value in enumerate(parameters.values()):
            self.register_buffer(f"fisher_{place}", torch.zeros_like(value))
            self.register_buffer(f"star_{place}", value.detach().clone())

    def fisher(self, name: str) -> Tensor:
        """F of a parameter."""
        return getattr(self, f"fisher_{self.names.index(name)}")

    def star(self, name: str) -> Tensor:
        """θ* of a parameter."""
        return getattr(self, f"star_{self.names.index(name)}")

    def observe(self, gradients: Mapping[str, Tensor | None]) -> None:
        """Takes the gradient of one example; None is a parameter that it does not reach, others stay."""
        keeps = self.config.memory
        for name, gradient in gradients.items():
            fisher = self.fisher(name)
            fisher.mul_(keeps)
            if gradient is not None:
                fisher.addcmul_(gradient, gradient, value=1 - keeps)

    def settle(self, parameters: Mapping[str, Tensor]) -> None:
        """Ends a task: from here on parameters are held near these values. Rows may have come at the end."""
        for place, name in enumerate(self.names):
            value, known = parameters[name].detach(), self.fisher(name)
            fisher = torch.zeros_like(value)
            if value.ndim:
                fisher[: len(known)] = known
            else:
                fisher.copy_(known)
            setattr(self, f"fisher_{place}", fisher)
            setattr(self, f"star_{place}", value.clone())

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """() (λ / 2) Σ F (θ − θ*)²; rows that came after the last task are free."""
        total = torch.zeros(())
        for name in self.names:
            star, value = self.star(name), parameters[name]
            moved = (value[: len(star)] if value.ndim else value) - star
            total = total + (self.fisher(name) * moved * moved).sum()
        return self.config.strength / 2 * total


def gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Gradient of the () loss of one example by parameter; None where it reaches none."""
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))


def held(losses: Losses, anchors: Anchors | None, parameters: Mapping[str, Tensor]) -> Losses:
    """The same losses with the penalty of ``anchors`` added to each."""
    if anchors is None or not anchors.config.strength:
        yield from losses
        return
    for loss in losses:
        yield lambda loss=loss: loss() + anchors.penalty(parameters)


def look(anchors: Anchors, examples: Losses, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Lets anchors observe one example after another, without dropout."""
    was_training = module.training
    module.eval()
    for example in examples:
        anchors.observe(gradients(example(), parameters))
    module.train(was_training)


class Drift:
    """Says that a task has ended from gradients alone: those that come are unlike those that came.

    Each coordinate is held against its own running mean and deviation; where the mean |z| over coordinates
    lies above a bar after enough samples, the samples are of another task. For gradients that stay alike and
    are normal the mean |z| is about .8. Coordinates that never moved are left out.

    Source: Welford, Technometrics 4(3), 1962, for mean and variance in one pass.

    Cost: two numbers a coordinate.
    """

    def __init__(self, bar: float = 2.0, least: int = 50) -> None:
        """Takes the bar of mean |z|, above 0, and after how many samples it speaks, 2 or more."""
        if not bar > 0 or least < 2:
            raise SettingError(
                f"drift needs a bar above 0 and least of 2 samples or more, got {bar}, {least}"
            )
        self.bar, self.least = bar, least
        self.restart()

    def restart(self) -> None:
        """Forgets all samples: a new task begins."""
        self.count, self._mean, self._squares = 0, None, None

    def add(self, gradient: Tensor) -> bool:
        """Takes (t,) the gradient of a sample; True where it is of another task, it is not counted then."""
        if self.count >= self.least and self.z(gradient) > self.bar:
            return True
        gradient = gradient.double()
        if self._mean is None:
            self._mean, self._squares = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.count += 1
        before = gradient - self._mean
        self._mean += before / self.count
        self._squares += before * (gradient - self._mean)
        return False

    def z(self, gradient: Tensor) -> float:
        """Mean |z| of a (t,) gradient over the coordinates that have moved; NaN before two samples."""
        if self.count < 2:
            return float("nan")
        deviation = (self._squares / (self.count - 1)).sqrt()
        moved = deviation > 0
        if not moved.any():
            return 0.0
        return float(((gradient.double() - self._mean)[moved] / deviation[moved]).abs().mean())


class Reservoir:
    """A bounded sample of all that passed: each like is in it with the same chance, whenever it came.

    Source: Vitter, "Random sampling with a reservoir", ACM TOMS 11(1), 1985, algorithm R.

    Example:
        >>> kept = Reservoir(2, seed=0)
        >>> kept.add(np.array([5]))
        >>> kept.pairs.tolist()
        [5]
    """

    def __init__(self, capacity: int, seed: int = 0) -> None:
        if capacity < 1:
            raise SettingError(f"a reservoir needs a capacity of 1 or more, got {capacity}")
        self.capacity, self.seen = capacity, 0
        self._kept: list[int] = []
        self._rng = np.random.default_rng(seed)

    @property
    def pairs(self) -> np.ndarray:
        """(c,) int64 what is in it, ``user · contents + content`` each, ascending."""
        return np.sort(np.array(self._kept, np.int64))

    def add(self, pairs: np.ndarray) -> None:
        """Lets (p,) likes pass, in order."""
        for pair in pairs.tolist():
            self.seen += 1
            if len(self._kept) < self.capacity:
                self._kept.append(pair)
            elif (place := int(self._rng.integers(self.seen))) < self.capacity:
                self._kept[place] = pair


class Continued(Trainable):
    """A saved model that goes on learning all its parameters on newer likes, held by anchors or not.

    It is made by whoever goes on and not registered: what it becomes is a version of its own model.
    """

    def __init__(
        self,
        base: Trainable,
        arrays: Mapping[str, np.ndarray],
        is_learned: np.ndarray,
        anchors: Anchors | None = None,
    ) -> None:
        """Takes a model that can ``follow``, its arrays, and (p,) bool which likes it learns now."""
        super().__init__(base.config)
        self.base, self.facts = base, base.facts
        self._start, self._is_learned, self._anchors = arrays, is_learned, anchors

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        return self.base.module

    def fit(self, training: Training) -> None:
        self.base.follow(self._start, training, grows=True)
        self.base.learn(self._is_learned)

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        return iter(held(self.base.steps(generator), self._anchors, dict(self.module.named_parameters())))

    def freeze(self) -> None:
        self.base.freeze()

    def score(self, users: Users) -> np.ndarray:
        return self.base.score(users)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.base.arrays()

    def restore(self, arrays: Mapping[str, np.ndarray], graph: GraphArrays) -> None:
        self.base.restore(arrays, graph)

    def anchored(self, config: EWCConfig, seed: int) -> Anchors:
        """The anchors that hold what it has learned until now; those it was held by learn on."""
        parameters: dict[str, Any] = dict(self.module.named_parameters())
        anchors = self._anchors or Anchors(parameters, config)
        generator = torch.Generator().manual_seed(seed)
        anchors.settle(parameters)
        look(anchors, self.base.examples(generator, config.examples), self.module, parameters)
        return anchors
