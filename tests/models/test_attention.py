"""Each mechanism against a reference of its own: torch's, or a plain loop."""

import numpy as np
import pytest
import torch

from models.attention import AttentionConfig, Pairs, attentions
from models.attention.additive import GAT, GATConfig, GATv2, GATv2Config
from models.attention.convolution import GraphSAGEMean, Mean

B, Q, K, S, D, H = 3, 2, 5, 7, 8, 2
C = D // H


@pytest.fixture
def given():
    draw = torch.Generator().manual_seed(0)
    key_mask = torch.rand(B, K, generator=draw) < 0.6
    key_mask[:, 0] = True
    query, source = torch.randn(B, Q, D, generator=draw), torch.randn(S, D, generator=draw)
    return query.double(), source.double(), torch.randint(S, (B, K), generator=draw), Pairs(key_mask)


def leaky(value, slope):
    return np.where(value > 0, value, slope * value)


def by_loop(given, score, values):
    """Softmax attention written as its definition: one target, query and head at a time."""
    query, _, neighbours, pairs = (part.numpy() if isinstance(part, torch.Tensor) else part for part in given)
    answer = np.zeros(query.shape)
    for b, q, h in np.ndindex(B, Q, H):
        seen = neighbours[b][pairs.key_mask[b].numpy()]
        scores = np.array([score(query[b, q], node, h) for node in seen])
        weights = np.exp(scores - scores.max())
        answer[b, q, h * C : (h + 1) * C] = weights / weights.sum() @ values[seen, h * C : (h + 1) * C]
    return answer


def test_gat_equals_its_definition(given):
    made = GAT(GATConfig(D, H, negative_slope=0.3)).double()
    weight = made.projections["query"].weight.detach().numpy()  # one W for both ends
    of_query, of_key = made.of_query.detach().numpy(), made.of_key.detach().numpy()
    projected = given[1].numpy() @ weight.T

    def score(query, node, h):
        own = (weight @ query).reshape(H, C)[h] @ of_query[h]
        return leaky(own + projected[node].reshape(H, C)[h] @ of_key[h], 0.3)

    np.testing.assert_allclose(made(*given).detach().numpy(), by_loop(given, score, projected), atol=1e-12)


def test_gatv2_equals_its_definition(given):
    made = GATv2(GATv2Config(D, H)).double()
    of_query, of_key = (made.projections[role].weight.detach().numpy() for role in ("query", "key"))
    direction, projected = made.direction.detach().numpy(), given[1].numpy() @ of_key.T

    def score(query, node, h):
        bent = leaky((of_query @ query).reshape(H, C)[h] + projected[node].reshape(H, C)[h], 0.2)
        return bent @ direction[h]

    np.testing.assert_allclose(made(*given).detach().numpy(), by_loop(given, score, projected), atol=1e-12)


def test_gat_ranks_alike_for_all_queries_and_gatv2_does_not():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 40, 4), torch.randn(1, 1, 6, 4)
    pairs = Pairs(torch.ones(1, 6, dtype=torch.bool))
    orders = {
        name: {
            tuple(row.argsort().tolist())
            for row in attentions.build(name, {"dim": 4}).scores(query, key, pairs)[0, 0]
        }
        for name in ("gat", "gatv2")
    }
    assert len(orders["gat"]) == 1 and len(orders["gatv2"]) > 1


def test_mean_and_graphsage_equal_their_definition(given):
    query, source, neighbours, pairs = given
    means = torch.stack([source[neighbours[b][pairs.key_mask[b]]].mean(0) for b in range(B)])[:, None].expand(
        -1, Q, -1
    )
    torch.testing.assert_close(Mean(AttentionConfig(D))(*given), means)
    made = GraphSAGEMean(AttentionConfig(D)).double()
    wanted = torch.cat([query, means], -1) @ made.weight.weight.T
    torch.testing.assert_close(made(*given), wanted)
    assert sum(part.numel() for part in made.parameters()) == 2 * D * D
