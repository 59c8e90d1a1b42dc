"""Adapters: room, updates on disk, scoring beside PEFT's mixed batches, and kills; one row a figure."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from apps.bench import adapter_kills
from apps.bench.adapter_scoring import SPEC, START_TS, Row, made_up, scoring
from kg.feedback import FeedbackEvent, FeedbackLog
from models.adapter_bank import AdapterBank
from models.adapter_bank_packing import pack, unpack
from models.adapters import MOST_BYTES, shifts
from models.heads import HeadConfig, head_of
from models.instant import InstantConfig, Signals, updated

_PART, _GROUP = 65_536, 64
"""Users written at once, and events recorded at once."""
_KNOWN = 1_000
"""Contents of the made-up head that learns."""
_ROOT = Path(__file__).resolve().parents[2]
_OPENER = """
import json, os, sys, time
from pathlib import Path
import psutil
from models.adapter_bank import AdapterBank
folder, users = Path(sys.argv[1]), int(sys.argv[2])
for path in folder.glob("*.bin"):  # out of the page cache
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED) if hasattr(os, "posix_fadvise") else None
    os.close(handle)
process = psutil.Process()
before = process.memory_info().rss
started = time.perf_counter()
bank = AdapterBank(folder)
known = bank.has([f"user:bench:{users - 1}"])
opened = time.perf_counter() - started
after = process.memory_info().rss
bank.read([f"user:bench:{number * (users // 256)}" for number in range(256)])
print(json.dumps([opened, before, after, process.memory_info().rss, bool(known[0])]))
"""


def measure(
    users: int,
    contents: int,
    seconds: float,
    kills: int,
    threads: int,
    seed: int,
    said: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """All rows.

    Args:
        users: in the bank, made up.
        contents: scored for each of 256 users.
        seconds: of the sustained stream.
        kills: SIGKILLs amid a stream of acknowledged events; 0 leaves them out.
        threads: of NumPy and torch, on each side.
        seed: of what is made up.
        said: told what is being done.
    """
    draw, before = np.random.default_rng(seed), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads), tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            rows = [*_room(folder / "bank", users, draw, said)]
            with AdapterBank(folder / "bank", writable=True) as bank:
                rows += [*_updates(folder, bank, users, seconds, draw, said)]
            rows += [*scoring(contents, draw, said)]
    finally:
        torch.set_num_threads(before)
    if kills:
        found = adapter_kills.measure(kills, seed, said)
        told = f"{found.acknowledged:,} acknowledged, {found.replayed:,} replayed"
        rows += [
            Row(f"acknowledged events lost in {kills} kills", found.lost, "", 0, note=told),
            Row("adapters that are not what their events make", found.wrong, "", 0, note="to the bit"),
            Row("adapters of others that changed", found.others_changed, "", 0, note="to the bit"),
        ]
    return rows


def _room(folder: Path, users: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    started = time.perf_counter()
    with AdapterBank(folder, SPEC, writable=True, commit_every=8 * _PART) as bank:
        for first in range(0, users, _PART):
            said(f"{first:,} of {users:,} users are written")
            count = min(_PART, users - first)
            bank.write([f"user:bench:{first + one}" for one in range(count)], made_up(SPEC, count, draw))
        bank.commit()
        found = bank.stats()
    written_s = time.perf_counter() - started
    said("opened by a process of its own")
    told = subprocess.run(
        [sys.executable, "-c", _OPENER, str(folder), str(users)],
        capture_output=True,
        text=True,
        cwd=_ROOT,
        check=True,
    )
    opened_s, before, after, touched, is_known = json.loads(told.stdout)
    if not is_known:
        raise RuntimeError(f"the bank must hold what was written, {users:,} users, the last is not there")
    yield Row("bytes of one user's adapter, rank 2, width 64", found.record_bytes, "", MOST_BYTES)
    yield _eight_bits(draw)
    yield Row(
        f"{users:,} users on disk",
        found.size_bytes / 2**30,
        "GiB",
        2.5,
        note=f"{found.size_bytes / users:,.0f} bytes a user; written in {written_s:.0f} s",
    )
    yield Row("opened, and one user found", opened_s, "s", 1.0, note="out of the page cache")
    note = f"{before / 2**20:.0f} MiB before, {touched / 2**20:.0f} after 256 users"
    yield Row("resident until touched", after / 2**20, "MiB", 300, note=note)


def _eight_bits(draw: np.random.Generator) -> Row:
    """What int8 saves, and by how much it moves the shifts of a thousand made-up users."""
    records, inputs = made_up(SPEC, 1_000, draw), draw.standard_normal((1_000, SPEC.width), np.float32)
    packed = pack(SPEC, records, "int8")
    right = shifts(SPEC, records, inputs)
    off = np.linalg.norm(shifts(SPEC, unpack(SPEC, packed, "int8"), inputs) - right, axis=1)
    share = off / np.linalg.norm(right, axis=1)
    note = f"shifts off by {np.median(share):.2%} of their length, p99 {np.percentile(share, 99):.2%}"
    return Row("the same in int8", packed.dtype.itemsize, "", MOST_BYTES, note=note)


def _updates(
    folder: Path,
    bank: AdapterBank,
    users: int,
    seconds: float,
    draw: np.random.Generator,
    said: Callable[[str], None],
) -> Iterator[Row]:
    said("instant updates")
    tier, keys, times = (
        _Tier(bank, FeedbackLog(folder / "feedback.sqlite"), draw),
        itertools.count(),
        list[list[float]](),
    )
    names = (f"user:bench:{number}" for number in iter(lambda: int(draw.integers(users)), -1))
    record = bank.read(["user:bench:0"])
    for number in range(1, 5_001):
        signals = tier.signals([number])
        started, before = time.perf_counter(), time.thread_time()
        record = updated(tier.head, tier.config, record, signals)
        times.append([time.perf_counter() - started, time.thread_time() - before])
    wall, cpu = 1e3 * np.percentile(times, [50, 99], axis=0).T
    note = f"median {wall[0]:.3f} ms; p99 of the processor's time {cpu[1]:.3f} ms"
    yield Row("arithmetic of an instant update, p99", float(wall[1]), "ms", 1.0, note=note)
    yield _durable(folder, tier, names, keys)
    said(f"a stream of {seconds:g} s")
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        group = dict.fromkeys(itertools.islice(names, _GROUP))
        tier.take([_event(name, next(keys)) for name in group])
        count += len(group)
    bank.commit()
    rate = count / (time.perf_counter() - started)
    yield Row(
        "events sustained, log and bank", rate, "a second", 2_000, True, f"in groups of {_GROUP}, commits in"
    )


def _durable(folder: Path, tier: "_Tier", names: Iterator[str], keys: Iterator[int]) -> Row:
    """An event is safe once the log holds it: what it taught the bank can be replayed from there."""
    bare_s, log_s, bank_s = [], [], []
    with (folder / "bare.jsonl").open("ab", buffering=0) as bare:
        for _ in range(300):
            event = _event(next(names), next(keys))
            began = time.perf_counter()
            bare.write(
                json.dumps([event.user_id, event.content_id, event.event, event.key, event.ts]).encode()
            )
            os.fsync(bare.fileno())
            bare_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            numbers = tier.record([event])
            log_s.append(time.perf_counter() - began)
            tier.learn([event], numbers)
            bank_s.append(time.perf_counter() - began)
    bare_ms, log_ms, bank_ms = (1e3 * median(seconds) for seconds in (bare_s, log_s, bank_s))
    return Row(
        "an event made durable, over a bare append and fsync",
        log_ms / bare_ms,
        "×",
        2.0,
        note=f"{log_ms:.2f} ms over {bare_ms:.2f} ms; with arithmetic and bank {bank_ms:.2f} ms, "
        f"{bank_ms / bare_ms:.1f} ×",
    )


class _Tier:
    """The instant tier on a made-up linear head, over a bank and a log."""

    def __init__(self, bank: AdapterBank, log: FeedbackLog, draw: np.random.Generator) -> None:
        vectors = draw.standard_normal((2, _KNOWN, SPEC.width), np.float32) / 8
        self.head = head_of(
            "linear", HeadConfig(SPEC.width, SPEC.rank), {"left": vectors[0], "met": vectors[1]}
        )
        self.config, self._bank, self._log = InstantConfig(fades=(2.0, 8.0)), bank, log

    def signals(self, numbers: list[int]) -> Signals:
        """One like for each place in the log."""
        places = np.array(numbers, np.int64)
        return Signals(places % _KNOWN, np.ones(len(places), np.float32), START_TS + places, places)

    def take(self, events: list[FeedbackEvent]) -> None:
        """Onto the log, into the bank: the one waits for the disk, the other can be replayed from it."""
        self.learn(events, self.record(events))

    def record(self, events: list[FeedbackEvent]) -> list[int]:
        """Their places in the log, which has them on the disk."""
        return [recorded.number for recorded in self._log.append_many(events)]

    def learn(self, events: list[FeedbackEvent], numbers: list[int]) -> None:
        """What they teach, into the bank."""
        user_ids = [event.user_id for event in events]
        found = updated(self.head, self.config, self._bank.read(user_ids), self.signals(numbers))
        self._bank.write(user_ids, found, applied=numbers[-1])


def _event(user_id: str, key: int) -> FeedbackEvent:
    return FeedbackEvent(user_id, "content:bench:1", "like", f"key-{key}", START_TS)
