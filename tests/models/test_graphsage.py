"""GraphSAGE on a board of two tastes, and its losses by hand."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.registry import SettingError
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.attention import Attention, AttentionConfig, Pairs, attentions
from models.attention.base import READS
from models.features import encoders
from models.graph_encoder import EDGE_WIDTH, Encoder, GraphSAGEConfig, Surroundings
from models.graphsage import GraphSAGE
from models.interface import Training, Users, recommenders
from models.losses import bpr, sampled_softmax
from models.negatives import Candidates
from models.neighbourhood import DGLSampler, Edges, TorchSampler, whole
from models.relations import RelationGraph

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


def leaked(graph, blocks, positions) -> set[tuple[int, int]]:
    """Pairs to be predicted that stand in the blocks, either way round."""
    likes = {tuple(pair) for pair in graph.positives[positions].tolist()}
    pairs = likes | {(content, user) for user, content in likes}
    found = set()
    for block in blocks:
        node = block.source[block.neighbours]
        for row, target in enumerate(block.targets.tolist()):
            found |= {(target, neighbour) for neighbour in node[row][block.key_mask[row]].tolist()}
    return found & pairs


@pytest.mark.parametrize("sampler", ["dgl", "torch"])
def test_pairs_to_be_predicted_are_in_no_neighbourhood_and_a_planted_leak_is_seen(
    board, monkeypatch, sampler
):
    model = recommenders.build("graphsage", TINY | {"fan_out": (-1, -1), "sampler": sampler})
    model.fit(board)
    graph, seen, positions = model._graph, [], torch.arange(10)
    original = model._sampler.sample
    monkeypatch.setattr(model._sampler, "sample", lambda *given: seen.append(original(*given)) or seen[-1])
    model._loss(positions, torch.Generator().manual_seed(0))
    assert not leaked(graph, seen[0], positions)
    monkeypatch.setattr(
        model._sampler, "sample", lambda *given: seen.append(original(*given[:2])) or seen[-1]
    )
    model._loss(positions, torch.Generator().manual_seed(0))
    assert len(leaked(graph, seen[1], positions)) == 20


@pytest.fixture(scope="module")
def fitted(board) -> GraphSAGE:
    model = recommenders.build("graphsage", TINY)
    model.fit(board)
    return model


@pytest.mark.parametrize("name", list(attentions))
def test_any_attention_is_an_aggregator(board, name):
    """Both samplers and inference layer by layer give one answer; every parameter learns."""
    model = recommenders.build("graphsage", TINY | {"attention": {"name": name}, "dropout": 0.0})
    model.fit(board)
    model.module.eval()
    targets, edges = torch.tensor([3, 30, 0, 43]), model._graph.edges
    with torch.no_grad():
        everywhere = model.module.everywhere(model._whole, edges.nodes)[targets]
        for sampler in (DGLSampler(edges), TorchSampler(edges)):
            torch.testing.assert_close(model.module(sampler.sample(targets, (-1, -1))), everywhere)
    next(iter(model.steps(torch.Generator().manual_seed(1))))().backward()
    for parameter in model.module.layers.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all()


def test_a_neighbourhood_of_thousands_is_read_by_any_attention(board):
    count = 3000
    zero = torch.zeros(count, dtype=torch.int64)
    edges = Edges(torch.arange(1, count + 1), zero, zero, count + 1, 1, torch.arange(count) + 7)
    for name in attentions:
        config = GraphSAGEConfig(**TINY | {"attention": {"name": name}})
        graph = RelationGraph(
            edges,
            (torch.arange(count + 1) > 0).long(),
            ("User", "Content"),
            ("RATED^",),
            1,
            count,
            torch.zeros(0, 2, dtype=torch.int64),
            torch.ones(count + 1, dtype=torch.bool),
        )
        module = Encoder(config, graph, np.ones((count, 3), np.float32)).eval()
        with torch.no_grad():
            found = module.everywhere(list(whole(edges, torch.arange(count + 1))), count + 1)
        assert found.shape == (count + 1, 16) and found.isfinite().all()


class Asks(Attention):
    """States to read what a test wants."""

    def forward(self, query, source, neighbours, pairs):
        return query


def asking(*facts: str) -> Attention:
    return type("Asks", (Asks,), dict.fromkeys(facts, True))(AttentionConfig(dim=2))


def test_a_mechanism_is_handed_what_it_states_and_nothing_else(fitted):
    (block,) = TorchSampler(fitted._graph.edges).sample(torch.arange(44), (-1,))
    around, optional = (
        fitted.module.around,
        {field.name for field in dataclasses.fields(Pairs)} - {"key_mask"},
    )
    for facts in ((), *((fact,) for fact in READS), tuple(READS)):
        pairs = around.pairs(block, asking(*facts))
        handed = {name for name in optional if isinstance(getattr(pairs, name), torch.Tensor)}
        assert handed == {field for fact in facts for field in READS[fact]}


def test_what_is_known_of_a_pair_by_hand(board):
    # user 0 liked content 1 a day before content 0; a person acted in content 0 and 1
    day = 86_400
    edges = Edges(
        torch.tensor([3, 2, 1, 4, 0]),
        torch.tensor([0, 0, 2, 2, 3]),
        torch.tensor([0, 0, 1, 2, 3]),
        5,
        4,
        torch.tensor([7, 7 + day, 0, 0, 7]),
    )
    graph = RelationGraph(
        edges,
        torch.tensor([0, 0, 1, 1, 2]),
        ("User", "Content", "Person"),
        tuple("abcd"),
        2,
        2,
        torch.tensor([[0, 2]]),
        torch.ones(5, dtype=torch.bool),
    )
    (block,) = TorchSampler(edges).sample(torch.tensor([0, 2, 4]), (-1,))
    pairs = Surroundings(graph).pairs(block, asking(*READS))
    assert pairs.age_s.tolist()[0] == [day, 0] and not pairs.age_s[1:].any()
    assert pairs.query_type.tolist() == [[0], [1], [2]] and pairs.key_type[0].tolist() == [1, 1]
    assert sorted(pairs.key_type[1].tolist()) == [0, 2]
    assert pairs.query_degree.tolist() == [[2], [2], [0]] and pairs.key_degree[0].tolist() == [1, 2]
    assert pairs.edge[0].tolist() == [pytest.approx([math.log(2) / 10, 1]), [0, 1]]
    assert not pairs.edge[1:].any() and pairs.edge.shape == (3, 2, EDGE_WIDTH)


def test_half_precision_on_a_processor_is_close_to_single(fitted):
    module, blocks = fitted.module.eval(), fitted._sampler.sample(torch.tensor([3, 30, 0, 43]), (-1, -1))
    with torch.no_grad():
        wanted = module(blocks)
        with torch.autocast("cpu", torch.bfloat16):
            found = module(blocks)
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0)


def test_whole_inference_equals_blocks_with_every_neighbour(board):
    model = recommenders.build("graphsage", TINY)
    model.fit(board)
    model.module.eval()
    targets = torch.tensor([3, 30, 0, 44])
    with torch.no_grad():
        wanted = model.module(model._sampler.sample(targets, (-1, -1)))
        found = model.module.everywhere(model._whole, model._graph.edges.nodes)[targets]
    torch.testing.assert_close(found, wanted)


def test_listening_tells_what_the_last_layer_weighs(board):
    model, _ = trained(board, 1, attention={"name": "gat"})
    user = 3
    found = model.listening(user)
    liked = board.positives[[user]].indices
    assert sorted(found.content_rows.tolist()) == sorted(liked.tolist())
    assert (np.diff(found.age_s) <= 0).all()  # oldest first
    assert found.weights.shape == (TINY["heads"][-1], len(liked))
    np.testing.assert_allclose(found.weights.sum(1), 1, rtol=1e-5)
    times = dict(zip(liked.tolist(), board.times[[user]].data.tolist(), strict=True))
    ages = {row: board.times.data.max() - times[row] for row in times}
    assert [ages[row] for row in found.content_rows.tolist()] == pytest.approx(found.age_s.tolist())


def test_listening_is_refused_where_there_is_nothing_to_tell(board):
    with pytest.raises(ValueError, match="Mean does not"):
        trained(board, 0, attention={"name": "mean"})[0].listening(0)
    with pytest.raises(ValueError, match="trained in this process"):
        recommenders.build("graphsage", TINY).listening(0)


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
        ({"attention": {"name": "gatv3"}}, "nearest: gatv2"),
        ({"attention": {"name": "gat", "dim": 8}}, "from its layer and the graph, got 'dim'"),
        ({"heads": (3, 2)}, "heads must divide"),
        ({"heads": (2, 3)}, "layer 2 of 2 .width 16, heads 3."),
        ({"features": {"width": 3}}, "no setting 'width'"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings, said):
    with pytest.raises((ValueError, SettingError, KeyError, RuntimeError), match=said):
        recommenders.build("graphsage", TINY | settings)


def test_a_feature_that_is_no_number_is_refused_by_name(board, monkeypatch):
    def spoilt(texts, known, config):
        made = np.ones((len(texts), config.text_width))
        made[3, 5] = np.nan
        return made

    monkeypatch.setitem(encoders._parts, "tfidf", (spoilt, None))
    with pytest.raises(ValueError, match=f"nan in text feature 5 of {board.graph.id_of('Content', 3)}"):
        recommenders.build("graphsage", TINY).fit(board)


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
