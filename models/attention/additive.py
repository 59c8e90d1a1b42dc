"""Additive scores: a learned vector reads a sum of query and key, as in graph attention.

| name | score | source | cost |
|---|---|---|---|
| gat | LeakyReLU(a_q . W h_i + a_k . W h_j) | Veličković et al. 2018, eq. 3 | O(b q k h) |
| gatv2 | a . LeakyReLU(W_q h_i + W_k h_j) | Brody et al. 2022, eq. 7 | O(b q k d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention.base import AttentionConfig, Pairs, ScoredAttention, attentions


@dataclass(frozen=True)
class GATConfig(AttentionConfig):
    """Settings of :class:`GAT`."""

    negative_slope: float = 0.2
    """Slope of LeakyReLU below zero, in [0, 1)."""


@attentions.register("gat", GATConfig)
class GAT(ScoredAttention):
    """Graph attention: one W for target and neighbours, and a score that is a sum of a part of each.

    LeakyReLU is monotone, so every query ranks the neighbours alike; only the sharpness differs.

    Source: Veličković et al., "Graph Attention Networks", ICLR 2018, arXiv:1710.10903, eq. 1–3. Ours leaves
    out self-loops and the output non-linearity: the encoder adds the target itself.

    Cost: O(b q k h) time and memory for the scores.

    Example:
        >>> layer = GAT(GATConfig(dim=1))
        >>> layer.of_query.data, layer.of_key.data = torch.tensor([[1.0]]), torch.tensor([[2.0]])
        >>> query, key = torch.tensor([[[[1.0]]]]), torch.tensor([[[[3.0]]]])
        >>> layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item()
        7.0
    """

    config: GATConfig
    family = "graph"
    nature = "mechanism"
    shares = {"key": "query", "value": "query"}

    def __init__(self, config: GATConfig) -> None:
        super().__init__(config)
        self.out = nn.Identity()
        self.of_query = nn.Parameter(torch.empty(config.heads, config.dim // config.heads))  # (h, c)
        self.of_key = nn.Parameter(torch.empty(config.heads, config.dim // config.heads))  # (h, c)
        nn.init.xavier_uniform_(self.of_query)
        nn.init.xavier_uniform_(self.of_key)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        of_query = torch.einsum("bhqc,hc->bhq", query, self.of_query)
        of_key = torch.einsum("bhkc,hc->bhk", key, self.of_key)
        return nn.functional.leaky_relu(of_query[..., None] + of_key[:, :, None], self.config.negative_slope)


@dataclass(frozen=True)
class GATv2Config(AttentionConfig):
    """Settings of :class:`GATv2`."""

    negative_slope: float = 0.2
    """Slope of LeakyReLU below zero, in [0, 1)."""


@attentions.register("gatv2", GATv2Config)
class GATv2(ScoredAttention):
    """Graph attention whose ranking of neighbours depends on the query.

    The score is a . LeakyReLU(q + k) with one learned vector a per head. GAT applies a
    before the non-linearity, so all its queries rank the neighbours alike; moving a
    outside is the whole difference.

    Source: Brody, Alon, Yahav, "How Attentive are Graph Attention Networks?", ICLR 2022,
    arXiv:2105.14491, eq. 7. Ours leaves out self-loops: the encoder adds the target itself.

    Cost: O(b q k d) time, and as much memory while training.

    Example:
        >>> layer = GATv2(GATv2Config(dim=2, heads=1, negative_slope=0.5))
        >>> layer.direction.data = torch.tensor([[1.0, 1.0]])
        >>> query, key = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, -4.0]]]])
        >>> layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item()
        0.0
    """

    config: GATv2Config
    family = "extra"
    nature = "mechanism"
    shares = {"value": "key"}

    def __init__(self, config: GATv2Config) -> None:
        super().__init__(config)
        self.out = nn.Identity()
        self.direction = nn.Parameter(torch.empty(config.heads, config.dim // config.heads))  # a: (h, c)
        nn.init.xavier_uniform_(self.direction)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        summed = query[:, :, :, None] + key[:, :, None]  # (b, h, q, k, c)
        bent = nn.functional.leaky_relu(summed, self.config.negative_slope)
        return torch.einsum("bhqkc,hc->bhqk", bent, self.direction)
