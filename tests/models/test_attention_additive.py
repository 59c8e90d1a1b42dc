"""Additive attention against plain loops, against DGL's layer, and against a row that is read too often."""

import os

import numpy as np
import pytest
import torch

from models.attention import Pairs, attentions

B, Q, K, S, D, H, E = 3, 2, 5, 7, 8, 2, 3
C = D // H


@pytest.fixture
def given():
    draw = torch.Generator().manual_seed(0)
    key_mask = torch.rand(B, K, generator=draw) < 0.6
    key_mask[:, 0] = True
    query, source = torch.randn(B, Q, D, generator=draw), torch.randn(S, D, generator=draw)
    edge = torch.randn(B, K, E, generator=draw).double()
    pairs = Pairs(key_mask, edge=edge)
    return query.double(), source.double(), torch.randint(S, (B, K), generator=draw), pairs


def made(name, **settings):
    torch.manual_seed(3)
    return attentions.build(name, {"dim": D, "heads": H, "edge_width": E, **settings}).double()


def array(part):
    return part.detach().numpy()


def leaky(value, slope):
    return np.where(value > 0, value, slope * value)


def by_loop(given, score, values):
    """Softmax attention written as its definition: one target, query and head at a time.

    ``score(query, node, h, edge)``.
    """
    query, _, neighbours, pairs = given
    answer = np.zeros(query.shape)
    for b, q, h in np.ndindex(B, Q, H):
        places = np.flatnonzero(pairs.key_mask[b])
        nodes = neighbours[b].numpy()[places]
        scores = np.array(
            [
                score(array(query[b, q]), node, h, array(pairs.edge[b, k]))
                for k, node in zip(places, nodes, strict=True)
            ]
        )
        weights = np.exp(scores - scores.max())
        answer[b, q, h * C : (h + 1) * C] = weights / weights.sum() @ values[nodes, h * C : (h + 1) * C]
    return answer


def test_gat_equals_its_definition(given):
    layer = made("gat", negative_slope=0.3)
    weight = array(layer.projection.weight)  # one W for both ends
    of_query, of_key = array(layer.of_query), array(layer.of_key)
    projected = given[1].numpy() @ weight.T

    def score(query, node, h, edge):
        own = (weight @ query).reshape(H, C)[h] @ of_query[h]
        return leaky(own + projected[node].reshape(H, C)[h] @ of_key[h], 0.3)

    np.testing.assert_allclose(array(layer(*given)), by_loop(given, score, projected), atol=1e-12)


def test_edge_featured_equals_its_definition(given):
    layer = made("edge_featured")
    weight, of_edge = array(layer.projection.weight), array(layer.of_edge)
    of_query, of_key, edges = array(layer.of_query), array(layer.of_key), array(layer.edge_projection.weight)
    projected = given[1].numpy() @ weight.T

    def score(query, node, h, edge):
        summed = (weight @ query).reshape(H, C)[h] @ of_query[h]
        summed += projected[node].reshape(H, C)[h] @ of_key[h]
        return leaky(summed + (edges @ edge).reshape(H, C)[h] @ of_edge[h], 0.2)

    np.testing.assert_allclose(array(layer(*given)), by_loop(given, score, projected), atol=1e-12)


def test_edge_featured_without_edges_is_gat(given):
    layer, plain = made("edge_featured"), made("gat")
    plain.load_state_dict({name: layer.state_dict()[name] for name in plain.state_dict()})
    layer.of_edge.data.zero_()
    torch.testing.assert_close(layer(*given), plain(*given))


def test_gatv2_equals_its_definition(given):
    layer = made("gatv2")
    of_query, of_key = (array(layer.projections[role].weight) for role in ("query", "key"))
    direction, projected = array(layer.direction), given[1].numpy() @ of_key.T

    def score(query, node, h, edge):
        bent = leaky((of_query @ query).reshape(H, C)[h] + projected[node].reshape(H, C)[h], 0.2)
        return bent @ direction[h]

    np.testing.assert_allclose(array(layer(*given)), by_loop(given, score, projected), atol=1e-12)


def test_node_equals_its_definition_and_does_not_hear_the_query(given):
    query, source, neighbours, pairs = given
    layer = made("node")
    weight, direction, values = array(layer.projection.weight), array(layer.direction), array(source)

    def score(query, node, h, edge):
        return np.tanh(weight @ values[node]).reshape(H, C)[h] @ direction[h]

    answer = layer(*given)
    np.testing.assert_allclose(array(answer), by_loop(given, score, values), atol=1e-12)
    torch.testing.assert_close(layer(query + 1, source, neighbours, pairs), answer, rtol=0, atol=0)


def test_gat_ranks_alike_for_all_queries_and_gatv2_does_not():
    draw = torch.Generator().manual_seed(0)
    query, source = torch.randn(1, 40, 4, generator=draw), torch.randn(6, 4, generator=draw)
    pairs, orders = Pairs(torch.ones(1, 6, dtype=torch.bool)), {}
    for name in ("gat", "gatv2"):
        torch.manual_seed(0)
        weights = attentions.build(name, {"dim": 4}).weights(query, source, torch.arange(6)[None], pairs)
        orders[name] = {tuple(row.argsort().tolist()) for row in weights[0, 0]}
    assert len(orders["gat"]) == 1 and len(orders["gatv2"]) > 1


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("heads", [1, 2])
def test_gat_equals_dgl(dtype, apart, heads):
    os.environ.setdefault("DGLBACKEND", "pytorch")
    import dgl

    torch.manual_seed(1)
    targets, rows, k = 4, 9, 3
    neighbours = torch.stack([torch.randperm(rows)[:k] for _ in range(targets)])
    block = dgl.create_block(
        (neighbours.flatten(), torch.arange(targets).repeat_interleave(k)), rows, targets
    )
    theirs = dgl.nn.GATConv(D, D // heads, heads, bias=False).to(dtype)
    ours = attentions.build("gat", {"dim": D, "heads": heads}).to(dtype)
    ours.load_state_dict(
        {"projection.weight": theirs.fc.weight, "of_query": theirs.attn_r[0], "of_key": theirs.attn_l[0]}
    )
    source = torch.randn(rows, D, dtype=dtype)
    answers, gradients = [], []
    for side in ("ours", "theirs"):
        source = source.detach().requires_grad_()
        if side == "theirs":
            answer = theirs(block, source).flatten(1)
        else:
            pairs = Pairs(torch.ones(targets, k, dtype=torch.bool))
            answer = ours(source[:targets, None], source, neighbours, pairs)[:, 0]
        answer.square().sum().backward()
        answers.append(answer)
        gradients.append(source.grad)
    torch.testing.assert_close(answers[0], answers[1], atol=apart, rtol=apart)
    torch.testing.assert_close(gradients[0], gradients[1], atol=10 * apart, rtol=10 * apart)


@pytest.mark.parametrize("name", ["gat", "edge_featured", "node"])
def test_projections_act_once_per_source_row(given, name):
    layer, rows = made(name), []
    layer.projection.register_forward_hook(lambda module, given, answer: rows.append(tuple(given[0].shape)))
    layer(*given)
    assert (S, D) in rows and not {(B, K, D), (B * K, D)} & set(rows)
