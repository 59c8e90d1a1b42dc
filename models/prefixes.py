"""How an attention reads sequences so that no place hears what comes later: whole where it can hide that
itself, each place with its own beginning where it cannot.

b sequences · l places of a sequence · m places that are read apart · k places up to theirs · d width."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.attention import Attention, Pairs

PERSON, CONTENT = 0, 1
"""Node types of who reads and of what is read."""
TYPES, RELATIONS, EDGE_WIDTH = 2, 1, 2
"""Sizes of what :class:`Places` tells an attention."""
DAY_S = 86_400
AT_ONCE, KEPT = 2**22, 2**24
"""Numbers m · k · d that are gathered at once, and that are kept for the gradient: of more than these each
part is computed anew when its gradient is taken."""
STRETCHES = 4
"""Parts of a sequence at least: a beginning is read with no more padding than its part is long."""


@dataclass(frozen=True)
class Places:
    """What is known of each place besides its features; the query of a place is the person at that time."""

    is_there: Tensor
    """(b, l) bool, False for padding, which stands before the first."""
    time_s: Tensor | None = None
    """(b, l) int64 UTC seconds, ascending; None where nobody told when."""
    degree: Tensor | None = None
    """(b, l) likes of what stands there in training; needed where the attention states ``uses_degree``."""


def read(attention: Attention, hidden: Tensor, places: Places, only_last: bool = False) -> Tensor:
    """What each place hears of itself and those before it.

    Args:
        attention: any registered one.
        hidden: (b, l, d).
        places: of ``hidden``.
        only_last: True if only the last place asks.

    Returns:
        (b, l, d), or (b, 1, d) of the last place; zeros for padding.

    Cost: O(b l² d) where each place is read with its own beginning, what the attention takes for l queries
    where it hides what comes later; memory stays below some multiples of ``KEPT``.

    Example:
        >>> from models.attention import attentions
        >>> mean, hidden = attentions.build("mean", {"dim": 1}), torch.tensor([[[1.0], [3.0], [8.0]]])
        >>> read(mean, hidden, Places(torch.ones(1, 3, dtype=torch.bool))).flatten().tolist()
        [1.0, 2.0, 4.0]
    """
    if only_last:
        b, length = places.is_there.shape
        row = torch.arange(b, device=hidden.device)
        key = torch.arange(length, device=hidden.device).expand(b, length)
        pairs = _beginnings(attention, hidden.dtype, places, row, key, places.is_there)
        return attention(hidden[:, -1:], hidden, None, pairs)
    if attention.causal and not (attention.uses_age or attention.uses_edge):
        there = places.is_there
        return attention(hidden, hidden, None, _pairs(attention, there, there.cumsum(1), places.degree, True))
    return _apart(attention, hidden, places)


def _apart(attention: Attention, hidden: Tensor, places: Places) -> Tensor:
    """(b, l, d) -> (b, l, d): each place asks alone, over its own beginning."""
    b, length, d = hidden.shape
    heard = torch.zeros_like(hidden)
    is_kept = b * length**2 * d <= KEPT or not torch.is_grad_enabled()
    for rows, ends in _parts(b, length, d):
        some, there = hidden[rows, : ends.stop], places.is_there[rows]
        row, end = there[:, ends].nonzero(as_tuple=True)
        if not len(row):
            continue
        given = some, Places(*(None if part is None else part[rows] for part in vars(places).values()))
        asked = row, end + ends.start
        if is_kept:
            mixed = _heard(attention, *given, *asked)
        else:
            mixed = checkpoint(_heard, attention, *given, *asked, use_reentrant=False)
        heard[row + rows.start, asked[1]] = mixed.to(heard.dtype)
    return heard


def _parts(b: int, length: int, d: int) -> Iterator[tuple[slice, slice]]:
    """Slices of sequences and of places whose beginnings together stay within ``AT_ONCE``."""
    ends = max(1, min(-(-length // STRETCHES), AT_ONCE // (length * d)))
    many = max(1, AT_ONCE // (ends * length * d))
    for row in range(0, b, many):
        for end in range(0, length, ends):
            yield slice(row, min(row + many, b)), slice(end, min(end + ends, length))


def _heard(attention: Attention, hidden: Tensor, places: Places, row: Tensor, end: Tensor) -> Tensor:
    """(r, k, d) sequences, (m,) their rows and the places that ask -> (m, d)."""
    k = hidden.shape[1]
    key = torch.arange(k, device=end.device) + end[:, None] - (k - 1)  # (m, k): the one that asks stands last
    is_key = key >= 0
    key = key.clamp(min=0)
    pairs = _beginnings(
        attention, hidden.dtype, places, row, key, places.is_there[row[:, None], key] & is_key
    )
    source, query = hidden.flatten(0, 1), hidden[row, end][:, None]
    return attention(query, source, row[:, None] * k + key, pairs)[:, 0]


def _beginnings(
    attention: Attention, dtype: torch.dtype, places: Places, row: Tensor, key: Tensor, key_mask: Tensor
) -> Pairs:
    """Of m places that ask alone: (m,) their sequences, (m, k) the places they read, themselves last."""
    at = row[:, None], key
    degree = None if places.degree is None else places.degree[at]
    pairs = _pairs(attention, key_mask, key_mask.sum(1, keepdim=True), degree)
    if not (attention.uses_age or attention.uses_edge):
        return pairs
    age_s = torch.zeros_like(key)
    if places.time_s is not None:
        when = places.time_s[at]
        age_s = (when[:, -1:] - when).masked_fill(~key_mask, 0)
    age_s = age_s.to(torch.promote_types(dtype, torch.float32))
    if attention.uses_age:
        pairs = replace(pairs, age_s=age_s)
    if attention.uses_edge:
        is_timed = torch.full_like(age_s, places.time_s is not None)
        pairs = replace(pairs, edge=torch.stack([(age_s / DAY_S).log1p() / 10, is_timed], -1).to(dtype))
    return pairs


def _pairs(
    attention: Attention,
    key_mask: Tensor,
    query_degree: Tensor,
    key_degree: Tensor | None,
    is_causal: bool = False,
) -> Pairs:
    """What the attention states to read, but for ages."""
    key_type = torch.full_like(key_mask, CONTENT, dtype=torch.int64)
    return Pairs(
        key_mask,
        is_causal,
        relation=torch.zeros_like(key_type) if attention.uses_relation else None,
        query_type=torch.full_like(query_degree, PERSON) if attention.uses_type else None,
        key_type=key_type if attention.uses_type else None,
        query_degree=query_degree if attention.uses_degree else None,
        key_degree=key_degree if attention.uses_degree else None,
    )
