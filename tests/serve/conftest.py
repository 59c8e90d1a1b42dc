"""Fixtures of the serving tests: a home with a champion, and a client in this process."""

import pytest

from configs.home import Home
from kg.arrays import GraphArrays
from serve.client import LocalClient
from tests.serve.small_home import GRAPH, small_graph, small_home


@pytest.fixture(scope="session")
def graph() -> GraphArrays:
    return small_graph()


@pytest.fixture
def home(tmp_path, graph) -> Home:
    return small_home(tmp_path / "home", graph)


@pytest.fixture
def client(home):
    with LocalClient(home, GRAPH) as client:
        yield client
