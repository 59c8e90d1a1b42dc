"""Samples neighbours into tensors: the only file that imports dgl, with a torch sampler beside it.

e directed edges · b targets · k neighbours per target, padded · s distinct source rows · p distinct pairs of
row and relation."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

EVERY = -1
"""Fan-out that takes all neighbours."""


@dataclass(frozen=True)
class Edges:
    """Directed edges between nodes 0..nodes−1, each with the code of its relation.

    A message goes from source to target.
    """

    source: Tensor
    """(e,) int64."""
    target: Tensor
    """(e,) int64."""
    relation: Tensor
    """(e,) int64 in 0..relations−1."""
    nodes: int
    relations: int
    start_ts: Tensor | None = None
    """(e,) int64 UTC seconds when the fact began, 0 where it always holds; None where all always hold."""
    seed: int = 0
    """Orders neighbours whose facts are equally old."""

    def __post_init__(self) -> None:
        parts = [self.source, self.target, self.relation]
        shapes = {tuple(part.shape) for part in parts + [self.start_ts] * (self.start_ts is not None)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(
                f"source, target, relation and start_ts must be (e,) each, got shapes {sorted(shapes)}: "
                "give each edge one of each"
            )
        for name, part, end in (
            ("source", self.source, self.nodes),
            ("target", self.target, self.nodes),
            ("relation", self.relation, self.relations),
        ):
            if part.numel() and not (0 <= int(part.min()) and int(part.max()) < end):
                raise ValueError(f"{name} must lie in 0..{end - 1}, got {int(part.min())}..{int(part.max())}")

    @cached_property
    def is_timed(self) -> Tensor:
        """(e,) bool, False where the fact always holds."""
        return (
            torch.zeros_like(self.source, dtype=torch.bool) if self.start_ts is None else self.start_ts != 0
        )

    @cached_property
    def age_s(self) -> Tensor:
        """(e,) float32 seconds from each fact to the latest one; 0 where it always holds."""
        if self.start_ts is None or not self.is_timed.any():
            return torch.zeros(len(self.source))
        latest = self.start_ts[self.is_timed].max()
        return torch.where(self.is_timed, latest - self.start_ts, 0).float()

    @cached_property
    def place_in_time(self) -> Tensor:
        """(e,) int64 place of each edge, oldest first; those that always hold come last."""
        order = torch.randperm(len(self.source), generator=torch.Generator().manual_seed(self.seed))
        if self.start_ts is not None:
            when = torch.where(self.is_timed, self.start_ts, torch.iinfo(torch.int64).max)
            order = order[torch.argsort(when[order], stable=True)]
        return torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))


@dataclass(frozen=True)
class Block:
    """One layer: for each target its neighbours, as places in ``source``, oldest first, padded to the same k
    before the first of them."""

    source: Tensor
    """(s,) int64 nodes without repetition; the first b are the targets."""
    neighbours: Tensor
    """(b, k) int64 places in ``source``, 0 where there is none."""
    relation: Tensor
    """(b, k) int64, 0 where there is none."""
    key_mask: Tensor
    """(b, k) bool, True where there is a neighbour."""
    edge: Tensor
    """(b, k) int64 edge to each neighbour, 0 where there is none."""

    @property
    def targets(self) -> Tensor:
        """(b,) int64 nodes."""
        return self.source[: len(self.neighbours)]

    def distinct(self, relations: int) -> tuple[Tensor, Tensor, Tensor]:
        """Each (source place, relation) once, in the order of relations, for what depends on both.

        Returns:
            (p,) int64 places in ``source``, (p,) int64 relations, and (b, k) int64 rows of these.
        """
        key = self.relation * len(self.source) + self.neighbours
        marked = torch.zeros(len(self.source) * relations, dtype=torch.bool, device=key.device)
        marked[key.flatten()] = True
        found = marked.nonzero().flatten()
        row = torch.empty(len(marked), dtype=torch.int64, device=key.device)
        row[found] = torch.arange(len(found), device=key.device)
        return found % len(self.source), found // len(self.source), row[key]

    def to(self, device: torch.device | str) -> "Block":
        """The same block on a device."""
        parts = (self.source, self.neighbours, self.relation, self.key_mask, self.edge)
        return Block(*(part.to(device) for part in parts))


class Sampler(ABC):
    """Draws neighbours of targets, layer by layer, from fixed edges.

    A target's fan-out counts over all its relations together: each edge into it is as likely as any other, so
    relations share the fan-out in proportion to their degree.
    """

    def __init__(self, edges: Edges) -> None:
        self.edges = edges

    def sample(self, targets: Tensor, fan_out: Sequence[int], hidden: Tensor | None = None) -> list[Block]:
        """Blocks for a stack of layers.

        Args:
            targets: (b,) int64 nodes without repetition.
            fan_out: neighbours per node, the layer nearest the targets first; ``EVERY`` takes all.
            hidden: (m,) int64 edges that no layer may use, such as the pairs to be predicted.

        Returns:
            One block a layer, the input layer first: each block's targets are the source of the next.
        """
        if any(count < 1 and count != EVERY for count in fan_out):
            raise ValueError(f"fan_out must hold counts >= 1, or {EVERY} for all, got {tuple(fan_out)}")
        blocks: list[Block] = []
        with self._hiding(hidden):
            for count in fan_out:
                blocks.insert(0, self._layer(blocks[0].source if blocks else targets, count))
        return blocks

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Fixes what is drawn from here on."""

    @abstractmethod
    def _hiding(self, hidden: Tensor | None) -> "_Hiding":
        """A context in which the hidden edges are not drawn."""

    @abstractmethod
    def _layer(self, targets: Tensor, count: int) -> Block: ...


class DGLSampler(Sampler):
    """DGL's sampler and blocks. Its random numbers are global; drawn on one thread, they repeat for a seed.

    Hidden edges are masked before the draw: ``exclude_edges`` of dgl 1.1 drops them after it, and leaves a
    target with fewer neighbours than its fan-out.
    """

    def __init__(self, edges: Edges) -> None:
        super().__init__(edges)
        os.environ.setdefault("DGLBACKEND", "pytorch")  # otherwise dgl writes a file into the home folder
        import dgl  # here: it takes seconds, and only training needs it

        self._dgl = dgl
        self._graph = self._dgl.graph((edges.source, edges.target), num_nodes=edges.nodes)
        self._graph.edata["open"] = torch.ones(len(edges.source), dtype=torch.bool)
        self._graph.create_formats_()

    def seed(self, seed: int) -> None:
        with self._one_thread():
            self._dgl.seed(seed)

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        """On several threads neither DGL's draws nor its blocks' order repeat; torch shares their number."""
        threads = self._dgl.utils.get_num_threads()
        self._dgl.utils.set_num_threads(1)
        try:
            yield
        finally:
            self._dgl.utils.set_num_threads(threads)

    def _hiding(self, hidden: Tensor | None) -> "_Hiding":
        return _Hiding(self._graph.edata["open"], hidden)

    def _layer(self, targets: Tensor, count: int) -> Block:
        with self._one_thread():
            frontier = self._dgl.sampling.sample_neighbors(self._graph, targets, count, prob="open")
            block = self._dgl.to_block(frontier, targets)
        place, target = block.edges()
        edge = frontier.edata[self._dgl.EID][block.edata[self._dgl.EID]]
        return padded(self.edges, block.srcdata[self._dgl.NID], place, target, edge, len(targets))


class TorchSampler(Sampler):
    """The same draws with torch alone, from a generator of its own.

    Each open edge into a target gets a random key, and the smallest win: O(e log e) in the edges looked at.
    """

    def __init__(self, edges: Edges, seed: int = 0) -> None:
        super().__init__(edges)
        self._by_target = torch.argsort(edges.target, stable=True)
        degree = torch.bincount(edges.target, minlength=edges.nodes)
        self._start = torch.cumsum(degree, 0) - degree
        self._degree = degree
        self._open = torch.ones(len(edges.source), dtype=torch.bool)
        self._generator = torch.Generator().manual_seed(seed)

    def seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def _hiding(self, hidden: Tensor | None) -> "_Hiding":
        return _Hiding(self._open, hidden)

    def _layer(self, targets: Tensor, count: int) -> Block:
        edge, target = _ragged(self._by_target, self._start[targets], self._degree[targets])
        is_open = self._open[edge]
        edge, target = edge[is_open], target[is_open]
        if count != EVERY:
            key = torch.rand(len(edge), generator=self._generator, dtype=torch.float64)
            order = torch.argsort(target + key, stable=True)
            edge, target = edge[order], target[order]
            taken = _place_in_group(target, len(targets)) < count
            edge, target = edge[taken], target[taken]
        source, place = _relabelled(targets, self.edges.source[edge], self.edges.nodes)
        return padded(self.edges, source, place, target, edge, len(targets))


class _Hiding:
    """Closes some edges on entry and opens them again on exit."""

    def __init__(self, is_open: Tensor, hidden: Tensor | None) -> None:
        self._open, self._hidden = is_open, hidden

    def __enter__(self) -> None:
        if self._hidden is not None:
            self._open[self._hidden] = False

    def __exit__(self, *raised: object) -> None:
        if self._hidden is not None:
            self._open[self._hidden] = True


def whole(edges: Edges, targets: Tensor, entries: int = 200_000) -> Iterator[Block]:
    """All neighbours of ``targets``, in blocks of at most ``entries`` padded places (or one target).

    Targets come in the order of their degree, so that little is padded.
    """
    by_target = torch.argsort(edges.target, stable=True)
    degree = torch.bincount(edges.target, minlength=edges.nodes)
    start = torch.cumsum(degree, 0) - degree
    ordered = targets[torch.argsort(degree[targets], stable=True)]
    first = 0
    while first < len(ordered):
        width = degree[ordered[first:]].clamp(min=1)  # grows along the way
        fits = width * torch.arange(1, len(width) + 1) <= entries
        chunk = ordered[first : first + max(1, int(fits.sum()))]
        edge, target = _ragged(by_target, start[chunk], degree[chunk])
        source, place = _relabelled(chunk, edges.source[edge], edges.nodes)
        yield padded(edges, source, place, target, edge, len(chunk))
        first += len(chunk)


def padded(edges: Edges, source: Tensor, place: Tensor, target: Tensor, edge: Tensor, targets: int) -> Block:
    """A block out of (m,) edges: their places in ``source`` and their targets 0..targets−1."""
    order = torch.argsort(target * len(edges.source) + edges.place_in_time[edge])
    place, target, edge = place[order], target[order], edge[order]
    count = torch.bincount(target, minlength=targets)
    width = int(count.max()) if targets else 0
    at = target * width + width - count[target] + _place_in_group(target, targets)
    key_mask = torch.zeros(targets * width, dtype=torch.bool)
    key_mask[at] = True
    filled = [
        torch.zeros(targets * width, dtype=torch.int64).scatter_(0, at, part).view(targets, width)
        for part in (place, edges.relation[edge], edge)
    ]
    return Block(source, filled[0], filled[1], key_mask.view(targets, width), filled[2])


def _place_in_group(sorted_group: Tensor, groups: int) -> Tensor:
    """(m,) how many of the same group stand before each entry."""
    count = torch.bincount(sorted_group, minlength=groups)
    return torch.arange(len(sorted_group)) - (torch.cumsum(count, 0) - count)[sorted_group]


def _ragged(values: Tensor, start: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Joins values[start_i : start_i + length_i] for all i; also the i of each."""
    group = torch.repeat_interleave(torch.arange(len(start)), length)
    return values[start[group] + _place_in_group(group, len(start))], group


def _relabelled(targets: Tensor, nodes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Targets and then the other nodes without repetition, and the place of each of ``nodes`` among them."""
    place = torch.full((count,), -1)
    place[targets] = torch.arange(len(targets))
    others = torch.unique(nodes[place[nodes] < 0])
    place[others] = len(targets) + torch.arange(len(others))
    return torch.cat([targets, others]), place[nodes]
