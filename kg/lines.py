"""Lines of a file as text, whatever state it is in; rows out of lines, and which line broke one."""

import csv
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from kg.records import SourceError

_LINE_LIMIT = 1 << 22
"""Bytes of the longest line that is read."""
_FIELD_LIMIT = 1 << 20
"""Characters that an open quote may swallow before its row is given up."""
_BOMB_BYTES = 1 << 26
"""A gzip may unpack to this much whatever it holds …"""
_BOMB_RATIO = 100
"""… and beyond it to at most so many times its own size; text packs to a tenth, a bomb to a thousandth."""


class Lines:
    """Lines of a file: UTF-8 with or without BOM, else latin-1; any line end; gzip by its name.

    Memory: one line. ``number`` is that of the line given last.
    """

    def __init__(self, path: Path, repair: Callable[[str], None]) -> None:
        if not path.is_file():
            raise SourceError(path, "a file", "no such file", "check the path")
        self.path, self.number, self._repair = path, 0, repair
        self._again: deque[str] = deque()
        self._left = self._fresh()

    def give_back(self, lines: list[str]) -> None:
        """These lines, the last that were given, come once more."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)

    def __iter__(self) -> Iterator[str]:
        while True:
            if self._again:
                line = self._again.popleft()
            elif (line := next(self._left, None)) is None:  # type: ignore[assignment]
                return
            self.number += 1
            yield line

    def _fresh(self) -> Iterator[str]:
        is_packed = self.path.suffix == ".gz"
        bound = max(_BOMB_BYTES, _BOMB_RATIO * self.path.stat().st_size) if is_packed else None
        done = 0
        try:
            with gzip.open(self.path, "rb") if is_packed else self.path.open("rb") as file:
                for place, raw in enumerate(_short(file, self.path), 1):
                    done += len(raw)
                    if place == 1 and b"\r" in raw.rstrip(b"\r\n"):
                        must, came = "lines that end in a line feed", "a carriage return alone behind a line"
                        raise SourceError(self.path, must, came, "convert the line ends")
                    if bound is not None and done > bound:
                        raise SourceError(
                            self.path,
                            f"a gzip that unpacks to at most {bound:,} bytes",
                            f"more than that from {self.path.stat().st_size:,} bytes",
                            "check where the file comes from; unpack it yourself if it is right",
                        )
                    yield self._text(raw, is_first=place == 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(
                self.path,
                "a whole gzip file",
                f"it breaks off after line {self.number} ({error})",
                "get the file again",
            ) from error
        except OSError as error:
            raise SourceError(
                self.path, "a readable file", str(error), "check the file and its rights"
            ) from error

    def _text(self, raw: bytes, is_first: bool) -> str:
        if is_first and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
            self._repair("byte order mark left out")
        if raw.endswith(b"\r\n"):
            raw = raw[:-2] + b"\n"
        elif not raw.endswith(b"\n"):
            self._repair("last line without an end read")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._repair("latin-1 line read")
            return raw.decode("latin-1")


def rows_of(lines: Lines, delimiter: str, broken: Callable[[int, str], None]) -> Iterator[list[str]]:
    """Cells of each row; a row that cannot be taken apart is told to ``broken`` with its line and the reason.

    Only the line in which a broken row begins is lost: the lines that an open quote swallowed are read again.

    Args:
        lines: where the rows come from.
        delimiter: ``,`` reads quotes as CSV has them, any other one reads none.
        broken: takes the number of a line and what to do about it.
    """
    if delimiter != ",":
        yield from (line.rstrip("\n").split(delimiter) if line.strip() else [] for line in lines)
        return
    csv.field_size_limit(_FIELD_LIMIT)
    taken: list[str] = []
    reader = csv.reader(_noted(lines, taken), strict=True)
    while True:
        taken.clear()
        first = lines.number + 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken(first, f"the quotes of the row do not match ({error}): mend or remove it")
            lines.give_back(taken[1:])
            reader = csv.reader(_noted(lines, taken), strict=True)


def _noted(lines: Lines, taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _short(file: IO[bytes], path: Path) -> Iterator[bytes]:
    while raw := file.readline(_LINE_LIMIT):
        if len(raw) == _LINE_LIMIT and not raw.endswith(b"\n"):
            raise SourceError(
                path,
                f"lines of at most {_LINE_LIMIT:,} bytes",
                "a longer one",
                "check that the file is a table with a row a line",
            )
        yield raw
