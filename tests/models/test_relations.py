"""The training graph as edges: both directions, each pair once, nothing that training may not see."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from kg.arrays import GraphArrays, from_records
from kg.records import Hyperedge, Node
from models.interface import Training
from models.relations import relation_graph

# users 0..2, contents 0..3; content 3 is neither liked nor rankable
LIKED = [(0, 0), (0, 1), (1, 1), (1, 2)]
CREDITS = [
    ("a", 0, "lead"),
    ("a", 1, "lead"),
    ("a", 1, "voice"),
    ("b", 2, "lead"),
    ("b", 3, "lead"),
    ("c", 0, "lead"),
]


def small_graph() -> GraphArrays:
    nodes = [Node("Content", f"content:x:{place}") for place in range(4)]
    nodes += [Node("User", f"user:x:{place}") for place in range(3)]
    nodes += [Node("Person", f"person:x:{name}") for name in "abc"]
    facts = [
        Hyperedge("ACTED_IN", {"person": (f"person:x:{name}",), "content": (f"content:x:{place}",)}, role)
        for name, place, role in CREDITS
    ]
    facts.append(Hyperedge("SEQUEL_OF", {"content": ("content:x:3",), "original": ("content:x:0",)}, "x"))
    facts.append(
        Hyperedge("RATED", {"user": ("user:x:2",), "content": ("content:x:3",)}, "x", {"rating": 10.0})
    )
    return from_records(
        "small",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [fact for fact in facts if fact.type == type],
    )


def training() -> Training:
    row, column = np.array(LIKED).T
    positives = sp.csr_array((np.ones(4, np.float32), (row, column)), shape=(3, 4))
    times = sp.csr_array((np.array([50, 10, 20, 40]), (row, column)), shape=(3, 4))
    return Training(small_graph(), positives, times, np.array([True, True, True, False]))


def triples(made) -> set[tuple[str, int, int]]:
    edges = made.edges
    names = [made.relations[code] for code in edges.relation.tolist()]
    found = list(zip(names, edges.source.tolist(), edges.target.tolist(), strict=True))
    assert len(found) == len(set(found)), "each pair once"
    return set(found)


def test_edges_by_hand():
    # nodes: users 0..2, contents 3..6, then person a as 7; b and c link one content of the core: left out
    made = relation_graph(training(), ("ACTED_IN", "SEQUEL_OF"), least_links=2)
    assert made.types == ("User", "Content", "Person") and made.node_type.tolist() == [0] * 3 + [1] * 4 + [2]
    wanted = {("RATED", user, 3 + content) for user, content in LIKED}
    wanted |= {("RATED^", 3 + content, user) for user, content in LIKED}
    wanted |= {("ACTED_IN", 7, 3), ("ACTED_IN", 7, 4), ("ACTED_IN^", 3, 7), ("ACTED_IN^", 4, 7)}
    wanted |= {
        ("SEQUEL_OF^", 3, 6)
    }  # content 3 is outside the core: it hears of its original and is not heard
    assert triples(made) == wanted
    assert made.is_core.tolist() == [True, True, False, True, True, True, False, True]


def test_likes_are_read_from_training_alone():
    # the graph's RATED of user 2 is not among the positives
    made = relation_graph(training(), ())
    assert {name for name, _, _ in triples(made)} == {"RATED", "RATED^"}
    assert not (made.edges.source == 2).any() and not (made.edges.target == 2).any()


def test_likes_have_their_times_in_both_directions_and_the_rest_always_holds():
    edges = relation_graph(training(), ("ACTED_IN",)).edges
    found = {
        (source, target): ts
        for source, target, ts in zip(
            *(p.tolist() for p in (edges.source, edges.target, edges.start_ts)), strict=True
        )
    }
    for (user, content), ts in zip(LIKED, (50, 10, 20, 40), strict=True):
        assert found[user, 3 + content] == found[3 + content, user] == ts
    assert found[7, 3] == found[3, 7] == 0 and edges.age_s.max() == 40
    assert sorted(edges.start_ts[edges.is_timed].tolist()) == [10, 10, 20, 20, 40, 40, 50, 50]


def test_degree_counts_all_relations():
    # content 3 (node 3) hears user 0 and person 7
    made = relation_graph(training(), ("ACTED_IN",))
    assert made.degree.tolist() == [2, 2, 0, 2, 3, 1, 0, 2]


def test_hidden_edges_are_both_directions_of_the_positives():
    made = relation_graph(training(), ("ACTED_IN",))
    for position, (user, content) in enumerate(made.positives.tolist()):
        hidden = made.hidden(torch.tensor([position]))
        found = {(made.edges.source[edge].item(), made.edges.target[edge].item()) for edge in hidden}
        assert found == {(user, content), (content, user)}


@pytest.mark.parametrize("fact", ["RATED", "AVAILABLE", "FOLLOWS", "NONSENSE"])
def test_facts_that_are_none_are_refused(fact):
    with pytest.raises(ValueError, match=fact):
        relation_graph(training(), (fact,))
