import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from kg import schema
from kg.arrays import GraphArrays, from_records
from kg.records import Hyperedge, Node
from models.explanation import explain
from models.interface import ModelFacts, Reason, Recommender, Users
from models.paths import LINKS, GraphPaths
from models.phrases import listed

ROLES = {"ACTED_IN": "person", "DIRECTED": "person", "WROTE": "person", "BELONGS_TO": "genre"}
OTHERS = {"SEQUEL_OF": "original", "SPOKEN_IN": "language", "HAS_KEYWORD": "keyword"}


def graph_of(
    contents: dict[str, str], others: dict[str, str], facts: list[tuple[str, str, str]]
) -> GraphArrays:
    """A graph of titles (key -> title), other nodes (id -> name) and binary facts (type, content key, id)."""
    nodes = [
        Node("Content", f"content:{key}", {"title": title} if title else {})
        for key, title in contents.items()
    ]
    nodes += [
        Node(schema.node_type_of(id).name, id, {"name": name} if name else {}) for id, name in others.items()
    ]
    edges = [
        Hyperedge(type, {"content": (f"content:{key}",), ({**ROLES, **OTHERS}[type]): (id,)}, "test")
        for type, key, id in facts
    ]
    return from_records(
        "test",
        lambda type: [node for node in nodes if node.type == type],
        lambda type: [edge for edge in edges if edge.type == type],
    )


TITLES = {
    "heat": "Heat",
    "insider": "The Insider",
    "ronin": "Ronin",
    "up": "Up",
    "toy": "Toy Story",
    "bolt": "",
}
FACTS = [
    ("DIRECTED", "heat", "person:mann"),
    ("DIRECTED", "insider", "person:mann"),
    ("ACTED_IN", "heat", "person:a"),
    ("ACTED_IN", "insider", "person:a"),
    ("ACTED_IN", "heat", "person:b"),
    ("ACTED_IN", "insider", "person:b"),
    ("ACTED_IN", "heat", "person:c"),
    ("ACTED_IN", "ronin", "person:c"),
    ("BELONGS_TO", "heat", "genre:crime"),
    ("BELONGS_TO", "ronin", "genre:crime"),
    ("BELONGS_TO", "up", "genre:animation"),
    ("BELONGS_TO", "toy", "genre:animation"),
    ("BELONGS_TO", "bolt", "genre:animation"),
    *(("SPOKEN_IN", key, "language:en") for key in TITLES),
]
NAMELESS = {"person:mann": "", "person:a": "", "person:b": "", "person:c": ""}
GENRES = {"genre:crime": "Crime", "genre:animation": "Animation", "language:en": "English"}


@pytest.fixture(scope="module")
def films() -> GraphArrays:
    return graph_of(TITLES, NAMELESS | GENRES, FACTS)


def rows(graph: GraphArrays, *keys: str) -> np.ndarray:
    return np.array([graph.row_of(f"content:{key}") for key in keys], np.int64)


def test_nameless_people_are_counted_and_one_sentence_holds_them_all(films):
    best, second = GraphPaths(films).between(rows(films, "ronin", "insider", "up"), rows(films, "heat")[0])
    assert best.text == "shares two actors and the director with *The Insider*"
    assert second.text == "shares an actor and the genre Crime with *Ronin*"


def test_surprise_is_what_few_contents_have(films):
    (path,) = GraphPaths(films).between(rows(films, "ronin"), rows(films, "heat")[0])
    # of six contents two have the actor, two the genre, all the language
    assert path.surprise == pytest.approx(math.log(6 / 2) + math.log(6 / 2) + math.log(6 / 6))
    assert path.facts == {"ACTED_IN", "BELONGS_TO", "SPOKEN_IN"}


def test_what_everything_has_connects_nothing(films):
    assert GraphPaths(films).between(rows(films, "up"), rows(films, "heat")[0]) == []


def test_only_the_facts_asked_for(films):
    paths = GraphPaths(films)
    (path,) = paths.between(rows(films, "insider", "up"), rows(films, "heat")[0], facts=("DIRECTED",))
    assert path.text == "shares the director with *The Insider*" and path.facts == {"DIRECTED"}
    assert paths.between(rows(films, "insider"), rows(films, "heat")[0], facts=()) == []


def test_nothing_connects_a_content_with_itself_or_with_nothing(films):
    paths, heat = GraphPaths(films), rows(films, "heat")[0]
    assert paths.between(rows(films, "heat"), heat) == []
    assert paths.between(np.empty(0, np.int64), heat) == []
    assert paths.between(rows(films, "insider"), heat, n=0) == []


def test_names_are_named_and_the_rest_is_counted():
    people = {"person:a": "Al Pacino", "person:b": "Robert De Niro", "person:c": "", "person:d": ""}
    facts = [("ACTED_IN", key, id) for key in ("heat", "ronin") for id in people]
    graph = graph_of({"heat": "Heat", "ronin": "Ronin", "up": "Up"}, people, facts)
    (path,) = GraphPaths(graph).between(rows(graph, "ronin"), rows(graph, "heat")[0])
    assert path.text == "shares the actors Al Pacino, Robert De Niro and two more with *Ronin*"


def test_a_person_with_different_parts():
    facts = [("DIRECTED", "new", "person:c"), ("ACTED_IN", "old", "person:c")]
    for name, said in (("Clint Eastwood", "the director Clint Eastwood"), ("", "the director")):
        graph = graph_of({"new": "New", "old": "Old", "up": "Up"}, {"person:c": name}, facts)
        (path,) = GraphPaths(graph).between(rows(graph, "old"), rows(graph, "new")[0])
        assert path.text == f"has {said}, who acted in *Old*"
        assert path.facts == {"DIRECTED", "ACTED_IN"}
        assert GraphPaths(graph).between(rows(graph, "old"), rows(graph, "new")[0], facts=("DIRECTED",)) == []


def test_who_directed_and_wrote_both_is_told_and_counted_once():
    facts = [(type, key, "person:c") for key in ("one", "two") for type in ("DIRECTED", "WROTE")]
    graph = graph_of({"one": "One", "two": "Two", "up": "Up"}, {"person:c": ""}, facts)
    (path,) = GraphPaths(graph).between(rows(graph, "two"), rows(graph, "one")[0])
    assert path.text == "shares the director with *Two*"
    assert path.surprise == pytest.approx(math.log(3 / 2))


def test_a_sequel_is_a_sequel():
    contents = {"alien": "Alien", "aliens": "Aliens", "alien3": "Alien 3", "up": "Up"}
    facts = [("SEQUEL_OF", "aliens", "content:alien"), ("SEQUEL_OF", "alien3", "content:alien")]
    graph = graph_of(contents, {}, facts)
    paths = GraphPaths(graph)
    alien, aliens, alien3 = rows(graph, "alien", "aliens", "alien3")
    assert [path.text for path in paths.between([alien], aliens)] == ["is a sequel of *Alien*"]
    assert [path.text for path in paths.between([aliens], alien)] == ["is continued by *Aliens*"]
    assert [path.text for path in paths.between([aliens], alien3)] == [
        "shares the original *Alien* with *Aliens*"
    ]


def test_no_sentence_holds_an_id(films):
    paths = GraphPaths(films)
    everything = np.arange(films.size("Content"))
    told = [path.text for row in everything for path in paths.between(everything, row, n=10)]
    assert told and not any(":" in text for text in told)
    assert "shares the genre Animation with a title without a name" in told


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_paths_equal_a_walk_over_all_facts(seed):
    draw = np.random.default_rng(seed)
    kinds = ("ACTED_IN", "DIRECTED", "BELONGS_TO")
    contents = {f"c{place}": f"Title {place}" for place in range(7)}
    others = {f"person:p{place}": "" for place in range(5)} | {f"genre:g{place}": "" for place in range(2)}
    facts = set()
    for key in contents:
        for type in kinds:
            prefix = "genre:" if type == "BELONGS_TO" else "person:"
            choice = [id for id in others if id.startswith(prefix)]
            for id in draw.choice(choice, size=draw.integers(0, len(choice) + 1), replace=False):
                facts.add((type, key, str(id)))
    graph = graph_of(contents, others, sorted(facts))
    has = {row: {id for _, key, id in facts if graph.row_of(f"content:{key}") == row} for row in range(7)}
    history, target = draw.permutation(7)[:4], int(draw.integers(7))
    expected = {}
    for row in set(history.tolist()) - {target}:
        shared = has[row] & has[target]
        gained = sum(math.log(7 / sum(id in having for having in has.values())) for id in shared)
        if gained > 1e-9:
            expected[row] = gained
    found = {path.content_row: path.surprise for path in GraphPaths(graph).between(history, target, n=9)}
    assert found == pytest.approx(expected)


class Told(Recommender):
    """Ranks as the test says."""

    def __init__(self, draws_on: tuple[str, ...] = (), reasons: tuple[Reason, ...] = ()) -> None:
        super().__init__(None)
        self.facts = ModelFacts(True, False, draws_on)
        self._reasons = list(reasons)

    def reasons(self, users: Users, content_row: int, n: int = 3) -> list[Reason]:
        return self._reasons[:n]

    def fit(self, training): ...
    def score(self, users): ...
    def arrays(self): ...
    def restore(self, arrays, graph): ...


def user_of(graph: GraphArrays, *keys: str) -> Users:
    liked = np.zeros((1, graph.size("Content")), np.float32)
    liked[0, rows(graph, *keys)] = 1
    return Users(np.array([-1]), sp.csr_array(liked))


def test_reasons_of_the_model_are_the_because(films):
    ronin, insider, heat = rows(films, "ronin", "insider", "heat")
    model = Told(reasons=(Reason(ronin, 3.0, 0.75), Reason(insider, 1.0, 0.25)))
    told = explain(model, user_of(films, "ronin", "insider", "up"), heat, films)
    assert [(cause.title, cause.share) for cause in told.because] == [("Ronin", 0.75), ("The Insider", 0.25)]
    assert [connection.title for connection in told.connections] == ["The Insider", "Ronin"]
    assert told.sentences[:2] == (
        "because you liked *Ronin* and *The Insider*",
        "shares two actors and the director with *The Insider*",
    )
    assert set(told.connections[0].facts) == {"ACTED_IN", "DIRECTED", "SPOKEN_IN"}


def test_shares_are_of_all_reasons_also_those_not_shown(films):
    ronin, insider, heat = rows(films, "ronin", "insider", "heat")
    model = Told(reasons=(Reason(ronin, 3.0, 0.75), Reason(insider, 1.0, 0.25)))
    told = explain(model, user_of(films, "ronin", "insider"), heat, films, n=1)
    assert [cause.share for cause in told.because] == [0.75]


def test_a_model_that_reads_no_fact_has_connections_only(films):
    told = explain(Told(), user_of(films, "insider"), rows(films, "heat")[0], GraphPaths(films))
    assert told.because == () and len(told.connections) == 1


def test_a_path_is_a_because_only_through_facts_that_the_model_reads(films):
    heat, user = rows(films, "heat")[0], user_of(films, "insider")
    told = explain(Told(draws_on=("ACTED_IN",)), user, heat, films)
    assert [(cause.text, cause.share) for cause in told.because] == [
        ("shares two actors with *The Insider*", None)
    ]
    assert told.sentences == (
        "because it shares two actors with *The Insider*, which you liked",
        "shares the director with *The Insider*",
    )
    everything = explain(Told(draws_on=tuple({link.fact for link in LINKS})), user, heat, films)
    assert len(everything.because) == 1 and everything.connections == ()


def test_nothing_to_say_is_said_by_nothing(films):
    told = explain(Told(draws_on=("ACTED_IN",)), user_of(films), rows(films, "heat")[0], films)
    assert told.because == told.connections == told.sentences == ()


def test_links_fit_the_schema():
    for link in LINKS:
        fact = schema.FACTS[link.fact]
        assert fact.role(link.content_role).types == ("Content",)
        assert fact.role(link.node_role).most == fact.role(link.content_role).most == 1


def test_listed():
    assert [listed(parts) for parts in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
