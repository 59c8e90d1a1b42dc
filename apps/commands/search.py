"""Search for settings, resumable; and one of its trials as a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home


@app.command()
def search(
    config: Annotated[str, typer.Argument(help="A file, or a name such as search/ials.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value of the search, base.key.key=value of its experiment; each."),
    ] = None,
    fit: Annotated[
        int | None, typer.Option("--fit", help="Makes a run of this finished trial instead of searching.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster to join, whose machines share MG_HOME.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Tries settings; the same command again goes on where it was broken off.

    Example: mg search search/ials.yaml trials=60 base.split.name=temporal
    """
    from experiments.search import fit_trial
    from experiments.search import search as search_settings
    from experiments.spaces import read_search
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, settings = Home.here(), read_search(config, overrides or ())
    graph = GraphArrays.current(home.arrays(graph_name(data)))
    if fit is not None:
        with console.progress_bar(f"fit trial {fit}") as feed:
            found = fit_trial(settings, graph, home, fit, feed)
        console.show_json(found.summary()) if as_json else console.out.print(
            f"trial {fit} is run {found.run_id}: put it beside others with `mg compare`"
        )
        return
    with _live() as tell:
        result = search_settings(settings, graph, home, tell, address)
    console.show_json(result.summary()) if as_json else _show(result)


@contextmanager
def _live() -> Iterator[Any]:
    """A table that is redrawn while the search goes on; on a pipe one line a trial."""
    if not console.err.is_terminal:
        seen: set[int] = set()

        def line(standing: Any) -> None:
            for trial in standing.result.trials:
                if trial.number not in seen:
                    seen.add(trial.number)
                    told = f"{len(standing.result.trials)}/{standing.total}, {_left(standing)}"
                    console.err.print(" · ".join([*(str(cell) for cell in _cells(trial)), told]))

        yield line
        return
    with Live(console=console.err, refresh_per_second=4, transient=True) as live:
        yield lambda standing: live.update(_standing(standing))


def _standing(standing: Any) -> Table:
    result = standing.result
    states = [trial.state for trial in result.trials]
    counted = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    title = f"{result.name}: {len(states)} of {standing.total} trials ({counted}), {_left(standing)}"
    table = Table(title=title, title_justify="left")
    for column in ("trial", *result.objectives, "state", "s", "settings"):
        table.add_column(column)
    best = sorted(result.complete, key=lambda trial: trial.number not in result.best)[:5]
    for trial in [*best, *[one for one in result.trials[-5:] if one not in best]]:
        table.add_row(*(str(cell) for cell in _cells(trial)))
    for number, words in standing.running.items():
        table.add_row(str(number), *[""] * len(result.objectives), words, "", "")
    return table


def _left(standing: Any) -> str:
    return "no end known yet" if standing.left_s is None else f"about {standing.left_s:,.0f} s left"


def _cells(trial: Any) -> tuple[Any, ...]:
    settings = ", ".join(
        f"{key.removeprefix('model.')}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in trial.settings.items()
    )
    said = trial.state if not trial.error else f"{trial.state}: {trial.error}"
    return (trial.number, *(f"{value:.4f}" for value in trial.values), said, f"{trial.seconds:.1f}", settings)


def _show(result: Any) -> None:
    what = "best trial" if len(result.objectives) == 1 else "Pareto front"
    columns = ("trial", *result.objectives, "state", "s", "settings")
    console.show_table(f"{result.name}: {what}", columns, [_cells(result.trial(n)) for n in result.best])
    if result.importances:
        rows = [(key, f"{part:.2f}") for key, part in result.importances.items()]
        console.show_table(f"what moves {result.objectives[0]}", ("setting", "part"), rows)
    states = [trial.state for trial in result.trials]
    console.out.print(
        f"{len(states)} trials in {result.seconds:,.0f} s: "
        + ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
    )
    for trial in result.trials:
        if trial.error:
            console.out.print(f"trial {trial.number} failed: {trial.error}", markup=False)
    told = f"run {result.run_id}: `mg compare`, `mg promote {result.run_id}`" if result.run_id else ""
    console.out.print(told or "choose one of the front: the same command with --fit NUMBER")
    console.out.print(f"optuna-dashboard sqlite:///{result.folder / 'study.sqlite3'}", markup=False)
