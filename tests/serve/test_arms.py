"""A candidate beside the champion: who sees what, what is logged of it, and that it never harms an answer."""

import logging

import pytest

from kg.exposures import Exposure, ExposureError, ExposureLog
from models.aliases import Step
from models.candidate import Candidate
from models.store import ModelStore
from serve.app import LocalServer
from serve.client import Client, LocalClient
from serve.problems import Problem
from tests.serve.small_home import GRAPH, USER

CHAMPION, TRIED = "ease/1", "popularity/1"


def try_out(home, stage="canary", share=0.5, salt="salt", version=TRIED):
    candidate = Candidate(version, stage, share, salt, 0.0)
    ModelStore(home.models).try_out(GRAPH, "champion", candidate, Step(stage, "test"))
    return candidate


def logged(client, salt="salt"):
    client.gateway.arms.drain()
    return list(client.gateway.exposures.read(salt))


@pytest.fixture
def people(graph):
    return graph.ids("User")


def test_a_share_of_people_is_answered_by_the_canary_and_always_the_same(home, people):
    tried = try_out(home)
    with LocalClient(home, GRAPH) as client:
        for _ in range(2):
            for user in people:
                reply = client.recommend({"user_id": user, "n": 5})
                is_chosen = tried.is_chosen(tried.key_of(user))
                assert reply.model_version == (TRIED if is_chosen else CHAMPION)
        entries = logged(client)
        assert len(entries) == 2 * len(people) and {one.arm for one in entries} == {"champion", "canary"}
        last = entries[-1]
        assert last.contents == tuple(content.content_id for content in reply.contents)
        assert last.latency_ms > 0 and last.error is None and last.person == tried.key_of(people[-1])


def test_a_stranger_is_in_the_arm_of_the_id_that_feedback_is_written_under(home):
    from kg.feedback import hashed_user

    tried = try_out(home)
    with LocalClient(home, GRAPH) as client:
        client.recommend({"user_id": "ann@example.org", "n": 5})
        assert logged(client)[0].person == tried.key_of(hashed_user("ann@example.org"))


def test_a_shadow_is_compared_and_never_shown(home, people):
    try_out(home, "shadow", 1.0)
    with LocalClient(home, GRAPH) as client:
        for user in people[:10]:
            assert client.recommend({"user_id": user, "n": 5}).model_version == CHAMPION
        entries = logged(client)
        assert len(entries) == 10 and {one.arm for one in entries} == {"shadow"}
        assert all(0 <= one.overlap <= 1 and one.beside_ms > 0 and one.contents == () for one in entries)
        with LocalClient(home, GRAPH, TRIED) as other:
            ours = [one.content_id for one in client.recommend({"user_id": people[0], "n": 5}).contents]
            theirs = [one.content_id for one in other.recommend({"user_id": people[0], "n": 5}).contents]
        assert entries[0].overlap == pytest.approx(len(set(ours) & set(theirs)) / 5)


def test_measurements_and_pinned_versions_are_no_part_of_a_trial(home):
    try_out(home, share=0.999)
    with LocalClient(home, GRAPH) as client, LocalClient(home, GRAPH, CHAMPION) as pinned:
        assert client.bare_ranking(CHAMPION, USER, 5) == pinned.bare_ranking(CHAMPION, USER, 5)
        assert pinned.recommend({"user_id": USER}).model_version == CHAMPION
        assert pinned.gateway.trial is None and logged(client) == [] == logged(pinned)


@pytest.mark.parametrize("stage", ["canary", "shadow"])
def test_an_answer_that_is_only_compared_is_logged_as_shown_to_nobody(home, people, stage):
    """As a page does that shows what each step of the loop moved: it asks twice and shows one list."""
    tried = try_out(home, stage, 0.5)
    with LocalClient(home, GRAPH) as client:
        for user in people[:10]:
            shown = client.recommend({"user_id": user, "n": 5})
            for off in ({"instant_tier": False}, {"live_history": False}):
                beside = client.recommend({"user_id": user, "n": 5, "adaptation": off})
                assert beside.model_version == shown.model_version  # of the same arm
        entries = logged(client)
        chosen = [user for user in people[:10] if tried.is_chosen(tried.key_of(user))]
        assert len(entries) == (10 if stage == "canary" else len(chosen)) and 0 < len(chosen) < 10
        assert len({one.person for one in entries}) == len(entries)


@pytest.mark.parametrize("stage", ["canary", "shadow"])
def test_a_candidate_that_cannot_be_loaded_never_hurts_an_answer(home, stage):
    folder = ModelStore(home.models).load(TRIED).folder
    try_out(home, stage, 0.999)
    (folder / "weights.safetensors").write_bytes(b"spoilt")
    with LocalClient(home, GRAPH) as client:
        assert client.recommend({"user_id": USER, "n": 5}).model_version == CHAMPION
        assert client.ready().is_ready and client.gateway.why_not is None
        assert "weights.safetensors" in client.gateway.trial.why_not
        assert [one.error for one in logged(client)] == ["NotLoaded"]


@pytest.mark.parametrize("stage", ["canary", "shadow"])
def test_a_candidate_that_breaks_is_fallen_back_from_and_counted(home, stage, monkeypatch, caplog):
    try_out(home, stage, 0.999)
    with LocalClient(home, GRAPH) as client:

        def broken(users):
            raise MemoryError(f"of {USER}")

        monkeypatch.setattr(client.gateway.trial.snapshot.model, "score", broken)
        with caplog.at_level(logging.WARNING):
            reply = client.recommend({"user_id": USER, "n": 5})
        assert reply.model_version == CHAMPION and len(reply.contents) == 5
        entry = logged(client)[0]
        assert entry.error == "MemoryError" and entry.arm == stage
        text = client.metrics()
        assert f'mg_arm_requests_total{{arm="{stage}",outcome="error",version="{TRIED}"}} 1.0' in text
        assert USER not in caplog.text and USER not in text


def test_a_wrong_request_is_the_askers_and_not_the_candidates(home):
    try_out(home, share=0.999)
    with LocalClient(home, GRAPH) as client:
        with pytest.raises(Problem) as found:
            client.recommend({"user_id": USER, "region": "Atlantis"})
        assert found.value.status < 500 and logged(client) == []


def test_answers_are_counted_by_arm_and_version(home, people):
    try_out(home)
    with LocalClient(home, GRAPH) as client:
        for user in people:
            client.recommend({"user_id": user, "n": 5})
        text = client.metrics()
    counted = [line for line in text.splitlines() if line.startswith("mg_arm_requests_total{")]
    assert sum(float(line.split()[-1]) for line in counted) == len(people) and len(counted) == 2
    assert f'mg_arm_seconds_count{{arm="canary",version="{TRIED}"}}' in text
    assert not any(user in text for user in people)


def test_a_promoted_canary_answers_all_without_being_loaded_again(home, people):
    try_out(home)
    with LocalClient(home, GRAPH) as client:
        warm = client.gateway.trial.snapshot
        ModelStore(home.models).set_alias(GRAPH, "champion", TRIED, "it won")
        client.gateway.refresh()
        assert client.gateway.snapshot() is warm and client.gateway.trial is None
        assert {client.recommend({"user_id": user}).model_version for user in people[:10]} == {TRIED}


def test_a_trial_starts_changes_and_ends_without_a_restart(home):
    with LocalClient(home, GRAPH) as client:
        assert client.gateway.trial is None
        try_out(home, "shadow", 1.0)
        client.gateway.refresh()
        first = client.gateway.trial
        try_out(home, "canary", 0.3, "other")
        client.gateway.refresh()
        assert client.gateway.trial.candidate.salt == "other"
        assert client.gateway.trial.snapshot is first.snapshot  # loaded once
        ModelStore(home.models).try_out(GRAPH, "champion", None, Step("rollback", "test"))
        client.gateway.refresh()
        assert client.gateway.trial is None


def test_a_log_that_cannot_be_written_costs_evidence_and_no_answer(home, monkeypatch):
    try_out(home)
    with LocalClient(home, GRAPH) as client:

        def full(exposures):
            raise ExposureError("no space")

        monkeypatch.setattr(client.gateway.exposures, "append", full)
        assert client.recommend({"user_id": USER, "n": 5}).contents
        client.gateway.arms.drain()
        assert "mg_exposures_lost_total 1.0" in client.metrics()
        monkeypatch.undo()
        client.recommend({"user_id": USER, "n": 5})
        assert len(logged(client)) == 1


def test_over_http_the_same_people_are_chosen(home, people):
    tried = try_out(home)
    with (
        LocalServer(home, GRAPH, port=0) as server,
        Client(server.url) as far,
    ):
        for user in people[:12]:
            reply = far.recommend({"user_id": user, "n": 3})
            assert reply.model_version == (TRIED if tried.is_chosen(tried.key_of(user)) else CHAMPION)
        told = far.models().model_dump()
    assert told["aliases"] == {"champion": CHAMPION, "champion.canary": TRIED}
    assert [(move["step"], move["version"]) for move in told["history"]] == [
        ("promote", CHAMPION),
        ("canary", CHAMPION),
    ]
    assert told["trial"] == {
        "version": TRIED, "stage": "canary", "share": 0.5, "is_loaded": True, "why_not": None
    }  # fmt: skip


def test_the_log_is_on_disk_by_trial_and_forgets_old_ones(tmp_path):
    path = tmp_path / "logs" / "exposures.sqlite"
    log = ExposureLog(path)
    assert list(log.read("a")) == [] and not path.exists()
    entries = [Exposure("a", f"{place:016x}", "canary", place, 1.0, ("x", "y")) for place in range(2_500)]
    log.append(entries)
    log.append([Exposure("b", "0" * 16, "shadow", 1, 1.0, (), 2.0, 0.5, "KeyError")])
    log.close()
    again = ExposureLog(path)
    assert list(again.read("a")) == entries and next(again.read("b")).error == "KeyError"
    assert again.forget(but="b") == 2_500 and list(again.read("a")) == []
    again.close()
    spoilt = tmp_path / "spoilt.sqlite"
    spoilt.write_bytes(b"no database" * 500)
    with pytest.raises(ExposureError, match="must be a log of answers"):
        list(ExposureLog(spoilt).read("a"))
    with pytest.raises(ExposureError, match="1 answers were not recorded"):
        ExposureLog(spoilt).append(entries[:1])
