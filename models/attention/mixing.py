"""Weighted sums of gathered rows, fused: no tensor of neighbours by width is built where one query asks.

b targets in the batch · q queries per target · k neighbours · s distinct source rows · d feature width ·
h heads · c = d // h."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from models.attention.base import gather, join_heads, split_heads


def mixed(weights: Tensor, source: Tensor, neighbours: Tensor | None) -> Tensor:
    """Sum of each query's neighbours by weight, head by head.

    Args:
        weights: (b, h, q or 1, k), 0 where a neighbour may not be seen.
        source: (s, d) with ``neighbours``, or (b, k, d) without.
        neighbours: (b, k) int64 rows of ``source``, or None.

    Returns:
        (b, q or 1, d).

    Cost: O(b h q k c) time. With rows and one query O(b d + b h k) memory, otherwise O(b k d).

    Example:
        >>> source, neighbours = torch.tensor([[1.0, 5.0], [3.0, 7.0]]), torch.tensor([[0, 1, 1]])
        >>> mixed(torch.tensor([[[[0.5, 0.25, 0.0]]]]), source, neighbours).tolist()
        [[[1.25, 4.25]]]
    """
    if neighbours is None or weights.shape[2] != 1 or not weights.shape[3]:
        return join_heads(weights @ split_heads(gather(source, neighbours), weights.shape[1]))
    return _RowSum.apply(source, neighbours, weights[:, :, 0].transpose(0, 1).contiguous())[:, None]


class _RowSum(torch.autograd.Function):
    """(s, d) rows, (b, k) places and (h, b, k) weights -> (b, d), by a bag of rows per head and target.

    Its own backward: the gradient of a row is a bag too, of the targets that read it. Torch's gradient of
    ``embedding_bag`` adds them one by one instead, which took three times as long.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, neighbours: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(source, neighbours, weights)
        heads = len(weights)
        rows, table = _rows(neighbours, heads, source.shape[0]), _by_head(source, heads)
        return _joined(
            embedding_bag(rows, table, mode="sum", per_sample_weights=weights.flatten(0, 1)), heads
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        source, neighbours, weights = ctx.saved_tensors
        of_source = of_weights = None
        if ctx.needs_input_grad[0]:
            of_source = _of_source(gradient, neighbours, weights, source.shape[0])
        if ctx.needs_input_grad[2]:
            each = gather(source, neighbours).mul_(gradient[:, None])  # (b, k, d)
            of_weights = each.unflatten(-1, (len(weights), -1)).sum(-1).permute(2, 0, 1)
        return of_source, None, of_weights


def _of_source(gradient: Tensor, neighbours: Tensor, weights: Tensor, count: int) -> Tensor:
    """(b, d) gradients of targets -> (s, d) gradients of the rows that they read by (h, b, k) weights."""
    heads, targets, k = weights.shape
    row = neighbours.flatten()
    readers = row.bincount(minlength=count)
    order = row.to(torch.int16 if count < 2**15 else torch.int32).argsort()  # the narrower, the quicker
    target = torch.arange(targets, device=row.device)[:, None].expand(-1, k).reshape(-1)  # (b k,)
    reader = _rows(target.index_select(0, order), heads, targets)  # (h b k,) rows of the gradient by head
    first = _rows(readers.cumsum(0) - readers, heads, len(row))  # (h s,)
    read = weights.flatten(1).index_select(1, order).flatten()  # (h b k,)
    bags = embedding_bag(reader, _by_head(gradient, heads), first, mode="sum", per_sample_weights=read)
    return _joined(bags, heads)


def _rows(rows: Tensor, heads: int, count: int) -> Tensor:
    """(n, …) rows of (count, d) -> (h n, …) rows of the same by head, (h count, c)."""
    if heads == 1:
        return rows
    head = count * torch.arange(heads, device=rows.device)
    return (rows + head.view(-1, *[1] * rows.ndim)).flatten(0, 1)


def _by_head(features: Tensor, heads: int) -> Tensor:
    """(n, d) -> (h n, c)."""
    return features.unflatten(-1, (heads, -1)).transpose(0, 1).reshape(-1, features.shape[-1] // heads)


def _joined(features: Tensor, heads: int) -> Tensor:
    """(h n, c) -> (n, d)."""
    return features.unflatten(0, (heads, -1)).transpose(0, 1).flatten(1)
