"""The base tier over SASRec and GraphSAGE: silent at first, held to its base, merged, removed, resumed."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from configs.registry import SettingError, import_parts
from experiments.training import FitConfig, fit
from kg.arrays import from_records
from kg.worlds import checkerboard
from models.adapted import Adapted, AdaptedConfig
from models.base_tier import ADAPTER, BASE, HASH, base_of, hash_of, merged
from models.interface import Training, Users, recommenders
from models.store import ModelStore, SaveInfo
from models.verification import ModelError

import_parts("models")
BASES = {
    "sasrec": {"name": "sasrec", "width": 16, "blocks": 1, "heads": 2, "max_length": 12, "batch": 8,
               "dropout": 0.1},
    "graphsage": {"name": "graphsage", "widths": [16, 12], "fan_out": [5], "heads": [2], "batch": 64,
                  "attention": {"name": "multi_head"}, "dropout": 0.0},
}  # fmt: skip
QUICK = FitConfig(learning_rate=0.02, epochs=3)
STILL = FitConfig(learning_rate=0.0, epochs=2)


@pytest.fixture(scope="module")
def board() -> Training:
    world = checkerboard(users=24, contents=20, share=0.7, seed=3)
    graph = from_records("checkerboard", world.nodes, world.hyperedges)
    users, contents = graph.pairs("RATED")
    shape = graph.size("User"), graph.size("Content")
    liked = sp.csr_array((np.ones(len(users), np.float32), (users, contents)), shape=shape)
    rng = np.random.default_rng(0)
    times = sp.csr_array((rng.integers(1, 1000, len(liked.data)), liked.indices, liked.indptr), shape=shape)
    return Training(graph, liked, times, np.ones(shape[1], bool), seed=7)


@pytest.fixture(scope="module", params=list(BASES))
def base(request, board):
    """A trained base and its settings."""
    settings = dict(BASES[request.param])
    model = recommenders.build(settings.pop("name"), settings)
    fit(model, board, None, QUICK)
    return model, BASES[request.param]


def everybody(training: Training) -> Users:
    return Users(np.arange(training.positives.shape[0]), training.positives, training.times)


def adapted(settings, config=QUICK, training=None, arrays=None, **more) -> Adapted:
    model = recommenders.build("adapted", {"base": settings, "rank": 4, "newer_share": 0.4, **more})
    if arrays is not None:
        model.stand_on(arrays)
    fit(model, training, None, config)
    return model


def test_at_the_start_it_answers_as_the_base_to_the_bit(base, board):
    model, settings = base
    silent = adapted(settings, STILL, board, model.arrays())
    np.testing.assert_array_equal(silent.score(everybody(board)), model.score(everybody(board)))
    ups = [value for name, value in silent.adapter().items() if ".lora_B." in name]
    assert ups and all(not value.any() for value in ups)


def test_it_learns_and_leaves_the_base_as_it_was(base, board):
    model, settings = base
    learned = adapted(settings, QUICK, board, model.arrays())
    assert np.abs(learned.score(everybody(board)) - model.score(everybody(board))).max() > 1e-3
    kept = base_of(learned.arrays())
    for name, value in model.arrays().items():
        np.testing.assert_array_equal(kept[name], value)
    assert hash_of(kept) == hash_of(model.arrays())
    bare = learned.bare(board.graph)
    np.testing.assert_array_equal(bare.score(everybody(board)), model.score(everybody(board)))


def test_merged_and_unmerged_answer_alike(base, board):
    model, settings = base
    learned = adapted(settings, QUICK, board, model.arrays(), alpha=8)
    whole = learned.config.made()
    whole.restore(merged(learned.arrays(), learned.config.lora()), board.graph)
    np.testing.assert_allclose(
        whole.score(everybody(board)), learned.score(everybody(board)), rtol=1e-4, atol=1e-5
    )


def test_merging_equals_adding_in_the_parameters_of_a_trained_module(base, board):
    """For GraphSAGE the vectors alone would show nothing: the parameters are followed anew and frozen."""
    model, settings = base
    learned = adapted(settings, QUICK, board, model.arrays())
    before = learned.score(everybody(board))
    whole = learned.config.made()
    whole.follow(merged(learned.arrays(), learned.config.lora()), board)
    whole.module.eval()
    whole.freeze()
    np.testing.assert_allclose(whole.score(everybody(board)), before, rtol=1e-3, atol=1e-4)


def test_an_adapter_goes_back_in_and_never_onto_another_base(base, board):
    model, settings = base
    learned = adapted(settings, QUICK, board, model.arrays())
    wanted, alone = learned.score(everybody(board)), learned.adapter()
    assert set(alone) == {name for name in learned.arrays() if name.startswith((ADAPTER, HASH))}
    other = adapted(settings, STILL, board, model.arrays())
    other.load_adapter(alone)
    with torch.no_grad():
        other.freeze()
    np.testing.assert_array_equal(other.score(everybody(board)), wanted)
    strange = dict(model.arrays())
    name = next(name for name in strange if name.startswith("parameter.") and strange[name].size > 9)
    strange[name] = strange[name] + 1e-6
    third = adapted(settings, STILL, board, strange)
    with pytest.raises(ValueError, match="stands on one base, this one was learned on"):
        third.load_adapter(alone)
    with pytest.raises(ValueError, match="adapter must have rank 8"):
        adapted(settings, STILL, board, model.arrays(), rank=8).load_adapter(alone)


def test_a_version_names_its_base_and_is_refused_on_another(base, board, tmp_path):
    model, settings = base
    store = ModelStore(tmp_path)
    info = SaveInfo("checkerboard", board.graph.hash, board)
    first = store.save("base", model, info)
    hash = hash_of(model.arrays())
    told = {"version": first.ref, "folder": str(first.folder), "base_hash": hash}
    learned = adapted(settings, QUICK, board, **told)
    version = store.save("adapted", learned, info)
    assert version.config["base_hash"] == hash and version.config["version"] == "base/1"
    back = store.restore(version, board.graph)
    np.testing.assert_array_equal(back.score(everybody(board)), learned.score(everybody(board)))
    np.testing.assert_array_equal(
        back.bare(board.graph).score(everybody(board)), model.score(everybody(board))
    )
    changed = back.arrays()
    name = next(name for name in changed if name.startswith(f"{BASE}parameter."))
    changed[name] = changed[name] * 2
    with pytest.raises(ValueError, match="stands on one base"):
        type(back)(back.config).restore(changed, board.graph)
    with pytest.raises(ValueError, match="base/1 is"):
        adapted(settings, STILL, board, **{**told, "base_hash": "0" * 32})
    with pytest.raises(ModelError, match="needs the folder of its base"):
        adapted(settings, STILL, board, **{**told, "folder": str(tmp_path / "gone")})


def test_a_second_night_goes_on_from_the_first(base, board):
    model, settings = base
    first = adapted(settings, QUICK, board, model.arrays())
    again = adapted(settings, STILL, board, first.arrays())
    np.testing.assert_array_equal(again.score(everybody(board)), first.score(everybody(board)))
    assert hash_of(base_of(again.arrays())) == hash_of(model.arrays())


def test_broken_off_and_taken_up_it_ends_as_if_unbroken(board, tmp_path):
    told = {"base_epochs": 1, "strength": 5.0, "examples": 8}
    config = FitConfig(learning_rate=0.02, epochs=4)
    whole = adapted(BASES["sasrec"], config, board, **told)
    for epochs in (2, 4):
        part = recommenders.build("adapted", {"base": BASES["sasrec"], "rank": 4, "newer_share": 0.4, **told})
        fit(part, board, None, replace(config, epochs=epochs), folder=tmp_path)
    for name, value in whole.arrays().items():
        np.testing.assert_array_equal(part.arrays()[name], value, err_msg=name)


def test_a_base_grows_on_older_likes_and_is_then_frozen(board):
    grown = adapted(BASES["sasrec"], FitConfig(learning_rate=0.02, epochs=2), board, base_epochs=2)
    assert not any(value.any() for name, value in grown.adapter().items() if ".lora_B." in name)
    later = adapted(BASES["sasrec"], FitConfig(learning_rate=0.02, epochs=4), board, base_epochs=2)
    assert hash_of(base_of(later.arrays())) == hash_of(base_of(grown.arrays()))
    assert any(value.any() for name, value in later.adapter().items() if ".lora_B." in name)


def test_one_cohort_learns_and_the_other_answers_as_before(board):
    model = recommenders.build(
        "sasrec", {key: BASES["sasrec"][key] for key in BASES["sasrec"] if key != "name"}
    )
    fit(model, board, None, QUICK)
    lengths = np.diff(board.positives.indptr)
    edge = int(np.median(lengths)) + 1
    short = lengths < edge
    # nobody with a short history has newer likes: their adapter stays as it began
    times = board.times.copy()
    times.data = np.repeat(np.where(short, 1, 1000), lengths)
    told = replace(board, times=times)
    learned = adapted(BASES["sasrec"], QUICK, told, model.arrays(), cohorts=[edge], since_s=500)
    for rows, is_moved in ((np.flatnonzero(short), False), (np.flatnonzero(~short), True)):
        some = Users(rows, told.positives[rows], told.times[rows])
        moved = np.abs(learned.score(some) - model.score(some)).max(axis=1)
        assert moved.all() if is_moved else not moved.any()
    back = Adapted(learned.config)
    back.restore(learned.arrays(), board.graph)
    np.testing.assert_array_equal(back.score(everybody(told)), learned.score(everybody(told)))
    row = int(np.flatnonzero(~short)[0])
    one = Users(np.array([row]), told.positives[[row]], told.times[[row]])
    learned.score(Users(np.array([-1]), sp.csr_array((1, 20), dtype=np.float32)))  # the other cohort speaks
    assert np.abs(learned.contributions(one, 0) - model.contributions(one, 0)).max() > 0


def test_ewc_holds_the_adapter_near_where_it_began(board):
    model = recommenders.build(
        "sasrec", {key: BASES["sasrec"][key] for key in BASES["sasrec"] if key != "name"}
    )
    fit(model, board, None, QUICK)

    def way(strength):
        found = adapted(BASES["sasrec"], QUICK, board, model.arrays(), strength=strength, examples=50)
        return sum(np.abs(value).sum() for name, value in found.adapter().items() if ".lora_B." in name)

    assert way(1e5) < 0.5 * way(0.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 2}, "rank of 4 to 16"),
        ({"rank": 17}, "rank of 4 to 16"),
        ({"alpha": 0}, "alpha above 0"),
        ({"version": "sasrec/1"}, "version and folder together"),
        ({"newer_share": 0}, "newer_share above 0"),
        ({"cohorts": [9, 3]}, "rising lengths"),
        ({"strength": -1}, "strength of 0 or more"),
        ({"base": {"name": "ease"}}, "choose sasrec or graphsage"),
        ({"base": {}}, "must name its base"),
        ({"base": BASES["graphsage"], "cohorts": [5]}, "leave cohorts out"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(SettingError, match=said):
        AdaptedConfig(**{**settings, "cohorts": tuple(settings.get("cohorts", ()))})


def test_targets_that_are_not_there_are_refused(board):
    with pytest.raises(SettingError, match="targets must name linear projections"):
        adapted(BASES["sasrec"], STILL, board, targets=["nothing"])
