"""Attention to keys near a query's own place, in blocks of queries: no tensor of queries by keys.

| name | query i sees key j | source | cost |
|---|---|---|---|
| sliding_window | abs(i − j) ≤ w | Beltagy et al. 2020, section 3.1 | O(b q w d) |
| local | i and j in one block of w | Parmar et al. 2018, 1D local attention | O(b q w d) |
| chunked | j in the chunk of i or the one before | Dai et al. 2019, section 3.2 | O(b q w d) |
| dilated | j = i + r t, abs(t) ≤ w | Beltagy et al. 2020, section 3.1 | O(b q w d) |
| strided | abs(i − j) < l or (i − j) mod l = 0 | Child et al. 2019, strided | O(b q (l + k/l) d) |

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
n blocks · w, r, l as in the table. Places of blocks and chunks count from the first neighbour there is."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from models.attention.base import AttentionConfig, Pairs, ProjectedAttention, attentions, first_place

BLOCK = 16
"""Queries that share one stretch of keys: larger ones multiply more at once, and more in vain."""

Part = tuple[Tensor, Tensor]
"""(b, h, q, c) softmax answer over some of the keys and (b, h, q, 1) logarithm of its sum; see joined()."""


class WindowedAttention(ProjectedAttention):
    """Scaled dot products with those keys only that the places of query and key allow.

    Cost: what ``attend`` takes; half precision is mixed in float32.
    """

    nature = "mechanism"
    order_aware = True
    causal = True

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """(b, h, q, c) scaled queries, (b, h, k, c), (b, h, k, c'), Pairs -> (b, h, q, c'); k > 0."""

    def mix(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        if not key.shape[2]:  # one key that nobody sees stands in for none
            key, value = pad(key, (0, 0, 0, 1)), pad(value, (0, 0, 0, 1))
            pairs = dataclasses.replace(pairs, key_mask=pad(pairs.key_mask, (0, 1)))
        scaled, wide = query / math.sqrt(query.shape[-1]), torch.promote_types(query.dtype, torch.float32)
        return self.attend(scaled.to(wide), key.to(wide), value.to(wide), pairs).to(query.dtype)

    def weights(self, query: Tensor, source: Tensor, neighbours: Tensor | None, pairs: Pairs) -> Tensor:
        """(b, h, q, k) weight of each neighbour, to be looked at: unlike an answer it costs O(b h q k)."""
        self.check(query, source, neighbours, pairs)
        query, key, _ = self.projected(query, source, neighbours)
        return self.mix(query, key, one_hot(key), pairs)


@dataclass(frozen=True)
class SlidingWindowConfig(AttentionConfig):
    """Settings of :class:`SlidingWindow`."""

    window: int = 8
    """Furthest place w seen to either side, >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("window", self.window, 0)


@attentions.register("sliding_window", SlidingWindowConfig)
class SlidingWindow(WindowedAttention):
    """Each query sees the keys at most w places away: abs(i − j) ≤ w.

    Source: Beltagy, Peters, Cohan, "Longformer", arXiv:2004.05150, section 3.1, whose window is our 2 w + 1.

    Cost: O(b q w d) time, O(b q (h w + d)) memory.

    Example:
        >>> layer, pairs = SlidingWindow(SlidingWindowConfig(dim=1, window=1)), Pairs(torch.ones(1, 4).bool())
        >>> layer.weights(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1), None, pairs)[0, 0, 0].tolist()
        [0.5, 0.5, 0.0, 0.0]
    """

    family = "core"
    config: SlidingWindowConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        back = self.config.window
        return window_part(query, key, value, pairs.key_mask, back, places_ahead(back, query, pairs))[0]


@dataclass(frozen=True)
class LocalConfig(AttentionConfig):
    """Settings of :class:`LocalAttention`."""

    block: int = 16
    """Places w in a block, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("block", self.block, 1)


@attentions.register("local", LocalConfig)
class LocalAttention(WindowedAttention):
    """Blocks of w places, from the first neighbour on, that know nothing of each other: block diagonal.

    Source: Parmar et al., "Image Transformer", ICML 2018, arXiv:1802.05751, 1D local attention, with
    memory block and query block the same.

    Cost: O(b q w d) time, O(b q (h w + d)) memory. The last query of a set sees only what its block holds by
    then, so a full set of 25 neighbours is read from the 17th on.

    Example:
        >>> layer, pairs = LocalAttention(LocalConfig(dim=1, block=2)), Pairs(torch.ones(1, 3).bool())
        >>> layer.weights(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), None, pairs)[0, 0].tolist()
        [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """

    family = "core"
    config: LocalConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return chunks_part(query, key, value, pairs, self.config.block, 0)[0]


@dataclass(frozen=True)
class ChunkedConfig(AttentionConfig):
    """Settings of :class:`Chunked`."""

    chunk: int = 8
    """Places w in a chunk, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("chunk", self.chunk, 1)


@attentions.register("chunked", ChunkedConfig)
class Chunked(WindowedAttention):
    """Each query sees its own chunk of w places, counted from the first neighbour, and the one before.

    Source: Dai et al., "Transformer-XL", ACL 2019, arXiv:1901.02860, section 3.2, whose memory is the segment
    before. Ours lets gradients into it and adds no position to the scores.

    Cost: O(b q w d) time, O(b q (h w + d)) memory.

    Example:
        >>> layer, pairs = Chunked(ChunkedConfig(dim=1, chunk=1)), Pairs(torch.ones(1, 3).bool())
        >>> layer.weights(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), None, pairs)[0, 0].tolist()
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """

    family = "core"
    config: ChunkedConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        return chunks_part(query, key, value, pairs, self.config.chunk, 1)[0]


@dataclass(frozen=True)
class DilatedConfig(AttentionConfig):
    """Settings of :class:`Dilated`."""

    window: int = 8
    """Keys w seen to either side, >= 0."""
    rate: int = 2
    """Places r from one seen key to the next, >= 1; 1 is a sliding window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("window", self.window, 0)
        check_least("rate", self.rate, 1)


@attentions.register("dilated", DilatedConfig)
class Dilated(WindowedAttention):
    """A sliding window with gaps: query i sees the keys i + r t, abs(t) ≤ w.

    Source: Beltagy, Peters, Cohan, "Longformer", arXiv:2004.05150, section 3.1, with one rate for all heads.

    Cost: O(b q w d) time, O(b q (h w + d)) memory: places that agree mod r slide a window among themselves.

    Example:
        >>> layer = Dilated(DilatedConfig(dim=1, window=1, rate=2))
        >>> query, pairs = torch.zeros(1, 1, 1), Pairs(torch.ones(1, 4).bool())
        >>> layer.weights(query, torch.zeros(1, 4, 1), None, pairs)[0, 0].tolist()
        [[0.0, 0.5, 0.0, 0.5]]
    """

    family = "core"
    config: DilatedConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        window, rate, queries = self.config.window, self.config.rate, query.shape[2]
        classes = min(queries, rate)
        query, key, value = (
            by_class(part, rate, classes) for part in (query, key, value)
        )  # (b, h, r, k/r, c)
        key_mask = by_class(pairs.key_mask[:, None, :, None], rate, classes)
        query, key, value = (part.transpose(1, 2).flatten(0, 1) for part in (query, key, value))
        seen = key_mask[:, 0, ..., 0].flatten(0, 1)  # (b r, k/r)
        mixed, _ = window_part(query, key, value, seen, window, places_ahead(window, query, pairs))
        return from_class(mixed.unflatten(0, (-1, classes)).transpose(1, 2), queries)


@dataclass(frozen=True)
class StridedConfig(AttentionConfig):
    """Settings of :class:`Strided`."""

    stride: int = 8
    """Places l from one far key to the next, and the width of the near ones, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("stride", self.stride, 1)


@attentions.register("strided", StridedConfig)
class Strided(WindowedAttention):
    """The nearest l places and every l-th beyond them: abs(i − j) < l or (i − j) mod l = 0.

    Source: Child et al., "Generating Long Sequences with Sparse Transformers", 2019, arXiv:1904.10509,
    strided attention, both patterns in one head, under one softmax; l near √k is cheapest.

    Cost: O(b q (l + k / l) d) time, O(b h q (l + k / l)) memory.

    Example:
        >>> layer = Strided(StridedConfig(dim=1, stride=2))
        >>> query, pairs = torch.zeros(1, 1, 1), Pairs(torch.ones(1, 6).bool())
        >>> layer.weights(query, torch.zeros(1, 6, 1), None, pairs)[0, 0].tolist()
        [[0.0, 0.25, 0.0, 0.25, 0.25, 0.25]]
    """

    family = "core"
    config: StridedConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        near = self.config.stride - 1
        window = window_part(query, key, value, pairs.key_mask, near, places_ahead(near, query, pairs))
        return joined([window, self._far(query, key, value, pairs)])

    def _far(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Part:
        """Places that agree mod l, but for the query's own, which the window holds."""
        stride, queries = self.config.stride, query.shape[2]
        classes = min(queries, stride)
        query, key, value = (by_class(part, stride, classes) for part in (query, key, value))
        key_mask = by_class(pairs.key_mask[:, None, :, None], stride, classes)[:, 0, :, None, :, 0]
        rows, columns = query.shape[3], key.shape[3]
        places = torch.arange(columns, device=key.device)
        steps = places[columns - rows :, None] - places  # (rows, columns) of l places
        open_ = steps > 0 if pairs.is_causal else steps != 0
        mixed, log_sum = softmax_part(query, key, value, key_mask & open_)
        return from_class(mixed, queries), from_class(log_sum, queries)


def softmax_part(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Part:
    """Softmax over some keys: (b, h, …, q, c), twice (b, h, …, m, c), (b, …, q or 1, m) bool -> Part."""
    scores = query @ key.transpose(-1, -2)
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~visible[:, None], lowest)
    log_sum = scores.logsumexp(-1, keepdim=True)
    return (scores.softmax(-1) @ value) * (log_sum > lowest), log_sum


def joined(parts: Sequence[Part]) -> Tensor:
    """(b, h, q, c) softmax over the keys of all parts, none of which may hold a key of another."""
    share = torch.cat([log_sum for _, log_sum in parts], -1).softmax(-1).unbind(-1)
    answer = parts[0][0] * share[0][..., None]
    for (mixed, _), of_part in zip(parts[1:], share[1:], strict=True):
        answer = answer.addcmul(mixed, of_part[..., None])
    return answer


def window_part(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
    back: int,
    ahead: int,
    allowed: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Part:
    """Query i over the keys i − back .. i + ahead; ``allowed`` narrows that.

    Args:
        query: (b, h, q, c).
        key: (b, h, k, c).
        value: (b, h, k, c').
        key_mask: (b, k) bool, True where a key may be seen.
        back: places seen before the query's own.
        ahead: places seen after it.
        allowed: (n, s, 1) places of queries and (n, 1, m) of keys -> (b or 1, n, s, m) bool.

    Cost: O(b q (back + ahead + BLOCK) d).
    """
    queries, keys = query.shape[2], key.shape[2]
    back, ahead = (min(reach, max(queries, keys)) for reach in (back, ahead))  # no further than there is any
    block = min(BLOCK, queries)
    blocks, stretch = -(-queries // block), block + back + ahead
    more = blocks * block - queries
    reach = (back - (keys - queries), more + ahead)  # a negative one cuts
    query = pad(query, (0, 0, 0, more)).unflatten(2, (blocks, block))  # (b, h, n, s, c)
    key, value = (
        pad(part, (0, 0, *reach)).unfold(2, stretch, block).transpose(-1, -2) for part in (key, value)
    )  # (b, h, n, m, c)
    place = torch.arange(stretch, device=key.device) - back  # of keys, from the block's first query on
    offset = place - torch.arange(block, device=key.device)[:, None]  # (s, m)
    visible = pad(key_mask, reach).unfold(1, stretch, block)[:, :, None]  # (b, n, 1, m)
    visible = visible & (offset >= -back) & (offset <= ahead)
    if allowed is not None:
        start = keys - queries + block * torch.arange(blocks, device=key.device)[:, None, None]
        visible = visible & allowed(start + place[back : back + block, None], start + place)
    mixed, log_sum = softmax_part(query, key, value, visible)
    return mixed.flatten(2, 3)[:, :, :queries], log_sum.flatten(2, 3)[:, :, :queries]


def chunks_part(query: Tensor, key: Tensor, value: Tensor, pairs: Pairs, width: int, before: int) -> Part:
    """Query i over its own chunk of ``width`` places and the ``before`` chunks that precede it."""
    first = first_place(pairs)[:, None, None, None]

    def allowed(of_query: Tensor, of_key: Tensor) -> Tensor:
        chunks_back = (of_query - first) // width - (of_key - first) // width
        return (chunks_back >= 0) & (chunks_back <= before)

    back, later = (before + 1) * width - 1, places_ahead(width - 1, query, pairs)
    return window_part(query, key, value, pairs.key_mask, back, later, allowed)


def places_ahead(window: int, query: Tensor, pairs: Pairs) -> int:
    """Places after its own that a query sees: none when causal, nor after the last place."""
    return 0 if pairs.is_causal or query.shape[2] == 1 else window


def by_class(features: Tensor, modulus: int, classes: int) -> Tensor:
    """(b, h, n, c) -> (b, h, classes, ⌈n / modulus⌉, c): places that agree mod ``modulus``, the last classes.

    The last place is the last of the last class; zeros fill up before the first.
    """
    filled = pad(features, (0, 0, -features.shape[2] % modulus, 0)).unflatten(2, (-1, modulus))
    return filled[:, :, :, modulus - classes :].transpose(2, 3)


def from_class(features: Tensor, queries: int) -> Tensor:
    """(b, h, classes, rows, c) -> (b, h, q, c): undoes :func:`by_class`."""
    return features.transpose(2, 3).flatten(2, 3)[:, :, -queries:]


def one_hot(key: Tensor) -> Tensor:
    """(b, h, k, c) -> (b, h, k, k) values of which an answer is the weights."""
    b, h, k, _ = key.shape
    return torch.eye(k, dtype=key.dtype, device=key.device).expand(b, h, k, k)


def check_least(name: str, value: int, least: int) -> None:
    """Refuses a setting that is too small, by name."""
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}: set a larger one")
