"""Trust written into the graph: what it says, once, and what an import leaves of it."""

from kg import queries
from kg.arrays import export
from kg.ingest import ingest
from kg.rights import trust_table
from kg.sources.world import WorldSource
from kg.store.memory import MemoryStore
from kg.trust import latest
from kg.verified import verify
from kg.worlds import WorldConfig

CONFIG = WorldConfig(users=8, contents=20, groups=2, ratings_per_user=6)


def told() -> MemoryStore:
    store = MemoryStore()
    store.write(WorldSource(CONFIG).records())
    return store


def test_the_graph_says_what_the_table_counts():
    store = told()
    graph = export(store, "g")
    table, at = trust_table(graph, latest(graph)), latest(graph)
    report = verify(store, "g")
    assert (report.nodes_written, report.unchanged) == (graph.size("Content"), 0)
    after = export(store, "g")
    assert after.hash != graph.hash
    for row in range(graph.size("Content")):
        known = after.node("Content", row).properties
        assert known["trust"] == round(float(table.values()[row]), 6)
        assert known["completeness"] == round(float(table.metadata[row]), 6)
        assert known.get("last_verified_ts", at) <= at


def test_twice_is_once():
    store = told()
    first = verify(store, "g")
    assert verify(store, "g").unchanged == first.nodes_written


def test_questions_find_what_was_verified():
    store = told()
    assert queries.trusted(store, 2**34) == [] == queries.hidden_gems(store, 2**34, least_ratings=1)
    verify(store, "g")
    for one in queries.trusted(store, 2**34):
        assert one.trust > 0.8 and one.completeness > 0.9
    assert {gem.rating >= 7.5 and gem.trust > 0.7 for gem in queries.hidden_gems(store, 2**34)} <= {True}


def test_an_import_keeps_what_was_verified(tmp_path):
    store = MemoryStore()
    ingest((WorldSource(CONFIG),), store, tmp_path)
    verify(store, "g")
    before = export(store, "g").hash
    assert ingest((WorldSource(CONFIG),), store, tmp_path).written == 0
    assert export(store, "g").hash == before
