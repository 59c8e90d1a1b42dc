"""Aggregators: the graph fixes the weights, nothing is learned about which neighbour matters.

| name | answer | source | cost |
|---|---|---|---|
| mean | mean h_j | Hamilton et al. 2017, without W | O(b k d) |
| graphsage | W [h_i ‖ mean h_j] | Hamilton et al. 2017, algorithm 1 | O(b k d + b d²) |
| gcn | W (h_i / (d_i + 1) + Σ h_j / √((d_i + 1)(d_j + 1))) | Kipf and Welling 2017, eq. 2 | O(b k d + b d²) |
| gin | MLP((1 + ε) h_i + Σ h_j) | Xu et al. 2019, eq. 4.1 | O(b k d + b d²) |

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width ·
n_i neighbours that query i sees · d_i those it has in the whole graph."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from models.attention.base import Attention, AttentionConfig, Pairs, attentions, seen
from models.attention.mixing import mixed


@attentions.register("mean", AttentionConfig)
class Mean(Attention):
    """The plain mean of the neighbours: no parameter, so whatever calls it adds its own W.

    Source: Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
    arXiv:1706.02216, mean aggregator. W and the non-linearity are left to the encoder.

    Cost: O(b k d) time; O(b d + b k) memory where one query reads rows.

    Example:
        >>> layer, source = Mean(AttentionConfig(dim=1)), torch.tensor([[1.0], [3.0]])
        >>> pairs = Pairs(torch.tensor([[True, True]]))
        >>> layer(torch.zeros(1, 1, 1), source, torch.tensor([[0, 1]]), pairs).item()
        2.0
    """

    family = "extra"
    nature = "aggregator"
    causal = True
    takes_mask = True

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        return mean(query, source, neighbours, pairs)[0].expand(-1, query.shape[1], -1)


@attentions.register("graphsage", AttentionConfig)
class GraphSAGEMean(Attention):
    """The mean beside the query itself, through one matrix: W [h_i ‖ mean h_j].

    Source: Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
    arXiv:1706.02216, algorithm 1 line 5. The non-linearity is the encoder's; no neighbour gives
    zeros.

    Cost: O(b k d + b q d²) time; W has 2 d² parameters.

    Example:
        >>> layer, source = GraphSAGEMean(AttentionConfig(dim=1)), torch.tensor([[1.0], [3.0]])
        >>> layer.weight.weight.data = torch.tensor([[10.0, 1.0]])
        >>> pairs = Pairs(torch.tensor([[True, True]]))
        >>> layer(torch.ones(1, 1, 1), source, torch.tensor([[0, 1]]), pairs).item()
        12.0
    """

    family = "graph"
    nature = "aggregator"
    causal = True
    takes_mask = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.weight = nn.Linear(2 * config.dim, config.dim, bias=False)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        of_query, of_mean = self.weight.weight.split(self.config.dim, 1)  # (d, d) each: nothing is joined
        average, sees_any = mean(query, source, neighbours, pairs)
        return linear(query * sees_any, of_query) + linear(average, of_mean)


@attentions.register("gcn", AttentionConfig)
class GCN(Attention):
    """Neighbours weighed by the degrees at both ends: D^-½ (A + I) D^-½ H W, for a sample of the rows of A.

    The sum over the n_i neighbours at hand counts d_i / n_i times, so that a sample drawn evenly estimates
    the sum over all; with all at hand this is the layer itself.

    Source: Kipf, Welling, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017,
    arXiv:1609.02907, eq. 2. The non-linearity is the encoder's. A query that sees no neighbour gets zeros
    where the paper gives it h_i W: the encoder adds the target itself.

    Cost: O(b k d + b q d²) time.

    Example:
        >>> layer, source = GCN(AttentionConfig(dim=1)), torch.tensor([[6.0]])
        >>> layer.weight.weight.data = torch.ones(1, 1)
        >>> degree = {"query_degree": torch.tensor([[3]]), "key_degree": torch.tensor([[8]])}
        >>> pairs = Pairs(torch.ones(1, 1, dtype=torch.bool), **degree)  # 4 / 4 and three times 6 / √(4 · 9)
        >>> layer(torch.full((1, 1, 1), 4.0), source, torch.tensor([[0]]), pairs).item()
        4.0
    """

    family = "graph"
    nature = "aggregator"
    normalised = False
    uses_degree = True
    causal = True
    takes_mask = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.weight = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        of_query, of_key = (
            (degree.to(_exact(query)) + 1).rsqrt() for degree in (pairs.query_degree, pairs.key_degree)
        )
        weights = (seen(pairs, query.shape[1]) * of_key[:, None]).to(source.dtype)  # (b, q or 1, k)
        share = (of_query * _unseen(pairs, query)).to(query.dtype)[..., None]  # (b, q, 1)
        own = of_query.square().to(query.dtype)[..., None] * query
        return self.weight(own + share * mixed(weights[:, None], source, neighbours)) * _sees_any(
            pairs, query.shape[1]
        )


@attentions.register("gin", AttentionConfig)
class GIN(Attention):
    """The sum of the neighbours and (1 + ε) times the query through two layers; ε is learned.

    A sum tells how many neighbours there are, which no mean can. That over the n_i neighbours at hand counts
    d_i / n_i times, so that a sample drawn evenly estimates the sum over all.

    Source: Xu, Hu, Leskovec, Jegelka, "How Powerful are Graph Neural Networks?", ICLR 2019,
    arXiv:1810.00826, eq. 4.1. Batch normalisation is left out; a query that sees no neighbour gets zeros.

    Cost: O(b k d + b q d²) time; the layers have 2 d² + 2 d parameters.

    Example:
        >>> layer, source = GIN(AttentionConfig(dim=1)), torch.tensor([[3.0]])
        >>> layer.mlp = nn.Identity()
        >>> degree = {"query_degree": torch.tensor([[2]]), "key_degree": torch.tensor([[1]])}
        >>> pairs = Pairs(torch.ones(1, 1, dtype=torch.bool), **degree)  # 4 and twice 3
        >>> layer(torch.full((1, 1, 1), 4.0), source, torch.tensor([[0]]), pairs).item()
        10.0
    """

    family = "graph"
    nature = "aggregator"
    normalised = False
    uses_degree = True
    causal = True
    takes_mask = True

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.mlp: nn.Module = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, config.dim)
        )

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        self.check(query, source, neighbours, pairs)
        weights = seen(pairs, query.shape[1]).to(source.dtype)  # (b, q or 1, k)
        total = _unseen(pairs, query).to(query.dtype)[..., None] * mixed(weights[:, None], source, neighbours)
        return self.mlp((1 + self.epsilon) * query + total) * _sees_any(pairs, query.shape[1])


def mean(query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """(b, q or 1, d) mean of the neighbours that each query sees, zeros where none; (b, q or 1, 1) if any."""
    visible = seen(pairs, query.shape[1]).to(source.dtype)  # (b, q or 1, k)
    count = visible.sum(-1, keepdim=True)
    return mixed((visible / count.clamp(min=1))[:, None], source, neighbours), count > 0


def _sees_any(pairs: Pairs, queries: int) -> Tensor:
    """(b, q or 1, 1) bool, True for a query that sees a neighbour."""
    return seen(pairs, queries).any(-1, keepdim=True)


def _unseen(pairs: Pairs, query: Tensor) -> Tensor:
    """(b, q) neighbours d_i in the whole graph for each of the n_i that a query sees."""
    at_hand = seen(pairs, query.shape[1]).sum(-1).clamp(min=1)  # (b, q or 1)
    return pairs.query_degree.to(_exact(query)) / at_hand


def _exact(features: Tensor) -> torch.dtype:
    """Type for degrees, which half precision cannot count."""
    return torch.promote_types(features.dtype, torch.float32)
