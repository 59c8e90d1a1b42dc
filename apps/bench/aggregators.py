"""GAT and the mean beside DGL's own layers, in turn, on the same sampled block with the same parameters.

b targets · k neighbours · s source rows · d width · h heads."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.attention import Attention, Pairs, attentions
from models.neighbourhood import Block, Edges, TorchSampler

BAR = "<= 1.2"
THREADS = (1, 2)
WARM_UP = 3
"""Rounds that nobody counts: DGL sorts the edges of a block in the first."""


@dataclass(frozen=True)
class Shape:
    """A made-up graph of users and contents whose degrees follow a power law, and one block of it."""

    users: int = 950
    contents: int = 1_600
    pairs: int = 55_000
    """Of a user and a content; edges go both ways. As many as MovieLens-100K has of 4 of 5 stars or more."""
    targets: int = 2_048
    fan_out: int = 25
    d: int = 64


@dataclass(frozen=True)
class Row:
    """What ours and DGL's layer took, forward and backward."""

    what: str
    shape: str
    seconds: float
    """Median of ours."""
    reference_s: float
    """Median of DGL's."""
    ratio: float
    """Median of ours over DGL's, each pair measured in turn."""
    bar: str = BAR


@dataclass(frozen=True)
class _Sides:
    """The same function twice: each maps (s, d) features of the block's rows to (b, d)."""

    what: str
    ours: Callable[[Tensor], Tensor]
    theirs: Callable[[Tensor], Tensor]
    learned: tuple[Attention, nn.Module]


def measure(repetitions: int, shape: Shape | None = None) -> list[Row]:
    """Times GAT with one head and four and GraphSAGE's mean, each beside DGL's, with one thread and two.

    Before that each side answers once, and must answer alike. Ours finds the edges of each row anew in every
    backward pass; DGL keeps them with the block, though in training each block is new: that favours DGL.

    Args:
        repetitions: of each, 1 or more.
        shape: of the graph and the block; that of MovieLens-100K where none is given.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be 1 or more, got {repetitions}")
    shape = shape or Shape()
    block = _block(shape)
    source = torch.randn(len(block.source), shape.d, generator=torch.Generator().manual_seed(0))
    gradient = torch.ones(len(block.neighbours), shape.d)
    rows = []
    for sides in _sides(block, shape):
        _same(sides, source, gradient)
        for threads in THREADS:
            with _threads(threads):
                what = f"{sides.what}, {threads} thread{'s' * (threads > 1)}"
                rows.append(_row(what, sides, source, gradient, repetitions, _said(block)))
    return rows


def _sides(block: Block, shape: Shape) -> Iterator[_Sides]:
    dgl = _dgl()
    target, column = block.key_mask.nonzero().unbind(1)
    graph = dgl.create_block(
        (block.neighbours[target, column], target), len(block.source), len(block.neighbours)
    )
    for heads in (1, 4):
        ours = attentions.build("gat", {"dim": shape.d, "heads": heads})
        theirs = dgl.nn.GATConv(shape.d, shape.d // heads, heads, bias=False)
        theirs.fc.weight.data = ours.projection.weight.detach().clone()
        theirs.attn_r.data[0], theirs.attn_l.data[0] = ours.of_query.detach(), ours.of_key.detach()
        yield _Sides(f"gat, h={heads}", *_calls(ours, theirs, graph, block), (ours, theirs))
    ours = attentions.build("graphsage", {"dim": shape.d})
    theirs = dgl.nn.SAGEConv(shape.d, shape.d, "mean", bias=False)
    theirs.fc_self.weight.data, theirs.fc_neigh.weight.data = (
        part.clone() for part in ours.weight.weight.detach().split(shape.d, 1)
    )
    yield _Sides("graphsage mean", *_calls(ours, theirs, graph, block), (ours, theirs))


def _calls(
    ours: Attention, theirs: nn.Module, graph: Any, block: Block
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    pairs, targets = Pairs(block.key_mask), len(block.neighbours)
    return (
        lambda source: ours(source[:targets, None], source, block.neighbours, pairs)[:, 0],
        lambda source: theirs(graph, source).flatten(1),
    )


def _block(shape: Shape) -> Block:
    draw = np.random.default_rng(0)
    user, content = (1 + draw.pareto(1.2, size) for size in (shape.users, shape.contents))
    chance = np.outer(user, content)
    chosen = draw.choice(chance.size, shape.pairs, replace=False, p=(chance / chance.sum()).ravel())
    users, contents = (torch.from_numpy(part) for part in np.divmod(chosen, shape.contents))
    contents = contents + shape.users
    source, target = torch.cat([users, contents]), torch.cat([contents, users])
    nodes = shape.users + shape.contents
    sampler = TorchSampler(Edges(source, target, torch.zeros_like(source), nodes, 1))
    shuffled = torch.randperm(nodes, generator=torch.Generator().manual_seed(0))
    linked = shuffled[torch.isin(shuffled, target)]  # without any, DGL's mean hands on the target, ours zeros
    return sampler.sample(linked[: shape.targets], (shape.fan_out,))[0]


def _said(block: Block) -> str:
    b, k = block.neighbours.shape
    return f"b={b} k={k} s={len(block.source)} edges={int(block.key_mask.sum())}"


def _same(sides: _Sides, source: Tensor, gradient: Tensor) -> None:
    """Refuses two sides whose answers or gradients of the features are apart."""
    for found, wanted in zip(*(_run(sides, at, source, gradient) for at in (0, 1)), strict=True):
        torch.testing.assert_close(
            found, wanted, atol=1e-4, rtol=1e-4, msg=lambda text: f"{sides.what} and DGL differ: {text}"
        )


def _run(sides: _Sides, at: int, source: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and backward of ours (0) or DGL's (1): (b, d) answer and (s, d) gradient of the features."""
    source = source.detach().requires_grad_()
    answer = (sides.ours, sides.theirs)[at](source)
    return answer, torch.autograd.grad(answer, (source, *sides.learned[at].parameters()), gradient)[0]


def _row(what: str, sides: _Sides, source: Tensor, gradient: Tensor, repetitions: int, said: str) -> Row:
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + repetitions):
        for at in (0, 1) if turn % 2 else (1, 0):  # nobody always comes after the same
            started = time.perf_counter()
            _run(sides, at, source, gradient)
            taken[at].append(time.perf_counter() - started)
    ours, theirs = (times[WARM_UP:] for times in taken)
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Row(what, said, median(ours), median(theirs), ratio)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """DGL counts its threads beside torch's."""
    dgl, before = _dgl(), torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        dgl.utils.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
        dgl.utils.set_num_threads(before)


def _dgl() -> Any:
    os.environ.setdefault("DGLBACKEND", "pytorch")  # otherwise dgl writes a file into the home folder
    import dgl  # here: it takes seconds, and only this bench needs it

    return dgl
