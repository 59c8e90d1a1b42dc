"""Other facts keep what they promise to keep, and a planted gain of the graph is found."""

import json
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.home import Home
from configs.registry import SettingError, import_parts
from experiments.evaluation import Interval
from experiments.graph_gain import FILE, GraphGainConfig, VariantResult, graph_gain, varied_types, verdict
from experiments.graph_variants import VARIANTS, Side, changed_share, rewired, shuffled, side_of, varied
from experiments.result import ResultError, runs
from experiments.significance import Paired, TestConfig
from kg import schema
from kg.arrays import GraphArrays, from_records
from kg.worlds import WorldConfig, world
from models.interface import ModelFacts, Recommender, recommenders

ABOUT = tuple(type for type in schema.FACTS if type not in schema.USER_FACTS)


@pytest.fixture(scope="module")
def graph() -> GraphArrays:
    made = world(WorldConfig(users=220, contents=60, groups=4, duplicate_share=0.0, seed=1))
    return from_records("world", made.nodes, made.hyperedges)


@pytest.fixture(scope="module")
def types(graph) -> tuple[str, ...]:
    found = tuple(type for type in ABOUT if graph.fact_count(type))
    assert {"AVAILABLE", "BELONGS_TO", "ACTED_IN"} <= set(found)
    return found


def members(graph: GraphArrays, type: str) -> list[tuple]:
    """What each fact is about, content first."""
    side = side_of(graph, type)
    return list(zip(side.contents.tolist(), side.rest.tolist(), strict=True))


def degrees(graph: GraphArrays, type: str) -> dict[str, Counter]:
    return {
        role.name: Counter(graph.incidence(type, role.name)[1].tolist()) for role in schema.FACTS[type].roles
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_every_variant_keeps(graph, types, variant):
    core = np.arange(60) < 50
    other = varied(graph, variant, types, core, seed=3)
    assert other.nodes is graph.nodes or other.nodes == graph.nodes
    for type in graph.facts:
        if type in schema.USER_FACTS:
            assert other.facts[type].equals(graph.facts[type])  # likes are untouched
    assert (other.hash == graph.hash) == (variant == "true")
    again, next_seed = (varied(graph, variant, types, core, seed) for seed in (3, 4))
    assert again.hash == other.hash
    for type in types:
        assert again.facts[type].equals(other.facts[type])
    if variant in ("shuffled", "rewired"):
        assert next_seed.hash != other.hash


def test_none_has_none(graph, types):
    assert all(not varied(graph, "none", types, np.ones(60, bool), 0).fact_count(type) for type in types)


@pytest.mark.parametrize("variant", ["shuffled", "rewired"])
def test_counts_stay_and_facts_change(graph, types, variant):
    other = varied(graph, variant, types, np.ones(60, bool), seed=3)
    for type in types:
        assert other.fact_count(type) == graph.fact_count(type)
        role = side_of(graph, type).role
        for name, told in degrees(graph, type).items():
            if name != role:
                assert degrees(other, type)[name] == told
        bundles = [
            Counter(Counter(content for content, _ in members(one, type)).values()) for one in (graph, other)
        ]
        assert bundles[0] == bundles[1]  # as many contents with as many facts
    assert changed_share(graph, other, types) > 0.5
    assert changed_share(graph, graph, types) == 0


def test_rewired_keeps_the_degree_of_both_sides(graph, types):
    other = varied(graph, "rewired", types, np.ones(60, bool), seed=3)
    for type in types:
        assert degrees(other, type) == degrees(graph, type)


def test_shuffled_contents_trade_all_they_have_within_the_core(graph):
    core = np.arange(60) < 40
    other = varied(graph, "shuffled", ("ACTED_IN",), core, seed=5)
    before, after = dict.fromkeys(range(60)), {}
    for one, told in ((graph, before), (other, after)):
        casts: dict[int, list[int]] = {}
        for person, content in zip(*one.pairs("ACTED_IN"), strict=True):
            casts.setdefault(int(content), []).append(int(person))
        told.update({content: tuple(sorted(cast)) for content, cast in casts.items()})
    for group in (range(40), range(40, 60)):
        casts = [sorted(told.get(place) or () for place in group) for told in (before, after)]
        assert casts[0] == casts[1]
    assert other.facts["BELONGS_TO"].equals(graph.facts["BELONGS_TO"])


pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(pairs, st.integers(0, 99), st.booleans())
def test_rewiring_any_facts(told, seed, is_related):
    first, second = (np.array(part, np.int64) for part in (zip(*told, strict=True) if told else ((), ())))
    side = Side("content", first, second, second if is_related else None)
    core = np.arange(13) < 8
    found = rewired(side, core, np.random.default_rng(seed))
    np.testing.assert_array_equal(core[found], core[first])  # the core trades within itself
    assert sorted(found.tolist()) == sorted(first.tolist())
    twice = [
        sum(count - 1 for count in Counter(zip(one.tolist(), second.tolist(), strict=True)).values())
        for one in (first, found)
    ]
    assert twice[1] <= twice[0]  # nothing is said twice that was said once
    if is_related:
        assert np.count_nonzero(found == second) <= np.count_nonzero(first == second)


@settings(max_examples=30, deadline=None)
@given(pairs, st.integers(0, 99))
def test_shuffling_any_facts(told, seed):
    first, second = (np.array(part, np.int64) for part in (zip(*told, strict=True) if told else ((), ())))
    core = np.arange(13) < 8
    found = shuffled(Side("content", first, second, None), core, np.random.default_rng(seed))
    np.testing.assert_array_equal(core[found], core[first])
    assert len(set(zip(first.tolist(), found.tolist(), strict=True))) == len(set(first.tolist()))


def test_a_dense_type_is_mixed_well(graph):
    # genres: few and dense, most trades would say a thing twice; still most facts move
    side = side_of(graph, "BELONGS_TO")
    found = rewired(side, np.ones(60, bool), np.random.default_rng(0))
    assert np.mean(found != side.contents) > 0.6


@dataclass(frozen=True)
class ByGenreConfig:
    reads: bool = True


class ByGenre(Recommender):
    """Scores by the genres of the history and by nothing else: what it reaches, the graph gave."""

    facts = ModelFacts(scores_cold_user=True, scores_cold_content=True, draws_on=("BELONGS_TO",))

    def __init__(self, config):
        super().__init__(config)
        self.facts = ModelFacts(True, True, ("BELONGS_TO",) if config.reads else ())

    def fit(self, training):
        graph = training.graph
        content, genre = graph.pairs("BELONGS_TO")
        shape = graph.size("Content"), graph.size("Genre")
        has = sp.csr_array((np.ones(len(content)), (content, genre)), shape=shape).toarray()
        self.related = has @ has.T

    def score(self, users):
        return (users.history @ self.related).astype(np.float32)

    def arrays(self):
        return {"related": self.related}

    def restore(self, arrays, graph):
        self.related = arrays["related"]


@pytest.fixture
def by_genre(monkeypatch):
    import_parts("models")
    monkeypatch.setitem(recommenders._parts, "by_genre", (ByGenre, ByGenreConfig))


CONFIG = {
    "name": "genres",
    "model": {"name": "by_genre"},
    "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 200},
}


@pytest.fixture
def found(by_genre, graph, tmp_path):
    gain = GraphGainConfig(seeds=(0, 1), test=TestConfig(resamples=2000))
    return graph_gain(CONFIG, graph, Home(tmp_path), gain), Home(tmp_path)


def test_a_planted_gain_is_found_and_kept(found):
    gain, home = found
    assert [one.name for one in gain.variants] == list(VARIANTS)
    true = gain.variant("true")
    for name in VARIANTS[1:]:
        other = gain.variant(name)
        assert other.p < 0.01 and other.gain.difference == pytest.approx(true.value.value - other.value.value)
        assert len(other.seed_values) == 2
    assert gain.verdict.startswith("The graph adds to by_genre")
    assert gain.variant("none").changed_share == 1 and true.changed_share == 0
    told = json.loads((home.runs("world") / gain.gain_id / FILE).read_text())
    assert told["verdict"] == gain.verdict and told["seeds"] == [0, 1] and "RATED" not in told["types"]
    assert told["variants"][1]["gain"]["p"] == gain.variant("none").gain.p
    with np.load(home.runs("world") / gain.gain_id / "per_user.npz") as kept:
        assert kept["true"].mean() == pytest.approx(true.value.value)
    assert not list(runs(home.runs("world")))  # it is no run, and no run is spoilt by it


def test_each_variant_chooses_for_itself_where_asked(by_genre, graph, tmp_path):
    said = []
    gain = GraphGainConfig(seeds=(0,), is_retuned=True, test=TestConfig(resamples=1000))
    found = graph_gain(CONFIG, graph, Home(tmp_path), gain, said.append)
    assert sum(told.startswith("choose settings") for told in said) == len(VARIANTS)
    assert found.variant("none").validation < found.variant("true").validation


def test_a_model_that_reads_no_facts_is_refused(by_genre, graph, tmp_path):
    config = CONFIG | {"model": {"name": "by_genre", "reads": False}}
    with pytest.raises(SettingError, match="no graph can add to it"):
        graph_gain(config, graph, Home(tmp_path))
    with pytest.raises(SettingError, match="each once"):
        GraphGainConfig(seeds=(1, 1))


def test_what_people_did_changes_only_where_the_model_reads_it(by_genre, graph, monkeypatch):
    assert set(varied_types({"name": "by_genre"}, graph)).isdisjoint(schema.USER_FACTS)
    reads = ModelFacts(True, True, ("RATED", "FOLLOWS", "BELONGS_TO"))
    monkeypatch.setattr(ByGenre, "__init__", lambda self, config: setattr(self, "facts", reads))
    assert set(varied_types({"name": "by_genre"}, graph)).isdisjoint({"RATED", "FOLLOWS"})
    with pytest.raises(ValueError, match="FOLLOWS is not"):
        side_of(graph, "FOLLOWS")


def test_nothing_is_left_where_it_cannot_be_written(by_genre, graph, tmp_path):
    (tmp_path / "graphs").write_text("a file")
    with pytest.raises(ResultError, match="free space"):
        graph_gain(
            CONFIG, graph, Home(tmp_path), GraphGainConfig(seeds=(0,), test=TestConfig(resamples=1000))
        )


def rows(**told: tuple[float, float]) -> tuple[VariantResult, ...]:
    """Variants with a difference of the true facts and a corrected p."""

    def one(name: str, gain: Paired | None, p: float | None) -> VariantResult:
        return VariantResult(
            name, Interval(0.1, 0.09, 0.11, 300), (0.1,), 0.0, 0.0, {}, None, 0.1, 1, gain, p
        )

    others = [
        one(name, Paired(gap, gap - 0.01, gap + 0.01, p, 0.1, 0.02, 300), p)
        for name, (gap, p) in told.items()
    ]
    return (one("true", None, None), *others)


@pytest.mark.parametrize(
    ("none", "shuffled", "rewired", "warm", "said"),
    [
        (
            (0.03, 0.001),
            (0.03, 0.001),
            (0.03, 0.001),
            300,
            "The graph adds to m: .* wrong facts are worse too",
        ),
        ((0.03, 0.001), (0.03, 0.001), (0.01, 0.2), 300, "not shown to be better than rewired ones"),
        (
            (0.0, 0.8),
            (0.03, 0.001),
            (0.01, 0.2),
            300,
            "not shown to add .* True facts are better than shuffled",
        ),
        ((-0.03, 0.001), (0.0, 1.0), (0.0, 1.0), 300, "takes away"),
        ((0.03, 0.001), (0.03, 0.001), (0.03, 0.001), 20, "Nothing is said"),
    ],
)
def test_the_verdict_says_no_more_than_the_numbers(none, shuffled, rewired, warm, said):
    found = verdict("m", "ndcg@10", rows(none=none, shuffled=shuffled, rewired=rewired), warm, TestConfig())
    assert re.search(said, found)
