"""A champion of yesterday, a graph of today: the night's version passes the same gate, or says why not."""

import numpy as np
import pytest

from configs.home import Home
from configs.loading import ROOT, load
from configs.registry import fill
from experiments.adapt import AdaptConfig, AdaptError, adapt
from experiments.promote import GateConfig, promote
from experiments.run import load_runs, run
from models.base_tier import HASH, base_of, hash_of
from models.store import ModelStore
from serve.client import LocalClient

SASREC = {
    "name": "sasrec",
    "width": 16,
    "blocks": 1,
    "heads": 2,
    "max_length": 20,
    "dropout": 0.0,
    "batch": 16,
}
SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
GATE = GateConfig(latency_ms=10_000, latency_calls=1, latency_rounds=1, warm_up_calls=1)
NIGHT = {"rank": 4, "alpha": 8.0, "learning_rate": 0.02, "epochs": 3, "strength": 1.0, "examples": 20}


@pytest.fixture(scope="module")
def nights(tasteful, tmp_path_factory):
    """A home with yesterday's graph and its champion, today's graph, and the champion's run."""
    home, rated = Home(tmp_path_factory.mktemp("nights")), tasteful.starts("RATED")
    yesterday, today = (
        tasteful.keep({"RATED": rated <= int(np.quantile(rated, share))}) for share in (0.6, 0.8)
    )
    yesterday.publish(home.arrays("world"))
    config = {
        "name": "sasrec",
        "model": SASREC,
        "split": SPLIT,
        "train": {"learning_rate": 0.01, "epochs": 3},
    }
    first = run(config, yesterday, home)
    ModelStore(home.models).set_alias("world", "champion", first.version, "by hand")
    today.publish(home.arrays("world"))
    return home, yesterday, today, first


@pytest.fixture(scope="module")
def night(nights):
    home, _, today, _ = nights
    return adapt(home, today, config=NIGHT)


def test_a_night_saves_a_version_that_names_its_base(nights, night):
    home, _, today, first = nights
    models = ModelStore(home.models)
    version, base = models.load(night.result.version), models.load(first.version)
    model, plain = models.restore(version, today), models.restore(base, nights[1])
    assert version.config["version"] == first.version == night.base and night.newer_likes >= 50
    assert version.config["base_hash"] == hash_of(plain.arrays()) == hash_of(base_of(model.arrays()))
    assert model.arrays()[HASH].tobytes().hex() == version.config["base_hash"]
    assert load_runs(home.runs("world"), [night.result.run_id])[0].floor == first.version


def test_the_gate_is_the_same_and_its_bar_is_the_version_that_was_adapted(nights, night):
    home, _, _, first = nights
    result = night.result
    with LocalClient(home, "world", result.version) as client:
        said = promote(result, "champion", client.bare_ranking, ModelStore(home.models), GATE)
    by_name = {one.name: one for one in said.conditions}
    assert f"better than {first.version} in ndcg@10" in by_name["quality"].must
    assert "measured on another split" in by_name["quality"].must
    for name in ("leakage", "latency", "answers", "size", "model card", "groups", "evidence"):
        assert by_name[name].passed, by_name[name]
    assert said.promoted == by_name["quality"].passed
    holder = ModelStore(home.models).alias("world", "champion").ref
    assert holder == (result.version if said.promoted else first.version)


def test_a_second_night_goes_on_from_the_first_over_the_same_base(nights, night, tasteful):
    home, _, today, first = nights
    with pytest.raises(AdaptError, match="holds 0 newer ones"):
        adapt(home, today, night.result.version, NIGHT)
    second = adapt(home, tasteful, night.result.version, {**NIGHT, "rank": 8, "learning_rate": 0.0})
    models = ModelStore(home.models)
    one, two = (models.load(found.result.version) for found in (night, second))
    assert two.config["version"] == night.result.version == second.base and second.since_s > night.since_s
    assert two.config["base_hash"] == one.config["base_hash"] and two.config["rank"] == 4  # as it was learned
    before, after = models.restore(one, today).adapter(), models.restore(two, tasteful).adapter()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_what_cannot_be_adapted_says_why(nights, toy):
    home, yesterday, today, _ = nights
    with pytest.raises(AdaptError, match="holds 0 newer ones, at least 50"):
        adapt(home, yesterday, config=NIGHT)
    knn = run({"name": "item_knn", "model": {"name": "item_knn"}, "split": SPLIT}, yesterday, home)
    with pytest.raises(AdaptError, match="has no projections to adapt"):
        adapt(home, today, knn.version, NIGHT)
    with pytest.raises(AdaptError, match="open that graph"):
        adapt(home, toy.graph([(0, 0, 9, 1)]), "sasrec/1", NIGHT)


def test_the_file_builds():
    fill(AdaptConfig, load(ROOT / "adapt" / "nightly.yaml"), "nightly.yaml")
