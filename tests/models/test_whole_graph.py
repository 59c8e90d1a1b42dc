"""Hypergraph convolution and relational attention against plain NumPy on graphs small enough to write out."""

from collections import Counter

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.registry import SettingError
from experiments.training import FitConfig, fit
from kg.arrays import GraphArrays, from_records
from kg.records import Hyperedge, Node
from models.hypergraph import LIKES, members, two_stages
from models.interface import Training, recommenders
from models.knowledge import Hearing
from models.relations import relation_graph
from models.whole_graph import SparseMatrix

# users 0..2, contents 0..4 (the last neither liked nor rankable), persons a..c, one platform, two regions
LIKED = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]
CREDITS = [("a", 0), ("a", 1), ("b", 2), ("b", 3), ("b", 4), ("c", 0)]
OFFERS = [(1, ("US", "FR")), (2, ("FR",)), (4, ("US",))]


def small_graph() -> GraphArrays:
    nodes = [Node("Content", f"content:x:{place}") for place in range(5)]
    nodes += [Node("User", f"user:x:{place}") for place in range(3)]
    nodes += [Node("Person", f"person:x:{name}") for name in "abc"]
    nodes += [Node("Platform", "platform:p"), Node("Region", "region:US"), Node("Region", "region:FR")]
    facts = [
        Hyperedge("ACTED_IN", {"person": (f"person:x:{name}",), "content": (f"content:x:{place}",)}, "x")
        for name, place in CREDITS
    ]
    for place, regions in OFFERS:
        told = {
            "content": (f"content:x:{place}",),
            "platform": ("platform:p",),
            "region": tuple(f"region:{region}" for region in regions),
        }
        facts.append(Hyperedge("AVAILABLE", told, "x"))
    return from_records(
        "small",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


@pytest.fixture(scope="module")
def training() -> Training:
    row, column = np.array(LIKED).T
    positives = sp.csr_array((np.ones(len(row), np.float32), (row, column)), shape=(3, 5))
    times = sp.csr_array((np.arange(1, len(row) + 1), (row, column)), shape=(3, 5))
    return Training(small_graph(), positives, times, np.array([True] * 4 + [False]), seed=4)


def built(name: str, training: Training, **settings: object):
    model = recommenders.build(name, {"width": 4, "batch": 3, "dropout": 0.0, **settings})
    model.fit(training)
    model.module.eval()
    return model


# hypergraph: nodes are users 0..2, contents 3..7, persons a 8 and b 9 (c links one content), platform 10,
# regions FR 11 and US 12 (US links contents 1 and, outside the core, 4: one of the core, so it is left out)
LIKES_OF = [{0, 3, 4}, {1, 4, 5}, {2, 6}]
LIKERS_OF = [{3, 0}, {4, 0, 1}, {5, 1}, {6, 2}]
ACTED = [{8, 3}, {8, 4}, {9, 5}, {9, 6}, {9, 7}]
AVAILABLE = [{4, 10, 11}, {5, 10, 11}, {7, 10}]
OUTSIDE = 7


def test_members_by_hand(training):
    found = members(training, ("ACTED_IN", "AVAILABLE"))
    assert found.types == (*LIKES, "ACTED_IN", "AVAILABLE")
    rows = found.incidence.toarray()
    assert rows.shape[1] == 12
    sets = [frozenset(np.flatnonzero(row).tolist()) for row in rows]
    for code, wanted in enumerate((LIKES_OF, LIKERS_OF, ACTED, AVAILABLE)):
        got = [one for one, type in zip(sets, found.type, strict=True) if type == code]
        assert sorted(map(sorted, got)) == sorted(map(sorted, wanted))
    assert np.flatnonzero(~found.sends).tolist() == [OUTSIDE]


def test_two_stages_equal_a_plain_loop(training):
    found = members(training, ("ACTED_IN", "AVAILABLE"))
    into, back = two_stages(found)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(found.sends), 3))
    incidence = found.incidence.toarray()
    degree: Counter = Counter()
    listeners = []
    for fact, type in zip(incidence, found.type, strict=True):
        speaking = [node for node in np.flatnonzero(fact) if found.sends[node]]
        hear = [node for node in np.flatnonzero(fact) if len(speaking) > 1 or not found.sends[node]]
        degree.update((type, node) for node in hear)
        listeners.append((type, speaking, hear))
    wanted = np.zeros_like(vectors)
    for type, speaking, hear in listeners:
        said = np.mean([vectors[node] / max(degree[type, node], 1) ** 0.5 for node in speaking], axis=0)
        for node in hear:
            wanted[node] += said / degree[type, node] ** 0.5
    np.testing.assert_allclose(back @ (into @ vectors), wanted, atol=1e-6)


def test_convolution_equals_dense_matrices(training):
    model = built("hypergraph", training, layers=2, facts=("ACTED_IN", "AVAILABLE"))
    found = members(training, ("ACTED_IN", "AVAILABLE"))
    into, back = (matrix.toarray() for matrix in two_stages(found))
    weight = np.exp(model.module.log_weight.detach().numpy())
    np.testing.assert_allclose(weight, [1, 1, 0.5, 0.5], rtol=1e-6)
    start = np.zeros((len(found.sends), 4))
    start[found.sends] = model.module.node_vector.detach().numpy()
    spread = back @ np.diag(weight[found.type]) @ into
    everywhere = (start + spread @ start + spread @ (spread @ start)) / 3
    with torch.no_grad():
        np.testing.assert_allclose(model.module.everywhere().numpy(), everywhere, atol=1e-6)
        trained = model.module().numpy()
    inside = np.arange(len(start)) != OUTSIDE
    np.testing.assert_allclose(trained[inside], everywhere[inside], atol=1e-6)
    assert not trained[OUTSIDE].any() and everywhere[OUTSIDE].any()


def test_sparse_products_have_right_gradients():
    matrix = sp.random_array((5, 4), density=0.5, rng=np.random.default_rng(1), format="csr")
    product = SparseMatrix(matrix)
    dense = torch.randn(4, 2, requires_grad=True)
    weights = torch.randn(5, 2)
    (product(dense) * weights).sum().backward()
    torch.testing.assert_close(dense.grad, torch.from_numpy(matrix.toarray().T).float() @ weights)


def test_attention_of_each_node_sums_to_one_and_equals_a_plain_loop(training):
    model = built("knowledge", training, facts=("ACTED_IN",), relation_width=3, layers=2)
    module, edges = model.module, relation_graph(training, ("ACTED_IN",)).edges
    with torch.no_grad():
        for part in (module.node_vector, module.relation_vector):
            part.mul_(20)  # far from even attention
        weight = module.attention(module.to_all).numpy()
        found = module.everywhere().numpy()
    head = module.to_all.head.numpy()
    heard = np.flatnonzero(np.bincount(head, minlength=edges.nodes))
    np.testing.assert_allclose(np.bincount(head, weight)[heard], 1, rtol=1e-6)
    assert weight.max() - weight.min() > 0.1
    start = np.zeros((edges.nodes, 4))
    start[module.core.numpy()] = module.node_vector.detach().double().numpy()
    matrix, vector, message = (
        part.detach().double().numpy()
        for part in (module.relation_matrix, module.relation_vector, module.relation_message)
    )
    triples = list(
        zip(*(part.tolist() for part in (edges.target, edges.relation, edges.source)), strict=True)
    )
    score = {
        (h, r, t): (start[t] @ matrix[r]) @ np.tanh(start[h] @ matrix[r] + vector[r]) for h, r, t in triples
    }
    hidden = summed = start
    for _ in range(2):
        after = np.zeros_like(hidden)
        for h in heard:
            around = [one for one in triples if one[0] == h]
            share = np.exp([score[one] for one in around])
            for (_, r, t), part in zip(around, share / share.sum(), strict=True):
                after[h] += part * message[r] * hidden[t]
        hidden, summed = after, summed + after
    np.testing.assert_allclose(found, summed / 3, atol=1e-5)


def test_weighted_sums_have_right_gradients(training):
    hearing = Hearing(relation_graph(training, ("ACTED_IN",)).edges)
    weight = torch.rand(len(hearing.head), requires_grad=True)
    message = torch.randn(len(hearing.tail_node), 3, requires_grad=True)
    upstream = torch.randn(hearing.nodes, 3)
    (hearing.weighted(weight, message) * upstream).sum().backward()
    found = weight.grad.clone(), message.grad.clone()
    weight.grad = message.grad = None
    plain = torch.zeros(hearing.nodes, 3).index_add(
        0, hearing.head, weight[:, None] * message[hearing.tail_pair]
    )
    (plain * upstream).sum().backward()
    torch.testing.assert_close(found, (weight.grad, message.grad))


@pytest.mark.parametrize("name", ["hypergraph", "knowledge"])
def test_contents_outside_the_core_hear_and_are_not_heard(name, training):
    model = built(name, training, facts=("ACTED_IN",))
    assert len(model.module.node_vector) == 3 + 4 + 2  # the content outside has no vector of its own
    with torch.no_grad():
        whole, trained = model.module.everywhere(), model.module()
    assert whole[OUTSIDE].any() and not trained[OUTSIDE].any()
    inside = np.setdiff1d(np.arange(len(whole)), OUTSIDE)
    torch.testing.assert_close(whole[inside], trained[inside])
    model.freeze()
    assert model.arrays()["content_vectors"][4].any()


@pytest.mark.parametrize("name", ["hypergraph", "knowledge"])
def test_training_repeats_to_the_bit_and_goes_on_where_it_broke_off(name, training, tmp_path):
    def made():
        settings = {"width": 4, "batch": 2, "dropout": 0.5, "facts": ("ACTED_IN",)}
        return recommenders.build(name, settings)

    whole, first, second = made(), made(), made()
    fit(whole, training, None, FitConfig(epochs=4))
    fit(first, training, None, FitConfig(epochs=2), folder=tmp_path)
    fit(second, training, None, FitConfig(epochs=4), folder=tmp_path)
    for key, value in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[key], value)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("hypergraph", {"facts": ("RATED",)}, "RATED"),
        ("hypergraph", {"facts": ("NONSENSE",)}, "NONSENSE"),
        ("hypergraph", {"features": {"widht": 3}}, "widht"),
        ("knowledge", {"relation_width": 0}, "relation_width"),
        ("knowledge", {"temperature": 0.0}, "temperature above 0"),
        ("hypergraph", {"loss": "hinge"}, "hinge"),
        ("knowledge", {"dropout": 1.0}, "dropout"),
    ],
)
def test_settings_that_fit_nothing_are_refused(name, settings, said):
    with pytest.raises((ValueError, SettingError), match=said):
        recommenders.build(name, settings)
