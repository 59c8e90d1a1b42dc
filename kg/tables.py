"""Reads tables row by row out of files that were spoilt in real ways.

Columns are found by name; what cannot be read is refused with its place and a remedy."""

import ast
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kg.records import Hyperedge, Node, RecordError, Reject, SourceError
from kg.sources import Source

_FIELD_LIMIT = 1 << 20
_DATES = ("%Y-%m-%d", "%B %d, %Y", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y")
_NO_VALUE = ("", "na", "n/a", "nan", "none", "null", "[]", "\\n")


@dataclass(frozen=True)
class Columns:
    """Columns that a table must or may have, each with the names under which it is known."""

    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class BadValue(ValueError):
    """A value that a row cannot be read with."""

    def __init__(self, column: str, value: str, remedy: str) -> None:
        super().__init__(f"{column}: {value!r}: {remedy}")
        self.column, self.value, self.remedy = column, value, remedy


Row = dict[str, str]
Records = Iterable[Node | Hyperedge]


class TableSource(Source):
    """A source that reads tables: knows how to refuse a row, to count a repair, and to find a file."""

    def table(
        self, path: Path, columns: Columns, delimiter: str = ",", drops_repeats: bool = False
    ) -> Iterator[tuple[int, Row]]:
        """Rows of a CSV file (``delimiter="\\t"``: tab-separated without quotes) with their line numbers.

        Args:
            path: the file; ``.gz`` is unpacked on the way.
            columns: what to read; an optional column that is not there gives ''.
            delimiter: between columns.
            drops_repeats: leave out rows that stood before, word for word; costs 8 bytes a row.

        Raises:
            SourceError: the file is not there, is empty, has another header, or its gzip is cut off.
        """
        lines = _Lines(path, self.repair)
        reader = csv.reader(lines, delimiter=delimiter, **_dialect(delimiter))
        places, width = _find_columns(path, next(_rows(path, reader, lines, self), None), columns)
        seen: set[int] = set()
        for cells in _rows(path, reader, lines, self):
            if not cells:
                continue
            self.rows += 1
            if len(cells) != width:
                self.reject(
                    path,
                    lines.number,
                    "",
                    delimiter.join(cells)[:80],
                    f"the row has {len(cells)} columns, the header {width}: mend the line",
                )
                continue
            if drops_repeats:
                key = hash(tuple(cells))
                if key in seen:
                    self.repair("repeated row left out")
                    continue
                seen.add(key)
            yield lines.number, {name: cells[place].strip() if place >= 0 else "" for name, place in places}

    def read(self) -> Iterator[Node | Hyperedge]:
        self._told: set[str] = set()  # ids of nodes told already
        self._fresh: list[str] = []  # those of them that the row at hand told
        yield from super().read()

    def tell(self, path: Path, line: int, read: Callable[[Row], Records], row: Row) -> list[Node | Hyperedge]:
        """What ``read`` makes of a row; nothing, and a reject, where it cannot."""
        self._fresh.clear()
        try:
            return list(read(row))
        except BadValue as error:
            self.reject(path, line, error.column, error.value, error.remedy)
        except RecordError as error:
            self.reject(path, line, "", "", str(error))
        self._told.difference_update(self._fresh)
        return []

    def is_new(self, node_id: str) -> bool:
        """True the first time that a row tells of a node; its memory is an id a node, not a row."""
        if node_id in self._told:
            return False
        self._told.add(node_id)
        self._fresh.append(node_id)
        return True

    def reject(self, path: Path, line: int, column: str, value: str, remedy: str) -> None:
        """Notes a row that could not be read."""
        self.rejects.append(Reject(path.name, line, column, value, remedy))

    def repair(self, what: str, times: int = 1) -> None:
        """Counts something that was mended on the way."""
        self.repairs[what] = self.repairs.get(what, 0) + times


def find_file(folder: Path, *names: str) -> Path:
    """The first of ``names`` (or its ``.gz``) in a folder.

    Raises:
        SourceError: no such folder, or none of them in it.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise missing(folder, " or ".join(names))


def find_files(folder: Path, pattern: re.Pattern[str], shape: str) -> list[tuple[Path, re.Match[str]]]:
    """Files of a folder whose names match ``pattern``, by name, with the match.

    Raises:
        SourceError: no such folder, or no such file in it.
    """
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(path, match) for path in there if (match := pattern.fullmatch(path.name))]
    if not found:
        raise missing(folder, shape)
    return found


def missing(folder: Path, must: str) -> SourceError:
    """The error for a folder that does not hold what it must."""
    if not folder.is_dir():
        return SourceError(folder, "a folder", "no such folder", "give the folder that holds the files")
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
    return SourceError(
        folder, f"the folder holds {must}", there or "nothing", "put the file there, or give another folder"
    )


def integer(text: str, column: str) -> int | None:
    """A whole number, also written ``26.0``; None for an empty cell."""
    value = number(text, column)
    if value is None:
        return None
    if value != int(value):
        raise BadValue(column, text, "a whole number belongs here: mend the cell or leave it empty")
    return int(value)


def number(text: str, column: str) -> float | None:
    """A finite number; None for an empty cell."""
    if text.lower() in _NO_VALUE:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e300 < value < 1e300:
        raise BadValue(column, text, "a number belongs here: mend the cell or leave it empty") from None
    return value


def words(text: str, column: str) -> list[str]:
    """A list however it is written: Python text, JSON, or words between ``|`` or commas.

    Example:
        >>> words("['drama', 'war']", "genres"), words('["drama"]', "genres"), words("Drama|War", "genres")
        (['drama', 'war'], ['drama'], ['Drama', 'War'])
    """
    if text.startswith("["):
        found = parsed(text, column)
        return [str(part).strip() for part in found if str(part).strip()]
    between = "|" if "|" in text else ","
    return [part.strip() for part in text.split(between) if part.strip()]


def parsed(text: str, column: str) -> list[Any]:
    """A list written as JSON or as Python text; an empty cell is an empty list."""
    if not text:
        return []
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    raise BadValue(column, text[:80], "a list belongs here, as JSON or Python text: mend the brackets")


def iso_date(text: str, column: str) -> str | None:
    """A date as ISO 8601, from one of the forms that sources use; None for an empty cell.

    Example:
        >>> iso_date("August 13, 2015", "date_added"), iso_date("2009-12-10", "release_date")
        ('2015-08-13', '2009-12-10')
    """
    if text.lower() in _NO_VALUE:
        return None
    for form in _DATES:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    raise BadValue(column, text, "a date such as 2015-08-13 belongs here: mend the cell or leave it empty")


def known(**values: Any) -> dict[str, Any]:
    """The values that are there: None, '' and empty tuples are left out."""
    return {
        name: value for name, value in values.items() if value is not None and value != "" and value != ()
    }


class _Lines:
    """Lines of a file as text: UTF-8 with or without BOM, else latin-1; any line end; gzip by its name."""

    def __init__(self, path: Path, repair: Callable[[str], None]) -> None:
        if not path.is_file():
            raise SourceError(path, "a file", "no such file", "check the path")
        self.path, self.number, self.repair = path, 0, repair

    def __iter__(self) -> Iterator[str]:
        opened = gzip.open(self.path, "rb") if self.path.suffix == ".gz" else self.path.open("rb")
        try:
            with opened as file:
                for raw in file:
                    self.number += 1
                    yield self._text(raw)
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

    def _text(self, raw: bytes) -> str:
        if self.number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            raw = raw[3:]
            self.repair("byte order mark left out")
        if raw.endswith(b"\r\n"):
            raw = raw[:-2] + b"\n"
        elif not raw.endswith(b"\n"):
            self.repair("last line without an end read")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.repair("latin-1 line read")
            return raw.decode("latin-1")


def _dialect(delimiter: str) -> dict[str, Any]:
    csv.field_size_limit(_FIELD_LIMIT)
    return {"quoting": csv.QUOTE_NONE} if delimiter == "\t" else {"strict": True}


def _rows(path: Path, reader: Any, lines: _Lines, source: TableSource) -> Iterator[list[str]]:
    while True:
        first = lines.number + 1
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            source.rows += 1
            source.reject(
                path, first, "", "", f"the quotes of the row do not match ({error}): mend or remove it"
            )


def _find_columns(
    path: Path, header: list[str] | None, columns: Columns
) -> tuple[list[tuple[str, int]], int]:
    if not header:
        raise SourceError(
            path, f"columns {', '.join(columns.required)}", "an empty file", "get the file again"
        )
    came = [_bare(name.partition(":")[0]) for name in header]
    places = []
    absent = []
    for name, synonyms in {**columns.required, **columns.optional}.items():
        place = next((came.index(bare) for bare in map(_bare, (name, *synonyms)) if bare in came), -1)
        if place < 0 and name in columns.required:
            absent.append(name if not synonyms else f"{name} (or {', '.join(synonyms)})")
        places.append((name, place))
    if absent:
        raise SourceError(
            path,
            f"columns {', '.join(columns.required)}",
            f"no {', no '.join(absent)} among {', '.join(header)[:200]}",
            "rename the columns or give another file",
        )
    return places, len(header)


def _bare(name: str) -> str:
    return "".join(re.findall(r"[a-z0-9]+", name.lower()))
