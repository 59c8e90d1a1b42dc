"""mg memory tells, shows and forgets; its benchmark weighs both sides on the same questions."""

import json

import pytest

from apps.bench import memory as bench
from configs.home import Home
from models.memory import ReasoningBank, Verdict
from models.memory_pattern import DAY_S as DAY

AT = ("--data", "world", "--at", str(DAY))


@pytest.fixture
def mg(mg_in, tmp_path):
    """``mg`` on a home whose memory holds a pattern of two people, and a seed of one."""
    with ReasoningBank(Home(tmp_path).memory("world"), writes=True) as bank:
        for user in ("user:world:1", "user:world:1", "ann@example.org"):
            bank.learn([1, 0], ("rank",), {"device": "tv"}, Verdict(user, True, DAY, "owls", ("content:a",)))
        bank.learn([0, 1], ("diversify",), {}, Verdict("ann@example.org", True, DAY))
    return mg_in(tmp_path)


def test_stats_as_table_and_json(mg):
    code, out, err = mg("memory", "stats", *AT)
    assert code == 0 and "patterns that answer" in out and "cut off" not in out, err
    told = json.loads(mg("memory", "stats", *AT, "--json")[1])
    assert (told["patterns"], told["seeds"], told["users"], told["uses"], told["width"]) == (1, 1, 2, 4, 2)


def test_a_line_that_was_cut_off_is_said(mg, tmp_path):
    (log,) = Home(tmp_path).memory("world").glob("log-*")
    log.write_bytes(log.read_bytes()[:-5])
    assert "1 line(s) of the log were cut off" in mg("memory", "stats", *AT)[1]


def test_an_empty_memory_says_nothing_is_there(mg_in, tmp_path):
    mg = mg_in(tmp_path)
    assert json.loads(mg("memory", "stats", *AT, "--json")[1])["patterns"] == 0
    assert mg("memory", "show", *AT)[0] == 0
    code, _, err = mg("memory", "forget", "p1", "--data", "world")
    assert code == 2 and "nothing was learned yet" in err
    assert not Home(tmp_path).memory("world").exists()


def test_show_tells_patterns_seeds_and_whose_they_are(mg):
    code, out, _ = mg("memory", "show", *AT)
    assert code == 0 and "p2 (seed)" in out and "device tv" in out and "content:a" in out
    told = json.loads(mg("memory", "show", *AT, "--json")[1])
    assert [(one["id"], one["answers"], one["users"]) for one in told] == [("p1", True, 2), ("p2", False, 1)]
    (one,) = json.loads(mg("memory", "show", "--user", "user:world:1", *AT, "--json")[1])
    assert (
        one["id"] == "p1" and one["steps"] == ["rank"] and one["confidence"] == pytest.approx(0.789, abs=1e-3)
    )
    assert json.loads(mg("memory", "show", "--segment", "larks", *AT, "--json")[1]) == []
    assert json.loads(mg("memory", "show", "p2", *AT, "--json")[1])[0]["id"] == "p2"


def test_forget_takes_a_pattern_or_somebody(mg):
    data = ("--data", "world")
    assert (
        json.loads(mg("memory", "forget", "--user", "ann@example.org", *data, "--json")[1])["patterns"] == 2
    )
    assert [one["id"] for one in json.loads(mg("memory", "show", *AT, "--json")[1])] == ["p1"]
    code, out, _ = mg("memory", "forget", "p1", *data)
    assert code == 0 and "no file holds" in out
    assert json.loads(mg("memory", "show", *AT, "--json")[1]) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["forget"], 2, "takes one thing"),
        (["forget", "p1", "--user", "user:world:1"], 2, "takes one thing"),
        (["forget", "p77"], 1, "no pattern is called 'p77'"),
        (["show", "p77"], 1, "no pattern"),
        (["stats", "--at", "0"], 1, "whole UTC seconds"),
    ],
)
def test_wrong_use_says_what_to_do(mg, words, code, says):
    came, out, err = mg("memory", *words, "--data", "world")
    assert came == code and says in err and "Traceback" not in err + out


def test_forget_is_refused_while_another_process_writes(mg, tmp_path):
    with ReasoningBank(Home(tmp_path).memory("world"), writes=True):
        code, _, err = mg("memory", "forget", "p1", "--data", "world")
        assert code == 1 and "one process writes a bank" in err
        assert mg("memory", "stats", *AT)[0] == 0


def test_the_bench_holds_both_sides_to_the_same_answers(mg):
    code, out, err = mg("bench", "memory", "--patterns", "300", "--queries", "20", "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["queries_are"] for row in rows] == list(bench.KINDS)
    for row in rows:
        assert row["recall"] > 0.95 and row["matched"] > 0.5 and row["patterns"] == 300
        assert 0 < row["p50_ms"] <= row["p99_ms"] and row["ratio"] == pytest.approx(
            row["p50_ms"] / row["bare_p50_ms"]
        )
    assert mg("bench", "memory", "--patterns", "100", "--queries", "10")[0] == 0


def test_a_side_that_misses_patterns_is_seen(monkeypatch):
    lookup = ReasoningBank.lookup

    def half(bank, *words):
        found = lookup(bank, *words)
        return found[::2] if bank._store.shelf._config.kind == "hnsw" else found

    monkeypatch.setattr(ReasoningBank, "lookup", half)
    row = bench.measure(500, 20, threads=1, seed=0)[0]
    assert row.recall < 0.8 and not row.is_met
