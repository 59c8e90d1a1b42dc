"""A stream of acknowledged events that is killed at random moments, and what log and bank hold afterwards."""

import os
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kg.feedback import FeedbackEvent, FeedbackLog
from models.adapter_bank import AdapterBank
from models.adapters import AdapterSpec

SPEC = AdapterSpec(width=16, outputs=16, rank=2, base="bench")
_MOVING, _STILL = 40, 200
"""People whose adapters learn, and people whose adapters must keep every bit."""
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Kills:
    """What a stream that was killed left behind."""

    kills: int
    acknowledged: int
    """Events whose writer was told that they are on disk."""
    lost: int
    """Of these, events that the log does not hold."""
    recorded: int
    """Events in the log."""
    replayed: int
    """Events that a bank took from the log after a kill."""
    wrong: int
    """Users whose adapter was not, to the bit, what all their events in order make it; over all kills."""
    others_changed: int
    """Users without an event whose adapter changed by a bit; over all kills."""

    @property
    def is_met(self) -> bool:
        """True if nothing was lost and nobody's adapter was wrong."""
        return not (self.lost or self.wrong or self.others_changed)


def measure(kills: int, seed: int, said: Callable[[str], None] = lambda _: None) -> Kills:
    """Kills a stream ``kills`` times and looks after each.

    Args:
        kills: SIGKILLs, each at a random moment of the stream.
        seed: of the moments.
        said: told what is being done.
    """
    draw, told, replayed, wrong, changed = random.Random(seed), set[str](), 0, 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        still = _begin(folder)
        for number in range(kills):
            said(f"kill {number + 1} of {kills}")
            told |= _killed_stream(folder, number, draw.uniform(0.0, 0.25))
            with _opened(folder) as bank:
                replayed += replay(FeedbackLog(_log(folder)), bank)
                wrong += _differing(bank, _right(folder))
                found = bank.read(list(still))
                changed += sum(
                    one.tobytes() != right.tobytes() for one, right in zip(found, still.values(), strict=True)
                )
        keys = {event.key for event in FeedbackLog(_log(folder)).read()}
    return Kills(kills, len(told), len(told - keys), len(keys), replayed, wrong, changed)


def taught(record: np.ndarray, event: FeedbackEvent) -> None:
    """A made-up step that depends on all steps before it; an event that was taken is passed over."""
    if event.number <= record["number"][0]:
        return
    step = np.random.default_rng(event.number).normal(size=record["up"].shape)
    record["up"] = 0.9 * record["up"].astype(np.float32) + 0.1 * step
    record["down"] += np.float16(0.01)
    record["events"] += 1
    record["number"] = event.number


def replay(log: FeedbackLog, bank: AdapterBank) -> int:
    """Takes all events of the log that the bank may not have; how many stand there."""
    count, after = 0, bank.applied
    for event in log.read(after=after):
        _take(bank, event)
        count, after = count + 1, event.number
    bank.commit(applied=after)
    return count


def stream(folder: Path, seed: int) -> None:
    """What is killed: events onto the log, then into the bank, then told; commits and compactions between."""
    draw, log = random.Random(seed), FeedbackLog(_log(folder))
    with _opened(folder) as bank:
        replay(log, bank)
        for count in range(1_000_000):
            events = [
                FeedbackEvent(f"user:moving:{draw.randrange(_MOVING)}", "content:a:1", "like", key, 0)
                for key in (f"{seed}-{count}-{place}" for place in range(draw.randint(1, 6)))
            ]
            for event, recorded in zip(events, log.append_many(events), strict=True):
                _take(
                    bank,
                    FeedbackEvent(
                        event.user_id, event.content_id, "like", event.key, 0, None, recorded.number
                    ),
                )
            sys.stdout.write("".join(f"{event.key}\n" for event in events))
            sys.stdout.flush()
            if draw.random() < 0.05:
                bank.commit(applied=recorded.number)
            if draw.random() < 0.01:
                bank.compact()


def _take(bank: AdapterBank, event: FeedbackEvent) -> None:
    record = bank.read([event.user_id])
    taught(record, event)
    bank.write([event.user_id], record)


def _log(folder: Path) -> Path:
    return folder / "feedback.sqlite"


def _opened(folder: Path) -> AdapterBank:
    return AdapterBank(folder / "bank", SPEC, writable=True, commit_every=1_000_000)


def _begin(folder: Path) -> dict[str, np.ndarray]:
    draw, records = np.random.default_rng(0), SPEC.fresh(_STILL)
    records["up"], records["down"] = (draw.normal(size=records[name].shape) for name in ("up", "down"))
    still = {f"user:still:{number}": record for number, record in enumerate(records)}
    with _opened(folder) as bank:
        bank.write(list(still), records)
    return still


def _killed_stream(folder: Path, seed: int, after_s: float) -> set[str]:
    """Keys that were told before the kill, which comes so long after the first of them."""
    code = "from pathlib import Path; from apps.bench.adapter_kills import stream; "
    code += f"stream(Path({str(folder)!r}), {seed})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=_ROOT)
    if process.stdout is None:
        raise RuntimeError("a stream must be heard, its output is closed: start it anew")
    with selectors.DefaultSelector() as waiting, process:
        waiting.register(process.stdout, selectors.EVENT_READ)
        told, until = b"", None
        while until is None or time.monotonic() < until:
            if waiting.select(None if until is None else max(0.0, until - time.monotonic())):
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    raise RuntimeError(
                        f"the stream must run until it is killed, it ended with {process.wait()}"
                    )
                told, until = told + part, until or time.monotonic() + after_s
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read()
    return {line.decode() for line in told.split(b"\n")[:-1]}


def _right(folder: Path) -> dict[str, np.ndarray]:
    """What all events of the log in order make of each user."""
    users: dict[str, np.ndarray] = {}
    for event in FeedbackLog(_log(folder)).read():
        taught(users.setdefault(event.user_id, SPEC.fresh(1)), event)
    return users


def _differing(bank: AdapterBank, right: dict[str, np.ndarray]) -> int:
    found = bank.read(list(right))
    return sum(one.tobytes() != right[name].tobytes() for one, name in zip(found, right, strict=True))
