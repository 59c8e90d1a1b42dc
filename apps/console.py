"""How the command line speaks: tables, JSON for machines, progress, and what a stage cost."""

import dataclasses
import errno
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDTH = None if sys.stdout.isatty() else 140  # a pipe or a log has no width of its own
out = Console(highlight=False, soft_wrap=True, width=_WIDTH)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: Any) -> Any:
    """Anything the house returns as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(part) for part in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return str(value) if isinstance(value, Path) else value


def is_full_disk(error: BaseException) -> bool:
    """Whether the system said that there is no room to write, or that a quota is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sentence(error: BaseException) -> str:
    """What an error says to a person; of a disk that is full also what to do, which the system leaves out."""
    if is_full_disk(error):
        return (
            f"the disk must have room for what is written, it has none ({error}): free some, or name another "
            "folder with MG_HOME, then repeat the command"
        )
    return str(error) or type(error).__name__


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, indent=1, default=str) + "\n")


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table; numbers stand to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for place, column in enumerate(columns):
        is_number = all(isinstance(row[place], (int, float)) for row in rows) and bool(rows)
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *[
                f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)
                for cell in row
            ]
        )
    out.print(table)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[Any], None]]:
    """A bar fed with plain text, or objects with ``stage``, ``done``, ``total`` and ``rows_per_s``."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def feed(step: Any) -> None:
            if isinstance(step, str):
                bar.update(task, description=f"{what}: {step}")
                return
            rate = f"{step.done:,} · {step.rows_per_s:,.0f}/s"
            if step.total and step.rows_per_s:
                rate += f" · {max(0, step.total - step.done) / step.rows_per_s:,.0f} s left"
            bar.update(
                task, description=f"{what}: {step.stage}", completed=step.done, total=step.total, rate=rate
            )

        yield feed


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one stage of a longer job cost."""

    name: str
    seconds: float


class Meter:
    """Wall time a stage, and the most memory that this process and its children held together (sampled)."""

    def __init__(self, every_s: float = 0.5) -> None:
        self.stages: list[Stage] = []
        self.peak_bytes = 0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Meter":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside and says so when it is done."""
        out.print(f"[bold]{name}[/bold]")
        before = time.monotonic()
        yield
        self.stages.append(Stage(name, round(time.monotonic() - before, 1)))

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_bytes = max(self.peak_bytes, tree_bytes())


def tree_bytes() -> int:
    """Memory of this process and its children; shared pages count once where the system tells (PSS)."""
    total, me = 0, psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(info, "pss", 0) or info.rss
    return total
