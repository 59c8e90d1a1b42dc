"""Graphs between stores: copy one, with counts and hash compared."""

from typing import Annotated

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

graph_app = typer.Typer(no_args_is_help=True, help="Whole graphs: copy one from store to store.")
app.add_typer(graph_app, name="graph")

_END = "embedded:NAME, bolt://host:port or neo4j://host"


@graph_app.command("copy")
def graph_copy(
    source: Annotated[str, typer.Option("--from", help=f"{_END}.")],
    target: Annotated[str, typer.Option("--to", help=f"{_END}; memory: only tries it.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Copies a graph; twice is once. Example: mg graph copy --from embedded:world --to bolt://127.0.0.1:7687

    A server's password is read from NEO4J_PASSWORD, or from NEO4J_FROM_PASSWORD and NEO4J_TO_PASSWORD."""
    from kg.copying import copy, end_of, open_end
    from kg.datasets import graph_name

    if source == target:
        raise SettingError(f"a copy has two ends, got {source} twice: name another --to")
    home = Home.here()
    name = end_of(source)[1] or end_of(target)[1] or graph_name(data)
    with (
        console.progress_bar("copy") as feed,
        open_end(source, "FROM", name, home, feed) as taken,
        open_end(target, "TO", name, home, feed) as given,
    ):
        report = copy(taken, given, feed)
    if as_json:
        console.show_json(report)
        return
    console.show_table(f"graph {name}", ("type", "count"), sorted(report.counts.items()))
    console.out.print(
        f"{report.written:,} records written, {report.unchanged:,} as before; both ends hold {report.hash}, "
        f"{report.seconds:.1f} s"
    )
