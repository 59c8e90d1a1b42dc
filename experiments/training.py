"""The only training loop in the house: gradient steps, early stop on validation, best parameters kept."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError
from experiments import checkpoint
from experiments.evaluation import value_of
from experiments.splits import Part
from models.interface import Trainable, Training

Progress = Callable[[str], None]
"""Told in words what is done now."""


class TrainingError(RuntimeError):
    """A loss that is no number any more."""


@dataclass(frozen=True)
class FitConfig:
    """How a model is trained."""

    learning_rate: float = 1e-3
    """Of Adam, 0 or more."""
    weight_decay: float = 0.0
    """L2 penalty inside Adam, 0 or more; not applied to embeddings with sparse gradients."""
    clip: float = 1.0
    """Largest norm of all gradients of a step together, above 0."""
    epochs: int = 30
    """At most, 1 or more."""
    patience: int = 5
    """Epochs without a better validation value until training stops, 1 or more."""
    metric: str = "ndcg@10"
    """What is watched on validation."""
    seconds: float | None = None
    """Time budget: no epoch begins after it; None has none. With one, a slower machine may stop earlier."""
    threads: int | None = None
    """Of torch while training, 1 or more; None leaves them. Small batches gain nothing from a second thread,
    and lose much where another program takes its core."""

    def __post_init__(self) -> None:
        if self.learning_rate < 0 or self.weight_decay < 0 or not self.clip > 0:
            raise SettingError(
                "training needs learning_rate and weight_decay of 0 or more and clip above 0, got "
                f"{self.learning_rate}, {self.weight_decay}, {self.clip}"
            )
        if self.epochs < 1 or self.patience < 1:
            raise SettingError(
                f"training needs epochs and patience of 1 or more, got {self.epochs} and {self.patience}"
            )
        if self.threads is not None and self.threads < 1:
            raise SettingError(
                f"training needs 1 thread or more, got {self.threads}: leave it out for torch's own"
            )


@dataclass(frozen=True)
class Epoch:
    """One pass over the training positives."""

    number: int
    loss: float
    """Mean over the batches."""
    value: float | None
    """Validation metric afterwards, None where nothing is held out."""
    seconds: float


@dataclass(frozen=True)
class FitResult:
    """How training went; the model holds the parameters of the best epoch."""

    curve: tuple[Epoch, ...]
    best_epoch: int
    best_value: float | None
    stopped: str
    """Why: ``epochs``, ``patience`` or ``seconds``."""
    seconds: float


def fit(
    model: Trainable,
    training: Training,
    validation: Part | None,
    config: FitConfig,
    progress: Progress | None = None,
    folder: Path | None = None,
    watch: Callable[[Epoch], None] | None = None,
) -> FitResult:
    """Trains a model from its beginning, or from where a broken-off training of it left its checkpoint.

    Deterministic on CPU for the seed of ``training``, except where the time budget ends it. The global random
    state of torch is left as it was.

    Args:
        model: made from its config; ``model.fit`` is called here.
        training: what it learns from.
        validation: measured after each epoch; None trains all epochs and keeps the last.
        config: how.
        progress: told after each epoch.
        folder: where a checkpoint is kept after each epoch, and taken up; None keeps none.
        watch: told each epoch before it is kept; what it raises ends the training.

    Raises:
        TrainingError: a loss became NaN or infinite.
        CheckpointError: the checkpoint is of another model, config or seed, or is spoilt.
    """
    with torch.random.fork_rng(devices=[]), _threads(config.threads):
        torch.manual_seed(training.seed)
        model.fit(training)
        run = _Run(model, training, validation, config)
        if folder is not None:
            run.take_up(folder)
        while (stopped := run.over()) is None:
            epoch = run.epoch()
            if watch is not None:
                watch(epoch)
            if folder is not None:
                run.keep(folder)
            if progress is not None:
                found = "" if epoch.value is None else f", {config.metric} {epoch.value:.4f}"
                progress(f"epoch {epoch.number}/{config.epochs}: loss {epoch.loss:.4f}{found}")
        return run.finish(stopped)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Lets torch use this many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """State of one training between its epochs."""

    def __init__(
        self, model: Trainable, training: Training, validation: Part | None, config: FitConfig
    ) -> None:
        self.model, self.validation, self.config = model, validation, config
        self.generator = torch.Generator().manual_seed(training.seed)
        self.optimisers = optimisers_of(model.module, config)
        self.curve: list[Epoch] = []
        self.best: dict[str, Tensor] = {}
        self.best_epoch, self.best_value = 0, -np.inf
        self.spent = 0.0
        self.seed = training.seed

    def over(self) -> str | None:
        """Why no further epoch begins, None while one does."""
        done = len(self.curve)
        if done >= self.config.epochs:
            return "epochs"
        if self.validation is not None and done - self.best_epoch >= self.config.patience:
            return "patience"
        if done and self.config.seconds is not None and self.spent >= self.config.seconds:
            return "seconds"
        return None

    def epoch(self) -> Epoch:
        started, number = time.monotonic(), len(self.curve) + 1
        self.model.module.train()
        losses = [
            step(batch, self.model.module, self.optimisers, self.config.clip) for batch in self._batches()
        ]
        loss = float(np.mean(losses)) if losses else 0.0
        if not np.isfinite(loss):
            raise TrainingError(
                f"the loss must stay a number, got {loss} in epoch {number}: lower learning_rate "
                f"({self.config.learning_rate}) or look at the features"
            )
        value = self._measure()
        if value is None or value > self.best_value:
            self.best_epoch, self.best_value = number, -np.inf if value is None else value
            self.best = {name: tensor.detach().clone() for name, tensor in self._state().items()}
        seconds = time.monotonic() - started
        self.spent += seconds
        self.curve.append(Epoch(number, loss, value, seconds))
        return self.curve[-1]

    def _batches(self) -> Iterable[Callable[[], Tensor]]:
        return self.model.steps(self.generator)

    def _measure(self) -> float | None:
        if self.validation is None:
            return None
        self.model.module.eval()
        with torch.no_grad():
            self.model.freeze()
            return value_of(self.model, self.validation, self.config.metric)

    def _state(self) -> dict[str, Tensor]:
        return self.model.module.state_dict()

    def finish(self, stopped: str) -> FitResult:
        if self.best:
            self.model.module.load_state_dict(self.best)
        self.model.module.eval()
        with torch.no_grad():
            self.model.freeze()
        value = None if self.validation is None else self.best_value
        return FitResult(tuple(self.curve), self.best_epoch, value, stopped, self.spent)

    def keep(self, folder: Path) -> None:
        checkpoint.save(folder, self._snapshot())

    def take_up(self, folder: Path) -> None:
        found = checkpoint.load(folder, self._identity())
        if found is None:
            return
        self.model.module.load_state_dict(found.module)
        for optimiser, state in zip(self.optimisers, found.optimisers, strict=True):
            checkpoint.restore(optimiser, state)
        self.generator.set_state(found.generator)
        torch.set_rng_state(found.global_generator)
        self.curve = [Epoch(**epoch) for epoch in found.progress["curve"]]
        self.best, self.best_epoch = found.best, found.progress["best_epoch"]
        self.best_value = -np.inf if found.progress["best_value"] is None else found.progress["best_value"]
        self.spent = found.progress["spent"]

    def _identity(self) -> str:
        # more epochs or more time may be granted to a training that was broken off
        settings = replace(self.config, epochs=1, seconds=None)
        shapes = {name: tuple(tensor.shape) for name, tensor in self._state().items()}
        return f"{type(self.model).__name__} {self.model.config} {settings} seed {self.seed} {shapes}"

    def _snapshot(self) -> checkpoint.Checkpoint:
        return checkpoint.Checkpoint(
            identity=self._identity(),
            module=self._state(),
            best=self.best,
            optimisers=[checkpoint.state_of(optimiser) for optimiser in self.optimisers],
            generator=self.generator.get_state(),
            global_generator=torch.get_rng_state(),
            progress={
                "curve": [vars(epoch) for epoch in self.curve],
                "best_epoch": self.best_epoch,
                "best_value": None if self.best_value == -np.inf else self.best_value,
                "spent": self.spent,
            },
        )


def step(
    batch: Callable[[], Tensor], module: nn.Module, optimisers: list[torch.optim.Optimizer], clip: float
) -> float:
    """One gradient step; gradients of the step before are gone first."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss = batch()
    loss.backward()
    clip_gradients([parameter.grad for parameter in module.parameters() if parameter.grad is not None], clip)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


def clip_gradients(gradients: list[Tensor], most: float) -> None:
    """Scales all gradients together so that their norm is at most ``most``; sparse ones count too."""
    values = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    if not values:
        return
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    if norm > most:
        for gradient in gradients:
            gradient.mul_(most / norm)


def optimisers_of(module: nn.Module, config: FitConfig) -> list[torch.optim.Optimizer]:
    """Adam, and SparseAdam for the embeddings that say their gradients are sparse."""
    sparse = [
        part.weight
        for part in module.modules()
        if isinstance(part, nn.Embedding | nn.EmbeddingBag) and part.sparse
    ]
    known = {id(weight) for weight in sparse}
    dense = [parameter for parameter in module.parameters() if id(parameter) not in known]
    found: list[torch.optim.Optimizer] = []
    if dense:
        found.append(torch.optim.Adam(dense, config.learning_rate, weight_decay=config.weight_decay))
    if sparse:
        # SparseAdam refuses 0, Adam does not; the smallest float moves no float32 parameter
        found.append(torch.optim.SparseAdam(sparse, config.learning_rate or sys.float_info.min))
    return found
