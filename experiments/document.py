"""A report as parts in order: tables of plain values, figures, sentences, as Markdown, CSV and SVG."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

Cell = str | int | float | bool | None
SVG_STYLE = {"svg.hashsalt": "media-gateway", "svg.fonttype": "path"}


@dataclass(frozen=True)
class Column:
    """A column and how its values are shown; what is written to CSV is always the whole value."""

    name: str
    spec: str = ""
    """Format of numbers, as ``.4f``; empty shows them as they are."""

    def text(self, value: Cell) -> str:
        """A value as people read it; what is not known is a dash."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int | float) and self.spec:
            return format(value, self.spec)
        return str(value)


@dataclass(frozen=True)
class Table:
    """Rows of plain values under named columns."""

    name: str
    """Of its CSV file."""
    title: str
    caption: str
    """What it says and how it was made, in words."""
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shown: "Table | None" = None
    """What people see instead, where the table itself is too long to read."""

    def texts(self) -> list[tuple[str, ...]]:
        """The rows as people read them."""
        return [
            tuple(column.text(value) for column, value in zip(self.columns, row, strict=True))
            for row in self.rows
        ]

    def markdown(self) -> str:
        """A Markdown table; numbers stand to the right."""
        lines = [tuple(column.name for column in self.columns), *self.texts()]
        told = [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines]
        ruler = "|" + "".join("---:|" if is_number else "---|" for is_number in self.numeric())
        return "\n".join([told[0], ruler, *told[1:]])

    def numeric(self) -> list[bool]:
        """For each column whether it holds numbers alone."""
        kept = [
            [row[place] for row in self.rows if row[place] is not None] for place in range(len(self.columns))
        ]
        return [bool(values) and all(_is_number(value) for value in values) for values in kept]

    def csv(self) -> str:
        """RFC 4180; numbers as Python prints them, so that they parse back the same; empty where unknown."""
        sink = io.StringIO()
        writer = csv.writer(sink, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return sink.getvalue()


@dataclass(frozen=True)
class Chart:
    """A figure with what it shows in words, for those who see it and those who do not."""

    name: str
    """Of its file."""
    title: str
    caption: str
    alt: str
    """What a person would say who describes it over a telephone."""
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure as SVG, drawn once; equal figures give equal texts."""
        sink = io.StringIO()
        with rc_context(SVG_STYLE):
            self.figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
        return sink.getvalue()


@dataclass(frozen=True)
class Section:
    """A heading, sentences, tables and figures."""

    title: str
    sentences: tuple[str, ...] = ()
    parts: tuple[Table | Chart, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    lead: tuple[str, ...]
    """What to know first; what is simulated among it."""
    sections: tuple[Section, ...]
    simulated: str = ""
    """A sentence where data is made up; shown as a mark on top."""

    def tables(self) -> list[Table]:
        """All tables in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Table)]

    def charts(self) -> list[Chart]:
        """All figures in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Chart)]

    def markdown(self) -> str:
        """The report as Markdown; figures are SVG files beside it."""
        mark = [f"> **Simulated.** {self.simulated}"] if self.simulated else []
        blocks = [f"# {self.title}", *mark, _bullets(self.lead)]
        for section in self.sections:
            blocks += [f"## {section.title}", _bullets(section.sentences)]
            for part in section.parts:
                blocks += [f"### {part.title}", *_markdown(part)]
        return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown(part: Table | Chart) -> list[str]:
    if isinstance(part, Chart):
        return [f"![{part.alt}]({part.name}.svg)", part.caption]
    shown = part.shown or part
    return [shown.markdown(), f"{part.caption} Whole values: [{part.name}.csv]({part.name}.csv)."]


def _bullets(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
