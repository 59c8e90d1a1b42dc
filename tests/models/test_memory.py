"""Patterns: made at three positives, looked up as NumPy would, decayed, merged, promoted, crowded out."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.registry import SettingError
from models.index import IndexConfig
from models.memory import Match, MemoryBankError, MemoryConfig, ReasoningBank, Verdict
from models.memory_pattern import DAY_S, confidence_at

DAY = DAY_S
STEPS = ("rank", "diversify")


def yes(user: str = "user:world:1", at_ts: int = DAY, **more) -> Verdict:
    return Verdict(user, True, at_ts, **more)


def no(user: str = "user:world:1", at_ts: int = DAY) -> Verdict:
    return Verdict(user, False, at_ts)


def taught(bank: ReasoningBank, query, steps=STEPS, context=None, times: int = 3, **more):
    """A pattern out of so many positives."""
    for _ in range(times):
        pattern = bank.learn(query, steps, context or {}, yes(**more))
    return pattern


@pytest.fixture
def bank(tmp_path):
    with ReasoningBank(tmp_path / "bank", writes=True) as opened:
        yield opened


def ids(matches: list[Match]) -> list[str]:
    return [match.pattern.pattern_id for match in matches]


def test_a_pattern_is_made_by_the_third_positive_of_one_cluster_steps_and_context(bank):
    tv = {"device": "tv"}
    bank.learn([1, 0], STEPS, tv, yes(results=("content:a",)))
    bank.learn([1, 0.1], STEPS, tv, yes(results=("content:b",)))
    bank.learn([1, 0], ("rank",), tv, yes())
    bank.learn([1, 0], STEPS, {}, yes())
    bank.learn([0, 1], STEPS, tv, yes())
    assert bank.lookup([1, 0], tv, DAY) == []
    third = bank.learn([1, 0], STEPS, tv, yes("user:world:2", DAY + 5, results=("content:b",)))
    (found,) = bank.lookup([2, 0], tv, DAY + 5)
    assert found.pattern is third and found.similarity == pytest.approx(1)
    assert (third.uses, third.positives, third.created_ts, third.used_ts) == (3, 3, DAY, DAY + 5)
    assert third.results == ("content:b", "content:a") and third.vector.tolist() == [1, 0]
    assert third.confidence == pytest.approx(1 - 0.5 * 0.75**3)
    assert bank.stats(DAY).seeds == 3 and bank.stats(DAY).patterns == 1


def test_a_negative_lowers_confidence_even_after_idle_weeks_and_makes_nothing(bank):
    assert bank.learn([1, 0], STEPS, {}, no()) is None and bank.patterns() == []
    made = taught(bank, [1, 0])
    late = DAY + 16 * DAY
    before = confidence_at(made.confidence, 16 * DAY, bank.config)
    after = bank.judge("p1", no(at_ts=late))
    assert after.confidence == pytest.approx(0.7 * before) and after.uses == 4
    older = bank.judge("p1", yes(at_ts=DAY))  # comes late: counted as of the last use
    assert older.used_ts == late and older.confidence > after.confidence


def test_lookup_holds_to_similarity_boost_and_context_by_hand(bank):
    taught(bank, [1, 0])
    taught(bank, [4, 3], times=31)  # cosine .8 to the query, boost 1.1
    taught(bank, [7, 10])  # .573: too far
    taught(bank, [1, 0.3], ("mood",), {"device": "tv"})
    found = bank.lookup([1, 0], {"device": "phone"}, DAY, n=5)
    assert ids(found) == ["p1", "p2"]
    assert found[0].score == pytest.approx(1 * (1 + 0.2 * np.log2(4) / 10))
    assert found[1].score == pytest.approx(0.8 * 1.1)
    assert "p4" in ids(bank.lookup([1, 0], {"device": "tv", "daypart": "night"}, DAY))
    assert "p4" not in ids(bank.lookup([1, 0], {}, DAY))
    assert ids(bank.lookup([1, 0], {}, DAY, n=1)) == ["p1"]


def naive(bank: ReasoningBank, query, context, at_ts: int, n: int) -> list[str]:
    """The definition, every pattern compared, over-fetched by two from those that fit."""
    config, scored = bank.config, []
    query = np.asarray(query, float) / np.linalg.norm(query)
    for one in bank.patterns():
        alike = float(one.vector.astype(float) @ query)
        alive = confidence_at(one.confidence, at_ts - one.used_ts, config) >= config.prune_below
        if alike >= config.similarity and one.positives >= 3 and alive and one.fits(context):
            scored.append((-alike * (1 + config.boost * min(1, np.log2(1 + one.uses) / 10)), one.pattern_id))
    return [name for _, name in sorted(scored)][:n]


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_lookup_is_the_definition_on_random_patterns(tmp_path, kind):
    rng = np.random.default_rng(3)
    config = MemoryConfig(cluster_similarity=0.9999, create_positives=1)
    with ReasoningBank(tmp_path, config, IndexConfig(kind=kind), writes=True) as bank:
        for _ in range(200):
            context = {} if rng.random() < 0.5 else {"device": rng.choice(["tv", "phone"]).item()}
            bank.learn(rng.normal(size=4), STEPS, context, Verdict("user:world:1", True, DAY))
        missing = 0
        for _ in range(40):
            query = rng.normal(size=4)
            found = ids(bank.lookup(query, {"device": "tv"}, DAY, n=4))
            wanted = naive(bank, query, {"device": "tv"}, DAY, 4)
            missing += len(set(wanted) - set(found))
        assert missing == 0


def test_a_context_that_sorts_nearly_all_out_still_finds_what_fits(bank):
    for place in range(60):
        taught(bank, [1, 0.001 * place], (f"step {place}",), {"device": "tv"})
    taught(bank, [1, 0.5], ("rare",), {"device": "radio"})
    assert ids(bank.lookup([1, 0], {"device": "radio"}, DAY, n=1)) == ["p61"]


def test_it_answers_its_users_and_once_promoted_its_segment(bank):
    for user in range(4):
        taught(bank, [1, 0], times=1, user=f"user:world:{user}", segment="owls")
    bank.upkeep(DAY)
    assert ids(bank.lookup([1, 0], {}, DAY, user_id="user:world:0")) == ["p1"]
    assert bank.lookup([1, 0], {}, DAY, user_id="user:world:9", segment="owls") == []
    bank.learn([1, 0], STEPS, {}, Verdict("user:world:4", False, DAY, "owls"))
    assert bank.upkeep(DAY).promoted == 0  # 4 of 5 is not more than 80%
    bank.learn([1, 0], STEPS, {}, Verdict("user:world:5", True, DAY, "owls"))
    assert bank.upkeep(DAY).promoted == 1  # 5 of 6 is
    assert ids(bank.lookup([1, 0], {}, DAY, user_id="user:world:9", segment="owls")) == ["p1"]
    assert bank.lookup([1, 0], {}, DAY, user_id="user:world:9", segment="larks") == []
    assert bank.stats(DAY).segments == {"owls": 1}
    bank.learn([1, 0], STEPS, {}, Verdict("user:world:6", False, DAY, "owls"))
    assert bank.upkeep(DAY).demoted == 1 and bank.get("p1").segment == ""


def test_upkeep_prunes_and_decays_after_seven_idle_days_and_twice_is_once(bank):
    made = taught(bank, [1, 0])
    taught(bank, [0, 1], at_ts=30 * DAY)
    week = bank.lookup([1, 0], {}, DAY + 7 * DAY)[0].confidence
    assert week == pytest.approx(made.confidence)
    assert bank.lookup([1, 0], {}, DAY + 9 * DAY)[0].confidence == pytest.approx(made.confidence * 0.95**2)
    assert bank.upkeep(9 * DAY).pruned == 0
    assert bank.lookup([1, 0], {}, 40 * DAY) == []
    assert bank.upkeep(40 * DAY).pruned == 1 and [one.pattern_id for one in bank.patterns()] == ["p2"]
    assert bank.upkeep(40 * DAY) == replace(bank.upkeep(40 * DAY), pruned=0, merged=0)


def test_upkeep_merges_what_is_more_alike_than_95_with_the_same_steps_and_context(bank):
    taught(bank, [1, 0], times=2, user="user:world:1", results=("content:a",))
    taught(bank, [1, 0.27], times=1, user="user:world:2", results=("content:b",))  # cosine .9654
    taught(bank, [1, 0.36], times=3, context={"device": "tv"})
    taught(bank, [1, -0.34], times=1)  # .9468
    assert len(bank.patterns()) == 4
    done = bank.upkeep(DAY)
    assert (done.merged, done.pruned) == (1, 0)
    one = bank.get("p1")
    assert (one.uses, one.positives, len(one.users)) == (3, 3, 2) and one.results == (
        "content:a",
        "content:b",
    )
    assert ids(bank.lookup([1, 0], {}, DAY)) == ["p1"]
    weighed = (2 * (1 - 0.5 * 0.75**2) + (1 - 0.5 * 0.75)) / 3
    assert one.confidence == pytest.approx(weighed)


def test_a_full_bank_drops_the_least_confident_then_the_least_recently_used(tmp_path):
    config = MemoryConfig(patterns_at_most=3)
    with ReasoningBank(tmp_path, config, writes=True) as bank:
        taught(bank, [1, 0, 0], times=2, at_ts=DAY)
        bank.learn([0, 1, 0], STEPS, {}, yes(at_ts=DAY + 1))
        bank.learn([0, 0, 1], STEPS, {}, yes(at_ts=DAY))
        bank.learn([1, 1, 0], STEPS, {}, yes(at_ts=DAY + 1))
        assert [one.pattern_id for one in bank.patterns()] == ["p1", "p2", "p4"]
        bank.judge("p1", no())
        bank.judge("p1", no())
        bank.learn([1, 1, 1], STEPS, {}, yes())
        assert [one.pattern_id for one in bank.patterns()] == ["p2", "p4", "p5"]


events = st.lists(
    st.tuples(
        st.integers(0, 5), st.booleans(), st.integers(1, 60), st.integers(0, 3), st.sampled_from(["", "a"])
    ),
    max_size=40,
)


@settings(max_examples=25, deadline=None)
@given(events, st.integers(1, 4))
def test_invariants_hold_whatever_comes(tmp_path_factory, told, cap):
    config = MemoryConfig(patterns_at_most=cap, users_at_most=2, results_at_most=1)
    folder = tmp_path_factory.mktemp("bank")
    with ReasoningBank(folder, config, writes=True) as bank:
        for angle, is_positive, day, user, segment in told:
            query = [np.cos(angle * 0.3), np.sin(angle * 0.3)]
            before = {one.pattern_id: one for one in bank.patterns()}
            verdict = Verdict(f"user:world:{user}", is_positive, day * DAY, segment, (f"content:{day}",))
            after = bank.learn(query, STEPS, {}, verdict)
            if after is not None and after.pattern_id in before:
                was = before[after.pattern_id]
                idle = max(0, day * DAY - was.used_ts)
                moved = after.confidence - confidence_at(was.confidence, idle, config)
                assert moved >= 0 if is_positive else moved <= 0
            if day % 7 == 0:
                bank.upkeep(day * DAY)
                assert (done := bank.upkeep(day * DAY)).pruned == done.merged == done.promoted == 0
            assert len(bank.patterns()) <= cap
            for one in bank.patterns():
                assert 0 <= one.confidence <= 1 and one.created_ts <= one.used_ts
                assert len(one.users) <= 2 and 0 < one.positives <= one.uses
                assert all(len(each.results) <= 1 for each in one.users.values())
        kept = [(one.pattern_id, one.confidence, one.users, one.segment) for one in bank.patterns()]
    with ReasoningBank(folder, config) as again:
        assert [(one.pattern_id, one.confidence, one.users, one.segment) for one in again.patterns()] == kept


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda bank: bank.lookup([1, 0, 0], {}, DAY), r"shape \(any, 2\)"),
        (lambda bank: bank.lookup([np.nan, 0], {}, DAY), "finite"),
        (lambda bank: bank.lookup([[1, 0]], {}, DAY), "one vector"),
        (lambda bank: bank.lookup([1, 0], {"mood": "sad"}, DAY), "got mood"),
        (lambda bank: bank.lookup([1, 0], {"device": 3}, DAY), "device must be printable text"),
        (lambda bank: bank.lookup([1, 0], {}, 1.5), "whole UTC seconds"),
        (lambda bank: bank.lookup([1, 0], {}, DAY * 10**6), "milliseconds"),
        (lambda bank: bank.lookup([1, 0], {}, DAY, n=0), "at least 1"),
        (lambda bank: bank.learn([1, 0, 0], STEPS, {}, yes()), "shape"),
        (lambda bank: bank.learn([np.inf, 0], STEPS, {}, yes()), "finite"),
        (lambda bank: bank.learn([0, 0], STEPS, {}, yes()), "length 0"),
        (lambda bank: bank.learn([1, 0], (), {}, yes()), "1 to 32 steps"),
        (lambda bank: bank.learn([1, 0], "rank", {}, yes()), "steps"),
        (lambda bank: bank.learn([1, 0], STEPS, {"mood": "sad"}, yes()), "got mood"),
        (lambda bank: bank.judge("p9", yes()), "no pattern is called 'p9'"),
        (lambda bank: bank.forget_pattern("p9"), "no pattern"),
        (lambda bank: yes(at_ts=-1), "above 0"),
        (lambda bank: yes(""), "user_id must be"),
        (lambda bank: yes(results="content:a"), "several content ids"),
        (lambda bank: bank.upkeep(0), "above 0"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(bank, call, says):
    taught(bank, [1, 0])
    before = bank.stats(DAY)
    with pytest.raises(ValueError, match=says):
        call(bank)
    assert bank.stats(DAY) == before


@pytest.mark.parametrize(
    "setting", [{"similarity": 1.5}, {"gain": float("nan")}, {"patterns_at_most": 0}, {"boost": -1}]
)
def test_settings_that_cannot_be_are_refused(setting):
    with pytest.raises(SettingError):
        MemoryConfig(**setting)


def test_who_opened_to_read_changes_nothing(bank):
    with ReasoningBank(bank.folder) as reader, pytest.raises(MemoryBankError, match="opened to read"):
        reader.learn([1, 0], STEPS, {}, yes())
