"""Time and memory of every attention mechanism by length, each length in a process of its own.

q queries = k keys · d width · n lengths."""

import json
import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from experiments.mechanism_table import Cost
from experiments.trials import is_memory, memory_limit
from models.attention import Attention, AttentionConfig, Pairs, attentions

LENGTHS = (256, 1024, 4096, 16384)
WARM_UP = 32
"""Length of a first pass that nobody reads."""
FAILURES = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What a mechanism may fail with: it is the result of the cell."""
DAY_S = 86_400.0
TYPES, RELATIONS, EDGE_WIDTH = 2, 2, 2


@dataclass(frozen=True)
class SpeedConfig:
    """What is measured, and where it ends."""

    lengths: tuple[int, ...] = LENGTHS
    """q = k, ascending; below one that does not fit, half of it is tried too."""
    dim: int = 64
    memory_bytes: int = 10 * 2**30
    """What a cell may take beyond its process."""
    seconds: float = 60.0
    """Of a whole cell; past it the process is ended."""
    repetitions: int = 3
    """Passes that count, after one that does not."""
    long_s: float = 2.0
    """A first pass that takes longer is the only one, and counts."""
    short_s: float = 0.02
    """Of passes that take less, ten times as many count."""

    def __post_init__(self) -> None:
        if not self.lengths or min(*self.lengths, self.dim, self.repetitions, self.memory_bytes) < 1:
            raise ValueError(f"lengths, dim, repetitions and memory_bytes must be 1 or more, got {self}")


def measure(
    config: SpeedConfig,
    folder: Path,
    mechanisms: Sequence[str] = (),
    again: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> dict[str, tuple[Cost, ...]]:
    """Every mechanism at every length, one cell at a time; what is measured already is read.

    Args:
        config: what is measured.
        folder: keeps a file a cell.
        mechanisms: registered names; empty means every one.
        again: names of which the cells are measured anew.
        say: told which cell is next.

    Returns:
        Mechanism -> costs by length.

    Raises:
        UnknownName: no mechanism is called so.
    """
    for name in (*mechanisms, *again):
        attentions[name]  # an unknown one is named with its nearest
    for name in again:
        for path in Path(folder).glob(f"{name}-*.json"):
            path.unlink()
    with _Cells(config) as cells:
        found = {}
        for name in mechanisms or attentions:
            costs = [_kept(folder, cells, name, k, say) for k in config.lengths]
            if failed := next((one for one in costs if one.ended in ("memory", "time")), None):
                half = failed.k // 2
                if half not in config.lengths and half > min(config.lengths):
                    costs.append(_kept(folder, cells, name, half, say))
            found[name] = tuple(sorted(costs, key=lambda one: one.k))
    return found


def _kept(folder: Path, cells: "_Cells", name: str, k: int, say: Callable[[str], None] | None) -> Cost:
    path = Path(folder) / f"{name}-{k}.json"
    if path.is_file():
        return Cost(**json.loads(path.read_text(encoding="utf-8")))
    if say is not None:
        say(f"speed, {name} at {k:,}")
    cost = cells.cell(name, k)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(asdict(cost)), encoding="utf-8")
    aside.replace(path)
    return cost


class _Cells:
    """A process that has imported all and computed nothing, and forks one for each cell: fresh, yet quick."""

    def __init__(self, config: SpeedConfig) -> None:
        self.config = config
        self._process: Any = None

    def __enter__(self) -> "_Cells":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._process is None:
            return
        if kind is None:
            self._near.send(None)
        else:
            self._process.terminate()
        self._process.join()

    def cell(self, name: str, k: int) -> Cost:
        """One mechanism at one length."""
        if self._process is None:
            self._start()
        try:
            self._near.send((name, k))
            return self._near.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(
                f"the process that measures must live, it ended with exit code {self._process.exitcode} at "
                f"{name}, {k:,}: run it again, it goes on"
            ) from None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._near, far = context.Pipe()
        self._process = context.Process(target=serve, args=(far, self.config), daemon=False)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first ends the others
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        far.close()


def serve(asked: Connection, config: SpeedConfig) -> None:
    """Measures what it is asked for, one name and length after the other, until it is told None."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # on its way out it ends its cell
    with suppress(EOFError, BrokenPipeError):  # who asked is gone
        while (told := asked.recv()) is not None:
            asked.send(_in_a_process(*told, config))


def _in_a_process(name: str, k: int, config: SpeedConfig) -> Cost:
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=_cell, args=(name, k, config, far), daemon=True)
    process.start()
    far.close()
    cost, deadline = Cost(k, stage="forward"), time.monotonic() + config.seconds
    ended = _heard(near, deadline)
    while isinstance(ended, Cost):
        cost, ended = ended, _heard(near, deadline)
    if ended == "time":
        process.kill()
    process.join()
    if cost.ended or not cost.stage:
        return cost
    if ended != "time":  # it went without a word
        ended = "memory" if process.exitcode == -9 else f"error: exit code {process.exitcode}"
    return replace(cost, ended=ended)


def _heard(near: Connection, deadline: float) -> Cost | str:
    """The next word of a cell, ``time`` past the deadline, empty where it is gone."""
    if not near.poll(max(deadline - time.monotonic(), 0)):
        return "time"
    try:
        return near.recv()
    except EOFError:
        return ""


def _cell(name: str, k: int, config: SpeedConfig, told: Connection) -> None:
    """Sends a cost after each stage; ``stage`` is what comes next, empty at the end."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cost = Cost(k, stage="forward")
    try:
        layer = build(name, config.dim)
        few = torch.randn(1, WARM_UP, config.dim, requires_grad=True)
        # code is loaded before memory is read
        layer(few, few, None, pairs_for(layer, WARM_UP)).sum().backward()
        features = torch.randn(1, k, config.dim, requires_grad=True)
        pairs = pairs_for(layer, k)
        with memory_limit(config.memory_bytes):
            before = _peak()
            with torch.no_grad():
                seconds = _timed(lambda: layer(features, features, None, pairs), config)
            cost = replace(
                cost,
                forward_s=median(seconds),
                forward_bytes=_peak() - before,
                repetitions=len(seconds),
                stage="train",
            )
            told.send(cost)
            seconds = _timed(lambda: layer(features, features, None, pairs).sum().backward(), config)
            told.send(replace(cost, train_s=median(seconds), train_bytes=_peak() - before, stage=""))
    except FAILURES as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        told.send(replace(cost, ended="memory" if is_memory(error) else f"error: {said[0][:200]}"))


def build(name: str, dim: int) -> Attention:
    """A mechanism with one head, evaluated as it is served: nothing is dropped."""
    settings = {"dim": dim, "heads": 1, "types": TYPES, "relations": RELATIONS, "edge_width": EDGE_WIDTH}
    return attentions[name]((attentions.config_of(name) or AttentionConfig)(**settings)).eval()


def pairs_for(layer: Attention, k: int) -> Pairs:
    """Everybody sees everything, all else that the mechanism states to read beside it."""
    generator = torch.Generator().manual_seed(0)

    def codes(high: int) -> Tensor:
        return torch.randint(high, (1, k), generator=generator)

    given: dict[str, Any] = {}
    if layer.uses_age:
        given["age_s"] = torch.arange(k - 1, -1, -1)[None] * DAY_S
    if layer.uses_relation:
        given["relation"] = codes(RELATIONS)
    if layer.uses_type:
        given |= {"query_type": codes(TYPES), "key_type": codes(TYPES)}
    if layer.uses_degree:
        given |= {"query_degree": 1 + codes(k), "key_degree": 1 + codes(k)}
    if layer.uses_edge:
        given["edge"] = torch.rand(1, k, EDGE_WIDTH, generator=generator)
    return Pairs(torch.ones(1, k, dtype=torch.bool), **given)


def _timed(run: Callable[[], Any], config: SpeedConfig) -> list[float]:
    first = _seconds(run)
    if first > config.long_s:
        return [first]
    more = 10 if first < config.short_s else 1
    return [_seconds(run) for _ in range(config.repetitions * more)]


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def references(say: Callable[[str], None], repetitions: int = 7) -> Iterator[Any]:
    """Rows of ours beside the reference: dense attention beside torch's, aggregators beside DGL's."""
    from apps.bench import aggregators, dense_attention

    for what, bench in (("dense", dense_attention), ("aggregators", aggregators)):
        say(what)
        yield from bench.measure(repetitions)
