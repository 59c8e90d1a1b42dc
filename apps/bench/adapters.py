"""Users' adapters: room, updates on disk, and scoring beside PEFT's mixed batches, in turn in one run."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from threadpoolctl import threadpool_limits
from torch import nn

from apps.bench import adapter_kills
from kg.feedback import FeedbackEvent, FeedbackLog
from models.adapter_bank import AdapterBank
from models.adapters import MOST_BYTES, AdapterSpec, hidden_scores, shifts
from models.heads import BentHead, HeadConfig, Moments, head_of, moment_vectors
from models.instant import InstantConfig, Signals, add, updated

SPEC = AdapterSpec(width=64, outputs=64, rank=2, base="bench")
HIDDEN = AdapterSpec(width=64, outputs=32, rank=2, base="bench")
"""Of the non-linear head: a hidden layer of 32 over 64 numbers of a content."""
BATCH, _PART, _GROUP = 256, 65_536, 64
_KNOWN, _TS = 1_000, 1_700_000_000
"""Contents of the made-up head that learns, and UTC seconds at which events begin."""
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


@dataclass(frozen=True)
class Row:
    """One figure, and the bar it is held to."""

    what: str
    value: float
    unit: str
    bar: float | None = None
    is_least: bool = False
    """True where the bar is a least, and not a most."""
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """None where there is no bar."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.is_least else self.value <= self.bar


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
        contents: scored for each of :data:`BATCH` users.
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
            rows += [*_linear(contents, draw, said), *_hidden(contents, draw, said)]
            rows += [*_bent(contents, draw, said)]
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


def _made_up(spec: AdapterSpec, count: int, draw: np.random.Generator) -> np.ndarray:
    records = spec.fresh(count)
    for name in ("down", "up"):
        records[name] = 0.1 * draw.standard_normal(records[name].shape, np.float32)
    return records


def _room(folder: Path, users: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    started = time.perf_counter()
    with AdapterBank(folder, SPEC, writable=True, commit_every=8 * _PART) as bank:
        for first in range(0, users, _PART):
            said(f"{first:,} of {users:,} users are written")
            count = min(_PART, users - first)
            bank.write([f"user:bench:{first + one}" for one in range(count)], _made_up(SPEC, count, draw))
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
    bare_s, ours_s = [], []
    with (folder / "bare.jsonl").open("ab", buffering=0) as bare:
        for _ in range(300):
            event = _event(next(names), next(keys))
            started = time.perf_counter()
            bare.write(
                json.dumps([event.user_id, event.content_id, event.event, event.key, event.ts]).encode()
            )
            os.fsync(bare.fileno())
            bare_s.append(time.perf_counter() - started)
            started = time.perf_counter()
            tier.take([event])
            ours_s.append(time.perf_counter() - started)
    yield Row(
        "instant update made durable, over a bare append and fsync",
        median(ours_s) / median(bare_s),
        "×",
        2.0,
        note=f"{1e3 * median(ours_s):.2f} ms over {1e3 * median(bare_s):.2f} ms",
    )
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
        return Signals(places % _KNOWN, np.ones(len(places), np.float32), _TS + places, places)

    def take(self, events: list[FeedbackEvent]) -> None:
        """Onto the log, into the bank: the one waits for the disk, the other can be replayed from it."""
        numbers = [recorded.number for recorded in self._log.append_many(events)]
        user_ids = [event.user_id for event in events]
        found = updated(self.head, self.config, self._bank.read(user_ids), self.signals(numbers))
        self._bank.write(user_ids, found, applied=numbers[-1])


def _event(user_id: str, key: int) -> FeedbackEvent:
    return FeedbackEvent(user_id, "content:bench:1", "like", f"key-{key}", _TS)


class _Head(nn.Module):
    """A linear layer, and what follows it; PEFT adapts the layer."""

    def __init__(self, weight: torch.Tensor, rest: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.head.weight.data = weight
        self.rest = rest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rest(self.head(x))


def _in_peft(
    spec: AdapterSpec, records: np.ndarray, head: nn.Module, said: Callable[[str], None]
) -> PeftModel:
    """A model with one adapter a user, named by place."""
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=["head"])
    model = get_peft_model(head, config, "0")
    for number in range(1, len(records)):
        if number % 64 == 0:
            said(f"PEFT takes {number} of {len(records)} adapters")
        model.add_adapter(str(number), config)
    layer = model.base_model.model.head
    for number, record in enumerate(records):
        layer.lora_A[str(number)].weight.data = torch.tensor(record["down"].astype(np.float32))
        layer.lora_B[str(number)].weight.data = torch.tensor(record["up"].astype(np.float32))
    return model.eval()


def _in_turn(sides: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each side, all of them run in turn; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    with torch.no_grad():
        for _ in range(repetitions + 1):
            for name, run in sides.items():
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
    return {name: median(found[1:]) for name, found in times.items()}


def _must_agree(ours: np.ndarray, theirs: torch.Tensor) -> None:
    if not np.allclose(ours, theirs.numpy(), rtol=1e-3, atol=1e-3 * float(np.abs(ours).max())):
        raise RuntimeError(
            "both sides must give the same scores, they differ: the comparison is worth nothing"
        )


def _linear(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    said("a linear head beside PEFT")
    records = _made_up(SPEC, BATCH, draw)
    users = draw.standard_normal((BATCH, SPEC.width), np.float32)
    table = draw.standard_normal((contents, SPEC.outputs), np.float32)
    weight = draw.standard_normal((SPEC.outputs, SPEC.width), np.float32) / 8
    names = [str(number) for number in range(BATCH)]
    x, columns = torch.tensor(users), torch.tensor(table).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _in_peft(SPEC, records, _Head(torch.tensor(weight), lambda found: found), said)

    def ours() -> np.ndarray:
        return (users @ weight.T + shifts(SPEC, records, users)) @ table.T

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names) @ columns)
    found = _in_turn({"without": lambda: (users @ weight.T) @ table.T, "ours": ours}, repetitions=40)
    title = f"{BATCH} users × {contents:,} contents, linear head"
    yield _ratio(f"{title}: with adapters over without", found, "ours", "without", 1.3)
    found = _in_turn(
        {
            "ours": ours,
            "step": lambda: shifts(SPEC, records, users),
            "peft_step": lambda: model(x, adapter_names=names),
            "peft": lambda: model(x, adapter_names=names) @ columns,
        },
        repetitions=15,
    )
    yield _ratio("the adapter step alone over PEFT's adapter_names", found, "step", "peft_step", 0.05)
    yield _ratio("with scoring over PEFT's", found, "ours", "peft", 0.25)


def _hidden(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    said("a non-linear head beside PEFT")
    records = _made_up(HIDDEN, BATCH, draw)
    table = draw.standard_normal((contents, HIDDEN.width), np.float32)
    weight = draw.standard_normal((HIDDEN.outputs, HIDDEN.width), np.float32) / 8
    users = draw.standard_normal((BATCH, HIDDEN.outputs), np.float32)
    out = draw.standard_normal(HIDDEN.outputs, np.float32)
    names, told, last = (
        [str(number) for number in range(BATCH)],
        torch.tensor(users)[:, None],
        torch.tensor(out),
    )
    x = torch.tensor(table).expand(BATCH, -1, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = _Head(torch.tensor(weight), lambda found: torch.relu(found.add_(told)) @ last)
        model = _in_peft(HIDDEN, records, head, said)

    def ours() -> np.ndarray:
        return hidden_scores(HIDDEN, records, table, table @ weight.T, users, out)

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names))
    said("a non-linear head beside PEFT, in turn")
    found = _in_turn(
        {"without": lambda: _bare_hidden(table @ weight.T, users, out), "ours": ours}, repetitions=15
    )
    title = f"{BATCH} users × {contents:,} contents, hidden layer of {HIDDEN.outputs}"
    yield _ratio(f"{title}: with adapters over without", found, "ours", "without", 1.3)
    found = _in_turn({"ours": ours, "peft": lambda: model(x, adapter_names=names)}, repetitions=3)
    yield _ratio("with scoring over PEFT's, the layer adapted", found, "ours", "peft", 0.7)


def _bent(contents: int, draw: np.random.Generator, said: Callable[[str], None]) -> Iterator[Row]:
    """The non-linear head that serves, content and moment in one layer of which adapters bend all."""
    said("the bent head beside PEFT")
    width = 2 * SPEC.width - len(BentHead.rests) - BentHead.moment_width
    met = draw.standard_normal((contents, width), np.float32) / 8
    head = head_of("bent", HeadConfig(SPEC.width), {"left": met, "met": met, "outer": np.ones(4, np.float32)})
    records = _made_up(head.spec, BATCH, draw)
    records["events"], records["last_ts"] = 1, _TS
    moments = Moments(np.full(BATCH, _TS))
    base = draw.standard_normal((BATCH, contents), np.float32)
    x = torch.empty(BATCH, contents, head.spec.width)
    x[:, :, :width], x[:, :, width:] = torch.tensor(met), torch.tensor(moment_vectors(moments))[:, None]
    weight = torch.zeros(head.spec.outputs, head.spec.width)
    weight[:, width] = torch.tensor(BentHead.rests)  # the moment's 1: where each unit rests
    at_rest, scores = torch.tanh(torch.tensor(BentHead.rests)), torch.tensor(base)
    names = [str(number) for number in range(BATCH)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rest = _Head(weight, lambda found: scores + (found.tanh_() - at_rest).sum(dim=2))
        model = _in_peft(head.spec, records, rest, said)

    def ours() -> np.ndarray:
        return add(head, InstantConfig(), base, records, moments)

    with torch.no_grad():
        _must_agree(ours(), model(x, adapter_names=names))
    said("the bent head beside PEFT, in turn")
    found = _in_turn({"ours": ours, "peft": lambda: model(x, adapter_names=names)}, repetitions=3)
    yield _ratio(f"{BATCH} users × {contents:,} contents, bent head: over PEFT's", found, "ours", "peft", 0.7)


def _bare_hidden(hidden: np.ndarray, users: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The same scores without adapters, in blocks of the same size."""
    scores = np.empty((len(users), len(hidden)), np.float32)
    for first, start in itertools.product(range(0, len(hidden), 512), range(0, len(users), 16)):
        bent = np.ascontiguousarray(hidden[first : first + 512].T) + users[start : start + 16, :, None]
        np.maximum(bent, 0, out=bent)
        scores[start : start + 16, first : first + 512] = np.matmul(out, bent)
    return scores


def _ratio(what: str, found: dict[str, float], ours: str, reference: str, bar: float) -> Row:
    note = f"{1e3 * found[ours]:.2f} ms over {1e3 * found[reference]:.2f} ms"
    return Row(what, found[ours] / found[reference], "×", bar, note=note)
