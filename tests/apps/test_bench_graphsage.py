"""The GraphSAGE benchmark: DGL's stock reads the same graph, hears as many, and hides what it predicts."""

import numpy as np
import pytest
import torch

from apps.bench import graphsage as bench
from apps.bench.lightgcn import everything_liked
from configs.registry import fill
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.graph_encoder import GraphSAGEConfig
from models.neighbourhood import Edges
from models.relations import RelationGraph

SMALL = {"widths": (8, 8, 8), "fan_out": (4, 3), "heads": (2, 2), "batch": 16, "negative_count": 6}


@pytest.fixture
def training(monkeypatch):
    world = checkerboard(users=12, contents=10, share=0.7, seed=1)
    monkeypatch.setattr("apps.bench.lightgcn.POSITIVE_RATING", -np.inf)
    return everything_liked(from_records("checkerboard", world.nodes, world.hyperedges))


def test_relations_come_back_by_type():
    # users 0 and 1, contents 2 and 3, person 4
    edges = Edges(*torch.tensor([[3, 1, 4], [1, 3, 2], [0, 1, 2]]), 5, 4)
    types = torch.tensor([0, 0, 1, 1, 2])
    graph = RelationGraph(
        edges, types, ("User", "Content", "Person"), ("RATED^", "RATED", "ACTED_IN", "ACTED_IN^"), 2, 2,
        torch.tensor([[1, 3]]), torch.ones(5, dtype=torch.bool),
    )  # fmt: skip
    found = {name: [end.tolist() for end in ends] for name, ends in bench.relations_of(graph).items()}
    assert found == {
        ("Content", "RATED^", "User"): [[1], [1]],
        ("User", "RATED", "Content"): [[1], [1]],
        ("Person", "ACTED_IN", "Content"): [[0], [0]],
    }


def test_a_node_hears_as_many_in_either_share():
    # every content hears 30 by one relation and 10 by the other: 12 in all are shared 9 and 3
    target = torch.arange(5).repeat_interleave(40)
    relation = torch.tensor([0] * 30 + [1] * 10).repeat(5)
    edges = Edges(torch.zeros(200, dtype=torch.int64), target + 1, relation, 6, 2)
    types = torch.tensor([0] + [1] * 5)
    graph = RelationGraph(
        edges, types, ("User", "Content"), ("a", "b"), 1, 5, torch.zeros(0, 2, dtype=torch.int64), types > -1
    )
    parts = bench.relations_of(graph)
    assert list(bench.shared_fan_out(graph, parts, 12).values()) == [9, 3]
    assert sum(bench.shared_fan_out(graph, parts, 40).values()) >= 40


def test_both_sides_take_steps_that_move_their_parameters(training):
    config = fill(GraphSAGEConfig, SMALL)
    for is_in_all in (True, False):
        for side in (bench.Ours(config, training), bench.Stock(config, training, is_in_all)):
            module = side.module if isinstance(side, bench.Stock) else side.model.module
            before = [parameter.detach().clone() for parameter in module.parameters()]
            assert side.step() > 0 and side.step() > 0 and len(side.heard) == 2
            moved = [not torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True)]
            assert sum(moved) > len(moved) / 2


def test_the_stock_hides_what_it_predicts_and_knows_the_likes(training, monkeypatch):
    monkeypatch.setattr(bench, "BATCH", 16)
    side = bench.Stock(fill(GraphSAGEConfig, SMALL), training, is_in_all=True)
    positive, blocks = next(side._batches)
    ends = (part.tolist() for part in side.hetero.edges(etype=bench.LIKES))
    liked = set(zip(*ends, strict=True))
    user, content = (part.tolist() for part in positive.edges(etype=bench.LIKES))
    names = [positive.nodes[type].data["_ID"] for type in ("User", "Content")]
    predicted = {(int(names[0][u]), int(names[1][c])) for u, c in zip(user, content, strict=True)}
    assert predicted <= liked and len(predicted) == len(user) == 16
    heard = set()
    for block in blocks:
        for (first, name, second), is_back in ((bench.LIKES, False), (bench.LIKERS, True)):
            ends = block.edges(etype=(first, name, second))
            pairs = zip(
                block.srcnodes[first].data["_ID"][ends[0]].tolist(),
                block.dstnodes[second].data["_ID"][ends[1]].tolist(),
                strict=True,
            )
            heard |= {pair[::-1] if is_back else pair for pair in pairs}
    assert heard and not heard & predicted


def test_rows_name_their_bars_and_what_was_heard(training, monkeypatch):
    monkeypatch.setattr(bench, "default_settings", lambda: SMALL)
    monkeypatch.setattr(bench, "BATCH", 16)
    monkeypatch.setattr(bench.GraphArrays, "current", lambda folder: training.graph)
    said = []
    home = type("Place", (), {"arrays": lambda self, name: name})()
    rows = bench.measure(home, "checkerboard", 1, 1, said.append)
    assert [row.bar for row in rows] == ["<= 0.2 x", "", "", "", "<= 40 s"] and len(said) == 9
    assert all("neighbours a node" in row.shape for row in rows[:4]) and rows[-1].ratio is None
