"""Small graphs of people who rate contents, with all other things that people do planted around it."""

import numpy as np
import pytest
import torch

from configs.registry import import_parts
from kg.arrays import from_records
from kg.records import Hyperedge, Node
from kg.worlds import WorldConfig, world

DAY_S = 86_400


def arrays_of(records, name="toy"):
    nodes = [record for record in records if isinstance(record, Node)]
    facts = [record for record in records if isinstance(record, Hyperedge)]
    return from_records(
        name,
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


def fact(type, user, content, at, **properties):
    members = {"user": (f"user:toy:{user:03d}",), "content": (f"content:toy:{content:03d}",)}
    if type == "TAGGED":
        members["keyword"] = ("keyword:odd",)
    return Hyperedge(type, members, "toy", properties, at)


def nodes(users, contents, **columns):
    return [
        *(Node("User", f"user:toy:{user:03d}") for user in range(users)),
        *(Node("Content", f"content:toy:{content:03d}", columns) for content in range(contents)),
        Node("Keyword", "keyword:odd"),
    ]


@pytest.fixture(autouse=True)
def one_thread():
    """Threads cost more than they bring on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def toy():
    """What small graphs are made of: ``toy.graph(rows)`` from (user, content, rating, day)."""

    class Toy:
        fact, nodes, arrays = staticmethod(fact), staticmethod(nodes), staticmethod(arrays_of)

        @staticmethod
        def graph(rows, users=4, contents=30, more=()):
            rated = [
                fact("RATED", user, content, None if day is None else day * DAY_S, rating=float(rating))
                for user, content, rating, day in rows
            ]
            return arrays_of([*nodes(users, contents), *rated, *more])

    return Toy()


@pytest.fixture(scope="session")
def busy(toy):
    """40 people × 60 contents; everybody also tags, views, shelves and dismisses at all times."""
    rng = np.random.default_rng(3)
    rows, more = [], []
    for user in range(40):
        contents = rng.permutation(60)[: rng.integers(6, 40)]
        for content in contents:
            rows.append((user, int(content), int(rng.integers(1, 11)), int(rng.integers(1, 12))))
        for content in rng.permutation(60)[:12]:
            type = str(rng.choice(["TAGGED", "VIEWED", "WATCHLISTED", "DISMISSED"]))
            more.append(fact(type, user, int(content), int(rng.integers(1, 14)) * DAY_S))
    followed = {"user": ("user:toy:001",), "followed": ("user:toy:002",)}
    more += [Hyperedge("FOLLOWS", followed, "toy", {}, day * DAY_S) for day in (1, 13)]
    return toy.graph(rows, 40, 60, more)


@pytest.fixture(scope="session")
def tasteful():
    """A generated world of 260 people with planted tastes."""
    import_parts("models")
    made = world(WorldConfig(users=260, contents=120, groups=4, ratings_per_user=30, seed=1))
    return arrays_of(made.records, "world")
