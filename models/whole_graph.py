"""What models share that spread vectors over the whole training graph in every step.

u users · i contents · n nodes · d width of a vector · v distinct users and c candidates of a batch."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from models.graph_encoder import FACTS
from models.interface import Training
from models.losses import LOSSES
from models.negatives import SOURCES, Candidates
from models.vectors import VectorRecommender, device_of


@dataclass(frozen=True)
class WholeGraphConfig:
    """Settings that such models share."""

    width: int = 64
    """Of all vectors, > 0."""
    layers: int = 2
    """How often messages are passed, >= 1."""
    facts: tuple[str, ...] = FACTS
    """Fact types that are read besides what users liked."""
    least_links: int = 2
    """Contents that a node of another type must link to be read, >= 1."""
    dropout: float = 0.1
    """Share of the messages that is dropped while training, in [0, 1)."""
    loss: str = "softmax"
    """Sampled softmax with log-Q correction, or BPR."""
    negatives: str = "uniform"
    """Where negatives come from besides the batch itself."""
    negative_count: int = 2048
    """Contents drawn for a batch, for ``uniform`` and ``popularity``."""
    batch: int = 4096
    """Positives of a step; each step reads the whole graph."""
    temperature: float = 0.15
    """Cosines are divided by it, > 0."""
    embedding_sd: float = 0.1
    """Standard deviation of the learned node vectors at the start."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: cuda where there is one."""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES or self.negatives not in SOURCES:
            raise ValueError(
                f"loss must be one of {', '.join(LOSSES)} and negatives one of {', '.join(SOURCES)}, "
                f"got {self.loss!r} and {self.negatives!r}"
            )
        counts = (self.width, self.layers, self.least_links, self.batch, self.negative_count)
        if min(counts) < 1 or not 0 <= self.dropout < 1 or not self.temperature > 0:
            raise ValueError(
                "width, layers, least_links, batch and negative_count must be 1 or more, dropout 0 or more "
                f"and below 1, temperature above 0, got {self}"
            )
        device_of(self.device)


class Spread(nn.Module, ABC):
    """A module that gives all nodes their vectors from the whole graph."""

    users: int
    """Nodes 0..users−1 are users; contents follow."""
    contents: int

    @abstractmethod
    def forward(self) -> Tensor:
        """(users + contents or more, d) vectors as training sees them: who only receives may be left out."""

    @abstractmethod
    def everywhere(self) -> Tensor:
        """The same with those who only receive."""


class WholeGraphRecommender(VectorRecommender):
    """Trains vectors that one pass over the whole graph makes; scores are cosines over a temperature.

    A subclass writes :meth:`_spread`. Unlike with sampled neighbourhoods, the pair to be predicted stays in
    the graph, as in the papers these models come from.
    """

    config: WholeGraphConfig
    module: Spread

    def fit(self, training: Training) -> None:
        config = self.config
        self.device = device_of(config.device)
        self._liked = training.positives.astype(bool).tocsr()
        liked = self._liked.tocoo()
        self._positives = torch.from_numpy(np.stack([liked.row, liked.col], 1).astype(np.int64))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.module = self._spread(training).to(self.device)
        counts = np.bincount(liked.col, minlength=self._liked.shape[1])
        self._candidates = Candidates(
            counts, training.rankable, config.batch, config.negatives, config.negative_count
        )

    @abstractmethod
    def _spread(self, training: Training) -> Spread:
        """The module, made from what training may see; its parameters are drawn from torch's generator."""

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        """One epoch over all positives in random order; dropout draws from torch's own generator."""
        self.module.train()
        order = torch.randperm(len(self._positives), generator=generator)
        for positions in order.split(self.config.batch):
            yield lambda positions=positions: self._loss(positions, generator)

    def freeze(self) -> None:
        was_training = self.module.training
        self.module.eval()
        with torch.no_grad():
            vectors = nn.functional.normalize(self.module.everywhere(), dim=1).cpu().numpy()
        self.module.train(was_training)
        users, contents = self._liked.shape
        scale = 1 / self.config.temperature
        is_known = np.diff(self._liked.indptr) > 0
        self._keep(vectors[:users] * scale, vectors[users : users + contents], is_known, length=scale)

    def arrays(self) -> dict[str, np.ndarray]:
        """Vectors that scoring needs, and each parameter as ``parameter.<name>`` for who looks into it."""
        module = getattr(self, "module", None)
        if module is None:
            return super().arrays()
        learned = {f"parameter.{name}": value.detach().cpu() for name, value in module.state_dict().items()}
        return super().arrays() | {name: value.numpy() for name, value in learned.items()}

    def _loss(self, positions: Tensor, generator: torch.Generator) -> Tensor:
        users, user = torch.unique(self._positives[positions, 0], return_inverse=True)
        liked = self._positives[positions, 1].contiguous()
        contents, log_chance = self._candidates.draw(liked, generator)
        vectors = self.module()
        first, second = (
            nn.functional.normalize(vectors[nodes.to(self.device)], dim=1)
            for nodes in (users, contents + self.module.users)
        )
        scores = first @ second.T / self.config.temperature  # (v, c)
        is_liked = torch.from_numpy(self._liked[users.numpy()][:, contents.numpy()].toarray())
        column = torch.searchsorted(contents, liked)
        given = (user, column, is_liked, log_chance)
        return LOSSES[self.config.loss](scores, *(part.to(self.device) for part in given))


class _Product(torch.autograd.Function):
    """Sparse times dense, with the transposed matrix at hand for the way back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradient


class SparseMatrix(nn.Module):
    """A fixed sparse matrix (a, b) that a dense one (b, d) can be put through; it keeps its transpose too."""

    def __init__(self, matrix: sp.csr_array) -> None:
        super().__init__()
        self.register_buffer("matrix", to_csr(matrix), persistent=False)
        self.register_buffer("transposed", to_csr(sp.csr_array(matrix.T)), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        """(b, d) -> (a, d)."""
        return _Product.apply(self.matrix, self.transposed, dense)


def to_csr(matrix: sp.csr_array) -> Tensor:
    """The same matrix, float32, as a torch tensor in CSR."""
    matrix = sp.csr_array(matrix)
    start, column = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    return csr(start, column, torch.from_numpy(matrix.data.astype(np.float32)), matrix.shape)


def csr(start: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR tensor from where its rows begin, columns and values; torch's note on its age is left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)
        return torch.sparse_csr_tensor(start, column, value, size=shape)
