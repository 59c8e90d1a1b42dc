"""Weights that are a kernel of query and key, summed in time linear in the keys where the kernel factors.

| name | score | source | cost |
|---|---|---|---|
| linear | φ(q) . φ(k), φ = elu + 1 | Katharopoulos et al. 2020, eq. 4–7 | O(b (q + k) d c) |
| gated_linear | φ(q) . (φ(k) ⊙ Π later gates) | Yang et al. 2024, eq. 3–4 | O(b (q + k) d c + b k d c) |
| performer | φ(q) . φ(k), φ = exp(Ωx − ‖x‖²/2) / √m | Choromanski et al. 2021, eq. 5–7 | O(b (q + k) d m) |
| kernel | exp(−‖q − k‖² / 2σ²) | Tsai et al. 2019, section 3.1 | O(b q k d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
m features of the kernel · n places of queries and keys."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.attention.base import (
    AttentionConfig,
    Pairs,
    ProjectedAttention,
    ScoredAttention,
    attentions,
)

CHUNK = 64
"""Places whose pairs a causal pass visits at once; a power of two."""
LOWEST = -1e30
"""Logarithm of the features of a key that may not be seen; finite, so that no difference of two is NaN."""


class PositiveFeatures(ProjectedAttention):
    """Weights φ(q) . φ(k) / Σ φ(q) . φ(k) of positive features, of which a class writes the logarithms.

    Logarithms, because the largest exponent of each query and of the keys before it can then be taken out of
    the quotient: nothing overflows, no sum is zero, and no later key or other target has a part in it.

    Cost: O(b (q + k) d m) time; O(b h (q + k) m) memory. Causal: O(b k d (m + CHUNK)) time.
    """

    causal = True

    @abstractmethod
    def log_features(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(b, h, q, c), (b, h, k, c), Pairs -> (b, h, q, m) and (b, h, k, m) logarithms of the features."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        log_query, log_key = self.log_features(at_least_float32(query), at_least_float32(key), pairs)
        return mix_features(log_query, log_key, at_least_float32(value), pairs).to(value.dtype)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, 0 where it may not be seen; O(b h q k) memory."""
        self.check(query, source, neighbours, pairs)
        query, key, _ = self.projected(query, source, neighbours)
        one_each = torch.eye(key.shape[2], dtype=key.dtype, device=key.device)
        return self.mix(query, key, one_each.expand(*key.shape[:2], -1, -1), pairs)


@attentions.register("linear", AttentionConfig)
class LinearAttention(PositiveFeatures):
    """φ(Q)(φ(K)ᵀ V) / (φ(Q) Σ φ(K)) with φ = elu + 1: the keys are summed once for all queries.

    A kernel of its own, no approximation of the softmax.

    Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020, arXiv:2006.16236, eq. 4–7. Ours holds
    log φ, and sums a causal pass by chunks instead of place by place.

    Cost: O(b (q + k) d c) time, O(b (q + k) d) memory.

    Example:
        >>> layer, one = LinearAttention(AttentionConfig(dim=1)), torch.zeros(1, 1, 1, 1)
        >>> key, value = torch.tensor([[[[0.0], [2.0]]]]), torch.tensor([[[[0.0], [4.0]]]])
        >>> round(layer.mix(one, key, value, Pairs(torch.tensor([[True, True]]))).item(), 5)  # φ is 1 and 3
        3.0
    """

    family = "core"
    nature = "mechanism"

    def log_features(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return log_elu_plus_one(query), log_elu_plus_one(key)


@dataclass(frozen=True)
class GatedLinearConfig(AttentionConfig):
    """Settings of :class:`GatedLinear`."""

    softening: float = 16.0
    """Root τ taken of each gate, >= 1: at the start a feature halves in τ neighbours."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.softening >= 1:
            raise ValueError(f"softening must be 1 or more, got {self.softening}: 16 forgets slowly")


@attentions.register("gated_linear", GatedLinearConfig)
class GatedLinear(PositiveFeatures):
    """Linear attention that forgets: each neighbour fades the features of all before it by a gate of its own.

    φ(k_j) ⊙ Π_{j < t ≤ p} α_t is what is left of neighbour j at place p, α_t = σ(W k_t + b)^(1/τ) one number
    per feature. A query reads at its own place in a causal pass, else after the last neighbour. Masked
    neighbours fade nothing.

    Source: Yang et al., "Gated Linear Attention Transformers", ICML 2024, arXiv:2312.06635, eq. 3–4. Ours
    has φ = elu + 1 and divides by the sum of the weights (theirs: φ(x) = x, then a norm), so that a weight is
    a share; the gate reads the projected key with a full matrix per head (theirs: the input, low rank).

    Cost: O(b (q + k) d c) time, O(b (q + k) d) memory.

    Example:
        >>> layer = GatedLinear(GatedLinearConfig(dim=1, softening=1))
        >>> layer.gate.data.zero_()  # every gate is σ(0) = 1/2
        tensor([[[0.]]])
        >>> key, value = torch.zeros(1, 1, 2, 1), torch.tensor([[[[0.0], [3.0]]]])
        >>> round(layer.mix(key[:, :, :1], key, value, Pairs(torch.tensor([[True, True]]))).item(), 6)
        2.0
    """

    config: GatedLinearConfig
    family = "extra"
    nature = "mechanism"
    order_aware = True

    def __init__(self, config: GatedLinearConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        self.gate = nn.Parameter(torch.randn(config.heads, width, width) / width)  # W: (h, c, c)
        self.gate_bias = nn.Parameter(torch.zeros(config.heads, 1, width))

    def log_features(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        gates = functional.logsigmoid(key @ self.gate.to(key.dtype) + self.gate_bias)  # log α: (b, h, k, c)
        gates = gates / self.config.softening * pairs.key_mask[:, None, :, None]
        faded = gates.cumsum(2)
        at_query = gates.sum(2, keepdim=True)
        if pairs.is_causal:  # query i stands at place k − q + i; before the first key nothing has faded
            at_query = functional.pad(faded, (0, 0, query.shape[2] - key.shape[2], 0))
        return log_elu_plus_one(query) + at_query, log_elu_plus_one(key) - faded


@dataclass(frozen=True)
class PerformerConfig(AttentionConfig):
    """Settings of :class:`Performer`."""

    features: int = 64
    """Random features m, >= 1; the variance of a kernel estimate falls as 1 / m."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 1:
            raise ValueError(f"features must be 1 or more, got {self.features}: 64 is a start")


@attentions.register("performer", PerformerConfig)
class Performer(PositiveFeatures):
    """FAVOR+: positive random features whose products are exp(q . k / √c) in expectation.

    x ← x / c^¼ and φ(x) = exp(Ωx − ‖x‖²/2) / √m. The kernel estimate is unbiased; the weights, a quotient of
    two estimates, are not, but draw near the softmax as m grows.

    Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021, arXiv:2009.14794, lemma 1
    and section 2.4: rows of Ω orthogonal within blocks of c, their norms those of Gaussian rows. Ours draws Ω
    once, at construction, and keeps it with the parameters (theirs: again every so many steps).

    Cost: O(b (q + k) d m) time, O(b h (q + k) m) memory.

    Example:
        >>> layer = Performer(PerformerConfig(dim=1, features=1))
        >>> layer.omega.fill_(3.0)
        tensor([[3.]])
        >>> two = torch.full((1, 1, 1, 1), 2.0)
        >>> layer.log_features(two, two, Pairs(torch.ones(1, 1, dtype=torch.bool)))[0].item()  # 3 · 2 − 2²/2
        4.0
    """

    config: PerformerConfig
    family = "specialised"
    nature = "mechanism"
    omega: Tensor

    def __init__(self, config: PerformerConfig) -> None:
        super().__init__(config)
        self.register_buffer("omega", orthogonal_rows(config.features, config.dim // config.heads))  # (m, c)

    def log_features(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        return self._log_features(query), self._log_features(key)

    def _log_features(self, features: Tensor) -> Tensor:
        root = math.sqrt(
            features.shape[-1]
        )  # of c; the scale of x goes to Ω and to the length, which are small
        half_square = features.square().sum(-1, keepdim=True) / (2 * root)
        along = features @ (self.omega.to(features.dtype).T / math.sqrt(root))
        return along - (half_square + math.log(self.config.features) / 2)


@attentions.register("kernel", AttentionConfig)
class GaussianKernel(ScoredAttention):
    """Share of a Gaussian kernel: κ(q, k) / Σ κ with κ = exp(−‖q − k‖² / 2σ²), one learned width σ per head.

    As a dot product whose keys are held against their length: a long key is far from every query.

    Source: Tsai et al., "Transformer Dissection", EMNLP 2019, arXiv:1908.11775, section 3.1 (attention as
    kernel smoothing; RBF kernel). Ours learns log σ, so that σ stays positive, from σ² = √c.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> layer = GaussianKernel(AttentionConfig(dim=1))
        >>> query, key = torch.tensor([[[[1.0]]]]), torch.tensor([[[[5.0]]]])
        >>> layer.scores(query, key, Pairs(torch.ones(1, 1, dtype=torch.bool))).item()  # −4² / 2
        -8.0
    """

    family = "specialised"
    nature = "mechanism"

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        start = math.log(config.dim // config.heads) / 4
        self.log_sigma = nn.Parameter(torch.full((config.heads, 1, 1), start))  # (h, 1, 1)

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        query, key = at_least_float32(query), at_least_float32(key)
        lengths = query.square().sum(-1)[..., None] + key.square().sum(-1)[:, :, None]
        apart = (lengths - 2 * query @ key.mT).clamp(min=0)  # rounding may leave it below 0
        return -apart / 2 * (-2 * at_least_float32(self.log_sigma)).exp()

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return super()._weights(query, key, pairs).to(query.dtype)


def at_least_float32(features: Tensor) -> Tensor:
    """The same numbers, in float32 where they came in half precision."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def log_elu_plus_one(features: Tensor) -> Tensor:
    """log(elu(x) + 1), where elu itself would have rounded to −1."""
    return functional.relu(features).log1p() + features.clamp(max=0)


def orthogonal_rows(rows: int, width: int) -> Tensor:
    """(rows, width) rows orthogonal within blocks of ``width``, each as a standard Gaussian row."""
    blocks = -(-rows // width)
    basis, upper = torch.linalg.qr(torch.randn(blocks, width, width))
    basis = basis * upper.diagonal(dim1=1, dim2=2).sign()[:, None]  # else not every basis is as likely
    norms = torch.randn(rows, width).norm(dim=1, keepdim=True)
    return basis.mT.reshape(-1, width)[:rows] * norms


def mix_features(log_query: Tensor, log_key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
    """Mixes values by the products of positive features, given as logarithms.

    Args:
        log_query: (b, h, q, m).
        log_key: (b, h, k, m).
        value: (b, h, k, c).
        pairs: whose ``key_mask`` and ``is_causal`` are honoured.

    Returns:
        (b, h, q, c); zeros where no key is seen.
    """
    if not log_key.shape[2]:
        return value.new_zeros(*log_query.shape[:3], value.shape[-1])
    log_key = log_key.masked_fill(~pairs.key_mask[:, None, :, None], LOWEST)
    if pairs.is_causal and log_query.shape[2] > 1:  # one query stands last and sees all
        total = _sum_causal(log_query, log_key, value)
    else:
        total, _ = _read(log_query, *_state(log_key, value))
    weight = total[..., -1:]
    return total[..., :-1] / torch.where(weight > 0, weight, 1)


def _state(log_key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """(…, n, m), (…, n, c) -> (…, m, c + 1) sums of values and of one, by e^top too small; (…, 1, m) top."""
    top = log_key.detach().amax(-2, keepdim=True)
    features = (log_key - top).exp()
    sums = torch.cat([features.mT @ value, features.sum(-2)[..., None]], -1)
    return sums * (top > LOWEST).mT, top  # without a key, the difference to the top is 0 everywhere


def _read(log_query: Tensor, state: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """(…, n, m) and a state -> (…, n, c + 1) sums for each query, by e^scale too small; (…, n, 1) scale."""
    raised = log_query + top
    scale = raised.detach().amax(-1, keepdim=True)
    return (raised - scale).exp() @ state, scale


def _merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of two sums that were scaled apart."""
    scale = torch.maximum(one[1], other[1])
    return one[0] * (one[1] - scale).exp() + other[0] * (other[1] - scale).exp(), scale


def _sum_causal(log_query: Tensor, log_key: Tensor, value: Tensor) -> Tensor:
    """(b, h, q, m), (b, h, k, m), (b, h, k, c) -> (b, h, q, c + 1) sums over the keys up to each query.

    Each query meets itself, the left half of the smallest block that it is in the right half of, and so on up
    to a chunk, then the state of all chunks before: every scale is one of keys that it sees.
    """
    queries, places = log_query.shape[2], max(log_query.shape[2], log_key.shape[2])
    chunk = min(CHUNK, 1 << (places - 1).bit_length())
    length = -(-places // chunk) * chunk
    log_query, log_key, value = (
        functional.pad(part, (0, 0, length - part.shape[2], 0), value=fill)
        for part, fill in ((log_query, 0.0), (log_key, LOWEST), (value, 0.0))
    )
    is_seen = log_key[..., :1] > LOWEST  # (b, h, n, 1)
    summed = torch.cat([value * is_seen, is_seen.to(value.dtype)], -1)  # the last column sums the weights
    raised = log_query + log_key
    scale = raised.detach().amax(-1, keepdim=True)
    found = (raised - scale).exp().sum(-1, keepdim=True) * summed, scale
    size = 1
    while size < chunk:
        found = _hear_left_halves(found, log_query, log_key, summed, size)
        size *= 2
    if length > chunk:
        query, key, value = (part.unflatten(2, (-1, chunk)) for part in (log_query, log_key, value))
        earlier, scale = _read(query, *_states_before(*_state(key, value)))
        found = _merge(found, (earlier.flatten(2, 3), scale.flatten(2, 3)))
    return found[0][:, :, length - queries :]


def _hear_left_halves(
    found: tuple[Tensor, Tensor], log_query: Tensor, log_key: Tensor, summed: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """In blocks of 2 × ``size`` places the queries of the right half meet the keys of the left half."""
    total, scale, query, key, value = (
        part.unflatten(2, (-1, 2, size)).unbind(3) for part in (*found, log_query, log_key, summed)
    )
    top = key[0].detach().amax(-2, keepdim=True)
    products, new_scale = _read(query[1], (key[0] - top).exp().mT, top)  # (b, h, blocks, size, size)
    right = _merge((total[1], scale[1]), (products @ value[0], new_scale))
    return (
        torch.stack([total[0], right[0]], 3).flatten(2, 4),
        torch.stack([scale[0], right[1]], 3).flatten(2, 4),
    )


def _states_before(state: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
    """(b, h, chunks, m, c + 1) and (b, h, chunks, 1, m) -> the state before each chunk, and its top."""
    running, highest, before = torch.zeros_like(state[:, :, 0]), torch.full_like(top[:, :, 0], LOWEST), []
    for one, its_top in zip(state.unbind(2), top.unbind(2), strict=True):
        before.append((running, highest))
        higher = torch.maximum(highest, its_top)
        running = running * (highest - higher).exp().mT + one * (its_top - higher).exp().mT
        highest = higher
    return torch.stack([part for part, _ in before], 2), torch.stack([part for _, part in before], 2)
