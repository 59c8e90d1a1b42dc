"""Windows of time, ways to learn on, and the study over them, on a generated world."""

from dataclasses import replace

import numpy as np
import pytest

from configs.loading import ROOT, load
from configs.registry import SettingError, fill
from experiments.forgetting import ForgettingConfig, forgetting
from experiments.forgetting_report import document
from experiments.windows import CHOOSE, LEARN, TEST, windows

TINY = load("forgetting/tiny.yaml")


@pytest.fixture(scope="module")
def found(tasteful):
    return forgetting({**TINY, "windows": 2}, tasteful)


def test_every_file_builds():
    for path in sorted((ROOT / "forgetting").glob("*.yaml")):
        assert fill(ForgettingConfig, load(path), path.name).name == path.stem


@pytest.mark.parametrize("held", [CHOOSE, TEST])
def test_nothing_held_out_is_ever_told(tasteful, held):
    cut = windows(tasteful, 4, 8.0, 0, held)
    tests = cut.likes.pairs[cut.part == TEST]
    width = cut.likes.content_count
    for number in range(cut.count):
        training, asked = cut.training(number), cut.asked(number)
        users = np.repeat(np.arange(cut.likes.user_count), np.diff(training.positives.indptr))
        told = users * width + training.positives.indices
        assert not np.isin(told, tests).any()
        assert training.times.data.max() < (cut.starts[number + 1] if number + 1 < cut.count else np.inf)
        held_out = asked.held_out.tocoo()
        assert not np.isin(held_out.row * width + held_out.col, told).any()
        if held == CHOOSE:  # what chooses is not what measures
            assert not np.isin(held_out.row * width + held_out.col, tests).any()


def test_a_windows_test_is_the_last_fifth_of_each_person_there(tasteful):
    cut = windows(tasteful, 4, 8.0, 0)
    sizes = np.bincount(cut.window)
    assert sizes.max() - sizes.min() <= 0.05 * len(cut.window)
    for number in range(cut.count):
        for user in np.unique(cut.likes.users):
            here = (cut.window == number) & (cut.likes.users == user)
            count = int(here.sum())
            parts = cut.part[here]
            assert (parts == TEST).sum() == count // 5
            assert (parts[count - count // 5 :] == TEST).all() and (parts == LEARN).sum() >= count // 2


def test_the_frozen_keeps_all_and_curves_are_whole(found):
    last = len(found.starts)
    assert found.method("frozen").kept == 1.0 and found.method("frozen").parameters == 0
    for one in found.methods:
        assert [len(row) for row in one.curve] == list(range(1, last + 1))
        assert one.curve[0][0] == found.method("frozen").curve[0][0]  # all begin from one model
        assert all(len(values) == people for values, people in zip(one.last, found.people, strict=True))
    assert 0 < found.method("LoRA").parameters < found.method("fine-tuning").parameters / 2
    assert found.method("EWC++").kept_bytes == 8 * found.method("EWC++").parameters
    assert (
        found.method("EWC++").settings["learning_rate"]
        == found.method("fine-tuning").settings["learning_rate"]
    )
    assert found.method("fine-tuning").tried == 2 and found.returning[0] == 0
    assert found.newest("fine-tuning") == 0 and len(found.compared) == 2 * (len(found.methods) - 1)


def test_the_same_again_gives_the_same(tasteful):
    methods = {"fine-tuning": {"way": "tuned", "epochs": 1, "strength": 10.0, "examples": 5}}
    first, second = (forgetting({**TINY, "windows": 2, "methods": methods}, tasteful) for _ in range(2))
    for one, other in zip(first.methods, second.methods, strict=True):
        assert one.curve == other.curve and one.settings == other.settings


def test_tests_have_no_say_in_settings(tasteful, monkeypatch):
    """Planted: every test like is another content; what was chosen, and by which value, stays."""
    methods = {"fine-tuning": TINY["methods"]["fine-tuning"]}
    config = {**TINY, "windows": 2, "methods": methods}
    before = forgetting(config, tasteful).method("fine-tuning")

    def spoilt(*told):
        cut = windows(*told)
        likes, contents = cut.likes, cut.likes.contents.copy()
        contents[cut.part == TEST] = contents[cut.part == TEST][::-1]
        return replace(cut, likes=replace(likes, contents=contents))

    monkeypatch.setattr("experiments.forgetting.windows", spoilt)
    after = forgetting(config, tasteful).method("fine-tuning")
    assert (before.settings, before.chosen_by) == (after.settings, after.chosen_by)
    assert before.curve != after.curve


def test_a_border_by_drift_and_a_buffer_learn_windows_too(tasteful):
    methods = {
        "fine-tuning": {"way": "tuned", "epochs": 1},
        "drift": {"way": "tuned", "epochs": 1, "strength": 10.0, "border": "drift", "examples": 55},
        "buffer": {"way": "tuned", "epochs": 1, "replay": 30},
    }
    found = forgetting({**TINY, "windows": 2, "methods": methods}, tasteful)
    assert found.method("drift").kept_bytes > 0 and found.method("buffer").kept_bytes == 8 * 30
    last = [one.curve[-1] for one in found.methods]
    assert last[0] != last[1] and last[0] != last[2]


def test_the_report_tells_all_and_says_whether_the_bar_is_met(found):
    told = document(found, "made up.", "mg forgetting x")
    text = told.markdown()
    assert "Simulated" in text and "mg forgetting x" in text and "tests are measured once" in text
    assert ("EWC++ meets the bar" in text) != ("EWC++ does not meet the bar" in text)
    names = {table.name for table in told.tables()}
    assert names == {"forgetting", "forgetting_compared", "forgetting_curve", "forgetting_windows"}
    assert "<svg" in told.charts()[0].svg


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"windows": 1}, "windows of 2 or more"),
        ({"plain": "nothing"}, "a method called 'nothing'"),
        ({"model": {"name": "lightgcn"}}, "choose sasrec"),
        ({"methods": {"fine-tuning": {"epochs": 1}}}, "needs its way"),
        ({"methods": {"fine-tuning": {"way": "tuned", "like": "later"}}}, "like one above it"),
        ({"methods": {"fine-tuning": {"way": "tuned", "border": "never"}}}, "border must be one of"),
        ({"methods": {"fine-tuning": {"way": "tuned", "lambda": 1}}}, "has no setting 'lambda'"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, said):
    with pytest.raises(SettingError, match=said):
        fill(ForgettingConfig, {**TINY, **change})


def test_too_many_windows_are_refused(tasteful):
    with pytest.raises(SettingError, match="use fewer windows"):
        windows(tasteful, 500, 8.0, 0)
