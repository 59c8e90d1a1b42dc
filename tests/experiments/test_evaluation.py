"""Full ranking, its per-user values and intervals."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.evaluation import (
    EvaluationConfig,
    bootstrap,
    evaluate,
    head,
    hits_of,
    intervals,
    rank,
    value_of,
)
from experiments.lists import lists_of
from experiments.metrics import metrics
from experiments.splits import Part, SplitConfig, split
from experiments.watchable import busiest_moment, contents_by_place, watchable
from kg.records import Hyperedge, Node
from models.interface import Recommender, Training


class Given(Recommender):
    """Gives the scores it was made with."""

    def fit(self, training):
        pass

    def score(self, users):
        return self.config[users.rows].astype(np.float32)

    def arrays(self):
        return {}

    def restore(self, arrays, graph):
        pass


def part_of(liked, held_out, rankable=None):
    positives, held = (sp.csr_array(np.asarray(matrix, np.float32)) for matrix in (liked, held_out))
    rankable = np.ones(positives.shape[1], bool) if rankable is None else np.asarray(rankable, bool)
    training = Training(None, positives, positives.astype(np.int64), rankable)
    return Part(training, held, np.zeros(len(liked), np.int64), None)


def by_loop(scores, part, users, n):
    liked, lists = part.training.positives.toarray(), []
    for user in users:
        may = [c for c in range(scores.shape[1]) if part.training.rankable[c] and not liked[user, c]]
        best = sorted(may, key=lambda c: (-scores[user, c], c))[:n]
        lists.append(best + [-1] * (n - len(best)))
    return np.array(lists)


@pytest.mark.parametrize("block_bytes", [1, 400, 2**20])
def test_rank_equals_a_plain_loop_in_blocks_of_any_size(block_bytes):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (30, 25)).astype(float)  # ties everywhere
    part = part_of(rng.random((30, 25)) < 0.3, rng.random((30, 25)) < 0.2, rng.random(25) < 0.8)
    users = rng.permutation(30)[:17]
    ours = rank(Given(scores), part.training, users, 12, block_bytes)
    np.testing.assert_array_equal(ours, by_loop(scores, part, users, 12))


def test_lists_are_filled_with_missing_where_too_few_may_be_ranked():
    part = part_of([[1, 0, 0, 0]], [[0, 0, 1, 0]], [True, False, True, True])
    rows = rank(Given(np.array([[9.0, 8, 1, 2]])), part.training, np.array([0]), 5)
    assert rows.tolist() == [[3, 2, -1, -1, -1]]
    assert hits_of(rows, part).tolist() == [[False, True, False, False, False]]


def test_a_score_that_is_no_number_is_refused():
    part = part_of([[1, 0]], [[0, 1]])
    with pytest.raises(ValueError, match="Given must give finite scores, got NaN or infinity for users .0."):
        rank(Given(np.array([[np.nan, 1.0]])), part.training, np.array([0]), 1)


def test_evaluate_by_hand():
    # user 0 finds its one content at rank 2; user 1 has nothing held out; user 2 finds one of two, at rank 1
    liked = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    part = part_of(liked, [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]], [True, True, True, False])
    scores = np.array([[9.0, 1, 2, 0], [0, 0, 0, 0], [0, 1, 2, 9]])
    config = EvaluationConfig(metrics=("recall@2", "mrr@2"), list_metrics=("coverage@2",))
    report = evaluate(Given(scores), part, config)
    assert report.users.tolist() == [0, 2]
    assert report.values["recall@2"].tolist() == [1, 0.5] and report.values["mrr@2"].tolist() == [0.5, 1]
    assert report.summary["recall@2"].value == 0.75 and report.summary["recall@2"].users == 2
    assert report.lists["coverage@2"] == pytest.approx(2 / 3)
    assert report.unreachable == 1
    assert value_of(Given(scores), part, "mrr@2") == 0.75
    # content 0 alone holds half of the likes; user 2 has no positive in training
    assert report.groups["head contents"]["recall@2"].users == 0
    assert report.groups["tail contents"]["recall@2"].value == 0.75
    assert report.groups["warm users"]["recall@2"].users == 0
    assert report.groups["cold users"]["recall@2"].users == 2


def test_groups_split_users_by_what_is_known_and_contents_by_likes(tasteful):
    part = split(tasteful, SplitConfig()).test
    rng = np.random.default_rng(0)
    report = evaluate(Given(rng.random(part.held_out.shape)), part, EvaluationConfig())
    users = {name: group["ndcg@10"].users for name, group in report.groups.items()}
    assert users["cold users"] + users["warm users"] == len(part.users)
    both = [report.groups[name]["ndcg@10"] for name in ("cold users", "warm users")]
    mean = sum(one.value * one.users for one in both) / len(part.users)
    assert mean == pytest.approx(report.summary["ndcg@10"].value)


def test_head_holds_its_share_and_no_more():
    assert head(np.array([1, 5, 0, 4]), 0.5).tolist() == [False, True, False, False]
    assert head(np.array([2, 2, 2]), 0.5).tolist() == [True, True, False]
    assert not head(np.zeros(3, int), 0.5).any()


def test_bootstrap_repeats_and_widens_with_fewer_users():
    values = np.random.default_rng(0).random((500, 2))
    means = bootstrap(values, 2000, 4)
    np.testing.assert_array_equal(means, bootstrap(values, 2000, 4))
    assert means.shape == (2000, 2)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=0.003)
    # the standard error of a mean, and twice as much with a quarter of the users
    np.testing.assert_allclose(means.std(0), values.std(0) / np.sqrt(500), rtol=0.06)
    np.testing.assert_allclose(bootstrap(values[:125], 2000, 4).std(0), 2 * means.std(0), rtol=0.15)


def test_bootstrap_is_the_same_in_one_chunk_or_many(monkeypatch):
    values = np.random.default_rng(0).random((3_000, 1))
    means = bootstrap(values, 1500, 0)  # two chunks
    assert means.std() == pytest.approx(values.std() / np.sqrt(3_000), rel=0.08)


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for draw in range(200):
        means = bootstrap(rng.random((80, 1)), 300, draw)
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_settings_are_checked():
    with pytest.raises(SettingError, match="resamples >= 100"):
        EvaluationConfig(resamples=5)
    with pytest.raises(SettingError, match="written name@k"):
        replace(EvaluationConfig(), metrics=("ndcg@0",))


def test_scores_that_are_all_equal_rank_by_row_and_are_told():
    part = part_of([[1, 0, 0, 0], [0, 0, 0, 0]], [[0, 1, 0, 0], [0, 0, 1, 1]], [True, True, True, False])
    config = EvaluationConfig(metrics=("recall@2",), list_metrics=())
    flat = evaluate(Given(np.array([[9.0, 3, 3, 8], [3, 3, 3, 8]])), part, config)
    assert flat.rows.tolist() == [[1, 2], [0, 1]]
    assert flat.flat_users == 2 and not flat.discriminates  # what nobody may rank tells nothing apart
    one = evaluate(Given(np.array([[9.0, 3, 3, 8], [3, 3, 1, 8]])), part, config)
    assert one.flat_users == 1 and one.discriminates


def test_a_list_of_equals_above_others_is_not_flat():
    part = part_of(np.zeros((1, 40)), np.eye(1, 40))
    scores = np.zeros((1, 40))
    scores[0, 5:30] = 1
    assert lists_of(Given(scores), part.training, np.array([0]), 10).is_flat.tolist() == [False]
    assert lists_of(Given(scores * 0), part.training, np.array([0]), 10).is_flat.tolist() == [True]


def test_nobody_to_measure_says_so():
    part = part_of([[1, 0]], [[0, 0]])
    with pytest.raises(SettingError, match="at least one user of whom something is held out"):
        evaluate(Given(np.zeros((1, 2))), part, EvaluationConfig())


def test_unseen_users_are_ranked_on_what_they_tell(tasteful):
    part = split(tasteful, SplitConfig("unseen_users")).test
    seen = []

    class Listening(Given):
        def score(self, users):
            seen.append(users)
            return super().score(users)

    scores = np.random.default_rng(0).random(part.held_out.shape)
    report = evaluate(Listening(scores), part, EvaluationConfig())
    assert (seen[0].history != part.history[part.users]).nnz == 0 and seen[0].history.nnz > 0
    assert (seen[0].times != part.times[part.users]).nnz == 0
    liked = part.history.toarray()
    assert not liked[part.users[:, None], report.rows].any()
    assert report.groups["warm users"]["ndcg@10"].users > 0


def test_a_metric_that_is_not_known_of_everybody_leaves_the_others_alone():
    draw = np.random.default_rng(0).random((300, 2))
    draw[:100, 1] = np.nan
    config = EvaluationConfig()
    both = intervals({"ndcg@10": draw[:, 0], "regret@10": draw[:, 1]}, config)
    assert both["ndcg@10"] == intervals({"ndcg@10": draw[:, 0]}, config)["ndcg@10"]
    assert both["regret@10"] == intervals({"regret@10": draw[100:, 1]}, config)["regret@10"]
    assert (both["ndcg@10"].users, both["regret@10"].users) == (300, 200)


@pytest.fixture(scope="module")
def offered(toy):
    """Contents 0 to 9 in Norway, 10 to 19 in Japan on days 1 to 5; two people, one of them in Japan."""
    places = [Node("Region", f"region:{code}") for code in ("JP", "NO", "ZZ")]
    places += [Node("Platform", f"platform:{name}") for name in ("one", "two")]
    users = [Node("User", "user:toy:000"), Node("User", "user:toy:001", {"region": "JP"})]
    contents = [node for node in toy.nodes(0, 30)]

    def offer(content, region, platform, end=None):
        members = {
            "content": (f"content:toy:{content:03d}",),
            "region": (f"region:{region}",),
            "platform": (f"platform:{platform}",),
        }
        return Hyperedge("AVAILABLE", members, "toy", {}, 86_400, end)

    facts = [offer(content, "NO", "one") for content in range(10)]
    facts += [offer(content, "JP", "two", 6 * 86_400) for content in range(10, 19)]
    facts += [offer(content, "ZZ", "two") for content in range(25)]
    facts += [toy.fact("RATED", user, content, 86_400, rating=9.0) for user in (0, 1) for content in (20, 21)]
    return toy.arrays([*places, *users, *contents, *facts])


def test_what_is_watchable_goes_by_region_moment_and_user(offered):
    users = np.array([0, 1])
    own = watchable(offered, users)
    assert own.moment == 86_400
    assert [np.flatnonzero(own.masks[own.of_user[user]]).tolist() for user in users] == [
        list(range(10)),
        list(range(10, 19)),
    ]
    later = watchable(offered, users, moment=7 * 86_400)
    assert later.masks[later.of_user].sum(axis=1).tolist() == [10, 0]
    assert watchable(offered, users, "JP").masks.sum() == 9
    assert own.has(np.array([[0, 10, -1], [0, 10, -1]])).tolist() == [
        [True, False, False],
        [False, True, False],
    ]
    with pytest.raises(SettingError, match="does not know the region 'FR'; it knows JP, NO, ZZ"):
        watchable(offered, users, "FR")


def test_the_busiest_moment_is_the_first_with_most_windows(offered):
    starts, ends = offered.starts("AVAILABLE"), offered.ends("AVAILABLE")
    moments = np.unique(np.r_[starts, ends[ends < 2**40]])
    counts = [((starts <= at) & (at < ends)).sum() for at in moments]
    assert busiest_moment(offered) == moments[int(np.argmax(counts))]


def test_contents_by_place_leaves_out_the_unknown_country(offered):
    found = contents_by_place(offered, 12, 1)
    assert list(found) == ["region NO contents", "region JP contents", "platform two contents"]
    assert np.flatnonzero(found["platform two contents"]).tolist() == list(range(25))


def available_part(offered):
    held = np.zeros((2, 30))
    held[0, [3, 15]] = held[1, [12]] = 1
    part = part_of(np.zeros((2, 30)), held)
    return replace(part, training=replace(part.training, graph=offered), whole=offered)


def test_only_what_is_available_is_ranked(offered):
    part, scores = available_part(offered), np.tile(np.arange(30.0), (2, 1))
    named = ("recall@10", "availability@10", "regret@10")
    known = evaluate(Given(scores), part, EvaluationConfig(metrics=named, list_metrics=()))
    assert known.rows[0].tolist() == list(range(29, 19, -1))
    assert known.values["availability@10"].tolist() == [0, 0] and known.values["regret@10"].tolist() == [1, 1]
    config = EvaluationConfig(metrics=named, list_metrics=(), task="available")
    report = evaluate(Given(scores), part, config)
    assert report.rows.tolist() == [list(range(9, -1, -1)), [*range(18, 9, -1), -1]]
    assert report.values["availability@10"].tolist() == [1, 1]
    assert report.values["recall@10"].tolist() == [0.5, 1]
    # content 3 stands at rank 7 of Norway's, 12 at rank 7 of Japan's; an oracle shows either first
    assert report.values["regret@10"].tolist() == pytest.approx([1 - 1 / np.log2(8)] * 2)
    assert report.unreachable == 1 and report.moment == 86_400
    oracle = evaluate(Given(part.held_out.toarray()), part, config)
    assert oracle.values["regret@10"].tolist() == [0, 0]


def test_regions_and_platforms_are_told_apart(offered):
    part = available_part(offered)
    report = evaluate(Given(part.held_out.toarray()), part, EvaluationConfig(cold_likes=0))
    counts = {name: group["ndcg@10"].users for name, group in report.groups.items()}
    assert counts["region NO contents"] == 1 and counts["region JP contents"] == 2
    assert counts["platform one contents"] == 1 and counts["platform two contents"] == 2
    assert counts["cold contents"] == 0 and np.isnan(report.groups["cold contents"]["ndcg@10"].value)
    assert report.groups["region JP contents"]["recall@10"].value == 1
    none = evaluate(Given(part.held_out.toarray()), part, EvaluationConfig(regions=0, platforms=0))
    assert not [name for name in none.groups if name.startswith(("region", "platform"))]


def test_availability_of_a_graph_without_any_says_what_to_do(tasteful, toy):
    graph = toy.graph([(0, day, 9, day) for day in range(1, 11)])
    part = split(graph, SplitConfig()).test
    with pytest.raises(SettingError, match="toy has no AVAILABLE fact: add a source"):
        evaluate(Given(np.zeros(part.held_out.shape)), part, EvaluationConfig(task="available"))
    every = tuple(f"{name}@10" for name in metrics)
    part = split(tasteful, SplitConfig()).test
    scores = np.random.default_rng(0).random(part.held_out.shape)
    report = evaluate(Given(scores), part, EvaluationConfig(metrics=every))
    assert all(report.summary[name].users > 200 for name in every)
    assert (
        "diversity@10" in report.groups["cold users"] and "diversity@10" not in report.groups["head contents"]
    )
    assert value_of(Given(scores), part, "diversity@10") == pytest.approx(
        report.summary["diversity@10"].value
    )
    assert value_of(Given(scores), part, "regret@10") == pytest.approx(report.summary["regret@10"].value)
    assert value_of(Given(scores), part, "gini@10") == pytest.approx(report.lists["gini@10"])
