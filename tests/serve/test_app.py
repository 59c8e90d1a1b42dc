import logging
import socket

import httpx
import pytest

from configs.home import Home
from serve.app import LocalServer, PortTaken, check_address, serve_local, serve_ray
from serve.client import Client
from serve.problems import MEDIA_TYPE, Problem
from tests.serve.small_home import GRAPH, USER, small_home


@pytest.fixture(scope="module")
def server(tmp_path_factory, graph):
    with LocalServer(small_home(tmp_path_factory.mktemp("app") / "home", graph), GRAPH, port=0) as server:
        yield server


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        yield http


ASK = "/v1/recommendations"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "said"),
    [
        ("POST", ASK, {"json": {"user_id": "a", "n": 0}}, 422, "got 0"),
        ("POST", ASK, {"json": {}}, 422, "user_id: is required"),
        ("POST", ASK, {"json": [1]}, 422, "body"),
        ("POST", ASK, {}, 422, "is required"),
        ("POST", ASK, {"content": b'{"a', "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ("POST", ASK, {"content": b'{"user_id": "a"}'}, 400, "Content-Type"),
        ("POST", ASK, {"content": b"x" * 200_000}, 413, "65536"),
        ("POST", ASK, {"content": (b"x" * 1000 for _ in range(200))}, 413, "65536"),
        ("GET", "/v1/contents/content:none", {}, 404, "GET /v1/contents"),
        ("GET", "/v1/contents", {"params": {"n": "many"}}, 422, "n: "),
        ("GET", "/v1/contents", {"params": {"title": "a", "page": 2}}, 422, "page: is no field"),
        ("GET", "/nowhere", {}, 404, "POST /v1/recommendations"),
        ("GET", "/v1/feedback", {}, 405, "POST /v1/feedback"),
        (
            "POST",
            "/v1/feedback",
            {"json": {"user_id": "a", "content_id": "content:x", "event": "like"}},
            404,
            "x",
        ),
        (
            "POST",
            "/v1/feedback",
            {"json": {"user_id": "a", "content_id": "c", "event": "rating"}},
            422,
            "0..10",
        ),
    ],
)
def test_bad_input_is_a_problem_and_no_traceback(http, method, path, sent, status, said):
    if "content" in sent and not isinstance(sent["content"], bytes):
        sent = {"content": (b"x" * 1000 for _ in range(200))}
    reply = http.request(method, path, **sent)
    assert reply.status_code == status and reply.headers["content-type"] == MEDIA_TYPE
    body = reply.json()
    assert {"type", "title", "status", "detail"} <= set(body) and body["status"] == status
    assert said in body["detail"] and "Traceback" not in reply.text
    assert http.get("/health").status_code == 200


def test_feedback_twice_with_a_key_is_once_and_a_taken_key_conflicts(http):
    event = {"user_id": "b", "content_id": "content:world:00001", "event": "like", "idempotency_key": "k"}
    assert http.post("/v1/feedback", json=event).json()["is_duplicate"] is False
    assert http.post("/v1/feedback", json=event).json()["is_duplicate"] is True
    assert http.post("/v1/feedback", json={**event, "event": "dislike"}).status_code == 409


def test_an_error_of_ours_is_a_problem_without_its_cause(server, http, monkeypatch, caplog):
    from serve.endpoints.catalogue import Catalogue

    def broken(self, request):
        raise RuntimeError("a secret")

    monkeypatch.setattr(Catalogue, "answer", broken)
    with caplog.at_level(logging.ERROR):
        reply = http.get("/v1/catalogue")
    assert reply.status_code == 500 and "secret" not in reply.text and "a secret" in caplog.text


def test_metrics_are_text_and_not_ready_is_503(http, tmp_path):
    assert http.get("/metrics").headers["content-type"].startswith("text/plain")
    with LocalServer(Home(tmp_path), GRAPH, port=0) as empty, Client(empty.url) as client:
        assert httpx.get(f"{empty.url}/ready", trust_env=False).status_code == 503
        assert client.ready().is_ready is False and client.health().status == "ok"
        with pytest.raises(Problem) as found:
            client.recommend({"user_id": USER})
        assert found.value.status == 503 and "champion" in found.value.detail


def test_a_taken_port_and_a_public_address_are_refused(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for serve in (serve_local, serve_ray):
            with pytest.raises(PortTaken, match=f"port {port} .*--port"):
                serve(home, GRAPH, port=port)
    with pytest.raises(ValueError, match=r"got '0\.0\.0\.0'"):
        check_address("0.0.0.0", 1)


def test_somebody_elses_server_is_named(http, monkeypatch):
    class Strange(httpx.BaseTransport):
        def handle_request(self, request):
            return httpx.Response(200, text="<html>")

    client = Client("http://127.0.0.1:1")
    client._http = httpx.Client(base_url="http://127.0.0.1:1", transport=Strange())
    with pytest.raises(ConnectionError, match="must be a Media Gateway"):
        client.health()
