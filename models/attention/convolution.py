"""Aggregators: the graph fixes the weights, nothing is learned about which neighbour matters.

| name | answer | source | cost |
|---|---|---|---|
| mean | mean h_j | Hamilton et al. 2017, without W | O(b k d) |
| graphsage | W [h_i ‖ mean h_j] | Hamilton et al. 2017, algorithm 1 | O(b k d + b d²) |

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width."""

import torch
from torch import Tensor, nn

from models.attention.base import Attention, AttentionConfig, Pairs, attentions, gather, seen


@attentions.register("mean", AttentionConfig)
class Mean(Attention):
    """The plain mean of the neighbours: no parameter, so whatever calls it adds its own W.

    Source: Hamilton, Ying, Leskovec, "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
    arXiv:1706.02216, mean aggregator. W and the non-linearity are left to the encoder.

    Cost: O(b k d) time and memory.

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
        return mean(query, source, neighbours, pairs)


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
        mixed = self.weight(torch.cat([query, mean(query, source, neighbours, pairs)], -1))
        return mixed * seen(pairs, query.shape[1]).any(-1, keepdim=True)


def mean(query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
    """(b, q, d) mean of the neighbours that each query sees, zeros where it sees none."""
    visible = seen(pairs, query.shape[1]).to(source.dtype)  # (b, q or 1, k)
    share = visible / visible.sum(-1, keepdim=True).clamp(min=1)
    return torch.bmm(share, gather(source, neighbours)).expand(-1, query.shape[1], -1)
