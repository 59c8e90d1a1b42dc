"""Splits hold out what they say, and leave no trace of it."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError, UnknownName
from experiments.splits import Likes, SplitConfig, likes_of, split, splits
from kg import schema

DAY_S = 86_400
MOVIELENS = Path(__file__).parents[2].parent / "shared" / "data" / "ml-latest-small" / "ratings.csv"


def pairs(matrix):
    return set(zip(*(side.tolist() for side in matrix.nonzero()), strict=True))


def test_last_fifth_by_hand(toy):
    # ten likes on days 1 to 10: 9 and 10 are test, of the eight left day 8 is validation
    rows = [(0, day, 9, day) for day in range(1, 11)] + [(1, 20 + day, 9, day) for day in range(4)]
    # low ratings: of day 7 they stay everywhere, of day 8 only where 8 is trained on, of day 9 nowhere
    rows += [(0, 11, 2, 7), (0, 12, 2, 8), (0, 13, 2, 9)]
    cut = split(toy.graph(rows), SplitConfig())
    assert pairs(cut.test.held_out) == {(0, 9), (0, 10)}
    assert pairs(cut.validation.held_out) == {(0, 8)}
    assert pairs(cut.full.positives) == {(0, day) for day in range(1, 9)} | {(1, c) for c in range(20, 24)}
    assert cut.fit.graph.pairs("RATED")[1].tolist().count(12) == 0
    assert {11, 12} <= set(cut.full.graph.pairs("RATED")[1].tolist())
    assert not {9, 10, 13} & set(cut.full.graph.pairs("RATED")[1].tolist())
    assert {11} <= set(cut.fit.graph.pairs("RATED")[1].tolist())
    assert np.flatnonzero(cut.full.rankable).tolist() == [*range(1, 9), 11, 12, 20, 21, 22, 23]
    assert cut.test.unreachable == 2 and cut.warm_users == 1
    assert cut.full.times[0, 8] == 8 * DAY_S


def test_four_likes_are_all_kept_and_five_give_one(toy):
    rows = [(user, content, 10, content) for user in (0, 1) for content in range(4 + user)]
    cut = splits.build("last_fifth")(likes_of(toy.graph(rows), 8, 0))
    assert cut.held_out.sum() == 1 and cut.until[1] == 3 * DAY_S


def test_temporal_by_hand(toy):
    rows = [(day % 3, day, 9, day) for day in range(1, 11)]
    more = [toy.fact("VIEWED", 0, 1, day * DAY_S) for day in (6, 8, 9)]
    cut = split(toy.graph(rows, more=more), SplitConfig("temporal", {"share": 0.2}))
    assert (cut.test.as_of, cut.validation.as_of) == (8 * DAY_S, 7 * DAY_S)
    assert pairs(cut.test.held_out) == {(0, 9), (1, 10)}
    assert pairs(cut.validation.held_out) == {(2, 8)}
    assert [part.graph.fact_count("VIEWED") for part in (cut.fit, cut.full)] == [1, 2]


def test_temporal_hides_later_facts_and_counts_of_everything(toy):
    rows = [(day % 3, day, 9, day) for day in range(1, 11)]
    made = toy.nodes(4, 30, popularity=5.0, observed_ts=8 * DAY_S)
    rated = [toy.fact("RATED", user, content, day * DAY_S, rating=float(r)) for user, content, r, day in rows]
    cut = split(toy.arrays([*made, *rated]), SplitConfig("temporal"))
    assert np.isnan(cut.fit.graph.numbers("Content", "popularity")).all()
    assert (cut.full.graph.numbers("Content", "popularity") == 5).all()
    assert (cut.fit.graph.as_of, cut.full.graph.as_of) == (cut.validation.as_of, cut.test.as_of)
    assert cut.fit.graph.hash != cut.full.graph.hash


def test_leave_last_out_takes_one_of_everybody_with_two(toy):
    rows = [(0, 1, 9, 1), (1, 2, 9, 1), (1, 3, 9, 2), (2, 4, 9, 1), (2, 5, 9, 2), (2, 6, 9, 3)]
    cut = split(toy.graph(rows), SplitConfig("leave_last_out"))
    assert pairs(cut.test.held_out) == {(1, 3), (2, 6)}
    assert pairs(cut.validation.held_out) == {(2, 5)}


def test_equal_times_are_broken_by_the_seed(toy):
    graph = toy.graph([(0, content, 9, 5) for content in range(30)])
    held = [pairs(split(graph, SplitConfig(seed=seed)).test.held_out) for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == len(held[2]) == 6


def test_a_pair_counts_once_from_its_first_rating_at_the_bar(toy):
    likes = likes_of(toy.graph([(0, 1, 3, 1), (0, 1, 9, 4), (0, 1, 8, 6), (0, 2, 8, 5)]), 8, 0)
    assert likes.contents.tolist() == [1, 2]
    assert likes.times.tolist() == [4 * DAY_S, 5 * DAY_S]


def test_likes_without_a_time_come_first(toy):
    rows = [(0, content, 9, None if content == 7 else content) for content in range(10)]
    cut = split(toy.graph(rows), SplitConfig())
    assert pairs(cut.test.held_out) == {(0, 8), (0, 9)} and cut.full.positives[0, 7] == 1


@pytest.mark.parametrize("name", list(splits))
def test_no_trace_of_what_is_held_out_or_later(busy, name):
    cut = split(busy, SplitConfig(name, positive_rating=6))
    assert not pairs(cut.validation.held_out) & pairs(cut.test.held_out)
    for part in (cut.validation, cut.test):
        hidden, graph = pairs(part.held_out), part.training.graph
        assert hidden and not hidden & pairs(part.training.positives)
        for type in schema.USER_FACTS:
            users = graph.incidence(type, "user")[1]
            assert (graph.starts(type) <= part.until[users]).all(), type
            if type != "FOLLOWS":
                told = set(zip(users.tolist(), graph.incidence(type, "content")[1].tolist(), strict=True))
                assert not told & hidden, type
    # what validation hid is given back for test
    given = pairs(cut.validation.history)
    assert pairs(cut.full.positives) == pairs(cut.fit.positives) | given | pairs(cut.validation.held_out)


@pytest.mark.parametrize("name", list(splits))
def test_a_training_rating_in_time_is_in_the_training_graph(busy, name):
    cut = split(busy, SplitConfig(name, positive_rating=6))
    users, contents = cut.full.graph.pairs("RATED")
    assert pairs(cut.full.positives) <= set(zip(users.tolist(), contents.tolist(), strict=True))


def test_random_takes_a_share_of_each_user_by_the_seed(toy):
    rows = [(user, content, 9, content) for user in range(3) for content in range(10 + user)]
    held = [
        pairs(split(toy.graph(rows), SplitConfig("random", seed=seed)).test.held_out) for seed in (0, 0, 1)
    ]
    assert held[0] == held[1] != held[2]
    assert [sum(user == own for own, _ in held[0]) for user in range(3)] == [2, 2, 2]
    late = {content for user, content in held[0] if content >= 8 + user}
    assert len(late) < len(held[0])  # not the last ones


def test_unseen_users_leave_no_trace_and_bring_their_first_likes(toy):
    rows = [(user, content, 9, content) for user in range(10) for content in range(10)]
    rows += [(user, 20, 2, 1) for user in range(10)]
    more = [toy.fact("VIEWED", user, 21, None) for user in range(10)]
    cut = split(toy.graph(rows, users=10, more=more), SplitConfig("unseen_users"))
    for part, count in ((cut.test, 2), (cut.validation, 1)):
        assert len(part.users) == count and part.warm.all()
        assert pairs(part.held_out) == {(user, content) for user in part.users for content in (8, 9)}
        assert part.training.positives[part.users].nnz == 0
        assert (part.history[part.users].toarray()[:, :8] == 1).all()
        assert (part.times[part.users].toarray()[:, 1:8] == np.arange(1, 8) * DAY_S).all()
        for type in ("RATED", "VIEWED"):
            assert not np.isin(part.users, part.training.graph.incidence(type, "user")[1]).any()
        assert (part.asked.positives != part.history).nnz == 0
    assert not set(cut.test.users) & set(cut.validation.users)
    assert set(cut.test.users) & set(cut.fit.graph.incidence("RATED", "user")[1]) == set()
    assert set(cut.validation.users) <= set(cut.full.graph.incidence("RATED", "user")[1])


def test_cold_contents_leave_no_trace_and_everything_may_be_ranked(toy):
    rows = [(user, content, 9, content) for user in range(4) for content in range(25)]
    rows += [(0, content, 2, 1) for content in range(25, 30)]
    more = [toy.fact("VIEWED", 1, content, DAY_S) for content in range(30)]
    graph, seen = toy.graph(rows, more=more), set()
    for fold in range(5):
        cut = split(graph, SplitConfig("cold_contents", {"fold": fold}))
        tested, chosen = (set(part.held_out.indices.tolist()) for part in (cut.test, cut.validation))
        assert tested and chosen and not tested & chosen and not tested & seen
        seen |= tested
        for part, hidden in ((cut.test, tested), (cut.validation, tested | chosen)):
            assert part.training.rankable.all() and part.unreachable == 0
            assert not hidden & set(part.training.positives.indices.tolist())
            for type in ("RATED", "VIEWED"):
                touched = part.training.graph.incidence(type, "content")[1]
                assert len(touched) and not part.cold[touched].any()
            assert part.cold[list(hidden)].all()
    assert seen == set(range(25))


def test_a_content_keeps_its_fold_whatever_else_is_known(toy):
    rows = [(user, content, 9, content) for user in range(4) for content in range(25)]
    small, large = toy.graph(rows), toy.graph([*rows, (3, 40, 9, 1)], contents=60)
    held = [
        set(split(graph, SplitConfig("cold_contents")).test.held_out.indices.tolist()) - {40}
        for graph in (small, large)
    ]
    assert held[0] == held[1]


@pytest.mark.parametrize("name", list(splits))
def test_every_split_says_so_where_nobody_is_left_for_test(toy, name):
    with pytest.raises(SettingError, match="leaves no positive for|needs at least"):
        split(toy.graph([(0, 1, 9, 1)]), SplitConfig(name))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 4)), min_size=1, unique=True),
    st.floats(0.05, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_last_fifth_equals_a_plain_loop(rows, share):
    rows = sorted({(user, content): (user, day, content) for user, content, day in rows}.values())
    users, days, contents = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    likes = Likes(users, contents, days, 6, 41)
    cut = splits.build("last_fifth", {"share": share})(likes)
    for user in range(6):
        own = np.flatnonzero(users == user)
        held = int(np.floor(len(own) * share + 1e-9))
        assert cut.held_out[own].tolist() == [False] * (len(own) - held) + [True] * held
        assert cut.until[user] == (days[own[-held - 1]] if held else np.iinfo(np.int64).max)


def test_same_pairs_same_hash_whatever_else_is_known(toy, busy):
    rows = [(0, day, 9, day) for day in range(1, 11)]
    plain, config = split(toy.graph(rows), SplitConfig()), SplitConfig()
    described = toy.arrays(
        [
            *toy.nodes(4, 30, title="A"),
            *(toy.fact("RATED", u, c, d * DAY_S, rating=9.0) for u, c, _, d in rows),
        ]
    )
    assert split(described, config).hash == plain.hash != split(busy, config).hash
    assert split(described, config).graph_hash != plain.graph_hash
    assert split(busy, replace(config, positive_rating=7)).hash != split(busy, config).hash


def test_a_split_with_nothing_to_measure_says_what_to_do(toy):
    with pytest.raises(SettingError, match="leaves no positive for test"):
        split(toy.graph([(0, 1, 9, 1)]), SplitConfig())
    with pytest.raises(SettingError, match="share and given_share must lie"):
        splits.build("unseen_users", {"given_share": 1.0})
    with pytest.raises(SettingError, match=r"folds must be 3 or more and fold in 0..folds-1, got 5, 5"):
        splits.build("cold_contents", {"fold": 5})
    with pytest.raises(SettingError, match="share must lie"):
        split(toy.graph([(0, 1, 9, 1)]), SplitConfig(settings={"share": 1.0}))
    with pytest.raises(UnknownName, match="nearest: temporal"):
        split(toy.graph([(0, 1, 9, 1)]), SplitConfig("temporl"))


@pytest.mark.skipif(not MOVIELENS.is_file(), reason="ml-latest-small is not beside this checkout")
def test_last_fifth_of_movielens_small_has_603_test_users():
    with MOVIELENS.open(encoding="utf-8", newline="") as file:
        liked = [row for row in csv.DictReader(file) if float(row["rating"]) >= 4]
    users, contents, times = (
        np.array([int(row[name]) for row in liked]) for name in ("userId", "movieId", "timestamp")
    )
    order = np.lexsort((times, users))
    likes = Likes(users[order], contents[order], times[order], users.max() + 1, contents.max() + 1)
    cut = splits.build("last_fifth", {})(likes)
    assert len(liked) == 48_580
    assert len(np.unique(likes.users[cut.held_out])) == 603


def test_what_was_watched_nearly_to_its_end_counts_as_liked_unless_it_was_rated(toy):
    rows = [(0, 1, 9, 1), (0, 2, 3, 2), (0, 4, 9, 6)]
    watched = [
        toy.fact("VIEWED", user, content, day * DAY_S, progress=progress)
        for user, content, day, progress in (
            (0, 2, 3, 0.9),  # rated low
            (0, 3, 4, 0.71),
            (0, 4, 5, 0.9),  # rated high a day later: liked when it was rated
            (0, 5, 5, 0.7),
            (1, 1, 5, 0.95),
            (1, 1, 7, 0.95),  # once is enough
        )
    ]
    watched.append(toy.fact("VIEWED", 1, 6, 5 * DAY_S))  # nobody knows how far
    found = likes_of(toy.graph(rows, more=watched), 8, 0)
    liked = list(zip(found.users.tolist(), found.contents.tolist(), found.times.tolist(), strict=True))
    wanted = [(0, 1, 1), (0, 3, 4), (0, 4, 6), (1, 1, 5)]
    assert liked == [(user, content, day * DAY_S) for user, content, day in wanted]
