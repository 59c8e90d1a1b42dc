"""The gate's look at groups, its turn-taking, and the complete card; on runs made up value by value."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs.home import Home
from configs.registry import SettingError
from experiments.evaluation import Interval
from experiments.promote import GateConfig, Way, promote
from experiments.result import RunResult
from experiments.run import run
from models.card import missing
from models.interface import recommenders
from models.store import CARD, WEIGHTS, ModelStore, SaveInfo
from models.verification import ModelError

SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
GATE = GateConfig(latency_ms=10_000, latency_calls=1, latency_rounds=1, warm_up_calls=1)


@pytest.fixture(scope="module")
def found(tasteful, tmp_path_factory):
    """One real run, and the same under a second version."""
    home = Home(tmp_path_factory.mktemp("gate"))
    result = run({"name": "item_knn", "model": {"name": "item_knn"}, "split": SPLIT}, tasteful, home)
    return home, [result, replace(result, version=again(ModelStore(home.models), "item_knn", result.version))]


def again(models, name, ref):
    """Saves the model of a version once more, with all that is told of it."""
    version = models.load(ref)
    model, told = recommenders.build(version.model, version.config), version.manifest
    weights = load_file(version.folder / WEIGHTS)
    model.arrays = lambda: weights
    parts = ("metrics", "split_hash", "seeds", "code_revision", "licence", "groups", "split", "experiment")
    info = SaveInfo(
        version.graph, version.graph_hash, version.training(), **{part: told[part] for part in parts}
    )
    return models.save(name, model, info).ref


@pytest.fixture
def models(found):
    home, _ = found
    store = ModelStore(home.models)
    yield store
    for path in (home.models / "aliases").rglob("*.json"):
        path.unlink()


def made(result, values, groups):
    """A run whose values per user are these; group -> (mask, values or None for those of all)."""
    arrays = dict(result._arrays)
    arrays["metric:ndcg@10"] = values
    arrays = {name: value for name, value in arrays.items() if not name.startswith("group:")}
    for name, mask in groups.items():
        arrays[f"group:{name}:ndcg@10"] = np.where(mask, values, np.nan)
    changed = replace(result, groups={name: {"ndcg@10": Interval(0, 0, 0, 0)} for name in groups})
    changed.__dict__["_arrays"] = arrays
    return changed


@pytest.fixture
def pair(found, models, monkeypatch):
    """Holder and candidate over masks: the candidate is better for all but where ``harm`` says so."""
    _, (first, second) = found
    models.set_alias("world", "champion", first.version, "by hand")
    people = len(first.users)
    before = np.random.default_rng(0).uniform(0.2, 0.4, people)

    def of(groups, harm):
        after = before + 0.1 + harm
        holder = made(first, before, groups)
        monkeypatch.setattr("experiments.promote.runs", lambda parent: iter([holder]))
        return made(second, after, groups)

    return of, people


def groups_of(promotion):
    return next(one for one in promotion.conditions if one.name == "groups")


def answered(result):
    sample = result.sample()
    return lambda _, user, n: sample[user][:n]


def test_a_region_that_loses_more_than_its_margin_stops_a_better_version(pair, models):
    of, people = pair
    mask = np.arange(people) < 40
    run = of({"region DE": mask, "region US": ~mask, "head contents": mask}, np.where(mask, -0.2, 0.0))
    said = promote(run, "champion", answered(run), models, GATE)
    assert not said.promoted and [one.name for one in said.conditions if not one.passed] == ["groups"]
    came = groups_of(said).came
    assert "region DE -0.1000 (-0.1000 to -0.1000) on 40 people where -0.01" in came
    assert "region US" not in came and "head contents" not in came and "groups must be" in said.reason
    assert models.alias("world", "champion").ref != run.version


@pytest.mark.parametrize(
    ("harm", "count", "passes", "said"),
    [
        (-0.105, 60, True, "2 groups judged, none worse"),  # -0.005 lies within 5% of .3
        (-0.2, 29, True, "1 groups judged, none worse; not judged, fewer than 30 people: cold users"),
        (-0.2, 30, False, "worse: cold users"),
    ],
)
def test_margins_and_small_groups(pair, models, harm, count, passes, said):
    of, people = pair
    mask = np.arange(people) < count
    run = of({"cold users": mask, "platform a": ~mask}, np.where(mask, harm, 0.0))
    condition = groups_of(promote(run, "champion", answered(run), models, GATE))
    assert condition.passed is passes and said in condition.came


def test_luck_is_not_harm(pair, models):
    of, people = pair
    mask = np.arange(people) < 40
    swings = np.where(mask, np.where(np.arange(people) % 2, -1.0, 0.7), 0.0)  # -0.05 in the mean, by luck
    run = of({"region DE": mask, "region US": ~mask}, swings)
    assert groups_of(promote(run, "champion", answered(run), models, GATE)).passed


def test_a_group_without_values_is_told_and_another_margin_counts(pair, models):
    of, people = pair
    mask = np.arange(people) < 40
    run = of({"region DE": mask}, np.where(mask, -0.2, 0.0))
    wide = replace(GATE, margins={"region": 0.9})
    assert groups_of(promote(run, "champion", answered(run), models, wide)).passed
    models.set_alias("world", "champion", "item_knn/1", "back")
    del run.__dict__["_arrays"]["group:region DE:ndcg@10"]
    came = groups_of(promote(run, "champion", answered(run), models, GATE)).came
    assert "not judged, a run without values per group (run it again): region DE" in came
    with pytest.raises(SettingError, match="margins of 0 or more"):
        replace(GATE, margins={"region": -0.1})


def test_runs_keep_each_persons_value_in_every_group(found):
    for result in found[1]:
        again = RunResult.load(result.folder)
        for name, group in result.groups.items():
            values = again.group_values(name, "ndcg@10")
            assert len(values) == result.test_users
            assert np.sum(~np.isnan(values)) == group["ndcg@10"].users
            if group["ndcg@10"].users:
                assert np.nanmean(values) == pytest.approx(group["ndcg@10"].value)


def test_of_two_promotions_at_once_the_second_gets_a_sentence(pair, models, found):
    of, people = pair
    run = of({}, 0.0)

    def slow(version, user, n):
        if models.holding("world", "champion").version != other:
            models.set_alias("world", "champion", other, "was quicker")
        return answered(run)(version, user, n)

    other = again(models, "other", found[1][0].version)
    said = promote(run, "champion", slow, models, GATE)
    assert not said.promoted and "was quicker" in said.reason and "nothing was changed" in said.reason
    assert models.alias("world", "champion").ref == other
    assert said.conditions[-1].name == "turn" and not said.conditions[-1].passed


def test_a_version_that_passed_goes_on_as_shadow_or_canary(pair, models):
    of, _ = pair
    run = of({}, 0.0)
    said = promote(run, "champion", answered(run), models, GATE, Way("canary", 0.2))
    held = models.holding("world", "champion")
    assert said.promoted and (said.stage, said.share) == ("canary", 0.2) and held.version == said.previous
    assert (held.candidate.version, held.candidate.stage, held.candidate.share) == (
        run.version,
        "canary",
        0.2,
    )
    last = models.history("world", "champion")[-1]
    assert last.step == "canary" and run.run_id in last.reason


def test_what_fails_the_gate_is_not_tried_on_anybody(pair, models):
    of, _ = pair
    run = of({}, -0.2)
    assert not promote(run, "champion", answered(run), models, GATE, Way("canary", 0.2)).promoted
    assert models.holding("world", "champion").candidate is None


def test_a_file_that_changed_after_the_run_is_refused(pair, models):
    of, _ = pair
    run = of({}, 0.0)
    path = models.load(run.version).folder / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=WEIGHTS):
        promote(run, "champion", answered(run), models, GATE, Way("shadow"))
    path.write_bytes(whole)
    assert models.holding("world", "champion").candidate is None


def test_a_card_tells_use_limits_groups_split_and_how_to_repeat(found, models):
    version = models.load(found[1][0].version)
    assert missing(version.manifest) == []
    card = (version.folder / CARD).read_text()
    for said in ("## What it is for", "Not for deciding about people", "## Limits", "| cold users |"):
        assert said in card
    for said in ("| split `name` | last_fifth |", "experiment `run`", "| seeds | 0 |", "licence of the data"):
        assert said in card
    assert missing({**version.manifest, "groups": {}, "licence": "unknown"}) == [
        "groups",
        "licence of the data",
    ]
