"""Imports broken off for real, a few of each kind; what the bench says of a graph that is not the same."""

import errno
import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from apps import console
from apps.bench import imports
from apps.bench.imports import Plan, Row, measure
from apps.cli import app

SMALL = {"users": 40, "contents": 60, "groups": 3, "ratings_per_user": 12, "duplicate_share": 0.2}


def told(**changes) -> list[Row]:
    return list(measure(Plan(world=tuple(SMALL.items()), **changes), lambda _: None))


def test_killed_at_a_random_moment():
    (row,) = told(moments=1, seed=5, places=("first",), faults=("importer killed",))
    assert (row.equal, row.is_met, row.unclear) == (row.moments, True, ())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a disk is mounted by root")
def test_a_disk_that_is_full_for_a_while():
    (row,) = told(moments=1, seed=5, places=("onto",), faults=("disk full",))
    assert (row.equal, row.is_met, row.unclear) == (row.moments, True, ())
    assert row.said == row.broken_off


class Spoken:
    """An import that does as it is told: the unbroken one first, then broken off and run again, in turn."""

    again: dict = {"hash": "a"}
    words = (True, "it is full, the disk: free some")

    def __init__(self, place, plan, folder, looks=False):
        self.looks, self.is_broken_off = looks, True
        self.number = place.count = getattr(place, "count", 0) + 1

    def seconds_of(self, first, last):
        return 3.0

    def ended(self):
        return {"hash": "a"} if self.number == 1 else self.again

    def wait_for(self, word):
        return True

    def is_over(self, after_s=0.0):
        return not 0 <= after_s <= 3

    def last_words(self):
        return self.words


class Nowhere:
    what, disk, login = "nowhere", None, None

    def fresh(self):
        pass

    def restart(self):
        pass


def test_what_is_not_the_same_or_not_clear_is_seen(tmp_path, monkeypatch):
    def row(again, words):
        said = type("Said", (Spoken,), {"again": again, "words": words})
        monkeypatch.setattr(imports, "_Import", said)
        return imports._row(Nowhere(), "disk full", Plan(moments=3), tmp_path, lambda _: None)

    assert row({"hash": "a"}, Spoken.words).is_met
    lost = row({"hash": "b"}, Spoken.words)
    assert (lost.equal, lost.clear, lost.is_met) == (0, 3, False)
    riddle = row({"hash": "a"}, (True, "OSError"))
    assert (riddle.equal, riddle.clear, riddle.unclear, riddle.is_met) == (3, 0, ("OSError",), False)
    assert row({"hash": "a"}, (False, Spoken.words[1])).clear == 0  # a crash is no refusal
    with pytest.raises(RuntimeError, match="an unbroken import must end well"):
        monkeypatch.setattr(Spoken, "ended", lambda self: {"said": "no"})
        row({}, Spoken.words)


def test_bars():
    row = Row("here", "disk full", 20, 18, 18, 18, 20, 1.0)
    assert row.is_met
    assert not Row("here", "disk full", 20, 18, 18, 17, 20, 1.0).is_met
    assert not Row("here", "disk full", 20, 18, 18, 18, 19, 1.0).is_met


@pytest.mark.parametrize(
    ("words", "fault", "is_clear"),
    [
        (
            "the server must answer, it does not: see server.log, then repeat the command",
            "database killed",
            True,
        ),
        ("the server must answer, it does not", "database killed", False),
        ("the server must answer: repeat the command", "disk full", False),
        ("it needs room, 0 MB are left: free some disk, then repeat", "disk full", True),
        ("Traceback:\n repeat", "database killed", False),
    ],
)
def test_what_is_clear(words, fault, is_clear):
    assert imports._is_clear(words, fault) == is_clear


def test_the_command_shows_what_was_unclear_and_fails(monkeypatch):
    rows = [
        Row("here", "disk full", 20, 18, 18, 17, 20, 1.0, ("[Errno 28]",)),
        Row("there", "importer killed", 20, 20, 0, 0, 20, 1.0),
    ]
    monkeypatch.setattr(imports, "measure", lambda plan, tell: iter(rows[plan.seed :]))
    told = CliRunner().invoke(app, ["bench", "imports"])
    assert told.exit_code == 1 and "17 of 18" in told.stdout and "unclear: [Errno 28]" in told.stdout
    assert CliRunner().invoke(app, ["bench", "imports", "--seed", "1"]).exit_code == 0
    (row,) = json.loads(CliRunner().invoke(app, ["bench", "imports", "--seed", "1", "--json"]).stdout)
    assert row["is_met"] and row["moments"] == 20


def test_a_full_disk_is_said_with_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device", "rejects.new")
    assert imports._is_clear(console.sentence(full), "disk full") and console.is_full_disk(full)
    assert console.sentence(OSError(errno.EACCES, "no")) == "[Errno 13] no"
    assert console.sentence(ValueError()) == "ValueError"
