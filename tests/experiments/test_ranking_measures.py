"""Steps of ranking and reasons, measured on a small run."""

import dataclasses
import json

import numpy as np
import pytest

from configs.home import Home
from configs.registry import SettingError
from experiments.faithfulness import FaithfulnessConfig, faithfulness
from experiments.ladder import LadderMeasure, measure_ladder
from experiments.ranking_steps import VARIANTS, StepsMeasure, candidates_of, measure_steps
from experiments.result import ResultError
from experiments.run import run
from experiments.saved import Listed, reopen
from models.interface import Users

CONFIG = {
    "name": "small",
    "model": {"name": "ease", "regularization": 20.0},
    "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def saved(tasteful, home):
    return reopen(run(CONFIG, tasteful, home), tasteful, home)


@pytest.fixture(scope="module")
def steps(saved):
    return measure_steps(saved)


def test_a_run_opens_as_it_was_measured(saved, steps, tasteful, home):
    none = steps.variants[0]
    assert none.name == "none" and none.p is None and none.changed == 0
    assert none.summary["ndcg@10"].value == pytest.approx(saved.run.metrics["ndcg@10"].value)
    with pytest.raises(ResultError, match="open that export"):
        reopen(dataclasses.replace(saved.run, split_hash="other"), tasteful, home)


def test_every_variant_is_measured_against_none(steps):
    found = {one.name: one for one in steps.variants}
    assert list(found) == list(VARIANTS)
    assert (
        found["calibration"].summary["miscalibration@10"].value
        < found["none"].summary["miscalibration@10"].value
    )
    assert found["diversity dpp"].summary["diversity@10"].value > found["none"].summary["diversity@10"].value
    for name, one in found.items():
        if name != "none":
            for metric, pair in one.against_none.items():
                expected = one.summary[metric].value - found["none"].summary[metric].value
                assert pair.difference == pytest.approx(expected)
    for step in steps.unknown:
        assert found[step].changed == 0


def test_candidates_carry_the_scores_of_the_model(saved):
    part = saved.split.test
    rows, scores = candidates_of(saved.model, part, 20)
    user = part.users[[3]]
    own = saved.model.score(Users(user, part.history[user], part.times[user]))[0]
    np.testing.assert_allclose(scores[3], own[rows[3]], rtol=1e-6)
    assert (np.diff(scores, axis=1) <= 1e-6).all()


def test_lists_are_measured_as_they_stand():
    listed = Listed(np.array([2, 5]), np.array([[3, 1], [0, -1]]), 4)
    scores = listed.score(Users(np.array([5, 2]), None))
    assert scores.tolist() == [[2, 0, 0, 0], [0, 1, 0, 2]]


def test_reasons_of_a_linear_model_are_faithful(saved):
    found = faithfulness(saved, FaithfulnessConfig(users=60, draws=2))
    assert found.difference.difference > 0 and found.difference.p < 0.01
    assert found.named.value > found.random.value and found.at_least.value > 0.9
    assert "weighs more" in found.says and found.users + found.left_out == 60


def test_made_up_reasons_are_caught(saved):
    class Liar(type(saved.model)):
        """Names what gave least."""

        def contributions(self, users, content_row):
            given = super().contributions(users, content_row)
            return given.max(initial=0) - given + 1e-6

    liar = Liar(saved.model.config)
    liar.restore(saved.model.arrays(), saved.split.test.training.graph)
    found = faithfulness(dataclasses.replace(saved, model=liar), FaithfulnessConfig(users=60, draws=2))
    assert found.difference.difference < 0 and "not shown" in found.says


def test_reasons_that_the_score_does_not_read_are_caught(saved):
    class Deaf(type(saved.model)):
        """Explains by the history and scores everybody alike."""

        def score(self, users):
            return np.repeat(np.arange(users.history.shape[1], dtype=np.float32)[None], len(users.rows), 0)

    deaf = Deaf(saved.model.config)
    deaf.restore(saved.model.arrays(), saved.split.test.training.graph)
    found = faithfulness(dataclasses.replace(saved, model=deaf), FaithfulnessConfig(users=30, draws=2))
    assert found.named.value == 0 and found.difference.p == 1 and "not shown" in found.says


def test_a_model_without_reasons_says_so(saved):
    class Silent(type(saved.model)):
        """Names nothing."""

        def contributions(self, users, content_row):
            return np.zeros(users.first().history.nnz)

    silent = Silent(saved.model.config)
    silent.restore(saved.model.arrays(), saved.split.test.training.graph)
    with pytest.raises(SettingError, match="shown as connections"):
        faithfulness(dataclasses.replace(saved, model=silent), FaithfulnessConfig(users=5))


@pytest.mark.parametrize("wrong", [{"candidates": 5}, {"minutes": 0}])
def test_steps_refuse(wrong):
    with pytest.raises(SettingError, match="candidates >= n >= 10"):
        StepsMeasure(**wrong)


def test_faithfulness_refuses():
    with pytest.raises(SettingError, match="1 or more"):
        FaithfulnessConfig(users=0)


@pytest.fixture(scope="module")
def ladder(saved):
    return measure_ladder(saved, LadderMeasure(events=(0, 3), titles=2, learn_users=100))


def test_the_ladder_is_measured_beside_its_rungs(ladder, saved):
    rows = {row.name: row for row in ladder.rows}
    assert 0 not in rows["history"].values and set(rows["popularity"].values) == {0, 3}
    # what is declared does not depend on the history, nor do the counts
    for name in ("popularity", "genres", "titles"):
        assert rows[name].values[0] == rows[name].values[3]
    assert rows["titles"].is_simulated and rows["ladder, all declared"].is_simulated
    assert not rows["ladder, nothing declared"].is_simulated and not rows["popularity"].is_simulated
    assert 0 < ladder.users <= ladder.of_users == len(saved.split.test.users)
    for shares in ladder.answered.values():
        assert sum(shares.values()) == pytest.approx(1)


def test_in_a_world_of_tastes_what_is_known_helps(ladder):
    rows = {row.name: row.values for row in ladder.rows}
    assert rows["ladder, all declared"][0].value > rows["ladder, nothing declared"][0].value
    assert rows["ladder, nothing declared"][3].value > rows["ladder, nothing declared"][0].value
    found = {(one.against, one.events): one for one in ladder.differences}
    assert found["popularity", 3].paired.difference > 0 and found["popularity", 3].p < 0.01


def test_the_report_of_a_ladder_is_plain(ladder):
    told = json.loads(json.dumps(ladder.summary()))
    assert told["blends"] and all(blend["rungs"] for blend in told["blends"])


@pytest.mark.parametrize("wrong", [{"events": (1, 2)}, {"events": (0, 3, 3)}, {"titles": 0}])
def test_ladder_measure_refuses(wrong):
    with pytest.raises(SettingError):
        LadderMeasure(**wrong)
