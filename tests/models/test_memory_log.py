"""A bank on disk: nothing acknowledged is lost, nobody forgotten is left, strange files are refused."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import journal
from models.memory import MemoryBankError, MemoryConfig, ReasoningBank, Verdict
from models.memory_pattern import DAY_S as DAY

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("rank",)
_LEARNER = """
import sys
from pathlib import Path
from models import memory_store
from models.memory import ReasoningBank, Verdict
memory_store._LOG_BYTES = int(sys.argv[2])
with ReasoningBank(Path(sys.argv[1]), writes=True) as bank:
    for number in range(100_000):
        told = bank.learn([1, number], ("rank",), {}, Verdict("user:world:1", True, 86_400 + number))
        print(told.pattern_id, told.uses, flush=True)
"""


def yes(user: str = "user:world:1", at_ts: int = DAY, results=()) -> Verdict:
    return Verdict(user, True, at_ts, results=results)


def told(bank: ReasoningBank) -> dict[str, tuple]:
    """All that a bank knows, for comparison."""
    return {
        one.pattern_id: (one.vector.tolist(), one.founder, one.steps, dict(one.context), one.uses)
        + (one.created_ts, one.used_ts, one.confidence, one.positives, one.segment, dict(one.users))
        for one in bank.patterns()
    }


def at(number: int) -> list[float]:
    """Vectors too far apart to be one cluster."""
    return [np.cos(0.7 * number), np.sin(0.7 * number)]


def fill(folder: Path, patterns: int = 4) -> dict[str, tuple]:
    """A bank with a snapshot and a log of changes after it."""
    with ReasoningBank(folder, writes=True) as bank:
        for number in range(patterns):
            for user in range(3):
                bank.learn(at(number), STEPS, {"device": "tv"}, yes(f"user:world:{user}", DAY + number))
        bank.upkeep(DAY)
        bank.learn([1, -1], STEPS, {}, yes())
        bank.judge("p1", Verdict("user:world:7", False, 2 * DAY, "owls"))
        bank.forget_pattern("p2")
        bank.learn([1, -2], STEPS, {}, yes(results=("content:a",)))
        return told(bank)


def test_opened_again_it_is_the_same(tmp_path):
    before = fill(tmp_path)
    with ReasoningBank(tmp_path, writes=True) as bank:
        assert told(bank) == before and bank.width == 2 and bank.stats(DAY).cut_off == 0
        assert bank.learn([-1, -9], STEPS, {}, yes()).pattern_id == "p7"  # no number is given twice


def test_a_reader_follows_changes_and_new_snapshots(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank, ReasoningBank(tmp_path) as reader:
        assert not reader.refresh() and reader.lookup([1, 0], {}, DAY) == []
        for _ in range(3):
            bank.learn([1, 0], STEPS, {}, yes())
        assert reader.refresh() and not reader.refresh()
        assert [match.pattern.uses for match in reader.lookup([1, 0], {}, DAY)] == [3]
        for query in ([0, 1], [-1, 0]):
            bank.learn(query, STEPS, {}, yes("user:world:2"))
        bank.forget_user("user:world:1")
        assert reader.refresh() and told(reader) == told(bank) and len(told(bank)) == 2
        bank.learn([0, -1], STEPS, {}, yes())
        assert reader.refresh() and told(reader) == told(bank)


@pytest.mark.parametrize("log_bytes", [1 << 20, 500], ids=["amid appends", "amid snapshots"])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path, log_bytes):
    words = [sys.executable, "-c", _LEARNER, str(tmp_path), str(log_bytes)]
    learner = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    acknowledged = [learner.stdout.readline().split() for _ in range(60)]
    os.kill(learner.pid, signal.SIGKILL)
    rest, _ = learner.communicate()
    acknowledged += [line.split() for line in rest.split("\n")[:-1]]
    with ReasoningBank(tmp_path, writes=True) as bank:
        uses = {one.pattern_id: one.uses for one in bank.patterns()}
        assert len(acknowledged) >= 60
        assert all(uses[name] >= int(count) for name, count in acknowledged)
        assert sum(uses.values()) - len(acknowledged) in (0, 1)  # the one under way may be there
        bank.learn([1, -1], STEPS, {}, yes())
        kept = told(bank)
    with ReasoningBank(tmp_path) as again:
        assert told(again) == kept


def log_of(folder: Path) -> Path:
    (path,) = folder.glob("log-*.jsonl")
    return path


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_last_line_that_is_cut_off_is_dropped_and_said(tmp_path, cut):
    fill(tmp_path)
    log = log_of(tmp_path)
    whole = log.read_bytes()
    last = len(whole.rstrip(b"\n").rsplit(b"\n", 1)[1]) + 1
    log.write_bytes(whole[: -min(cut, last - 1)])
    with ReasoningBank(tmp_path, writes=True) as bank:
        assert bank.stats(DAY).cut_off == 1 and "p6" not in told(bank)
        bank.learn([1, -2], STEPS, {}, yes())
        assert bank.stats(DAY).cut_off == 1
        kept = told(bank)
    with ReasoningBank(tmp_path) as again:
        assert told(again) == kept and again.stats(DAY).cut_off == 1


def test_a_log_cut_off_in_its_header_starts_anew(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        bank.learn([1, 0], STEPS, {}, yes())
        log = log_of(tmp_path)
    log.write_bytes(log.read_bytes()[:10])
    with ReasoningBank(tmp_path, writes=True) as bank, ReasoningBank(tmp_path) as reader:
        assert bank.patterns() == [] and bank.stats(DAY).cut_off == 1
        bank.learn([1, 0, 0], STEPS, {}, yes())
        assert reader.refresh() and told(reader) == told(bank) and bank.width == reader.width == 3


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: log_of(folder).write_text('{"format": "diary"}\n'), "must open as the log"),
        (lambda folder: log_of(folder).write_text("[1]\n"), "must open as the log"),
        (lambda folder: log_of(folder).open("a").write("{]\n"), "no JSON"),
        (
            lambda folder: log_of(folder).open("a").write('{"moved":[{"id":"p99"}]}\n'),
            "patterns that are there",
        ),
        (lambda folder: log_of(folder).open("a").write("[]\n"), "must be a change"),
        (lambda folder: (folder / "snapshot.jsonl").write_text("not ours\n"), "must open as the snapshot"),
        (lambda folder: (folder / "snapshot.jsonl").write_text(""), "must open as the snapshot"),
        (lambda folder: cut_lines(folder / "snapshot.jsonl"), "must hold 3 patterns, got 2"),
        (lambda folder: edit(folder / "snapshot.jsonl", 0, version=2), "version 1"),
        (lambda folder: edit(folder / "snapshot.jsonl", 0, width=3), "pattern of width 3"),
        (lambda folder: edit(folder / "snapshot.jsonl", 1, vector="AAAA"), "line 2"),
        (lambda folder: edit(folder / "snapshot.jsonl", 1, id="x"), "called p1"),
        (lambda folder: edit(log_of(folder), 0, width=5), "must follow generation"),
    ],
)
def test_files_that_are_none_of_ours_are_refused_and_left_alone(tmp_path, spoil, says):
    fill(tmp_path)
    with ReasoningBank(tmp_path, writes=True) as bank:
        bank.upkeep(DAY)
        bank.forget_pattern("p6")
        bank.forget_pattern("p5")
        bank.judge("p1", yes())
    spoil(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for writes in (False, True, True):  # the second writer: a refusal lets the lock go
        with pytest.raises(MemoryBankError, match=says):
            ReasoningBank(tmp_path, writes=writes)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def cut_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes().rsplit(b"\n", 2)[0] + b"\n")


def edit(path: Path, number: int, **parts) -> None:
    lines = path.read_text().split("\n")
    lines[number] = json.dumps({**json.loads(lines[number]), **parts})
    path.write_text("\n".join(lines))


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        bank.learn([1, 0], STEPS, {}, yes())
        with pytest.raises(MemoryBankError, match="one process writes a bank"):
            ReasoningBank(tmp_path, writes=True)
        code = "import sys; from pathlib import Path; from models.memory import ReasoningBank\n"
        code += "ReasoningBank(Path(sys.argv[1])); ReasoningBank(Path(sys.argv[1]), writes=True)"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True)
        assert b"one process writes a bank" in other.stderr
    with ReasoningBank(tmp_path, writes=True) as bank:
        assert len(bank.patterns()) == 1


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_refuses_a_lesson_and_keeps_the_rest(tmp_path, monkeypatch):
    with ReasoningBank(tmp_path, writes=True) as bank:
        bank.learn([1, 0], STEPS, {}, yes())
        before = told(bank)
        append = journal.append

        def half(path, entry):
            with path.open("ab") as file:
                file.write(json.dumps(entry).encode()[:30])
            full()

        for broken in (full, half):
            monkeypatch.setattr(journal, "append", broken)
            with pytest.raises(MemoryBankError, match="No space left"):
                bank.learn([0, 1], STEPS, {}, yes())
            assert told(bank) == before
        monkeypatch.setattr(journal, "append", append)
        bank.learn([0, 1], STEPS, {}, yes())
        kept = told(bank)
        assert len(kept) == 2 and bank.stats(DAY).cut_off == 1
    with ReasoningBank(tmp_path) as again:
        assert told(again) == kept


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_refuses_a_snapshot_and_keeps_the_old_one(tmp_path, monkeypatch, step):
    before = fill(tmp_path)
    with ReasoningBank(tmp_path, writes=True) as bank:
        with monkeypatch.context() as broken:
            broken.setattr(*((os, "fsync", full) if step == "fsync" else (Path, "rename", full)))
            for call in (bank.forget_user, bank.forget_pattern):
                with pytest.raises(MemoryBankError, match="No space left"):
                    call("user:world:1" if call == bank.forget_user else "p1")
            with pytest.raises(MemoryBankError, match="No space left"):
                bank.upkeep(60 * DAY)
        assert told(bank) == before
        assert not [path for path in tmp_path.iterdir() if "snapshot" in path.name and path.name[0] == "."]
    with ReasoningBank(tmp_path) as again:
        assert told(again) == before


def test_what_a_crash_amid_a_snapshot_left_is_cleaned_by_the_next_writer(tmp_path):
    before = fill(tmp_path)
    (tmp_path / "log-0.jsonl").write_text("an older log\n")
    (tmp_path / ".snapshot.jsonl").write_text("half a snapshot")
    with ReasoningBank(tmp_path) as reader:
        assert told(reader) == before
    with ReasoningBank(tmp_path, writes=True) as bank:
        assert told(bank) == before
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", "snapshot.jsonl", log_of(tmp_path).name}


def everything(folder: Path) -> bytes:
    return b"\n".join(path.name.encode() + path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_forgetting_somebody_leaves_no_byte_of_them(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        for user in ("ann@example.org", "user:world:2", "user:world:3"):
            bank.learn([0, 1], STEPS, {}, yes("user:world:2"))
            bank.learn([0, 1], STEPS, {}, yes(user, results=(f"content:of-{user}",)))
        mine = bank.learn([0.6, 0.8], STEPS, {}, yes("ann@example.org"))
        known = next(iter(mine.users)).encode()
        vector = json.loads(everything(tmp_path).split(b"\n")[-2])["new"][0]["vector"].encode()
        assert b"ann@" not in everything(tmp_path).replace(
            b"content:of-ann@", b""
        )  # hashed before it is kept
        assert known in everything(tmp_path) and vector in everything(tmp_path)
        assert bank.forget_user("ann@example.org") == 2
        left = everything(tmp_path)
        assert known not in left and vector not in left and b"of-ann" not in left
        (kept,) = bank.patterns()
        assert (kept.pattern_id, kept.uses, kept.positives) == ("p1", 5, 5)
        assert bank.forget_user("ann@example.org") == 0
        bank.forget_user("user:world:2")  # whose query founded it
        assert bank.patterns() == [] and b"user:world" not in everything(tmp_path)


def test_forgetting_a_pattern_leaves_no_byte_of_it(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        bank.learn([0, 1], ("secret step",), {}, yes())
        bank.learn([1, 0], STEPS, {}, yes())
        bank.forget_pattern("p1")
        assert b"secret" not in everything(tmp_path) and b'"p1"' not in everything(tmp_path)
        assert [one.pattern_id for one in bank.patterns()] == ["p2"]


def test_the_log_becomes_a_snapshot_before_it_outgrows_it(tmp_path, monkeypatch):
    monkeypatch.setattr("models.memory_store._LOG_BYTES", 2000)
    with ReasoningBank(tmp_path, MemoryConfig(), writes=True) as bank:
        for number in range(60):
            bank.learn([1, 0], STEPS, {}, yes(at_ts=DAY + number))
        assert bank.stats(DAY).size_bytes < 4000 and bank.get("p1").uses == 60
        kept = told(bank)
    with ReasoningBank(tmp_path) as again:
        assert told(again) == kept
