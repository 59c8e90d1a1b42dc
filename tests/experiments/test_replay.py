"""Replay: ranked before learned, equal to a naive one, and whoever peeks is caught."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import scipy.sparse as sp

from configs.loading import ROOT, load
from configs.registry import SettingError, UnknownName, fill, import_parts
from experiments.audit import LeakageError
from experiments.evaluation import EvaluationConfig, evaluate
from experiments.loops import Loop, loops
from experiments.replay import ReplayMeasure, Witness, blind, replay, steps
from experiments.replay_report import document
from experiments.replay_table import ReplayConfig, replay_table
from experiments.significance import holm
from experiments.splits import SplitConfig, split
from experiments.stream import Events, Stream
from models.interface import Users, recommenders
from models.ranking import top

MEASURE = ReplayMeasure(("ndcg@5", "hit_rate@5", "mrr@5"), resamples=100)
CONFIG = SplitConfig(settings={"share": 0.4}, positive_rating=4.0)


class Learner(Loop):
    """Adds up what it was taught: a content liked by whomever scores a point more for everybody."""

    shares_state = True

    def begin(self, model, part):
        super().begin(model, part)
        self.points = np.zeros(part.history.shape[1], np.float32)

    def scores(self, users, at_ts):
        return np.repeat(self.points[None], len(users.rows), axis=0)

    def learn(self, user_rows, contents, at_ts):
        super().learn(user_rows, contents, at_ts)
        np.add.at(self.points, contents, 1)


@pytest.fixture(scope="module")
def part(busy):
    return split(busy, CONFIG).test


@pytest.fixture(scope="module")
def stream(part):
    return Stream.of(part, CONFIG)


@pytest.fixture(scope="module")
def model(part):
    import_parts("models")
    found = recommenders.build("ease", {"regularization": 5.0})
    found.fit(part.training)
    return found


def begun(loop, model, part):
    loop.begin(model, blind(part))
    return loop


def made(name, model, part, shares_state=False):
    loop = begun(loops.build(name), model, part)
    loop.shares_state = shares_state
    return loop


def world_of(part, rows):
    """A part of people without a history who like ``rows`` (user, content, day)."""
    nothing = sp.csr_array(part.history.shape, dtype=np.float32)
    everything = np.ones(nothing.shape[1], bool)
    training = replace(part.training, positives=nothing, times=nothing.astype(np.int64), rankable=everything)
    blank = replace(part, training=training, told=None)
    users, contents, days = (np.array(column) for column in zip(*rows, strict=True))
    return blank, Stream(blank, Events(users, contents, days * 86_400))


def naive(stream, model, n=5):
    """NDCG of each block, one at a time, from sets."""
    part, found = stream.part, []
    seen = {}
    for user, content, moment in zip(
        stream.events.users, stream.events.contents, stream.events.times, strict=True
    ):
        seen.setdefault((int(user), int(moment)), set()).add(int(content))
    for (user, moment), liked in sorted(seen.items()):
        past = set(part.history[[user]].indices.tolist())
        past |= {one for (who, when), some in seen.items() if who == user and when < moment for one in some}
        history = np.zeros((1, part.history.shape[1]), np.float32)
        history[0, sorted(past)] = 1
        scores = model.score(Users(np.array([user]), sp.csr_array(history)))
        allowed = part.training.rankable.copy()
        allowed[sorted(past)] = False
        best = top(scores, n, allowed)[0]
        gain = sum(1 / math.log2(place + 2) for place, one in enumerate(best.tolist()) if one in liked)
        found.append(gain / sum(1 / math.log2(place + 2) for place in range(min(n, len(liked)))))
    return np.array(found)


@pytest.mark.parametrize("shares_state", [False, True])
def test_live_history_equals_a_naive_replay(stream, model, part, shares_state):
    found = replay(stream, made("live", model, part, shares_state), MEASURE)
    assert len(stream) > 60 and stream.turns.max() > 2 and stream.sizes.max() > 1
    np.testing.assert_allclose(found.values["ndcg@5"], naive(stream, model), atol=1e-12)


def test_at_one_moment_a_replay_is_an_evaluation(stream, model, part):
    at_once = Stream(part, replace(stream.events, times=np.full(len(stream.events), 10**9)))
    config = EvaluationConfig(MEASURE.metrics, list_metrics=(), resamples=100, regions=0, platforms=0)
    report = evaluate(model, part, config)
    for name in ("frozen", "live"):
        found = replay(at_once, made(name, model, part), MEASURE)
        assert found.users.tolist() == report.users.tolist()
        for metric in MEASURE.metrics:
            np.testing.assert_array_equal(found.per_user(metric), report.values[metric])
            assert found.summary[metric] == report.summary[metric]


def test_frozen_reads_the_history_at_the_split_and_hides_what_was_liked_since(stream, model, part):
    found = replay(stream, made("frozen", model, part), MEASURE)
    live = replay(stream, made("live", model, part), MEASURE)
    first = stream.turns == 0
    np.testing.assert_array_equal(found.lists[first], live.lists[first])
    assert (found.lists[~first] != live.lists[~first]).any()
    for block in np.flatnonzero(~first):
        past = stream.asked(np.array([block])).history.indices
        assert not np.isin(found.lists[block], past).any()


def test_a_user_counts_by_the_mean_over_blocks(stream, model, part):
    found = replay(stream, made("live", model, part), MEASURE)
    for user, value in zip(found.users, found.per_user("mrr@5"), strict=True):
        assert value == pytest.approx(found.values["mrr@5"][found.block_users == user].mean())


def test_histories_hold_what_was_liked_before_and_when(stream, part):
    everybody = np.arange(len(stream))
    users = stream.asked(everybody)
    assert users.history.has_sorted_indices and (users.history.indices == users.times.indices).all()
    for block in everybody:
        own = stream.events.users == stream.users[block]
        earlier = own & (stream.events.times < stream.times[block])
        row = part.history[[stream.users[block]]]
        expected = {*row.indices.tolist(), *stream.events.contents[earlier].tolist()}
        mine = users.history[[block]]
        assert set(mine.indices.tolist()) == expected
        when = dict(zip(mine.indices.tolist(), users.times[[block]].data.tolist(), strict=True))
        pairs = zip(stream.events.contents[earlier], stream.events.times[earlier], strict=True)
        assert all(when[int(content)] == moment for content, moment in pairs)


def test_what_others_did_before_is_known_and_in_the_same_second_is_not(part, model):
    later = [(0, 3, 5), (1, 3, 6), (2, 4, 7), (3, 4, 7)]
    blank, stream = world_of(part, later)
    values = replay(stream, begun(Learner(None), model, blank), MEASURE).values["mrr@5"]
    # nobody has liked anything when user 0 is asked: contents stand in order of rows, 3 is fourth
    # user 1 is told of 3; users 2 and 3 like 4 in one second: 3 is above, then 0, 1, 2, 4
    assert values.tolist() == [1 / 4, 1.0, 1 / 5, 1 / 5]


def test_a_block_is_ranked_whole(part, model):
    blank, stream = world_of(part, [(0, 3, 5), (0, 4, 5), (0, 5, 6)])
    found = replay(stream, begun(Learner(None), model, blank), MEASURE)
    assert stream.sizes.tolist() == [2, 1] and stream.turns.tolist() == [0, 1]
    assert found.lists[0].tolist() == [0, 1, 2, 3, 4] and found.lists[1].tolist() == [0, 1, 2, 5, 6]


@pytest.mark.parametrize("shares_state", [False, True])
def test_what_comes_later_changes_nothing_before(stream, model, part, shares_state):
    moment = int(np.median(stream.times))
    kept = stream.events.times <= moment
    until = Stream(part, stream.events.only(np.flatnonzero(kept)))
    for make in (lambda: made("live", model, part, shares_state), lambda: begun(Learner(None), model, part)):
        whole, cut = replay(stream, make(), MEASURE), replay(until, make(), MEASURE)
        np.testing.assert_array_equal(whole.lists[stream.times <= moment], cut.lists)


def test_steps_go_by_time_where_state_is_shared_and_by_turn_where_not(stream):
    by_time, by_turn = list(steps(stream, True)), list(steps(stream, False))
    for found in (by_time, by_turn):
        assert np.sort(np.concatenate(found)).tolist() == list(range(len(stream)))
    moments = [set(stream.times[blocks].tolist()) for blocks in by_time]
    assert all(len(one) == 1 for one in moments)
    assert sorted(one.pop() for one in moments) == sorted(set(stream.times.tolist()))
    assert [set(stream.turns[blocks].tolist()) for blocks in by_turn] == [{n} for n in range(len(by_turn))]


class Peeking(Learner):
    """Learns what it is asked for before it answers."""

    def scores(self, users, at_ts):
        liked = self.stolen.contents[np.isin(self.stolen.users, users.rows)]
        self.learn(users.rows[:1].repeat(len(liked)), liked, at_ts)
        return super().scores(users, at_ts)


class Restless(Learner):
    """Moves a little at every question."""

    def scores(self, users, at_ts):
        self.points[0] += 1
        return super().scores(users, at_ts)


class Sharing(Learner):
    """Says that people share nothing, and they do."""

    shares_state = False


class Silent(Learner):
    """Learns without counting."""

    def learn(self, user_rows, contents, at_ts):
        np.add.at(self.points, contents, 1)


class Broken(Learner):
    def scores(self, users, at_ts):
        return super().scores(users, at_ts) * np.nan


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        (Peeking, LeakageError, "may learn what it is taught and nothing else"),
        (Restless, LeakageError, "must answer the same question alike"),
        (Sharing, LeakageError, "set shares_state, or keep people apart"),
        (Silent, LeakageError, "count all"),
        (Broken, ValueError, "Broken must give finite scores"),
    ],
)
def test_who_peeks_or_lies_is_caught(stream, model, part, kind, error, said):
    loop = begun(kind(None), model, part)
    loop.stolen = stream.events
    with pytest.raises(error, match=said):
        replay(stream, loop, MEASURE)


def test_a_loop_is_used_once(stream, model, part):
    loop = begun(Learner(None), model, part)
    replay(stream, loop, MEASURE)
    assert loop.taken == len(stream.events)
    with pytest.raises(LeakageError, match="taught nothing, this one took"):
        replay(stream, loop, MEASURE)


def test_a_loop_is_shown_nothing_of_what_is_held_out(part):
    shown = blind(part)
    assert not shown.held_out.nnz and shown.whole is None and not len(shown.users)
    assert (shown.history != part.history).nnz == 0


def test_the_witness_refuses_every_wrong_order(stream, model, part):
    by_time = list(steps(stream, True))

    def fresh():
        return Witness(stream, begun(Learner(None), model, part), MEASURE)

    with pytest.raises(LeakageError, match="only after it was ranked"):
        fresh().learn(by_time[0])
    witness = fresh()
    witness.rank(by_time[0])
    with pytest.raises(LeakageError, match="must be ranked once"):
        witness.rank(by_time[0])
    witness.learn(by_time[0])
    with pytest.raises(LeakageError, match="was learned already: teach it once"):
        witness.learn(by_time[0])
    witness = fresh()
    second = np.flatnonzero(stream.turns == 1)[:1]
    with pytest.raises(LeakageError, match="must be learned before the next of its user"):
        witness.rank(second)


def test_the_witness_keeps_seconds_together_where_state_is_shared(part, model):
    blank, stream = world_of(part, [(0, 3, 5), (1, 3, 5), (2, 4, 6), (3, 4, 6)])
    witness = Witness(stream, begun(Learner(None), model, blank), MEASURE)
    witness.rank(np.array([0]))
    with pytest.raises(LeakageError, match="rank all of a second together"):
        witness.learn(np.array([0]))
    witness.rank(np.array([1]))
    witness.learn(np.array([0, 1]))
    witness.rank(np.array([2, 3]))
    witness.learn(np.array([2]))
    assert witness.learned.tolist() == [True, True, True, False]
    early = Witness(stream, begun(Learner(None), model, blank), MEASURE)
    early.rank(np.arange(3))
    early.learned[2], early._learned_until = True, int(stream.times[2])
    with pytest.raises(LeakageError, match="go in order of time"):
        early.rank(np.array([3]))


def test_a_history_that_tells_of_later_is_refused(busy):
    config = SplitConfig(name="random", positive_rating=4.0)
    with pytest.raises(SettingError, match="needs a split by time"):
        Stream.of(split(busy, config).test, config)


def test_a_stream_needs_events_and_the_whole_graph(part):
    empty = np.empty(0, np.int64)
    with pytest.raises(SettingError, match="at least one event"):
        Stream(part, Events(empty, empty, empty))
    with pytest.raises(SettingError, match="take a part of split"):
        Stream.of(replace(part, whole=None), CONFIG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metrics": ("coverage@10",)}, "by hits alone, 'coverage@10' reads more"),
        ({"metrics": ("novelty@10",)}, "reads more"),
        ({"metrics": ()}, "needs a metric"),
        ({"probed": 0}, "probed of 1 or more"),
        ({"resamples": 3}, "resamples >= 100"),
    ],
)
def test_a_measure_says_what_it_needs(settings, said):
    with pytest.raises(SettingError, match=said):
        ReplayMeasure(**settings)


@pytest.mark.parametrize("path", sorted((ROOT / "replay").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_builds(path):
    settings = fill(ReplayConfig, load(path), path.name)
    assert settings.name == path.stem and settings.compared()
    for label in settings.models:
        assert settings.experiment(label).model["name"] in recommenders


TABLE = {
    "name": "small",
    "models": {"ease": "experiments/ease.yaml", "floor": "experiments/popularity.yaml"},
    "rows": {
        "floor": {"model": "floor", "loop": "frozen"},
        "frozen": {"model": "ease", "loop": "frozen"},
        "live": {"model": "ease", "loop": "live"},
    },
    "measure": {"metrics": ["ndcg@10", "mrr@10"], "resamples": 200},
    "test": {"resamples": 1000, "least_users": 20},
}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"rows": {}}, SettingError, "has rows"),
        ({"part": "train"}, SettingError, "one of test, validation"),
        ({"rows": {"a": {"model": "slim"}}}, UnknownName, "name it under `models`"),
        ({"rows": {"a": {"model": "ease", "loop": "lieve"}}}, UnknownName, "nearest: live"),
        ({"rows": {"a": {"model": "ease", "settings": {"x": 1}}}}, SettingError, "has no setting 'x'"),
        ({"rows": {"a": {"model": "ease", "tune": {"x": [1]}}}}, SettingError, "has no setting 'x'"),
        ({"pairs": (("live", "live"),)}, SettingError, "two rows each"),
        ({"pairs": (("live", "dead"),)}, SettingError, "two rows each"),
        ({"measure": {"metrics": ["ndgc@10"]}}, UnknownName, "nearest: ndcg"),
    ],
)
def test_a_wrong_setting_says_what_to_do(change, error, said):
    with pytest.raises(error, match=said):
        fill(ReplayConfig, {**TABLE, **change})


@pytest.fixture(scope="module")
def table(tasteful):
    return replay_table(TABLE, tasteful)


def test_a_table_compares_rows_user_by_user(table):
    assert [row.name for row in table.rows] == ["floor", "frozen", "live"]
    assert table.row("live").metrics["ndcg@10"].value > table.row("floor").metrics["ndcg@10"].value
    assert [(one.first, one.second) for one in table.differences] == [
        ("frozen", "floor"),
        ("live", "floor"),
        ("live", "frozen"),
    ]
    assert [one.p for one in table.differences] == holm([one.paired.p for one in table.differences])
    for one in table.differences:
        mean = (table.values[one.first] - table.values[one.second]).mean()
        assert one.paired.difference == pytest.approx(mean)
    assert table.row("live").by_turn[0] == table.row("frozen").by_turn[0]
    assert table.row("live").by_turn[0].users == table.users
    with pytest.raises(UnknownName, match="there are floor, frozen, live"):
        table.row("dead")


def test_few_warm_users_call_nothing_better(tasteful):
    few = {**TABLE, "pairs": [["frozen", "floor"]], "test": {"resamples": 1000, "least_users": 10**6}}
    found = replay_table(few, tasteful)
    assert len(found.differences) == 1 and not found.differences[0].is_better
    assert "nothing is called better" in document(found).markdown()


def test_a_report_tells_all_and_repeats(table):
    told = document(table, "Made up.", "mg replay small.yaml").markdown()
    for word in ("> **Simulated.** Made up.", "mg replay small.yaml", table.split_hash, table.graph_hash):
        assert word in told
    assert "regularization" in told and "frozen is better than floor" in told
    cut = replace(table, rows=(replace(table.rows[0], budget_cut="1 of 4 points were tried"),))
    assert "points were tried." not in told and "1 of 4 points were tried." in document(cut).markdown()
    assert table.summary()["rows"][2]["name"] == "live" and "values" not in table.summary()


def test_settings_of_a_loop_are_chosen_by_a_replay_of_validation(tasteful, monkeypatch):
    @dataclass(frozen=True)
    class SignConfig:
        sign: int = 1

    class Signed(Loop):
        def scores(self, users, at_ts):
            return self.config.sign * self.model.score(users)

    monkeypatch.setattr(loops, "_parts", {**loops._parts, "signed": (Signed, SignConfig)})
    rows = {
        "live": {"model": "ease", "loop": "live"},
        "signed": {"model": "ease", "loop": "signed", "tune": {"sign": [-1, 1]}},
    }
    found = replay_table({**TABLE, "rows": rows}, tasteful)
    signed = found.row("signed")
    assert signed.settings == {"sign": 1} and signed.tried == 2
    np.testing.assert_array_equal(found.values["signed"], found.values["live"])
    assert not found.differences[0].is_better and found.differences[0].p == 1.0
