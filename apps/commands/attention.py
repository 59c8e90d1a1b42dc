"""Every attention mechanism beside every other: quality on two tasks, time and memory by length."""

import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data, must_take_files
from configs.home import Home

PARTS = ("neighbourhood", "history", "speed", "reference", "policies", "all")
QUICK_EPOCHS, QUICK_RATES, QUICK_SEEDS, QUICK_LENGTHS = 1, (0.01,), (0,), (256, 1024)
"""What is left of a run that is to be quick."""


@bench_app.command("attention")
def bench_attention(
    task: Annotated[str, typer.Option(help=f"One of {', '.join(PARTS)}.")] = "all",
    quick: Annotated[
        bool, typer.Option("--quick", help="One epoch, rate and seed; lengths 256 and 1024.")
    ] = False,
    data: Data = None,
    workers: Annotated[int, typer.Option(help="Of Ray; 0 trains without.", min=0, max=64)] = 2,
    mechanisms: Annotated[str, typer.Option(help="Names with commas; empty takes every one.")] = "",
    after: Annotated[
        str, typer.Option(help="Only the shortlist of the table of this graph: best, cheapest, references.")
    ] = "",
    again: Annotated[str, typer.Option(help="Names with commas, of which what is kept is forgotten.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the report, besides the home.")] = None,
    as_json: AsJson = False,
) -> None:
    """All attention mechanisms on equal terms; goes on where it was broken off.

    Example: mg bench attention --task history --workers 2 --out attention
    """
    if task not in PARTS:
        raise typer.BadParameter(f"task must be one of {', '.join(PARTS)}, got {task!r}")
    bench = _Bench(data, quick, workers, _names(mechanisms), after, _names(again), out, as_json)
    if task == "reference":
        _show_reference(as_json)
    elif task == "policies":
        bench.policies()
    else:
        bench.table(task)


class _Bench:
    """One call of the command."""

    def __init__(
        self,
        data: str | None,
        quick: bool,
        workers: int,
        mechanisms: tuple[str, ...],
        after: str,
        again: tuple[str, ...],
        out: Path | None,
        as_json: bool,
    ) -> None:
        from configs.registry import import_parts
        from experiments.mechanisms import bench_home
        from kg.arrays import GraphArrays
        from kg.datasets import graph_name

        import_parts("models")
        if out is not None:
            must_take_files(out)  # before the work, not after it
        self.home, name = Home.here(), graph_name(data)
        self.graph = GraphArrays.current(self.home.arrays(name))
        self.quick, self.workers, self.mechanisms, self.after = quick, workers, mechanisms, after
        self.again, self.out, self.as_json = again, out, as_json
        self.place = bench_home(self.home).searches(name).parent

    @property
    def folder(self) -> Path:
        """Where the table of this kind is kept."""
        return self.place / "quick" if self.quick else self.place

    def table(self, task: str) -> None:
        """Measures what is asked for, and shows and writes the whole table."""
        from experiments.mechanism_table import merged
        from experiments.mechanisms import TASKS, rows

        with console.progress_bar("attention") as feed:
            studies = [self.study(one, feed) for one in TASKS if task in (one, "all")]
            costs = self.costs(feed) if task in ("speed", "all") else {}
        table = merged(self._made(studies, rows(studies, costs)), self._before())
        table.save(self.folder)
        self._show(table)

    def study(self, task: str, feed: Callable[[str], None]) -> Any:
        """One task, its trainings made or taken up."""
        from experiments.mechanisms import study

        said = partial(_said, feed, task)
        return study(task, self.config(task), self.graph, self.home, said)

    def config(self, task: str) -> Any:
        """How a task is run."""
        from experiments.mechanisms import StudyConfig, task_search

        search = {**task_search(task), "workers": self.workers}
        config = StudyConfig(search, self._chosen(task), again=self.again)
        return config.shorter(QUICK_EPOCHS, QUICK_RATES, QUICK_SEEDS) if self.quick else config

    def costs(self, feed: Callable[[str], None]) -> dict[str, Any]:
        """Mechanism -> time and memory by length."""
        from apps.bench.attention import LENGTHS, SpeedConfig, measure

        config = SpeedConfig(lengths=QUICK_LENGTHS if self.quick else LENGTHS)
        return measure(config, self.folder / "speed", self.mechanisms, self.again, feed)

    def policies(self) -> None:
        """Compares policies on the runs that are finished; trains nothing."""
        from apps.commands.policies import show
        from experiments.mechanisms import TASKS, finished_study
        from experiments.policies import compare_policies
        from experiments.report import simulated_in

        studies = [finished_study(one, self.config(one), self.graph, self.home) for one in TASKS]
        found = compare_policies(studies, self.graph)
        folders = [self.folder, *([self.out] if self.out else [])]
        show(found, simulated_in(self.graph), folders, self.as_json)

    def _chosen(self, task: str) -> tuple[str, ...]:
        from experiments.mechanism_table import Table
        from experiments.mechanisms import bench_home
        from kg.datasets import graph_name

        if not self.after or self.mechanisms:
            return self.mechanisms
        return Table.load(bench_home(self.home).searches(graph_name(self.after)).parent).shortlist(task)

    def _made(self, studies: Sequence[Any], rows: tuple[Any, ...]) -> Any:
        from experiments.mechanism_table import Table
        from experiments.mechanisms import note
        from experiments.report import simulated_in
        from experiments.run import code_revision, machine

        cut = (
            f" (quick: {len(QUICK_SEEDS)} seed, {len(QUICK_RATES)} learning rate, {QUICK_EPOCHS} epoch, "
            f"lengths up to {QUICK_LENGTHS[-1]:,})"
            if self.quick
            else ""
        )
        metric = studies[0].settings.metric if studies else "ndcg@10"
        return Table(
            title=f"Attention mechanisms on {self.graph.name}{cut}",
            graph=self.graph.name,
            graph_hash=self.graph.hash,
            metric=metric,
            tasks={one.task: note(one) for one in studies},
            rows=rows,
            command=shlex.join(["mg", *sys.argv[1:]]),
            code_revision=code_revision(),
            machine=machine(),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            simulated=simulated_in(self.graph),
        )

    def _before(self) -> Any:
        from experiments.mechanism_table import FILE, Table

        return Table.load(self.folder) if (self.folder / FILE).is_file() else None

    def _show(self, table: Any) -> None:
        from experiments.mechanism_report import document, texts
        from experiments.report import write

        report = document(table)
        write(report, self.folder)
        if self.out is not None:
            table.save(self.out)
            write(report, self.out)
        if self.as_json:
            console.show_json(table.summary())
            return
        for shown in texts(table):
            console.show_table(*shown)
        for section in report.sections[1:]:
            for sentence in (section.title, *section.sentences) if section.sentences else ():
                console.out.print(sentence, markup=False)
        console.out.print(f"written to {self.out or self.folder}", markup=False)


def _show_reference(as_json: bool) -> None:
    from apps.bench.attention import references

    with console.progress_bar("attention") as feed:
        rows = list(references(feed))
    if as_json:
        console.show_json(rows)
        return
    cells = [
        (
            row.what,
            row.shape,
            f"{row.seconds:.4f}",
            "" if row.reference_s is None else f"{row.reference_s:.4f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.bar,
        )
        for row in rows
    ]
    console.show_table(
        "ours beside the reference", ("what", "shape", "ours s", "reference s", "ratio", "bar"), cells
    )


def _said(feed: Callable[[str], None], task: str, said: str) -> None:
    """A step on the bar; into a log, where no bar moves, the seeds and the end of the rates."""
    feed(f"{task}, {said}")
    if not console.err.is_terminal and said.startswith("seeds"):
        console.err.print(f"{task}, {said}", markup=False)


def _names(told: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in told.split(",") if name.strip())
