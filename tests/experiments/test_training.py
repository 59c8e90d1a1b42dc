"""The training loop: gradients cleared, early stop, best parameters kept, exact resume."""

import re
import resource
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from configs.registry import SettingError
from experiments import training as loop
from experiments.checkpoint import FILE, CheckpointError
from experiments.evaluation import value_of
from experiments.splits import SplitConfig, split
from experiments.steps import clip_gradients, optimisers_of, step
from experiments.training import FitConfig, TrainingError, finished, fit
from models.interface import Trainable


@dataclass(frozen=True)
class TinyConfig:
    width: int = 8
    sparse: bool = False
    dropout: float = 0.0


class Tiny(Trainable):
    """Matrix factorisation with a softmax over all contents."""

    def fit(self, training):
        self.training = training
        users, contents = training.positives.shape
        self.module = nn.ModuleDict(
            {
                "user": nn.Embedding(users, self.config.width, sparse=self.config.sparse),
                "content": nn.Embedding(contents, self.config.width),
                "dropout": nn.Dropout(self.config.dropout),
            }
        )
        for name in ("user", "content"):
            nn.init.normal_(self.module[name].weight, std=0.1)
        self.pairs = torch.from_numpy(np.stack(training.positives.nonzero(), 1)).long()

    def steps(self, generator):
        for batch in self.pairs[torch.randperm(len(self.pairs), generator=generator)].split(500):
            yield lambda batch=batch: self.loss(batch)

    def loss(self, batch):
        users = self.module["dropout"](self.module["user"](batch[:, 0]))
        return nn.functional.cross_entropy(users @ self.module["content"].weight.T, batch[:, 1])

    def freeze(self):
        self.vectors = [self.module[name].weight.detach().clone() for name in ("user", "content")]

    def score(self, users):
        return (self.vectors[0][torch.from_numpy(users.rows)] @ self.vectors[1].T).numpy()

    def arrays(self):
        return {"user": self.vectors[0].numpy(), "content": self.vectors[1].numpy()}

    def restore(self, arrays, graph):
        self.vectors = [torch.from_numpy(arrays[name]) for name in ("user", "content")]


CONFIG = FitConfig(learning_rate=0.05, epochs=6, patience=6)


@pytest.fixture(scope="module")
def cut(tasteful):
    return split(tasteful, SplitConfig())


def same(first, second):
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name], err_msg=name)


@pytest.mark.parametrize("sparse", [False, True])
def test_at_learning_rate_0_two_steps_on_one_batch_leave_the_same_gradient(cut, sparse):
    model = Tiny(TinyConfig(sparse=sparse))
    model.fit(cut.fit)
    optimisers, gradients = optimisers_of(model.module, 0.0, 0.0), []
    for _ in range(2):
        step(lambda: model.loss(model.pairs[:64]), model.module, optimisers, clip=1e9)
        gradients.append([weight.grad.to_dense().clone() for weight in model.module.parameters()])
    torch.testing.assert_close(*gradients)
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])


@pytest.mark.parametrize("sparse", [False, True])
def test_it_finds_planted_tastes(cut, sparse):
    model = Tiny(TinyConfig(sparse=sparse))
    found = fit(model, cut.fit, cut.validation, replace(CONFIG, epochs=15))
    assert found.curve[-1].loss < found.curve[0].loss
    assert found.best_value == value_of(model, cut.validation, "ndcg@10") > 0.12


def test_same_seed_same_model_and_the_outside_stays_untouched(cut):
    models = [Tiny(TinyConfig(dropout=0.2)) for _ in range(3)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for model, seed in zip(models, (1, 1, 2), strict=True):
        fit(model, replace(cut.fit, seed=seed), None, replace(CONFIG, epochs=2))
        torch.testing.assert_close(torch.get_rng_state(), before)
    same(models[0], models[1])
    assert not np.array_equal(models[0].arrays()["user"], models[2].arrays()["user"])


def test_it_stops_early_and_keeps_the_best_epoch(cut, monkeypatch):
    values, seen = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.9]), []

    def measured(model, part, metric):
        seen.append({name: array.copy() for name, array in model.arrays().items()})
        return next(values)

    monkeypatch.setattr(loop, "value_of", measured)
    model = Tiny(TinyConfig())
    found = fit(model, cut.fit, cut.validation, replace(CONFIG, epochs=9, patience=3))
    assert (found.stopped, found.best_epoch, found.best_value, len(found.curve)) == ("patience", 2, 0.3, 5)
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, seen[1][name])
    assert not model.module.training


def test_without_validation_all_epochs_run_and_the_last_is_kept(cut):
    told, model = [], Tiny(TinyConfig())
    found = fit(model, cut.full, None, replace(CONFIG, epochs=3, patience=1), told.append)
    assert (found.stopped, found.best_epoch, found.best_value, len(found.curve)) == ("epochs", 3, None, 3)
    assert len(told) == 3 and told[0].startswith("epoch 1/3: loss ")


def test_threads_are_bounded_while_training_and_given_back(cut, monkeypatch):
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(Tiny, "freeze", lambda self: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        fit(Tiny(TinyConfig()), cut.fit, None, FitConfig(epochs=1, threads=1))
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    with pytest.raises(SettingError, match="1 thread or more, got 0"):
        FitConfig(threads=0)


def test_no_epoch_begins_after_the_time_budget(cut):
    found = fit(Tiny(TinyConfig()), cut.fit, cut.validation, replace(CONFIG, seconds=1e-9))
    assert (found.stopped, len(found.curve)) == ("seconds", 1)


def test_a_loss_that_is_no_number_is_told(cut):
    class Broken(Tiny):
        def loss(self, batch):
            return super().loss(batch) * torch.nan

    with pytest.raises(TrainingError, match="got nan at step 1 of epoch 1: lower learning_rate"):
        fit(Broken(TinyConfig()), cut.fit, None, CONFIG)


class Breaking(Tiny):
    """Its loss becomes NaN from one step on; each of its epochs has the same number of steps."""

    breaks_at = 0

    def fit(self, training):
        super().fit(training)
        self.steps_done = 0

    def loss(self, batch):
        self.steps_done += 1
        return super().loss(batch) * (torch.nan if self.steps_done >= self.breaks_at > 0 else 1)


def test_a_loss_that_breaks_later_leaves_the_best_epoch_and_its_checkpoint(cut, tmp_path):
    sound, broken = Tiny(TinyConfig()), Breaking(TinyConfig())
    fit(sound, cut.fit, cut.validation, replace(CONFIG, epochs=2, patience=9), folder=tmp_path / "sound")
    steps = -(-cut.fit.positives.nnz // 500)
    broken.breaks_at = 2 * steps + 3
    with pytest.raises(TrainingError, match="got nan at step 3 of epoch 3: .* the model is that of epoch 2"):
        fit(broken, cut.fit, cut.validation, CONFIG, folder=tmp_path / "broken")
    same(sound, broken)
    kept, wanted = (load_file(tmp_path / name / FILE) for name in ("broken", "sound"))
    torch.testing.assert_close(kept, wanted, rtol=0, atol=0)
    assert not broken.module.training


def test_a_gradient_that_is_no_number_moves_no_parameter(cut):
    model = Tiny(TinyConfig())
    model.fit(cut.fit)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    weight = model.module["user"].weight
    found = step(
        lambda: weight.square().sum().sub(weight.square().sum()).sqrt(),
        model.module,
        optimisers_of(model.module, 0.1, 0.0),
        clip=1.0,
    )
    assert np.isnan(found)  # the loss itself is 0
    torch.testing.assert_close(model.module.state_dict(), before, rtol=0, atol=0)


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(cut, tmp_path):
    fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=1), folder=tmp_path)
    before, allowed = (tmp_path / FILE).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, allowed[1])
    )  # no file may grow beyond, as on a full disk
    try:
        with pytest.raises(CheckpointError, match="make room and go on; the one before is whole"):
            fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=2), folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before
    went_on = fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=2), folder=tmp_path)
    assert len(went_on.curve) == 2


def test_progress_says_how_long_the_rest_may_take(cut):
    told = []
    fit(Tiny(TinyConfig()), cut.fit, cut.validation, replace(CONFIG, epochs=3, seconds=500.0), told.append)
    assert all(re.search(r"ndcg@10 0\.\d{4}, at most \d+ s left$", line) for line in told[:2])
    assert "left" not in told[2]


def test_bfloat16_learns_and_leaves_parameters_in_float32(cut):
    model, seen = Tiny(TinyConfig()), set()
    original = model.loss
    model.loss = lambda batch: (original(batch), seen.add(torch.is_autocast_enabled("cpu")))[0]
    found = fit(model, cut.fit, cut.validation, replace(CONFIG, epochs=15, precision="bfloat16"))
    assert found.best_value > 0.12 and seen == {True}
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
    with pytest.raises(SettingError, match="precision of auto, float32 or bfloat16"):
        FitConfig(precision="half")


def test_what_is_finished_can_be_had_again_and_what_is_not_is_refused(cut, tmp_path):
    model, again = Tiny(TinyConfig()), Tiny(TinyConfig())
    fit(model, cut.fit, cut.validation, replace(CONFIG, epochs=2), folder=tmp_path)
    assert finished(again, cut.fit, cut.validation, replace(CONFIG, epochs=2), tmp_path).stopped == "epochs"
    same(model, again)
    with pytest.raises(TrainingError, match="must be over, got 2 of 6 epochs"):
        finished(Tiny(TinyConfig()), cut.fit, cut.validation, CONFIG, tmp_path)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_training_broken_off_goes_on_with_the_same_numbers(cut, tmp_path, sparse):
    config = TinyConfig(sparse=sparse, dropout=0.2)
    whole, first, second = (Tiny(config) for _ in range(3))
    straight = fit(whole, cut.fit, cut.validation, CONFIG)
    fit(first, cut.fit, cut.validation, replace(CONFIG, epochs=3), folder=tmp_path)
    resumed = fit(second, cut.fit, cut.validation, CONFIG, folder=tmp_path)
    same(whole, second)
    assert [(e.number, e.loss, e.value) for e in resumed.curve] == [
        (e.number, e.loss, e.value) for e in straight.curve
    ]
    assert (resumed.best_epoch, resumed.best_value) == (straight.best_epoch, straight.best_value)


def test_a_checkpoint_of_another_training_is_refused(cut, tmp_path):
    fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=1), folder=tmp_path)
    with pytest.raises(CheckpointError, match="it is of another training: delete it"):
        fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, learning_rate=0.1), folder=tmp_path)
    with pytest.raises(CheckpointError, match="another training"):
        fit(Tiny(TinyConfig()), replace(cut.fit, seed=9), None, CONFIG, folder=tmp_path)


def test_a_checkpoint_cut_off_is_refused(cut, tmp_path):
    fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=1), folder=tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="it cannot be read"):
        fit(Tiny(TinyConfig()), cut.fit, None, CONFIG, folder=tmp_path)


def test_a_checkpoint_holds_tensors_alone(cut, tmp_path):
    fit(Tiny(TinyConfig()), cut.fit, None, replace(CONFIG, epochs=1), folder=tmp_path)
    tensors = load_file(tmp_path / FILE)
    save_file(tensors, tmp_path / "again.safetensors")
    assert {"generator", "global_generator", "module/user.weight"} <= set(tensors)


def test_clipping_scales_all_gradients_together():
    dense = torch.tensor([3.0, 0.0])
    sparse = torch.sparse_coo_tensor([[1, 1]], torch.tensor([[2.0], [2.0]]), (4, 1), check_invariants=True)
    clip_gradients([dense, sparse], 1.0)
    torch.testing.assert_close(dense, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(sparse.to_dense()[1], torch.tensor([0.8]))
    clip_gradients([dense], 1.0)
    torch.testing.assert_close(dense, torch.tensor([0.6, 0.0]))


def test_settings_are_checked():
    with pytest.raises(SettingError, match="learning_rate and weight_decay of 0 or more"):
        FitConfig(learning_rate=-1)
    with pytest.raises(SettingError, match="epochs and patience of 1 or more"):
        FitConfig(patience=0)
