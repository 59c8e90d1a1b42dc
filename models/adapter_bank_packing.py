"""How a user's adapter is held on disk: as it is, or in eight bits a weight.

b users · r rank · w width of what goes in · o width of what comes out."""

from typing import Literal, get_args

import numpy as np

from configs.registry import SettingError
from models.adapters import AdapterSpec

Packing = Literal["float16", "int8"]
_COUNTS = ("gathered", "events", "last_ts", "number")


def packed_dtype(spec: AdapterSpec, packing: Packing) -> np.dtype:
    """What is kept of one user.

    Raises:
        SettingError: there is no such packing.
    """
    if packing == "float16":
        return spec.dtype
    if packing != "int8":
        raise SettingError(
            f"a bank is packed as {' or '.join(get_args(Packing))}, got {packing!r}: choose one"
        )
    return np.dtype(
        [
            ("down", "i1", (spec.rank, spec.width)),
            ("up", "i1", (spec.outputs, spec.rank)),
            ("down_step", "<f4", (spec.rank,)),  # value of 1 in each row of A
            ("up_step", "<f4", (spec.rank,)),  # and in each column of B
            *((name, spec.dtype[name].str) for name in _COUNTS),
        ]
    )


def pack(spec: AdapterSpec, records: np.ndarray, packing: Packing) -> np.ndarray:
    """(b,) of ``spec.dtype`` as (b,) of :func:`packed_dtype`.

    Eight bits a weight, one step a rank of A and of B: no weight is off by more than half of its step, which
    is 1/254 of the largest weight of its rank. A change below half a step is lost, so that a bank which
    learns online in steps that small belongs in float16.
    """
    if packing == "float16":
        return records
    packed = np.zeros(len(records), packed_dtype(spec, packing))
    for name, axis in (("down", 2), ("up", 1)):
        weights = records[name].astype(np.float32)
        step = np.abs(weights).max(axis=axis) / 127  # (b, r)
        wide = np.expand_dims(np.where(step > 0, step, 1), axis)
        packed[name] = np.clip(np.rint(weights / wide), -127, 127)
        packed[f"{name}_step"] = step
    for name in _COUNTS:
        packed[name] = records[name]
    return packed


def unpack(spec: AdapterSpec, packed: np.ndarray, packing: Packing) -> np.ndarray:
    """The way back; exact for float16.

    Example:
        >>> spec = AdapterSpec(width=2, outputs=1, rank=1)
        >>> one = spec.fresh(1)
        >>> one["down"] = [[[1.27, 0.5]]]
        >>> unpack(spec, pack(spec, one, "int8"), "int8")["down"].round(2).tolist()
        [[[1.26953125, 0.5]]]
    """
    if packing == "float16":
        return packed
    records = spec.fresh(len(packed))
    records["down"] = packed["down"] * packed["down_step"][:, :, None]
    records["up"] = packed["up"] * packed["up_step"][:, None, :]
    for name in _COUNTS:
        records[name] = packed[name]
    return records
