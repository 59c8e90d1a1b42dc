"""mg adapters fit: a head for a version, on what it was fitted on, which endpoints then use."""

import json
import shutil

import numpy as np
import pytest

from configs.home import Home
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


def test_it_fits_on_the_training_part_alone_and_endpoints_use_it(made, mg_in, tmp_path):
    home, graph, result = made
    mg = mg_in(home.root)
    code, out, err = mg("adapters", "fit", result.version, *WORLD, "--json")
    assert code == 0, err
    told = json.loads(out)
    version = ModelStore(home.models).load(result.version)
    head = load_head(home.head("world", result.version), version)
    settings = AdaptationConfig.named().head_settings()
    again = settings.fitted(result.version_training(graph))
    products = [one.arrays()["left"] @ one.arrays()["met"].T for one in (head, again)]
    np.testing.assert_allclose(*products, atol=1e-3 * np.abs(products[1]).max())
    assert told["hash"] == head.hash
    assert told["adapter_bytes"] == head.spec.dtype.itemsize <= 10_240
    on = AdaptationConfig(instant_tier=True)
    with LocalClient(home, "world", result.version, on) as client:
        assert client.ready().instant_tier == "on"


def test_a_file_of_ones_own_names_other_settings(made, mg_in, tmp_path):
    home, _, result = made
    file = tmp_path / "mine.yaml"
    file.write_text("instant_tier: true\nhead: {kind: bent, width: 32}\ninstant: {fades: [2.0, 20.0]}\n")
    code, out, err = mg_in(home.root)("adapters", "fit", result.version, "--settings", file, *WORLD)
    assert code == 0 and "bent head" in out and "off" not in out, err
    found = load_head(home.head("world", result.version), ModelStore(home.models).load(result.version))
    assert found.kind == "bent" and found.spec.rank == 2


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
