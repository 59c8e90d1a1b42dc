"""Holds every registered endpoint to what clients and routes rely on; names none of them."""

import json
import re

import pytest
from pydantic import BaseModel

from configs.home import Home
from configs.registry import import_parts
from serve.app import LocalServer, build_app
from serve.client import Client, LocalClient
from serve.endpoints import Endpoint, Reply, Request, endpoints
from serve.problems import Problem
from tests.serve.small_home import GRAPH, small_graph, small_home

import_parts("serve.endpoints")
NAMES = list(endpoints)
CHANGES = {"timings_ms", "at", "idempotency_key", "is_duplicate", "text"}
"""Fields that two equal questions may answer differently."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = small_home(tmp_path_factory.mktemp("contract") / "home", small_graph())
    with (
        LocalServer(home, GRAPH, port=0) as server,
        Client(server.url) as far,
        LocalClient(home, GRAPH) as near,
    ):
        yield near, far


def example(near: LocalClient, name: str) -> dict:
    return near._desk[name].example(near.gateway.snapshot())


@pytest.mark.parametrize("name", NAMES)
def test_it_states_what_it_is(name):
    endpoint = endpoints[name]
    assert issubclass(endpoint, Endpoint) and endpoint.name == name and endpoint.__doc__
    assert endpoint.method in ("GET", "POST", "DELETE") and endpoint.path.startswith("/") and endpoint.summary
    assert issubclass(endpoint.Request, Request) and issubclass(endpoint.Reply, Reply)
    assert endpoint.Request.model_config["extra"] == "forbid"
    assert set(re.findall(r"{(\w+)}", endpoint.path)) <= set(endpoint.Request.model_fields)
    if endpoint.text_of is not None:
        assert endpoint.text_of in endpoint.Reply.model_fields


def test_no_two_share_a_route():
    routes = [(endpoints[name].method, endpoints[name].path) for name in NAMES]
    assert len(set(routes)) == len(routes)


@pytest.mark.parametrize("name", NAMES)
def test_near_and_far_give_the_same_reply(world, name):
    near, far = world
    asked = example(near, name)
    here, there = near.ask(name, asked), far.ask(name, asked)
    assert type(here) is type(there) is endpoints[name].Reply
    assert here.model_dump(exclude=CHANGES) == there.model_dump(exclude=CHANGES)
    assert json.loads(here.model_dump_json()) == json.loads(type(here).model_validate(here).model_dump_json())


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_none_is_refused(world, name):
    near, _ = world
    with pytest.raises(Problem, match="no_such_field: is no field") as found:
        near.ask(name, {**example(near, name), "no_such_field": 1})
    assert found.value.status == 422


@pytest.mark.parametrize("name", NAMES)
def test_without_a_model_it_answers_or_says_503(tmp_path, world, name):
    near, _ = world
    with LocalClient(Home(tmp_path), GRAPH) as client:
        try:
            client.ask(name, example(near, name))
        except Problem as problem:
            assert problem.status == 503


def test_openapi_tells_every_route_request_and_problem(world):
    near, _ = world
    schema = build_app(near.gateway.home, GRAPH).openapi()
    assert schema["openapi"].startswith("3.1")
    for name in NAMES:
        endpoint = endpoints[name]
        route = schema["paths"][endpoint.path][endpoint.method.lower()]
        told = {parameter["name"] for parameter in route.get("parameters", ())}
        if endpoint.method == "POST":
            assert route["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
                endpoint.Request.__name__
            )
        else:
            assert told == set(endpoint.Request.model_fields)
        assert "default" in route["responses"]
        assert endpoint.Reply.__name__ in schema["components"]["schemas"]


def test_a_planted_endpoint_that_breaks_the_rules_is_caught():
    class Loose(BaseModel):
        id: str

    class Planted(Endpoint):
        """Takes any field."""

        name, method, path, summary = "planted", "GET", "/planted/{other}", "Planted"
        Request, Reply = Loose, Loose

        def answer(self, request):
            return request

    assert not issubclass(Planted.Request, Request)
    assert not set(re.findall(r"{(\w+)}", Planted.path)) <= set(Planted.Request.model_fields)
