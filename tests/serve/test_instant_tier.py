"""The loop in service: an event moves its person's next answer and nobody else's, whatever breaks between."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.registry import SettingError, fill
from kg.feedback import FeedbackEvent, FeedbackLog
from models.adapter_bank import AdapterBank, AdapterBankError
from models.head_files import FittedHead, HeadError, HeadSettings, Shown, load_head, save_head
from models.heads import Moments
from models.instant import InstantConfig, Signals, rebuilt
from models.loop import liked_signals, signals_of, with_liked
from models.store import ModelStore
from serve.adaptation import AdaptationConfig
from serve.client import LocalClient
from serve.instant_tier import brought_up, is_current
from serve.problems import Problem
from tests.serve.small_home import GRAPH, USER, training_of

HEAD = {"width": 16, "weight": 0.05, "gap_s": 604_800.0}
ON = AdaptationConfig(must_be_shown=False)
SHOWN = Shown("ndcg@10", 0.1, 0.0088, 0.0053, 0.0123, 0.0008, 938, 8, is_better=True)
OTHER = "user:world:00011"
ASK = {"n": 10, "diversity": 0, "filters": {"include_unavailable": True}}


def fit(home, graph, ref="ease/1", shown=None, **settings):
    """A head for a version, as `mg adapters fit` leaves it."""
    head = HeadSettings(**{**HEAD, **settings}).fitted(training_of(graph))
    save_head(
        home.head(GRAPH, ref), FittedHead(head, InstantConfig(), shown), ModelStore(home.models).load(ref)
    )
    return head


def liked(client, user=USER):
    """What training knew of somebody."""
    snapshot = client.gateway.snapshot()
    row = snapshot.user_row(user)
    own = slice(*snapshot.positives.indptr[row : row + 2].tolist())
    return liked_signals(snapshot.positives.indices[own], snapshot.times.data[own])


@pytest.fixture
def head(home, graph):
    return fit(home, graph)


@pytest.fixture
def on(home, head):
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        yield client


def ids(reply):
    return [content.content_id for content in reply.contents]


def scores(reply):
    return [content.score for content in reply.contents]


def ask(client, user=USER, **fields):
    return client.recommend({"user_id": user, **ASK, **fields})


def tell(client, user, content, event="like", **fields):
    return client.feedback({"user_id": user, "content_id": content, "event": event, **fields})


def step(reply):
    return next((one for one in reply.steps if one.name == "instant tier"), None)


def quiet():
    """Waits for whoever brings a bank up to the log."""
    for thread in threading.enumerate():
        if thread.name == "adapters":
            thread.join(30)


def counted(client, name):
    """What the metrics say of the tier."""
    line = f"mg_instant_tier_{name}_total "
    return float(next(said for said in client.metrics().splitlines() if said.startswith(line)).split()[1])


def bank_of(home):
    (folder,) = home.adapters(GRAPH).iterdir()
    return folder


def by_hand(client, head, user=USER):
    """What training and the log make of an adapter, one event after another."""
    events = client.gateway.feedback.of_user(user)
    told = signals_of(events, client.gateway.snapshot().row)
    return rebuilt(head, InstantConfig(), with_liked(liked(client, user), told))


def test_one_event_moves_the_next_answer_as_the_head_says(on, head, graph):
    before = ask(on)
    assert f"{len(liked(on))} likes that training knew, no feedback yet" in step(before).said
    nobody = step(ask(on, "ann@example.org"))
    assert nobody.said.startswith("left out: ") and nobody.is_left_out and nobody.moved == []
    tell(on, USER, ids(before)[4])
    after = ask(on)
    plain = ask(on, adaptation={"instant_tier": False}, at=after.at)
    assert step(plain).said == "left out: the request does without"
    record, moment = by_hand(on, head), Moments(np.array([after.at]))
    rows = [graph.row_of(content.content_id) for content in after.contents]
    added = head.added(record, moment, np.float32(1))[rows]
    at = {content.content_id: content.score for content in ask(on, n=50, at=after.at).contents}
    base = {
        c.content_id: c.score for c in ask(on, n=50, at=after.at, adaptation={"instant_tier": False}).contents
    }
    given = np.array([at[one] - base[one] for one in ids(after)])
    np.testing.assert_allclose(given, added, atol=1e-5)
    assert np.abs(added).max() > 0


def test_the_step_tells_places_events_and_bytes(on, head):
    tell(on, USER, ids(ask(on))[0])
    tell(on, USER, ids(ask(on))[3], "dismiss")
    after = ask(on)
    before = ids(ask(on, n=50, adaptation={"instant_tier": False}))
    told = step(after)
    assert f"{head.spec.dtype.itemsize:,} bytes, learned from 2 events" in told.said
    assert told.moved, "a step of this size moves something"
    for move in told.moved:
        assert before[move.before - 1] == move.content_id
        assert move.after > 10 or ids(after)[move.after - 1] == move.content_id
    lifted = {move.content_id for move in told.moved if move.after < move.before and move.after <= 10}
    shown = {one.content_id for one in after.contents if one.why.adapted}
    assert shown == lifted


def test_live_history_and_instant_tier_are_told_apart(on):
    first = ask(on, adaptation={"instant_tier": False})
    tell(on, USER, ids(first)[2])
    neither = ask(on, adaptation={"instant_tier": False, "live_history": False})
    kept = [one for one in first.contents if one.content_id != ids(first)[2]]
    assert ids(neither)[:9] == [one.content_id for one in kept]
    assert scores(neither)[:9] == [one.score for one in kept]
    live = ask(on, adaptation={"instant_tier": False})
    assert scores(live) != scores(neither) and scores(live) != scores(ask(on))


def test_each_step_is_switched_off_by_settings(home, head):
    with LocalClient(home, GRAPH, adaptation=replace(ON, live_history=False)) as client:
        first, bare = ask(client), ask(client, adaptation={"instant_tier": False})
        tell(client, USER, ids(bare)[2])
        alone = ask(client)
        assert "1 event of" in step(alone).said and scores(alone)[:9] != scores(first)[:9]
    with LocalClient(home, GRAPH, adaptation=replace(ON, live_history=False, instant_tier=False)) as client:
        still = ask(client)
        assert step(still).said == "left out: switched off" and step(still).is_left_out
        assert scores(still)[:9] == [one.score for one in bare.contents if one.content_id != ids(bare)[2]]


def test_the_bare_ranking_stays_the_models(on):
    before = on.bare_ranking("ease/1", USER, 20)
    for content in before[:3]:
        tell(on, USER, content)
    assert on.bare_ranking("ease/1", USER, 20) == before


def test_ten_thousand_updates_of_one_leave_others_equal_to_the_bit(on, graph):
    tell(on, OTHER, graph.ids("Content")[5])
    quiet()
    others = [OTHER, *(one for one in graph.ids("User")[:5] if one != USER), "ann@example.org"]
    asked = {"at": on.gateway.now(), "n": 50}
    before = {one: ask(on, one, **asked) for one in others}
    now, contents = on.gateway.now(), graph.ids("Content")
    events = [
        FeedbackEvent(USER, contents[number % 60], "like" if number % 3 else "dismiss", f"k{number}", now)
        for number in range(10_000)
    ]
    recorded = on.gateway.feedback.append_many(events)
    tier = on.gateway.adaptation.tier(on.gateway.snapshot())
    for event, place in zip(events[:300], recorded, strict=False):
        tier.learn(replace(event, number=place.number))
    assert "10,000 events" in step(ask(on)).said
    for one in others:
        after = ask(on, one, **asked)
        assert ids(after) == ids(before[one]) and scores(after) == scores(before[one])
    with AdapterBank(bank_of(on.gateway.home)) as bank:
        assert bank.read([USER])["events"][0] == 10_000 + len(liked(on))


def test_an_event_that_comes_twice_counts_once(on, head):
    content = ids(ask(on))[1]
    for _ in range(3):
        tell(on, USER, content, idempotency_key="same")
    assert "learned from 1 event of" in step(ask(on)).said
    quiet()
    tier = on.gateway.adaptation.tier(on.gateway.snapshot())
    (event,) = on.gateway.feedback.of_user(USER)
    tier.learn(event)
    assert tier.shelf.read([USER]).tobytes() == by_hand(on, head).tobytes()


def test_late_events_are_rebuilt_and_do_not_undo_newer_ones(on, head, graph):
    now, contents = on.gateway.now(), graph.ids("Content")
    tell(on, USER, contents[0], ts=now - 50)
    quiet()  # it, or the answer, learned the first one
    before = counted(on, "events"), counted(on, "rebuilt")
    for place, ago in enumerate((10, 500, 10, 2000)):
        tell(on, USER, contents[place + 1], ts=now - ago)
        record = on.gateway.adaptation.tier(on.gateway.snapshot()).shelf.read([USER])
        assert record.tobytes() == by_hand(on, head).tobytes()
    assert (counted(on, "events"), counted(on, "rebuilt")) == (before[0] + 4, before[1] + 2)


@pytest.mark.parametrize("ago", [-80_000, 2_000_000_000], ids=["tomorrow", "1963"])
def test_an_event_of_no_sound_moment_is_kept_and_not_learned(on, ago):
    before = ask(on)
    reply = tell(on, USER, ids(before)[0], ts=max(on.gateway.now() - ago, 1000))
    assert reply.accepted and len(on.gateway.feedback.of_user(USER)) == 1
    assert "no feedback yet" in step(ask(on)).said


def test_two_processes_answer_alike_whoever_writes(home, head, graph):
    contents = graph.ids("Content")
    with (
        LocalClient(home, GRAPH, adaptation=ON) as one,
        LocalClient(home, GRAPH, adaptation=ON) as two,
    ):
        tell(one, USER, contents[0])  # this one writes the bank
        quiet()
        for place, client in enumerate((two, two, one, two, one)):
            tell(client, USER, contents[place + 1])
            at = one.gateway.now()
            replies = [ask(asked, at=at) for asked in (one, two)]
            assert scores(replies[0]) == scores(replies[1])
            assert step(replies[0]) == step(replies[1])
            assert f"learned from {place + 2} events" in step(replies[0]).said
        tiers = [client.gateway.adaptation.tier(client.gateway.snapshot()) for client in (one, two)]
        assert tiers[0].shelf.writer is not None and tiers[1].shelf.writer is None
        tiers[0].bring_up()
        assert tiers[0].shelf.read([USER]).tobytes() == by_hand(one, head).tobytes()
    with AdapterBank(bank_of(home)) as bank:
        assert bank.applied == 6


def test_after_a_restart_the_bank_is_brought_up_to_the_log(home, head, graph):
    log = FeedbackLog(home.feedback(GRAPH))
    now = 1_750_000_000
    for number, user in enumerate((USER, OTHER, USER)):  # acknowledged, and nobody learned
        log.append(FeedbackEvent(user, graph.ids("Content")[number], "like", str(number), now + number))
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        client.gateway.adaptation.follow(client.gateway.snapshot())
        quiet()
        with AdapterBank(bank_of(home)) as bank:
            assert bank.applied == 3 and bank.read([USER])["events"][0] == 2 + len(liked(client))
            assert bank.read([USER]).tobytes() == by_hand(client, head).tobytes()


def test_without_a_head_there_is_no_tier_and_the_answer_says_so(home, graph):
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        reply = ask(client)
        assert "no head was fitted for ease/1" in step(reply).said
        assert client.ready().instant_tier.startswith("off: no head") and client.ready().is_ready
        assert tell(client, USER, ids(reply)[0]).accepted and ask(client).contents
        assert 'answers_total{outcome="off"} 2.0' in client.metrics()
        client.gateway.adaptation._clock = lambda: 1e9  # later
        fit(home, graph)
        assert "learned from 1 event of" in step(ask(client)).said
        assert client.ready().instant_tier == "on: nobody measured what its adapters add"


def test_by_default_adapters_act_where_they_were_shown_to_add_something(home, graph):
    with LocalClient(home, GRAPH) as client:
        adaptation, later = client.gateway.adaptation, [0.0]
        adaptation._clock = lambda: later[0]
        for shown, said in (
            (None, "off: adapters of ease/1 are not shown to add anything (nobody measured"),
            (replace(SHOWN, is_better=False), "not shown to add anything (+0.0088"),
            (SHOWN, f"on: {SHOWN.said}"),
        ):
            fit(home, graph, shown=shown)
            later[0] += 10
            assert said in client.ready().instant_tier
            assert step(ask(client)).is_left_out is (shown is not SHOWN)
            assert client.adapter(USER).is_on is (shown is SHOWN)
        version = ModelStore(home.models).load("ease/1")
        assert load_head(home.head(GRAPH, "ease/1"), version).shown == SHOWN


def test_by_default_the_settings_decide(client):
    steps = AdaptationConfig.named()
    assert client.gateway.adaptation.config == steps
    why_off = "no head was fitted" if steps.instant_tier else "switched off"
    assert client.ready().instant_tier.startswith(f"off: {why_off}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"instant_tier": "yes"}, "write true or false"),
        ({"instant_teer": True}, "nearest: instant_tier"),
        ({"must_be_shown": 1}, "write true or false"),
    ],
)
def test_a_wrong_setting_says_what_to_do(settings, said):
    with pytest.raises(SettingError, match=said):
        fill(AdaptationConfig, settings)


@pytest.mark.parametrize("fault", ["other version", "flipped", "cut off", "empty", "strange"])
def test_a_head_that_is_not_this_versions_is_refused(home, graph, head, fault):
    path = home.head(GRAPH, "ease/1")
    if fault == "other version":
        served = FittedHead(head, InstantConfig())
        save_head(path, served, ModelStore(home.models).load("popularity/1"))
    else:
        whole = bytearray(path.read_bytes())
        whole[-5] ^= 1
        spoilt = {"flipped": whole, "cut off": whole[:-100], "empty": b"", "strange": b"no head" * 50}
        path.write_bytes(spoilt[fault])
    with pytest.raises(HeadError, match="mg adapters fit"):
        load_head(path, ModelStore(home.models).load("ease/1"))
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        reply = ask(client)
        assert reply.contents and path.name in step(reply).said
        assert tell(client, USER, ids(reply)[0]).accepted
        assert path.name in client.ready().instant_tier


def test_a_head_comes_back_as_it_was(home, head):
    found = load_head(home.head(GRAPH, "ease/1"), ModelStore(home.models).load("ease/1"))
    assert found.head.hash == head.hash and found.head.config == head.config and found.head.spec == head.spec
    assert found.instant == InstantConfig() and found.shown is None


@pytest.mark.parametrize("fault", ["another base", "cut off", "no spec"])
def test_a_spoilt_bank_costs_neither_feedback_nor_answer(home, head, graph, fault):
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        tell(client, USER, graph.ids("Content")[0])
        quiet()
        at = client.gateway.now()
        right = ask(client, at=at)
    folder = bank_of(home)
    if fault == "cut off":
        path = next(folder.glob("rows-*.bin"))
        path.write_bytes(path.read_bytes()[:40])
    else:
        text = (folder / "spec.json").read_text()
        spoilt = text.replace(head.hash, "0" * 32) if fault == "another base" else "{"
        (folder / "spec.json").write_text(spoilt)
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        assert scores(ask(client, at=at)) == scores(right)
        assert tell(client, USER, graph.ids("Content")[1]).accepted
        assert "learned from 2 events" in step(ask(client)).said
        assert client.ready().instant_tier.startswith("on: nobody")
        assert "out of the log alone: " in client.ready().instant_tier
        assert "mg_instant_tier_faults_total 0.0" not in client.metrics()


def test_a_full_disk_costs_neither_feedback_nor_answer(on, head, monkeypatch, graph):
    tell(on, USER, graph.ids("Content")[0])
    quiet()

    def full(*_, **__):
        raise AdapterBankError("no space left on device: free space")

    monkeypatch.setattr(AdapterBank, "write", full)
    monkeypatch.setattr(AdapterBank, "commit", full)
    for place in (1, 2, 3):
        assert tell(on, USER, graph.ids("Content")[place]).accepted
        assert f"learned from {place + 1} events" in step(ask(on)).said
    assert "no space left" in on.ready().instant_tier
    monkeypatch.undo()
    tier = on.gateway.adaptation.tier(on.gateway.snapshot())
    tier.shelf._tried_s = -100.0  # later
    tell(on, USER, graph.ids("Content")[4])
    quiet()
    assert "out of the log" not in on.ready().instant_tier and tier.shelf.writer is not None
    assert tier.shelf.read([USER]).tobytes() == by_hand(on, head).tobytes()


def test_whoever_is_erased_is_in_no_answer_and_no_file(on, head, graph, home):
    before = ask(on)
    tell(on, USER, graph.ids("Content")[0])
    quiet()
    told = on.adapter(USER)
    assert told.is_on and told.events == 1 and told.norm > 0
    old = home.adapters(GRAPH) / "of-an-older-version"
    with AdapterBank(old, head.spec, writable=True) as bank:
        bank.write([USER], by_hand(on, head))
    with LocalClient(home, GRAPH, adaptation=ON) as other:  # which only reads
        assert other.adapter(USER) == told
        with pytest.raises(Problem, match="another process writes it"):
            other.forget_user(USER)
        assert on.adapter(USER) == told
    assert on.forget_user(USER).events == 1 and on.forget_user(USER).events == 0
    assert scores(ask(on, at=before.at)) == scores(before) and on.adapter(USER).events == 0
    for path in home.adapters(GRAPH).rglob("*.bin"):
        assert USER.encode() not in path.read_bytes()
    tell(on, USER, graph.ids("Content")[1])
    assert "learned from 1 event of" in step(ask(on)).said


def test_a_candidate_learns_beside_the_champion(home, graph, head):
    fit(home, graph, "popularity/1")
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        snapshots = [client.gateway.snapshot()]
        with LocalClient(home, GRAPH, "popularity/1", adaptation=ON) as other:
            snapshots.append(other.gateway.snapshot())
        event = FeedbackEvent(USER, graph.ids("Content")[0], "like", "k", client.gateway.now())
        number = client.gateway.feedback.record(event).number
        client.gateway.adaptation.learn(replace(event, number=number), snapshots)
        quiet()
        records = [client.gateway.adaptation.tier(one).shelf.read([USER]) for one in snapshots]
        assert records[0].tobytes() == records[1].tobytes()
        assert records[0]["events"][0] == 1 + len(liked(client))
    assert len(list(home.adapters(GRAPH).iterdir())) == 2


def test_many_threads_lose_no_event(on, head, graph):
    contents = graph.ids("Content")

    def work(first):
        for number in range(12):
            tell(on, USER, contents[(first * 12 + number) % 60])
            ask(on, n=3)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "learned from 48 events" in step(ask(on)).said
    tier = on.gateway.adaptation.tier(on.gateway.snapshot())
    assert tier.shelf.read([USER]).tobytes() == by_hand(on, head).tobytes()


def test_going_on_equals_beginning_anew_to_the_bit(head):
    random = np.random.default_rng(0)
    for _ in range(60):
        size = int(random.integers(1, 9))
        ts = 1_750_000_000 + random.integers(0, 4, size)  # many in one second
        signals = Signals(
            random.integers(0, 60, size),
            random.choice(np.array([1, -1, 0.4, 0.2, -0.4], np.float32), size),
            ts,
            np.arange(1, size + 1),
        )
        some = np.sort(random.permutation(size)[: int(random.integers(0, size + 1))])
        known = rebuilt(head, InstantConfig(), signals.only(some)) if len(some) else head.spec.fresh(1)
        right = rebuilt(head, InstantConfig(), signals)
        assert is_current(known, signals) == (len(some) == size)
        assert brought_up(head, InstantConfig(), known, signals).tobytes() == right.tobytes()


_STREAM = """
import os, random, signal, sys
from pathlib import Path
from configs.home import Home
from serve.client import LocalClient
from tests.serve.test_instant_tier import ON
from tests.serve.small_home import GRAPH

def stream(kill, told):
    with LocalClient(Home(Path(sys.argv[1])), GRAPH, adaptation=ON) as client:
        contents = client.gateway.snapshot().content_ids
        for number in range(100_000):
            event = {"user_id": f"user:world:{number % 7:05d}", "content_id": contents[number % 60]}
            key = f"{kill}-{number}"
            client.feedback({**event, "event": "like", "idempotency_key": key})
            os.write(told, f"{key}\\n".encode())

draw = random.Random(0)
for kill in range(int(sys.argv[2])):
    heard, told = os.pipe()
    child = os.fork()  # one process pays for the imports, its children are killed
    if not child:
        os.close(heard)
        stream(kill, told)
    os.close(told)
    with open(heard) as lines:
        for _ in range(draw.randint(1, 30)):
            print(lines.readline().strip())
        os.kill(child, signal.SIGKILL)
        print("\\n".join(line.strip() for line in lines if line.endswith("\\n")))
    os.waitpid(child, 0)
"""


def test_what_was_acknowledged_before_a_kill_moves_the_answers_after_it(home, head, graph):
    kills = int(os.environ.get("MG_TEST_KILLS", "4"))
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(home.root), str(kills)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told = set(done.stdout.split())
    assert len({key.split("-")[0] for key in told}) == kills
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        assert told <= {event.key for event in client.gateway.feedback.read()}
        replies = {user: ask(client, user) for user in graph.ids("User")[:9]}
        client.gateway.adaptation.follow(client.gateway.snapshot())
        quiet()
        tier = client.gateway.adaptation.tier(client.gateway.snapshot())
        for user, reply in replies.items():
            count = len(client.gateway.feedback.of_user(user))
            if not count:
                assert "no feedback yet" in step(reply).said
                continue
            assert f"learned from {count:,} events" in step(reply).said
            assert tier.shelf.read([user]).tobytes() == by_hand(client, head, user).tobytes()
