"""An append-only file of JSON lines: on disk before anybody is told, whole again after a crash."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_CUT_OFF = b" cut off"


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """One line more, on disk before this returns; a line cut off by a crash is marked and ended first.

    Raises:
        OSError: it could not be written; a part that was is passed over by :func:`entries`.
    """
    with path.open("ab+", buffering=0) as file:
        end = b""
        if file.tell():
            file.seek(-1, os.SEEK_END)
            end = file.read(1)
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        line = line if end in (b"", b"\n") else _CUT_OFF + b"\n" + line
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    sync(path.parent)


def entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Line number and what stands there, oldest first; a line that a crash cut off does not count.

    Raises:
        ValueError: a line is no JSON; the message names it.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for number, line in enumerate(lines[:-1], 1):
        if line.endswith(_CUT_OFF):
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is no JSON ({error}): mend it") from None


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
