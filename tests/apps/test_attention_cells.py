"""What ends a cell of ``mg bench attention`` is its result; what breaks the bench off costs nothing twice."""

import json
import os
import signal

import psutil
import pytest
import torch

from apps.bench import attention as bench
from apps.bench.attention import SpeedConfig, build, measure, pairs_for
from apps.commands import attention as command
from configs.home import Home
from configs.registry import UnknownName, import_parts
from experiments import mechanisms
from experiments.mechanism_runs import Records
from experiments.mechanism_table import Cost, Table
from kg.arrays import from_records
from kg.worlds import WorldConfig, world
from models.attention import Attention, AttentionConfig, attentions

import_parts("models")
DIM = 8


@pytest.fixture(autouse=True)
def one_thread():
    """As the bench measures; threads cost more than they bring on tensors this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", list(attentions))
def test_all_that_a_mechanism_states_is_handed_in_and_its_gradient_is_finite(name):
    layer, features = build(name, DIM), torch.randn(1, 16, DIM, requires_grad=True)
    pairs = pairs_for(layer, 16)
    layer.check(features, features, None, pairs)
    layer(features, features, None, pairs).sum().backward()
    assert features.grad.isfinite().all() and not layer.training


def test_only_what_a_mechanism_states_is_handed_in():
    """So that none is slowed down by what it does not read, nor helped by it."""
    plain = vars(pairs_for(build("multi_head", DIM), 16))
    assert {name for name, value in plain.items() if isinstance(value, torch.Tensor)} == {"key_mask"}
    by_degree = pairs_for(build("gcn", DIM), 16)
    assert by_degree.query_degree.min() >= 1 and by_degree.age_s is None


@pytest.fixture
def planted():
    """Registers a mechanism that does in its forward pass what it is told; gone afterwards."""
    names = []

    def plant(does):
        @attentions.register("planted", AttentionConfig)
        class Planted(Attention):
            family, nature = "extra", "mechanism"

            def forward(self, query, source, neighbours, pairs):
                if query.shape[1] > bench.WARM_UP:
                    does()
                return query * 1.0

        names.append("planted")
        return "planted"

    yield plant
    for name in names:
        del attentions._parts[name]


def forever():
    while True:
        pass


def unknown_key():
    return {}["planted"]


@pytest.mark.parametrize(
    ("does", "ended"),
    [
        (forever, "time"),
        (unknown_key, "error: 'planted'"),
        (
            lambda: os.kill(os.getpid(), signal.SIGKILL),
            "memory",
        ),  # as the system does where there is none left
        (lambda: os._exit(3), "error: exit code 3"),
        (lambda: torch.ones(2**26), "memory"),
    ],
    ids=["time", "error", "killed", "gone", "memory"],
)
def test_a_cell_says_what_ended_it(planted, does, ended):
    config = SpeedConfig(lengths=(64,), dim=DIM, seconds=1.0, memory_bytes=2**26)
    cost = bench._in_a_process(planted(does), 64, config)
    assert cost == Cost(64, ended=ended, stage="forward")


def test_a_gradient_that_does_not_fit_leaves_the_forward_pass(planted):
    def only_without_gradient():
        if torch.is_grad_enabled():
            raise MemoryError

    cost = bench._in_a_process(planted(only_without_gradient), 64, SpeedConfig((64,), DIM))
    assert (cost.ended, cost.stage, cost.train_s) == ("memory", "train", None)
    assert cost.forward_s > 0 and cost.repetitions == 30


def test_what_a_pass_takes_is_what_it_is_told_to_have_taken(planted):
    """2,048 × 2,048 float32 are 16 MiB, all of them written to."""
    name = planted(lambda: torch.ones(2048, 2048).sum())
    # one born of a large process may have more pages behind it than it still holds, or read some again
    costs = [bench._in_a_process(name, 64, SpeedConfig((64,), DIM)) for _ in range(3)]
    assert all(not cost.ended and not cost.stage and cost.train_s and cost.forward_s for cost in costs)
    assert any(0.9 * 2**24 < cost.forward_bytes <= cost.train_bytes < 1.5 * 2**24 for cost in costs)
    assert bench._in_a_process(name, 64, SpeedConfig((64,), DIM, memory_bytes=2**23)).ended == "memory"


class Known:
    """Cells whose costs are known: nothing above 1,500 fits."""

    asked: list[tuple[str, int]]
    ends_at: int | None

    def __init__(self, config):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def cell(self, name, k):
        if len(self.asked) == self.ends_at:
            raise KeyboardInterrupt
        self.asked.append((name, k))
        return Cost(k, 1.0, 2.0, 3, 4, 3) if k <= 1500 else Cost(k, 1.0, ended="time", stage="train")


@pytest.fixture
def known(monkeypatch):
    Known.asked, Known.ends_at = [], None
    monkeypatch.setattr(bench, "_Cells", Known)
    return Known


@pytest.mark.parametrize(
    ("lengths", "there"),
    [((256, 2048, 8192), "256 1024 2048! 8192!"), ((256, 512), "256 512"), ((2048, 4096), "2048! 4096!")],
)
def test_half_of_the_first_length_that_does_not_fit_is_tried(known, tmp_path, lengths, there):
    found = measure(SpeedConfig(lengths), tmp_path, ("gat",))["gat"]
    assert " ".join(f"{one.k}{'!' if one.ended else ''}" for one in found) == there


def test_lengths_go_on_where_they_were_broken_off(known, tmp_path):
    config, names = SpeedConfig(lengths=(256, 512)), ("gat", "mean")
    whole = measure(config, tmp_path / "whole", names)
    known.asked.clear()
    known.ends_at = 3
    with pytest.raises(KeyboardInterrupt):
        measure(config, tmp_path, names)
    known.ends_at = None
    assert measure(config, tmp_path, names) == whole
    assert known.asked == [("gat", 256), ("gat", 512), ("mean", 256), ("mean", 512)]
    with pytest.raises(UnknownName, match="nearest: .*multi_head"):
        measure(config, tmp_path, ("multihead",))


def test_who_is_interrupted_leaves_no_process_behind():
    """Also where a cell is under way: the first process ends the second, and that one its cell."""
    with pytest.raises(KeyboardInterrupt):
        with bench._Cells(SpeedConfig(lengths=(32,), dim=DIM)) as cells:
            assert not cells.cell("mean", 32).ended
            cells._near.send(("gat", 8192))
            while not (under_way := psutil.Process(cells._process.pid).children()):
                continue
            raise KeyboardInterrupt
    assert cells._process.exitcode is not None and not any(one.is_running() for one in under_way)


def test_a_process_that_is_gone_is_said():
    with bench._Cells(SpeedConfig(lengths=(32,), dim=DIM)) as cells:
        cells.cell("mean", 32)
        cells._process.kill()
        with pytest.raises(RuntimeError, match="exit code -9 at mean, 64: run it again"):
            cells.cell("mean", 64)
        cells._process = None


@pytest.fixture
def mg(mg_in, tmp_path, monkeypatch):
    made = world(WorldConfig(users=40, contents=40, duplicate_share=0.0))
    from_records("world", made.nodes, made.hyperedges).publish(Home(tmp_path).arrays("world"))
    monkeypatch.setattr(command, "QUICK_LENGTHS", (32, 64))
    call = mg_in(tmp_path, "world")
    return lambda *words: call("bench", "attention", *words)


def test_an_interrupted_task_goes_on(mg, tmp_path, monkeypatch):
    words = ("--task", "history", "--mechanisms", "mean,multi_head", "--quick", "--workers", "0")
    keep, kept = Records.keep_run, []

    def ended(self, one, arrays):
        if kept:
            raise KeyboardInterrupt
        kept.append(one.mechanism)
        keep(self, one, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Records, "keep_run", ended)
        assert mg(*words)[0] == 130 and kept == ["mean"]
    plain, ran = mechanisms.seed_run, []
    monkeypatch.setattr(
        mechanisms, "seed_run", lambda given, job: ran.append(job[0].mechanism) or plain(given, job)
    )
    code, said, _ = mg(*words, "--json", "--out", tmp_path / "out")
    assert code == 0 and ran == ["multi_head"]  # what was measured before is not measured again
    assert [row["name"] for row in json.loads(said)["rows"]] == ["mean", "multi_head"]
    assert Table.load(tmp_path / "out").row("mean").qualities["history"].value.users > 30


def test_lengths_of_one_more_mechanism_join_the_table(mg, known):
    for names, there in (("mean,gat", ["gat", "mean"]), ("gin", ["gat", "gin", "mean"])):
        code, said, _ = mg("--task", "speed", "--quick", "--mechanisms", names, "--json")
        rows = json.loads(said)["rows"]
        assert code == 0 and [row["name"] for row in rows] == there
        assert all([one["k"] for one in row["costs"]] == [32, 64] for row in rows)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--task", "speed", "--mechanisms", "multihead"), "nearest: multi_head"),
        (("--task", "speed", "--again", "gatt"), "nearest: gat"),
        (("--task", "history", "--after", "movielens-100k"), "mg bench attention"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, says):
    code, out, err = mg(*words, "--workers", "0")
    assert code in (1, 2) and says in (out + err).replace("\n", " ") and "Traceback" not in out + err


def test_a_folder_that_cannot_be_written_is_said_before_the_work(mg, tmp_path, monkeypatch):
    monkeypatch.setattr(mechanisms, "seed_run", None)
    (tmp_path / "file").write_text("")
    code, out, err = mg("--task", "history", "--quick", "--workers", "0", "--out", tmp_path / "file")
    assert code == 2 and "must be a folder that can be written" in " ".join((out + err).split())
    assert not Home(tmp_path).benches.exists()
