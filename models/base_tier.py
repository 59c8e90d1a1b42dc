"""The base tier as arrays and layers: low-rank adapters that PEFT lays beside the projections of a base.

The only door to PEFT; who trains and serves them is :mod:`models.adapted`. W' = W + (α / r) B A."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from torch import nn

from configs.registry import SettingError
from models.verification import ModelError, verify

RANKS = range(4, 17)
BASE, ADAPTER, SERVED, PARAMETER, HASH = "base.", "adapter.", "served.", "parameter.", "base_hash"
BESIDE = ("epochs_done", "anchors.")
"""What a training keeps in the module beside base and adapters."""
_PLAIN, _DOWN, _UP = ".base_layer.", ".lora_A.", ".lora_B."
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class LoRA:
    """Which adapters lie beside which projections; :class:`models.adapted.AdaptedConfig` says more."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    cohorts: int = 1

    @property
    def names(self) -> list[str]:
        """Of the adapters, one a cohort."""
        return [f"cohort_{place}" for place in range(self.cohorts)]


def merged(arrays: Mapping[str, np.ndarray], config: LoRA, cohort: int = 0) -> dict[str, np.ndarray]:
    """Arrays of a plain base with an adapter added in: W + (α / r) B A.

    Vectors that a base keeps for scoring are as the adapter made them.
    """
    found, name = base_of(arrays) | served_of(arrays), config.names[cohort]
    for key, down in arrays.items():
        if not key.startswith(ADAPTER) or not key.endswith(f"{_DOWN}{name}.weight"):
            continue
        up = arrays[key.replace(_DOWN, _UP)]
        site = key.removeprefix(ADAPTER).split(_DOWN)[0]
        weight = f"{PARAMETER}{site}.weight"
        found[weight] = found[weight] + np.float32(config.alpha / config.rank) * (up @ down)
    return found


def base_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of the base out of those of an adapted model; those of a plain one as they are."""
    if HASH not in arrays:
        return dict(arrays)
    return {name.removeprefix(BASE): value for name, value in arrays.items() if name.startswith(BASE)}


def served_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Vectors that the adapter moved, which stand for those of the base when it scores."""
    return {name.removeprefix(SERVED): value for name, value in arrays.items() if name.startswith(SERVED)}


def hash_of(base: Mapping[str, np.ndarray]) -> str:
    """Hash of what a base has learned: names, shapes and bytes of its parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(name for name in base if name.startswith(PARAMETER)):
        value = np.ascontiguousarray(base[name])
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    return digest.hexdigest()


def is_adapter(name: str) -> bool:
    return _DOWN in name or _UP in name


def is_of_base(name: str) -> bool:
    inner = name.removeprefix(PARAMETER)
    return not is_adapter(inner) and not inner.startswith(BESIDE)


def plain(name: str) -> str:
    """Name of a parameter as it was before adapters lay beside it."""
    return name.replace(_PLAIN, ".")


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of a version, verified."""
    if not folder.is_dir():
        raise ModelError(f"a base tier needs the folder of its base while fitting, {folder} is none")
    verify(folder)
    return load_file(folder / WEIGHTS)


def inject(module: nn.Module, config: LoRA, usual: Sequence[str]) -> None:
    """Lays adapters beside the projections; B is 0, so nothing changes yet."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds of imports that other models do without

    wanted = config.targets or tuple(usual)
    found = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear) and name.rpartition(".")[2] in wanted
    ]
    if not found:
        raise SettingError(
            f"targets must name linear projections of the base, got {list(wanted)}: leave targets out for "
            f"{', '.join(usual)}"
        )
    told = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=found
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # of the cohort before
        for name in config.names:
            inject_adapter_in_model(told, module, name)
    for layer in dict(sites(module)).values():
        layer.set_adapter(config.names[0])


def sites(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name and layer of each adapted projection."""
    for name, part in module.named_modules():
        if hasattr(part, "lora_A") and hasattr(part, "set_adapter"):
            yield name, part
