"""The way of a candidate: what counts decide, what a step does to the alias, and what is taken back."""

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from configs.registry import SettingError
from experiments.rollout import (
    ArmCounts,
    Counts,
    RolloutConfig,
    decide,
    previous_holder,
    rollback,
    start,
    step,
)
from experiments.tally import count
from kg.exposures import Exposure
from kg.feedback import FeedbackEvent
from models.aliases import Aliases, Overtaken, Step
from models.candidate import Candidate
from models.verification import ModelError

CANARY = Candidate("b/1", "canary", 0.5, "salt", 1_000.0)
SHADOW = replace(CANARY, stage="shadow", share=1.0)
CONFIG = RolloutConfig()


def counts(ours=(200, 60), theirs=(200, 60), answers=400, errors=0, slow=0, age_s=60.0, beside=(400, 0)):
    candidate = ArmCounts(ours[0], ours[0], ours[1], answers, errors, slow, 5.0, 9.0)
    champion = ArmCounts(theirs[0], theirs[0], theirs[1], beside[0], 0, beside[1], 5.0, 9.0)
    return Counts(candidate, champion, age_s, 0.4)


@pytest.mark.parametrize(
    ("tried", "seen", "action", "said"),
    [
        (
            CANARY,
            counts(),
            "wait",
            "no verdict yet: positive feedback from 30.0% of 200 people against 30.0%",
        ),
        (CANARY, counts(ours=(200, 120)), "champion", "(+30.0%, always-valid interval +"),
        (CANARY, counts(ours=(99, 70), theirs=(150, 30)), "wait", "no verdict yet"),
        (CANARY, counts(ours=(200, 20)), "rollback", "quality: positive feedback from 10.0% of 200"),
        (
            CANARY,
            counts(ours=(200, 120), errors=40),
            "rollback",
            "error rate must be at most 1.0%, 40 of 400",
        ),
        (
            CANARY,
            counts(ours=(200, 120), slow=40),
            "rollback",
            "latency p99 must be at most 100 ms, 40 of 400",
        ),
        (
            CANARY,
            counts(slow=40, beside=(400, 40)),
            "wait",
            "no verdict",
        ),  # the machine is slow, not the version
        (CANARY, counts(age_s=15 * 86_400), "end", "no verdict after 15.0 days and 400 people"),
        (CANARY, Counts(ArmCounts(), ArmCounts(), 0.0), "wait", "0 and 0 people with a known outcome"),
        (SHADOW, counts(answers=199), "wait", "199 of 200 answers compared"),
        (SHADOW, counts(answers=200), "canary", "200 answers compared: overlap 0.40, 0 errors, p99 9.0 ms"),
        (SHADOW, counts(answers=10, errors=10), "rollback", "error rate"),
        (SHADOW, counts(ours=(200, 0)), "canary", "compared"),  # what nobody was shown harms nobody
    ],
)
def test_counts_decide(tried, seen, action, said):
    decision = decide(tried, seen, CONFIG)
    assert decision.action == action and said in decision.reason
    assert decision.numbers["candidate_answers"] == seen.candidate.answers
    assert all(
        value is None or not isinstance(value, float) or math.isfinite(value)
        for value in decision.numbers.values()
    )


def test_settings_that_cannot_be_are_refused():
    for wrong in (
        {"level": 0.0},
        {"canary_share": 1.0},
        {"least_people": 0},
        {"most_people": 10},
        {"window_s": 0},
    ):
        with pytest.raises(SettingError, match="a rollout needs"):
            RolloutConfig(**wrong)


# steps, over aliases whose versions are names only


@dataclass
class Store:
    """A ModelStore whose versions are whole unless they are called broken."""

    aliases: Aliases

    def _check(self, ref):
        if ref.startswith("broken"):
            raise ModelError(f"{ref} is not what was written")
        return ref

    def holding(self, graph, alias):
        return self.aliases.holding(graph, alias)

    def history(self, graph, alias):
        return self.aliases.history(graph, alias)

    def set_alias(self, graph, alias, ref, step):
        return self.aliases.move(graph, alias, self._check(ref), step)

    def try_out(self, graph, alias, candidate, step):
        if candidate is not None:
            self._check(candidate.version)
        return self.aliases.try_out(graph, alias, candidate, step)


@pytest.fixture
def store(tmp_path):
    made = Store(Aliases(tmp_path))
    made.set_alias("g", "champion", "a/1", Step("promote", "first"))
    return made


def take(store, seen, config=CONFIG):
    return step(store, "g", "champion", seen, config, store.holding("g", "champion"))


def test_the_whole_way_from_shadow_to_champion_and_back(store):
    start(store, "g", "champion", "b/1", "shadow", 1.0, "gate passed")
    assert take(store, counts(answers=10)).action == "wait"
    assert take(store, counts()).action == "canary"
    tried = store.holding("g", "champion").candidate
    assert (tried.stage, tried.share) == ("canary", CONFIG.canary_share)
    assert take(store, counts(ours=(300, 200), theirs=(2_000, 600))).action == "champion"
    held = store.holding("g", "champion")
    assert (held.version, held.candidate) == ("b/1", None)
    moves = store.history("g", "champion")
    assert [move.step for move in moves] == ["promote", "shadow", "canary", "champion"]
    assert "better at level 0.01" in moves[-1].reason and moves[-1].numbers["candidate_positive"] == 200
    move = rollback(store, "g", "champion", "people complain")
    assert (move.version, move.previous, move.reason) == ("a/1", "b/1", "people complain")
    with pytest.raises(ModelError, match="nothing held champion of g before a/1"):
        rollback(store, "g", "champion")


def test_harm_takes_the_candidate_away_and_leaves_the_holder(store):
    start(store, "g", "champion", "b/1", "canary", 0.5, "gate passed")
    assert take(store, counts(ours=(200, 10))).action == "rollback"
    assert store.holding("g", "champion").candidate is None
    assert store.aliases.holder("g", "champion") == "a/1"
    last = store.history("g", "champion")[-1]
    assert last.step == "rollback" and last.previous_candidate == "b/1" and "quality" in last.reason
    with pytest.raises(ModelError, match="nobody is tried out"):
        take(store, counts())


def test_a_rollback_ends_a_trial_before_it_moves_the_holder(store):
    store.set_alias("g", "champion", "b/1", Step("promote", "second"))
    start(store, "g", "champion", "c/1", "canary", 0.5, "gate passed")
    assert rollback(store, "g", "champion").previous_candidate == "c/1"
    assert rollback(store, "g", "champion").version == "a/1"


def test_a_previous_holder_that_is_broken_is_not_gone_back_to(store):
    store.aliases.move("g", "champion", "broken/1", Step("promote", "as it was once"))
    store.set_alias("g", "champion", "b/1", Step("promote", "third"))
    with pytest.raises(ModelError, match="not what was written"):
        rollback(store, "g", "champion")
    assert store.aliases.holder("g", "champion") == "b/1"


def test_a_candidate_that_broke_is_not_promoted(store):
    held = store.holding("g", "champion")
    tried = Candidate("broken/1", "canary", 0.5, "salt", 0.0)
    store.aliases.try_out("g", "champion", tried, Step("canary", "was whole then", {}, held))
    with pytest.raises(ModelError, match="not what was written"):
        take(store, counts(ours=(200, 120)))
    assert store.aliases.holder("g", "champion") == "a/1"


def test_a_step_decided_on_an_older_state_is_refused(store):
    start(store, "g", "champion", "b/1", "canary", 0.5, "gate passed")
    seen = store.holding("g", "champion")
    rollback(store, "g", "champion", "somebody was quicker")
    with pytest.raises(Overtaken, match="somebody was quicker"):
        step(store, "g", "champion", counts(ours=(200, 120)), CONFIG, seen)
    assert store.aliases.holder("g", "champion") == "a/1"


def test_the_holder_is_not_tried_against_itself(store):
    with pytest.raises(ModelError, match="holds champion of g already"):
        start(store, "g", "champion", "a/1", "canary", 0.5, "why not")


class Rollouts(RuleBasedStateMachine):
    """Anything that people and counts may do, in any order, beside a plain model of what should come."""

    @initialize(folder=st.just(None))
    def begin(self, folder):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Aliases(Path(self.folder.name)))
        self.store.set_alias("g", "champion", "v/1", Step("promote", "first"))
        self.holders, self.tried, self.count = ["v/1"], None, 1

    def teardown(self):
        self.folder.cleanup()

    @rule(stage=st.sampled_from(["shadow", "canary"]))
    def try_a_new_version(self, stage):
        self.count += 1
        self.tried = (f"v/{self.count}", stage)
        start(self.store, "g", "champion", self.tried[0], stage, 0.5, "try")

    @rule()
    def promote_at_once(self):
        self.count += 1
        self.store.set_alias("g", "champion", f"v/{self.count}", Step("promote", "at once"))
        self.holders.append(f"v/{self.count}")
        self.tried = None

    @precondition(lambda self: self.tried is not None)
    @rule(
        ours=st.integers(0, 200), errors=st.integers(0, 400), slow=st.integers(0, 30), age=st.integers(0, 20)
    )
    def look(self, ours, errors, slow, age):
        seen = counts(ours=(200, ours), errors=errors, slow=slow, age_s=age * 86_400.0)
        action = take(self.store, seen).action
        assert action in {"shadow": ("wait", "canary", "rollback", "end")}.get(
            self.tried[1], ("wait", "champion", "rollback", "end")
        )
        if action == "canary":
            self.tried = (self.tried[0], "canary")
        elif action == "champion":
            assert ours > 60 and errors < 40
            self.holders.append(self.tried[0])
        if action in ("champion", "rollback", "end"):
            self.tried = None

    @rule()
    def take_back(self):
        if self.tried is not None:
            rollback(self.store, "g", "champion")
            self.tried = None
        elif len(self.holders) > 1:
            self.holders.pop()
            assert rollback(self.store, "g", "champion").version == self.holders[-1]
        else:
            with pytest.raises(ModelError, match="nothing held"):
                rollback(self.store, "g", "champion")

    @invariant()
    def the_alias_means_what_was_done_and_the_log_tells_it(self):
        held = self.store.holding("g", "champion")
        tried = held.candidate and (held.candidate.version, held.candidate.stage)
        assert (held.version, tried) == (self.holders[-1], self.tried)
        history = self.store.history("g", "champion")
        assert (history[-1].version, history[-1].candidate) == (held.version, tried and tried[0])
        assert previous_holder(history, held.version) == (self.holders[-2] if len(self.holders) > 1 else None)
        assert self.store.aliases.settle("g", "champion") is None


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


# tally


def seen(user, arm, ts, contents=("x", "y"), **more):
    return Exposure("salt", CANARY.key_of(user), arm, ts, 5.0, contents, **more)


def said(user, content, event, ts, value=None):
    return FeedbackEvent(user, content, event, key=f"{user}{content}{ts}", ts=ts, value=value)


def test_a_person_counts_once_by_their_first_opinion_of_what_they_were_shown():
    exposures = [
        seen("ann", "canary", 1_100),
        seen("ann", "canary", 1_200, ("z",)),
        seen("bob", "champion", 1_100),
        seen("cid", "champion", 1_100),
        seen("dan", "canary", 1_100),
        seen("eve", "canary", 1_100),
        seen("fay", "canary", 1_900),
    ]
    events = [
        said("ann", "x", "like", 1_000),  # before it was shown
        said("ann", "w", "like", 1_150),  # never shown
        said("ann", "x", "watchlist", 1_150),  # no opinion
        said("ann", "z", "like", 1_250),
        said("ann", "x", "dislike", 1_260),  # not the first
        said("bob", "y", "rating", 1_150, 7.0),
        said("bob", "y", "rating", 1_160, 10.0),
        said("dan", "x", "like", 3_000),  # after the window
        said("gus", "x", "like", 1_150),  # asked for nothing
        said("eve", "y", "watched", 1_150, 0.9),
    ]
    config = RolloutConfig(window_s=1_000)
    early = count(CANARY, exposures, events, config, now_ts=1_500)
    assert (early.candidate.people, early.candidate.known, early.candidate.positive) == (4, 2, 2)
    assert (early.champion.people, early.champion.known, early.champion.positive) == (2, 1, 0)
    late = count(CANARY, exposures, events, config, now_ts=2_500)
    assert (late.candidate.known, late.candidate.positive) == (3, 2)  # dan was silent, fay may still speak
    assert (late.champion.known, late.champion.positive) == (2, 0)
    assert late.candidate.answers == 5 and late.age_s == 1_500


def test_errors_latency_and_overlap_are_counted():
    exposures = [
        seen("ann", "shadow", 1_100, (), beside_ms=4.0, overlap=0.5),
        seen("bob", "shadow", 1_100, (), beside_ms=200.0, overlap=1.0),
        seen("cid", "shadow", 1_100, (), beside_ms=4.0, error="KeyError"),
        replace(seen("dan", "shadow", 1_100, (), beside_ms=4.0, overlap=0.0), latency_ms=300.0),
    ]
    found = count(SHADOW, exposures, [], CONFIG, 2_000)
    assert (found.candidate.answers, found.candidate.errors, found.candidate.slow) == (4, 1, 1)
    assert (found.champion.answers, found.champion.slow) == (4, 1) and found.overlap == 0.5
    assert found.candidate.people == 0 and found.candidate.p50_ms == 5.0
    empty = count(SHADOW, [], [], CONFIG, 2_000)
    assert math.isnan(empty.overlap) and empty.candidate == replace(
        ArmCounts(), p50_ms=empty.candidate.p50_ms, p99_ms=empty.candidate.p99_ms
    )
