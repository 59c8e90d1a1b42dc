"""Evidence to read: runs side by side, whole reports, published numbers run again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home

Runs = Annotated[
    list[str] | None, typer.Argument(help="Run ids; none means the latest run of each experiment.")
]
Seeds = Annotated[
    bool, typer.Option("--seeds", help="The latest run of each experiment and seed: mean and spread.")
]


@app.command()
def compare(runs: Runs = None, seeds: Seeds = False, data: Data = None, as_json: AsJson = False) -> None:
    """The leaderboard of runs on one split, with intervals and tests. Example: mg compare --seeds"""
    results = _chosen(Home.here(), data, runs or (), seeds)
    if as_json:
        from experiments.compare import compare as compare_runs

        console.show_json(compare_runs(results))
    else:
        show_results(results)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for the report; made where it is not there.")],
    runs: Runs = None,
    seeds: Seeds = False,
    latency: Annotated[
        bool, typer.Option(help="Time each saved model here and now, one user at a time.")
    ] = True,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Writes tables and figures of runs: Markdown, one HTML file, CSV. Example: mg report --out reports/a"""
    from experiments.front import latency_of
    from experiments.report import Evidence, simulated_in, write
    from experiments.report import report as report_of
    from experiments.studies import searches
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, name = Home.here(), graph_name(data)
    results = _chosen(home, data, runs or (), seeds)
    graph = GraphArrays.open(home.arrays(name) / results[0].graph_hash)
    with console.progress_bar("report") as feed:
        feed("timing models" if latency else "tables and figures")
        evidence = Evidence(
            tuple(results),
            tuple(searches(home.searches(name))),
            latency_of(home, graph) if latency else None,
            simulated_in(graph),
            f"mg report --data {name} --out {out.name}{' --seeds' if seeds else ''}",
        )
        files = write(report_of(evidence), out, results)
    if as_json:
        console.show_json({"folder": out, "files": files, "runs": [run.run_id for run in results]})
    else:
        console.out.print(f"{len(results)} runs: {len(files)} files in {out}; open {out / 'report.html'}")


def show_results(results: Sequence[Any]) -> None:
    """Prints the leaderboard of runs and what its tests say."""
    from experiments.compare import compare as compare_runs
    from experiments.report import comparison_lines, leaderboard_rows

    comparison = compare_runs(results)
    columns, rows = leaderboard_rows(comparison)
    console.show_table("leaderboard", columns, rows)
    for line in comparison_lines(comparison):
        console.out.print(line)


def _chosen(home: Home, data: str | None, run_ids: Sequence[str], seeds: bool) -> list[Any]:
    """Runs by id, or the latest of each experiment; with ``seeds`` the latest of each seed on that split."""
    from experiments.compare import by_seed
    from experiments.result import load_runs
    from experiments.result import runs as all_runs
    from kg.datasets import graph_name

    parent = home.runs(graph_name(data))
    latest = load_runs(parent, run_ids)
    return by_seed(all_runs(parent), latest[0].split_hash) if seeds and not run_ids else latest
