"""The only training loop in the house: gradient steps, early stop on validation, best parameters kept."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from configs.registry import SettingError
from experiments import checkpoint
from experiments.evaluation import value_of
from experiments.splits import Part
from experiments.steps import ALONE, Team, TrainingError, optimisers_of, shares, step
from models.interface import Trainable, Training

Progress = Callable[[str], None]
"""Told in words what is done now."""


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
    workers: int = 1
    """Processes that share the batches, 1 or more: a step takes one batch of each. More than one train
    through :func:`experiments.distributed.fit_distributed`."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of products while training; ``auto`` is bfloat16 on a GPU (untested), else float32. Parameters stay
    float32, and so does what is frozen."""

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
        if self.workers < 1 or self.precision not in ("auto", "float32", "bfloat16"):
            raise SettingError(
                "training needs 1 worker or more and a precision of auto, float32 or bfloat16, got "
                f"{self.workers} and {self.precision!r}"
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
    team: Team = ALONE,
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
        watch: told each epoch before it is kept, in the first of a team; what it raises ends the training.
        team: who trains along; each calls this with the same arguments.

    Raises:
        TrainingError: a loss or gradient became NaN or infinite; the model then holds its best epoch so far,
            and the checkpoint is that of the last whole epoch.
        CheckpointError: the checkpoint is of another model, config or seed, is spoilt, or found no room.
    """
    if config.workers != team.size:
        raise SettingError(
            f"{config.workers} workers must train together, got a team of {team.size}: call "
            "experiments.distributed.fit_distributed, or set workers to 1"
        )
    with torch.random.fork_rng(devices=[]), _threads(config.threads):
        torch.manual_seed(training.seed)
        model.fit(training)
        run = _Run(model, training, validation, config, team)
        if folder is not None:
            run.take_up(folder)
        while (stopped := run.over()) is None:
            run.epoch()
            if team.rank:
                continue
            if watch is not None:
                watch(run.curve[-1])
            if folder is not None:
                run.keep(folder)
            if progress is not None:
                progress(run.told())
        team.check(model.module)
        return run.finish(stopped)


def finished(
    model: Trainable, training: Training, validation: Part | None, config: FitConfig, folder: Path
) -> FitResult:
    """A model as the training that left its checkpoint in ``folder`` made it; trains nothing.

    Raises:
        TrainingError: that training is not over.
        CheckpointError: there is none, or it is of another model, config or seed, or spoilt.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model.fit(training)
        run = _Run(model, training, validation, config, ALONE)
        run.take_up(folder)
        stopped = run.over()
        if stopped is None:
            raise TrainingError(
                f"the training in {folder} must be over, got {len(run.curve)} of {config.epochs} epochs: "
                "go on with it"
            )
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
        self, model: Trainable, training: Training, validation: Part | None, config: FitConfig, team: Team
    ) -> None:
        self.model, self.validation, self.config, self.team = model, validation, config, team
        self.generator = torch.Generator().manual_seed(training.seed)
        if team.size > 1:
            with torch.no_grad():
                for parameter in model.module.parameters():
                    parameter.copy_(team.from_first(parameter))
        self.optimisers = optimisers_of(model.module, config.learning_rate, config.weight_decay)
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

    def epoch(self) -> None:
        started, number = time.monotonic(), len(self.curve) + 1
        loss = self._steps(number)
        value = self._measure()
        if value is None or value > self.best_value:
            self.best_epoch, self.best_value = number, -np.inf if value is None else value
            self.best = {name: tensor.detach().clone() for name, tensor in self._state().items()}
        seconds = torch.tensor(time.monotonic() - started, dtype=torch.float64)
        self.curve.append(Epoch(number, loss, value, float(self.team.from_first(seconds))))
        self.spent += self.curve[-1].seconds

    def told(self) -> str:
        """The last epoch in words, and how long the others may take."""
        epoch, config = self.curve[-1], self.config
        value = "" if epoch.value is None else f", {config.metric} {epoch.value:.4f}"
        left = (config.epochs - epoch.number) * float(np.mean([epoch.seconds for epoch in self.curve]))
        if config.seconds is not None:
            left = min(left, max(config.seconds - self.spent, 0))
        until = f", at most {left:.0f} s left" if left else ""
        return f"epoch {epoch.number}/{config.epochs}: loss {epoch.loss:.4f}{value}{until}"

    def _steps(self, number: int) -> float:
        """Takes the steps of one epoch, gives the mean loss."""
        # all draw the same order of positives: a batch is then met once an epoch
        self.generator.set_state(self.team.from_first(self.generator.get_state()))
        if self.team.size > 1:  # dropout differs between them, and is the same when taken up again
            torch.manual_seed(
                np.random.SeedSequence([self.seed, number, self.team.rank]).generate_state(1).item()
            )
        self.model.module.train()
        config, losses = self.config, []
        for batch in shares(self._batches(), self.team):
            loss = step(batch, self.model.module, self.optimisers, config.clip, config.precision, self.team)
            if not np.isfinite(loss):
                self._load_best()
                kept = f"; the model is that of epoch {self.best_epoch}" if self.best_epoch else ""
                raise TrainingError(
                    f"loss and gradients must stay numbers, got {loss} at step {len(losses) + 1} of epoch "
                    f"{number}: lower learning_rate ({config.learning_rate}) or look at the features{kept}"
                )
            losses.append(loss)
        return float(np.mean(losses)) if losses else 0.0

    def _batches(self) -> Iterable[Callable[[], Tensor]]:
        return self.model.steps(self.generator)

    def _measure(self) -> float | None:
        if self.validation is None:
            return None
        self.model.module.eval()
        value = np.nan
        if not self.team.rank:
            with torch.no_grad():
                self.model.freeze()
                value = value_of(self.model, self.validation, self.config.metric)
        return float(self.team.from_first(torch.tensor(value, dtype=torch.float64)))

    def _state(self) -> dict[str, Tensor]:
        return self.model.module.state_dict()

    def finish(self, stopped: str) -> FitResult:
        self._load_best()
        value = None if self.validation is None else self.best_value
        return FitResult(tuple(self.curve), self.best_epoch, value, stopped, self.spent)

    def _load_best(self) -> None:
        if self.best:
            self.model.module.load_state_dict(self.best)
        self.model.module.eval()
        with torch.no_grad():
            self.model.freeze()

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
