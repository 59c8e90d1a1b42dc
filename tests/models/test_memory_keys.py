"""An observation with a key counts once, whoever tells it again: after a restart, a kill, elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.memory import MemoryBankError, MemoryConfig, ObservationTaken, ReasoningBank, Verdict
from models.memory_pattern import DAY_S as DAY

ROOT = Path(__file__).parents[2]
STEPS = ("rank",)


def yes(key: str = "", user: str = "user:world:1", at_ts: int = DAY, **more) -> Verdict:
    return Verdict(user, True, at_ts, key=key, **more)


def learn(bank: ReasoningBank, verdict: Verdict, query=(1, 0)):
    return bank.learn(list(query), STEPS, {}, verdict)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_told_twice_it_counts_once_and_without_a_key_it_counts_twice(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        first = learn(bank, yes("a"))
        before = bytes_of(tmp_path)
        assert learn(bank, yes("a", at_ts=DAY + 9)) is first  # whoever tells it again looks at the clock anew
        assert bytes_of(tmp_path) == before
        judged = bank.judge("p1", yes("b"))
        assert bank.judge("p1", yes("b")) is judged and judged.uses == 2
        assert learn(bank, yes("c")).uses == 3
        assert learn(bank, yes()).uses == 4 and learn(bank, yes()).uses == 5


def test_a_key_that_stands_for_another_observation_is_refused(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        learn(bank, yes("a"))
        learn(bank, yes("b"), (0, 1))
        for again in (
            lambda: learn(bank, Verdict("user:world:1", False, DAY, key="a")),
            lambda: learn(bank, yes("a", "user:world:2")),
            lambda: learn(bank, yes("a"), (0, 1)),
            lambda: bank.learn([1, 0], ("other",), {}, yes("a")),
            lambda: bank.judge("p1", yes("a")),
        ):
            with pytest.raises(ObservationTaken, match="make a new key"):
                again()
        assert [one.uses for one in bank.patterns()] == [1, 1]


_TELLER = """
import os, sys
from pathlib import Path
from models.memory import ReasoningBank, Verdict
bank = ReasoningBank(Path(sys.argv[1]), writes=True)
for number in range(6):
    bank.learn([1, 0], ("rank",), {}, Verdict("user:world:1", True, 86_400 + number, key=f"k{number % 3}"))
os._exit(9)  # as a kill: nothing is closed
"""


def test_another_process_and_a_restart_after_a_kill_count_it_once(tmp_path):
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", _TELLER, str(tmp_path)], cwd=ROOT, capture_output=True)
        assert done.returncode == 9, done.stderr
    with ReasoningBank(tmp_path, writes=True) as bank, ReasoningBank(tmp_path) as reader:
        assert bank.get("p1").uses == 3
        learn(bank, yes("k3"))
        assert reader.refresh() and reader.get("p1").uses == 4
    with ReasoningBank(tmp_path, writes=True) as bank:
        assert learn(bank, yes("k3")).uses == 4


def test_a_snapshot_keeps_the_keys(tmp_path, monkeypatch):
    monkeypatch.setattr("models.memory_store._LOG_BYTES", 400)
    for _ in range(2):
        with ReasoningBank(tmp_path, writes=True) as bank:
            for number in range(20):
                learn(bank, yes(f"k{number}"))
            bank.upkeep(DAY)
            assert bank.get("p1").uses == 20
    assert json.loads((tmp_path / "snapshot.jsonl").read_text().split("\n")[0])["heard"]


def test_so_many_keys_are_known_and_no_more(tmp_path):
    config = MemoryConfig(keys_at_most=2)
    with ReasoningBank(tmp_path, config, writes=True) as bank:
        for key in ("a", "b", "c"):
            learn(bank, yes(key))
        assert learn(bank, yes("b")).uses == 3  # among the last two
        assert learn(bank, yes("a")).uses == 4  # no longer known: it counts again
        assert len(bank._store.heard) == 2
        bank.upkeep(DAY)
    with ReasoningBank(tmp_path, config, writes=True) as bank:
        assert learn(bank, yes("a")).uses == 4 and len(bank._store.heard) == 2
    with ReasoningBank(tmp_path, MemoryConfig(keys_at_most=0), writes=True) as bank:
        assert learn(bank, yes("a")).uses == 5


def test_of_whoever_is_forgotten_no_key_tells(tmp_path):
    with ReasoningBank(tmp_path, writes=True) as bank:
        learn(bank, yes("of ann", "ann@example.org"))
        bank.learn([0, 1], ("secret step",), {}, yes("b"))
        bank.forget_user("ann@example.org")
        bank.forget_pattern("p2")
        kept = b"".join(bytes_of(tmp_path).values())
        for word in (b"ann", b"secret", b'"p1"', b'"p2"', b"user:"):
            assert word not in kept
        assert learn(bank, yes("of ann", "ann@example.org")) is None and bank.patterns() == []


@pytest.mark.parametrize("told", [[["a", "b"]], [[1, 2, 3]], 7])
def test_keys_that_are_none_of_ours_are_refused(tmp_path, told):
    with ReasoningBank(tmp_path, writes=True) as bank:
        learn(bank, yes("a"))
    (log,) = tmp_path.glob("log-*.jsonl")
    log.open("a").write(json.dumps({"heard": told}) + "\n")
    with pytest.raises(MemoryBankError, match="observations that were counted"):
        ReasoningBank(tmp_path)


def test_a_key_is_short_text():
    with pytest.raises(ValueError, match="key must be printable"):
        yes("x" * 300)
