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
SplitName = Annotated[
    str | None, typer.Option("--split", help="Look at runs on this split; none means the one used last.")
]


@app.command()
def compare(
    runs: Runs = None,
    split: SplitName = None,
    seeds: Seeds = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The leaderboard of runs on one split, with intervals and tests. Example: mg compare --seeds"""
    results = _chosen(Home.here(), data, runs or (), split, seeds)
    if as_json:
        from experiments.compare import compare as compare_runs

        console.show_json(compare_runs(results))
    else:
        show_results(results)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder for the report; made where it is not there.")],
    runs: Runs = None,
    split: SplitName = None,
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
    results = _chosen(home, data, runs or (), split, seeds)
    graph = GraphArrays.open(home.arrays(name) / results[0].graph_hash)
    with console.progress_bar("report") as feed:
        feed("timing models" if latency else "tables and figures")
        evidence = Evidence(
            tuple(results),
            tuple(searches(home.searches(name))),
            latency_of(home, graph) if latency else None,
            simulated_in(graph),
            f"mg report --data {name} --split {results[0].split_name}"
            f"{' --seeds' if seeds else ''} --out {out.name}",
        )
        files = write(report_of(evidence), out, results)
    if as_json:
        console.show_json({"folder": out, "files": files, "runs": [run.run_id for run in results]})
    else:
        console.out.print(f"{len(results)} runs: {len(files)} files in {out}; open {out / 'report.html'}")


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="A published result, or `list` for all of them.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    path: Annotated[
        Path | None, typer.Option(help="Folder with the published split; none says where to get it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Runs a published result again, ours beside the paper's. Example: mg reproduce gf_cf_gowalla --path F"""
    from experiments.reproduce import reproduce as run_again

    if name == "list":
        _list_reproductions(as_json)
        return
    with console.progress_bar(f"reproduce {name}") as feed:
        found = run_again(name, path, overrides or (), feed)
    console.show_json(found) if as_json else _show_reproduced(found)


def show_results(results: Sequence[Any]) -> None:
    """Prints the leaderboard of runs and what its tests say."""
    from experiments.compare import compare as compare_runs
    from experiments.report import comparison_lines, leaderboard_rows

    comparison = compare_runs(results)
    columns, rows = leaderboard_rows(comparison)
    console.show_table("leaderboard", columns, rows)
    for line in comparison_lines(comparison):
        console.out.print(line)


def _chosen(
    home: Home, data: str | None, run_ids: Sequence[str], split: str | None, seeds: bool
) -> list[Any]:
    """Runs by id, or the latest of each experiment; with ``seeds`` the latest of each seed on that split."""
    from experiments.compare import by_seed
    from experiments.result import load_runs
    from experiments.result import runs as all_runs
    from kg.datasets import graph_name

    parent = home.runs(graph_name(data))
    latest = load_runs(parent, run_ids, split)
    return by_seed(all_runs(parent), latest[0].split_hash) if seeds and not run_ids else latest


def _list_reproductions(as_json: bool) -> None:
    from experiments.reproduce import names, reproduction, where

    rows = []
    for name in names():
        told, card = reproduction(name)
        row = next((row for row in card.rows if row["method"] == told.method), {})
        paper = ", ".join(f"{metric} {row[metric]:.4f}" for metric in card.metrics if metric in row)
        rows.append(
            {"name": name, "method": told.method, "paper": paper or "none known", "split": where(card)}
        )
    if as_json:
        console.show_json(rows)
    else:
        console.show_table("published results", tuple(rows[0]), [tuple(row.values()) for row in rows])


def _show_reproduced(found: Any) -> None:
    rows = [
        (
            one.metric,
            f"{one.ours.value:.4f}",
            f"{one.ours.low:.4f} to {one.ours.high:.4f}",
            "none known" if one.paper is None else f"{one.paper:.4f}",
            "" if one.difference is None else f"{one.difference:+.4f}",
            "" if one.is_inside is None else "yes" if one.is_inside else "no",
        )
        for one in found.beside
    ]
    if not found.is_same_split:
        console.out.print("NOT the published split: nothing below can be compared with the papers.")
    columns = ("metric", "ours", "95% interval", "paper", "ours - paper", "paper inside interval")
    console.show_table(f"{found.method} on {found.split}, {found.test_users:,} test users", columns, rows)
    for row in found.others:
        values = ", ".join(f"{one.metric} {row[one.metric]:.4f}" for one in found.beside)
        console.out.print(f"published: {row['method']} {values} ({row['source']})")
    for note in found.notes:
        console.out.print(note)
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.seconds.items())
    console.out.print(
        f"Settings {found.settings}, best of {found.trials} on validation ({found.validation:.4f}); {times}; "
        f"seed {found.seed}, split {found.split_hash[:8]}, code {found.code_revision}."
    )
