"""Each query hears few keys, and the features of both say which.

| name | weights | source | cost |
|---|---|---|---|
| sparse | softmax over the t best q . k / √c | Zhao et al. 2019, eq. 4–6 | O(b q k d) |
| sparsemax | nearest point of the simplex | Martins, Astudillo 2016, alg. 1 | O(b q k (d + h log k)) |
| reformer | softmax over keys hashed near the query | Kitaev et al. 2020, eq. 2–6 | O(b n (log n + m) d R) |

b targets in the batch · q queries per target · k neighbours · n = q + k · d feature width · h heads ·
c = d // h · t keys kept · R rounds of hashing · m places in a chunk."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.attention.base import (
    AttentionConfig,
    Pairs,
    ProjectedAttention,
    ScoredAttention,
    attentions,
    key_place,
    query_place,
    seen,
)
from models.attention.kernel import at_least_float32

DIGIT = 8
"""Values of one digit of a hash: the directions ± of half as many axes."""


@dataclass(frozen=True)
class SparseConfig(AttentionConfig):
    """Settings of :class:`Sparse`."""

    top: int = 8
    """Keys t that a query keeps, >= 1; all that tie with the last are kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ValueError(f"top must be 1 or more, got {self.top}: 8 is a start")


@attentions.register("sparse", SparseConfig)
class Sparse(ScoredAttention):
    """Softmax over the t best scaled dot products of each query; the other keys have weight 0.

    Source: Zhao et al., "Explicit Sparse Transformer", 2019, arXiv:1912.11637, eq. 4–6. Ours keeps every key
    that ties with the last of the best, so that order says nothing.

    Cost: O(b q k d) time, O(b h q k) memory.

    Example:
        >>> layer, pairs = Sparse(SparseConfig(dim=1, top=1)), Pairs(torch.tensor([[True, True]]))
        >>> query, key = torch.ones(1, 1, 1, 1), torch.tensor([[[[2.0], [1.0]]]])
        >>> layer.mix(query, key, key, pairs).item()
        2.0
    """

    config: SparseConfig
    family = "specialised"
    nature = "mechanism"

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return query @ key.mT / math.sqrt(query.shape[-1])

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        visible, dtype = seen(pairs, query.shape[2])[:, None], query.dtype
        scores = self.scores(at_least_float32(query), at_least_float32(key), pairs)
        is_kept = visible & (scores >= self._least(scores.detach().masked_fill(~visible, -torch.inf)))
        lowest = torch.finfo(scores.dtype).min
        return (scores.masked_fill(~is_kept, lowest).softmax(-1) * is_kept).to(dtype)

    def _least(self, scores: Tensor) -> Tensor:
        """(b, h, q, k), −∞ where masked -> (b, h, q, 1) score that a key must reach to be kept."""
        best = scores.topk(min(self.config.top, scores.shape[-1])).values
        size = best.nan_to_num(neginf=0.0).abs().sum(-1, keepdim=True)
        return best[..., -1:] - 8 * torch.finfo(scores.dtype).eps * size  # equal keys may differ by rounding


@attentions.register("sparsemax", AttentionConfig)
class Sparsemax(ScoredAttention):
    """The nearest distribution to the scaled dot products: max(score − τ, 0), τ such that they sum to one.

    How many keys have a weight is for the scores to say; a key far below the best has none.

    Source: Martins, Astudillo, "From Softmax to Sparsemax", ICML 2016, arXiv:1602.02068, algorithm 1.

    Cost: O(b q k d + b h q k log k) time, O(b h q k) memory.

    Example:
        >>> sparsemax(torch.tensor([[[[0.5, 0.0, -3.0]]]]), torch.ones(1, 1, 3, dtype=torch.bool)).tolist()
        [[[[0.75, 0.25, 0.0]]]]
    """

    family = "extra"
    nature = "mechanism"

    def scores(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        return query @ key.mT / math.sqrt(query.shape[-1])

    def _weights(self, query: Tensor, key: Tensor, pairs: Pairs) -> Tensor:
        scores = self.scores(at_least_float32(query), at_least_float32(key), pairs)
        return sparsemax(scores, seen(pairs, query.shape[2])).to(query.dtype)


@dataclass(frozen=True)
class ReformerConfig(AttentionConfig):
    """Settings of :class:`Reformer`."""

    rounds: int = 2
    """Independent hashes R, >= 1; a query hears all that any of them brings near."""
    chunk: int = 16
    """Places m in a chunk of the sorted keys, >= 1; a query hears its chunk and the one before."""
    digits: int = 4
    """Most digits of a hash, >= 1: at most 8 to that power buckets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.rounds, self.chunk, self.digits) < 1:
            raise ValueError(
                "rounds, chunk and digits must be 1 or more, got "
                f"{self.rounds}, {self.chunk} and {self.digits}: 2, 16 and 4 are a start"
            )


@attentions.register("reformer", ReformerConfig)
class Reformer(ProjectedAttention):
    """Softmax over the keys whose hash is near the query's: one projection for both, keys at length one.

    In each round a random rotation puts queries and keys into buckets, about n / m for n neighbours. The keys
    that there are stand sorted by bucket, then by place, and are cut into chunks of m. A query stands where a
    key of its bucket and place would, and hears the chunk it falls into and the chunk before. Rounds are
    joined by their log-sum-exp, a key that several of them bring counting once: the answer is the softmax
    over all keys found. A chunk as long as the neighbours gives the softmax over all of them.

    Source: Kitaev, Kaiser, Levskaya, "Reformer", ICLR 2020, arXiv:2001.04451, eq. 2–6 and appendix A. Ours
    hashes with digits of eight directions, as many as the buckets need (theirs: one rotation, or two), lets
    queries be others than the keys, and lets a query hear itself. Not causal: a later key moves the chunks.

    Cost: O(b R (n log n + n m) d) time, O(b R n (d + h m)) memory.

    Example:
        >>> layer = Reformer(ReformerConfig(dim=1, chunk=2))
        >>> query, value = torch.zeros(1, 1, 1, 1), torch.tensor([[[[1.0], [3.0]]]])
        >>> round(layer.mix(query, value, value, Pairs(torch.tensor([[True, True]]))).item(), 5)
        2.0
    """

    config: ReformerConfig
    family = "specialised"
    nature = "mechanism"
    order_aware = True
    shares = {"key": "query"}
    rotation: Tensor

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__(config)
        width = config.dim // config.heads
        axes = torch.randn(config.rounds, config.digits, width, DIGIT // 2)
        self.register_buffer("rotation", axes)  # (R, digits, c, DIGIT / 2)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        if not key.shape[2] or not query.shape[2]:
            return torch.zeros_like(query)
        dtype = value.dtype
        query, key, value = (at_least_float32(part) for part in (query, key, value))
        key = key / (key.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        with torch.no_grad():
            order, of_key, of_query = self._chunks(query, key, pairs)
            asked, heard, is_heard, slot = self._blocks(order, of_query, pairs.key_mask)
            rounds = self._rounds_that_bring(of_key, of_query, asked, heard)
        scores = rows(query, asked) @ rows(key, heard).mT / math.sqrt(query.shape[-1])
        scores = (scores - rounds.to(scores.dtype).log()).masked_fill(
            ~is_heard, torch.finfo(scores.dtype).min
        )
        mixed = scores.softmax(-1) * is_heard @ rows(value, heard)  # (b, h, R, blocks, in block, c)
        mixed = rows(mixed.flatten(3, 4), slot)  # (b, h, R, q, c)
        weight = scores.logsumexp(-1, keepdim=True).flatten(3, 4)
        return (rows(weight, slot).softmax(2) * mixed).sum(2).to(dtype)

    def _chunks(self, query: Tensor, key: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """(b, h, R, k) keys in their sorted order, masked ones last; the chunk of each key and query."""
        queries, keys = query.shape[2], key.shape[2]
        shift = self._shift(pairs.key_mask.sum(1))[:, None, None, None]
        of_key = (self._hash(key) // shift * (queries + keys) + queries) + key_place(pairs)
        of_query = (self._hash(query) // shift * (queries + keys) + queries) + query_place(pairs, queries)
        last = torch.iinfo(torch.int64).max
        of_key, order = of_key.masked_fill(~pairs.key_mask[:, None, None], last).sort(dim=-1)
        index = torch.searchsorted(of_key, of_query, right=True) - 1  # its own, where it is a key itself
        return order, ranks(order) // self.config.chunk, index.clamp(min=0) // self.config.chunk

    def _hash(self, features: Tensor) -> Tensor:
        """(b, h, n, c) -> (b, h, R, n) int64 in [0, 8^digits), the first digit the greatest."""
        code = torch.zeros((), dtype=torch.int64, device=features.device)
        for axes in self.rotation.to(features.dtype).unbind(1):  # (R, c, DIGIT / 2)
            along = features[:, :, None] @ axes
            code = code * DIGIT + torch.cat([along, -along], -1).argmax(-1)
        return code

    def _shift(self, count: Tensor) -> Tensor:
        """(b,) neighbours -> (b,) what a hash is divided by, so that there are about count / m buckets."""
        sizes = self.config.chunk * DIGIT ** torch.arange(self.config.digits, device=count.device)
        return DIGIT ** (self.config.digits - (count[:, None] > sizes).sum(1))

    def _blocks(
        self, order: Tensor, of_query: Tensor, key_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Lays the queries of each chunk in blocks of their own, so that a block hears one window of keys.

        Returns:
            (b, h, R, blocks, in block) the query asked in each slot, query 0 where there is none.
            (b, h, R, blocks, 2 m) the keys that each block hears: its chunk and the one before.
            (b, h, R, blocks, 1, 2 m) bool, True where there is such a key.
            (b, h, R, q) the slot of each query, blocks laid end to end.
        """
        chunk, queries, keys = self.config.chunk, of_query.shape[-1], order.shape[-1]
        chunks, size = -(-keys // chunk), min(chunk, queries)
        blocks = min(queries, queries // size + chunks)
        sorted_chunk, by_chunk = of_query.sort(dim=-1, stable=True)
        ends = torch.searchsorted(
            sorted_chunk, self._each(chunks, sorted_chunk), right=True
        )  # (b, h, R, chunks)
        starts = functional.pad(ends, (1, 0))
        block_ends = (-(-starts.diff() // size)).cumsum(-1)
        block_starts = functional.pad(block_ends, (1, 0))
        slot = block_starts.gather(-1, of_query) * size + ranks(by_chunk) - starts.gather(-1, of_query)
        asked = torch.zeros_like(slot[..., :1]).expand(*slot.shape[:-1], blocks * size)
        asked = asked.scatter(-1, slot, self._each(queries, slot)).unflatten(-1, (blocks, size))
        of_block = torch.searchsorted(block_ends, self._each(blocks, block_ends), right=True)
        window = (of_block[..., None] - 1) * chunk + torch.arange(2 * chunk, device=order.device)
        is_heard = (window >= 0) & (window < key_mask.sum(1)[:, None, None, None, None])
        heard = order.gather(-1, window.clamp(0, keys - 1).flatten(3)).view_as(window)
        return asked, heard, is_heard[..., None, :], slot

    def _each(self, count: int, like: Tensor) -> Tensor:
        """(…, count) 0, 1, 2, … in each row of another tensor."""
        return torch.arange(count, device=like.device).expand(*like.shape[:-1], -1).contiguous()

    def _rounds_that_bring(self, of_key: Tensor, of_query: Tensor, asked: Tensor, heard: Tensor) -> Tensor:
        """(b, h, R, blocks, in block, 2 m) rounds in which a query hears a key, at least 1."""
        of_key, of_query = of_key.int(), of_query.int()
        found = torch.zeros((), dtype=torch.int32, device=heard.device)
        for other in range(self.config.rounds):
            chunk_heard = of_key[:, :, other, None].expand_as(of_key).gather(-1, heard.flatten(3))
            chunk = of_query[:, :, other, None].expand_as(of_query).gather(-1, asked.flatten(3))
            behind = chunk.view_as(asked)[..., None] - chunk_heard.view_as(heard)[..., None, :]
            found = found + ((behind == 0) | (behind == 1))
        return found.clamp(min=1)


def sparsemax(scores: Tensor, visible: Tensor) -> Tensor:
    """Sparsemax of (b, h, q, k) scores over the keys that (b, q or 1, k) ``visible`` marks, else zeros."""
    if not scores.shape[-1]:
        return scores
    visible = visible[:, None]  # (b, 1, q or 1, k)
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    scores = (scores - scores.detach().amax(-1, keepdim=True)).clamp(min=-2)  # 1 below the best has no weight
    best = scores.sort(-1, descending=True).values
    count = torch.arange(1, scores.shape[-1] + 1, device=scores.device, dtype=scores.dtype)
    excess = best.cumsum(-1) - 1
    support = (count * best > excess).sum(-1, keepdim=True)  # (b, h, q, 1)
    threshold = excess.gather(-1, support - 1) / support
    return (scores - threshold).clamp(min=0) * visible


def ranks(order: Tensor) -> Tensor:
    """(…, n) a permutation -> (…, n) its inverse: the rank of each in the order."""
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter(-1, order, places)


def rows(features: Tensor, places: Tensor) -> Tensor:
    """Chooses rows of each target and head, or of each round too.

    Args:
        features: (b, h, n, c), or (b, h, R, n, c).
        places: (b, h, R, …) int64 rows.

    Returns:
        (b, h, R, …, c).
    """
    groups = features.shape[:-2]
    offsets = torch.arange(groups.numel(), device=places.device).view(
        *groups, *[1] * (places.dim() - len(groups))
    )
    flat = (places + offsets * features.shape[-2]).flatten()
    return features.flatten(0, -2).index_select(0, flat).view(*places.shape, features.shape[-1])
