"""Attention to a few global tokens beside a window, without a tensor of queries by keys.

| name | query i sees key j | source | cost |
|---|---|---|---|
| global | a token is i or j, or i = j | Ainslie et al. 2020 | O(b (q + k) g d) |
| longformer | a token is i or j, or abs(i − j) ≤ w | Beltagy et al. 2020 | O(b (q (w + g) + k g) d) |
| big_bird | as longformer, or j is drawn for i | Zaheer et al. 2020 | O(b (q (w + g + r) + k g) d) |

The global tokens are the g oldest places, counted from the first neighbour there is: what stands there is
seen by all queries, and sees all keys where it is itself a query. Causal, nobody sees what is later.

b targets in the batch · q queries per target · k neighbours · d feature width · h heads · c = d // h ·
g tokens · w window · r draws."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from models.attention.base import (
    AttentionConfig,
    Pairs,
    attentions,
    first_place,
    gather,
    key_place,
    query_place,
    split_heads,
)
from models.attention.windowed import (
    Part,
    WindowedAttention,
    check_least,
    joined,
    places_ahead,
    softmax_part,
    window_part,
)


@dataclass(frozen=True)
class GlobalConfig(AttentionConfig):
    """Settings of :class:`GlobalAttention`."""

    tokens: int = 4
    """Oldest places g that see all and are seen by all, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("tokens", self.tokens, 1)


@attentions.register("global", GlobalConfig)
class GlobalAttention(WindowedAttention):
    """The g oldest places see all and are seen by all; every other query sees those and its own place.

    Source: Ainslie et al., "ETC: Encoding Long and Structured Inputs in Transformers", EMNLP 2020,
    arXiv:2004.08483, global-local attention, with a window of radius 0 and tokens taken from the input.

    Cost: O(b (q + k) g d) time, O(b (q + k) (h g + d)) memory.

    Example:
        >>> layer, pairs = GlobalAttention(GlobalConfig(dim=1, tokens=1)), Pairs(torch.ones(1, 4).bool())
        >>> layer.weights(torch.zeros(1, 4, 1), torch.zeros(1, 4, 1), None, pairs)[0, 0, [0, 3]].tolist()
        [[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, 0.0, 0.5]]
    """

    family = "core"
    config: GlobalConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        tokens, queries = self.config.tokens, query.shape[2]
        place = query_place(pairs, queries) - first_place(pairs)[:, None]  # (b, q)
        own = single_part(query, key, value, pairs, place, place >= tokens)
        mixed = joined([tokens_part(query, key, value, pairs, tokens), own])
        if not places_ahead(1, query, pairs):  # a token sees only tokens, as any query does
            return mixed
        return from_tokens(mixed, query, key, value, pairs, tokens)


@dataclass(frozen=True)
class LongformerConfig(AttentionConfig):
    """Settings of :class:`Longformer`."""

    window: int = 8
    """Furthest place w seen to either side, >= 0."""
    tokens: int = 2
    """Oldest places g that see all and are seen by all, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("window", self.window, 0)
        check_least("tokens", self.tokens, 1)


@attentions.register("longformer", LongformerConfig)
class Longformer(WindowedAttention):
    """A sliding window and global tokens, whose own queries go by projections Q_g, K_g, V_g of their own.

    All other queries see the tokens by the K and V of their window. Q_g, K_g, V_g start equal to Q, K, V.

    Source: Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer", 2020, arXiv:2004.05150,
    section 3.1, without dilation. The paper chooses tokens by the task; ours are the oldest.

    Cost: O(b (q (w + g) + k g) d) time, O(b q (h (w + g) + d) + b k (h g + d)) memory, and 3 d² parameters
    more than a window. A query alone stands last and is a token only where it has g neighbours or fewer:
    used so, Q_g, K_g and V_g learn from those alone.

    Example:
        >>> layer = Longformer(LongformerConfig(dim=1, window=1, tokens=1))
        >>> query, pairs = torch.zeros(1, 1, 1), Pairs(torch.ones(1, 5).bool())
        >>> layer.weights(query, torch.zeros(1, 5, 1), None, pairs).mul(6).round().tolist()
        [[[[2.0, 0.0, 0.0, 2.0, 2.0]]]]
    """

    family = "specialised"
    config: LongformerConfig

    def __init__(self, config: LongformerConfig) -> None:
        super().__init__(config)
        self.global_projections = copy.deepcopy(self.projections)

    def projected(
        self, query: Tensor, source: Tensor, neighbours: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, 2 h, q, c), twice (b, 2 h, k, c): the heads of Q, K, V, then those of Q_g, K_g, V_g."""
        both = self._both("query", query), self._both("key", source), self._both("value", source)
        query, key, value = both[0], gather(both[1], neighbours), gather(both[2], neighbours)
        query, key, value = (split_heads(part, 2 * self.config.heads) for part in (query, key, value))
        return query, key, value

    def _both(self, role: str, features: Tensor) -> Tensor:
        """(…, d) -> (…, 2 d): projected as its role asks, then as the tokens' own does."""
        weights = [self.projections[role].weight, self.global_projections[role].weight]
        return linear(features, torch.cat(weights))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        near, of_tokens = zip(*(part.chunk(2, 1) for part in (query, key, value)), strict=True)
        config, (query, key, value) = self.config, near
        mixed = joined(window_and_tokens(query, key, value, pairs, config.window, config.tokens))
        return from_tokens(mixed, *of_tokens, pairs, config.tokens)


@dataclass(frozen=True)
class BigBirdConfig(AttentionConfig):
    """Settings of :class:`BigBird`."""

    window: int = 8
    """Furthest place w seen to either side, >= 0."""
    tokens: int = 2
    """Oldest places g that see all and are seen by all, >= 1."""
    draws: int = 3
    """Keys r drawn for each query among those that it does not see anyhow, >= 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least("window", self.window, 0)
        check_least("tokens", self.tokens, 1)
        check_least("draws", self.draws, 1)


@attentions.register("big_bird", BigBirdConfig)
class BigBird(WindowedAttention):
    """A sliding window, global tokens, and r keys drawn for each query, under one softmax.

    What is neither in the window nor a token is cut into r stretches of equal length, and a fixed hash of the
    query's place and the draw picks one key of each: so no key is seen twice, and the same set gives the same
    answer. A causal query draws among the keys before it, any other among all.

    Source: Zaheer et al., "Big Bird: Transformers for Longer Sequences", NeurIPS 2020, arXiv:2007.14062,
    section 2, internal global tokens. Ours counts places where the paper counts blocks, and its draws are
    stratified.

    Cost: O(b (q (w + g + r) + k g) d) time, O(b q (h (w + g) + r d) + b k (h g + d)) memory.

    Example:
        >>> layer = BigBird(BigBirdConfig(dim=1, window=1, tokens=1, draws=2))
        >>> query, pairs = torch.zeros(1, 1, 1), Pairs(torch.ones(1, 5).bool())
        >>> layer.weights(query, torch.zeros(1, 5, 1), None, pairs).mul(5).round().tolist()
        [[[[1.0, 1.0, 1.0, 1.0, 1.0]]]]
    """

    family = "specialised"
    config: BigBirdConfig

    def attend(self, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        config = self.config
        parts = window_and_tokens(query, key, value, pairs, config.window, config.tokens)
        drawn = [
            single_part(query, key, value, pairs, place, is_drawn)
            for place, is_drawn in zip(*self._drawn(pairs, query.shape[2]), strict=True)
        ]
        mixed = joined([*parts, *drawn])
        if not places_ahead(1, query, pairs):  # a token sees only tokens, as any query does
            return mixed
        return from_tokens(mixed, query, key, value, pairs, config.tokens)

    def _drawn(self, pairs: Pairs, queries: int) -> tuple[Tensor, Tensor]:
        """(r, b, q) places from the first neighbour on and (r, b, q) bool, False where none was left."""
        window, tokens, draws = self.config.window, self.config.tokens, self.config.draws
        draw = torch.arange(draws, device=pairs.key_mask.device)[:, None, None]
        first = first_place(pairs)[:, None]
        place = query_place(pairs, queries) - first  # (b, q)
        end = place + 1 if pairs.is_causal else pairs.key_mask.shape[1] - first
        before = (place - window - tokens).clamp(min=0)  # left to draw between tokens and window
        after = (place + window + 1).clamp(min=tokens)  # where the window, or the tokens, end
        left = before + (end - after).clamp(min=0)
        start, stop = left * draw // draws, left * (draw + 1) // draws  # (r, b, q) stretches
        among = start + scattered(place, draw) % (stop - start).clamp(min=1)
        return torch.where(among < before, tokens + among, after + among - before), stop > start


def window_and_tokens(
    query: Tensor, key: Tensor, value: Tensor, pairs: Pairs, window: int, tokens: int
) -> tuple[Part, Part]:
    """Each query over its window, then over the global tokens, none of which the window holds too."""
    is_token = key_place(pairs) < first_place(pairs)[:, None] + tokens  # or padding before them
    near = window_part(
        query, key, value, pairs.key_mask & ~is_token, window, places_ahead(window, query, pairs)
    )
    return near, tokens_part(query, key, value, pairs, tokens)


def tokens_part(query: Tensor, key: Tensor, value: Tensor, pairs: Pairs, tokens: int) -> Part:
    """Each query over the global tokens: (b, h, q, c), (b, h, k, c), (b, h, k, c')."""
    place = first_place(pairs)[:, None] + torch.arange(tokens, device=key.device)  # (b, g)
    visible = exists(pairs.key_mask, place)[:, None]  # (b, 1, g)
    if pairs.is_causal:
        visible = visible & (place[:, None] <= query_place(pairs, query.shape[2])[:, None])
    return softmax_part(query, pick(key, place), pick(value, place), visible)


def single_part(
    query: Tensor, key: Tensor, value: Tensor, pairs: Pairs, place: Tensor, visible: Tensor
) -> Part:
    """Each query over one key of its own, (b, q) places from the first neighbour on, where ``visible``."""
    place = place + first_place(pairs)[:, None]
    visible = (visible & exists(pairs.key_mask, place))[:, None, :, None]  # (b, 1, q, 1)
    score = (query * pick(key, place)).sum(-1, keepdim=True)
    return pick(value, place) * visible, score.masked_fill(~visible, torch.finfo(score.dtype).min)


def from_tokens(
    mixed: Tensor, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs, tokens: int
) -> Tensor:
    """(b, h, q, c') answers, those of global tokens replaced by what they hear from all keys they may see."""
    queries = query.shape[2]
    start = first_place(pairs)[:, None] - query_place(pairs, queries)[:1]  # (b, 1) the first token's query
    index = torch.arange(queries, device=query.device) - start  # (b, q)
    is_token = ((index >= 0) & (index < tokens))[:, None, :, None]
    if not places_ahead(1, query, pairs):  # what a token may see are tokens
        return torch.where(is_token, tokens_part(query, key, value, pairs, tokens)[0], mixed)
    count = min(tokens, queries)
    start = start.clamp(0, queries - count)
    chosen = pick(query, start + torch.arange(count, device=query.device))  # (b, h, count, c)
    answer, _ = softmax_part(chosen, key, value, pairs.key_mask[:, None])
    back = (torch.arange(queries, device=query.device) - start).clamp(0, count - 1)
    return torch.where(is_token, pick(answer, back), mixed)


def pick(features: Tensor, places: Tensor) -> Tensor:
    """(b, h, k, c) and (b, …) places -> (b, h, …, c); a place out of 0..k−1 takes the nearest there is."""
    b, h, k, c = features.shape
    of_head = k * torch.arange(b * h, device=places.device).view(b, h, 1)
    rows = of_head + places.clamp(0, k - 1).flatten(1)[:, None]  # (b, h, …) of all heads' keys in one list
    return features.reshape(b * h * k, c).index_select(0, rows.flatten()).view(b, h, *places.shape[1:], c)


def exists(key_mask: Tensor, places: Tensor) -> Tensor:
    """(b, k) bool and (b, m) places -> (b, m) bool, False too where there is no such place."""
    last = key_mask.shape[1] - 1
    return key_mask.gather(1, places.clamp(0, last)) & (places >= 0) & (places <= last)


def scattered(place: Tensor, draw: Tensor) -> Tensor:
    """Fixed hash of two int64 tensors into 0..2³²−1: multiply and fold, twice, as 32-bit finalisers do."""
    mixed = (place * 0x9E3779B1 + draw * 0x5851F42D) & 0xFFFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 16)) * 0x7FEB352D) & 0xFFFFFFFF  # below 2⁶³ before it is cut
    return mixed ^ (mixed >> 15)
