"""The instant tier: one person's events, whatever their order, and nobody else's answer."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from configs.registry import SettingError
from kg.feedback import FeedbackEvent
from models.heads import HeadConfig, Moments, head_of, heads, moment_vectors
from models.instant import EARLIEST_TS, InstantConfig, Signals, add, must_be_sound, rebuilt, updated
from models.interface import Users
from models.loop import AdaptationLoop, Bases, LoopConfig, MemoryStore, signals_of, strength_of

CONTENTS, WIDTH = 30, 16
START = 10**9
CONFIG = InstantConfig(fades=(2.0,))
KINDS = list(heads)


def made(kind, rank=1):
    draw = np.random.default_rng(1)
    config = HeadConfig(WIDTH, rank, weight=0.5)
    factors = WIDTH - 1 if kind == "linear" else 2 * WIDTH - 14
    left, met = draw.normal(size=(2, CONTENTS, factors)).astype(np.float32)
    if kind == "linear":
        empty = np.zeros((CONTENTS, 1), np.float32)
        return head_of(kind, config, {"left": np.hstack([empty, left]), "met": np.hstack([empty, met])})
    arrays = {"left": left, "met": met, "outer": np.ones(4, np.float32), "inner": np.array([0.1], np.float32)}
    return head_of(kind, config, arrays)


def signals(*rows):
    """(content, strength, seconds after the start, number) each."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    content, strength, after, number = (np.array(column) for column in columns)
    return Signals(
        content.astype(np.int64),
        strength.astype(np.float32),
        START + after.astype(np.int64),
        number.astype(np.int64),
    )


def loop_of(head, config=CONFIG, log=None, **steps):
    def base(users):
        return np.tile(np.linspace(0, 1, CONTENTS, dtype=np.float32), (len(users.rows), 1))

    log = {} if log is None else log
    past = lambda user_id: Signals.joined(log[user_id])  # noqa: E731
    steps = LoopConfig(instant=config, **steps)
    return AdaptationLoop(Bases(base), head, MemoryStore(head.spec), steps, past)


def people(count):
    return Users(np.arange(count), sp.csr_array((count, CONTENTS), dtype=np.float32))


def tell(loop, log, user_id, events):
    log.setdefault(user_id, []).append(events)
    return loop.learn({user_id: events})


@pytest.mark.parametrize("rank", [1, 2])
def test_a_linear_adapter_is_a_shift_of_the_users_vector(rank):
    head, config = made("linear", rank), InstantConfig(fades=(2.0, 9.0)[:rank])
    record = rebuilt(head, config, signals((3, 1, 0, 1), (5, -1, 60, 2), (7, 1, 70, 3)))
    user, met = head.users(1)[0].astype(float), head.arrays()["met"].astype(float)
    down, up = record["down"][0].astype(float), record["up"][0].astype(float)
    shifted = user + head.spec.scale * up @ (down @ user)  # u + (α / r) B A u
    adapted = (np.eye(WIDTH) + head.spec.scale * up @ down) @ user  # W' u with W the identity
    assert_allclose(shifted, adapted, rtol=1e-12)
    added = head.added(record, Moments(np.array([START])), np.float32(1))
    assert_allclose(added, met @ shifted - met @ user, rtol=1e-4, atol=1e-6)
    assert np.abs(added).max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_answers_as_the_base_to_the_bit(kind):
    head = made(kind)
    scores = np.random.default_rng(0).normal(size=(3, CONTENTS)).astype(np.float32)
    assert add(head, CONFIG, scores, head.spec.fresh(3), Moments(np.full(3, START))) is scores


def test_an_event_moves_the_answer_towards_what_follows_and_a_dislike_away():
    head = made("linear")
    towards = head.arrays()["met"] @ head.arrays()["left"][4]
    for strength in (1, -1):
        record = rebuilt(head, CONFIG, signals((4, strength, 0, 1)))
        added = head.added(record, Moments(np.array([START])), np.float32(1))
        assert np.corrcoef(added, strength * towards)[0, 1] > 0.999


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, CONTENTS - 1),
            st.sampled_from([1.0, -1.0, 0.4, 0.2, -0.4]),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=9,
    ),
    data=st.data(),
)
def test_any_order_and_any_repetition_gives_the_same_adapter(kind, rows, data):
    head, log = made(kind), {}
    loop = loop_of(head, log=log)
    numbered = [(*row, number) for number, row in enumerate(rows, 1)]
    once = rebuilt(head, CONFIG, signals(*numbered))
    order = data.draw(st.permutations(range(len(rows))))
    again = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=5))
    for place in [*order, *again]:
        tell(loop, log, "user:w:1", signals(numbered[place]))
    assert loop.store.read(["user:w:1"]).tobytes() == once.tobytes()


def test_what_comes_in_time_is_never_rebuilt_and_what_comes_late_is():
    log, head = {}, made("linear")
    loop = loop_of(head, log=log)
    for number in range(1, 20):  # a burst of one second, in the order of the log
        assert tell(loop, log, "user:w:1", signals((number, 1, 0, number))) == []
    assert tell(loop, log, "user:w:1", signals((1, 1, -10, 20))) == ["user:w:1"]


def test_weak_signals_gather_until_they_are_worth_a_step():
    head = made("linear")
    two = rebuilt(head, CONFIG, signals((1, 0.4, 0, 1), (1, 0.2, 1, 2)))
    assert two["gathered"][0] == pytest.approx(0.6) and not two["up"].any()
    three = rebuilt(head, CONFIG, signals((1, 0.4, 0, 1), (1, 0.2, 1, 2), (1, 0.2, 2, 3)))
    assert three["gathered"][0] == 0 and three["up"].any()
    skips = rebuilt(head, CONFIG, signals((1, -0.4, 0, 1), (1, -0.4, 1, 2)))
    assert_allclose(skips["up"].astype(float), -three["up"].astype(float), rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_events_of_a_second_stay_bounded_and_move_nobody_else(kind):
    head, log = made(kind), {}
    loop = loop_of(head, log=log)
    others = [f"user:w:{row}" for row in range(2, 6)]
    for user_id in others:
        tell(loop, log, user_id, signals((3, 1, 0, 1)))
    asked, names, now = people(5), ["user:w:1", *others], Moments(np.full(5, START + 5))
    before = loop.scores(asked, names, now)
    burst = np.arange(1, 10_001)
    events = Signals(burst % 3, np.ones(10_000, np.float32), np.full(10_000, START), burst)
    tell(loop, log, "user:w:1", events)
    after = loop.scores(asked, names, now)
    assert_array_equal(before[1:], after[1:])
    assert np.linalg.norm(head.state(loop.store.read(["user:w:1"]))) <= CONFIG.bound
    assert loop.store.read(["user:w:1"])["events"][0] == 10_000


def test_a_person_is_answered_alike_alone_and_among_others():
    head, log = made("linear"), {}
    loop = loop_of(head, log=log)
    for row in range(4):
        tell(loop, log, f"user:w:{row}", signals((row, 1, 0, 1)))
    together = loop.scores(people(4), [f"user:w:{row}" for row in range(4)], Moments(np.full(4, START)))
    alone = loop.scores(people(1), ["user:w:2"], Moments(np.array([START])))
    assert_array_equal(together[2], alone[0])


def test_what_was_learned_wears_off():
    head = made("linear")
    record = rebuilt(head, CONFIG, signals((4, 1, 0, 1)))
    base = np.zeros((1, CONTENTS), np.float32)
    size = [
        np.abs(add(head, CONFIG, base, record, Moments(np.array([START + after])))).max()
        for after in (0, int(CONFIG.half_life_s), 100 * int(CONFIG.half_life_s))
    ]
    assert size[1] == pytest.approx(size[0] / 2, rel=1e-4) and size[2] < 1e-20


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ((1, np.nan, 0, 1), "-1..1"),
        ((1, np.inf, 0, 1), "-1..1"),
        ((1, 1.5, 0, 1), "-1..1"),
        ((1, 1, EARLIEST_TS - 1 - START, 1), "1990"),
        ((1, 1, 10_000, 1), "ahead"),
        ((CONTENTS, 1, 0, 1), "row of the head"),
        ((-1, 1, 0, 1), "row of the head"),
        ((1, 1, 0, 0), "place in the log"),
    ],
)
def test_what_nobody_can_learn_from_is_refused_and_nothing_moves(row, said):
    log, head = {}, made("linear")
    loop = loop_of(head, log=log)
    tell(loop, log, "user:w:1", signals((2, 1, 0, 1)))
    before = loop.store.read(["user:w:1"]).tobytes()
    with pytest.raises(ValueError, match=said):
        loop.learn({"user:w:1": signals((3, 1, 1, 2)), "user:w:2": signals(row)}, now_ts=START + 100)
    assert loop.store.read(["user:w:1"]).tobytes() == before
    must_be_sound(signals((1, 1, 0, 1)), CONTENTS, START)


@pytest.mark.parametrize("kind", KINDS)
def test_each_step_can_be_switched_off(kind):
    head, log = made(kind), {}
    asked, now = people(1), Moments(np.array([START]))
    for off in ({"instant_tier": False}, {}):
        loop = loop_of(head, log=log, **off)
        base = loop.base_scores(asked)
        tell(loop, log, "user:w:0", signals((4, 1, 0, 1)))
        assert np.array_equal(loop.scores(asked, ["user:w:0"], now), base) == bool(off)


def test_the_base_tier_answers_where_it_is_on_and_there():
    ones, twos = (lambda users: np.full((1, 2), 1.0)), (lambda users: np.full((1, 2), 2.0))
    asked = Users(np.array([0]), sp.csr_array((1, 2)))
    assert AdaptationLoop(Bases(ones, twos), None, None).base_scores(asked)[0, 0] == 2
    assert (
        AdaptationLoop(Bases(ones, twos), None, None, LoopConfig(base_tier=False)).base_scores(asked)[0, 0]
        == 1
    )


def test_without_live_history_the_base_is_told_the_old_one():
    told = []
    asked = Users(np.array([0]), sp.csr_array(np.ones((1, 2), np.float32)))
    bases = Bases(lambda users: told.append(users.history.nnz) or np.zeros((1, 2)))
    AdaptationLoop(bases, None, None, LoopConfig(live_history=False)).base_scores(asked)
    AdaptationLoop(bases, None, None).base_scores(asked)
    assert told == [0, 2]


def test_feedback_speaks_in_signals():
    def event(kind, value=None, number=1):
        return FeedbackEvent(
            "user:w:1", "content:w:2", kind, key=str(number), ts=START, value=value, number=number
        )

    said = {
        event("like"): 1.0,
        event("dislike"): -1.0,
        event("dismiss"): -1.0,
        event("rating", 9.0): 1.0,
        event("rating", 6.0): 0.0,
        event("rating", 2.0): -1.0,
        event("watched", 0.9): 1.0,
        event("watched", 0.1): 0.4,
        event("watchlist"): 0.4,
    }
    assert {one: strength_of(one, CONFIG) for one in said} == said
    found = signals_of(said, {"content:w:2": 7}.get)
    assert len(found) == 8 and set(found.contents) == {7}
    assert len(signals_of(said, lambda _: None)) == 0


def test_other_heads_and_ranks_are_refused():
    with pytest.raises(SettingError, match="one fade for each"):
        AdaptationLoop(Bases(lambda users: None), made("linear", 2), None, LoopConfig(instant=CONFIG))
    with pytest.raises(ValueError, match="take those of this head"):
        MemoryStore(made("linear").spec).write(["user:w:1"], made("bent").spec.fresh(1))
    assert made("linear").spec.dtype.itemsize == pytest.approx(made("bent").spec.dtype.itemsize, abs=8)
    with pytest.raises(SettingError, match="above 0"):
        InstantConfig(step=np.nan)
    with pytest.raises(SettingError, match="width of 16"):
        HeadConfig(width=3)


def test_moments_tell_what_is_known():
    found = moment_vectors(Moments(np.array([START, START]), np.array([120.0, np.nan]), np.array(["tv", ""])))
    assert found[0, 5:].tolist() == [1, 0.5, 0, 0, 1] and found[1, 5:].tolist() == [0] * 5


def test_a_batch_equals_one_by_one():
    head = made("bent")
    some = signals((1, 1, 0, 1), (2, -0.4, 3, 2), (3, 0.2, 9, 3))
    records = updated(head, CONFIG, head.spec.fresh(3), some)
    for place in range(3):
        one = updated(head, CONFIG, head.spec.fresh(1), some.only(np.array([place])))
        assert one.tobytes() == records[place : place + 1].tobytes()
