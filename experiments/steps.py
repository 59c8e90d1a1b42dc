"""Gradient steps: of one process, or of a team that averages its gradients."""

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn


class TrainingError(RuntimeError):
    """A loss that is no number any more, or workers that came apart."""


class Team:
    """Processes that train one model together; this one trains alone."""

    rank: int = 0
    """The first measures and saves."""
    size: int = 1

    def average(self, module: nn.Module, loss: Tensor | None) -> float:
        """Leaves the mean gradient of all in ``module``, gives their mean loss; None had no batch."""
        return 0.0 if loss is None else float(loss.detach())

    def from_first(self, tensor: Tensor) -> Tensor:
        """What the first of them holds here."""
        return tensor

    def check(self, module: nn.Module) -> None:
        """Raises a :class:`TrainingError` where their parameters differ."""


ALONE = Team()


def shares(batches: Iterable[Callable[[], Tensor]], team: Team) -> Iterator[Callable[[], Tensor] | None]:
    """One batch of each step for this member of a team: None where a last step has fewer than members."""
    left = iter(batches)
    while together := list(islice(left, team.size)):
        yield together[team.rank] if team.rank < len(together) else None


def step(
    batch: Callable[[], Tensor] | None,
    module: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    clip: float,
    precision: str = "auto",
    team: Team = ALONE,
) -> float:
    """One gradient step; gradients of the step before are gone first.

    Returns:
        The loss; NaN or infinite where it, or the gradient, is no number: no parameter has moved then.
    """
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss = None
    if batch is not None:
        with _autocast(module, precision):
            loss = batch()
        loss.backward()
    value = team.average(module, loss)
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    norm = clip_gradients(found, clip)
    if not np.isfinite(value + norm):
        return value + norm
    for optimiser in optimisers:
        optimiser.step()
    return value


def _autocast(module: nn.Module, precision: str) -> torch.autocast:
    device = next(module.parameters()).device.type
    is_half = precision == "bfloat16" or (precision == "auto" and device == "cuda")
    return torch.autocast(device, torch.bfloat16, enabled=is_half)


def clip_gradients(gradients: list[Tensor], most: float) -> float:
    """Scales all gradients together so that their norm is at most ``most``; sparse ones count too.

    Returns:
        The norm before; nothing is scaled where it is no number.
    """
    values = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    if not values:
        return 0.0
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    if norm > most and norm.isfinite():
        for gradient in gradients:
            gradient.mul_(most / norm)
    return float(norm)


def optimisers_of(
    module: nn.Module, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
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
        found.append(torch.optim.Adam(dense, learning_rate, weight_decay=weight_decay))
    if sparse:
        # SparseAdam refuses 0, Adam does not; the smallest float moves no float32 parameter
        found.append(torch.optim.SparseAdam(sparse, learning_rate or sys.float_info.min))
    return found
