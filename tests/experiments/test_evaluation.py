"""Full ranking, its per-user values and intervals."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig, bootstrap, evaluate, head, hits_of, rank, value_of
from experiments.splits import Part, SplitConfig, split
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
