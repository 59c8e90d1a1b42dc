"""Every data file of a data set: rows read, repaired and rejected, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kg.sources import Source
from kg.tables import TableSource


@dataclass(frozen=True)
class FileReport:
    """What a reading made of one file. Counts and reasons alone, no data."""

    file: str
    """Path below the data folder."""
    source: str
    rows: int
    repaired: int
    """Things mended; a row may need more than one."""
    rejected: int
    repairs: dict[str, int]
    """What was mended, and how often."""
    rejects: dict[str, int]
    """Why rows could not be read, and how many."""


def count_files(
    opened: Sequence[Source], folder: Path, progress: Callable[[str], None] | None = None
) -> list[FileReport]:
    """Reads every file of the sources once and counts.

    Args:
        opened: sources of a data set; those that read no files are left out.
        folder: the data set's, for the names of the files.
        progress: told which source is being read.

    Raises:
        SourceError: a source cannot be read at all.

    Cost: one reading, about 20 s for ``catalogues``; memory does not grow with the files.
    """
    reports = []
    for source in opened:
        if not isinstance(source, TableSource):
            continue
        if progress is not None:
            progress(source.name)
        for _ in source.read():
            pass
        for path, count in source.files.items():
            reports.append(
                FileReport(
                    file=_below(path, folder),
                    source=source.name,
                    rows=count.rows,
                    repaired=sum(count.repairs.values()),
                    rejected=sum(count.rejects.values()),
                    repairs=dict(count.repairs.most_common()),
                    rejects=dict(count.rejects.most_common()),
                )
            )
    return sorted(reports, key=lambda report: report.file)


def unread_files(reports: Sequence[FileReport], folder: Path, ends: Sequence[str]) -> list[str]:
    """Files below a folder, by the ends of their names, that no source read."""
    read = {report.file for report in reports}
    there = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(tuple(ends)))
    return [name for path in there if (name := _below(path, folder)) not in read]


def _below(path: Path, folder: Path) -> str:
    resolved = path.resolve()
    return (
        str(resolved.relative_to(folder.resolve()))
        if resolved.is_relative_to(folder.resolve())
        else path.name
    )
