"""Trials as people meet them: commands, the watcher beside endpoints, canaries on simulated people."""

import json
import sys

import numpy as np
import pytest

from apps import cli
from apps.bench.canary import SCENARIOS, SETTINGS, _try, false_alarms
from apps.rollout import Watcher, next_step, standing
from configs.home import Home
from configs.registry import import_parts
from experiments.rollout import RolloutConfig, start
from experiments.splits import SplitConfig, split
from kg.arrays import from_records
from kg.worlds import WorldConfig, world
from models.store import ModelStore
from models.verification import ModelError
from serve.client import LocalClient
from tests.serve.small_home import GRAPH, small_graph, small_home

QUICK = RolloutConfig(shadow_answers=10, least_people=5, latency_ms=60_000, canary_share=0.5)


@pytest.fixture
def home(tmp_path):
    return small_home(tmp_path / "home", small_graph())


@pytest.fixture
def mg(mg_in, home):
    return mg_in(home.root, GRAPH)


def test_the_watcher_takes_a_shadow_to_canary_and_a_canary_to_champion(home):
    store, said = ModelStore(home.models), []
    watcher = Watcher(home, GRAPH, said.append, config=QUICK)
    assert watcher.look() is None
    start(store, GRAPH, "champion", "popularity/1", "shadow", 1.0, "test")
    with LocalClient(home, GRAPH) as client:
        people = client.gateway.snapshot().user_ids
        for user in people[:10]:
            client.recommend({"user_id": user, "n": 5})
        client.gateway.arms.drain()
        assert watcher.look().action == "canary" and "10 answers compared: overlap" in said[-1]
        client.gateway.refresh()
        tried = client.gateway.trial.candidate
        for user in people:  # simulated: everybody likes what the canary shows, nobody what the champion does
            shown = client.recommend({"user_id": user, "n": 5}).contents[0].content_id
            event = "like" if tried.is_chosen(tried.key_of(user)) else "dislike"
            client.feedback({"user_id": user, "content_id": shown, "event": event})
        client.gateway.arms.drain()
        assert watcher.look().action == "champion" and watcher.look() is None
    assert store.alias(GRAPH, "champion").ref == "popularity/1"
    assert [move.step for move in store.history(GRAPH, "champion")] == [
        "promote",
        "shadow",
        "canary",
        "champion",
    ]


def test_the_watcher_goes_on_where_a_log_cannot_be_read(home):
    start(ModelStore(home.models), GRAPH, "champion", "popularity/1", "shadow", 1.0, "test")
    home.exposures(GRAPH).parent.mkdir(parents=True, exist_ok=True)
    home.exposures(GRAPH).write_bytes(b"no database" * 500)
    with Watcher(home, GRAPH, print, every_s=0.01) as watcher:
        assert watcher.look() is None


def test_a_candidate_whose_file_is_lost_is_rolled_back_by_itself(home):
    store = ModelStore(home.models)
    start(store, GRAPH, "champion", "popularity/1", "canary", 0.9, "test")
    (store.load("popularity/1").folder / "weights.safetensors").unlink()
    with LocalClient(home, GRAPH) as client:
        for user in client.gateway.snapshot().user_ids[:10]:
            assert client.recommend({"user_id": user, "n": 5}).model_version == "ease/1"
        client.gateway.arms.drain()
        _, decision = next_step(home, GRAPH)
    assert decision.action == "rollback" and "error rate" in decision.reason
    assert standing(home, GRAPH).candidate is None


def test_commands_tell_take_and_undo_steps(mg, home):
    code, _, err = mg("rollout", "step")
    assert code == 1 and "mg promote RUN --shadow" in err
    start(ModelStore(home.models), GRAPH, "champion", "popularity/1", "canary", 0.25, "test")
    code, out, _ = mg("rollout", "status")
    assert code == 0 and "popularity/1 as canary, 25% of people" in out
    code, out, _ = mg("rollout", "status", "--json")
    assert json.loads(out)["candidate"]["share"] == 0.25
    assert "champion.canary (25% of people)" in mg("models")[1]
    assert "no verdict yet" in mg("rollout", "step")[1]
    code, out, _ = mg("rollback", "--reason", "slow")
    assert code == 0 and "popularity/1 is tried out no more (slow); ease/1 answers everybody" in out
    ModelStore(home.models).set_alias(GRAPH, "champion", "popularity/1", "test")
    assert "champion of world: popularity/1 -> ease/1 (by hand)" in mg("rollback")[1]
    code, _, err = mg("rollback")
    assert code == 1 and "nothing held champion of world before ease/1" in err


@pytest.mark.parametrize(
    "words", [("promote", "x", "--shadow", "--canary", "0.1"), ("promote", "x", "--canary", "1")]
)
def test_a_share_that_cannot_be_is_wrong_use(mg, words):
    assert mg(*words)[0] == 2


@pytest.mark.parametrize(
    "words", [("rollback",), ("rollout", "status"), ("rollout", "step"), ("bench", "canary")]
)
def test_help_has_an_example(mg, words, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["mg", *words, "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "Example: mg" in capfd.readouterr().out.replace("\n", " ")


def test_nothing_to_tell_of_an_empty_home(tmp_path):
    found = standing(Home(tmp_path), "nowhere")
    assert (found.holder, found.candidate, found.history) == (None, None, [])
    with pytest.raises(ModelError, match="nobody is tried out"):
        next_step(Home(tmp_path), "nowhere")


@pytest.fixture(scope="module")
def tasteful():
    """260 simulated people with planted tastes: EASE finds them, chance does not."""
    import_parts("models")
    made = world(WorldConfig(users=260, contents=120, groups=4, ratings_per_user=30, seed=1))
    return from_records(GRAPH, made.nodes, made.hyperedges)


def test_simulated_people_tell_a_harmful_candidate_from_a_better_one(tasteful, tmp_path):
    home, other, cut = Home(tmp_path / "a"), Home(tmp_path / "b"), split(tasteful, SplitConfig())
    for one in (home, other):
        tasteful.publish(one.arrays(GRAPH))
    harmful, broken = SCENARIOS[2], SCENARIOS[3]
    row, heard = _try(harmful, home, tasteful, cut, 0.5, 200, seed=0)
    assert (row.verdict, row.answers_now, row.failed, row.simulated) == ("rollback", "ease/1", 0, True)
    assert row.people <= 100 and len(heard) == row.people and "quality" in row.reason
    row, _ = _try(broken, other, tasteful, cut, 0.5, 200, seed=0)
    assert row.verdict == "rollback" and row.failed == 0 and row.people <= 40


def test_false_alarms_keep_to_their_levels_on_any_outcomes():
    positive = np.arange(400) % 3 == 0
    found = false_alarms(positive, 0.5, SETTINGS, draws=200, seed=0)
    assert found.promoted_share <= 0.03 and found.rolled_back_share <= 0.09 and found.simulated
