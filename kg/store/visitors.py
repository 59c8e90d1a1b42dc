"""Who runs the embedded server of a folder, and who uses it: a small file that every process can read."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

_NEAR_S = 2.0
"""Two times of birth that are nearer than this are one: the kernel tells when it started in whole seconds."""


@dataclass(frozen=True)
class Visitor:
    """A process that uses the server; pids come again, so the time of its creation goes with it."""

    pid: int
    created: float
    token: str


@dataclass(frozen=True)
class State:
    """What the state file says of the running server."""

    pid: int
    created: float
    bolt_port: int
    http_port: int
    databases: str
    """Folder under the root that the server reads, ``databases`` or ``loading``."""
    visitors: tuple[Visitor, ...] = field(default=())


def read_state(folder: Path) -> State | None:
    """What the state file says; None where there is none, or half of one."""
    try:
        known = json.loads((folder / "server.json").read_text(encoding="utf-8"))
        return State(**{**known, "visitors": tuple(Visitor(**visitor) for visitor in known["visitors"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_state(folder: Path, state: State) -> None:
    """Replaces the state file at once."""
    aside = folder / "server.json.new"
    write_private(aside, json.dumps(asdict(state)))
    aside.replace(folder / "server.json")


def born(process: psutil.Process) -> float:
    """Seconds from the start of the machine to the start of a process.

    Not by the wall clock: that may be set back, and then a process would be taken for a stranger.
    """
    return process.create_time() - psutil.boot_time()


def process_of(pid: int, created: float) -> psutil.Process | None:
    """The process with this pid, if it was made then, by :func:`born` or the wall clock, and still runs."""
    try:
        process = psutil.Process(pid)
        is_it = min(abs(born(process) - created), abs(process.create_time() - created)) < _NEAR_S
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def alive(visitors: tuple[Visitor, ...]) -> tuple[Visitor, ...]:
    """Those whose process still runs."""
    return tuple(visitor for visitor in visitors if process_of(visitor.pid, visitor.created) is not None)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
