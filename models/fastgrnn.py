"""FastGRNN in torch: the cell, and the classifier of queries that is trained with it.

b queries · n words · g n-grams · d width of a word · s width of the state · c classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from configs.registry import SettingError
from models.queries import INTENTS
from models.reading import BUCKETS


@dataclass(frozen=True)
class FastGRNNConfig:
    """Settings of :class:`QueryClassifier`."""

    dim: int = 40
    """Width of a word."""
    state: int = 64
    """Width of the state."""
    rank: int = 24
    """Of W and of U, at most ``dim`` and ``state``."""
    dropout: float = 0.3
    """Share of a word's numbers left out while training, 0 to below 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= min(self.dim, self.state) or not 0 <= self.dropout < 1:
            raise SettingError(
                f"rank lies in 1..min(dim, state) and dropout in 0..1, got rank={self.rank}, dim={self.dim}, "
                f"state={self.state}, dropout={self.dropout}"
            )


class FastGRNNCell(nn.Module):
    """One step: a gate and a candidate of the same W and U, which tells it from a GRU.

    z = sigma(Wx + Uh + b_z); h~ = tanh(Wx + Uh + b_h); h' = (zeta (1 - z) + nu) * h~ + z * h, zeta and
    nu two learned numbers in 0..1 and W, U of low rank.

    Source: Kusupati et al., "FastGRNN", NeurIPS 2018, arXiv:1901.02358, eq. 2 and 3; zeta starts at
    sigma(1) and nu at sigma(-4), as in its code.

    Cost: O(r (d + s)) time a word and as many weights.
    """

    def __init__(self, dim: int, state: int, rank: int) -> None:
        super().__init__()
        self.w1, self.w2 = _matrix(dim, rank), _matrix(rank, state)  # W = w1 w2: (d, s)
        self.u1, self.u2 = _matrix(state, rank), _matrix(rank, state)  # U = u1 u2: (s, s)
        self.bias_z, self.bias_h = nn.Parameter(torch.ones(state)), nn.Parameter(torch.zeros(state))
        self.zeta_raw, self.nu_raw = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(-4.0))

    @property
    def zeta_nu(self) -> Tensor:
        """(2,) in 0..1."""
        return torch.sigmoid(torch.stack((self.zeta_raw, self.nu_raw)))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """(b, d) word, (b, s) state -> (b, s)."""
        return self.step((x @ self.w1) @ self.w2, h)

    def step(self, wx: Tensor, h: Tensor) -> Tensor:
        """As :meth:`forward`, for W x that is at hand: (b, s), (b, s) -> (b, s)."""
        both = wx + (h @ self.u1) @ self.u2
        gate = torch.sigmoid(both + self.bias_z)
        zeta, nu = self.zeta_nu
        return (zeta * (1 - gate) + nu) * torch.tanh(both + self.bias_h) + gate * h


class QueryClassifier(nn.Module):
    """Words as sums of hashed n-grams, FastGRNN over them, last state and mean of states to classes."""

    def __init__(self, config: FastGRNNConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.EmbeddingBag(BUCKETS, config.dim, mode="sum")
        nn.init.normal_(self.table.weight, std=0.1)
        self.cell = FastGRNNCell(config.dim, config.state, config.rank)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(2 * config.state, len(INTENTS))

    def forward(self, grams: Tensor, borders: Tensor, place: Tensor) -> Tensor:
        """Logits of queries.

        Args:
            grams: (g,) int64 rows of the n-grams of all distinct words, one word after the other.
            borders: (w,) int64 where each distinct word begins in ``grams``.
            place: (b, n) int64 which distinct word stands where; -1 past the end.

        Returns:
            (b, c); a query without words reads a zero state.
        """
        words = self.drop(self.table(grams, borders))  # (w, d)
        inputs = ((words @ self.cell.w1) @ self.cell.w2)[place.clamp(min=0)]  # (b, n, s)
        there = (place >= 0).float()[:, :, None]
        state = inputs.new_zeros(len(place), self.config.state)
        total = torch.zeros_like(state)
        for at in range(place.shape[1]):
            new = self.cell.step(inputs[:, at], state)
            state = torch.lerp(state, new, there[:, at])
            total = total + state * there[:, at]
        mean = total / there.sum(1).clamp(min=1)
        return self.head(torch.cat((state, mean), 1))

    def floats(self) -> dict[str, np.ndarray]:
        """Weights under the names of :func:`models.reading.quantise`."""
        cell = self.cell
        named = {
            name: getattr(cell, name) for name in ("w1", "w2", "u1", "u2", "bias_z", "bias_h", "zeta_nu")
        }
        named |= {"table": self.table.weight, "head": self.head.weight.T, "bias_head": self.head.bias}
        return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in named.items()}

    @torch.no_grad()
    def take(self, floats: Mapping[str, np.ndarray]) -> None:
        """Puts weights of :meth:`floats` in place."""
        for name in ("w1", "w2", "u1", "u2", "bias_z", "bias_h"):
            getattr(self.cell, name).copy_(torch.from_numpy(floats[name]))
        raw = torch.logit(torch.from_numpy(floats["zeta_nu"]).double()).float()
        self.cell.zeta_raw.copy_(raw[0])
        self.cell.nu_raw.copy_(raw[1])
        self.table.weight.copy_(torch.from_numpy(floats["table"]))
        self.head.weight.copy_(torch.from_numpy(floats["head"]).T)
        self.head.bias.copy_(torch.from_numpy(floats["bias_head"]))


def _matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, columns) / rows**0.5)
