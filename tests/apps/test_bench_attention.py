"""``mg bench attention``: honest cells, limits that are said, and a table out of a small world."""

import json
from types import SimpleNamespace

import pytest
import torch

from apps.bench import attention as bench
from apps.bench.attention import SpeedConfig, build, measure, pairs_for
from configs.home import Home
from experiments.mechanism_table import Table
from kg.arrays import from_records
from kg.worlds import WorldConfig, world
from models.attention import attentions

TINY = SpeedConfig(lengths=(16, 64), repetitions=1)


@pytest.fixture
def mg(mg_in, tmp_path):
    made = world(WorldConfig(users=40, contents=40, duplicate_share=0.0))
    from_records("world", made.nodes, made.hyperedges).publish(Home(tmp_path).arrays("world"))
    call = mg_in(tmp_path, "world")
    return lambda *words: call("bench", "attention", *words)


@pytest.mark.parametrize("name", list(attentions))
def test_every_mechanism_can_be_timed(name):
    layer = build(name, 8)
    features = torch.randn(1, 20, 8, requires_grad=True)
    answer = layer(features, features, None, pairs_for(layer, 20))
    assert answer.shape == (1, 20, 8) and bool(answer.isfinite().all())


def test_cells_are_kept_and_measured_anew_only_when_asked(tmp_path):
    said = []
    found = measure(TINY, tmp_path, ("multi_head", "mean"), say=said.append)
    assert [one.k for one in found["mean"]] == [16, 64] and len(said) == 4
    for cost in (*found["mean"], *found["multi_head"]):
        assert cost.train_s > 0 and cost.forward_s > 0 and cost.repetitions in (1, 10) and not cost.ended
    assert measure(TINY, tmp_path, ("multi_head", "mean"), say=said.append) == found and len(said) == 4
    measure(TINY, tmp_path, ("mean", "multi_head"), again=("mean",), say=said.append)
    assert said[4:] == ["speed, mean at 16", "speed, mean at 64"]


def test_what_does_not_fit_is_said_with_the_largest_length_that_does(tmp_path):
    # gat takes 46 MiB at 1,024 with its gradient, 16 times as much at 4,096
    config = SpeedConfig(lengths=(64, 1024, 4096), memory_bytes=160 * 2**20, repetitions=1)
    costs = {one.k: one for one in measure(config, tmp_path, ("gat",))["gat"]}
    assert costs[4096].ended == "memory" and costs[4096].stage == "forward" and costs[4096].forward_s is None
    assert not costs[1024].ended and sorted(costs) == [64, 1024, 2048, 4096]


def test_memory_is_that_of_the_cell(tmp_path):
    config = SpeedConfig(lengths=(64, 2048), repetitions=1)
    small, large = measure(config, tmp_path, ("gat",))["gat"]
    scores = 4 * 2048**2  # bytes of one (q, k) tensor
    assert scores <= large.forward_bytes <= large.train_bytes <= 40 * scores
    assert small.train_bytes < scores


def test_a_cell_that_takes_too_long_is_ended_and_one_that_fails_says_why(tmp_path, monkeypatch):
    late = SpeedConfig(lengths=(4096,), seconds=0.05, repetitions=1)
    (cost,) = measure(late, tmp_path, ("gat",))["gat"]
    assert cost.ended == "time" and cost.stage == "forward"

    def fail(name, dim):
        raise ValueError("a planted error\nof two lines")

    monkeypatch.setattr(bench, "build", fail)
    sent = SimpleNamespace(send=lambda cost: found.append(cost))
    found: list[bench.Cost] = []
    bench._cell("gat", 16, TINY, sent)
    assert [one.ended for one in found] == ["error: a planted error"]
    with pytest.raises(ValueError, match="1 or more"):
        SpeedConfig(lengths=())


def test_a_small_world_end_to_end(mg, tmp_path):
    words = ("--quick", "--workers", "0", "--mechanisms", "mean,multi_head,gat", "--out", tmp_path / "out")
    code, out, err = mg("--task", "history", *words)
    assert code == 0, err
    code, out, err = mg("--task", "speed", *words, "--json")
    assert code == 0, err
    table = Table.load(tmp_path / "out")
    assert (
        json.loads(out)["title"] == table.title
        and "quick: 1 seed" in table.title
        and "1 epoch," in table.title
    )
    assert [row.name for row in table.rows] == ["gat", "mean", "multi_head"]
    for row in table.rows:
        assert row.qualities["history"].value.users > 0 and row.largest_k == 1024
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "attention.json",
        "attention.csv",
        "report.md",
        "attention_history.svg",
        "attention_cost.svg",
    }
    report = (tmp_path / "out" / "report.md").read_text()
    assert "mg bench attention --task speed --quick" in report and table.graph_hash in report
    assert "made-up world" in report
    code, out, err = mg("--task", "policies", *words)
    assert code == 0, err
    told = " ".join(out.split())
    for word in ("best single", "learned", "uniform", "availability is left out", "published 1 could not be"):
        assert word in told
    assert (tmp_path / "out" / "policies.json").is_file()
    code, out, _ = mg("--task", "history", "--quick", "--workers", "0", "--after", "world")
    assert code != 0  # no whole table of that graph yet


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "speeds"], "task must be one of"),
        (["--task", "policies"], "run `mg bench attention`"),
        (["--task", "history", "--mechanisms", "multihead"], "multi_head"),
    ],
)
def test_wrong_use_is_said_in_a_sentence(mg, words, says):
    code, out, err = mg(*words)
    assert code != 0 and says in " ".join((out + err).split())
