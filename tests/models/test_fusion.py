from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError, import_parts
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.fusion import Fusion, FusionConfig, hold_back
from models.history import recent
from models.hybrid import Hybrid, HybridConfig
from models.interface import Training, Users, recommenders
from models.popularity import Popularity, PopularityConfig
from models.ranking import ranks

import_parts("models")
MEMBERS = {"ease": {"regularization": 5.0}, "chance": {"model": "random"}, "more": {"model": "random"}}


def training(users: int = 60, contents: int = 40, share: float = 0.6, seed: int = 3) -> Training:
    """A checkerboard world: likes of one colour, at different moments."""
    world = checkerboard(users=users, contents=contents, share=share, seed=seed)
    graph = from_records("checkerboard", world.nodes, world.hyperedges)
    rows, columns = graph.pairs("RATED")
    shape = graph.size("User"), graph.size("Content")
    likes = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    times = likes.astype(np.int64)
    times.data = np.random.default_rng(seed).integers(0, 1000, likes.nnz)
    return Training(graph, likes, times, np.ones(shape[1], bool), seed)


def people(likes: list[list[float]], times: list[list[int]] | None) -> Users:
    history = sp.csr_array(np.array(likes, np.float32))
    when = None
    if times is not None:
        when = sp.csr_array((np.array(times)[np.array(likes) > 0], history.indices, history.indptr))
    return Users(np.arange(len(likes)), history, when)


def test_the_last_like_counts_most_by_hand():
    # one later like halves: weights 1/2 and 1, then scaled to length √2
    faded = recent(people([[1, 1, 0]], [[7, 9, 0]]), 1 / np.log(2)).history.toarray()[0]
    np.testing.assert_allclose(faded, np.array([0.5, 1, 0]) * np.sqrt(2 / 1.25), rtol=1e-6)


def test_likes_of_one_moment_count_alike():
    faded = recent(people([[1, 1, 1]], [[5, 5, 9]]), 3.0).history.toarray()[0]
    assert faded[0] == faded[1] < faded[2]


def test_without_times_or_fading_nothing_changes():
    untimed, timed = people([[1, 0, 1]], None), people([[1, 0, 1]], [[1, 0, 2]])
    assert recent(untimed, 3.0) is untimed and recent(timed, None) is timed


@given(st.integers(0, 10_000), st.floats(0.5, 50))
@settings(max_examples=30, deadline=None)
def test_fading_equals_a_loop_over_likes(seed, likes):
    draw = np.random.default_rng(seed)
    liked, moments = draw.random((4, 9)) < 0.5, draw.integers(0, 5, (4, 9))
    faded = recent(people(liked.astype(float).tolist(), moments.tolist()), likes).history.toarray()
    for row in range(4):
        own = {c: moments[row, c] for c in np.flatnonzero(liked[row])}
        places = {
            c: np.mean([sum(o > t for o in own.values()) + k for k in range(list(own.values()).count(t))])
            for c, t in own.items()
        }
        weights = {c: np.exp(-place / likes) for c, place in places.items()}
        scale = np.sqrt(len(own) / sum(weight**2 for weight in weights.values())) if own else 0
        expected = [weights.get(c, 0) * scale for c in range(9)]
        np.testing.assert_allclose(faded[row], expected, rtol=1e-5)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.34, 0.5]))
@settings(max_examples=30, deadline=None)
def test_holds_back_the_last_likes_of_everybody(seed, share):
    draw = np.random.default_rng(seed)
    likes = sp.csr_array((draw.random((6, 12)) < 0.5).astype(np.float32))
    times = likes.astype(np.int64)
    times.data = draw.permutation(likes.nnz)
    whole = Training(None, likes, times, np.ones(12, bool))
    rest, kept_back = hold_back(whole, share)
    np.testing.assert_array_equal((rest.positives + kept_back).toarray(), likes.toarray())
    for row in range(6):
        count = int(np.diff(likes.indptr)[row] * share + 1e-9)
        order = likes[[row]].indices[np.argsort(times[[row]].data)]
        assert set(kept_back[[row]].indices) == set(order[len(order) - count :])
        np.testing.assert_array_equal(
            np.sort(rest.times[[row]].data), np.sort(times[[row]].data)[: len(order) - count]
        )


class Witness(Popularity):
    """Writes down how many likes each fit was shown."""

    shown: list[int] = []

    def fit(self, training: Training) -> None:
        self.shown.append(training.positives.nnz)
        super().fit(training)


def test_no_member_saw_what_the_trees_learn_from(monkeypatch):
    monkeypatch.setitem(recommenders._parts, "witness", (Witness, PopularityConfig))
    monkeypatch.setattr(Witness, "shown", [])
    whole = training()
    Fusion(FusionConfig({"witness": {}})).fit(whole)
    rest, kept_back = hold_back(whole, 0.2)
    assert Witness.shown == [rest.positives.nnz, whole.positives.nnz] and kept_back.nnz > 0


def test_learns_whom_to_trust():
    seen = training(users=80)
    colour = (seen.positives.toarray() @ seen.positives.toarray().T > 0).astype(int)  # people alike in taste
    liked_by_alike = colour @ seen.positives.toarray() > 0
    fused, equal = (
        Fusion(FusionConfig(MEMBERS)),
        Hybrid(HybridConfig({k: v | {"weight": 1} for k, v in MEMBERS.items()})),
    )
    users = Users(np.arange(80), seen.positives, seen.times)
    unseen, found = seen.positives.toarray() == 0, {}
    for model in (fused, equal):
        model.fit(seen)
        best = np.where(unseen, model.score(users), -np.inf).argmax(axis=1)
        found[type(model).__name__] = liked_by_alike[np.arange(80), best].mean()
    assert found["Fusion"] > 0.95 > found["Hybrid"]


def test_candidates_stand_above_all_others_and_these_in_the_order_of_ranks():
    whole = training()
    model = Fusion(FusionConfig(MEMBERS, candidates=5))
    model.fit(whole)
    users = Users(np.arange(3), whole.positives[:3], whole.times[:3])
    scores, (fused, chosen, _) = model.score(users), model._look(users)
    assert (chosen.sum(axis=1) == 5).all() and not (chosen & (whole.positives[:3].toarray() > 0)).any()
    for row in range(3):
        assert scores[row][chosen[row]].min() > 1 > scores[row][~chosen[row]].max()
        rest = ~chosen[row]
        np.testing.assert_array_equal(
            ranks(scores[row][None, rest]), ranks(fused[row][None, rest].astype("f4"))
        )


def test_with_nothing_kept_back_the_order_of_ranks_stays():
    whole = training()
    few = whole.positives.copy()
    few = sp.csr_array(
        (few.data[few.indptr[:-1]], few.indices[few.indptr[:-1]], np.arange(61)), shape=few.shape
    )
    times = few.astype(np.int64)
    model = Fusion(FusionConfig(MEMBERS))
    model.fit(replace(whole, positives=few, times=times))
    assert model._trees == ""
    users = Users(np.arange(4), few[:4], times[:4])
    fused = model._look(users)[0]
    np.testing.assert_array_equal(ranks(model.score(users)), ranks(fused.astype("f4")))


@pytest.mark.parametrize("kind", ["hybrid", "fusion"])
def test_a_title_never_explains_itself(kind):
    whole = training()
    weights = {"weight": 1} if kind == "hybrid" else {}
    members = {"ease": {"regularization": 5.0}, "ials": {"factors": 4, "regularization": 1.0}}
    model = recommenders.build(kind, {"members": {name: own | weights for name, own in members.items()}})
    model.fit(whole)
    user = Users(np.array([4]), whole.positives[[4]], whole.times[[4]])
    own_part = 0.0
    for place, content in enumerate(user.history.indices[:5]):
        given = model.contributions(user, int(content))
        assert given[place] == 0 and (given >= 0).all()
        own_part += sum(
            abs(member.model.contributions(member.users(user), int(content))[place])
            for member in model._members
        )
        # what the title itself would have given is shared among the others, none of it is lost
        parts = model.influence(user, model.scores(user), int(content))
        helped = [
            np.delete(
                np.maximum(member.model.contributions(member.users(user), int(content)), 0), place
            ).sum()
            > 0
            for member in model._members
        ]
        assert given.sum() == pytest.approx(parts[helped].sum())
    assert own_part > 0  # a member that gives a title nothing for itself would show nothing here


@pytest.mark.parametrize(
    ("given_settings", "says"),
    [
        ({"members": {}}, "at least one member"),
        ({"members": {"ease": {"recency": 0}}}, "recency above 0 or null, got 0"),
        ({"members": {"fusion": {}}}, "closed-form"),
        ({"candidates": 0}, "candidates"),
        ({"held_back": 1.0}, "held_back above 0 and below 1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(given_settings, says):
    with pytest.raises(SettingError, match=says):
        recommenders.build("fusion", given_settings)


def test_a_list_is_explained_as_each_title_alone():
    whole = training()
    model = Fusion(FusionConfig(MEMBERS, candidates=10))
    model.fit(whole)
    users = Users(np.array([2]), whole.positives[[2]], whole.times[[2]])
    scores = model.scores(users)
    together = [model.influence(users, scores, row) for row in range(40)]
    for row in range(40):
        model._forget()
        np.testing.assert_allclose(model.influence(users, scores, row), together[row])
    assert any(parts.any() for parts in together)


@pytest.mark.parametrize("kind", ["fusion", "hybrid"])
def test_the_order_in_which_members_are_written_says_nothing(kind):
    # a manifest on disk is written by key: the members come back in another order
    own = {} if kind == "fusion" else {"weight": 0.5}
    members = {
        "more": {"model": "random", **own},
        "ease": {"regularization": 5.0, **own},
        "chance": {"model": "popularity", **own},
    }
    if kind == "hybrid":
        members["ease"]["weight"] = 3.0
    seen = training()
    fitted = recommenders.build(kind, {"members": members})
    fitted.fit(seen)
    again = recommenders.build(kind, {"members": dict(sorted(members.items()))})
    again.restore(fitted.arrays(), seen.graph)
    rows = np.arange(20)
    users = Users(rows, seen.positives[rows], seen.times[rows])
    np.testing.assert_array_equal(again.score(users), fitted.score(users))
    assert again.reasons(users, 3) == fitted.reasons(users, 3)
