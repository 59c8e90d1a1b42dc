"""What is served is what was replayed: the same likes give the same adapter and the same list in both."""

import numpy as np
import pytest

from configs.home import Home
from configs.registry import import_parts
from experiments.loops import loops
from experiments.replay import ReplayMeasure, blind, replay
from experiments.splits import SplitConfig, split
from experiments.stream import Stream
from kg.arrays import from_records
from kg.records import Hyperedge, Node
from models.head_files import FittedHead, save_head
from models.interface import recommenders
from models.store import ModelStore, SaveInfo
from serve.adaptation import AdaptationConfig
from serve.client import LocalClient

GRAPH, DAY_S, USERS, CONTENTS = "toy", 86_400, 24, 40
SPLIT = SplitConfig(settings={"share": 0.4}, positive_rating=8.0)
LOOP = {"width": 16, "gap_s": 1e6, "weight": 0.4}
ON = AdaptationConfig(must_be_shown=False)


def graph_of(rows):
    """Users and contents with so many likes (user, content, day)."""
    nodes = [Node("User", f"user:toy:{row:03d}") for row in range(USERS)]
    nodes += [Node("Content", f"content:toy:{row:03d}") for row in range(CONTENTS)]
    facts = [
        Hyperedge(
            "RATED",
            {"user": (f"user:toy:{user:03d}",), "content": (f"content:toy:{content:03d}",)},
            "toy",
            {"rating": 9.0},
            day * DAY_S,
        )
        for user, content, day in rows
    ]
    return from_records(
        GRAPH,
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


@pytest.fixture(scope="module")
def world():
    """A part of a split, its model, and a graph that knows of training alone."""
    import_parts("models")
    rng = np.random.default_rng(4)
    rows = [
        (user, int(content), 12_000 + int(rng.integers(1, 12)))  # many on one day: in one second
        for user in range(USERS)
        for content in rng.permutation(CONTENTS)[: rng.integers(8, 26)]
    ]
    part = split(graph_of(rows), SPLIT).test
    held = set(zip(*(one.tolist() for one in part.held_out.nonzero()), strict=True))
    known = graph_of([row for row in rows if row[:2] not in held])
    model = recommenders.build("ease", {"regularization": 5.0})
    model.fit(part.training)
    return part, model, known


@pytest.fixture
def home(world, tmp_path):
    part, model, known = world
    home = Home(tmp_path / "home")
    known.publish(home.arrays(GRAPH))
    store = ModelStore(home.models)
    version = store.save("ease", model, SaveInfo(GRAPH, known.hash, part.training, metrics={"ndcg@10": 0.1}))
    store.set_alias(GRAPH, "champion", version, "test")
    return home


def replayed(world, head):
    """The loop after all of the replay, and the list of each block."""
    part, model, _ = world
    loop = loops.build("instant", {**LOOP, "head": head})
    loop.begin(model, blind(part))
    stream = Stream.of(part, SPLIT)
    return loop, stream, replay(stream, loop, ReplayMeasure(("ndcg@10",), resamples=100)).lists


@pytest.mark.parametrize("head", ["linear", "bent"])
def test_the_same_likes_give_the_same_adapter_and_the_same_list(world, home, head):
    loop, stream, lists = replayed(world, head)
    served = FittedHead(loop.loop.head, loop.loop.config.instant)
    save_head(home.head(GRAPH, "ease/1"), served, ModelStore(home.models).load("ease/1"))
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        snapshot = client.gateway.snapshot()
        users, contents = snapshot.user_ids, snapshot.content_ids
        for block, (row, at) in enumerate(zip(stream.users.tolist(), stream.times.tolist(), strict=True)):
            ask = {"user_id": users[row], "n": 10, "diversity": 0, "filters": {"include_unavailable": True}}
            shown = client.recommend({**ask, "at": at}).contents
            wanted = [contents[one] for one in lists[block].tolist() if one >= 0]
            assert [content.content_id for content in shown] == wanted
            for content in stream.events_of(np.array([block])).contents.tolist():
                client.feedback(
                    {"user_id": users[row], "content_id": contents[content], "event": "like", "ts": at}
                )
        tier = client.gateway.adaptation.tier(snapshot)
        for row in range(USERS):
            ours = tier.record(users[row], client.gateway.feedback.of_user(users[row])).record
            theirs = loop.loop.store.read([str(row)])
            for field in ("up", "down", "last_ts", "events", "gathered"):
                assert ours[field].tobytes() == theirs[field].tobytes()


def test_an_adapter_that_begins_with_nothing_would_be_found_out(world, home):
    """Planted: the service as it would be if it learned from feedback alone."""
    loop, stream, lists = replayed(world, "linear")
    served = FittedHead(loop.loop.head, loop.loop.config.instant)
    save_head(home.head(GRAPH, "ease/1"), served, ModelStore(home.models).load("ease/1"))
    first = np.flatnonzero(stream.turns == 0)
    off = {"instant_tier": False}  # what feedback alone answers at a person's first block
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        users, contents = client.gateway.snapshot().user_ids, client.gateway.snapshot().content_ids
        differ = 0
        for block in first.tolist():
            ask = {"user_id": users[stream.users[block]], "n": 10, "diversity": 0, "adaptation": off}
            reply = client.recommend(
                {**ask, "filters": {"include_unavailable": True}, "at": int(stream.times[block])}
            )
            differ += [one.content_id for one in reply.contents] != [contents[one] for one in lists[block]]
        assert differ > len(first) // 2


def test_what_training_knew_comes_back_into_no_file_of_whoever_is_erased(world, home):
    loop, stream, _ = replayed(world, "linear")
    served = FittedHead(loop.loop.head, loop.loop.config.instant)
    save_head(home.head(GRAPH, "ease/1"), served, ModelStore(home.models).load("ease/1"))
    user = f"user:toy:{int(stream.users[0]):03d}"
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        told = client.adapter(user)
        assert told.likes > 0 and told.events == 0 and told.norm > 0
        client.feedback({"user_id": user, "content_id": "content:toy:001", "event": "like"})
        assert client.adapter(user).events == 1
        client.forget_user(user)
        assert client.adapter(user).norm == told.norm  # the version knows them until it is fitted anew
        client.recommend({"user_id": user})
    for path in home.adapters(GRAPH).rglob("*"):
        assert path.is_dir() or user.encode() not in path.read_bytes()


def test_a_like_that_training_learned_from_the_log_counts_once(world, home):
    """The log is a source: what it told is in training once somebody exports and fits again."""
    loop, stream, _ = replayed(world, "linear")
    part, user_row = world[0], int(stream.users[0])
    served = FittedHead(loop.loop.head, loop.loop.config.instant)
    save_head(home.head(GRAPH, "ease/1"), served, ModelStore(home.models).load("ease/1"))
    own = slice(*part.history.indptr[user_row : user_row + 2].tolist())
    liked = list(zip(part.history.indices[own].tolist(), part.times.data[own].tolist(), strict=True))
    user = f"user:toy:{user_row:03d}"
    with LocalClient(home, GRAPH, adaptation=ON) as client:
        before = client.adapter(user)
        for content, ts in liked:
            client.feedback(
                {"user_id": user, "content_id": f"content:toy:{content:03d}", "event": "like", "ts": ts}
            )
        after = client.adapter(user)
        assert (before.likes, before.events) == (len(liked), 0)
        assert (after.likes, after.events) == (0, len(liked))
