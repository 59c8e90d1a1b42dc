"""Every kind of leak, planted on purpose, fails the run."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp

from configs.registry import import_parts
from experiments.audit import LeakageError, audit, fingerprint, plant
from experiments.evaluation import rank
from experiments.splits import SplitConfig, known_contents, split, splits
from models.interface import recommenders

CONFIG = SplitConfig(positive_rating=6)


def leaky(cut, **changes):
    """The split with its test part's training changed."""
    return replace(cut, test=replace(cut.test, training=replace(cut.full, **changes)))


@pytest.mark.parametrize("name", list(splits))
def test_every_split_is_clean(busy, name):
    config = replace(CONFIG, name=name)
    checks = audit(split(busy, config), busy).checks
    assert len(checks) == 13 and all(check.looked_at for check in checks)


def test_held_out_pair_among_training_positives(busy):
    cut = split(busy, CONFIG)
    user, content = (int(side[0]) for side in cut.test.held_out.nonzero())
    more = sp.csr_array(([np.float32(1)], ([user], [content])), shape=cut.full.positives.shape)
    with pytest.raises(LeakageError, match=f"no test pair may be a training positive, 1 .*user row {user}"):
        audit(leaky(cut, positives=sp.csr_array(cut.full.positives + more)), busy)


def test_held_out_pair_in_validation(busy):
    cut = split(busy, CONFIG)
    wrong = replace(cut.validation, training=cut.full)
    with pytest.raises(LeakageError, match="no validation pair may be a training positive"):
        audit(replace(cut, validation=wrong), busy)


@pytest.mark.parametrize("type", ["RATED", "TAGGED", "VIEWED", "WATCHLISTED", "DISMISSED"])
def test_held_out_pair_among_facts(toy, type):
    # the fact is of day 1, long before the cut: only its pair gives it away
    rows = [(0, day, 9, day) for day in range(1, 11)]
    properties = {"rating": 2.0} if type == "RATED" else {}
    graph = toy.graph(rows, more=[toy.fact(type, 0, 10, 86_400, **properties)])
    cut = split(graph, SplitConfig())
    assert audit(cut, graph).checks
    early = graph.keep({"RATED": graph.starts("RATED") <= 8 * 86_400})
    with pytest.raises(LeakageError, match=f"no fact .* may tell of a test pair, 1 of {type}"):
        audit(leaky(cut, graph=early), graph)


@pytest.mark.parametrize("type", ["RATED", "TAGGED", "VIEWED", "WATCHLISTED", "DISMISSED", "FOLLOWS"])
def test_later_fact(busy, type):
    cut = split(busy, CONFIG)
    users = busy.incidence(type, "user")[1]
    late = np.flatnonzero(busy.starts(type) > cut.test.until[users])
    if type != "FOLLOWS":
        pairs = users[late] * 60 + busy.incidence(type, "content")[1][late]
        held = cut.test.held_out.nonzero()
        late = late[~np.isin(pairs, held[0] * 60 + held[1])]
    masks = {name: np.isin(_ids(busy, name), _ids(cut.full.graph, name)) for name in busy.facts}
    masks[type][late[0]] = True
    with pytest.raises(LeakageError, match=f"may be later than its cut, 1 of {type} are for test"):
        audit(leaky(cut, graph=busy.keep(masks)), busy)


def _ids(graph, type):
    return np.array(graph.facts[type]["id"].to_pylist())


def test_later_fact_that_nobody_did(toy):
    rows = [(day % 3, day, 9, day) for day in range(1, 11)]
    graph = toy.graph(rows)
    cut = split(graph, SplitConfig("temporal"))
    table = cut.full.graph.facts["RATED"]
    starts = pa.array([20 * 86_400] * table.num_rows)
    offers = table.set_column(table.column_names.index("start_ts"), "start_ts", starts)
    graph_then = replace(cut.full.graph, facts={**cut.full.graph.facts, "BELONGS_TO": offers})
    with pytest.raises(LeakageError, match="8 of BELONGS_TO are for test"):
        audit(leaky(cut, graph=graph_then), graph)


def test_later_count(toy):
    rows = [(day % 3, day, 9, day) for day in range(1, 11)]
    rated = [toy.fact("RATED", user, content, day * 86_400, rating=9.0) for user, content, _, day in rows]
    graph = toy.arrays([*toy.nodes(4, 30, vote_count=5, observed_ts=9 * 86_400), *rated])
    cut = split(graph, SplitConfig("temporal"))
    assert audit(cut, graph).checks
    counted = replace(cut.full.graph, nodes=graph.nodes)
    with pytest.raises(LeakageError, match="vote_count of Content may not be counted after 691200, 30 are"):
        audit(leaky(cut, graph=counted), graph)


@pytest.mark.parametrize(
    ("name", "what"), [("unseen_users", "unseen user"), ("cold_contents", "cold content")]
)
def test_a_trace_of_what_training_must_not_have_met(busy, name, what):
    cut = split(busy, replace(CONFIG, name=name))
    assert audit(cut, busy).checks
    masks = {type: np.isin(_ids(busy, type), _ids(cut.full.graph, type)) for type in busy.facts}
    rows = busy.incidence("VIEWED", what.split()[1])[1]
    hidden = cut.test.unseen if what == "unseen user" else cut.test.cold
    held = {(user, content) for user, content in zip(*cut.test.held_out.nonzero(), strict=True)}
    pairs = zip(busy.incidence("VIEWED", "user")[1], busy.incidence("VIEWED", "content")[1], strict=True)
    other = np.array([pair not in held for pair in pairs])
    in_time = busy.starts("VIEWED") <= cut.test.until[busy.incidence("VIEWED", "user")[1]]
    masks["VIEWED"][np.flatnonzero(hidden[rows] & other & in_time)[0]] = True
    with pytest.raises(LeakageError, match=f"training may know nothing of an? {what}, 1 facts of VIEWED"):
        audit(leaky(cut, graph=busy.keep(masks)), busy)
    likes = cut.full.positives.tolil()
    if what == "unseen user":
        user = cut.test.users[0]
        likes[user, cut.test.history[[user]].indices[0]] = 1
    else:
        content = cut.test.held_out.indices[0]
        likes[next(user for user in range(40) if (user, content) not in held), content] = 1
    with pytest.raises(LeakageError, match=f"nothing of an? {what}, 1 training positives of test"):
        audit(leaky(cut, positives=sp.csr_array(likes)), busy)


def test_candidates_that_tell_of_the_fold(busy):
    cut = split(busy, replace(CONFIG, name="cold_contents"))
    rankable = np.ones(60, bool)
    rankable[3] = False
    with pytest.raises(LeakageError, match="every content must be rankable where cold ones are asked for"):
        audit(leaky(cut, rankable=rankable), busy)


@pytest.mark.parametrize("name", list(splits))
def test_every_split_has_a_canary(busy, name):
    config = replace(CONFIG, name=name)
    cut = split(busy, config)
    planted = plant(cut, busy)
    assert planted is not None and planted.pairs("RATED")[1].tolist() != busy.pairs("RATED")[1].tolist()
    again = split(planted, config)
    assert again.hash != cut.hash
    assert fingerprint(again.full) == fingerprint(cut.full)
    assert fingerprint(again.fit) == fingerprint(cut.fit)


def test_unknown_content_may_not_be_ranked(toy):
    graph = toy.graph([(0, day, 9, day) for day in range(1, 11)])
    cut = split(graph, SplitConfig())
    with pytest.raises(LeakageError, match="only contents that training knows may be ranked, 2 more"):
        audit(leaky(cut, rankable=known_contents(graph)), graph)


def test_canary_finds_a_split_that_reads_test_data(busy):
    """Pairs, facts, times and rankable are all in order; only the weights were counted on the whole graph."""

    def peeking(graph, config):
        cut = split(graph, config)
        counts = np.bincount(graph.pairs("RATED")[1], minlength=graph.size("Content"))
        positives = cut.full.positives.copy()
        positives.data = 1 + counts[positives.indices].astype(np.float32)
        return leaky(cut, positives=positives)

    with pytest.raises(LeakageError, match="canary planted in test .* changed what test trains on"):
        audit(peeking(busy, CONFIG), busy, peeking)


def test_canary_is_a_like_that_only_test_knows(busy):
    cut = split(busy, CONFIG)
    planted = plant(cut, busy)
    assert planted is not None
    again = split(planted, CONFIG)
    assert fingerprint(again.full) == fingerprint(cut.full)
    assert fingerprint(again.fit) == fingerprint(cut.fit)
    assert abs(again.test.held_out - cut.test.held_out).sum() == 2
    assert again.hash != cut.hash


def test_no_canary_where_test_shares_its_second_with_training(toy):
    graph = toy.graph([(0, content, 9, 5) for content in range(10)])
    assert plant(split(graph, SplitConfig()), graph) is None
    assert "none could be planted" in audit(split(graph, SplitConfig()), graph).checks[-1].name


@pytest.mark.parametrize("name", ["popularity", "ease"])
def test_a_canary_is_not_learnable(busy, name):
    import_parts("models")
    cut = split(busy, CONFIG)
    lists = []
    for graph in (busy, plant(cut, busy)):
        full, model = split(graph, CONFIG).full, recommenders.build(name, {})
        model.fit(full)
        lists.append(rank(model, full, np.arange(40), 20))
    np.testing.assert_array_equal(*lists)
