"""Keeps a training between two epochs, so that one that was broken off goes on with the same numbers.

Tensors are safetensors, the rest is JSON in its header; written aside, then renamed."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE = "checkpoint.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that is spoilt, belongs to another training, or could not be written."""


@dataclass(frozen=True)
class Checkpoint:
    """All that the next epoch depends on."""

    identity: str
    """What is trained, how and from which seed."""
    module: dict[str, Tensor]
    best: dict[str, Tensor]
    optimisers: list[dict[str, Tensor]]
    generator: Tensor
    global_generator: Tensor
    progress: dict[str, Any]
    """Plain values: the curve so far, the best epoch, the time spent."""


def state_of(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts by the place of their parameter, flat."""
    return {
        f"{place}.{name}": torch.as_tensor(value)
        for place, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore(optimiser: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Puts back what :func:`state_of` gave; SparseAdam counts its steps in plain ints."""
    is_sparse = isinstance(optimiser, torch.optim.SparseAdam)
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in flat.items():
        place, _, name = key.partition(".")
        value = int(tensor) if is_sparse and name == "step" else tensor
        state.setdefault(int(place), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint over the one before; a crash leaves one of the two whole.

    Raises:
        CheckpointError: the disk took no more; the checkpoint before is whole.
    """
    tensors = {
        **{f"module/{name}": tensor for name, tensor in checkpoint.module.items()},
        **{f"best/{name}": tensor for name, tensor in checkpoint.best.items()},
        "generator": checkpoint.generator,
        "global_generator": checkpoint.global_generator,
    }
    for place, state in enumerate(checkpoint.optimisers):
        tensors |= {f"optimiser/{place}/{name}": tensor for name, tensor in state.items()}
    # a copy of each: safetensors refuses tensors that share memory
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{FILE}"
    header = {
        "identity": _digest(checkpoint.identity),
        "progress": json.dumps(checkpoint.progress),
        "optimisers": str(len(checkpoint.optimisers)),
    }
    try:
        save_file(tensors, aside, header)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.rename(folder / FILE)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        size_bytes = sum(tensor.nbytes for tensor in tensors.values())
        raise CheckpointError(
            f"{folder} must take a checkpoint of {size_bytes:,} bytes, it could not be written ({error}): "
            "make room and go on; the one before is whole"
        ) from None


def load(folder: Path, identity: str) -> Checkpoint | None:
    """The checkpoint in a folder, None where there is none.

    Raises:
        CheckpointError: the file is cut off, or belongs to a training of another identity.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} must be a whole checkpoint, it cannot be read ({error}): delete it"
        ) from None
    if header.get("identity") != _digest(identity):
        raise CheckpointError(
            f"{path} must belong to this model, config and seed, it is of another training: delete it or use "
            "another folder"
        )

    def under(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    return Checkpoint(
        identity,
        under("module/"),
        under("best/"),
        [under(f"optimiser/{place}/") for place in range(int(header["optimisers"]))],
        tensors["generator"],
        tensors["global_generator"],
        json.loads(header["progress"]),
    )


def _digest(identity: str) -> str:
    return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
