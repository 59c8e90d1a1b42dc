"""Attention over many kinds of nodes against plain loops, and against what it must not read."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from models.attention import Pairs, attentions, relational

B, Q, K, S, D, H, E, TYPES, RELATIONS = 3, 2, 6, 7, 8, 2, 3, 3, 4
C = D // H


@pytest.fixture
def given():
    draw = torch.Generator().manual_seed(0)
    key_mask = torch.rand(B, K, generator=draw) < 0.7
    neighbours = torch.randint(S, (B, K), generator=draw)
    pairs = Pairs(
        key_mask,
        relation=torch.randint(RELATIONS, (B, K), generator=draw),
        query_type=torch.randint(TYPES, (B, Q), generator=draw),
        key_type=torch.tensor([0, 1, 2, 0, 1, 1, 2])[neighbours],
        edge=torch.randn(B, K, E, generator=draw).double(),
    )
    query, source = torch.randn(B, Q, D, generator=draw), torch.randn(S, D, generator=draw)
    return query.double(), source.double(), neighbours, pairs


def made(name):
    torch.manual_seed(3)
    settings = {"dim": D, "heads": H, "types": TYPES, "relations": RELATIONS, "edge_width": E}
    layer = attentions.build(name, settings).double()
    for part in layer.parameters():
        part.data += 0.1 * torch.randn(part.shape, dtype=part.dtype)  # the prior starts at one for all
    return layer


def array(part):
    return part.detach().numpy()


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def each(given, is_open=lambda of_query, of_key: True):
    """b, q, the places that are seen and the nodes there."""
    _, _, neighbours, pairs = given
    for b, q in np.ndindex(B, Q):
        of_query = int(pairs.query_type[b, q])
        places = [
            k for k in range(K) if pairs.key_mask[b, k] and is_open(of_query, int(pairs.key_type[b, k]))
        ]
        yield b, q, of_query, places, [int(neighbours[b, k]) for k in places]


def heads_of(vector):
    return vector.reshape(H, C)


def test_heterogeneous_equals_its_definition(given):
    layer, (query, source, _, pairs) = made("heterogeneous"), given
    of_query, of_source, out = array(layer.of_query), array(layer.of_source), array(layer.out)
    match, message, prior = array(layer.match), array(layer.message), array(layer.prior)
    wanted = np.zeros((B, Q, D))
    for b, q, kind, places, nodes in each(given):
        asked, mixed = heads_of(array(query[b, q]) @ of_query[kind]), np.zeros((H, C))
        for h in range(H) if places else ():
            scores, messages = [], []
            for k, node in zip(places, nodes, strict=True):
                both = array(source[node]) @ of_source[int(pairs.key_type[b, k])]
                key, value, r = heads_of(both[:D])[h], heads_of(both[D:])[h], int(pairs.relation[b, k])
                scores.append(prior[r, h] * (key @ match[r, h] @ asked[h]) / math.sqrt(C))
                messages.append(value @ message[r, h])
            mixed[h] = softmax(np.array(scores)) @ np.array(messages)
        gelu = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in mixed.ravel()]
        wanted[b, q] = np.array(gelu) @ out[kind]
    np.testing.assert_allclose(array(layer(*given)), wanted, atol=1e-12)


def test_heterogeneous_projects_each_row_once_whatever_its_relations(given, monkeypatch):
    layer, rows, plain = made("heterogeneous"), [], relational._by_code
    monkeypatch.setattr(
        relational,
        "_by_code",
        lambda features, code, matrices: rows.append(len(features)) or plain(features, code, matrices),
    )
    _, _, neighbours, pairs = given
    layer(*given)
    pairs_of_row = {
        (int(n), int(r)) for n, r in zip(neighbours.flatten(), pairs.relation.flatten(), strict=True)
    }
    assert rows[0] == len(neighbours.unique()) <= S  # keys and values by type
    assert rows[1] == len(pairs_of_row) <= B * K  # by relation


def test_a_row_of_two_types_is_projected_as_each(given):
    """Nothing depends on the batch: a row told to be of another type elsewhere answers as if alone."""
    layer, (query, source, neighbours, pairs) = made("heterogeneous"), given
    odd = dataclasses.replace(pairs, key_type=(pairs.key_type + torch.arange(B)[:, None]) % TYPES)
    torch.testing.assert_close(
        layer(query, source, neighbours, odd), layer(query, source[neighbours], None, odd)
    )


def test_bipartite_equals_its_definition(given):
    layer, (query, source, _, _) = made("bipartite"), given
    of_query, of_source, out = array(layer.of_query), array(layer.of_source), array(layer.out)
    wanted = np.zeros((B, Q, D))
    for b, q, kind, places, nodes in each(given, lambda one, other: (one == 0) != (other == 0)):
        side, mixed = int(kind != 0), np.zeros((H, C))
        asked = heads_of(array(query[b, q]) @ of_query[side])
        for h in range(H) if places else ():
            both = array(source[nodes]) @ of_source[1 - side]
            keys, values = both[:, :D].reshape(-1, H, C)[:, h], both[:, D:].reshape(-1, H, C)[:, h]
            mixed[h] = softmax(keys @ asked[h] / math.sqrt(C)) @ values
        wanted[b, q] = mixed.ravel() @ out[side]
    np.testing.assert_allclose(array(layer(*given)), wanted, atol=1e-12)
    assert wanted.any()


def test_bipartite_does_not_see_its_own_side(given):
    layer, (query, source, neighbours, pairs) = made("bipartite"), given
    users = dataclasses.replace(
        pairs, query_type=torch.zeros(B, Q, dtype=torch.int64), key_type=torch.zeros_like(pairs.key_type)
    )
    assert not layer(query, source, neighbours, users).any()
    contents = dataclasses.replace(users, query_type=users.query_type + 1, key_type=users.key_type + 2)
    assert not layer(query, source, neighbours, contents).any()


def test_message_passing_equals_its_definition(given):
    layer, (query, source, _, pairs) = made("message_passing"), given
    first = np.concatenate([array(part.weight) for part in (layer.of_query, layer.of_key, layer.of_edge)], 1)
    ask, answer = array(layer.ask.weight), array(layer.answer.weight)
    wanted = np.zeros((B, Q, D))
    for b, q, _, places, nodes in each(given):
        if not places:
            continue
        state, total = array(query[b, q]), np.zeros((H, C))
        scores = [heads_of(ask @ state) * heads_of(answer @ array(source[node])) for node in nodes]
        weights = softmax_by_head(np.array(scores).sum(-1) / math.sqrt(C))  # (places, h)
        for k, node, weight in zip(places, nodes, weights, strict=True):
            joined = np.concatenate([state, array(source[node]), array(pairs.edge[b, k])])
            hidden = np.maximum(first @ joined + array(layer.of_query.bias), 0)
            total += weight[:, None] * heads_of(hidden)
        summed = array(layer.second.weight) @ total.ravel() + array(layer.second.bias)
        wanted[b, q] = gru(layer.cell, summed, state)
    np.testing.assert_allclose(array(layer(*given)), wanted, atol=1e-12)
    assert wanted.any()


def softmax_by_head(scores):
    return np.stack([softmax(column) for column in scores.T], 1)


def gru(cell, seen, state):
    """Cho et al. 2014 as torch orders it: reset, update, new."""
    given = np.split(array(cell.weight_ih) @ seen + array(cell.bias_ih), 3)
    held = np.split(array(cell.weight_hh) @ state + array(cell.bias_hh), 3)
    reset, update = (1 / (1 + np.exp(-given[i] - held[i])) for i in (0, 1))
    new = np.tanh(given[2] + reset * held[2])
    return (1 - update) * new + update * state


def test_the_second_layer_may_act_on_the_sum():
    """One head: Σ α MLP(…) is what is computed, though its second layer acts once per query."""
    torch.manual_seed(0)
    layer = attentions.build("message_passing", {"dim": 4, "edge_width": 1}).double()
    query, source = torch.randn(1, 1, 4).double(), torch.randn(3, 4).double()
    edge, neighbours = torch.randn(1, 3, 1).double(), torch.arange(3)[None]
    pairs = Pairs(torch.ones(1, 3, dtype=torch.bool), edge=edge)
    weights = layer.weights(query, source, neighbours, pairs)[0, 0, 0]
    messages = [
        layer.second((layer.of_query(query[0, 0]) + layer.of_key(row) + layer.of_edge(one)).relu())
        for row, one in zip(source, edge[0], strict=True)
    ]
    wanted = sum(weight * message for weight, message in zip(weights, messages, strict=True))
    torch.testing.assert_close(layer.messages(query, source, neighbours, pairs)[0, 0], wanted)


def test_sheaf_equals_its_definition(given):
    layer, (query, source, _, _) = made("sheaf"), given
    own, other = array(layer.own), array(layer.other)

    def turn(node, across, h):  # F of a node at its edge to another, on pairs of features of head h
        angle = math.pi * np.tanh(own[h] @ node + other[h] @ across)
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    wanted = np.zeros((B, Q, D))
    for b, q, _, places, nodes in each(given):
        here, mixed = array(query[b, q]), np.zeros((H, C // 2, 2))
        for node, h in ((array(source[node]), h) for node in nodes for h in range(H)):
            carried = turn(here, node, h).T @ turn(node, here, h)
            mixed[h] += heads_of(node)[h].reshape(-1, 2) @ carried.T / len(places)
        wanted[b, q] = array(layer.out.weight) @ mixed.ravel()
    np.testing.assert_allclose(array(layer(*given)), wanted, atol=1e-12)


def test_sheaf_refuses_a_head_that_cannot_turn():
    with pytest.raises(ValueError, match="even width"):
        attentions.build("sheaf", {"dim": 6, "heads": 2})


def test_no_part_of_a_type_or_relation_that_is_absent_learns(given):
    layer, (query, source, neighbours, pairs) = made("heterogeneous"), given
    few = dataclasses.replace(pairs, relation=pairs.relation % 2, key_type=pairs.key_type.clamp(max=1))
    layer(query, source, neighbours, few).square().sum().backward()
    assert layer.match.grad[:2].any() and not layer.match.grad[2:].any()
    assert layer.of_source.grad[:2].any() and not layer.of_source.grad[2:].any()
