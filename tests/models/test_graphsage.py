"""GraphSAGE on a board of two tastes, and its losses by hand."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.registry import SettingError
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.graphsage import GraphSAGE, GraphSAGEConfig
from models.interface import Training, Users, recommenders
from models.losses import bpr, sampled_softmax
from models.negatives import Candidates

TINY = {"widths": (16, 16, 16), "fan_out": (6, 4), "heads": (2, 2), "batch": 64}


@pytest.fixture(scope="module")
def board() -> Training:
    world = checkerboard(users=24, contents=20, share=0.7, seed=2)
    graph = from_records("checkerboard", world.nodes, world.hyperedges)
    users, contents = graph.pairs("RATED")
    shape = graph.size("User"), graph.size("Content")
    positives = sp.csr_array((np.ones(len(users), np.float32), (users, contents)), shape=shape)
    times = sp.csr_array((graph.starts("RATED"), (users, contents)), shape=shape)
    return Training(graph, positives, times, np.ones(shape[1], bool), seed=1)


def trained(board: Training, epochs: int = 8, **settings: object) -> tuple[GraphSAGE, list[float]]:
    model = recommenders.build("graphsage", TINY | settings)
    with torch.random.fork_rng():
        torch.manual_seed(board.seed)
        model.fit(board)
        generator, losses = torch.Generator().manual_seed(board.seed), []
        optimiser = torch.optim.Adam(model.module.parameters(), 0.01)
        for _ in range(epochs):
            for batch in model.steps(generator):
                optimiser.zero_grad()
                loss = batch()
                loss.backward()
                optimiser.step()
                losses.append(loss.item())
    model.freeze()
    return model, losses


def everybody(board: Training) -> Users:
    return Users(np.arange(board.positives.shape[0]), board.positives)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": {"name": "gatv2", "negative_slope": 0.1}},
        {"attention": {"name": "multi_head"}, "sampler": "torch"},
        {"loss": "bpr", "negatives": "popularity", "negative_count": 8},
        {"negatives": "in_batch", "fan_out": (-1, -1)},
    ],
)
def test_learns_who_likes_what(board, settings):
    model, losses = trained(board, **settings)
    assert losses[-1] < losses[0]
    scores = np.where(board.positives.toarray() > 0, -np.inf, model.score(everybody(board)))
    is_own = np.arange(24)[:, None] % 2 == np.arange(20) % 2
    left = is_own & (board.positives.toarray() == 0)
    first = np.take_along_axis(left, scores.argsort(1)[:, -2:], 1)
    assert first.sum() / np.minimum(left.sum(1), 2).sum() > 0.9  # by chance about 0.2


def test_same_seed_same_numbers(board):
    first, second = (trained(board, 2)[0].arrays() for _ in range(2))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_target_edges_are_hidden_from_their_own_neighbourhood(board, monkeypatch):
    model = recommenders.build("graphsage", TINY | {"fan_out": (-1, -1)})
    model.fit(board)
    graph, seen = model._graph, []
    original = model._sampler.sample
    monkeypatch.setattr(model._sampler, "sample", lambda *given: seen.append(original(*given)) or seen[-1])
    positions = torch.arange(10)
    model._loss(positions, torch.Generator().manual_seed(0))
    pairs = {
        tuple(pair)
        for user, content in graph.positives[positions].tolist()
        for pair in ((user, content), (content, user))
    }
    found = set()
    for block in seen[0]:
        node = block.source[block.neighbours]
        for row, target in enumerate(block.targets.tolist()):
            found |= {(target, neighbour) for neighbour in node[row][block.key_mask[row]].tolist()}
    assert found and not found & pairs


def test_whole_inference_equals_blocks_with_every_neighbour(board):
    model = recommenders.build("graphsage", TINY)
    model.fit(board)
    model.module.eval()
    targets = torch.tensor([3, 30, 0, 44])
    with torch.no_grad():
        wanted = model.module(model._sampler.sample(targets, (-1, -1)))
        found = model.module.everywhere(model._whole, model._graph.edges.nodes)[targets]
    torch.testing.assert_close(found, wanted)


def test_untouched_node_vectors_get_no_gradient_and_padding_stays_zero(board):
    model, _ = trained(board, 1)
    assert not model.module.node_vector.weight[0].any()


def test_parameters_by_hand(board):
    # two layers of 16: V, mixture, W, LayerNorm, attention; input: nodes, types, features; scale
    model = recommenders.build("graphsage", TINY | {"facts": ()})
    model.fit(board)
    layer = 4 * 16 * 16 + 2 * 4 + (32 * 16 + 16) + 32 + 2 * 16 * 16
    start = (24 + 20 + 1) * 16 + 2 * 16 + 128 * 16
    assert sum(part.numel() for part in model.module.parameters()) == 2 * layer + start + 1


def test_scores_are_dot_products_that_come_back(board):
    model, _ = trained(board, 1)
    again = GraphSAGE(GraphSAGEConfig())
    again.restore(model.arrays(), board.graph)
    np.testing.assert_array_equal(again.score(everybody(board)), model.score(everybody(board)))
    assert again.arrays().keys() == model.arrays().keys()
    vectors = model.vectors(everybody(board)) @ model.arrays()["content_vectors"].T
    np.testing.assert_array_equal(vectors, model.score(everybody(board)))


def test_unknown_people_are_placed_by_their_history(board):
    model, _ = trained(board)
    history = np.zeros((2, 20), np.float32)
    history[0, :6:2] = 1
    scores = model.score(Users(np.array([-1, -1]), sp.csr_array(history)))
    assert scores[0, 6::2].mean() > scores[0, 7::2].mean()
    usual = model.score(everybody(board)).mean(0)
    np.testing.assert_allclose(scores[1], usual, rtol=1e-4, atol=1e-5)


def test_asking_before_learning_or_of_another_graph_is_refused(board):
    with pytest.raises(RuntimeError, match="freeze"):
        GraphSAGE(GraphSAGEConfig()).score(everybody(board))
    model, _ = trained(board, 1)
    wrong = model.arrays() | {"content_vectors": np.zeros((3, 16), np.float32)}
    with pytest.raises(ValueError, match="3 contents"):
        GraphSAGE(GraphSAGEConfig()).restore(wrong, board.graph)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fan_out": (5,)}, "one number more"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"attention": {"name": "nonsense"}}, "no attention is called"),
        ({"attention": {"name": "gat", "slope": 1}}, "no setting 'slope'"),
        ({"heads": (3, 2)}, "heads must divide"),
        ({"features": {"width": 3}}, "no setting 'width'"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings, said):
    with pytest.raises((ValueError, SettingError, KeyError, RuntimeError), match=said):
        recommenders.build("graphsage", TINY | settings)


def test_sampled_softmax_by_hand():
    # the user likes candidates 0 and 1: for 0, candidate 1 is no negative. Uncorrected e^2 / (e^2 + e^1)
    scores, liked = torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([[True, True, False]])
    zero = torch.tensor([0])
    loss = sampled_softmax(scores, zero, zero, liked, torch.zeros(3))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)))
    # a candidate met half as often stands for two
    loss = sampled_softmax(scores, zero, zero, liked, torch.log(torch.tensor([1.0, 1.0, 0.5])))
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-1)))


def test_bpr_by_hand():
    scores, liked = torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([[True, True, False]])
    zero = torch.tensor([0])
    assert bpr(scores, zero, zero, liked, torch.zeros(3)).item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_log_chance_is_how_often_a_candidate_is_met():
    counts = np.array([8, 4, 2, 1, 1, 0, 0, 3])
    rankable = np.array([True] * 6 + [False, True])
    generator = torch.Generator().manual_seed(0)
    for source, drawn in (("uniform", 2), ("popularity", 3), ("in_batch", 9), ("uniform", 99)):
        candidates, times = Candidates(counts, rankable, 4, source, drawn), 1500
        met = torch.zeros(8)
        for _ in range(times):
            batch = torch.multinomial(torch.tensor(counts).double(), 4, replacement=True, generator=generator)
            met[candidates.draw(batch, generator)[0]] += 1
        chance = candidates.log_chance.exp()
        near = 0.05 if source != "popularity" else 0.12  # drawn without replacement, counted as if with
        torch.testing.assert_close(met / times, chance, atol=near, rtol=0)


def test_full_softmax_where_all_contents_are_candidates():
    candidates = Candidates(np.array([3, 1, 0]), np.array([True, True, True]), 2, "uniform", 1000)
    torch.testing.assert_close(candidates.log_chance, torch.zeros(3), atol=1e-9, rtol=0)
