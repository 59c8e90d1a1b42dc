"""Dense attention beside torch's ``scaled_dot_product_attention`` with the same projections, in turn.

b targets · q queries per target · k neighbours · s source rows · d width · h heads."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from models.attention import Pairs, attentions
from models.attention.base import ProjectedAttention, gather, join_heads, split_heads

OURS = ("multi_head", "flash")
BAR = "<= 1.15"
WARM_UP = 2
"""Rounds that nobody counts."""


@dataclass(frozen=True)
class Shape:
    """One task: how many of what, and what may be seen."""

    what: str
    b: int
    q: int
    k: int
    d: int
    h: int
    rows: int
    """Distinct source rows s that neighbours are drawn from; 0 hands in (b, k, d)."""
    is_causal: bool = False
    has_padding: bool = True
    """True lets targets have fewer than k neighbours."""

    def __str__(self) -> str:
        order = ", causal" if self.is_causal else ""
        return f"{self.what}: b={self.b} q={self.q} k={self.k} d={self.d} h={self.h}{order}"


SHAPES = (
    Shape("neighbourhood", 2048, 1, 25, 64, 4, rows=10_000),
    Shape("history", 64, 50, 50, 64, 2, rows=0, is_causal=True),
    Shape("long", 1, 4096, 4096, 64, 1, rows=0, has_padding=False),
)


@dataclass(frozen=True)
class Row:
    """What one mechanism took in one direction at one shape."""

    what: str
    shape: str
    seconds: float
    """Median."""
    reference_s: float
    """Median of torch's."""
    ratio: float
    """Median of ours over the reference's, each pair measured in turn."""
    bar: str = BAR


Call = Callable[[], Tensor]


def measure(repetitions: int) -> list[Row]:
    """Times ``multi_head`` and ``flash`` and torch's function in turn, so that a noisy minute meets all.

    All of them read the same weights, rows and masks and build what they need of a mask themselves; torch's
    function is asked as its manual says, with a dense mask where order and padding meet and with none where
    everybody sees everything.

    Args:
        repetitions: of each, 1 or more.
    """
    if repetitions < 1:
        raise ValueError(f"repetitions must be 1 or more, got {repetitions}")
    rows = []
    for shape in SHAPES:
        for direction, runs in _directions(shape):
            taken = {name: [] for name in runs}
            for turn in range(WARM_UP + repetitions):
                names = list(runs) if turn % 2 else list(reversed(runs))  # nobody always comes after the same
                for name in names:
                    taken[name].append(_seconds(runs[name]))
            rows += [_row(f"{name} {direction}", shape, taken[name], taken["torch"]) for name in OURS]
    return rows


def _directions(shape: Shape) -> Iterator[tuple[str, dict[str, Call]]]:
    query, source, neighbours, pairs = _given(shape)
    ours = {name: _build(name, shape) for name in OURS}
    weights = {name: part.state_dict() for name, part in ours.items()}[OURS[0]]
    for part in ours.values():
        part.load_state_dict(weights)
    answers: dict[str, Call] = {
        name: lambda part=part: part(query, source, neighbours, pairs) for name, part in ours.items()
    }
    answers["torch"] = lambda: _reference(ours[OURS[0]], shape, query, source, neighbours, pairs)
    for name, answer in answers.items():
        torch.testing.assert_close(answer(), answers["torch"](), msg=f"{name} and torch answer differently")
    yield "forward", {name: torch.no_grad()(answer) for name, answer in answers.items()}
    yield "forward + backward", {name: _with_backward(answer) for name, answer in answers.items()}


def _with_backward(answer: Call) -> Call:
    def run() -> Tensor:
        found = answer()
        found.backward(torch.ones_like(found))
        return found

    return run


def _given(shape: Shape) -> tuple[Tensor, Tensor, Tensor | None, Pairs]:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(shape.b, shape.q, shape.d, generator=draw)
    rows = (shape.rows, shape.d) if shape.rows else (shape.b, shape.k, shape.d)
    source = torch.randn(*rows, generator=draw)
    neighbours = torch.randint(shape.rows, (shape.b, shape.k), generator=draw) if shape.rows else None
    first = torch.randint(shape.k // 2, (shape.b, 1), generator=draw) * shape.has_padding
    return query, source.requires_grad_(), neighbours, Pairs(torch.arange(shape.k) >= first, shape.is_causal)


def _build(name: str, shape: Shape) -> ProjectedAttention:
    return attentions.build(name, {"dim": shape.d, "heads": shape.h})


def _reference(
    part: ProjectedAttention,
    shape: Shape,
    query: Tensor,
    source: Tensor,
    neighbours: Tensor | None,
    pairs: Pairs,
) -> Tensor:
    """(b, q, d) by torch's function, with the weights of ``part``."""
    weight = {role: layer.weight for role, layer in part.projections.items()}
    key, value = (gather(linear(source, weight[role]), neighbours) for role in ("key", "value"))
    parts = (split_heads(one, shape.h) for one in (linear(query, weight["query"]), key, value))
    mask = pairs.key_mask[:, None, None] if shape.has_padding else None
    if mask is not None and shape.is_causal:
        mask = mask & torch.ones(shape.q, shape.k, dtype=torch.bool).tril()
    return linear(join_heads(scaled_dot_product_attention(*parts, attn_mask=mask)), part.out.weight)


def _seconds(run: Call) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _row(what: str, shape: Shape, ours: list[float], theirs: list[float]) -> Row:
    ours, theirs = ours[WARM_UP:], theirs[WARM_UP:]
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Row(what, str(shape), median(ours), median(theirs), median(ratios))
