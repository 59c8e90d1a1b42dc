"""The search over LoRA settings: each trial fits, taken up it loses none, the best becomes a version."""

import pytest

from configs.home import Home
from configs.loading import load
from configs.registry import fill
from experiments.search import search
from experiments.spaces import SearchConfig
from kg.worlds import WorldConfig, world
from models.store import ModelStore

TINY = {"name": "sasrec", "width": 16, "blocks": 1, "heads": 2, "max_length": 10, "dropout": 0.0, "batch": 32}


@pytest.fixture(scope="module")
def small(toy):
    made = world(WorldConfig(users=80, contents=50, groups=4, ratings_per_user=15, seed=1))
    return toy.arrays(made.records, "world")


def test_its_file_builds_and_looks_at_validation_alone():
    settings = fill(SearchConfig, load("search/lora.yaml"), "search")
    looked = {"model.rank", "model.alpha", "model.targets", "train.learning_rate", "train.weight_decay"}
    assert looked <= set(settings.space) and settings.experiment.model["name"] == "adapted"


def test_taken_up_it_keeps_what_it_has_and_the_best_becomes_a_version(small, tmp_path):
    told = load("search/lora.yaml")
    base = {
        "name": "lora_small",
        "model": {"name": "adapted", "base": TINY, "base_epochs": 1, "examples": 5},
        "train": {"epochs": 2, "threads": 1},
        "split": {"name": "last_fifth", "positive_rating": 8.0},
        "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
    }
    quick = {**told, "base": base, "workers": 0, "mlflow": False, "memory_bytes": None}
    home = Home(tmp_path)
    first = search({**quick, "trials": 2}, small, home)
    whole = search({**quick, "trials": 3}, small, home)
    kept = {one.number: (one.settings, one.values) for one in whole.complete}
    assert len(kept) == 3 and all(kept[one.number] == (one.settings, one.values) for one in first.complete)
    version = ModelStore(home.models).versions()[-1]
    assert version.model == "adapted" and version.config["rank"] in (4, 8, 16)
