"""Every registered recommender is held to what it states about itself; none is named here."""

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from safetensors.numpy import load, save

from configs.loading import ROOT
from configs.loading import load as load_settings
from configs.registry import import_parts
from experiments.training import FitConfig, fit
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.interface import ModelFacts, Recommender, Trainable, Training, Users, recommenders
from models.ranking import top

import_parts("models")
NAMES = list(recommenders)
COLD = (5, 12)  # contents of either colour that nobody liked in training


@dataclass(frozen=True)
class Board:
    training: Training
    colours: np.ndarray  # (i,)
    users: Users
    user_colours: np.ndarray  # (u,)

    @property
    def warm(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.colours)), COLD)


@pytest.fixture(scope="module")
def board() -> Board:
    world = checkerboard(users=30, contents=24, share=0.7, seed=3)
    graph = from_records("checkerboard", world.nodes, world.hyperedges)
    _, contents = graph.pairs("RATED")
    graph = graph.keep({"RATED": ~np.isin(contents, COLD)})
    users, contents = graph.pairs("RATED")
    shape = graph.size("User"), graph.size("Content")
    positives = sp.csr_array((np.ones(len(users), np.float32), (users, contents)), shape=shape)
    times = sp.csr_array((graph.starts("RATED"), (users, contents)), shape=shape)
    rankable = np.ones(shape[1], bool)
    training = Training(graph, positives, times, rankable, seed=7)
    colour = [world.truth.content_group[id] for id in graph.ids("Content")]
    taste = [world.truth.user_group[id] for id in graph.ids("User")]
    return Board(training, np.array(colour), Users(np.arange(shape[0]), positives), np.array(taste))


def tiny_settings(name: str) -> dict:
    """A model that takes long with its defaults has settings for tiny worlds beside its others."""
    path = ROOT / "model" / f"{name}_tiny.yaml"
    settings = load_settings(path) if path.is_file() else {}
    return {key: value for key, value in settings.items() if key != "name"}


def fitted(name: str, training: Training) -> Recommender:
    model = recommenders.build(name, tiny_settings(name))
    if isinstance(model, Trainable):
        fit(model, training, None, FitConfig(learning_rate=0.02, epochs=8))
    else:
        model.fit(training)
    return model


@pytest.fixture(scope="module", params=NAMES)
def model(request, board: Board) -> Recommender:
    return fitted(request.param, board.training)


def somebody(board: Board, *colours: int) -> Users:
    """People the graph does not know, each with four likes of one colour."""
    history = np.zeros((len(colours), len(board.colours)), np.float32)
    for place, colour in enumerate(colours):
        history[place, [row for row in board.warm if board.colours[row] == colour][:4]] = 1
    return Users(np.full(len(colours), -1), sp.csr_array(history))


def test_states_its_facts(model):
    assert isinstance(model.facts, ModelFacts)
    assert isinstance(model.facts.draws_on, tuple)


def test_scores_are_finite_and_one_a_content(model, board):
    scores = model.score(board.users)
    assert scores.shape == board.training.positives.shape and scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_scoring_leaves_its_input_alone_and_gives_an_array_of_its_own(model, board):
    before = board.users.history.copy()
    first = model.score(board.users)
    kept = first.copy()
    first[:] = -np.inf
    np.testing.assert_array_equal(model.score(board.users), kept)
    np.testing.assert_array_equal(board.users.history.toarray(), before.toarray())


def test_finds_the_right_contents(model, board):
    if not model.facts.is_personal:
        pytest.skip("states that it is not personal")
    scores = model.score(board.users)
    right = board.colours[None] == board.user_colours[:, None]
    unseen = board.training.positives.toarray() == 0
    unseen[:, list(COLD)] = False
    lists = top(scores, 3, unseen)
    found = np.take_along_axis(right, np.maximum(lists, 0), axis=1)[lists >= 0]
    available = np.minimum((unseen & right).sum(axis=1), 3).sum()
    assert found.sum() / available > 0.9  # by chance 0.4


def test_batch_of_one_equals_batch_of_many(model, board):
    together = model.score(board.users)
    for place in (0, 7, 29):
        alone = model.score(Users(board.users.rows[[place]], board.users.history[[place]]))
        np.testing.assert_allclose(alone[0], together[place], rtol=1e-5, atol=1e-6)


def test_batch_of_none_has_no_rows(model, board):
    nobody = Users(np.empty(0, np.int64), board.users.history[:0])
    assert model.score(nobody).shape == (0, len(board.colours))


def test_somebody_unknown_without_history_gets_scores(model, board):
    nobody = Users(np.array([-1]), sp.csr_array((1, len(board.colours)), dtype=np.float32))
    assert np.isfinite(model.score(nobody)).all()
    assert model.reasons(nobody, 0) == []


def test_cold_user_as_stated(model, board):
    first, second = model.score(somebody(board, 0, 1))
    if not model.facts.scores_cold_user:
        np.testing.assert_array_equal(first, second)
        return
    unseen = np.setdiff1d(board.warm, somebody(board, 0, 1).history.indices)
    for scores, colour in ((first, 0), (second, 1)):
        own = board.colours[unseen] == colour
        assert scores[unseen][own].mean() > scores[unseen][~own].mean()


def test_history_moves_only_a_personal_model(model, board):
    if model.facts.is_personal:
        pytest.skip("states that it is personal")
    other = Users(board.users.rows, board.users.history[::-1])
    np.testing.assert_array_equal(model.score(board.users), model.score(other))


def test_cold_content_as_stated(model, board):
    scores = model.score(board.users)
    highest, lowest = scores[:, list(COLD)].max(axis=1), scores[:, board.warm].min(axis=1)
    if model.facts.scores_cold_content:
        assert (highest > lowest).any()
    else:
        assert (highest < lowest).all()


def test_comes_back_to_the_bit(model, board):
    arrays = model.arrays()
    assert arrays and all(isinstance(array, np.ndarray) for array in arrays.values())
    again = type(model)(model.config)
    written = save({name: np.require(array, requirements="C") for name, array in arrays.items()})
    again.restore(load(written), board.training.graph)
    np.testing.assert_array_equal(again.score(board.users), model.score(board.users))
    stranger = somebody(board, 1)
    np.testing.assert_array_equal(again.score(stranger), model.score(stranger))
    for content_row in (0, 1):
        assert again.reasons(board.users, content_row) == model.reasons(board.users, content_row)


def test_same_seed_gives_the_same_scores(model, board):
    name = next(name for name in NAMES if recommenders[name] is type(model))
    np.testing.assert_array_equal(fitted(name, board.training).score(board.users), model.score(board.users))


def test_reasons_come_from_the_history_largest_first(model, board):
    for place in (0, 5):
        user = Users(board.users.rows[[place]], board.users.history[[place]])
        liked = set(user.history.indices.tolist())
        for content_row in range(len(board.colours)):
            reasons = model.reasons(user, content_row, 2)
            gave = [reason.contribution for reason in reasons]
            assert len(reasons) <= 2 and gave == sorted(gave, reverse=True)
            assert all(np.isfinite(value) and value > 0 for value in gave)
            assert {reason.content_row for reason in reasons} <= liked - {content_row}
            # asking for more adds to the end
            assert model.reasons(user, content_row, 4)[: len(reasons)] == reasons
        assert model.reasons(user, 0, 0) == []


def test_settings_files_build():
    for path in sorted((ROOT / "model").glob("*.yaml")):
        settings = load_settings(path)
        recommenders.build(settings.pop("name"), settings)
