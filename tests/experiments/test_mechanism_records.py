"""What is kept of a comparison of mechanisms: never chosen by test, joined whole, mixed with nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from configs.home import Home
from configs.registry import import_parts
from experiments import mechanisms
from experiments.mechanism_runs import ChosenRate, Records, SeedRun
from experiments.mechanism_table import FILE, FORMAT, Cost, Quality, Row, Table, TaskNote, merged
from experiments.mechanisms import StudyConfig, qualities, study, task_search
from experiments.result import ResultError
from experiments.significance import TestConfig, holm
from kg.records import Hyperedge
from kg.worlds import WorldConfig, world

TINY = ("workers=0", "base.model.width=8", "base.model.max_length=8", "base.train.epochs=2")
QUICK = TestConfig(resamples=1_000)


@pytest.fixture(scope="module")
def records():
    import_parts("models")
    return world(
        WorldConfig(users=60, contents=40, groups=4, ratings_per_user=15, duplicate_share=0.0, seed=1)
    ).records


@pytest.fixture(scope="module")
def config():
    told = task_search("history", TINY)
    told["space"] = {**told["space"], mechanisms.RATE: {"choice": [0.003, 0.03]}}
    return StudyConfig(told, ("mean", "rope"), seeds=(0,))


def planted_likes(graph, held_out, records):
    """The records, each held-out like moved to a content that its user never rated, at the same time."""
    ids = {type: graph.ids(type) for type in ("User", "Content")}
    pairs = {(ids["User"][u], ids["Content"][i]) for u, i in zip(held_out.row, held_out.col, strict=True)}
    rated = [one for one in records if isinstance(one, Hyperedge) and one.type == "RATED"]
    known = {(one.members["user"][0], one.members["content"][0]) for one in rated}
    rng, found = np.random.default_rng(0), []
    for one in records:
        if (
            isinstance(one, Hyperedge)
            and one.type == "RATED"
            and (user := one.members["user"][0], one.members["content"][0]) in pairs
        ):
            content = str(rng.choice([other for other in ids["Content"] if (user, other) not in known]))
            known.add((user, content))
            one = replace(one, members={**one.members, "content": (content,)})
        found.append(one)
    return found


def test_what_people_liked_in_the_test_chooses_nothing(toy, records, config, tmp_path):
    """Planted: after the cut likes go to contents drawn at random; only test values may change."""
    first = toy.arrays(records, "world")
    found = study("history", config, first, Home(tmp_path / "first"))
    _, cut, _ = mechanisms._opened("history", config, first, Home(tmp_path / "first"))
    moved = planted_likes(first, cut.test.held_out.tocoo(), records)
    second = toy.arrays(moved, "world")
    other = study("history", config, second, Home(tmp_path / "second"))
    assert second.hash != first.hash
    for name, one in found.chosen.items():
        assert (one.rate, one.epochs, one.tried) == (
            other.chosen[name].rate,
            other.chosen[name].epochs,
            other.chosen[name].tried,
        )
    values = [each.runs["mean"][0].metrics["ndcg@10"] for each in (found, other)]
    assert values[0] != values[1]


@pytest.fixture
def planted(toy, records, config, tmp_path, monkeypatch):
    """A graph, and a home with finished runs of three mechanisms whose values are drawn."""
    graph, home = toy.arrays(records, "world"), Home(tmp_path)
    _, _, kept = mechanisms._opened("history", config, graph, home)
    rng, users = np.random.default_rng(0), np.arange(200)
    for name, shift in (("gat", 0.2), ("mean", 0.0), ("multi_head", 0.02)):
        kept.keep_chosen(ChosenRate(name, rate=0.03, validation=shift, epochs=1), None)
        values = rng.random(200) + shift
        run = SeedRun(name, 0, {"ndcg@10": float(values.mean())}, fit_s=1.0, parameters=1)
        kept.keep_run(run, {"users": users, "ndcg@10": values})
    return graph, home


def test_a_mechanism_alone_is_weighed_with_all_that_are_there(planted, config):
    graph, home = planted
    found = study("history", replace(config, mechanisms=("gat",)), graph, home)
    told = qualities(found, test=QUICK)
    assert set(told) == {"gat", "mean", "multi_head"} and set(told["gat"].to) == {"mean", "multi_head"}
    tests = [one for name in told for one in told[name].to.values()]
    assert len(tests) == 4 and sorted(one.p for one in tests) == sorted(holm([one.paired.p for one in tests]))
    assert told["gat"].to["mean"].p < 0.01 < told["multi_head"].to["mean"].p


def table(rates=(0.003, 0.01), title="all", **rows):
    note = TaskNote("s", (0,), rates, {"name": "sasrec", "widths": [1, 2]}, {"epochs": 2}, 10)
    made = tuple(Row(name, "core", "mechanism", *parts) for name, parts in sorted(rows.items()))
    tasks = {task: note for parts in rows.values() for task in parts[0]}
    return Table(title, "world", "h", "ndcg@10", tasks, made, "mg", "abc", {}, "2025")


def test_tables_are_joined_where_they_were_made_alike(tmp_path):
    one, other, cost = Quality(rate=0.003), Quality(rate=0.01), (Cost(256, 1.0, 2.0, 3, 4, 3),)
    old = table(gat=({"history": one}, cost), gin=({"history": one},), mean=({}, cost))
    old = Table.load(old.save(tmp_path))
    found = merged(table(gat=({"history": other},)), old)
    assert found.row("gat").qualities == {"history": other} and found.row("gat").costs == cost
    assert found.row("gin").qualities == {"history": one} and found.row("mean").costs == cost
    found = merged(table(rates=(0.1,), gat=({"history": other},)), old)  # other rates were tried since
    assert [row.name for row in found.rows] == ["gat", "mean"] and found.row("gat").costs == cost
    found = merged(table(gat=({"neighbourhood": other},)), old)
    assert found.row("gat").qualities == {"history": one, "neighbourhood": other}
    assert set(found.tasks) == {"history", "neighbourhood"}
    assert merged(old, None) == old


def test_another_format_and_a_spoilt_file_are_refused(tmp_path):
    path = table(gat=({},)).save(tmp_path)
    whole = path.read_text()
    assert path.name == FILE
    for text in (whole.replace(f'"format": {FORMAT}', '"format": 0'), whole[: len(whole) // 2], "[]", ""):
        path.write_text(text)
        with pytest.raises(ResultError, match="cannot be read .*run `mg bench attention`"):
            Table.load(tmp_path)
    with pytest.raises(ResultError, match="choose another with --out"):
        table(gat=({},)).save(path)


def test_a_record_says_what_it_needs(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="free space and run it again"):
        Records(tmp_path / "file").keep_chosen(ChosenRate("gat"), None)
