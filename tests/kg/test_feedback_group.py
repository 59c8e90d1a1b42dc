"""Many events in one transaction: each has its own outcome, and an erased person is in no file."""

import sqlite3
import threading

import pytest

from kg.feedback import FeedbackError, FeedbackEvent, FeedbackLog, KeyTaken, Recorded


def event(key, content="content:world:1", user="user:world:1", ts=10):
    return FeedbackEvent(user, content, "like", key, ts)


@pytest.fixture
def log(tmp_path):
    return FeedbackLog(tmp_path / "log.sqlite")


def test_many_are_numbered_in_order_and_told_which_are_new(log):
    assert log.append_many([event("a"), event("b"), event("a", ts=99)]) == [
        Recorded(True, 1),
        Recorded(True, 2),
        Recorded(False, 1),
    ]
    assert log.record(event("b")) == Recorded(False, 2) and log.append_many([]) == []


def test_many_are_all_written_or_none(log):
    log.append(event("a"))
    with pytest.raises(KeyTaken, match="'a' was used"):
        log.append_many([event("b"), event("a", content="content:world:2"), event("c")])
    assert [one.key for one in log.read()] == ["a"]


def test_many_on_a_full_disk_are_none_and_said_so(log):
    log.append(event("a"))
    log._connection(make=True).execute("PRAGMA max_page_count = 1")
    with pytest.raises(FeedbackError, match="nothing was recorded"):
        log.append_many([event(str(number) * 200) for number in range(1_000)])
    assert [one.key for one in log.read()] == ["a"]


def test_threads_that_wait_share_a_transaction_and_keep_their_own_outcome(log, monkeypatch):
    log.append(event("taken", content="content:world:9"))
    sizes, insert, outcomes = [], log._insert, {}

    def counted(events, whole):
        sizes.append(len(events))
        return insert(events, whole)

    monkeypatch.setattr(log, "_insert", counted)

    def run(key, ts):
        try:
            outcomes[key] = log.append(event(key, ts=ts))
        except (KeyTaken, OverflowError) as error:
            outcomes[key] = type(error)

    threads = [threading.Thread(target=run, args=(f"k{n}", 5)) for n in range(20)]
    threads += [
        threading.Thread(target=run, args=("taken", 5)),
        threading.Thread(target=run, args=("w", 1 << 80)),
    ]
    with log._writing:  # all of them come to wait
        for thread in threads:
            thread.start()
        while len(log._waiting) < len(threads):
            pass
    for thread in threads:
        thread.join()
    assert max(sizes) == len(threads)
    assert outcomes.pop("taken") is KeyTaken and outcomes.pop("w") is OverflowError
    assert all(is_new is True for is_new in outcomes.values()) and len(outcomes) == 20
    assert sorted(one.key for one in log.read()) == sorted(["taken", *outcomes])


def test_another_process_amid_a_transaction_is_waited_for(log):
    log.append(event("a"))
    other = sqlite3.connect(log.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    ender = threading.Timer(0.05, lambda: other.execute("COMMIT"))
    ender.start()
    assert log.record(event("b")).number == 2
    ender.join()
    other.close()


def test_who_is_forgotten_is_in_no_file_and_others_keep_their_places(log):
    log.append_many([event(f"key-{n}", user=f"user:world:{n % 3 + 10}") for n in range(300)])
    assert log.forget("user:world:11") == 100 and log.forget("user:world:11") == 0
    assert log.of_user("user:world:11") == []
    assert [one.number for one in log.of_user("user:world:12")] == list(range(3, 301, 3))
    for path in log.path.parent.iterdir():
        told = path.read_bytes()
        assert b"user:world:11" not in told and b"key-1\x00" not in told and b"key-100user" not in told
    assert log.record(event("new")).number == 301


def test_forgetting_makes_no_log(tmp_path):
    assert FeedbackLog(tmp_path / "below" / "log.sqlite").forget("user:world:1") == 0
    assert not (tmp_path / "below").exists()
