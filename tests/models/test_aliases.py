"""Aliases and trials: one swap, one log, whatever happens in between."""

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models import journal
from models.aliases import Aliases, Overtaken, Step
from models.candidate import Candidate, Holding
from models.verification import ModelError

WHY = Step("promote", "test")


def canary(version="b/1", share=0.3, salt="salt"):
    return Candidate(version, "canary", share, salt, 5.0)


@pytest.fixture
def aliases(tmp_path):
    made = Aliases(tmp_path / "models")
    made.move("g", "champion", "a/1", WHY)
    return made


# candidate


def test_a_share_of_people_is_chosen_for_good_and_anew_with_another_salt():
    tried, other = canary(), canary(salt="other")
    people = [f"user:{number}" for number in range(20_000)]
    chosen = np.array([tried.is_chosen(tried.key_of(user)) for user in people])
    again = np.array([tried.is_chosen(tried.key_of(user)) for user in people])
    elsewhere = np.array([other.is_chosen(other.key_of(user)) for user in people])
    assert (chosen == again).all() and abs(chosen.mean() - 0.3) < 0.015
    assert abs((chosen & elsewhere).mean() - 0.09) < 0.01  # independent of the other trial
    wider = canary(share=0.6)
    assert all(
        wider.is_chosen(wider.key_of(user)) for user, is_in in zip(people, chosen, strict=True) if is_in
    )
    assert "user" not in tried.key_of("user:1") and len(tried.key_of("user:1")) == 16


@pytest.mark.parametrize(
    ("stage", "share", "salt", "said"),
    [
        ("stage", 0.5, "s", "shadow or canary"),
        ("canary", 0.0, "s", "share of people"),
        ("canary", 1.0, "s", "some must stay"),
        ("shadow", 1.1, "s", "share of people"),
        ("canary", float("nan"), "s", "share of people"),
        ("canary", 0.5, "", "1 to 64 bytes"),
        ("canary", 0.5, "x" * 65, "1 to 64 bytes"),
    ],
)
def test_a_candidate_that_cannot_be_is_refused(stage, share, salt, said):
    with pytest.raises(ModelError, match=said):
        Candidate("a/1", stage, share, salt, 0.0)


# trials


def test_a_trial_stands_beside_the_holder_and_ends_with_its_promotion(aliases):
    move = aliases.try_out("g", "champion", canary(), Step("canary", "looks good", {"share": 0.3}))
    assert (move.version, move.candidate, move.stage, move.share) == ("a/1", "b/1", "canary", 0.3)
    assert move.who and move.numbers == {"share": 0.3}
    assert aliases.holder("g", "champion") == "a/1" and aliases.holder("g", "champion.canary") == "b/1"
    assert aliases.holder("g", "champion.shadow") is None
    assert aliases.held("g") == {"champion": "a/1", "champion.canary": "b/1"}
    moved = aliases.move("g", "champion", "b/1", Step("champion", "better"))
    assert (moved.previous, moved.previous_candidate, moved.candidate) == ("a/1", "b/1", None)
    assert aliases.held("g") == {"champion": "b/1"}
    assert [one.step for one in aliases.history("g", "champion")] == ["promote", "canary", "champion"]


def test_promoting_the_holder_again_leaves_the_trial_alone(aliases):
    aliases.try_out("g", "champion", canary(), Step("canary", "try"))
    assert aliases.move("g", "champion", "a/1", WHY) is None
    assert aliases.holding("g", "champion").candidate == canary()


def test_a_trial_needs_a_holder_and_its_name_is_not_given_by_hand(aliases):
    with pytest.raises(ModelError, match="nothing holds other"):
        aliases.try_out("g", "other", canary(), Step("canary", "try"))
    with pytest.raises(ModelError, match="given by a trial"):
        aliases.move("g", "champion.canary", "b/1", WHY)


def test_what_was_decided_on_something_else_is_refused(aliases):
    seen = aliases.holding("g", "champion")
    aliases.move("g", "champion", "c/1", Step("promote", "faster"))
    with pytest.raises(
        Overtaken, match=r"still mean a/1 for this promote, it means c/1 by now \(promote by .*: faster\)"
    ):
        aliases.move("g", "champion", "b/1", Step("promote", "late", {}, seen))
    with pytest.raises(Overtaken, match="still mean nothing"):
        aliases.move("g", "champion", "b/1", Step("promote", "late", {}, None))
    assert aliases.holder("g", "champion") == "c/1" and len(aliases.history("g", "champion")) == 2


def _promote(root, version):
    """One of several promotions that saw the same holder; what it was told."""
    aliases = Aliases(Path(root))
    try:
        aliases.move("g", "champion", version, Step("promote", version, {}, Holding("a/1", _AT)))
    except Overtaken as error:
        return str(error)
    return "won"


_AT = 0.0


def test_of_promotions_at_once_one_wins_and_the_others_get_a_sentence(aliases, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "_AT", aliases.holding("g", "champion").at_ts)
    versions = [f"b/{number}" for number in range(1, 7)]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        said = list(pool.map(_promote, [str(aliases._root)] * 6, versions))
    assert said.count("won") == 1 and sum("nothing was changed" in one for one in said) == 5
    assert aliases.holder("g", "champion") == versions[said.index("won")]
    assert len(aliases.history("g", "champion")) == 2


def test_files_of_before_trials_are_still_read(tmp_path):
    root = tmp_path / "models"
    (root / "aliases" / "g").mkdir(parents=True)
    (root / "aliases" / "g" / "champion.json").write_text('{"version": "a/1", "at_ts": 1.5}')
    old = {"graph": "g", "alias": "champion", "version": "a/1", "previous": None, "reason": "r", "at_ts": 1.5}
    (root / "audit.jsonl").write_text(json.dumps(old) + "\n")
    aliases = Aliases(root)
    assert aliases.holding("g", "champion") == Holding("a/1", 1.5)
    assert aliases.history("g", "champion")[0].step == "promote"
    assert aliases.move("g", "champion", "b/1", WHY).previous == "a/1"


# crashes


def test_a_step_cut_off_before_it_took_place_is_written_down_as_undone(aliases):
    path = aliases._root / "aliases" / "g" / "champion.json"
    before = path.read_bytes()
    aliases.try_out("g", "champion", canary(), Step("canary", "try"))
    path.write_bytes(before)  # as if the process had died between the log and the swap
    undone = aliases.settle("g", "champion")
    assert (undone.step, undone.version, undone.candidate, undone.previous_candidate) == (
        "undone",
        "a/1",
        None,
        "b/1",
    )
    assert aliases.settle("g", "champion") is None
    assert aliases.move("g", "champion", "b/1", WHY).previous == "a/1"


KILLED = """
import sys
from pathlib import Path
from models.aliases import Aliases, Step
from models.candidate import Candidate
aliases = Aliases(Path(sys.argv[1]))
turn = 0
while True:
    turn += 1
    one, other = f"v/{turn % 7 + 1}", f"v/{(turn + 3) % 7 + 1}"
    aliases.try_out("g", "champion", Candidate(other, "canary", 0.5, str(turn), 0.0), Step("canary", "try"))
    aliases.move("g", "champion", one, Step("champion", "won"))
    if turn == 1:
        print("ready", flush=True)
"""


def test_killed_at_any_moment_an_alias_names_a_version_and_the_log_tells_it(aliases):
    rng = np.random.default_rng(0)
    for turn in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(aliases._root)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parent.parent.parent,
        )
        process.stdout.readline()
        time.sleep(rng.uniform(0.002, 0.06))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        held, last = aliases.holding("g", "champion"), aliases.history("g", "champion")[-1]
        tried = None if held.candidate is None else held.candidate.version
        told = ((last.version, last.candidate), (last.previous, last.previous_candidate))
        assert held.version.count("/") == 1 and (held.version, tried) in told
        aliases.settle("g", "champion")
        last = aliases.history("g", "champion")[-1]
        assert (held.version, tried) == (last.version, last.candidate)
        assert aliases.move("g", "champion", f"mended/{turn + 1}", Step("rollback", "mend")) is not None
    history = aliases.history("g", "champion")
    chain = zip(history, history[1:], strict=False)
    assert len(history) > 8 * 3 and all(later.previous == earlier.version for earlier, later in chain)


# full disks


def _limited(root, size, say):
    """Moves an alias where no file may grow past ``size`` bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        Aliases(Path(root)).move("g", "champion", "b/1", Step("promote", "x" * 300))
        say.send("moved")
    except ModelError as error:
        say.send(str(error))


@pytest.mark.parametrize("more", [0, 5, 40, 200, 100_000])
def test_a_full_disk_leaves_the_alias_as_it_was(aliases, more):
    log = aliases._root / "audit.jsonl"
    size = log.stat().st_size + more if more else 10  # 10: not even the file aside fits
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_limited, args=(aliases._root, size, there))
    process.start()
    said = here.recv()
    process.join()
    history = aliases.history("g", "champion")
    if more == 100_000:
        assert said == "moved" and aliases.holder("g", "champion") == "b/1" and len(history) == 2
        return
    assert "free space" in said and "means what it meant before" in said
    assert aliases.holder("g", "champion") == "a/1" and [move.version for move in history] == ["a/1"]
    aliases.move("g", "champion", "c/1", WHY)  # space was freed
    assert [move.version for move in aliases.history("g", "champion")] == ["a/1", "c/1"]


@pytest.mark.parametrize("step", ["write_text", "append", "rename"])
def test_a_write_that_fails_at_any_step_leaves_the_alias_as_it_was(aliases, monkeypatch, step):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    whole = {"append": journal.append, "rename": Path.rename, "write_text": Path.write_text}
    monkeypatch.setattr(journal if step == "append" else Path, step, full)
    with pytest.raises(ModelError, match="No space left on device: free space"):
        aliases.move("g", "champion", "b/1", WHY)
    monkeypatch.setattr(journal if step == "append" else Path, step, whole[step])
    assert aliases.holding("g", "champion").version == "a/1"
    assert aliases.history("g", "champion")[-1].version == "a/1"
    assert aliases.move("g", "champion", "b/1", WHY).previous == "a/1"
