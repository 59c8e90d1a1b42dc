"""Experiments: run them, compare them."""

from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.loading import find, load


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A file, or a name such as experiments/ease.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """One experiment: split, audit, tune, fit, measure, save. Example: mg run experiments/ease.yaml seed=3"""
    from experiments.run import run as run_experiment
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, settings = Home.here(), load(config, overrides or ())
    graph = GraphArrays.current(home.arrays(graph_name(data)))
    with console.progress_bar(f"run {find(config).stem}") as feed:
        result = run_experiment(settings, graph, home, feed)
    console.show_json(result.summary()) if as_json else _show_results([result])


@app.command()
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run ids; none means the latest run of each model.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The leaderboard of runs on one split, with intervals and corrected tests. Example: mg compare"""
    from experiments.run import load_runs
    from kg.datasets import graph_name

    results = load_runs(Home.here().runs(graph_name(data)), runs or ())
    if as_json:
        from experiments.compare import compare as compare_runs

        console.show_json(compare_runs(results))
    else:
        _show_results(results)


def _show_results(results: list[Any]) -> None:
    from experiments.compare import compare as compare_runs
    from experiments.report import comparison_lines, leaderboard_rows

    comparison = compare_runs(results)
    columns, rows = leaderboard_rows(comparison)
    console.show_table("leaderboard", columns, rows)
    for line in comparison_lines(comparison):
        console.out.print(line)
