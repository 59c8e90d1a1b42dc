"""A training step of our GraphSAGE beside the same model written with DGL's stock parts, in turn; an epoch.

v distinct users and c contents of a batch · r relations into a type of nodes."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apps.bench.lightgcn import everything_liked
from configs.home import Home
from configs.loading import load
from configs.registry import fill
from experiments.steps import optimisers_of, step
from experiments.training import FitConfig, fit
from kg.arrays import GraphArrays
from models.features import content_features
from models.graph_encoder import GraphSAGEConfig
from models.graphsage import GraphSAGE
from models.interface import Training
from models.losses import sampled_softmax
from models.negatives import Candidates
from models.relations import LIKED, RelationGraph, relation_graph

BATCH = 2048
LIKES = ("User", LIKED, "Content")
LIKERS = ("Content", f"{LIKED}^", "User")


@dataclass(frozen=True)
class Case:
    """A graph, and how DGL's stock shares the fan-out among relations."""

    what: str
    least_links: int
    """Contents that a node of another type must link to be in the graph."""
    is_in_all: bool
    """True: a node hears as many neighbours as ours in expectation, see :func:`shared_fan_out`; False: the
    fan-out counts for each relation anew, as DGL reads a plain list."""
    bar: str = ""


CASES = (
    Case("training step", 2, True, "<= 0.2 x"),
    Case("training step, every node in the graph", 1, True),
    Case("training step, stock hears the fan-out of each relation", 2, False),
    Case("training step, every node, fan-out of each relation", 1, False),
)


@dataclass(frozen=True)
class Row:
    """What a step or an epoch took."""

    what: str
    shape: str
    seconds: float
    """Median of ours."""
    reference_s: float | None
    """Median of DGL's stock; None where there is none."""
    ratio: float | None
    """Median of ours over the reference's, each pair measured in turn."""
    bar: str


def measure(
    home: Home, graph_name: str, steps: int, threads: int | None, say: Callable[[str], None]
) -> list[Row]:
    """Trains both step by step, the stock after ours each time, then ours for an epoch.

    Args:
        home: where the graph is.
        graph_name: its name; an edge is a rating of 8 of 10 or more.
        steps: of either side that count, 1 or more; one before them warms up.
        threads: of torch and DGL, for both, 1 or more; None leaves them.
        say: told what is measured now.
    """
    training = everything_liked(GraphArrays.current(home.arrays(graph_name)))
    with _threads(threads):
        rows = [_steps(case, training, steps, say) for case in CASES]
        say("one epoch")
        rows.append(_epoch(training))
    return rows


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _steps(case: Case, training: Training, steps: int, say: Callable[[str], None]) -> Row:
    settings = default_settings() | {"batch": BATCH, "least_links": case.least_links}
    config = fill(GraphSAGEConfig, settings)
    ours, stock = Ours(config, training), Stock(config, training, case.is_in_all)
    pairs = []
    for number in range(steps + 1):
        pairs.append((ours.step(), stock.step()))
        say(f"{case.what} {number}: ours {pairs[-1][0]:.2f} s, stock {pairs[-1][1]:.2f} s")
    graph = stock.graph
    shape = (
        f"{graph.edges.nodes:,} nodes, {len(stock.parts)} relations, {len(graph.edges.source):,} edges, "
        f"batch {BATCH:,}, neighbours a node {_told(ours.heard)}, stock {_told(stock.heard)}"
    )
    seconds, reference = (median(side) for side in zip(*pairs[1:], strict=True))
    ratio = median(mine / theirs for mine, theirs in pairs[1:])
    return Row(case.what, shape, seconds, reference, ratio, case.bar)


def _told(heard: list[float]) -> str:
    """Neighbours a node in each layer, the one nearest the target first."""
    return " / ".join(f"{count:.1f}" for count in reversed(heard))


def default_settings() -> dict[str, Any]:
    """Settings of the default GraphSAGE, without its name."""
    return {name: value for name, value in load("model/graphsage.yaml").items() if name != "name"}


def _epoch(training: Training) -> Row:
    model = GraphSAGE(fill(GraphSAGEConfig, default_settings()))
    found = fit(model, training, None, FitConfig(epochs=1))
    likes, batch = training.positives.nnz, model.config.batch
    shape = f"{likes:,} likes, {-(-likes // batch)} steps of {batch:,}"
    return Row("epoch", shape, found.curve[0].seconds, None, None, "<= 40 s")


class Ours:
    """Our model, one step whenever asked."""

    def __init__(self, config: GraphSAGEConfig, training: Training) -> None:
        self.model = GraphSAGE(config)
        torch.manual_seed(0)
        self.model.fit(training)
        self.optimisers = optimisers_of(self.model.module, 1e-3, 0.0)
        self._generator = torch.Generator().manual_seed(0)
        self._batches = self._forever()
        self.heard: list[float] = []
        self.model.module.register_forward_pre_hook(self._hear)

    def step(self) -> float:
        """Seconds of one training step."""
        start = time.perf_counter()
        step(next(self._batches), self.model.module, self.optimisers, 1.0)
        return time.perf_counter() - start

    def _forever(self) -> Iterator[Callable[[], Tensor]]:
        while True:
            yield from self.model.steps(self._generator)

    def _hear(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        self.heard = [block.key_mask.sum().item() / len(block.neighbours) for block in given[0]]


class Stock:
    """The same graph, batch and loss with what DGL brings: DataLoader, NeighborSampler and layers."""

    def __init__(self, config: GraphSAGEConfig, training: Training, is_in_all: bool) -> None:
        os.environ.setdefault("DGLBACKEND", "pytorch")
        import dgl  # here: it takes seconds

        self._dgl, self._config, self._is_in_all = dgl, config, is_in_all
        self.graph = relation_graph(training, config.facts, config.least_links)
        self.parts = relations_of(self.graph)
        self.hetero = dgl.heterograph(self.parts, _sizes(self.graph))
        features = content_features(training.graph, training.rankable, config.features_config())
        torch.manual_seed(0)
        self.module = stock_module(config, self.hetero, torch.from_numpy(features))
        self.optimisers = optimisers_of(self.module, 1e-3, 0.0)
        self._liked = training.positives.astype(bool).tocsr()
        counts = np.bincount(self._liked.indices, minlength=self.graph.contents)
        self._candidates = Candidates(
            counts, training.rankable, BATCH, config.negatives, config.negative_count
        )
        self._batches = self._forever()
        self.heard: list[float] = []

    def step(self) -> float:
        """Seconds of one training step."""
        start = time.perf_counter()
        batch = next(self._batches)
        step(lambda: self._loss(*batch), self.module, self.optimisers, 1.0)
        return time.perf_counter() - start

    def _forever(self) -> Iterator[tuple[Any, Any]]:
        loading = self._dgl.dataloading
        fan_out: list[Any] = list(self._config.fan_out)
        if self._is_in_all:
            fan_out = [shared_fan_out(self.graph, self.parts, count) for count in fan_out]
        sampler = loading.as_edge_prediction_sampler(
            loading.NeighborSampler(fan_out[::-1]),  # DGL lists the input layer first
            exclude="reverse_types",
            reverse_etypes={LIKES: LIKERS, LIKERS: LIKES},
            negative_sampler=self._negatives,
        )
        edges = {LIKES: torch.arange(self.hetero.num_edges(LIKES))}
        loader = loading.DataLoader(
            self.hetero, edges, sampler, batch_size=BATCH, shuffle=True, num_workers=0
        )
        while True:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Dataloader CPU affinity")
                epoch = iter(loader)
            for _, positive, _, blocks in epoch:
                yield positive, blocks

    def _negatives(self, graph: Any, edges: dict[Any, Tensor]) -> dict[Any, tuple[Tensor, Tensor]]:
        """As many contents as ours draws for a batch, each paired with a user of the batch."""
        count = self._config.negative_count
        users, _ = graph.find_edges(edges[LIKES], etype=LIKES)
        drawn = torch.randperm(self.graph.contents)[:count]
        return {LIKES: (users.repeat(-(-len(drawn) // len(users)))[: len(drawn)], drawn)}

    def _loss(self, positive: Any, blocks: Any) -> Tensor:
        self.heard = [block.num_edges() / max(block.num_dst_nodes(), 1) for block in blocks]
        vectors = self.module(blocks)
        users, contents = (blocks[-1].dstnodes[type].data[self._dgl.NID] for type in ("User", "Content"))
        user, column = positive.edges(etype=LIKES)
        scores = vectors["User"] @ vectors["Content"].T / self._config.temperature  # (v, c)
        liked = torch.from_numpy(self._liked[users.numpy()][:, contents.numpy()].toarray())
        return sampled_softmax(scores, user, column, liked, self._candidates.log_chance[contents])


def relations_of(graph: RelationGraph) -> dict[tuple[str, str, str], tuple[Tensor, Tensor]]:
    """Each relation that has edges, as DGL names it, and its edges between nodes counted by type."""
    starts = dict(zip(_sizes(graph), np.cumsum([0, *_sizes(graph).values()]).tolist(), strict=False))
    found = {}
    for code, name in enumerate(graph.relations):
        at = (graph.edges.relation == code).nonzero().flatten()
        if len(at):
            ends = [part[at] for part in (graph.edges.source, graph.edges.target)]
            types = [graph.types[int(graph.node_type[end[0]])] for end in ends]
            found[types[0], name, types[1]] = tuple(
                end - starts[type] for end, type in zip(ends, types, strict=True)
            )
    return found


def _sizes(graph: RelationGraph) -> dict[str, int]:
    counts = torch.bincount(graph.node_type, minlength=len(graph.types)).tolist()
    return dict(zip(graph.types, counts, strict=True))


def shared_fan_out(
    graph: RelationGraph, parts: dict[tuple[str, str, str], tuple[Tensor, Tensor]], count: int
) -> dict[tuple[str, str, str], int]:
    """Fan-out of each relation, so that a node hears ``count`` neighbours, or all of fewer, in expectation.

    The relations into a type share in proportion to their edges, each at least 1. The factor of proportion is
    where Σ_r min(degree_r, fan-out_r), in the mean over the nodes of the type, comes nearest to
    min(degree, count).
    """
    sizes, found = _sizes(graph), {}
    for type, size in sizes.items():
        into = {
            name: torch.bincount(target, minlength=size)
            for name, (_, target) in parts.items()
            if name[2] == type
        }
        if not into:
            continue
        degree = torch.stack(list(into.values()))  # (r, nodes of the type)
        share = degree.sum(1) / degree.sum()
        wanted = degree.sum(0).clamp(max=count).double().mean()
        tried = [(share * factor).round().clamp(min=1) for factor in torch.linspace(1, 4 * count, 400)]
        gap = [abs(float(torch.minimum(degree, one[:, None]).sum(0).mean() - wanted)) for one in tried]
        best = tried[int(np.argmin(gap))]
        found |= {name: int(most) for name, most in zip(into, best.tolist(), strict=True)}
    return found


def stock_module(config: GraphSAGEConfig, graph: Any, features: Tensor) -> nn.Module:
    """Node vectors, DGL's HeteroGraphConv of SAGEConv a layer, and the residual and norm of ours."""
    import dgl
    from dgl.nn.pytorch import HeteroGraphConv, SAGEConv

    class StockModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = list(zip(config.widths, config.widths[1:], strict=False))
            self.vectors = nn.ModuleDict(
                {type: nn.Embedding(graph.num_nodes(type), config.widths[0]) for type in graph.ntypes}
            )
            self.content = nn.Linear(features.shape[1], config.widths[0], bias=False)
            self.convolutions = nn.ModuleList(
                HeteroGraphConv(
                    {name: SAGEConv(before, after, "mean") for _, name, _ in graph.canonical_etypes},
                    aggregate="mean",
                )
                for before, after in widths
            )
            self.own = nn.ModuleList(nn.Linear(before, after, bias=False) for before, after in widths)
            self.norms = nn.ModuleList(nn.LayerNorm(after) for _, after in widths)
            self.dropout = nn.Dropout(config.dropout)

        def forward(self, blocks: Any) -> dict[str, Tensor]:
            nodes = {type: blocks[0].srcnodes[type].data[dgl.NID] for type in blocks[0].srctypes}
            hidden = {type: self.vectors[type](at) for type, at in nodes.items()}
            hidden["Content"] = hidden["Content"] + self.content(features[nodes["Content"]])
            for block, convolution, own, norm in zip(
                blocks, self.convolutions, self.own, self.norms, strict=True
            ):
                heard = convolution(block, hidden)
                after = {}
                for type in block.dsttypes:
                    mine = own(hidden[type][: block.num_dst_nodes(type)])
                    gained = self.dropout(nn.functional.gelu(heard[type])) if type in heard else 0
                    after[type] = norm(mine + gained)
                hidden = after
            return {type: nn.functional.normalize(vector, dim=1) for type, vector in hidden.items()}

    return StockModule()
