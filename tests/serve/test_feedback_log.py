import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.feedback import (
    DISLIKE_RATING,
    EVENTS,
    FeedbackError,
    FeedbackEvent,
    FeedbackLog,
    KeyTaken,
    hashed_user,
    opinions,
)
from kg.records import Hyperedge, Node, SourceError
from kg.sources import sources
from kg.sources.feedback import FeedbackConfig, FeedbackSource
from kg.store.memory import MemoryStore

VALUES = {"rating": 9.0, "watched": 0.8}


def event(event="like", key="a", value=None, content="content:world:1", user="user:world:1", ts=10):
    return FeedbackEvent(user, content, event, key, ts, value)


def test_a_key_is_written_once_and_stands_for_one_event(tmp_path):
    log = FeedbackLog(tmp_path / "log.sqlite")
    assert log.append(event()) and not log.append(event())
    assert not log.append(event(ts=99))  # sent again later: still the same event
    with pytest.raises(KeyTaken, match="make a new key"):
        log.append(event("dislike"))
    assert [one.event for one in log.read()] == ["like"]


def test_nothing_is_made_by_reading(tmp_path):
    log = FeedbackLog(tmp_path / "below" / "log.sqlite")
    assert log.of_user("user:world:1") == [] and list(log.read()) == []
    assert not (tmp_path / "below").exists()


def test_events_of_a_person_stand_in_order_and_pages_lose_none(tmp_path):
    log = FeedbackLog(tmp_path / "log.sqlite")
    with sqlite3.connect(":memory:"):
        for number in range(2_050):
            if number % 100 == 0:
                log.append(event(key=str(number), user="user:world:2"))
    assert [one.key for one in log.of_user("user:world:2")] == [str(n) for n in range(0, 2_050, 100)]
    assert [one.number for one in log.read(after=3)] == list(range(4, 22))


def test_many_threads_and_one_key_write_one_event(tmp_path):
    log, written = FeedbackLog(tmp_path / "log.sqlite"), []
    threads = [threading.Thread(target=lambda: written.append(log.append(event()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [False] * 7 + [True]


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path):
    path = tmp_path / "log.sqlite"
    code = (
        "import sys; from pathlib import Path; from kg.feedback import *\n"
        f"log = FeedbackLog(Path({str(path)!r}))\n"
        "for n in range(10**6):\n"
        "    log.append(FeedbackEvent('user:a:1', 'content:a:1', 'like', str(n), 0))\n"
        "    print(n, flush=True)\n"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    acknowledged = [process.stdout.readline() for _ in range(30)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += process.stdout.read().splitlines(keepends=True)
    process.wait()
    complete = [line for line in acknowledged if line.endswith("\n")]
    assert len(complete) >= 30
    assert {one.key for one in FeedbackLog(path).read()} >= {line.strip() for line in complete}


def test_a_file_that_is_no_log_is_named(tmp_path):
    path = tmp_path / "log.sqlite"
    path.write_bytes(b"not a database, for certain not one" * 100)
    with pytest.raises(FeedbackError, match="nothing was recorded"):
        FeedbackLog(path).append(event())


def test_a_full_disk_records_nothing_and_says_so(tmp_path):
    log = FeedbackLog(tmp_path / "log.sqlite")
    log.append(event())
    log._connection(make=True).execute("PRAGMA max_page_count = 1")
    with pytest.raises(FeedbackError, match="nothing was recorded"):
        for number in range(1_000):
            log.append(event(key=f"{number}" * 200))
    kept = list(log.read())
    assert kept[0].key == "a" and all(one.event == "like" for one in kept)


@pytest.mark.parametrize(
    ("kind", "value"), [("rating", None), ("rating", 10.5), ("watched", 1.1), ("like", 1.0), ("loved", None)]
)
def test_an_event_that_says_nothing_is_refused(kind, value):
    with pytest.raises(ValueError, match="got"):
        event(kind, value=value)


def opinion(*events):
    found = opinions([event(kind, str(n), value) for n, (kind, value) in enumerate(events)], 8.0)
    return "+" if found[0].is_positive else "-" if found[0].is_negative else "0"


def test_the_latest_explicit_opinion_counts():
    assert opinion(("rating", 9), ("rating", 3)) == "-"
    assert opinion(("dislike", None), ("like", None)) == "+"
    assert opinion(("like", None), ("dismiss", None)) == "-"
    assert opinion(("dislike", None), ("watched", 1.0)) == "-"
    assert opinion(("watched", 0.7)) == "0"
    assert opinion(("watched", 0.71), ("watched", 0.1)) == "+"
    assert opinion(("watchlist", None)) == "0"
    assert opinion(("watched", 0.9), ("watchlist", None)) == "+"


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 2)), max_size=20))
def test_opinions_name_each_content_once_and_never_both_ways(told):
    events = [
        event(kind, str(n), VALUES.get(kind), f"content:a:{content}")
        for n, (kind, content) in enumerate(told)
    ]
    found = opinions(events, 8.0)
    assert [one.content_id for one in found] == list(dict.fromkeys(one.content_id for one in events))
    assert not any(one.is_positive and one.is_negative for one in found)


def test_nobodys_name_is_written_down():
    assert hashed_user("ann@example.org") == hashed_user("ann@example.org") != hashed_user("bob@example.org")
    assert "ann" not in hashed_user("ann@example.org")
    assert hashed_user("user:ml100k:0a1b") == "user:ml100k:0a1b"


def test_the_log_is_a_source_like_any_other(tmp_path):
    path = tmp_path / "log.sqlite"
    log, store = FeedbackLog(path), MemoryStore()
    store.write([Node("Content", "content:world:1")])
    for number, kind in enumerate(EVENTS):
        log.append(event(kind, str(number), VALUES.get(kind), ts=100 + number))
    source = sources.build("feedback", {"path": str(path)})
    told = list(source.read())
    assert isinstance(told[0], Node) and source.rows == len(EVENTS) and not source.rejects
    assert list(source.read()) == told
    store.write(told)
    assert store.write(told).unchanged == len(told)  # twice is once
    facts = {one.start_ts: one for one in told if isinstance(one, Hyperedge)}
    kinds = {EVENTS[ts - 100]: (fact.type, dict(fact.properties)) for ts, fact in facts.items()}
    assert kinds["rating"] == ("RATED", {"rating": 9.0})
    assert kinds["dislike"] == ("RATED", {"rating": DISLIKE_RATING})
    assert kinds["dismiss"] == ("DISMISSED", {}) and kinds["watchlist"] == ("WATCHLISTED", {})
    assert kinds["watched"] == ("VIEWED", {"progress": 0.8})
    assert store.count()["RATED"] == 3


def test_a_log_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        list(FeedbackSource(FeedbackConfig(str(tmp_path / "none"))).read())
