"""LightGCN: learned vectors of users and contents, smoothed over the graph of likes and nothing else.

n nodes, liking users first, then liked contents · d width · m positives of a batch · u users · i contents
· b users asked for."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from configs.registry import SettingError
from models.interface import ModelFacts, Training, recommenders
from models.item_item import liked_contents
from models.losses import sampled_softmax
from models.negatives import Candidates, Unliked
from models.vectors import VectorRecommender, device_of


@dataclass(frozen=True)
class LightGCNConfig:
    """Settings of :class:`LightGCN`."""

    width: int = 64
    """Of a vector, at least 1."""
    layers: int = 3
    """How often vectors are passed on, at least 1."""
    loss: Literal["bpr", "softmax"] = "bpr"
    """``bpr`` compares dot products with one drawn negative a positive, as the paper; ``softmax`` compares
    cosines over ``temperature`` with the batch's contents and ``negative_count`` drawn ones."""
    negative_count: int = 1024
    """Contents drawn for a batch, for ``softmax``."""
    temperature: float = 0.2
    """Cosines are divided by it, above 0, for ``softmax``."""
    regularization: float = 1e-4
    """λ of the squared length of the learned vectors that a batch reads, 0 or more."""
    batch: int = 2048
    """Positives of a step, at least 1."""
    embedding_sd: float = 0.1
    """Standard deviation of the learned vectors at the start, above 0."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto``: cuda where there is one."""

    def __post_init__(self) -> None:
        if self.loss not in ("bpr", "softmax"):
            raise SettingError(f"lightgcn's loss must be bpr or softmax, got {self.loss!r}")
        if min(self.width, self.layers, self.batch, self.negative_count) < 1 or self.regularization < 0:
            raise SettingError(
                "lightgcn needs width, layers, batch, negative_count of 1 or more and regularization >= 0, "
                f"got {self.width}, {self.layers}, {self.batch}, {self.negative_count}, {self.regularization}"
            )
        if not (self.temperature > 0 and self.embedding_sd > 0):
            raise SettingError(
                "lightgcn needs temperature and embedding_sd above 0, got "
                f"{self.temperature}, {self.embedding_sd}"
            )


class Smoothing(torch.autograd.Function):
    """(n, d) -> Σ_{k=0..K} A^k X / (K + 1) for a symmetric A: its gradient is the same sum of the gradient.

    Written out so that one compressed matrix serves both ways; autograd would transpose it at every step.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, adjacency: Tensor, layers: int) -> Tensor:
        ctx.adjacency, ctx.layers = adjacency, layers
        return smoothed(table, adjacency, layers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return smoothed(gradient, ctx.adjacency, ctx.layers), None, None


def smoothed(table: Tensor, adjacency: Tensor, layers: int) -> Tensor:
    """(n, d) mean of a table and of what ``layers`` steps over a sparse (n, n) matrix make of it."""
    total = table
    for _ in range(layers):
        total = torch.addmm(table, adjacency, total)  # Horner: X + A (X + A (X + …))
    return total / (layers + 1)


def adjacency_of(positives: sp.csr_array) -> sp.csr_array:
    """(u, i) positives -> (u + i, u + i) float32 D^-½ A D^-½ of the graph between users and contents.

    A node without a like has an empty row.
    """
    likes = positives.astype(np.float64)
    users, contents = (1 / np.sqrt(np.maximum(likes.sum(axis=axis), 1)) for axis in (1, 0))
    scaled = sp.diags_array(users) @ likes @ sp.diags_array(contents)
    return sp.csr_array(sp.block_array([[None, scaled], [scaled.T, None]], format="csr"), dtype=np.float32)


def to_sparse(matrix: sp.csr_array, device: torch.device) -> Tensor:
    """A compressed sparse tensor; 32-bit indices let MKL multiply it without a copy."""
    places, indices = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
    with torch.sparse.check_sparse_tensor_invariants(True), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(places, indices, torch.from_numpy(matrix.data), matrix.shape).to(
            device
        )


@recommenders.register("lightgcn", LightGCNConfig)
class LightGCN(VectorRecommender):
    """Graph convolution without weights: a node's vector is the mean of all layers of its neighbourhood.

    Somebody whom training did not know gets the vector that the layers would give a user with that history
    whose own learned vector is zero; contents that nobody liked score below all others.

    Source: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
    SIGIR 2020, arXiv:2002.02126, eq. 7, 8, 15; layer weights 1 / (K + 1). The softmax over cosines is that of
    Wu et al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", ACM TOIS 42(4), 2024.

    Cost: a step is 2 K sparse products: O(K · positives · d) and O(m d), or O(m d negative_count).
    """

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=False, draws_on=())
    config: LightGCNConfig

    def fit(self, training: Training) -> None:
        config, self._shape = self.config, training.positives.shape
        self._users = np.flatnonzero(np.diff(training.positives.indptr))
        self._contents = liked_contents(training.positives)
        liked = sp.csr_array(training.positives[self._users][:, self._contents], dtype=np.float32)
        liked.sort_indices()
        self._liked = liked
        self._device = device_of(config.device)
        self._adjacency = to_sparse(adjacency_of(liked), self._device)
        self._pairs = torch.from_numpy(np.stack(liked.nonzero()).astype(np.int64))  # (2, positives)
        self._unliked = Unliked(liked)
        counts = np.bincount(liked.indices, minlength=liked.shape[1])
        drawn = "uniform", config.negative_count
        self._candidates = Candidates(counts, counts > 0, config.batch, *drawn)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            self.module = nn.Embedding(sum(liked.shape), config.width)
            nn.init.normal_(self.module.weight, std=config.embedding_sd)
        self.module.to(self._device)

    def steps(self, generator: torch.Generator) -> Iterator[Callable[[], Tensor]]:
        """One epoch over all positives in random order; negatives are drawn anew."""
        if not self._pairs.numel():
            return
        pairs = self._pairs[:, torch.randperm(self._pairs.shape[1], generator=generator)]
        if self.config.loss == "softmax":
            for batch in pairs.split(self.config.batch, dim=1):
                yield lambda batch=batch: self._softmax(*batch, generator)
            return
        triples = torch.stack([*pairs, self._unliked.draw(pairs[0], generator)])  # (3, positives)
        for batch in triples.split(self.config.batch, dim=1):
            yield lambda batch=batch: self._bpr(*batch)

    def freeze(self) -> None:
        with torch.no_grad():
            table = self.module.weight
            vectors = self._smooth(table)
            if self.config.loss == "softmax":
                vectors = nn.functional.normalize(vectors, dim=1)
            inner = smoothed(table, self._adjacency, self.config.layers - 1)  # Σ_{k<K} A^k X / K
        people = len(self._users)
        weight = self.config.layers / (self.config.layers + 1)
        likes = np.bincount(self._liked.indices, minlength=len(self._contents))[:, None]
        given = weight * inner[people:].cpu().numpy() / np.sqrt(np.maximum(likes, 1))
        is_known = np.isin(np.arange(self._shape[0]), self._users)
        is_scored = np.isin(np.arange(self._shape[1]), self._contents)
        users = _laid_out(vectors[:people], self._users, self._shape[0])
        contents = _laid_out(vectors[people:], self._contents, self._shape[1])
        self._keep(users, contents, is_known, is_scored=is_scored)
        self._arrays["given"] = _laid_out(torch.from_numpy(given), self._contents, self._shape[1])

    def _placed(self, history: sp.csr_array) -> np.ndarray:
        likes = np.maximum(np.diff(history.indptr), 1)[:, None]
        placed = history @ self._arrays["given"] / np.sqrt(likes)  # (b, d)
        if self.config.loss == "softmax":
            placed /= np.maximum(np.linalg.norm(placed, axis=1, keepdims=True), 1e-12)
        return placed

    def _smooth(self, table: Tensor) -> Tensor:
        return Smoothing.apply(table, self._adjacency, self.config.layers)

    def _bpr(self, users: Tensor, liked: Tensor, drawn: Tensor) -> Tensor:
        """() mean of −log σ(liked − drawn), and λ / 2m · squared length of the learned vectors it reads."""
        people, size = len(self._users), len(users)
        nodes = torch.cat([users, people + liked, people + drawn]).to(self._device)  # (3 m,)
        user, positive, negative = self._smooth(self.module.weight).index_select(0, nodes).split(size)
        gap = (user * (positive - negative)).sum(1)
        length = self.module.weight.index_select(0, nodes).square().sum() / size
        return nn.functional.softplus(-gap).mean() + self.config.regularization / 2 * length

    def _softmax(self, users: Tensor, liked: Tensor, generator: torch.Generator) -> Tensor:
        people, device = len(self._users), self._device
        distinct, user = torch.unique(users, return_inverse=True)
        contents, log_chance = self._candidates.draw(liked, generator)
        nodes = torch.cat([distinct, people + contents]).to(device)
        vectors = nn.functional.normalize(self._smooth(self.module.weight).index_select(0, nodes), dim=1)
        scores = vectors[: len(distinct)] @ vectors[len(distinct) :].T / self.config.temperature
        is_liked = torch.from_numpy(self._liked[distinct.numpy()][:, contents.numpy()].toarray() > 0)
        column = torch.searchsorted(contents, liked)
        given = (part.to(device) for part in (user, column, is_liked, log_chance))
        length = self.module.weight.index_select(0, nodes).square().sum() / len(users)
        return sampled_softmax(scores, *given) + self.config.regularization / 2 * length


def _laid_out(vectors: Tensor, rows: np.ndarray, size: int) -> np.ndarray:
    """(r, d) vectors of ``rows`` -> (size, d), zeros elsewhere."""
    full = np.zeros((size, vectors.shape[1]), np.float32)
    full[rows] = vectors.cpu().numpy()
    return full
