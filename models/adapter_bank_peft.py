"""One user's adapter in PEFT's format, written and read without PEFT: two files that it loads.

Source: PEFT's developer guide, "PEFT checkpoint format". A is ``lora_A.weight`` (r, w), B ``lora_B.weight``
(o, r), scaled by ``lora_alpha / r``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from models.adapter_bank_files import AdapterBankError
from models.adapters import AdapterSpec

CONFIG, MODEL = "adapter_config.json", "adapter_model.safetensors"
_COUNTS = ("gathered", "events", "last_ts", "number")
_PLAIN = {"use_rslora": False, "use_dora": False, "fan_in_fan_out": False, "bias": "none"}
"""Settings of PEFT under which an adapter is A, B and α / r, and nothing else."""


def save_peft(folder: Path, spec: AdapterSpec, record: np.void, module: str) -> None:
    """Writes both files; float32, which holds every float16 exactly.

    Args:
        folder: made where it is not there.
        spec: what the adapter fits onto.
        record: one of ``spec.dtype``.
        module: name of the linear layer in the model that it is to be loaded into.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{module}.lora_A.weight": np.ascontiguousarray(record["down"], np.float32),
        f"base_model.model.{module}.lora_B.weight": np.ascontiguousarray(record["up"], np.float32),
    }
    told = {name: record[name].item() for name in _COUNTS}
    save_file(tensors, folder / MODEL, {"format": "pt", "media_gateway": json.dumps(told)})
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": spec.base or None,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "target_modules": [module],
        "lora_dropout": 0.0,
        "inference_mode": True,
        **_PLAIN,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load_peft(folder: Path, spec: AdapterSpec) -> np.ndarray:
    """(1,) of ``spec.dtype``; weights in float16, counts as they were exported, or 0.

    Raises:
        AdapterBankError: it is no plain LoRA of one layer, or fits another width, rank, scale or base.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        with safe_open(folder / MODEL, "numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            counts = json.loads((file.metadata() or {}).get("media_gateway", "{}"))
    except (OSError, ValueError, SafetensorError, TypeError) as error:
        raise AdapterBankError(
            f"{folder} must hold {CONFIG} and {MODEL} as PEFT saves them ({error}): save the adapter again"
        ) from None
    _check_config(folder, config, spec)
    record = spec.fresh(1)
    for field, ending, shape in (
        ("down", ".lora_A.weight", (spec.rank, spec.width)),
        ("up", ".lora_B.weight", (spec.outputs, spec.rank)),
    ):
        record[field] = _tensor(folder, tensors, ending, shape)
    for name in _COUNTS:
        record[name] = counts.get(name, 0)
    return record


def _check_config(folder: Path, config: Any, spec: AdapterSpec) -> None:
    must = {"peft_type": "LORA", "r": spec.rank, "lora_alpha": spec.alpha, **_PLAIN}
    came = {name: config.get(name, _PLAIN.get(name)) for name in must} if isinstance(config, dict) else {}
    wrong = [
        f"{name} {came.get(name)!r}, not {value!r}" for name, value in must.items() if came.get(name) != value
    ]
    wrong += [
        f"a {name}"
        for name in ("rank_pattern", "alpha_pattern", "modules_to_save")
        if came and config.get(name)
    ]
    base = config.get("base_model_name_or_path") if came else None
    if (base or "") != spec.base:
        wrong.append(f"base {base!r}, not {spec.base!r}")
    if wrong:
        raise AdapterBankError(
            f"an adapter for this bank is a plain LoRA of {spec}, {folder / CONFIG} says {'; '.join(wrong)}: "
            "import it into the bank of its own base"
        )


def _tensor(folder: Path, tensors: dict[str, np.ndarray], ending: str, shape: tuple[int, ...]) -> np.ndarray:
    found = [tensor for name, tensor in tensors.items() if name.endswith(ending)]
    if len(tensors) != 2 or len(found) != 1 or found[0].shape != shape:
        raise AdapterBankError(
            f"{folder / MODEL} must hold one {ending[1:]} of shape {shape} and nothing besides A and B, got "
            f"{ {name: tensor.shape for name, tensor in tensors.items()} }: export it from this base"
        )
    with np.errstate(over="ignore"):
        half = found[0].astype(np.float16)
    if not np.isfinite(half).all():
        raise AdapterBankError(
            f"weights must be finite in float16, {ending[1:]} of {folder / MODEL} is not: bound its norm"
        )
    return half
