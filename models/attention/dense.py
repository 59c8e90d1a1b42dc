"""Dot products of every query with every key it may see.

| name | score | source | cost |
|---|---|---|---|
| multi_head | q . k / √c | Vaswani et al. 2017, eq. 1 | O(b q k d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h."""

import math

import torch
from torch import Tensor

from models.attention.base import AttentionConfig, Pairs, ScoredAttention, attentions


@attentions.register("multi_head", AttentionConfig)
class MultiHead(ScoredAttention):
    """Scaled dot products in h heads that one matrix joins: concat_h softmax(Q_h K_hᵀ / √c) V_h W_O.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.2. Without
    biases.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> query, key = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]]), torch.tensor([[[[3.0, 0.0, 0.0, 0.0]]]])
        >>> pairs = Pairs(torch.ones(1, 1, dtype=torch.bool))
        >>> MultiHead(AttentionConfig(dim=4)).scores(query, key, pairs).item()
        3.0
    """

    family = "core"
    nature = "mechanism"

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return torch.einsum("bhqc,bhkc->bhqk", query, key) / math.sqrt(query.shape[-1])
