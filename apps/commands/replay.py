"""What adaptation is worth: held-out events in order, each ranked before it is learned from."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app, must_take_files
from configs.home import Home
from configs.loading import find, load

FILE = "replay.json"


@app.command()
def replay(
    config: Annotated[str, typer.Argument(help="A file, or a name such as replay/history.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Ranks each event, then learns from it: rows side by side. Example: mg replay replay/history.yaml

    The report stays in the home too, for the page Models of the explorer.
    """
    from experiments.kept import keep
    from experiments.replay_report import document
    from experiments.replay_table import replay_table
    from experiments.report import simulated_in
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    settings, name = load(config, overrides or ()), graph_name(data)
    if out is not None:
        must_take_files(out)  # before the work, not after it
    graph = GraphArrays.current(Home.here().arrays(name))
    with console.progress_bar(f"replay {find(config).stem}") as feed:
        found = replay_table(settings, graph, feed)
    words = [
        "mg",
        "replay",
        config,
        *(overrides or ()),
        "--data",
        name,
        *(["--out", out.name] if out else []),
    ]
    command, simulated = " ".join(words), simulated_in(graph)
    report = document(found, simulated, command)
    _show(found, report, simulated, out, as_json)
    keep("replay", _kept_as(found), report, found.graph, command, Home.here())


def _show(found: Any, report: Any, simulated: str, out: Path | None, as_json: bool) -> None:
    from experiments.report import write

    told = {**found.summary(), "simulated": simulated}
    if out is not None:
        write(report, out, name="replay")
        (out / FILE).write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
    if as_json:
        console.show_json(told)
        return
    for table in report.tables():
        console.show_table(table.title, [column.name for column in table.columns], table.texts())
    for sentence in (*report.lead, *([simulated] if simulated else [])):
        console.out.print(sentence, markup=False)
    if out is not None:
        console.out.print(f"written to {out / 'replay.html'}", markup=False)


def _kept_as(found: Any) -> str:
    """A replay on validation stands beside the one that measures, not in its place."""
    return found.name if found.part == "test" else f"{found.name} {found.part}"
