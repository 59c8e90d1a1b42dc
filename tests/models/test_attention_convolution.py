"""Aggregators against their definitions, against DGL on a whole graph, and a sample against the whole."""

import os

import pytest
import torch

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.convolution import GraphSAGEMean, Mean

B, Q, K, S, D = 3, 2, 5, 7, 8


@pytest.fixture
def dgl():
    os.environ.setdefault("DGLBACKEND", "pytorch")
    import dgl

    return dgl


def ring(nodes: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Edges both ways of a ring with chords: degrees differ."""
    edges = {(i, (i + 1) % nodes) for i in range(nodes)} | {(0, 3), (0, 5), (2, 7)}
    both = sorted(edges | {(j, i) for i, j in edges})
    return tuple(torch.tensor(part) for part in zip(*both, strict=True))


def everyone(source: torch.Tensor, target: torch.Tensor, nodes: int) -> tuple[torch.Tensor, Pairs]:
    """(b, k) neighbours of each node and their pairs, degrees included."""
    degree = torch.bincount(target, minlength=nodes)
    neighbours = torch.zeros(nodes, int(degree.max()), dtype=torch.int64)
    key_mask = torch.zeros_like(neighbours, dtype=torch.bool)
    for node in range(nodes):
        neighbours[node, : degree[node]] = source[target == node]
        key_mask[node, : degree[node]] = True
    return neighbours, Pairs(key_mask, query_degree=degree[:, None], key_degree=degree[neighbours])


def test_mean_and_graphsage_equal_their_definition():
    draw = torch.Generator().manual_seed(0)
    key_mask = torch.rand(B, K, generator=draw) < 0.6
    key_mask[:, 0] = True
    query = torch.randn(B, Q, D, generator=draw).double()
    source, neighbours = torch.randn(S, D, generator=draw).double(), torch.randint(S, (B, K), generator=draw)
    given = (query, source, neighbours, Pairs(key_mask))
    means = torch.stack([source[neighbours[b][key_mask[b]]].mean(0) for b in range(B)])
    means = means[:, None].expand(-1, Q, -1)
    torch.testing.assert_close(Mean(AttentionConfig(D))(*given), means)
    made = GraphSAGEMean(AttentionConfig(D)).double()
    wanted = torch.cat([query, means], -1) @ made.weight.weight.T
    torch.testing.assert_close(made(*given), wanted)
    assert sum(part.numel() for part in made.parameters()) == 2 * D * D


def theirs_of(name, dgl, ours):
    """DGL's layer with the parameters of ours, as a function of graph and features."""
    if name == "graphsage":
        layer = dgl.nn.SAGEConv(D, D, "mean", bias=False)
        own, mean = ours.weight.weight.detach().split(D, 1)
        layer.fc_self.weight.data, layer.fc_neigh.weight.data = own, mean
        return layer
    if name == "gcn":
        layer = dgl.nn.GraphConv(D, D, norm="both", bias=False)
        layer.weight.data = ours.weight.weight.detach().T.contiguous()
        return lambda graph, features: layer(dgl.add_self_loop(graph), features)
    layer = dgl.nn.GINConv(ours.mlp, "sum", init_eps=ours.epsilon.item(), learn_eps=True)
    return layer.to(ours.epsilon.dtype)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", ["graphsage", "gcn", "gin"])
def test_equals_dgl_with_all_neighbours_at_hand(name, dtype, apart, dgl):
    torch.manual_seed(0)
    ours = attentions.build(name, {"dim": D}).to(dtype)
    if name == "gin":
        ours.epsilon.data.fill_(0.25)
    source, target = ring()
    features = torch.randn(9, D, dtype=dtype)
    wanted = theirs_of(name, dgl, ours)(dgl.graph((source, target)), features)
    neighbours, pairs = everyone(source, target, 9)
    answer = ours(features[:, None], features, neighbours, pairs)[:, 0]
    torch.testing.assert_close(answer, wanted, atol=apart, rtol=apart)


@pytest.mark.parametrize("name", ["gcn", "gin"])
def test_the_mean_over_all_samples_is_the_whole(name):
    """Each of the three neighbours left out once: on average nothing is."""
    torch.manual_seed(0)
    layer = attentions.build(name, {"dim": D}).double()
    if name == "gin":
        layer.mlp = torch.nn.Identity()  # the mean of samples passes through what is linear
    features = torch.randn(4, D).double()
    query, neighbours = features[:1, None], torch.tensor([[1, 2, 3]])
    degrees = {"query_degree": torch.tensor([[3]]), "key_degree": torch.tensor([[4, 2, 9]])}
    whole = layer(query, features, neighbours, Pairs(torch.ones(1, 3, dtype=torch.bool), **degrees))
    samples = [
        layer(query, features, neighbours, Pairs(torch.arange(3)[None] != left, **degrees))
        for left in range(3)
    ]
    torch.testing.assert_close(torch.stack(samples).mean(0), whole)
    assert not torch.allclose(samples[0], whole)


@pytest.mark.parametrize("name", ["gcn", "gin"])
def test_half_precision_counts_large_degrees(name):
    torch.manual_seed(0)
    layer = attentions.build(name, {"dim": D})
    degrees = {"query_degree": torch.tensor([[2001]]), "key_degree": torch.tensor([[100_001]])}
    given = torch.ones(1, 1, D), torch.ones(1, D), torch.zeros(1, 1, dtype=torch.int64)
    pairs = Pairs(torch.ones(1, 1, dtype=torch.bool), **degrees)
    wanted, half = layer(*given, pairs), layer.to(torch.bfloat16)
    answer = half(given[0].bfloat16(), given[1].bfloat16(), given[2], pairs)
    torch.testing.assert_close(answer.float(), wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item())
