import threading
import time

import pytest

from configs.home import Home
from kg.arrays import GraphArrays
from models.store import ModelStore
from serve.client import LocalClient, connect
from serve.gateway import Gateway, GatewayConfig
from serve.problems import Problem
from serve.snapshot import folded
from tests.serve.small_home import GRAPH, USER


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def loaded() -> None:
    """Waits for the thread that loads a version."""
    for thread in threading.enumerate():
        if thread.name == "load-version":
            thread.join(30)


def test_without_a_champion_all_but_health_say_why(tmp_path):
    with LocalClient(Home(tmp_path), GRAPH) as client:
        assert client.health().status == "ok"
        ready = client.ready()
        assert not ready.is_ready and "mg demo" in ready.detail
        for ask in (
            lambda: client.recommend({"user_id": USER}),
            lambda: client.content("content:world:00001"),
            lambda: client.feedback({"user_id": "a", "content_id": "content:world:1", "event": "like"}),
        ):
            with pytest.raises(Problem, match="champion") as found:
                ask()
            assert found.value.status == 503


@pytest.mark.parametrize("part", ["weights", "training", "arrays"])
def test_a_flipped_bit_is_refused_by_the_files_name(home, part):
    folder = ModelStore(home.models).load("ease/1").folder
    path = folder / f"{part}.safetensors"
    if part == "arrays":
        path = GraphArrays.current(home.arrays(GRAPH)).folder / "node-Content.arrow"
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[len(broken) // 2] ^= 1
    path.write_bytes(broken)
    clock = Clock()
    gateway = Gateway(home, GatewayConfig(GRAPH), clock)
    assert gateway.current is None and path.name in gateway.why_not
    with pytest.raises(Problem, match=path.name):
        gateway.snapshot()
    path.write_bytes(whole)  # mended: no restart is needed
    clock.now += 11
    assert gateway.current is None
    loaded()
    assert gateway.snapshot().version.ref == "ease/1" and gateway.why_not is None


def test_a_moved_alias_is_noticed_within_a_second(home):
    clock = Clock()
    gateway = Gateway(home, GatewayConfig(GRAPH), clock)
    ModelStore(home.models).set_alias(GRAPH, "champion", "popularity/1", "test")
    clock.now += 0.5
    assert gateway.snapshot().version.ref == "ease/1"
    clock.now += 0.6
    gateway.snapshot()
    loaded()
    assert gateway.snapshot().version.ref == "popularity/1"


def test_a_broken_successor_leaves_the_holder_answering(home):
    clock = Clock()
    gateway = Gateway(home, GatewayConfig(GRAPH), clock)
    ModelStore(home.models).set_alias(GRAPH, "champion", "popularity/1", "test")
    (ModelStore(home.models).load("popularity/1").folder / "weights.safetensors").write_bytes(b"broken")
    clock.now += 2
    gateway.snapshot()
    loaded()
    assert gateway.snapshot().version.ref == "ease/1" and "weights.safetensors" in gateway.why_not


def test_a_pinned_version_does_not_follow_the_alias(home):
    clock = Clock()
    gateway = Gateway(home, GatewayConfig(GRAPH, version="ease/1"), clock)
    ModelStore(home.models).set_alias(GRAPH, "champion", "popularity/1", "test")
    clock.now += 100
    assert gateway.snapshot().version.ref == "ease/1"


def test_swaps_under_load_fail_no_request(home):
    clock = Clock()
    client = LocalClient(home, GRAPH)
    client.gateway._clock = clock
    answered, failed, must_end = set(), [], threading.Event()

    def ask() -> None:
        while not must_end.is_set():
            try:
                reply = client.recommend({"user_id": USER, "n": 5})
                answered.add(reply.model_version)
                if len(reply.contents) != 5:
                    failed.append(reply)
            except Exception as error:  # noqa: BLE001 - whatever fails is what is looked for
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    store = ModelStore(home.models)
    for ref in ("popularity/1", "ease/1", "popularity/1"):
        store.set_alias(GRAPH, "champion", ref, "test")
        until = time.monotonic() + 30
        while client.ready().model != ref and time.monotonic() < until:
            clock.now += 2
            loaded()
    must_end.set()
    for thread in threads:
        thread.join()
    assert failed == [] and client.ready().model == "popularity/1"
    assert "mg_model_swaps_total 4.0" in client.metrics()


def test_masks_are_exact_to_the_hour_and_kept(home):
    gateway = Gateway(home, GatewayConfig(GRAPH))
    snapshot, at = gateway.snapshot(), 1_750_003_599
    mask = gateway.available(snapshot, "US", None, at)
    assert gateway.available(snapshot, "US", None, at - 10) is mask
    assert (mask == snapshot.availability.mask("US", at - at % 3600)).all()
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True


def test_counters_tell_routes_and_never_people(client):
    client.recommend({"user_id": USER})
    with pytest.raises(Problem):
        client.content("content:none")
    text = client.metrics()
    assert 'mg_requests_total{route="/v1/recommendations",status="200"} 1.0' in text
    assert 'mg_requests_total{route="/v1/contents/{id}",status="404"} 1.0' in text
    assert 'mg_errors_total{route="/v1/contents/{id}"} 1.0' in text
    assert 'mg_request_seconds_count{route="/v1/recommendations"} 1.0' in text
    assert USER not in text and "content:none" not in text


def test_titles_are_found_without_accents_case_or_order(client, graph):
    title = graph.texts("Content", "title")[7]
    words = folded(title).split()
    found = client.contents(" ".join(reversed(words)).upper())
    assert graph.id_of("Content", 7) in [hit.content_id for hit in found.contents]
    assert client.contents("no such words").found == 0
    pages = [hit.content_id for page in range(3) for hit in client.contents(n=20, offset=20 * page).contents]
    assert sorted(pages) == sorted(graph.ids("Content"))


def test_users_are_paged_and_found_by_id(client, graph):
    assert client.users(n=5).found == graph.size("User")
    assert [user.user_id for user in client.users(USER).users] == [USER]


def test_a_content_tells_what_the_graph_knows(client, graph):
    id = graph.id_of("Content", 7)
    reply = client.content(id, "US")
    node = graph.node("Content", 7)
    assert reply.title == node.properties["title"] and reply.year == node.properties["release_year"]
    people, contents = graph.pairs("ACTED_IN")
    names = graph.texts("Person", "name")
    expected = sorted({names[person] for person in people[contents == 7]})
    assert sorted(next(one for one in reply.people if one.role == "acted_in").names) == expected
    users, rated = graph.pairs("RATED")
    assert reply.ratings.count == (rated == 7).sum()
    windows = client.availability(id)
    assert windows.simulated and len(windows.offers) == len(client.gateway.snapshot().availability.offers(7))
    now = client.availability(id, "US", 1_750_000_000).offers
    assert all(offer.region == "US" and offer.start_ts <= 1_750_000_000 for offer in now)


def test_connect_reads_the_environment(home, monkeypatch):
    monkeypatch.setenv("MG_HOME", str(home.root))
    monkeypatch.setenv("MG_GRAPH", GRAPH)
    monkeypatch.delenv("MG_URL", raising=False)
    with connect() as client:
        assert client.ready().model == "ease/1"
    monkeypatch.setenv("MG_URL", "http://127.0.0.1:9")
    with connect() as client, pytest.raises(ConnectionError, match="mg serve"):
        client.health()
