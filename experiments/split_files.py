"""Reads published splits as their authors wrote them; what is spoilt is mended and counted, or told by line.

p interactions of a file, in its order."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

_USER = ("user_id", "user", "userid", "uid", "query_index")
_CONTENT = ("item_id", "item", "itemid", "iid", "corpus_index")
_TIME = ("timestamp", "time")


class SplitFileError(ValueError):
    """A file of a published split that is missing, cut off or spoilt."""

    def __init__(self, path: Path, line: int | None, must: str, came: str, do: str) -> None:
        place = path.name if line is None else f"{path.name}, line {line}"
        super().__init__(f"{place}: {must}, got {came}: {do}")


class MissingSplitError(SplitFileError):
    """No files of a split where one was looked for."""


@dataclass(frozen=True)
class Interactions:
    """One file: who met what, each id as it is written there."""

    users: pa.Array
    """(p,) int64 or text."""
    contents: pa.Array
    """(p,) int64 or text."""
    times: np.ndarray | None = None
    """(p,) int64 UTC seconds, or places in the file where only the order is known; None where neither is."""
    repairs: Counter[str] = field(default_factory=Counter)
    """What was mended -> how often."""


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split."""

    form: str
    names: tuple[str, ...]
    training: Interactions
    validation: Interactions | None
    test: Interactions | None
    """None where one file holds all and the last of each user are for test."""


def read_split(folder: Path) -> SplitFiles:
    """Reads a split in whichever form lies in ``folder``.

    Forms, looked for in this order, the first that is there is read:

    - ``lines``: ``train.txt`` and ``test.txt`` (``valid.txt`` too), ``user item item ...`` a line, as those
      of LightGCN, UltraGCN and RecZoo.
    - ``recbole``: ``NAME.train.inter``, ``NAME.valid.inter``, ``NAME.test.inter``, or one ``NAME.inter``:
      with tabs, first line ``user_id:token item_id:token`` and more.
    - ``reczoo``: ``train_data.json``, ``validation_data.json``, ``test_data.json``, a list of items for each
      user, or ``train.csv`` and ``test.csv`` (``valid.csv`` too) with named columns.
    - ``sequence``: one ``*.txt`` with ``user item`` a line in order of time, as SASRec's authors write them.

    Raises:
        SplitFileError: no such file, or one that is spoilt beyond repair.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingSplitError(folder, None, "a published split lies in a folder", "none", "check the path")
    there = sorted(path.name for path in folder.iterdir() if path.is_file())
    if {"train.txt", "test.txt"} <= set(there):
        return _files("lines", folder, there, "{}.txt", read_lines)
    train = [name for name in there if name.endswith(".train.inter")]
    if train:
        stem = train[0].removesuffix(".train.inter")
        return _files("recbole", folder, there, f"{stem}.{{}}.inter", read_inter)
    if {"train.csv", "test.csv"} <= set(there):
        return _files("reczoo", folder, there, "{}.csv", read_csv)
    if {"train_data.json", "test_data.json"} <= set(there):
        return _files("reczoo", folder, there, "{}_data.json", read_json)
    whole = [(name, read_inter) for name in there if name.endswith(".inter")]
    whole += [(name, read_sequence) for name in there if name.endswith(".txt") and name != "README.txt"]
    if whole and not {"train.txt", "test.txt"} & set(there):
        name, reader = whole[0]
        form = "recbole" if reader is read_inter else "sequence"
        return SplitFiles(form, (name,), reader(folder / name), None, None)
    raise MissingSplitError(
        folder,
        None,
        "a published split is train.txt and test.txt, NAME.train.inter and NAME.test.inter, NAME.inter, "
        "train.csv and test.csv, train_data.json and test_data.json, or one NAME.txt in order of time",
        ", ".join(there[:8]) or "an empty folder",
        "put the files of one of these forms there",
    )


def read_lines(path: Path) -> Interactions:
    """``user item item ...`` a line; a user on several lines is joined, a user without items counted."""
    repairs: Counter[str] = Counter()
    users, counts, contents, seen = [], [], [], set()
    for number, words in _words(path, repairs):
        if not all(map(bytes.isdigit, words)):
            wrong = next(word for word in words if not word.isdigit())
            raise SplitFileError(
                path, number, "ids are whole numbers from 0", _quoted(wrong), "mend or remove the line"
            )
        user, *items = map(int, words)
        repairs["users on several lines, joined"] += user in seen
        repairs["users without items, left out"] += not items
        seen.add(user)
        users.append(user)
        counts.append(len(items))
        contents += items
    _some(path, contents)
    repeated = np.repeat(np.array(users, np.int64), counts)
    return Interactions(pa.array(repeated), pa.array(contents, pa.int64()), None, +repairs)


def read_sequence(path: Path) -> Interactions:
    """``user item`` a line, in order of time."""
    repairs: Counter[str] = Counter()
    pairs = []
    for number, words in _words(path, repairs):
        if len(words) != 2 or not all(map(bytes.isdigit, words)):
            raise SplitFileError(
                path,
                number,
                "a line is a user and an item, whole numbers from 0",
                _quoted(b" ".join(words)[:60]),
                "mend or remove the line",
            )
        pairs.append((int(words[0]), int(words[1])))
    _some(path, pairs)
    table = np.array(pairs, np.int64)
    return Interactions(pa.array(table[:, 0]), pa.array(table[:, 1]), np.arange(len(table)), +repairs)


def read_json(path: Path) -> Interactions:
    """A list for each user, from user 0, of the items met."""
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        line = getattr(error, "lineno", None)
        raise SplitFileError(
            path, line, "a JSON list of lists", str(error), "the file may be cut off: get it again"
        ) from None
    if not isinstance(lists, list):
        raise SplitFileError(path, None, "a JSON list of lists", type(lists).__name__, "get it again")
    for user, items in enumerate(lists):
        if not isinstance(items, list) or not all(type(item) is int and item >= 0 for item in items):
            raise SplitFileError(
                path, None, f"the items of user {user} are whole numbers", repr(items)[:60], "mend the list"
            )
    contents = [item for items in lists for item in items]
    _some(path, contents)
    users = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    empty = Counter({"users without items, left out": sum(not items for items in lists)})
    return Interactions(pa.array(users), pa.array(contents, pa.int64()), None, +empty)


def read_inter(path: Path) -> Interactions:
    """RecBole's atomic file: tabs, each column's name followed by its type."""
    return _table(path, "\t")


def read_csv(path: Path) -> Interactions:
    """Commas, a first line of names."""
    return _table(path, ",")


def _files(form: str, folder: Path, there: Sequence[str], pattern: str, reader: object) -> SplitFiles:
    found = {}
    for part, names in (
        ("train", ("train",)),
        ("valid", ("valid", "validation", "val")),
        ("test", ("test",)),
    ):
        found[part] = next((pattern.format(name) for name in names if pattern.format(name) in there), None)
    if found["test"] is None:
        raise MissingSplitError(
            folder, None, f"a split has {pattern.format('test')}", f"only {found['train']}", "get it too"
        )
    read = {part: name and reader(folder / name) for part, name in found.items()}
    names = tuple(name for name in found.values() if name)
    return SplitFiles(form, names, read["train"], read["valid"], read["test"])


def _words(path: Path, repairs: Counter[str]) -> list[tuple[int, list[bytes]]]:
    """Numbered lines with anything on them, as words; line ends of either kind."""
    text = path.read_bytes()
    lines = text.split(b"\n")
    if lines[-1]:
        repairs["last line without an end, it may be cut off"] += 1
    else:
        lines.pop()
    repairs["blank lines, left out"] += sum(not line.strip() for line in lines)
    repairs["lines that end as in Windows"] += sum(line.endswith(b"\r") for line in lines)
    return [(number, words) for number, line in enumerate(lines, 1) if (words := line.split())]


def _table(path: Path, delimiter: str) -> Interactions:
    with path.open("rb") as file:
        head = file.readline().decode("utf-8", "replace").strip("\ufeff\r\n").split(delimiter)
    names = [name.partition(":")[0].strip().lower() for name in head]
    places = {
        role: next((place for place, name in enumerate(names) if name in known), None)
        for role, known in (("user", _USER), ("content", _CONTENT), ("time", _TIME))
    }
    if places["user"] is None or places["content"] is None:
        raise SplitFileError(
            path,
            1,
            f"the first line names a column {_USER[0]} and a column {_CONTENT[0]}",
            _quoted(delimiter.join(head)[:60].encode()),
            "write the names of the columns there",
        )
    columns = _columns(path, delimiter, len(head))
    kept = {role: columns[place] for role, place in places.items() if place is not None}
    for role in ("user", "content"):
        _whole(path, kept[role], f"every line has a {role}")
    _some(path, kept["user"])
    times = _times(path, kept["time"]) if "time" in kept else None
    return Interactions(_numbers_where_whole(kept["user"]), _numbers_where_whole(kept["content"]), times)


def _columns(path: Path, delimiter: str, width: int) -> list[pa.Array]:
    names = [str(place) for place in range(width)]
    try:
        table = pacsv.read_csv(
            path,
            pacsv.ReadOptions(column_names=names, skip_rows=1),
            pacsv.ParseOptions(delimiter=delimiter, quote_char=False if delimiter == "\t" else '"'),
            pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        line, came = _first_odd_line(path, delimiter, width)
        must = f"a line has {width} columns, as the first"
        raise SplitFileError(
            path, line, must, came or str(error), "the file may be cut off: get it again"
        ) from None
    return [table[name].combine_chunks() for name in names]


def _first_odd_line(path: Path, delimiter: str, width: int) -> tuple[int | None, str]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        words = line.rstrip(b"\r").split(delimiter.encode())
        if line.strip() and len(words) != width:
            return number, f"{len(words)}"
    return None, ""


def _whole(path: Path, column: pa.Array, must: str) -> None:
    empty = np.flatnonzero(pc.equal(pc.utf8_trim_whitespace(column), "").to_numpy(zero_copy_only=False))
    if len(empty):
        raise SplitFileError(path, _line_of(path, int(empty[0])), must, "none", "mend or remove the line")


def _times(path: Path, column: pa.Array) -> np.ndarray:
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.int64)
    except pa.ArrowInvalid:
        for row, text in enumerate(column.to_pylist()):
            try:
                float(text)
            except ValueError:
                line = _line_of(path, row)
                raise SplitFileError(
                    path, line, "a time is a number", _quoted(text.encode()), "mend the line"
                ) from None
        raise


def _line_of(path: Path, row: int) -> int | None:
    """Line of the file on which the row stands: blank lines count as lines, not as rows."""
    numbers = [number for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    return numbers[row + 1] if row + 1 < len(numbers) else None


def _numbers_where_whole(column: pa.Array) -> pa.Array:
    """int64 where every id is a plain whole number, so that one split in two forms has equal ids."""
    plain = pc.match_substring_regex(column, r"^(0|[1-9][0-9]{0,17})$")
    return column.cast(pa.int64()) if pc.all(plain).as_py() else column


def _some(path: Path, rows: Sequence[object] | pa.Array) -> None:
    if not len(rows):
        raise SplitFileError(
            path, None, "at least one interaction", "none", "the file is empty: get it again"
        )


def _quoted(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))
