"""What a model forgets as time passes, by each way to learn on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app, must_take_files
from configs.home import Home
from configs.loading import find, load


@app.command()
def forgetting(
    config: Annotated[str, typer.Argument(help="A file, or a name such as forgetting/movielens.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Windows of time, one after another: what is kept. Example: mg forgetting forgetting/movielens.yaml

    The report stays in the home too, for the page Models of the explorer.
    """
    from experiments.forgetting import forgetting as study
    from experiments.forgetting_report import document
    from experiments.kept import keep
    from experiments.report import simulated_in, write
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    settings, name = load(config, overrides or ()), graph_name(data)
    if out is not None:
        must_take_files(out)  # before the work, not after it
    graph = GraphArrays.current(Home.here().arrays(name))
    with console.progress_bar(f"forgetting {find(config).stem}") as feed:
        found = study(settings, graph, feed)
    words = ["mg", "forgetting", config, *(overrides or ()), "--data", name]
    command = " ".join([*words, *(["--out", out.name] if out else [])])
    report = document(found, simulated_in(graph), command)
    if out is not None:
        write(report, out, name="forgetting")
    _show(report, out, as_json)
    keep("forgetting", found.config.name, report, name, command, Home.here())


def _show(report: Any, out: Path | None, as_json: bool) -> None:
    if as_json:
        console.show_json({table.name: _records(table) for table in report.tables()})
        return
    for table in report.tables():
        if table.name != "forgetting_curve":
            console.show_table(table.title, [column.name for column in table.columns], table.texts())
    for sentence in (*report.lead, *([report.simulated] if report.simulated else [])):
        console.out.print(sentence, markup=False)
    if out is not None:
        console.out.print(f"written to {out / 'forgetting.html'}", markup=False)


def _records(table: Any) -> list[dict[str, Any]]:
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows]
