"""A clock that is set back changes neither who a process is nor which opinion came last."""

import subprocess
import sys

import psutil
import pytest

from kg.feedback import FeedbackEvent, FeedbackLog, opinions
from kg.identity import Merge
from kg.identity_log import IdentityLog
from kg.ingest import ingest
from kg.records import Node
from kg.sources import Source, sources
from kg.store.memory import MemoryStore
from kg.store.visitors import Visitor, alive, born, process_of

ME, FILM, OTHER = "user:world:1", "content:world:1", "content:world:2"


@pytest.fixture
def log(tmp_path):
    log = FeedbackLog(tmp_path / "log.sqlite")
    for number, (event, content, ts) in enumerate(
        [
            ("like", FILM, 1_700_000_000),
            ("like", OTHER, 1_700_000_000),  # in one second: as it was
            ("dislike", FILM, 1_699_990_000),  # the clock went back
            ("like", OTHER, 1_699_990_001),
            ("dismiss", OTHER, 1_700_000_100),  # and is right again
        ]
    ):
        log.append(FeedbackEvent(ME, content, event, str(number), ts))
    log.append(FeedbackEvent("user:world:2", FILM, "like", "x", 1_600_000_000))  # somebody else: as it was
    yield log
    log.close()


def test_the_last_opinion_stays_the_last(log):
    assert [(one.content_id, one.is_negative) for one in opinions(log.of_user(ME), 8.0)] == [
        (FILM, True),
        (OTHER, True),
    ]
    source = sources.build("feedback", {"path": str(log.path)})
    facts = [record for record in source.read() if not isinstance(record, Node)]
    mine = [(fact.type, fact.members["content"][0], fact.start_ts) for fact in facts[:5]]
    assert mine == [
        ("RATED", FILM, 1_700_000_000),
        ("RATED", OTHER, 1_700_000_000),
        ("RATED", FILM, 1_700_000_001),
        ("RATED", OTHER, 1_700_000_002),
        ("DISMISSED", OTHER, 1_700_000_100),
    ]
    assert facts[5].start_ts == 1_600_000_000
    assert list(source.repairs.values()) == [2] and not source.rejects


def test_imported_twice_is_once_and_the_last_rating_is_the_latest(log, tmp_path):
    class Films(Source):
        name, reliability = "films", 0.7

        def records(self):
            yield from (Node("Content", id, {"title": id}) for id in (FILM, OTHER))

    told, store = [Films(None), sources.build("feedback", {"path": str(log.path)})], MemoryStore()
    ingest(told, store, tmp_path)
    rated = [
        fact for fact in store.hyperedges("RATED") if fact.members == {"user": (ME,), "content": (FILM,)}
    ]
    assert max(rated, key=lambda fact: fact.start_ts).properties["rating"] < 5
    assert ingest(told, store, tmp_path).written == 0


@pytest.mark.parametrize("shift_s", [0, -3_600, 86_400])
def test_a_process_is_known_again_after_the_clock_was_set(monkeypatch, shift_s):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    boot, create = psutil.boot_time, psutil.Process.create_time
    try:
        since = born(psutil.Process(child.pid))
        monkeypatch.setattr(psutil, "boot_time", lambda: boot() + shift_s)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: create(self) + shift_s)
        assert process_of(child.pid, since).pid == child.pid
        mine, another = Visitor(child.pid, since, "a"), Visitor(child.pid, since + 60, "b")
        assert alive((mine, another)) == (mine,)
    finally:
        child.kill()
        child.wait()
    assert process_of(child.pid, since) is None


def test_what_was_undone_and_redone_goes_by_the_order_of_lines(tmp_path):
    log = IdentityLog(tmp_path / "identity.jsonl")
    log.append([Merge("content:a:1", "content:b:2", "imdb:tt1")])
    log.undo("content:b:2")
    lines = log.path.read_text()
    log.path.write_text(lines.replace('"at": "2', '"at": "9'))  # written by a clock far ahead
    log.redo("content:b:2")
    assert log.apart() == {}
