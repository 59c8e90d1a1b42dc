"""Every registered attention reads histories: nothing later reaches back, padding says nothing, and what was
learned comes back to the bit."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.numpy import load, save

from experiments.training import FitConfig, fit
from kg.arrays import from_records
from kg.records import Node
from models.attention import attentions
from models.interface import Training, Users
from models.sasrec import SASRec, SASRecConfig
from models.sequences import PAD, START

TINY = {"width": 8, "blocks": 2, "heads": 2, "max_length": 8, "batch": 4, "dropout": 0.0}
CONTENTS, PEOPLE, DAY_S = 12, 10, 86_400


@pytest.fixture(scope="module")
def walks() -> Training:
    """People who walk over contents day by day."""
    rng = np.random.default_rng(3)
    nodes = [Node("Content", f"content:x:{place:02d}") for place in range(CONTENTS)]
    nodes += [Node("User", f"user:x:{place:02d}") for place in range(PEOPLE)]
    graph = from_records("walks", lambda type: [node for node in nodes if node.type == type], lambda type: [])
    liked = np.zeros((PEOPLE, CONTENTS), np.float32)
    for row in liked:
        row[rng.choice(CONTENTS, rng.integers(2, 8), replace=False)] = 1
    positives = sp.csr_array(liked)
    days = rng.integers(1, 400, positives.nnz) * DAY_S
    times = sp.csr_array((days, positives.indices, positives.indptr), shape=positives.shape)
    return Training(graph, positives, times, np.ones(CONTENTS, bool), seed=1)


@pytest.fixture(scope="module", params=list(attentions))
def model(request, walks):
    """A SASRec of this attention after an epoch."""
    made = SASRec(SASRecConfig(**TINY, attention={"name": request.param}))
    fitted = fit(made, walks, None, FitConfig(learning_rate=0.01, epochs=1))
    assert np.isfinite(fitted.curve[0].loss)
    made.module.eval()
    return made


def asked(model, tokens: list[list[int]], days: list[list[int]], **more) -> torch.Tensor:
    with torch.no_grad():
        return model.module(torch.tensor(tokens), torch.tensor(days) * DAY_S, **more)


TOKENS, DAYS = [[PAD, START, 3, 7, 5, 9]], [[0, 10, 10, 20, 50, 51]]


def test_one_epoch_leaves_finite_scores(model, walks):
    users = Users(np.arange(PEOPLE), walks.positives, walks.times)
    assert np.isfinite(model.score(users)).all()
    untimed = Users(users.rows, users.history)
    assert np.isfinite(model.score(untimed)).all()


def test_nothing_later_moves_an_earlier_place(model):
    before = asked(model, TOKENS, DAYS)
    moved = False
    for place in range(2, 6):
        tokens, days = [list(TOKENS[0])], [list(DAYS[0])]
        tokens[0][place] = 11
        days[0][place:] = [day + 300 for day in days[0][place:]]
        after = asked(model, tokens, days)
        torch.testing.assert_close(after[:, 1:place], before[:, 1:place], rtol=1e-5, atol=1e-6)
        assert (after[:, place] != before[:, place]).any()
        moved = moved or bool((after[:, place + 1 :] != before[:, place + 1 :]).any())
    assert moved  # later places hear of it


def test_padding_before_the_first_changes_nothing(model):
    whole = asked(model, TOKENS, DAYS)
    more = asked(model, [[PAD, PAD] + TOKENS[0]], [[0, 0] + DAYS[0]])
    less = asked(model, [TOKENS[0][1:]], [DAYS[0][1:]])
    torch.testing.assert_close(more[:, 3:], whole[:, 1:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(less, whole[:, 1:], rtol=1e-5, atol=1e-6)


def test_the_last_place_alone_is_the_last_of_all(model):
    tokens, days = TOKENS + [[PAD, PAD, PAD, PAD, START, 4]], DAYS + [[0, 0, 0, 0, 7, 7]]
    tokens, days = tokens + [[START, 2, 3, 4, 5, 6]], days + [[1, 1, 1, 2, 2, 200]]
    whole, last = asked(model, tokens, days), asked(model, tokens, days, only_last=True)
    torch.testing.assert_close(last, whole[:, -1:], rtol=1e-5, atol=1e-6)


def walked(contents: list[int]) -> Users:
    """One stranger who liked these, a day apart."""
    places, shape = (np.array(contents, np.int64), np.array([0, len(contents)])), (1, CONTENTS)
    history = sp.csr_array((np.ones(len(contents), np.float32), *places), shape=shape)
    times = sp.csr_array(((1 + np.arange(len(contents))) * DAY_S, *places), shape=shape)
    return Users(np.array([-1]), history, times)


def test_only_the_latest_are_read_of_a_history_that_is_too_long(model):
    long, latest = list(range(1, 12)), list(range(4, 12))
    whole, cut = model.score(walked(long)), model.score(walked(latest))
    np.testing.assert_allclose(whole, cut, rtol=1e-5, atol=1e-6)


def test_a_reason_is_what_the_score_loses_without_it(model):
    contents = [7, 1, 4]
    users = walked(contents)
    full, lost = model.score(users)[0, 5], []
    for gone in range(3):
        kept = [place for place in range(3) if place != gone]
        places = (users.history.indices[kept], np.array([0, 2]))
        history = sp.csr_array((users.history.data[kept], *places), shape=(1, CONTENTS))
        times = sp.csr_array((users.times.data[kept], *places), shape=(1, CONTENTS))
        lost.append(full - model.score(Users(users.rows, history, times))[0, 5])
    np.testing.assert_allclose(model.contributions(users, 5), lost, rtol=1e-4, atol=1e-5)


def test_comes_back_to_the_bit(model, walks):
    users = Users(np.arange(PEOPLE), walks.positives, walks.times)
    again = SASRec(model.config)
    written = save({name: np.require(array, requirements="C") for name, array in model.arrays().items()})
    again.restore(load(written), walks.graph)
    np.testing.assert_array_equal(again.score(users), model.score(users))
