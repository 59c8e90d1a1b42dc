"""Experiments: run one."""

from typing import Annotated

import typer

from apps import console
from apps.commands.reports import show_results
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
    if as_json:
        console.show_json(result.summary())
        return
    show_results([result])
    if result.budget_cut:
        console.out.print(result.budget_cut)
