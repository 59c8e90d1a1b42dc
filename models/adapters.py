"""Low-rank adapters as arrays and one formula: W' = W + (α / r) B A, of one user or of a batch of them.

b users of a batch · w width of what goes in · o width of what comes out · r rank."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from configs.registry import SettingError

MOST_BYTES = 10_240
"""Of one user's instant adapter, serialised."""


@dataclass(frozen=True)
class AdapterSpec:
    """Which layer an adapter fits onto: one for another width, rank or base is refused, never reshaped."""

    width: int
    """w, what the adapted layer takes, 1 or more."""
    outputs: int
    """o, what it gives, 1 or more."""
    rank: int = 2
    """r, 1 or more."""
    alpha: float = 2.0
    """α; the update is scaled by α / r."""
    base: str = ""
    """Hash of the arrays that it was learned on."""

    def __post_init__(self) -> None:
        if min(self.width, self.outputs, self.rank) < 1 or not self.alpha > 0:
            raise SettingError(
                "an adapter needs width, outputs and rank of 1 or more and alpha above 0, got "
                f"{self.width}, {self.outputs}, {self.rank}, {self.alpha:g}"
            )
        if self.dtype.itemsize > MOST_BYTES:
            raise SettingError(
                f"an adapter of one user may take {MOST_BYTES:,} bytes, rank {self.rank} on {self.width} → "
                f"{self.outputs} takes {self.dtype.itemsize:,}: lower the rank or the widths"
            )

    @property
    def scale(self) -> float:
        """α / r."""
        return self.alpha / self.rank

    @cached_property
    def dtype(self) -> np.dtype:
        """What is kept of one user, on disk and in memory."""
        return np.dtype(
            [
                ("down", "<f2", (self.rank, self.width)),  # A
                ("up", "<f2", (self.outputs, self.rank)),  # B
                ("gathered", "<f4"),  # weak signals that wait to be worth a step
                ("events", "<u4"),  # that it learned from
                ("last_ts", "<i8"),  # UTC seconds of the newest of them
                ("number", "<i8"),  # place in the log of feedback of the last one taken
            ]
        )

    def fresh(self, count: int) -> np.ndarray:
        """(count,) of :attr:`dtype`, nothing learned: B is 0, so that the base answers to the bit."""
        return np.zeros(count, self.dtype)


def shifts(spec: AdapterSpec, adapters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """What the adapters add to a layer's output: (α / r) B A x of each user; two batched products.

    Args:
        spec: what they fit onto.
        adapters: (b,) of ``spec.dtype``.
        inputs: (b, w) float32, one vector a user.

    Returns:
        (b, o) float32.

    Cost: O(b r (w + o)).

    Example:
        >>> spec = AdapterSpec(width=2, outputs=1, rank=1, alpha=2)
        >>> one = spec.fresh(1)
        >>> one["down"], one["up"] = [[[1, 2]]], [[[3]]]
        >>> shifts(spec, one, np.array([[1.0, 1.0]], np.float32)).tolist()
        [[18.0]]
    """
    if adapters.dtype != spec.dtype or inputs.shape != (len(adapters), spec.width):
        raise ValueError(
            f"adapters must fit {spec} and inputs be ({len(adapters)}, {spec.width}), got records of "
            f"{adapters.dtype.itemsize} bytes for {spec.dtype.itemsize} and inputs {inputs.shape}: "
            "take those of this base"
        )
    down, up = adapters["down"].astype(np.float32), adapters["up"].astype(np.float32)
    inner = np.matmul(down, inputs[:, :, None].astype(np.float32, copy=False))  # (b, r, 1)
    return spec.scale * np.matmul(up, inner)[:, :, 0]


def hidden_scores(
    spec: AdapterSpec,
    adapters: np.ndarray,
    contents: np.ndarray,
    hidden: np.ndarray,
    users: np.ndarray,
    out: np.ndarray,
) -> np.ndarray:
    """Scores by one hidden layer that each user's adapter bends: v · max(0, h + u + (α / r) B A x).

    What the layer gives of a content without an adapter is common to all users, and comes in; only the
    low-rank part is each user's own. i contents.

    Args:
        spec: what the adapters fit onto: the hidden layer, w → o.
        adapters: (b,) of ``spec.dtype``.
        contents: (i, w) float32, what the layer takes of each content.
        hidden: (i, o) float32, what it gives of each, without an adapter and before max.
        users: (b, o) float32, what user and context add to it.
        out: (o,) float32, v.

    Returns:
        (b, i) float32.

    Cost: O(b i o r), in blocks of about a megabyte; no loop over users.

    Example:
        >>> spec = AdapterSpec(width=1, outputs=2, rank=1, alpha=1)
        >>> one = spec.fresh(1)
        >>> one["down"], one["up"] = [[[2]]], [[[1], [-1]]]
        >>> x, h, u = np.ones((1, 1), "f4"), np.zeros((1, 2), "f4"), np.ones((1, 2), "f4")
        >>> hidden_scores(spec, one, x, h, u, np.ones(2, "f4")).tolist()  # max(0, 1 + 2) + max(0, 1 - 2)
        [[3.0]]
    """
    down = adapters["down"].astype(np.float32)  # (b, r, w)
    up = spec.scale * adapters["up"].astype(np.float32)
    up = np.concatenate([up, users[:, :, None]], axis=2)  # (b, o, r + 1): what the user adds is one rank more
    scores = np.empty((len(adapters), len(contents)), np.float32)
    for first in range(0, len(contents), _CONTENTS):
        block = slice(first, first + _CONTENTS)
        given, common = contents[block].T, np.ascontiguousarray(hidden[block].T)  # (w, i), (o, i)
        for start in range(0, len(adapters), _USERS):
            some = slice(start, start + _USERS)
            inner = np.ones((len(down[some]), spec.rank + 1, given.shape[1]), np.float32)
            inner[:, :-1] = (down[some].reshape(-1, spec.width) @ given).reshape(-1, *inner[0, :-1].shape)
            bent = np.matmul(up[some], inner)  # (b, o, i)
            bent += common
            np.maximum(bent, 0, out=bent)
            scores[some, block] = np.matmul(out, bent)
    return scores


_USERS, _CONTENTS = 16, 512
"""Of a block: with 32 hidden units its arrays take about a megabyte."""
