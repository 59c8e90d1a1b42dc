"""Dot products of every query with every key it may see.

| name | score | source | cost |
|---|---|---|---|
| multi_head | q . k / √c | Vaswani et al. 2017, eq. 1 | O(b q k d) |
| flash | q . k / √c, by tiles | Dao et al. 2022, algorithms 1 and 4 | O(b q k d), memory O(b (q + k) d) |
| cross | q . k / √c, then h_i + σ(W_g h_i + b_g) ⊙ mixed | Parisotto et al. 2020, section 3.2 | O(b q k d) |
| differential | the difference of two softmaxes of q . k / √(c/2) | Ye et al. 2024, eq. 1–3 | O(b q k d) |
| cosine | cos(q, k) / τ_h | Liu et al. 2022, eq. 2 | O(b q k d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from models.attention.base import (
    AttentionConfig,
    Pairs,
    ProjectedAttention,
    ScoredAttention,
    attentions,
    seen,
)

COLDEST = 0.01
"""No learned temperature falls below it."""


@attentions.register("multi_head", AttentionConfig)
class MultiHead(ScoredAttention):
    """Scaled dot products in h heads that one matrix joins: concat_h softmax(Q_h K_hᵀ / √c) V_h W_O.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.2. Without
    biases.

    Cost: O(b q k d) time. The answer comes from torch's fused kernel; memory is O(b q k) for the mask where
    queries differ in what they see, and ``weights`` takes O(b h q k).

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

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        visible = seen(pairs, query.shape[2])[:, None]  # (b, 1, q or 1, k)
        return scaled_dot_product_attention(query, key, value, attn_mask=visible)


@attentions.register("flash", AttentionConfig)
class Flash(ProjectedAttention):
    """The answer of ``multi_head`` by tiles with a running maximum and sum: no (q, k) tensor, no mask of that
    size, and the backward pass computes each tile anew.

    On a CPU the tiles are torch's own kernel, handed the (b, k) mask and the order; elsewhere the mask rides
    in a channel of the keys, so that torch takes a kernel without a dense mask.

    Source: Dao, Fu, Ermon, Rudra, Ré, "FlashAttention", NeurIPS 2022, arXiv:2205.14135, algorithms 1 and 4;
    Rabe and Staats, "Self-attention Does Not Need O(n²) Memory", arXiv:2112.05682.

    Cost: O(b q k d) time, O(b (q + k) d) memory forward and backward. A causal pass over fewer queries than
    keys costs as much as one over k queries.

    Example:
        >>> value = torch.tensor([[[[1.0], [4.0]]]])
        >>> pairs = Pairs(torch.tensor([[True, True]]), is_causal=True)
        >>> Flash(AttentionConfig(dim=1)).mix(torch.zeros(1, 1, 2, 1), value, value, pairs).flatten().tolist()
        [1.0, 2.5]
    """

    family = "core"
    nature = "implementation"
    causal = True
    equals = "multi_head"

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        later = key.shape[2] - query.shape[2]
        if not key.shape[2] or not query.shape[2]:
            return torch.zeros_like(query)
        tiles = mix_on_cpu if query.device.type == "cpu" else mix_in_a_channel
        if not pairs.is_causal or query.shape[2] == 1:  # the last query sees every key
            return tiles(query, key, value, pairs.key_mask, False)
        # torch lets query i see keys 0..i: queries get their place among the keys, and lose it again
        mixed = tiles(pad(query, (0, 0, later, 0)), key, value, pairs.key_mask, True)
        return pad(mixed, (0, 0, -later, 0))


def mix_on_cpu(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, is_causal: bool) -> Tensor:
    """(b, h, q, c), (b, h, k, c), (b, h, k, c), (b, k) -> (b, h, q, c); query i sees keys 0..i if causal.

    The public function takes a mask or the order; the kernel below it takes both, and spreads a (b, 1, 1, k)
    mask without writing it out.
    """
    bias = torch.zeros_like(key_mask, dtype=query.dtype).masked_fill(~key_mask, -math.inf)
    tiles = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return tiles(query, key, value, 0.0, is_causal, attn_mask=bias[:, None, None])[0]


def mix_in_a_channel(query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, is_causal: bool) -> Tensor:
    """As :func:`mix_on_cpu` on any device: a channel of ones in the queries reads the mask off the keys."""
    (b, h, k, c), width = key.shape, 8 * (key.shape[-1] // 8 + 1)  # kernels like widths that 8 divides
    lowest = torch.finfo(key.dtype).min / 2  # beside any other score its weight is 0
    channel = torch.zeros_like(key_mask, dtype=key.dtype).masked_fill(~key_mask, lowest)
    ones, channel = query.new_ones(*query.shape[:3], 1), channel[:, None, :, None].expand(b, h, k, 1)
    query, key = (pad(torch.cat(both, -1), (0, width - c - 1)) for both in ((query, ones), (key, channel)))
    mixed = scaled_dot_product_attention(
        query, key, pad(value, (0, width - c)), is_causal=is_causal, scale=1 / math.sqrt(c)
    )
    some = key_mask.cumsum(1) > 0 if is_causal else key_mask.any(1, keepdim=True)  # (b, k or 1)
    return mixed[..., :c] * some[:, None, :, None]


@attentions.register("cross", AttentionConfig)
class Cross(MultiHead):
    """A query from one source reads keys and values of another and keeps itself: h_i + g ⊙ mixed, where the
    gate g = σ(W_g h_i + b_g) is learned and says per feature how much of the other source comes in.

    Source: Vaswani et al. 2017, section 3.2.3, for queries and keys of different sources; Parisotto et al.,
    "Stabilizing Transformers for Reinforcement Learning", ICML 2020, arXiv:1910.06764, section 3.2, output
    gate. Ours begins half open (W_g as torch draws it, b_g = 0), and who sees nobody gets zeros, not itself:
    the encoder adds the target.

    Cost: O(b q k d + b q d²) time, memory as ``multi_head``.

    Example:
        >>> layer = Cross(AttentionConfig(dim=1))
        >>> for part in (layer.projections["value"], layer.out):
        ...     _ = nn.init.ones_(part.weight)
        >>> _ = nn.init.zeros_(layer.gate.weight)
        >>> pairs = Pairs(torch.tensor([[True, True]]))
        >>> layer(torch.ones(1, 1, 1), torch.full((2, 1), 4.0), torch.tensor([[0, 1]]), pairs).item()
        3.0
    """

    family = "specialised"

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.gate = nn.Linear(config.dim, config.dim)
        nn.init.zeros_(self.gate.bias)

    def forward(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        mixed = super().forward(query, source, neighbours, pairs)
        answer = query + self.gate(query).sigmoid() * mixed
        return answer * seen(pairs, query.shape[1]).any(-1, keepdim=True)


@dataclass(frozen=True)
class DifferentialConfig(AttentionConfig):
    """Settings of :class:`Differential`."""

    subtracted: float = 0.2
    """λ_init, about what share of the second softmax is taken off at the start, in [0, 1). The paper's for
    layer l is 0.8 − 0.6 exp(−0.3 (l − 1))."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dim // self.heads) % 2:
            raise ValueError(
                f"a head must have an even width to be halved, got dim={self.dim} and heads={self.heads}: "
                "change one of them"
            )
        if not 0 <= self.subtracted < 1:
            raise ValueError(f"subtracted must be 0 or more and below 1, got {self.subtracted}")


@attentions.register("differential", DifferentialConfig)
class Differential(ScoredAttention):
    """Two softmaxes in a head, of which the second is taken off the first, so that what both give to
    neighbours that do not matter cancels: (softmax(Q₁K₁ᵀ/√(c/2)) − λ softmax(Q₂K₂ᵀ/√(c/2))) V.

    λ = exp(λ_q1 . λ_k1) − exp(λ_q2 . λ_k2) + λ_init with four learned vectors; weights sum to 1 − λ and may
    be below zero. Each head's answer is divided by its root mean square and scaled by 1 − λ_init.

    Source: Ye et al., "Differential Transformer", ICLR 2025, arXiv:2410.05258, eq. 1–3. Ours keeps h heads of
    width c and halves queries and keys, where the paper halves the heads and doubles the values.

    Cost: O(b q k d) time, O(b h q k) memory, twice that of ``multi_head``'s weights.

    Example:
        >>> layer = Differential(DifferentialConfig(dim=2, subtracted=0.25))
        >>> for part in (layer.first, layer.second):
        ...     _ = nn.init.zeros_(part)
        >>> query, pairs = torch.zeros(1, 1, 1, 2), Pairs(torch.tensor([[True]]))
        >>> layer._weights(query, query, pairs).item()
        0.75
    """

    config: DifferentialConfig
    family = "extra"
    nature = "mechanism"
    normalised = False

    def __init__(self, config: DifferentialConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.first = nn.Parameter(0.1 * torch.randn(2, width // 2))  # λ_q1 and λ_k1: (2, c / 2)
        self.second = nn.Parameter(0.1 * torch.randn(2, width // 2))  # λ_q2 and λ_k2: (2, c / 2)
        self.scale = nn.Parameter(torch.ones(width))  # (c,)

    def subtracted(self) -> Tensor:
        """() λ, the share of the second softmax that is taken off."""
        return self.first.prod(0).sum().exp() - self.second.prod(0).sum().exp() + self.config.subtracted

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        """(b, 2 h, q, k): both scores of a head stand next to each other."""
        query, key = (part.unflatten(-1, (2, -1)) for part in (query, key))
        scores = torch.einsum("bhqpc,bhkpc->bhpqk", query, key) / math.sqrt(query.shape[-1])
        return scores.flatten(1, 2)

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        first, second = super()._weights(query, key, pairs).unflatten(1, (-1, 2)).unbind(2)
        return first - self.subtracted() * second

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        mixed = nn.functional.rms_norm(super().mix(query, key, value, pairs), self.scale.shape, eps=1e-5)
        return mixed * self.scale * (1 - self.config.subtracted)


@dataclass(frozen=True)
class CosineConfig(AttentionConfig):
    """Settings of :class:`Cosine`."""

    temperature: float = 0.1
    """τ of every head at the start; learned from there, and never below ``COLDEST``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperature > COLDEST:
            raise ValueError(f"temperature must be above {COLDEST}, got {self.temperature}")


@attentions.register("cosine", CosineConfig)
class Cosine(ScoredAttention):
    """The angle between query and key alone, whatever their lengths, over a learned temperature a head.

    No key gets weight for being long, as popular nodes are; scores stay within ±1 / τ.

    Source: Liu et al., "Swin Transformer V2", CVPR 2022, arXiv:2111.09883, eq. 2, without its bias of
    relative places.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> query, key = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, 9.0], [2.0, 0.0]]]])
        >>> pairs = Pairs(torch.ones(1, 2, dtype=torch.bool))
        >>> Cosine(CosineConfig(dim=2, temperature=0.5)).scores(query, key, pairs).flatten().tolist()
        [0.0, 2.0]
    """

    config: CosineConfig
    family = "extra"
    nature = "mechanism"

    def __init__(self, config: CosineConfig) -> None:
        super().__init__(config)
        self.log_temperature = nn.Parameter(torch.full((config.heads,), math.log(config.temperature)))

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        query, key = (nn.functional.normalize(part, dim=-1, eps=1e-6) for part in (query, key))
        temperature = self.log_temperature.clamp(min=math.log(COLDEST)).exp()[:, None, None]  # (h, 1, 1)
        return torch.einsum("bhqc,bhkc->bhqk", query, key) / temperature
