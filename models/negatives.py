"""Which contents a batch of positives is measured against, and how likely each was to be among them."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

SOURCES = ("in_batch", "uniform", "popularity")
"""Where negatives come from besides the batch itself."""


class Candidates:
    """Contents of a batch: those of its own positives, and some that are drawn.

    i contents · c candidates of a batch.
    """

    def __init__(self, counts: np.ndarray, rankable: np.ndarray, batch: int, source: str, drawn: int) -> None:
        """Settles how likely each content is to be a candidate.

        Args:
            counts: (i,) positives of each content in training; batches are drawn from these.
            rankable: (i,) bool, contents that may be recommended.
            batch: positives of a batch.
            source: one of ``SOURCES``.
            drawn: contents drawn besides, for ``uniform`` and ``popularity``.
        """
        positives = torch.from_numpy(counts).double()
        allowed = (torch.from_numpy(rankable) | (positives > 0)).double()
        self._in_batch = positives / positives.sum().clamp(min=1)
        chances = {"in_batch": torch.zeros_like(positives), "uniform": allowed, "popularity": positives}
        self._chance = chances[source] / chances[source].sum().clamp(min=1)
        available = int((self._chance > 0).sum())
        self._drawn = min(drawn, available)
        is_whole = 0 < self._drawn == available
        if is_whole:
            missed = (self._chance == 0).double()
        elif source == "uniform":
            missed = 1 - self._drawn * self._chance  # exact: drawn without replacement
        else:
            missed = (1 - self._chance) ** self._drawn  # as if with replacement
        self.log_chance = torch.log1p(-((1 - self._in_batch) ** batch * missed).clamp(max=1 - 1e-12)).float()

    def draw(self, contents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Candidates of a batch whose positives are the rows ``contents``.

        Returns:
            (c,) sorted rows without repetition, and (c,) float32 log chance that each was among them.
        """
        if self._drawn:
            drawn = torch.multinomial(self._chance, self._drawn, generator=generator)
            contents = torch.cat([contents, drawn])
        candidates = torch.unique(contents)
        return candidates, self.log_chance[candidates]


class Unliked:
    """Draws one content for each positive, evenly among those its user did not like.

    u users · i contents · m positives.
    """

    def __init__(self, positives: sp.csr_array) -> None:
        """Takes (u, i) positives; a user who likes every content gets any of them."""
        self._contents = positives.shape[1]
        self._is_full = torch.from_numpy(np.diff(positives.indptr) >= self._contents)
        users, contents = positives.nonzero()
        self._keys = torch.from_numpy(np.sort(users.astype(np.int64) * self._contents + contents))

    def draw(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """(m,) int64 users -> (m,) int64 contents."""
        drawn = torch.randint(self._contents, users.shape, generator=generator)
        open_places = torch.arange(len(users))[~self._is_full[users]]
        while len(open_places):
            keys = users[open_places] * self._contents + drawn[open_places]
            at = torch.searchsorted(self._keys, keys).clamp(max=len(self._keys) - 1)
            open_places = open_places[self._keys[at] == keys]
            drawn[open_places] = torch.randint(self._contents, open_places.shape, generator=generator)
        return drawn
