"""Reports that commands leave in the home, so that pages show what was measured last without measuring again.

One JSON file a report: ``format`` (1) and the fields of :class:`Kept`; numbers are whole, figures SVG."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.home import Home
from experiments.document import Column, Document, Table
from experiments.result import ResultError, plain

FORMAT = 1
KINDS = {"replay": "mg replay", "forgetting": "mg forgetting"}
"""Kind of a report -> the command that keeps it."""


@dataclass(frozen=True)
class Picture:
    """A figure as it was drawn."""

    name: str
    title: str
    caption: str
    alt: str
    """What it shows, in words."""
    svg: str


@dataclass(frozen=True)
class Kept:
    """A report as a page reads it."""

    kind: str
    """One of :data:`KINDS`."""
    name: str
    """Of the file of settings that it was made by."""
    graph: str
    title: str
    lead: tuple[str, ...]
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    command: str
    made: str
    """ISO 8601, UTC."""
    simulated: str = ""
    """A sentence where data is made up."""

    def table(self, name: str) -> Table:
        """One table by its name.

        Raises:
            ResultError: the report has none of that name.
        """
        found = next((one for one in self.tables if one.name == name), None)
        if found is None:
            there = ", ".join(one.name for one in self.tables)
            raise ResultError(
                f"{self.title} has no table {name!r}; there are {there}: run `{KINDS[self.kind]}` again"
            )
        return found


def keep(kind: str, name: str, report: Document, graph: str, command: str, home: Home) -> Path:
    """Writes a report over the one of the same kind and name.

    Args:
        kind: one of :data:`KINDS`.
        name: of the settings.
        report: whole.
        graph: it is about.
        command: that makes it again.
        home: where it is kept.

    Raises:
        ResultError: the home cannot be written.
    """
    charts = report.charts()
    pictures = tuple(Picture(one.name, one.title, one.caption, one.alt, one.svg) for one in charts)
    tables, made = tuple(report.tables()), datetime.now(UTC).isoformat(timespec="seconds")
    found = Kept(
        kind, name, graph, report.title, report.lead, tables, pictures, command, made, report.simulated
    )
    path = folder(home, graph) / kind / f"{_file(name)}.json"
    aside = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        told = plain({"format": FORMAT, **asdict(found)})
        aside.write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        raise ResultError(
            f"a report for pages needs a home that can be written, {path} gave {error}: free space or set "
            "MG_HOME"
        ) from error
    return path


def kept(kind: str, graph: str, home: Home) -> list[Kept]:
    """All reports of a kind on a graph, the one made last first; none where nothing was run.

    Raises:
        ResultError: one is spoilt, or of another format.
    """
    if kind not in KINDS:
        raise ResultError(f"reports are kept of {', '.join(KINDS)}, got {kind!r}: name one of them")
    found = [_read(path) for path in sorted((folder(home, graph) / kind).glob("[!.]*.json"))]
    return sorted(found, key=lambda one: one.made, reverse=True)


def folder(home: Home, graph: str) -> Path:
    """Where the reports on a graph lie, a folder a kind."""
    return home.runs(graph).parent / "reports"


def _file(name: str) -> str:
    """A name as that of a file, whatever somebody called their settings.

    Example:
        >>> _file("../My replay, validation")
        'my_replay_validation'
    """
    return re.sub(r"[^a-z0-9-]+", "_", name.lower()).strip("_")[:64] or "unnamed"


def _read(path: Path) -> Kept:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("format") != FORMAT:
            raise ValueError("it is of another format")
        told["tables"] = tuple(_table(one) for one in told["tables"])
        told["pictures"] = tuple(Picture(**one) for one in told["pictures"])
        return Kept(**{**told, "lead": tuple(told["lead"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path} must hold a report that a command kept, it cannot be read ({error}): delete it, or run "
            f"`{KINDS[path.parent.name]}` again"
        ) from None


def _table(told: Mapping[str, Any]) -> Table:
    columns = tuple(Column(**one) for one in told["columns"])
    rows = tuple(tuple(row) for row in told["rows"])
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"a row of {told['name']} is not as long as its columns")
    shown = None if told["shown"] is None else _table(told["shown"])
    return Table(**{**told, "columns": columns, "rows": rows, "shown": shown})
