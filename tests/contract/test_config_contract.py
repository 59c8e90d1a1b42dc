"""Every file under ``configs/experiments`` and ``configs/model`` builds what it describes."""

from pathlib import Path

import pytest

from configs.loading import ROOT, load
from configs.registry import SettingError, UnknownName, fill, import_parts
from experiments.run import ExperimentConfig
from experiments.tuning import _points, lay_over
from models.interface import recommenders

EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
MODELS = sorted((ROOT / "model").glob("*.yaml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_builds_at_every_point_of_its_grid(path: Path):
    settings = fill(ExperimentConfig, load(path), path.name)
    assert settings.name == path.stem
    for point in _points(settings.tune):
        model, train = lay_over(settings.model, settings.train, point)
        fill(ExperimentConfig, {**load(path), "model": model, "train": train})
        recommenders.build(model.pop("name"), model)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_names_what_its_result_depends_on(path: Path):
    assert {"name", "seed", "split", "model", "tune", "budget", "measure"} <= set(load(path))


def test_experiments_share_split_measure_and_budget():
    for key in ("measure", "budget"):
        assert len({str(load(path)[key]) for path in EXPERIMENTS}) == 1, key
    splits = {str(load(path)["split"]) for path in EXPERIMENTS}
    names = {load(path)["split"]["name"] for path in EXPERIMENTS}
    assert len(splits) == len(names) <= 2 and "last_fifth" in names  # the other is that of cold contents


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_builds(path: Path):
    import_parts("models")
    settings = load(path)
    recommenders.build(settings.pop("name"), settings)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"modle": {}}, SettingError, "has no setting 'modle'; nearest: model"),
        ({"model": {"name": "eese"}}, UnknownName, "nearest: ease"),
        ({"model": {}}, SettingError, "must name its model"),
        ({"model": {"name": "ease", "lambda": 3}}, SettingError, "has no setting 'lambda'"),
        ({"split": {"nome": "temporal"}}, SettingError, "split has no setting 'nome'"),
        ({"train": {"epochs": 0}}, SettingError, "epochs and patience of 1 or more, got 0"),
        ({"budget": {"trials": 0}}, SettingError, "trials of 1 or more"),
        ({"measure": {"metrics": ["ndgc@10"]}}, UnknownName, "no metric is called 'ndgc'; nearest: ndcg"),
        ({"measure": {"metrics": ["ndcg"]}}, SettingError, "written name@k"),
        ({"tune": {"regularization": [1]}}, SettingError, "write model.regularization"),
    ],
)
def test_a_wrong_setting_says_what_to_do(change, error, said):
    with pytest.raises(error, match=said):
        fill(ExperimentConfig, {"name": "x", "model": {"name": "ease"}, **change})
