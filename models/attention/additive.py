"""Additive scores: a learned vector reads a sum of query and key, as in graph attention.

| name | score | source | cost |
|---|---|---|---|
| gat | LeakyReLU(a_q . W h_i + a_k . W h_j) | Veličković et al. 2018, eq. 3 | O(b q k h) |
| gatv2 | a . LeakyReLU(W_q h_i + W_k h_j) | Brody et al. 2022, eq. 7 | O(b q k d) |
| edge_featured | LeakyReLU(a_q . W h_i + a_k . W h_j + a_e . W_e x_ij) | Gong and Cheng 2019 | O(b q k h) |
| node | w . tanh(W h_j) | Yang et al. 2016, eq. 5–7 | O(s d² + b k h) |

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width ·
h heads · c = d // h · e features of an edge · x_ij (e,) features of the edge from j to i."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from models.attention.base import (
    Attention,
    AttentionConfig,
    Pairs,
    ScoredAttention,
    attentions,
    gather,
    masked_softmax,
    seen,
)
from models.attention.mixing import mixed


@dataclass(frozen=True)
class GATConfig(AttentionConfig):
    """Settings of :class:`GAT`."""

    negative_slope: float = 0.2
    """Slope of LeakyReLU below zero, in [0, 1)."""


@attentions.register("gat", GATConfig)
class GAT(Attention):
    """Graph attention: one W for target and neighbours, and a score that is a sum of a part of each.

    LeakyReLU is monotone, so every query ranks the neighbours alike; only the sharpness differs. The part of
    a neighbour is one number a head: computed once per source row, it is all that is gathered.

    Source: Veličković et al., "Graph Attention Networks", ICLR 2018, arXiv:1710.10903, eq. 1–3. Ours leaves
    out self-loops and the output non-linearity: the encoder adds the target itself.

    Cost: O(b q k h) time and memory for the scores.

    Example:
        >>> layer = GAT(GATConfig(dim=1))
        >>> layer.projection.weight.data, layer.of_query.data = torch.ones(1, 1), torch.tensor([[1.0]])
        >>> layer.of_key.data = torch.tensor([[2.0]])
        >>> query, source, pairs = torch.ones(1, 1, 1), torch.tensor([[3.0]]), Pairs(torch.tensor([[True]]))
        >>> layer.scores(query, source, torch.tensor([[0]]), pairs).item()
        7.0
    """

    config: GATConfig
    family = "graph"
    nature = "mechanism"
    causal = True
    takes_mask = True

    def __init__(self, config: GATConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.dim, config.dim, bias=False)  # W
        self.of_query = _directions(config.heads, config.dim // config.heads)  # a_q: (h, c)
        self.of_key = _directions(config.heads, config.dim // config.heads)  # a_k: (h, c)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        rows = self.projection(source)
        return mixed(self._weights(query, rows, neighbours, pairs), rows, neighbours)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        self.check(query, source, neighbours, pairs)
        return self._weights(query, self.projection(source), neighbours, pairs)

    def scores(self, query: Tensor, rows: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) before masks, of (b, q, d) queries and (s, d) or (b, k, d) projected rows."""
        of_query = _by_head(self.projection(query), self.of_query).transpose(1, 2)  # (b, h, q)
        of_key = self.of_pair(rows, neighbours, pairs).transpose(1, 2)  # (b, h, k)
        return leaky_relu(of_query[..., None] + of_key[:, :, None], self.config.negative_slope)

    def of_pair(self, rows: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, k, h) part of each score that no query changes."""
        return gather(_by_head(rows, self.of_key), neighbours)

    def _weights(self, query: Tensor, rows: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        return masked_softmax(self.scores(query, rows, neighbours, pairs), seen(pairs, query.shape[1]))


@dataclass(frozen=True)
class EdgeFeaturedConfig(GATConfig):
    """Settings of :class:`EdgeFeatured`."""


@attentions.register("edge_featured", EdgeFeaturedConfig)
class EdgeFeatured(GAT):
    """Graph attention whose score also reads the edge: LeakyReLU(a_q . W h_i + a_k . W h_j + a_e . W_e x_ij).

    Source: the attention of :class:`GAT` with a third part for the edge, as Gong, Cheng, "Exploiting Edge
    Features for Graph Neural Networks", CVPR 2019, arXiv:1809.02709, argue for; theirs multiplies the score
    by each feature, ours adds, so that a feature may be zero.

    Cost: O(b q k h + b k e h) time: a_e W_e is folded into one (e, h) matrix first.

    Example:
        >>> layer = EdgeFeatured(EdgeFeaturedConfig(dim=1))
        >>> for part in layer.parameters():
        ...     _ = part.data.fill_(1.0)
        >>> pairs = Pairs(torch.tensor([[True]]), edge=torch.tensor([[[5.0]]]))  # 1 + 3 + 5
        >>> layer.scores(torch.ones(1, 1, 1), torch.tensor([[3.0]]), torch.tensor([[0]]), pairs).item()
        9.0
    """

    config: EdgeFeaturedConfig
    uses_edge = True

    def __init__(self, config: EdgeFeaturedConfig) -> None:
        super().__init__(config)
        self.edge_projection = nn.Linear(config.edge_width, config.dim, bias=False)  # W_e
        self.of_edge = _directions(config.heads, config.dim // config.heads)  # a_e: (h, c)

    def of_pair(self, rows: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        folded = _by_head(self.edge_projection.weight.T, self.of_edge)  # (e, h)
        return super().of_pair(rows, neighbours, pairs) + pairs.edge @ folded


@attentions.register("node", AttentionConfig)
class Node(Attention):
    """A readout: w . tanh(W h_j) says how much each neighbour counts, whoever asks; Σ α_j h_j.

    The query is not read. With h heads each head has its own w for its part of the features.

    Source: Yang et al., "Hierarchical Attention Networks for Document Classification", NAACL 2016,
    eq. 5–7, without the bias.

    Cost: O(s d² + b k d) time; scores are computed once per source row.

    Example:
        >>> layer, source = Node(AttentionConfig(dim=1)), torch.tensor([[1.0], [3.0]])
        >>> layer.direction.data = torch.zeros(1, 1)  # all count alike
        >>> pairs = Pairs(torch.tensor([[True, True]]))
        >>> layer(torch.zeros(1, 1, 1), source, torch.tensor([[0, 1]]), pairs).item()
        2.0
    """

    family = "graph"
    nature = "mechanism"
    causal = True
    takes_mask = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.dim, config.dim, bias=False)  # W
        self.direction = _directions(config.heads, config.dim // config.heads)  # w: (h, c)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        weights = self._weights(query, source, neighbours, pairs)
        return mixed(weights, source, neighbours).expand(-1, query.shape[1], -1)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen."""
        return self._weights(query, source, neighbours, pairs).expand(-1, -1, query.shape[1], -1)

    def _weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        of_key = _by_head(self.projection(source).tanh(), self.direction)  # (s, h)
        visible = seen(pairs, query.shape[1])  # (b, q or 1, k)
        scores = gather(of_key, neighbours).transpose(1, 2)[:, :, None]  # (b, h, 1, k)
        return masked_softmax(scores, visible)  # (b, h, q or 1, k)


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


def _directions(heads: int, width: int) -> nn.Parameter:
    """(h, c) learned vectors, one a head."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(heads, width)))


def _by_head(features: Tensor, directions: Tensor) -> Tensor:
    """(…, d) and (h, c) -> (…, h): each head's part of the features read by its vector."""
    return (features.unflatten(-1, directions.shape) * directions).sum(-1)
