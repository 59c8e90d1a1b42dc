"""What runs show: tables and figures for the command line, notebooks and pages, and whole reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from configs.home import Home
from experiments import kept, mechanism_report, sections, tables
from experiments.banks import BankStatus, bank_statuses
from experiments.compare import CompareConfig, compare, entries
from experiments.document import Document
from experiments.figures import (
    cost_figure,
    hearing_figure,
    leaderboard_figure,
    learning_curve_figure,
    quality_figure,
    ranks_figure,
    search_figure,
)
from experiments.front import Latency
from experiments.html import page
from experiments.mechanism_table import Table as MechanismTable
from experiments.mechanisms import bench_home
from experiments.ranks import Ranks, ranks
from experiments.result import ResultError, RunResult
from experiments.studies import SearchResult
from experiments.wording import (
    comparison_lines,
    group_rows,
    leaderboard_markdown,
    leaderboard_rows,
    markdown,
    p_text,
)
from kg.arrays import GraphArrays

__all__ = [
    "Evidence",
    "ResultError",
    "adapter_banks",
    "comparison_lines",
    "cost_figure",
    "group_rows",
    "hearing_figure",
    "kept_reports",
    "leaderboard_figure",
    "leaderboard_markdown",
    "leaderboard_rows",
    "learning_curve_figure",
    "markdown",
    "mechanism_texts",
    "mechanisms",
    "p_text",
    "quality_figure",
    "ranks_figure",
    "ranks_of",
    "report",
    "search_figure",
    "simulated_in",
    "write",
]


def mechanisms(graph: str, home: Home | None = None) -> MechanismTable:
    """The table of attention mechanisms that was measured last on a graph.

    Raises:
        ResultError: none was measured, or its file is spoilt.
    """
    return MechanismTable.load(bench_home(home or Home.here()).searches(graph).parent)


mechanism_texts = mechanism_report.texts


def kept_reports(kind: str, graph: str, home: Home | None = None) -> list[kept.Kept]:
    """Reports that ``mg replay`` (``replay``) or ``mg forgetting`` (``forgetting``) kept, the latest first.

    Raises:
        ResultError: a file of them is spoilt.
    """
    return kept.kept(kind, graph, home or Home.here())


def adapter_banks(graph: str, home: Home | None = None) -> list[BankStatus]:
    """What the banks of people's adapters on a graph hold; none where nothing was learned.

    Raises:
        ResultError: a bank cannot be read.
    """
    try:
        return bank_statuses(graph, home or Home.here())
    except (OSError, ValueError, RuntimeError) as error:
        raise ResultError(f"adapters of {graph} cannot be read: {error}") from error


@dataclass(frozen=True)
class Evidence:
    """What a report is made of."""

    runs: tuple[RunResult, ...]
    """On one split; several seeds of one experiment are one row."""
    searches: tuple[SearchResult, ...] = ()
    """Those on another split are left out."""
    latency: Latency | None = None
    """Times a run's model; None leaves latency out."""
    simulated: str = ""
    """A sentence where data is made up, see :func:`simulated_in`."""
    command: str = "mg report --out FOLDER"
    """That makes this report again."""


def report(evidence: Evidence, config: CompareConfig | None = None) -> Document:
    """All that runs of one split show, as parts in order.

    Raises:
        SettingError: no run, runs of several splits, or two runs of one name and seed.
    """
    comparison = compare(evidence.runs, config)
    placed = {row.name: row.place for row in comparison.rows}
    standing = sorted(entries(evidence.runs), key=lambda entry: placed[entry.name])
    searches = [one for one in evidence.searches if one.split_hash == comparison.split_hash]
    found = (
        sections.leaderboard(comparison),
        sections.luck(comparison, standing),
        sections.groups(standing, comparison.metric),
        sections.costs(standing, comparison.metric, evidence.latency),
        sections.learning(standing),
        *(sections.searched(one) for one in searches),
        sections.provenance(evidence.runs, comparison.split_name, evidence.command),
    )
    title = f"Which is best on {comparison.graph}, {comparison.split_name}"
    kept = tuple(section for section in found if section.parts or section.sentences)
    return Document(title, tuple(sections.lead(comparison, standing)), kept, evidence.simulated)


def write(
    document: Document, folder: Path, runs: Sequence[RunResult] = (), name: str = "report"
) -> list[Path]:
    """Writes ``report.md``, ``report.html``, a CSV file a table and an SVG file a figure.

    Args:
        document: the report.
        folder: made where it is not there; files of the same names are replaced.
        runs: whose settings are written to ``configs/`` where no file of the repository has them.
        name: of the Markdown and the HTML file, so that several reports fit a folder.

    Raises:
        ResultError: the folder cannot be written.
    """
    texts = {f"{name}.md": document.markdown(), f"{name}.html": page(document)}
    texts |= {f"{table.name}.csv": table.csv() for table in document.tables()}
    texts |= {f"{chart.name}.svg": chart.svg for chart in document.charts()}
    texts |= {
        f"configs/{run.run_id}.yaml": yaml.safe_dump(dict(run.config), sort_keys=False)
        for run in runs
        if tables.is_written_out(run)
    }
    try:
        for file, text in texts.items():
            path = Path(folder) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultError(
            f"a report needs a folder that can be written, {folder} gave {error}: choose another with --out"
        ) from error
    return [Path(folder) / file for file in texts]


def simulated_in(graph: GraphArrays) -> str:
    """A sentence on what is made up in a graph; empty where nothing is."""
    made_up = sorted(graph.simulated_types)
    if not made_up:
        return ""
    if "RATED" in made_up:
        return "What people did is generated here: every number in this report is about a made-up world."
    return f"Generated here, not observed: {', '.join(made_up)}. What people did is real."


def ranks_of(results: Sequence[RunResult], metric: str = "ndcg@10", level: float = 0.05) -> Ranks:
    """Average ranks of experiments over the users of their split; of several seeds each user's mean."""
    return ranks({entry.name: entry.values(metric) for entry in entries(results)}, level)
