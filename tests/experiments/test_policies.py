"""Policies: classes are disjoint and formed before the test, the learned one never sees a test value."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from apps.commands.policies import show
from configs.home import Home
from configs.registry import SettingError, fill, import_parts
from experiments import policies as policing
from experiments.evaluation import EvaluationConfig
from experiments.mechanism_runs import ChosenRate, Records, SeedRun
from experiments.mechanism_study import NAME, RATE, Study
from experiments.mechanisms import StudyConfig, study
from experiments.policies import (
    BEST,
    CLASSES,
    LEARNED,
    PUBLISHED,
    STAND_FOR,
    UNIFORM,
    Borders,
    applied,
    best_single,
    borders,
    classes,
    compare_policies,
    genre_entropy,
    history_lengths,
    learned,
    measured,
    policies,
)
from experiments.policy_report import document, summary
from experiments.result import ResultError
from experiments.significance import TestConfig, holm
from experiments.spaces import SearchConfig
from experiments.splits import Part, SplitConfig, split
from kg.worlds import WorldConfig, world
from models.ranking import genres_of

OF = np.array(["short", "short", "long", "long", "narrow", "wide"])
VALIDATION = {
    "a": np.array([0.9, 0.7, 0.0, 0.0, 0.5, 0.5]),  # best for short, and in all
    "b": np.array([0.0, 0.0, 0.6, 0.8, 0.6, 0.5]),  # best for long and narrow; ties wide
}
QUICK = TestConfig(resamples=1_000, least_users=50)
SPLIT = {"name": "last_fifth", "positive_rating": 8.0}
MODEL = {"name": "sasrec", "width": 8, "blocks": 1, "heads": 2, "max_length": 10, "batch": 32}
SEARCH = {
    "name": "attention_small",
    "base": {
        "name": "small",
        "model": MODEL | {"attention": {"name": "multi_head"}},
        "split": SPLIT,
        "train": {"learning_rate": 0.01, "epochs": 1, "patience": 1, "metric": "ndcg@10"},
        "measure": {"metrics": ["ndcg@10"], "list_metrics": [], "resamples": 100},
    },
    "space": {NAME: {"choice": ["flash"]}, RATE: {"choice": [0.01]}},
    "objective": {"ndcg@10": "max", "fit_s": "min"},
    "trials": 1000,
    "sampler": "grid",
    "workers": 0,
    "mlflow": False,
    "keeps_values": True,
}
SPECIALISTS = {picked[0]: name for name, picked in PUBLISHED["published 1"].items()}
"""Mechanism -> the class that the first published table gives to it."""


@pytest.fixture(scope="module")
def cut(tasteful):
    import_parts("models")
    return split(tasteful, fill(SplitConfig, SPLIT, "split"))


@pytest.fixture
def plant(cut, tmp_path):
    """A study of made-up values: ``plant(validation, test)``, each mechanism -> a value per user."""

    def planted(validation, test, task="history", failed=()):
        records = Records(tmp_path / f"{task}-{len(list(tmp_path.iterdir()))}")
        for name, values in validation.items():
            records.keep_chosen(ChosenRate(name, 0.01, float(values.mean()), 1, 1.0), values)
            for seed in (0, 1):  # the mean over seeds is what was asked for
                off = (seed - 0.5) * 0.02
                run = SeedRun(name, seed, {"ndcg@10": float(test[name].mean()) + off}, 1.0, 1)
                records.keep_run(run, {"users": cut.test.users, "ndcg@10": test[name] + off})
        for name in failed:
            records.keep_chosen(ChosenRate(name, error="a planted error"), None)
        names = [*validation, *failed]
        chosen = {name: records.chosen(name) for name in names}
        runs = {name: tuple(records.runs(name, (0, 1))) for name in names}
        settings = fill(SearchConfig, SEARCH, "search")
        return Study(task, settings, cut.hash, (0, 1), chosen, runs, records.folder)

    return planted


@pytest.fixture
def special(cut):
    """(validation, test) values: each mechanism is right for its class alone."""
    border = borders(cut.validation)
    both = []
    for part in (cut.validation, cut.test):
        of = classes(part, border)
        both.append({name: (of == mine).astype(float) for name, mine in SPECIALISTS.items()})
    return both


def test_choices_by_hand():
    assert best_single(VALIDATION) == "a"
    assert learned(VALIDATION, OF) == {"short": ("a",), "long": ("b",), "narrow": ("b",), "wide": ("a",)}
    nobody = np.array(["short"] * 6)
    assert learned(VALIDATION, nobody)["long"] == ("a",)  # a class without anybody takes the best of all
    with pytest.raises(SettingError, match="run the bench"):
        best_single({})


def test_values_by_hand():
    found, missing = policies(VALIDATION, OF)
    assert set(found) == {BEST, LEARNED, UNIFORM} and set(missing) == set(PUBLISHED)
    test = {"a": np.array([1.0, 1, 0, 0, 0, 1]), "b": np.array([0.0, 0, 1, 1, 1, 0])}
    results = {one.name: one for one in measured(found, OF, test, EvaluationConfig(resamples=100))}
    assert results[BEST].value.value == pytest.approx(3 / 6) and results[BEST].to_best is None
    assert results[LEARNED].value.value == 1.0
    assert results[LEARNED].to_best.difference == pytest.approx(3 / 6)
    assert results[UNIFORM].value.value == pytest.approx(1 / 2)
    assert results[UNIFORM].by_class == dict.fromkeys(CLASSES, 0.5)


def test_the_learned_policy_is_the_same_whatever_test_says():
    """A planted leak: on test the other mechanism is better in every class, and nothing follows from it."""
    found, _ = policies(VALIDATION, OF)
    test = {"a": 1 - VALIDATION["a"], "b": 1 - VALIDATION["b"]}
    (honest,) = (
        one for one in measured(found, OF, test, EvaluationConfig(resamples=100)) if one.name == LEARNED
    )
    assert honest.picks == learned(VALIDATION, OF)
    leaked = learned(test, OF)  # what a policy would pick that looked
    assert leaked["short"] != honest.picks["short"]
    assert np.mean(applied(leaked, OF, test)) > honest.value.value


def test_published_tables_take_the_best_single_one_where_they_say_nothing():
    names = {one for picks in PUBLISHED.values() for picked in picks.values() for one in picked}
    validation = {name: np.full(6, 0.1) for name in names} | {"z": np.full(6, 0.2)}
    found, missing = policies(validation, OF)
    assert not missing and found["published 2"]["short"] == ("z",)
    assert found["published 1"]["short"] == ("multi_head",)
    assert found["published 2"]["wide"] == ("graph_rope", "edge_featured")
    test = {name: np.full(6, float(name == "edge_featured")) for name in validation}
    assert applied(found["published 2"], OF, test).tolist() == [0, 0, 0, 0, 0, 0.5]


def test_classes_are_read_from_the_history_alone(cut):
    part, border = cut.test, borders(cut.validation)
    of, length, entropy = classes(part, border), history_lengths(part), genre_entropy(part)
    assert set(of) == set(CLASSES) and len(of) == len(part.users)
    assert length[of == "short"].max() <= border.short < length[of == "narrow"].min()
    assert length[of == "wide"].max() <= border.long < length[of == "long"].min()
    assert entropy[of == "narrow"].max() <= border.entropy < entropy[of == "wide"].min()
    elsewhere = sp.csr_array(
        (np.ones(len(part.users), np.float32), (part.users, np.zeros(len(part.users), int))),
        shape=part.held_out.shape,
    )
    np.testing.assert_array_equal(classes(replace(part, held_out=elsewhere), border), of)


@pytest.mark.parametrize(
    ("lengths", "entropies", "border", "told"),
    [
        ([1, 2, 3, 4, 5], [0, 0, 1, 0, 0], Borders(2, 4, 0.5), "short short wide narrow long"),
        # ties stand on the lower side of their border, however many they are
        ([1, 1, 1, 2, 3, 4, 5, 9], [0, 9, 0, 0.5, 1.5, 1, 0, 9], Borders(1, 4.25, 1), None),
        ([7, 7, 7], [0.0, 1.0, 2.0], Borders(7, 7, 1), "short short short"),
        ([0], [0.0], Borders(0, 0, 0), "short"),
    ],
)
def test_borders_by_hand(monkeypatch, lengths, entropies, border, told):
    monkeypatch.setattr(policing, "history_lengths", lambda part: np.array(lengths))
    monkeypatch.setattr(policing, "genre_entropy", lambda part: np.array(entropies, float))
    told = told or "short short short narrow wide narrow long long"
    assert " ".join(classes(None, border)) == told
    if len(lengths) != 5:  # quartiles and median of these very users
        assert borders(None) == border


def test_entropy_by_hand(cut):
    """Someone who likes one content of one genre has 0 bits; of two genres alike, 1 bit."""
    genres = genres_of(cut.test.training.graph).toarray()
    single = np.flatnonzero(genres.sum(1) == 1)
    by_genre = {int(genres[row].argmax()): int(row) for row in single}
    first, second, *_ = by_genre.values()
    history = sp.lil_array(cut.test.history.shape, dtype=np.float32)
    history[0, first] = history[1, first] = history[1, second] = 1
    held_out = sp.lil_array(history.shape, dtype=np.float32)
    held_out[0, second] = held_out[1, 0] = 1
    training = replace(cut.test.training, positives=history.tocsr(), times=history.tocsr().astype(np.int64))
    part = Part(training, held_out.tocsr(), cut.test.until, None)
    np.testing.assert_allclose(genre_entropy(part), [0.0, 1.0], atol=1e-12)
    assert history_lengths(part).tolist() == [1, 2]


def test_who_is_right_for_one_class_is_learned_for_it(plant, special, cut, tasteful):
    found = compare_policies([plant(*special, failed=("gat",))], tasteful, QUICK)
    (table,) = found.tables
    border = borders(cut.validation)
    assert table.borders == border and found.idle == ()
    of = classes(cut.test, border)
    assert table.users == {name: int((of == name).sum()) for name in CLASSES}
    assert sum(table.users.values()) == len(cut.test.users)
    for name in (LEARNED, "published 1"):
        one = table.result(name)
        assert one.picks == PUBLISHED["published 1"] and one.value.value == pytest.approx(1)
        assert found.is_better(table, one) and one.to_best.low > 0
    (single,) = set(table.result(BEST).picks.values())
    assert table.result(BEST).value.value == pytest.approx((of == SPECIALISTS[single[0]]).mean())
    assert table.result(UNIFORM).value.value == pytest.approx(1 / 4)
    assert table.missing == {"published 2": ("edge_featured", "hyperbolic_distance")}
    assert table.unfinished == {
        "gat": "a planted error",
        "edge_featured": "it was not run",
        "hyperbolic_distance": "it was not run",
    }
    with pytest.raises(ResultError, match="published 2"):
        table.result("published 2")


def test_holm_is_over_all_policies_of_both_tasks(plant, special, tasteful):
    rng = np.random.default_rng(0)
    noisy = {name: rng.random(len(values)) for name, values in special[1].items()}
    found = compare_policies(
        [plant(*special), plant(special[0], noisy, "neighbourhood")], tasteful, TestConfig(resamples=1_000)
    )
    mine = [one for table in found.tables for one in table.results if one.name != BEST]
    assert len(mine) == found.tests == 6
    assert [one.p for one in mine] == holm([one.to_best.p for one in mine])
    assert max(one.p for one in mine) > max(one.to_best.p for one in mine if one.to_best.p < 0.1)


def test_too_few_users_and_a_loss_are_never_better(plant, special, tasteful):
    few = compare_policies([plant(*special)], tasteful, replace(QUICK, least_users=100_000))
    (table,) = few.tables
    assert not any(few.is_better(table, one) for one in table.results)
    best = best_single(special[0])
    turned = {name: np.full(len(values), float(name == best)) for name, values in special[1].items()}
    found = compare_policies([plant(special[0], turned)], tasteful, QUICK)
    assert found.tables[0].result(LEARNED).p < found.level
    assert not found.is_better(found.tables[0], found.tables[0].result(LEARNED))
    assert "worse: learned, published 1, uniform" in summary(found)[0]


def test_a_planted_leak_of_test_values_is_caught(plant, special, cut, tasteful):
    """What a policy picks must not move with test values; it does where they lie in validation's place."""
    rng = np.random.default_rng(1)

    def picks(is_leaky, test):
        one = plant(special[0], test)
        if is_leaky:
            for name in special[0]:
                values = test[name][: len(cut.validation.users)]
                np.savez(one.chosen[name].file, values=values)
        (table,) = compare_policies([one], tasteful, QUICK).tables
        return [result.picks for result in table.results]

    def leaks(is_leaky):
        tests = [{name: rng.random(len(cut.test.users)) for name in SPECIALISTS} for _ in range(4)]
        first, *others = [picks(is_leaky, test) for test in tests]
        return any(other != first for other in others)

    assert len(cut.validation.users) <= len(cut.test.users)
    assert not leaks(False) and leaks(True)


def test_values_of_other_users_and_nothing_finished_are_refused(plant, special, cut, tasteful):
    told = plant(*special)
    short = {name: values[1:] for name, values in special[0].items()}
    with pytest.raises(ResultError, match="run it with --again"):
        compare_policies([plant(short, special[1])], tasteful, QUICK)
    run = told.runs["flash"][1]
    np.savez(run.file, users=cut.test.users + 1, **{"ndcg@10": special[1]["flash"]})
    with pytest.raises(ResultError, match="--again flash"):
        compare_policies([told], tasteful, QUICK)
    idle = replace(told, runs=dict.fromkeys(told.runs, ()))
    with pytest.raises(ResultError, match="run `mg bench attention`"):
        compare_policies([idle], tasteful, QUICK)


def test_the_report_says_what_stands_for_what_and_what_is_missing(plant, special, tasteful):
    found = compare_policies(
        [plant(*special, failed=("gat",)), plant({}, {}, "neighbourhood")], tasteful, QUICK
    )
    text = document(found, "It is made up.").markdown()
    for said in (
        "It is made up.",
        "stand-ins",
        "The published class availability is left out",
        "The published class comparison is left out",
        "published 2 could not be tried and is left out",
        "In no policy, a planted error: `gat`.",
        "neighbourhood: no mechanism is finished",
        "better than it: learned, published 1",
        *(told for stands in STAND_FOR.values() for told in stands.values()),
    ):
        assert said in text, said
    rows = list(csv.DictReader(document(found).tables()[1].csv().splitlines()))
    assert len(rows) == len(CLASSES) * 4
    learned_rows = {row["class"]: row["picks"] for row in rows if row["policy"] == LEARNED}
    assert learned_rows == {name: picked[0] for name, picked in PUBLISHED["published 1"].items()}


def test_a_small_world_end_to_end(toy, tmp_path, capsys):
    made = world(WorldConfig(users=80, contents=50, groups=4, ratings_per_user=15, seed=1))
    graph = toy.arrays(made.records, "world")
    config = StudyConfig(SEARCH, ("flash", "linear", "mean"), seeds=(0, 1))
    one = study("history", config, graph, Home(tmp_path / "home"))
    found = compare_policies([one], graph, QUICK)
    (table,) = found.tables
    means = {name: np.mean([run.values("ndcg@10") for run in runs]) for name, runs in one.runs.items()}
    assert table.result(BEST).value.value == pytest.approx(means[table.result(BEST).picks["short"][0]])
    assert table.result(UNIFORM).value.value == pytest.approx(np.mean(list(means.values())))
    assert set(table.missing) == set(PUBLISHED)
    folders = [tmp_path / "first", tmp_path / "second"]
    show(found, "made up", folders, False)
    said = capsys.readouterr().out
    assert "best single" in said and "published 1 could not be tried" in said and "written to" in said
    show(found, "made up", folders[:1], True)
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((folders[1] / "policies.json").read_text())
    names = ("policies.md", "policies.html", "policies.csv", "policies.json", "policies_classes.csv")
    assert {path.name for path in folders[1].iterdir()} == set(names)
    with (folders[1] / "policies.csv").open() as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert float(rows[UNIFORM]["value"]) == table.result(UNIFORM).value.value
    assert compare_policies([one], graph, QUICK) == found
