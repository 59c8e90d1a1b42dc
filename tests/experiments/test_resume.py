"""Every registered model that is trained: killed after some epoch and taken up again, equal to the bit."""

import numpy as np
import pytest

from configs.loading import ROOT, load
from configs.registry import import_parts
from experiments.splits import SplitConfig, split
from experiments.training import FitConfig, finished, fit
from kg.worlds import WorldConfig, world
from models.interface import Trainable, recommenders

import_parts("models")
NAMES = [name for name in recommenders if issubclass(recommenders[name], Trainable)]
CONFIG = FitConfig(learning_rate=0.02, epochs=4, patience=4, metric="ndcg@5", threads=1)


class Killed(Exception):
    """Stands for a process that ends between two epochs."""


@pytest.fixture(scope="module")
def cut(toy):
    made = world(WorldConfig(users=40, contents=30, groups=2, ratings_per_user=12, seed=2))
    return split(toy.arrays(made.records, "world"), SplitConfig())


def made(name: str) -> Trainable:
    path = ROOT / "model" / f"{name}_tiny.yaml"
    settings = load(path) if path.is_file() else {}
    return recommenders.build(name, {key: value for key, value in settings.items() if key != "name"})


def killed_after(epochs: int):
    def progress(line: str) -> None:
        if line.startswith(f"epoch {epochs}/"):
            raise Killed

    return progress


@pytest.mark.parametrize("name", NAMES)
def test_taken_up_again_it_equals_the_unbroken_training_to_the_bit(name, cut, tmp_path):
    unbroken, broken, again, shown = (made(name) for _ in range(4))
    straight = fit(unbroken, cut.fit, cut.validation, CONFIG)
    with pytest.raises(Killed):
        fit(broken, cut.fit, cut.validation, CONFIG, killed_after(2), tmp_path)
    resumed = fit(again, cut.fit, cut.validation, CONFIG, folder=tmp_path)
    assert [(epoch.loss, epoch.value) for epoch in resumed.curve] == [
        (epoch.loss, epoch.value) for epoch in straight.curve
    ]
    assert resumed.best_epoch == straight.best_epoch
    assert finished(shown, cut.fit, cut.validation, CONFIG, tmp_path).best_epoch == straight.best_epoch
    for key, array in unbroken.arrays().items():
        np.testing.assert_array_equal(again.arrays()[key], array, err_msg=key)
        np.testing.assert_array_equal(shown.arrays()[key], array, err_msg=key)
