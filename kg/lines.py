"""Lines of a file as text, whatever state it is in; rows out of lines, and which line broke one."""

import csv
import gzip
import io
import math
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
_BUFFER_BYTES = 1 << 16


class Lines:
    """Lines of a file: UTF-8 with or without BOM, else latin-1; any line end; gzip by its name.

    Memory: one line. ``number`` is that of the line given last.
    """

    def __init__(self, path: Path, repair: Callable[[str], None]) -> None:
        if not path.is_file():
            raise SourceError(path, "a file", "no such file", "check the path")
        self.path, self.number, self._repair = path, 0, repair
        self._again: deque[str] = deque()
        self._taken: list[str] | None = None
        self._file: IO[bytes] | None = None
        self._read_bytes = 0

    def mark(self) -> None:
        """The lines that are given from here on are those that :meth:`give_back` gives back."""
        self._taken = []

    def give_back(self) -> None:
        """The lines that were given since the mark, without the first, come once more."""
        again = (self._taken or [])[1:]
        self._again.extendleft(reversed(again))
        self.number -= len(again)

    def __iter__(self) -> Iterator[str]:
        try:
            file, bound = self._opened(), self._bound()
            while True:
                if self._again:
                    line = self._again.popleft()
                else:
                    raw = file.readline(_LINE_LIMIT)
                    self._read_bytes += len(raw)
                    if len(raw) == _LINE_LIMIT or self._read_bytes > bound:
                        self._refuse_monsters(raw, bound)
                    if not raw:
                        file.close()
                        self._file = io.BytesIO()
                        return
                    line = self._text(raw)
                if self._taken is not None:
                    self._taken.append(line)
                self.number += 1
                yield line
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

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = self.path.open("rb")
            if self.path.suffix == ".gz":
                self._file = io.BufferedReader(gzip.GzipFile(fileobj=self._file), _BUFFER_BYTES)
        return self._file

    def _bound(self) -> float:
        """Bytes that may come out of the file."""
        if self.path.suffix != ".gz":
            return math.inf
        return max(_BOMB_BYTES, _BOMB_RATIO * self.path.stat().st_size)

    def _refuse_monsters(self, raw: bytes, bound: float) -> None:
        if self._read_bytes > bound:
            raise SourceError(
                self.path,
                f"a gzip that unpacks to at most {bound:,} bytes",
                f"more than that from {self.path.stat().st_size:,} bytes",
                "check where the file comes from; unpack it yourself if it is right",
            )
        if not raw.endswith(b"\n"):
            raise SourceError(
                self.path,
                f"lines of at most {_LINE_LIMIT:,} bytes",
                "a longer one",
                "check that the file is a table with a row a line",
            )

    def _first(self, raw: bytes) -> bytes:
        if b"\r" in raw.rstrip(b"\r\n"):
            must, came = "lines that end in a line feed", "a carriage return alone behind a line"
            raise SourceError(self.path, must, came, "convert the line ends")
        if raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
            self._repair("byte order mark left out")
        return raw

    def _text(self, raw: bytes) -> str:
        if not self.number:
            raw = self._first(raw)
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
    reader = csv.reader(lines, strict=True)
    while True:
        lines.mark()
        first = lines.number + 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            broken(first, f"the quotes of the row do not match ({error}): mend or remove it")
            lines.give_back()
            reader = csv.reader(lines, strict=True)
