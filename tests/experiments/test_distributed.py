"""Several workers in the one loop: threads that stand for processes, then two processes of Ray Train."""

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import ray
import ray.train
import scipy.sparse as sp
import torch
import torch.distributed as processes
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from torch import nn

from configs.registry import SettingError
from experiments.distributed import TorchTeam, _reason, fit_distributed
from experiments.splits import SplitConfig, split
from experiments.steps import ALONE, Team, TrainingError, optimisers_of, shares, step
from experiments.training import FitConfig, fit
from models.interface import Training, recommenders

CONFIG = FitConfig(learning_rate=0.02, epochs=4, patience=4, threads=1)
BATCH = 100
MODEL = {"width": 16, "layers": 2, "device": "cpu"}


class ThreadTeam(Team):
    """Threads of this process; each leaves what it has on a table and waits for the others."""

    def __init__(self, rank: int, table: list, barrier: threading.Barrier) -> None:
        self.rank, self.size, self.table, self.barrier = rank, len(table), table, barrier

    def exchange(self, mine: object) -> list:
        self.table[self.rank] = mine
        self.barrier.wait(60)
        found = list(self.table)
        self.barrier.wait(60)
        return found

    def average(self, module, loss):
        mine = (
            None
            if loss is None
            else (float(loss.detach()), [each.grad.clone() for each in module.parameters()])
        )
        given = [one for one in self.exchange(mine) if one is not None]
        for place, parameter in enumerate(module.parameters()):
            parameter.grad = torch.stack([one[1][place] for one in given]).mean(0)
        return float(np.mean([one[0] for one in given]))

    def from_first(self, tensor):
        return self.exchange(tensor.clone())[0].clone()

    def check(self, module):
        found = self.exchange([each.detach().clone() for each in module.parameters()])
        if not all(torch.equal(*pair) for pair in zip(found[0], found[self.rank], strict=True)):
            raise TrainingError("they differ")


def together(training, validation, config, make, size: int = 2) -> list:
    """What each of some threads found: (model, result), or the error that ended it."""
    table, barrier, found = [None] * size, threading.Barrier(size), [None] * size

    def work(rank: int) -> None:
        model = make(rank)
        try:
            found[rank] = (
                model,
                fit(model, training, validation, config, team=ThreadTeam(rank, table, barrier)),
            )
        except TrainingError as error:
            found[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture(scope="module")
def cut(tasteful):
    return split(tasteful, SplitConfig())


@pytest.fixture(scope="module")
def even(cut) -> Training:
    """Training whose positives fill steps of two whole batches."""
    positives = cut.fit.positives
    kept = positives.nnz - positives.nnz % (2 * BATCH)
    users, contents = (part[:kept] for part in positives.nonzero())
    ones = sp.csr_array((np.ones(kept, np.float32), (users, contents)), shape=positives.shape)
    times = sp.csr_array((cut.fit.times.data[:kept], (users, contents)), shape=positives.shape)
    return replace(cut.fit, positives=ones, times=times)


def lightgcn(batch: int):
    return recommenders.build("lightgcn", MODEL | {"batch": batch})


def near(first, second) -> None:
    for name, array in first.arrays().items():
        np.testing.assert_allclose(second.arrays()[name], array, rtol=1e-3, atol=2e-4, err_msg=name)


def test_each_batch_falls_to_one_worker():
    made = [[*shares(range(7), ThreadTeam(rank, [None] * 3, None))] for rank in range(3)]
    assert made == [[0, 3, 6], [1, 4, None], [2, 5, None]]
    assert [*shares(range(3), ALONE)] == [0, 1, 2]


def test_two_workers_equal_one_with_twice_the_batch(cut, even):
    one = lightgcn(2 * BATCH)
    straight = fit(one, even, cut.validation, CONFIG)
    (first, result), (second, _) = together(
        even, cut.validation, replace(CONFIG, workers=2), lambda rank: lightgcn(BATCH)
    )
    near(one, first)
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(second.arrays()[name], array)
    np.testing.assert_allclose(
        [epoch.loss for epoch in result.curve], [epoch.loss for epoch in straight.curve], rtol=1e-4
    )


def test_a_last_step_with_one_batch_too_few_goes_on(cut):
    found = together(cut.fit, cut.validation, replace(CONFIG, workers=3), lambda rank: lightgcn(150), size=3)
    assert found[0][1].best_value == found[2][1].best_value > 0.12


def test_workers_that_came_apart_are_told(even):
    def make(rank: int):
        model = lightgcn(BATCH)
        if rank:
            freed = model.steps

            def spoilt(generator):
                with torch.no_grad():
                    model.module.weight[0] += 1
                yield from freed(generator)

            model.steps = spoilt
        return model

    found = together(even, None, replace(CONFIG, workers=2, epochs=1), make)
    assert isinstance(found[1], TrainingError) and "differ" in str(found[1])


def test_a_loss_that_is_no_number_in_one_ends_all(even):
    def make(rank: int):
        model = lightgcn(BATCH)
        if rank:
            model._bpr = lambda *batch: model.module.weight.sum() * torch.nan
        return model

    found = together(even, None, replace(CONFIG, workers=2), make)
    assert all("at step 1 of epoch 1" in str(one) for one in found)


@pytest.fixture
def group():
    processes.init_process_group("gloo", store=processes.HashStore(), rank=0, world_size=1)
    yield TorchTeam()
    processes.destroy_process_group()


@pytest.mark.parametrize("is_sparse", [False, True])
def test_a_team_of_one_process_changes_nothing(group, is_sparse):
    def stepped(team: Team) -> torch.Tensor:
        torch.manual_seed(0)
        table = nn.Embedding(6, 3, sparse=is_sparse)
        optimisers = optimisers_of(table, 0.1, 0.0)
        rows = torch.tensor([0, 2, 2])
        for _ in range(2):
            step(lambda: table(rows).square().sum(), table, optimisers, 1.0, team=team)
        return table.weight.detach()

    torch.testing.assert_close(stepped(group), stepped(ALONE))
    group.check(nn.Linear(2, 2))
    assert group.from_first(torch.tensor(3.0)) == 3


def test_two_processes_of_ray_train_equal_one(cut, even):
    one, lines = lightgcn(2 * BATCH), []
    straight = fit(one, even, cut.validation, CONFIG)
    model, result = fit_distributed(
        {"name": "lightgcn", **MODEL, "batch": BATCH},
        even,
        cut.validation,
        replace(CONFIG, workers=2),
        lines.append,
    )
    near(one, model)
    assert result.best_value == pytest.approx(straight.best_value, rel=1e-2) and result.best_value > 0.12
    assert [line.split(":")[0] for line in lines] == [f"epoch {number}/4" for number in range(1, 5)]
    assert not ray.is_initialized()


def test_of_a_failed_group_the_worker_is_heard_that_knows_why():
    hung, why = RuntimeError("connection closed by peer"), TrainingError("got nan at step 2 of epoch 1")
    group = ray.train.WorkerGroupError("long trace", {0: hung, 1: UserExceptionWithTraceback(why, "")})
    assert _reason(group) == "got nan at step 2 of epoch 1"
    assert _reason(ray.train.WorkerGroupError("", {0: hung})) == "connection closed by peer"
    assert "no room" in _reason(ray.train.ControllerError(RuntimeError("no room")))


def test_what_cannot_be_shared_is_refused(cut):
    with pytest.raises(SettingError, match="2 workers must train together, got a team of 1"):
        fit(lightgcn(BATCH), cut.fit, None, replace(CONFIG, workers=2))
    with pytest.raises(SettingError, match="fitted in closed form"):
        fit_distributed({"name": "ease"}, cut.fit, None, replace(CONFIG, workers=2))
    with pytest.raises(SettingError, match="1 worker or more"):
        FitConfig(workers=0)


def test_a_run_in_one_process_imports_no_ray():
    code = "import sys, experiments.tuning, experiments.training; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
