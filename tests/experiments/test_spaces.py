"""A search is data: every file builds, and every slip is named with what to write instead."""

import pytest

from configs.loading import ROOT
from configs.registry import SettingError, UnknownName, fill
from experiments.spaces import Choice, Range, SearchConfig, dimension, read_search

FILES = sorted((ROOT / "search").glob("*.yaml"))
BASE = {"name": "x", "model": {"name": "item_knn"}, "split": {"name": "last_fifth"}}
SPACE = {"model.neighbours": {"int": [2, 40]}}


def made(**changes):
    return fill(SearchConfig, {"name": "knn", "base": BASE, "space": SPACE, **changes}, "search")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_search_builds_at_every_bound_of_its_space(path):
    settings = fill(SearchConfig, read_search(path), path.name)
    assert len(settings.dimensions) >= 2 and settings.experiment.name == settings.name


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"spase": {}}, SettingError, "no setting 'spase'; nearest: space"),
        ({"space": {}}, SettingError, "space must name at least one key"),
        ({"space": {"model.neighbors": {"int": [2, 4]}}}, SettingError, "'neighbors'; nearest: neighbours"),
        ({"space": {"train.patiance": {"int": [2, 4]}}}, SettingError, "'patiance'; nearest: patience"),
        ({"space": {"neighbours": {"int": [2, 4]}}}, SettingError, "write model.neighbours"),
        ({"space": {"model.neighbours": {"int": [40, 2]}}}, SettingError, "lower bound first.*swap them"),
        ({"space": {"model.neighbours": {"int": [2.5, 4]}}}, SettingError, "as two numbers"),
        ({"space": {"model.neighbours": {"int": [2, 4], "skale": "log"}}}, SettingError, "nearest: scale"),
        ({"space": {"model.neighbours": {"int": [2, 4], "scale": "lag"}}}, SettingError, "nearest: log"),
        ({"space": {"model.neighbours": {"int": [0, 4], "scale": "log"}}}, SettingError, "bounds above 0"),
        ({"space": {"model.neighbours": {"int": [3, 8], "scale": "pow2"}}}, SettingError, "powers of two"),
        (
            {"space": {"model.neighbours": {"integer": [3, 8]}}},
            SettingError,
            "must say one of choice, int or",
        ),
        ({"space": {"model.similarity": {"choice": []}}}, SettingError, "must list the values"),
        ({"space": {"model.similarity": {"choice": "every"}}}, SettingError, "must list its values"),
        ({"space": {"model.similarity": {"choice": ["cosinus"]}}}, SettingError, "similarity"),
        ({"sampler": "tpa"}, SettingError, "sampler must be one of.*nearest: tpe"),
        ({"sampler": "grid"}, SettingError, "model.neighbours is a range: write choice"),
        ({"pruner": "ascha"}, SettingError, "nearest: asha"),
        ({"trials": 0}, SettingError, "trials and threads of 1 or more"),
        ({"memory_bytes": 512}, SettingError, "1 MiB or more"),
        ({"objective": "ndgc@10"}, UnknownName, "nearest: ndcg"),
        ({"objective": {"ndcg@10": "up"}}, SettingError, "direction of ndcg@10 must be one of max, min"),
        ({"objective": {"fit_s": "min"}}, SettingError, "one objective must be a metric"),
        ({"objective": {"ndcg@10": "max", "fit_s": "min"}, "pruner": "asha"}, SettingError, "pruner: none"),
        ({"name": "a/b"}, SettingError, "no slash"),
    ],
)
def test_a_slip_says_what_to_do(changes, error, said):
    with pytest.raises(error, match=said):
        made(**changes)


def test_a_space_is_read():
    assert dimension("model.name", {"choice": "every"}).values.count("ease") == 1
    assert dimension("train.clip", {"float": [1, 2], "scale": "log"}) == Range(
        "train.clip", 1, 2, "log", False
    )
    widths = Choice("model.widths", ([64, 32], None, True, "a"))
    assert widths.labels == ("[64, 32]", None, True, "a")


def test_more_trials_time_or_workers_are_the_same_search():
    same = made().identity("g", "s")
    assert made(trials=3, seconds=9.0, workers=2, threads=2, mlflow=False).identity("g", "s") == same
    others = [made(seed=1), made(sampler="random"), made(space={"model.neighbours": {"int": [2, 41]}})]
    assert len({same, *(other.identity("g", "s") for other in others), made().identity("h", "s")}) == 5


def test_overrides_reach_the_search_and_its_base():
    told = read_search("search/ials.yaml", ["trials=3", "base.seed=7"])
    assert (told["trials"], told["base"]["seed"]) == (3, 7)
    with pytest.raises(SettingError, match="has no key 'trails'"):
        read_search("search/ials.yaml", ["trails=3"])
