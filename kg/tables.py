"""Reads tables row by row out of files that were spoilt in real ways.

Columns are found by name; what cannot be read is refused with its place and a remedy."""

import ast
import json
import re
from calendar import month_name
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from kg.lines import Lines, rows_of
from kg.records import Hyperedge, Node, RecordError, Reject, SourceError
from kg.sources import Source

_CELL_LIMIT = 100_000
"""Characters of the longest cell that is read; the longest one seen in a real file has 3,800."""
_SHORT = 1_000
"""Characters of a list that is remembered: most lists of genres and countries stand in many rows."""
_DATES = ("%Y-%m-%d", "%B %d, %Y", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y")
_MONTHS = {month[:3]: month for month in month_name if month}
_NO_VALUE = ("", "na", "n/a", "nan", "none", "null", "[]", "\\n")


@dataclass(frozen=True)
class Columns:
    """Columns that a table must or may have, each with the names under which it is known."""

    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class FileCount:
    """What a reading made of one file."""

    rows: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    """What was mended, and how often."""
    rejects: Counter[str] = field(default_factory=Counter)
    """Why rows could not be read, and how many."""


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
        self,
        path: Path,
        columns: Columns,
        delimiter: str = ",",
        drops_repeats: bool = False,
        header: Sequence[str] | None = None,
    ) -> Iterator[tuple[int, Row]]:
        """Rows of a table with their line numbers.

        Args:
            path: the file; ``.gz`` is unpacked on the way.
            columns: what to read; an optional column that is not there gives ''. A list that is split over
                columns (``genres_1``, ``genres_2``) is joined by ``|``.
            delimiter: between columns; ``,`` is CSV with quotes, any other one (``\\t``, ``::``) knows none.
            drops_repeats: leave out rows that stood before, word for word; costs 8 bytes a row.
            header: names of the columns of a file that has no line for them.

        Raises:
            SourceError: the file is not there, is empty, has another header or width, or its gzip is cut off.
        """
        self._path = path
        self.files.setdefault(path, FileCount())
        lines = Lines(path, self.repair)
        rows = rows_of(lines, delimiter, lambda line, why: self._broken(path, line, why))
        if header is not None:
            rows = _wide_enough(path, rows, header)
        places, width = _find_columns(path, header if header is not None else next(rows, None), columns)
        if any(len(place) > 1 for _, place in places):
            self.repair("list split over columns joined")
        single = [(name, place[0]) for name, place in places if len(place) == 1]
        others = [(name, place) for name, place in places if len(place) != 1]
        count = self.files[path]
        seen: set[int] = set()
        for cells in rows:
            if not cells:
                continue
            self._path = path
            self.rows += 1
            count.rows += 1
            if len(cells) != width:
                remedy = f"the row has {len(cells)} columns, the header {width}: mend the line"
                self.reject(path, lines.number, "", delimiter.join(cells)[:80], remedy)
                continue
            if max(map(len, cells)) > _CELL_LIMIT:
                longest = max(cells, key=len)
                remedy = (
                    f"a cell has at most {_CELL_LIMIT:,} characters, this one {len(longest):,}: shorten it"
                )
                self.reject(path, lines.number, "", longest[:80], remedy)
                continue
            if drops_repeats:
                key = hash(tuple(cells))
                if key in seen:
                    self.repair("repeated row left out")
                    continue
                seen.add(key)
            row = {name: cells[place].strip() for name, place in single}
            for name, split in others:
                row[name] = "|".join(part for place in split if (part := cells[place].strip()))
            yield lines.number, row

    def read(self) -> Iterator[Node | Hyperedge]:
        self.files: dict[Path, FileCount] = {}
        self._path: Path | None = None  # the file whose row is at hand
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
        if path in self.files:
            self.files[path].rejects[f"{column}: {_bare_reason(remedy, value)}" if column else remedy] += 1

    def repair(self, what: str, times: int = 1) -> None:
        """Counts something that was mended on the way."""
        self.repairs[what] = self.repairs.get(what, 0) + times
        if self._path is not None:
            self.files[self._path].repairs[what] += times

    def _count(self) -> None:
        self.rows += 1
        if self._path is not None:
            self.files[self._path].rows += 1

    def _broken(self, path: Path, line: int, why: str) -> None:
        self._path = path
        self._count()
        self.reject(path, line, "", "", why)


def find_file(folder: Path, *names: str) -> Path:
    """The first of ``names`` (or its ``.gz``) in a folder.

    Raises:
        SourceError: no such folder, or none of them in it.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return inside(folder, path)
    raise missing(folder, " or ".join(names))


def find_files(folder: Path, pattern: re.Pattern[str], shape: str) -> list[tuple[Path, re.Match[str]]]:
    """Files of a folder whose names match ``pattern``, by name, with the match.

    Raises:
        SourceError: no such folder, or no such file in it.
    """
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [(inside(folder, path), match) for path in there if (match := pattern.fullmatch(path.name))]
    if not found:
        raise missing(folder, shape)
    return found


def inside(folder: Path, path: Path) -> Path:
    """The path, where it does not lead out of the folder.

    Raises:
        SourceError: it leads out, by ``..`` or by a link.
    """
    if not path.resolve().is_relative_to(folder.resolve()):
        remedy = "copy the file into the folder, or give the folder that holds it"
        raise SourceError(path, f"a path inside {folder}", f"one that leads to {path.resolve()}", remedy)
    return path


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
    read = _words if len(text) < _SHORT else _words.__wrapped__
    return list(read(text, column))


@lru_cache(1 << 14)
def _words(text: str, column: str) -> tuple[str, ...]:
    if text.startswith("["):
        found = (str(part).strip() for part in parsed(text, column))
    else:
        found = (part.strip() for part in text.split("|" if "|" in text else ","))
    return tuple(filter(None, found))


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


def moment_ts(text: str, column: str) -> int:
    """UTC seconds of a moment written as seconds, milliseconds or ``2005-04-02 23:53:47``.

    Example:
        >>> [moment_ts(text, "ts") for text in ("964982703", "964982703000", "2000-07-30 18:45:03")]
        [964982703, 964982703, 964982703]
    """
    if re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d", text):
        try:
            return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        except ValueError:
            raise BadValue(column, text, "a moment that exists belongs here: mend the cell") from None
    at = integer(text, column)
    if at is None or at < 0:
        raise BadValue(column, text, "UTC seconds belong here: mend the cell")
    return at // 1000 if at > 100_000_000_000 else at


def undated(title: str) -> str | None:
    """What a title was before a spreadsheet took it for a date; None for a title that is none.

    Example:
        >>> undated("15-Aug"), undated("Oct-01"), undated("Heat")
        ('15 August', 'October 1', None)
    """
    if found := re.fullmatch(r"(\d{1,2})-([A-Z][a-z]{2})", title):
        return f"{int(found[1])} {_MONTHS[found[2]]}" if found[2] in _MONTHS else None
    if found := re.fullmatch(r"([A-Z][a-z]{2})-(\d{1,2})", title):
        return f"{_MONTHS[found[1]]} {int(found[2])}" if found[1] in _MONTHS else None
    return None


def known(**values: Any) -> dict[str, Any]:
    """The values that are there: None, '' and empty tuples are left out."""
    return {
        name: value for name, value in values.items() if value is not None and value != "" and value != ()
    }


def _wide_enough(path: Path, rows: Iterator[list[str]], header: Sequence[str]) -> Iterator[list[str]]:
    first = next(rows, None)
    if first is None or len(first) != len(header):
        came = "an empty file" if first is None else f"a first row of {len(first)} columns"
        must = f"{len(header)} columns without a header: {', '.join(header)}"
        raise SourceError(path, must, came, "give the file as it was published")
    yield first
    yield from rows


def _find_columns(
    path: Path, header: Sequence[str] | None, columns: Columns
) -> tuple[list[tuple[str, list[int]]], int]:
    if not header:
        raise SourceError(
            path, f"columns {', '.join(columns.required)}", "an empty file", "get the file again"
        )
    came = [_bare(name.partition(":")[0]) for name in header]
    places = []
    absent = []
    for name, synonyms in {**columns.required, **columns.optional}.items():
        place = _places(came, [_bare(known) for known in (name, *synonyms)])
        if not place and name in columns.required:
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


def _places(came: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where a column stands; several places where it was split: name1, name2, …"""
    for name in names:
        if name in came:
            return [came.index(name)]
    for name in names:
        split = [place for place, bare in enumerate(came) if re.fullmatch(rf"{re.escape(name)}\d+", bare)]
        if len(split) > 1:
            return split
    return []


def _bare_reason(remedy: str, value: str) -> str:
    return remedy.replace(repr(value), "…") if value else remedy


def _bare(name: str) -> str:
    return "".join(re.findall(r"[a-z0-9]+", name.lower()))
