"""Canaries under simulated feedback: people of a graph, whose held-out likes decide what they say.

Nobody real is asked: whoever is shown one of their held-out likes likes it, others dislike the first title.
Everything is written to a home of its own, which is deleted afterwards."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from apps.rollout import next_step
from configs.home import Home
from configs.registry import import_parts
from experiments.rollout import Decision, RolloutConfig, start
from experiments.sequential import Outcomes, better, worse
from experiments.splits import Split, SplitConfig, split
from kg.arrays import GraphArrays
from models.interface import recommenders
from models.store import WEIGHTS, ModelStore, SaveInfo
from serve.client import LocalClient

SHOWN = 10
LOOK_EVERY = 10
"""People between two looks at the counts."""
SETTINGS = RolloutConfig(least_people=50, latency_ms=2_000.0)


@dataclass(frozen=True)
class Scenario:
    """Who is tried against whom."""

    name: str
    champion: str
    """Registered name of the model that holds the alias."""
    candidate: str
    is_spoilt: bool = False
    """True if a file of the candidate is lost after it was put up."""


SCENARIOS = (
    Scenario("a better candidate", "popularity", "ease"),
    Scenario("an equal one", "popularity", "popularity"),
    Scenario("a harmful one", "ease", "random"),
    Scenario("one that cannot be loaded", "popularity", "ease", is_spoilt=True),
)


@dataclass(frozen=True)
class Row:
    """What came of one scenario; all feedback is simulated."""

    scenario: str
    champion: str
    candidate: str
    people: int
    """Asked until the trial ended, or at all."""
    verdict: str
    """champion, rollback, or wait where there was none."""
    answers_now: str
    """Version that answers afterwards."""
    reason: str
    failed: int
    """Requests that were not answered, of all."""
    seconds: float
    simulated: bool = True


@dataclass(frozen=True)
class FalseAlarms:
    """How often equal versions are told apart: outcomes as simulated, arms drawn anew, looked at always."""

    draws: int
    people: int
    promoted_share: float
    rolled_back_share: float
    level: float
    harm_level: float
    simulated: bool = True


def measure(
    home: Home, graph_name: str, share: float, most_people: int, seed: int, say: Callable[[str], None]
) -> tuple[list[Row], FalseAlarms]:
    """All scenarios, each in a fresh home with at most ``most_people`` people."""
    graph = GraphArrays.current(home.arrays(graph_name))
    import_parts("models")
    cut = split(graph, SplitConfig())
    rows, heard = [], np.zeros(0, bool)
    for scenario in SCENARIOS:
        say(scenario.name)
        with tempfile.TemporaryDirectory(prefix="mg-canary-") as folder:
            place = _fresh(home, Path(folder), graph_name)
            row, opinions = _try(scenario, place, graph, cut, share, most_people, seed)
        rows.append(row)
        heard = opinions if scenario.name == "an equal one" else heard
    say("false alarms")
    return rows, false_alarms(heard, share, SETTINGS, draws=1_000, seed=seed)


def false_alarms(
    positive: np.ndarray, share: float, config: RolloutConfig, draws: int, seed: int
) -> FalseAlarms:
    """Draws arms for the same outcomes again and again, and looks after every person.

    Args:
        positive: (p,) bool, each person's outcome in the order they came.
    """
    rng, promoted, rolled_back = np.random.default_rng(seed), 0, 0
    for _ in range(draws):
        arm = rng.random(len(positive)) < share
        counts = np.stack([arm, arm & positive, ~arm, ~arm & positive]).cumsum(axis=1).T
        ends = [Outcomes(*row) for row in counts[LOOK_EVERY - 1 :: LOOK_EVERY].tolist()]
        promoted += any(better(one, share) >= -np.log(config.level) for one in ends)
        rolled_back += any(worse(one, share) >= -np.log(config.harm_level) for one in ends)
    return FalseAlarms(
        draws, len(positive), promoted / draws, rolled_back / draws, config.level, config.harm_level
    )


def _fresh(home: Home, root: Path, graph_name: str) -> Home:
    """A home with the arrays of another one, and nothing else."""
    place = Home(root)
    place.arrays(graph_name).parent.mkdir(parents=True)
    place.arrays(graph_name).symlink_to(home.arrays(graph_name).resolve(), target_is_directory=True)
    return place


def _try(
    scenario: Scenario, home: Home, graph: GraphArrays, cut: Split, share: float, most_people: int, seed: int
) -> tuple[Row, np.ndarray]:
    store, began = ModelStore(home.models), time.monotonic()
    champion = _saved(store, scenario.champion, graph, cut)
    candidate = _saved(store, scenario.candidate, graph, cut)
    store.set_alias(graph.name, "champion", champion, "simulated: the holder of a benchmark")
    start(store, graph.name, "champion", candidate, "canary", share, "simulated: a benchmark")
    if scenario.is_spoilt:
        (store.load(candidate).folder / WEIGHTS).unlink()
    people = np.random.default_rng(seed).permutation(cut.test.users)[:most_people]
    asked, failed, heard, verdict = 0, 0, [], Decision("wait", "nobody was asked", {})
    with LocalClient(home, graph.name) as client:
        for user in people.tolist():
            asked += 1
            try:
                heard.append(_visit(client, graph, cut, user))
            except Exception:  # noqa: BLE001 - whatever a trial does to those who ask is what is counted
                failed += 1
            if asked % LOOK_EVERY == 0:
                client.gateway.arms.drain()
                _, verdict = next_step(home, graph.name, config=SETTINGS)
                if verdict.action != "wait":
                    client.gateway.refresh()
                    break
        answers_now = client.ready().model or "nobody"
    row = Row(
        scenario.name,
        champion,
        candidate,
        asked,
        verdict.action,
        answers_now,
        verdict.reason,
        failed,
        round(time.monotonic() - began, 1),
    )
    return row, np.array(heard, bool)


def _saved(store: ModelStore, model: str, graph: GraphArrays, cut: Split) -> str:
    training = replace(cut.full, seed=0)
    recommender = recommenders.build(model, {})
    recommender.fit(training)
    info = SaveInfo(
        graph.name, graph.hash, training, split_hash=cut.hash, seeds=(0,), note="For a benchmark."
    )
    return store.save(model, recommender, info).ref


def _visit(client: LocalClient, graph: GraphArrays, cut: Split, user: int) -> bool:
    """One person asks once and says one thing; True if it is a like."""
    id = graph.id_of("User", user)
    reply = client.recommend({"user_id": id, "n": SHOWN, "diversity": 0, "filters": {"include_rated": True}})
    shown = [content.content_id for content in reply.contents]
    likes = {graph.id_of("Content", row) for row in cut.test.held_out[[user]].indices.tolist()}
    liked = [content for content in shown if content in likes]
    event = "like" if liked else "dislike"
    said = {"user_id": id, "content_id": (liked or shown)[0], "event": event}
    client.feedback({**said, "idempotency_key": f"simulated:{id}"})
    return bool(liked)
