"""mg adapters fit: a head for a version, on what it was fitted on, which endpoints then use."""

import json
import shutil

import numpy as np
import pytest

from configs.home import Home
from configs.loading import load
from configs.registry import fill
from experiments.adapter_fit import AdapterFitConfig
from experiments.run import run
from kg.arrays import GraphArrays, from_records
from kg.worlds import WorldConfig, world
from models.head_files import load_head
from models.store import ModelStore
from serve.adaptation import AdaptationConfig
from serve.client import LocalClient

WORLD = ("--data", "world")
SPLIT = {"name": "last_fifth", "positive_rating": 8.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with one run of EASE, its version and its split's graph."""
    home = Home(tmp_path_factory.mktemp("heads"))
    told = world(WorldConfig(users=60, contents=60, groups=3, duplicate_share=0.0))
    graph = from_records("world", told.nodes, told.hyperedges)
    graph.publish(home.arrays("world"))
    graph = GraphArrays.current(home.arrays("world"))
    result = run({"name": "ease", "model": {"name": "ease"}, "split": SPLIT}, graph, home)
    return home, graph, result


FEW = "name: few\nwidth: 32\ngap_s: [60.0]\nspreads: [0.1, 0.4]\n"


def test_it_fits_on_the_training_part_alone_and_endpoints_use_it(made, mg_in, tmp_path):
    home, graph, result = made
    mg = mg_in(home.root)
    code, out, err = mg("adapters", "fit", result.version, *WORLD, "--json")
    assert code == 0, err
    told = json.loads(out)
    version = ModelStore(home.models).load(result.version)
    found = load_head(home.head("world", result.version), version)
    settings = fill(AdapterFitConfig, load("adapt/adapters.yaml"))
    again = settings.head(told["gap_s"], told["weight"]).fitted(result.version_training(graph))
    products = [one.arrays()["left"] @ one.arrays()["met"].T for one in (found.head, again)]
    np.testing.assert_allclose(*products, atol=1e-3 * np.abs(products[1]).max())
    assert told["hash"] == found.head.hash and found.instant == settings.tier()
    assert told["adapter_bytes"] == found.head.spec.dtype.itemsize <= 10_240
    assert told["shown"]["users"] == found.shown.users == 60
    assert len(told["tried"]) == found.shown.tried == len(settings.gap_s) * len(settings.spreads)
    assert found.head.config.weight == told["weight"] and found.head.config.following.gap_s == told["gap_s"]
    assert told["spreads"] == pytest.approx(min(settings.spreads, key=lambda one: abs(one - told["spreads"])))
    assert not told["is_on"], "60 people show nothing"
    with LocalClient(home, "world", result.version) as client:
        state = client.ready().instant_tier
        assert (
            state.startswith(f"off: adapters of {result.version} are not shown") and "must_be_shown" in state
        )
    with LocalClient(home, "world", result.version, AdaptationConfig(must_be_shown=False)) as client:
        assert client.ready().instant_tier.startswith("on: ")


def test_a_file_of_ones_own_names_what_is_tried(made, mg_in, tmp_path):
    home, _, result = made
    file = tmp_path / "mine.yaml"
    few = "test: {resamples: 1000, level: 0.9999, least_users: 1}\n"
    file.write_text(FEW + "kind: bent\ninstant: {fades: [2.0, 20.0]}\n" + few)
    code, out, err = mg_in(home.root)("adapters", "fit", result.version, "--settings", file, *WORLD)
    assert code == 0 and "bent head" in out and "The best of 2 settings" in out, err
    found = load_head(home.head("world", result.version), ModelStore(home.models).load(result.version))
    assert found.head.kind == "bent" and found.head.spec.rank == 2 and found.instant.fades == (2.0, 20.0)
    said = "have the instant tier on" if found.shown.is_better else "must_be_shown: false"
    assert said in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing/7"], "nothing/7"),
        ([], "world@champion"),
        (["ease/1", "--settings", "none.yaml"], "no settings 'none.yaml'"),
    ],
)
def test_what_cannot_be_fitted_is_said(made, mg_in, words, said):
    code, _, err = mg_in(made[0].root)("adapters", "fit", *words, *WORLD)
    assert code != 0 and said in err and "Traceback" not in err


def test_a_version_without_a_run_has_no_head(made, mg_in, tmp_path):
    shutil.copytree(made[0].root, tmp_path / "home")
    shutil.rmtree(Home(tmp_path / "home").runs("world"))
    code, _, err = mg_in(tmp_path / "home")("adapters", "fit", made[2].version, *WORLD)
    assert code == 2 and "no run of world says" in err
