"""SASRec reads in order: nothing later reaches back, times decide, a planted order is found."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.loading import ROOT, load
from configs.registry import SettingError, fill
from experiments.run import ExperimentConfig
from experiments.training import FitConfig, fit
from kg.arrays import GraphArrays, from_records
from kg.records import Node
from models.interface import Training, Users, recommenders
from models.sasrec import SASRec
from models.sequences import PAD, START, sequences

TINY = {"width": 16, "blocks": 1, "heads": 2, "max_length": 8, "batch": 8, "dropout": 0.0}
CONTENTS, PEOPLE = 10, 40


def ring_graph() -> GraphArrays:
    nodes = [Node("Content", f"content:x:{place}") for place in range(CONTENTS + 1)]
    nodes += [Node("User", f"user:x:{place:02d}") for place in range(PEOPLE)]
    return from_records("ring", lambda type: [node for node in nodes if node.type == type], lambda type: [])


@pytest.fixture(scope="module")
def ring() -> Training:
    """Everybody walks a ring of contents: after c comes c + 3; the last content nobody liked."""
    rng = np.random.default_rng(5)
    rows, columns, times = [], [], []
    for user in range(PEOPLE):
        start, steps = rng.integers(CONTENTS), rng.integers(3, 7)
        for step in range(steps):
            rows.append(user)
            columns.append((start + 3 * step) % CONTENTS)
            times.append(100 + step)
    shape = (PEOPLE, CONTENTS + 1)
    liked = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    when = sp.csr_array((np.array(times, np.int64), (rows, columns)), shape=shape)
    return Training(ring_graph(), liked, when, np.ones(CONTENTS + 1, bool), seed=2)


@pytest.fixture(scope="module")
def model(ring: Training) -> SASRec:
    made = recommenders.build("sasrec", TINY)
    fit(made, ring, None, FitConfig(learning_rate=0.01, epochs=30))
    return made


def somebody(*contents: int, times: tuple[int, ...] | None = None) -> Users:
    """One unknown person's history, in the order in which it is given."""
    places = (np.array(contents, np.int64), np.array([0, len(contents)]))
    history = sp.csr_array((np.ones(len(contents), np.float32), *places), shape=(1, CONTENTS + 1))
    when = None if times is None else sp.csr_array((np.array(times), *places), shape=(1, CONTENTS + 1))
    return Users(np.array([-1]), history, when)


def test_finds_what_comes_next_for_anybody_with_a_history(model):
    for start in range(CONTENTS):
        walked = [start, (start + 3) % CONTENTS, (start + 6) % CONTENTS]
        scores = model.score(somebody(*walked))[0]
        scores[walked] = -np.inf
        assert scores.argmax() == (start + 9) % CONTENTS


def test_who_liked_only_what_is_new_teaches_a_base_nothing(model, ring):
    """The last content came after the base: it has no token, and nobody's history holds another."""
    shape = (PEOPLE, CONTENTS + 1)
    liked = sp.csr_array((np.ones(1, np.float32), ([0], [CONTENTS])), shape=shape)
    newer = Training(ring.graph, liked, sp.csr_array(liked.astype(np.int64)), ring.rankable)
    going = SASRec(model.config)
    going.follow(model.arrays(), newer)
    generator = torch.Generator().manual_seed(0)
    found = [one().item() for one in itertools.chain(going.examples(generator, 3), going.steps(generator))]
    assert found == [0.0] * 4
    next(iter(going.examples(generator, 1)))().backward()


def test_times_decide_and_order_as_given_does_not_where_there_are_times(model):
    forth = model.score(somebody(1, 4, 7))
    np.testing.assert_array_equal(model.score(somebody(7, 1, 4, times=(30, 10, 20))), forth)
    assert (model.score(somebody(7, 4, 1)) != forth).any()
    # ties by content row
    tied = model.score(somebody(7, 1, 4, times=(10, 10, 10)))
    np.testing.assert_array_equal(tied, forth)


def test_times_that_stand_elsewhere_are_brought_in_line_or_refused(model):
    given = somebody(7, 1, 4, times=(30, 10, 20))
    moved = sp.csr_array(given.times.tocsc().tocsr())
    moved.sort_indices()
    again = Users(given.rows, given.history, moved)
    np.testing.assert_array_equal(model.score(again), model.score(given))
    with pytest.raises(ValueError, match="places of the history"):
        model.score(Users(given.rows, given.history, somebody(7, 1, times=(1, 2)).times))


def test_nothing_later_moves_an_earlier_place(ring):
    made = recommenders.build("sasrec", TINY | {"blocks": 2})
    made.fit(ring)
    made.module.eval()
    tokens = torch.tensor([[PAD, START, 3, 7, 5, 9]])
    with torch.no_grad():
        before = made.module(tokens)
        for place in range(2, 6):
            changed = tokens.clone()
            changed[0, place] = 11
            after = made.module(changed)
            torch.testing.assert_close(after[:, :place], before[:, :place], rtol=0, atol=0)
            assert (after[:, place:] != before[:, place:]).any()


def test_padding_changes_nothing(model):
    long, short = somebody(2, 5, 8, 1, 4), somebody(6, 9)
    both = Users(np.array([-1, -1]), sp.vstack([long.history, short.history], format="csr"))
    alone = np.concatenate([model.score(long), model.score(short)])
    np.testing.assert_allclose(model.score(both), alone, rtol=1e-5, atol=1e-5)


def test_sequences_by_hand():
    history = sp.csr_array(np.array([[1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32))
    times, token = np.array([30, 10, 20, 5]), np.array([2, 3, 4, 0])  # content 3 has no token
    whole = sequences(history, times, token, 9)
    assert whole.tokens.tolist() == [[START, 3, 4, 2], [PAD, PAD, PAD, START], [PAD, PAD, PAD, START]]
    assert whole.time_s.tolist() == [[10, 10, 20, 30], [0] * 4, [0] * 4]
    latest = sequences(history, None, token, 2)
    assert latest.tokens.tolist() == [[3, 4], [PAD, START], [PAD, START]] and latest.time_s is None
    assert sequences(history, times, token, 2).time_s.tolist() == [[20, 30], [0, 0], [0, 0]]
    tie = np.array([0.3, 0.2, 0.1, 0.0])
    assert sequences(history, np.zeros(4), token, 9, tie).tokens[0].tolist() == [START, 4, 3, 2]


def test_live_history_counts_for_somebody_whom_training_knew(model, ring):
    users = Users(np.array([0]), somebody(1, 4, 7).history)
    np.testing.assert_array_equal(model.score(users), model.score(somebody(1, 4, 7)))


def test_what_nobody_liked_scores_below_all_others(model):
    scores = model.score(somebody(1, 4))
    assert scores[0, CONTENTS] < scores[0, :CONTENTS].min()


def test_a_reason_is_what_the_score_loses_without_it(model):
    users = somebody(1, 4, 7)
    full = model.score(users)[0, 0]
    lost = [
        full - model.score(somebody(*(kept for kept in (1, 4, 7) if kept != gone)))[0, 0]
        for gone in (1, 4, 7)
    ]
    np.testing.assert_allclose(model.contributions(users, 0), lost, atol=1e-4)
    timed = somebody(7, 1, 4, times=(30, 10, 20))
    np.testing.assert_allclose(model.contributions(timed, 0), [lost[2], lost[0], lost[1]], atol=1e-4)
    assert model.contributions(somebody(), 0).shape == (0,)


LETTERS = 6


@pytest.fixture(scope="module")
def echo(ring: Training) -> Training:
    """Everybody likes three letters in some order, then their echoes in the same order."""
    rng, walks = np.random.default_rng(0), []
    for _ in range(150):
        letters = rng.choice(LETTERS, 3, replace=False)
        walks.append([*letters, *(letters + LETTERS)])
    places = (np.repeat(np.arange(150), 6), np.concatenate(walks))
    liked = sp.csr_array((np.ones(900, np.float32), places), shape=(150, 2 * LETTERS))
    when = sp.csr_array((np.tile(np.arange(6), 150), places), shape=liked.shape)
    return Training(ring.graph, liked, when, np.ones(2 * LETTERS, bool), seed=1)


@pytest.mark.parametrize(
    ("name", "places", "reads_order"),
    [
        ("multi_head", True, True),
        ("relative", False, True),
        ("multi_head", False, False),
        ("mean", False, False),
    ],
)
def test_only_who_reads_order_finds_the_second_echo(echo, name, places, reads_order):
    # after three letters and the echo of the first: two echoes are left, and order alone tells them apart
    settings = {"width": 32, "batch": 16, "attention": {"name": name}, "places": places}
    made = recommenders.build("sasrec", TINY | settings)
    fit(made, echo, None, FitConfig(learning_rate=0.01, epochs=30))
    found = []
    for letters in itertools.permutations(range(LETTERS), 3):
        read = [*letters, letters[0] + LETTERS]
        history = sp.csr_array((np.ones(4, np.float32), read, [0, 4]), shape=(1, 2 * LETTERS))
        scores = made.score(Users(np.array([-1]), history))[0]
        found.append(scores[letters[1] + LETTERS] > scores[letters[2] + LETTERS])
    assert np.mean(found) > 0.9 if reads_order else 0.3 < np.mean(found) < 0.7


def losses(ring: Training, **settings) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of a whole epoch at the start, and its gradients."""
    made = recommenders.build("sasrec", TINY | settings)
    made.fit(ring)
    total = sum(batch() for batch in made.steps(torch.Generator().manual_seed(3)))
    total.backward()
    return total.item(), {name: part.grad for name, part in made.module.named_parameters()}


@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_sampled_loss_is_the_full_one_where_all_contents_are_drawn(ring, source):
    wanted, gradients = losses(ring)
    found, others = losses(ring, loss="sampled_softmax", negatives=source, negative_count=CONTENTS)
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("source", ["uniform", "popularity"])
def test_contents_met_in_a_batch_stand_for_all_others(ring, source, monkeypatch):
    # 150 people like 4 of 80 contents, some far more often; 1 / chance, summed over those met, counts all 80
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 81) ** 0.5
    liked = np.zeros((150, 80), np.float32)
    for row in liked:
        row[rng.choice(80, 4, replace=False, p=popularity / popularity.sum())] = 1
    positives = sp.csr_array(liked)
    training = Training(ring.graph, positives, positives.astype(np.int64), np.ones(80, bool))
    settings = {"loss": "sampled_softmax", "negatives": source, "negative_count": 10, "batch": 3}
    made, counted = recommenders.build("sasrec", TINY | settings), []
    made.fit(training)
    monkeypatch.setattr(
        "models.sasrec.sampled_softmax", lambda *parts: counted.append((-parts[-1]).exp().sum())
    )
    draw = torch.Generator().manual_seed(0)
    for _ in range(6):
        for batch in made.steps(draw):
            batch()
    assert len(counted) == 300
    assert np.mean(counted) == pytest.approx(np.count_nonzero(liked.any(axis=0)), rel=0.1)


def test_sampled_loss_finds_what_comes_next(ring):
    made = recommenders.build("sasrec", TINY | {"loss": "sampled_softmax", "negative_count": 4})
    fit(made, ring, None, FitConfig(learning_rate=0.01, epochs=30))
    for start in range(CONTENTS):
        walked = [start, (start + 3) % CONTENTS, (start + 6) % CONTENTS]
        scores = made.score(somebody(*walked))[0]
        scores[walked] = -np.inf
        assert scores.argmax() == (start + 9) % CONTENTS


def test_training_goes_on_where_it_broke_off(ring, tmp_path):
    whole, first, second = (recommenders.build("sasrec", TINY | {"dropout": 0.3}) for _ in range(3))
    fit(whole, ring, None, FitConfig(epochs=3))
    fit(first, ring, None, FitConfig(epochs=1), folder=tmp_path)
    fit(second, ring, None, FitConfig(epochs=3), folder=tmp_path)
    for key, value in whole.arrays().items():
        np.testing.assert_array_equal(second.arrays()[key], value)


def test_a_sequence_longer_than_its_places_is_refused(ring):
    made, tokens = recommenders.build("sasrec", TINY), torch.full((1, 9), START)
    made.fit(ring)
    with pytest.raises(ValueError, match="max_length 8, got 9"):
        made.module(tokens)
    made = recommenders.build("sasrec", TINY | {"places": False})
    made.fit(ring)
    assert made.module(tokens).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"heads": 3}, "heads must divide"),
        ({"max_length": 0}, "max_length"),
        ({"loss": "hinge"}, "sampled_softmax.*'hinge'"),
        ({"negatives": "hard"}, "in_batch.*'hard'"),
        ({"attention": {"name": "multihead"}}, "nearest: multi_head"),
        ({"attention": {"name": "multi_head", "slope": 1}}, "slope"),
    ],
)
def test_settings_that_fit_nothing_are_refused(settings, said):
    with pytest.raises((ValueError, SettingError, KeyError), match=said):
        recommenders.build("sasrec", TINY | settings)


@pytest.mark.parametrize("name", ["sasrec", "ease", "item_knn"])
def test_the_same_experiment_stands_on_leave_last_out(name):
    usual, other = (load(ROOT / "experiments" / f"{file}.yaml") for file in (name, f"leave_last_out/{name}"))
    settings = fill(ExperimentConfig, other, f"leave_last_out/{name}.yaml")
    assert settings.split["name"] == "leave_last_out"
    assert settings.budget == {"trials": 12, "seconds": 1200} and "seconds" not in settings.train
    for key in ("model", "measure"):
        assert usual[key] == other[key]
    for key, values in usual["tune"].items():
        assert set(values) <= set(other["tune"][key])  # its best may lie beyond
