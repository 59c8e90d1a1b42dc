"""Two samplers on one graph: the same neighbours where all are taken, the same chances where some are."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.neighbourhood import EVERY, DGLSampler, Edges, TorchSampler, whole

SAMPLERS = (DGLSampler, TorchSampler)


def random_edges(nodes: int = 30, count: int = 200, relations: int = 4, seed: int = 0) -> Edges:
    """Every other edge has a time; some have the same."""
    draw = torch.Generator().manual_seed(seed)
    source, target = torch.randint(nodes, (2, count), generator=draw)
    relation = torch.randint(relations, (count,), generator=draw)
    start_ts = torch.randint(1, 50, (count,), generator=draw) * (torch.arange(count) % 2)
    return Edges(source, target, relation, nodes, relations, start_ts)


def neighbours_of(block) -> list[Counter]:
    """For each target, how often each (node, relation) is its neighbour."""
    node = block.source[block.neighbours]
    return [
        Counter(zip(node[row][mask].tolist(), block.relation[row][mask].tolist(), strict=True))
        for row, mask in enumerate(block.key_mask)
    ]


def oracle(edges: Edges, targets, hidden=()) -> list[Counter]:
    triples = zip(edges.source.tolist(), edges.target.tolist(), edges.relation.tolist(), strict=True)
    known = [edge for place, edge in enumerate(triples) if place not in set(hidden)]
    return [Counter((s, r) for s, t, r in known if t == target) for target in targets.tolist()]


@pytest.mark.parametrize("make", SAMPLERS)
def test_every_neighbour_is_what_the_edges_say(make):
    edges, targets = random_edges(), torch.tensor([7, 3, 29, 0])
    blocks = make(edges).sample(targets, (EVERY, EVERY))
    assert [len(blocks), blocks[1].targets.tolist()] == [2, targets.tolist()]
    assert blocks[0].targets.tolist() == blocks[1].source.tolist()
    for block in blocks:
        assert neighbours_of(block) == oracle(edges, block.targets)
        assert len(block.source.unique()) == len(block.source)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), fan_out=st.integers(1, 6))
def test_samplers_agree_on_shape_and_draw_from_the_true_neighbours(seed, count, fan_out):
    edges, targets = random_edges(12, count, seed=seed), torch.randperm(12)[:5]
    hidden = torch.arange(0, count, 3)
    for make in SAMPLERS:
        (block,) = make(edges).sample(targets, (fan_out,), hidden)
        for found, true in zip(neighbours_of(block), oracle(edges, targets, hidden.tolist()), strict=True):
            assert found <= true, "drawn without replacement from edges that are not hidden"
            assert found.total() == min(fan_out, true.total())


def in_order(block) -> list[list[int]]:
    """The edges of each target as they stand; fails where one stands before the padding."""
    assert not (block.key_mask[:, :-1] & ~block.key_mask[:, 1:]).any(), "padding stands before the first"
    return [row[mask].tolist() for row, mask in zip(block.edge, block.key_mask, strict=True)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), fan_out=st.sampled_from([EVERY, 1, 3, 7]))
def test_neighbours_stand_oldest_first_behind_the_padding(seed, count, fan_out):
    edges, targets = random_edges(12, count, seed=seed), torch.randperm(12)[:5]
    blocks = [make(edges).sample(targets, (fan_out,))[0] for make in SAMPLERS]
    for block in (*blocks, *whole(edges, targets, entries=20)):
        for place, row in enumerate(in_order(block)):
            times = [edges.start_ts[edge].item() or 10**9 for edge in row]
            assert times == sorted(times), "those that always hold stand last"
            assert edges.target[row].tolist() == [block.targets[place].item()] * len(row)
        used = block.edge[block.key_mask]
        assert torch.equal(block.source[block.neighbours[block.key_mask]], edges.source[used])
        assert torch.equal(block.relation[block.key_mask], edges.relation[used])


def test_samplers_and_whole_put_the_same_neighbours_in_the_same_order():
    edges, targets = random_edges(), torch.arange(30)
    blocks = [make(edges).sample(targets, (EVERY,))[0] for make in SAMPLERS]
    found = {
        t: row
        for b in whole(edges, targets, 40)
        for t, row in zip(b.targets.tolist(), in_order(b), strict=True)
    }
    assert in_order(blocks[0]) == in_order(blocks[1]) == [found[target] for target in range(30)]


def test_equal_ages_are_ordered_by_the_seed_alone():
    parts = torch.arange(1, 41), torch.zeros(40, dtype=torch.int64), torch.zeros(40, dtype=torch.int64)
    rows = [
        in_order(TorchSampler(Edges(*parts, 41, 1, seed=seed), draw).sample(torch.tensor([0]), (EVERY,))[0])
        for seed, draw in ((3, 0), (3, 1), (4, 0))
    ]
    assert rows[0] == rows[1] != rows[2] and rows[0] != [list(range(40))]


def test_age_counts_back_from_the_latest_fact():
    zero = torch.zeros(3, dtype=torch.int64)
    edges = Edges(zero, zero, zero, 1, 1, torch.tensor([100, 0, 86_500]))
    assert edges.age_s.tolist() == [86_400.0, 0.0, 0.0] and edges.is_timed.tolist() == [True, False, True]
    always = Edges(zero, zero, zero, 1, 1)
    assert not always.age_s.any() and not always.is_timed.any()


@pytest.mark.parametrize("make", SAMPLERS)
def test_each_edge_is_as_likely_as_any_other(make):
    # 9 edges into node 0, of which 3 hidden: each of 6 is drawn with chance 2 / 6; relations share by degree
    relation = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    edges = Edges(torch.arange(1, 10), torch.zeros(9, dtype=torch.int64), relation, 10, 3)
    sampler, hidden, times = make(edges), torch.tensor([0, 6, 7]), 3000
    sampler.seed(5)
    found: Counter = Counter()
    for _ in range(times):
        found += neighbours_of(sampler.sample(torch.tensor([0]), (2,), hidden)[0])[0]
    assert found.keys() == {(2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (9, 2)}
    spread = (times * 1 / 3 * 2 / 3) ** 0.5
    assert all(abs(count - times / 3) < 5 * spread for count in found.values())


@pytest.mark.parametrize("make", SAMPLERS)
def test_hidden_edges_are_in_no_layer_and_come_back(make):
    edges, targets = random_edges(), torch.arange(10)
    sampler, hidden = make(edges), torch.arange(0, 200, 2)
    for block in sampler.sample(targets, (EVERY, EVERY, EVERY), hidden):
        assert neighbours_of(block) == oracle(edges, block.targets, hidden.tolist())
    assert neighbours_of(sampler.sample(targets, (EVERY,))[0]) == oracle(edges, targets)


@pytest.mark.parametrize("make", SAMPLERS)
def test_same_seed_draws_the_same_on_any_number_of_threads(make):
    sampler, drawn, before = make(random_edges(3000, 60_000)), [], torch.get_num_threads()
    try:
        for seed, threads in ((3, 1), (3, 2), (3, 1), (4, 2)):
            torch.set_num_threads(threads)
            sampler.seed(seed)
            drawn.append([block.source.tolist() for block in sampler.sample(torch.arange(2000), (4, 3, 2))])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert drawn[0] == drawn[1] == drawn[2] != drawn[3]


def test_whole_covers_every_target_once_with_all_neighbours():
    edges = random_edges()
    blocks = list(whole(edges, torch.arange(30), entries=40))
    assert len(blocks) > 1
    assert sorted(torch.cat([block.targets for block in blocks]).tolist()) == list(range(30))
    for block in blocks:
        assert block.key_mask.numel() <= 40 or len(block.targets) == 1
        assert neighbours_of(block) == oracle(edges, block.targets)


def test_distinct_pairs_rebuild_the_block():
    (block,) = TorchSampler(random_edges()).sample(torch.arange(30), (EVERY,))
    place, relation, row = block.distinct(4)
    assert relation.tolist() == sorted(relation.tolist())
    assert len({*zip(place.tolist(), relation.tolist(), strict=True)}) == len(place)
    assert torch.equal(place[row], block.neighbours) and torch.equal(relation[row], block.relation)


def test_bad_edges_and_fan_outs_are_refused():
    with pytest.raises(ValueError, match=r"source must lie in 0\.\.2"):
        Edges(torch.tensor([3]), torch.tensor([0]), torch.tensor([0]), 3, 1)
    with pytest.raises(ValueError, match="start_ts must be"):
        Edges(*torch.zeros(3, 2, dtype=torch.int64), 1, 1, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="must be"):
        Edges(torch.tensor([1, 2]), torch.tensor([0]), torch.tensor([0]), 3, 1)
    with pytest.raises(ValueError, match="fan_out"):
        TorchSampler(random_edges()).sample(torch.tensor([0]), (0,))
