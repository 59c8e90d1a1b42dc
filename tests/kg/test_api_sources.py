"""API sources against replies written by hand from the documented shapes: whole, late, cut and refused."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

import kg.datasets  # noqa: F401 - registers the sources
from kg.http import ApiClient, ApiError, CircuitOpen, HttpConfig, Key, KeyMissing, KeyRefused
from kg.records import Hyperedge, Node, SourceError
from kg.sources import sources

RECORDED = Path(__file__).parent / "recorded"
SECRET = "s3cr3t-k3y"
KEY = Key("MG_TEST_KEY", "example.org", parameter="key")
ROUTES = {
    "streaming_availability": {r"cursor=66": "second", r"/shows/search/filters": "first"},
    "watchmode": {r"/list-titles/": "list", r"/title/1616666/details/": "details"},
    "tmdb_api": {
        r"/discover/movie.*page=2": "discover-2",
        r"/discover/movie": "discover-1",
        r"/movie/101": "movie-101",
        r"/movie/103": "movie-103",
    },
    "youtube": {r"/playlistItems": "playlist", r"id=aaaaaaaaaaa": "video-a", r"id=bbbbbbbbbbb": "video-b"},
}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ROUTES:
        monkeypatch.setenv(sources[name].key.variable, SECRET)


class Server:
    """Answers as the API would; ``first`` gives replies that go before."""

    def __init__(self, name, *first):
        self.name, self.first, self.asked = name, list(first), []

    def __call__(self, request):
        self.asked.append(request)
        if self.first:
            return self.first.pop(0)
        file = next(file for form, file in ROUTES[self.name].items() if re.search(form, str(request.url)))
        return httpx.Response(200, content=(RECORDED / self.name / f"{file}.json").read_bytes())


def build(name, folder, server, **settings):
    source = sources.build(name, {"folder": folder, "per_s": 1e9, **settings})
    source.transport = httpx.MockTransport(server)
    return source


def told(source):
    records = list(source.read())
    nodes = {record.id: record for record in records if isinstance(record, Node)}
    return nodes, [record for record in records if isinstance(record, Hyperedge)]


def offers(facts):
    return {
        (f.members["content"][0], f.members["platform"][0], f.properties["offer"]): f
        for f in facts
        if f.type == "AVAILABLE"
    }


def test_streaming_availability(tmp_path):
    server = Server("streaming_availability")
    nodes, facts = told(build("streaming_availability", tmp_path, server))
    assert len(server.asked) == 2 and server.asked[0].headers["X-RapidAPI-Key"] == SECRET
    film = nodes["content:motn:66"]
    assert film.ids == {"imdb": "tt0000001", "tmdb": "101", "motn": "66"}
    assert "tmdb" not in nodes["content:motn:70"].ids  # a series' number could be a film's
    found = offers(facts)
    rent = found["content:motn:66", "platform:apple-tv", "rent"].properties
    assert (rent["price"], rent["currency"], rent["quality_tiers"]) == (2.99, "USD", ("HD", "SD"))
    held = found["content:motn:66", "platform:netflix", "subscription"]
    assert (held.start_ts, held.end_ts) == (1704067200, 1798761600)
    assert held.properties["quality_tiers"] == ("4K",) and held.properties["subtitle_languages"] == ("deu",)
    assert ("content:motn:70", "platform:starz", "subscription") in found


def test_watchmode(tmp_path):
    server = Server("watchmode")
    source = build("watchmode", tmp_path, server)
    nodes, facts = told(source)
    found = offers(facts)
    assert set(found) == {
        ("content:watchmode:1616666", "platform:netflix", "subscription"),
        ("content:watchmode:1616666", "platform:apple-tv-plus", "buy"),
    }
    assert found["content:watchmode:1616666", "platform:apple-tv-plus", "buy"].properties["price"] == 9.99
    assert nodes["content:watchmode:1616666"].properties["release_date"] == "1995-10-30"
    assert source.repairs == {"offer of a kind that we have no word for left out": 1}


def test_tmdb_api(tmp_path):
    server = Server("tmdb_api")
    source = build("tmdb_api", tmp_path, server)
    nodes, facts = told(source)
    assert server.asked[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert nodes["content:tmdb:101"].ids == {"imdb": "tt0000001", "tmdb": "101"}
    assert "release_date" not in nodes["content:tmdb:103"].properties
    found = offers(facts)
    assert found["content:tmdb:101", "platform:amazon-prime", "ads"].members["region"] == ("region:NA",)
    assert {f.type for f in facts} >= {"DIRECTED", "ACTED_IN", "HAS_KEYWORD", "MADE_IN"}
    assert source.repairs == {"object that moved to a later page told once": 1}  # 103 moved to page 2


def test_youtube(tmp_path):
    source = build("youtube", tmp_path, Server("youtube"), playlist="UU1")
    nodes, facts = told(source)
    assert nodes["content:youtube:aaaaaaaaaaa"].properties["runtime_minutes"] == 90
    (offer,) = facts
    assert offer.members["region"] == ("region:NA", "region:US") and offer.properties["offer"] == "ads"
    assert source.repairs == {"video that is not public dropped": 1}


@pytest.mark.parametrize("name", ROUTES)
def test_what_was_asked_is_not_asked_again_and_no_file_holds_the_key(name, tmp_path, monkeypatch):
    first = list(build(name, tmp_path, Server(name)).read())
    monkeypatch.delenv(sources[name].key.variable)
    silent = Server(name)
    assert list(build(name, tmp_path, silent).read()) == first and not silent.asked
    assert all(SECRET not in path.name + path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ROUTES)
def test_broken_off_anywhere_it_goes_on_there(name, tmp_path):
    whole = Server(name)
    list(build(name, tmp_path / "whole", whole).read())
    for allowed in range(len(whole.asked)):
        folder, asked = tmp_path / str(allowed), []

        def answer(request, asked=asked, allowed=allowed):
            if len(asked) == allowed:
                raise KeyboardInterrupt  # as a kill would: nothing is caught, nothing is said
            asked.append(request)
            return Server(name)(request)

        with pytest.raises(KeyboardInterrupt):
            list(build(name, folder, answer).read())
        rest = Server(name)
        list(build(name, folder, rest).read())
        assert len(rest.asked) == len(whole.asked) - allowed
        assert sorted(p.name for p in folder.iterdir()) == sorted(
            p.name for p in (tmp_path / "whole").iterdir()
        )


@pytest.mark.parametrize("name", ROUTES)
def test_a_wrong_key_and_none(name, tmp_path, monkeypatch):
    status = {"youtube": 400, "streaming_availability": 403}.get(name, 401)
    refused = httpx.Response(status, content=(RECORDED / name / "wrong-key.json").read_bytes())
    variable = sources[name].key.variable
    with pytest.raises(KeyRefused, match=variable) as error:
        list(build(name, tmp_path, Server(name, refused)).read())
    assert SECRET not in str(error.value)
    monkeypatch.delenv(variable)
    with pytest.raises(SourceError, match=f"{variable} must hold a key.*get one from"):
        list(build(name, tmp_path, Server(name)).read())


def test_a_cursor_that_the_api_forgot_starts_the_list_anew(tmp_path):
    first = (RECORDED / "streaming_availability" / "first.json").read_bytes()
    server = Server(
        "streaming_availability",
        httpx.Response(200, content=first),
        httpx.Response(400, json={"message": "cursor"}),
    )
    source = build("streaming_availability", tmp_path, server)
    nodes, _ = told(source)
    assert {"content:motn:66", "content:motn:70"} <= set(nodes) and len(server.asked) == 4
    assert source.repairs["list that changed under the cursor read anew"] == 1
    gone = [httpx.Response(200, content=first), httpx.Response(410)] * 3
    with pytest.raises(SourceError, match="a list that can be read to its end"):
        told(build("streaming_availability", tmp_path / "b", Server("streaming_availability", *gone)))


def test_a_cursor_that_runs_in_a_circle(tmp_path):
    page = json.loads((RECORDED / "streaming_availability" / "first.json").read_bytes())
    with pytest.raises(SourceError, match="a cursor that goes on"):
        told(build("streaming_availability", tmp_path, lambda request: httpx.Response(200, json=page)))


def test_an_object_of_another_shape_is_rejected_and_the_rest_is_read(tmp_path):
    page = json.loads((RECORDED / "streaming_availability" / "second.json").read_bytes())
    page["shows"] += [{"id": "80", "showType": "opera", "title": "X"}, {"title": "no id"}]
    source = build("streaming_availability", tmp_path, lambda request: httpx.Response(200, json=page))
    nodes, _ = told(source)
    assert "content:motn:70" in nodes and len(source.rejects) == 2 and source.rows == 3
    with pytest.raises(SourceError, match="columns shows; got message"):
        told(
            build(
                "streaming_availability", tmp_path / "b", lambda r: httpx.Response(200, json={"message": 1})
            )
        )


def test_a_title_that_left_between_list_and_details_is_left_out(tmp_path):
    def answer(request):
        return httpx.Response(404) if "/movie/103" in str(request.url) else Server("tmdb_api")(request)

    source = build("tmdb_api", tmp_path, answer)
    nodes, _ = told(source)
    assert "content:tmdb:103" not in nodes
    assert source.repairs["object that is in the list and no more in the API left out"] == 1


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def client(*replies, **settings):
    clock, left = Clock(), list(replies)

    def answer(request):
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    made = ApiClient(
        "https://api.example.org",
        KEY,
        HttpConfig(**{"per_s": 1e9, **settings}),
        httpx.MockTransport(answer),
        clock.sleep,
        clock,
        {"MG_TEST_KEY": SECRET},
    )
    return made, clock


FINE = httpx.Response(200, json={"ok": True})


def test_retry_after_in_seconds_and_as_a_date():
    made, clock = client(httpx.Response(429, headers={"Retry-After": "17"}), FINE)
    assert made.get("/x", {}) == {"ok": True} and clock.slept == [17.0]
    date = (datetime.now(UTC) + timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    made, clock = client(httpx.Response(429, headers={"Retry-After": date}), FINE)
    made.get("/x", {})
    assert 30 < clock.slept[0] <= 40
    made, clock = client(httpx.Response(429, headers={"Retry-After": "86400"}), FINE)
    with pytest.raises(ApiError, match="asks to wait 86400 s"):
        made.get("/x", {})
    assert not clock.slept


@pytest.mark.parametrize(
    "spoilt",
    [
        httpx.Response(500),
        httpx.Response(503),
        httpx.Response(200, content=b'{"ok": tr'),
        httpx.ConnectError("no route"),
    ],
)
def test_what_may_pass_is_tried_again_further_and_further_apart(spoilt):
    made, clock = client(spoilt, spoilt, FINE)
    assert made.get("/x", {}) == {"ok": True}
    assert len(clock.slept) == 2 and clock.slept[0] <= 1 and clock.slept[1] <= 2
    made, clock = client(spoilt, tries=3)
    with pytest.raises(ApiError, match="after 3 tries") as error:
        made.get("/x", {})
    assert SECRET not in str(error.value) and len(clock.slept) == 2


def test_the_circuit_opens_and_closes_again():
    made, clock = client(*[httpx.Response(500)] * 6, FINE, tries=2, failures=3, rest_s=60)
    for _ in range(3):
        with pytest.raises(ApiError, match="status 500"):
            made.get("/x", {})
    with pytest.raises(CircuitOpen, match="wait 60 s"):
        made.get("/x", {})
    clock.now += 61
    assert made.get("/x", {}) == {"ok": True}


def test_requests_keep_their_pace():
    made, clock = client(FINE, per_s=4)
    for _ in range(9):
        made.get("/x", {})
    assert clock.now - 1000 == pytest.approx(8 / 4)


def test_a_reply_without_end_and_no_key():
    made, _ = client(httpx.Response(200, content=b"x" * 2000), reply_bytes=1000)
    with pytest.raises(ApiError, match="at most 1,000 bytes"):
        made.get("/x", {})
    made.environ = {}
    with pytest.raises(KeyMissing, match="MG_TEST_KEY must hold a key"):
        made.get("/x", {})
    with pytest.raises(ValueError, match="tries and failures of 1 or more"):
        HttpConfig(tries=0)
