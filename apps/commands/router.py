"""The query router: train it, ask it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home

if TYPE_CHECKING:
    from models.router import Router

router_app = typer.Typer(no_args_is_help=True, help="What a question asks for: train the router, ask it.")
app.add_typer(router_app, name="router")
CONFIG = "router/router.yaml"


@router_app.command("train")
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, laid over the file.")] = None,
    config: Annotated[str, typer.Option(help="A path, or a name under configs/.")] = CONFIG,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Trains the router on made-up queries about a graph and keeps it. Example: mg router train epochs=3"""
    from configs.loading import load
    from experiments.router import train_router
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, graph = Home.here(), graph_name(data)
    settings = load(config, overrides or [])
    arrays = GraphArrays.current(home.arrays(graph))
    with console.progress_bar("router") as feed:
        result = train_router(settings, arrays, feed)
    folder = folder_of(home, graph)
    size_bytes = result.router.save(folder, result.summary())
    if as_json:
        console.show_json({**result.summary(), "size_bytes": size_bytes, "folder": folder})
        return
    show_rows(result.summary())
    console.out.print(
        f"trained in {result.train_s:.0f} s; {size_bytes:,} bytes in {folder}; "
        f"served, for it is ahead on the templates for choosing: {result.ahead}",
        markup=False,
    )


@router_app.command("ask")
def ask(
    query: Annotated[str, typer.Argument(help="What somebody typed.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Class and slots of a query. Example: mg router ask "what is leaving netflix in germany" """
    route = opened(Home.here(), data).route(query)
    if as_json:
        console.show_json(route)
        return
    unsure = " (unsure: the fallback)" if route.is_fallback else ""
    console.out.print(f"{route.intent}{unsure}, confidence {route.confidence:.2f}", markup=False)
    console.out.print(f"likely: {', '.join(route.likely) or 'none, it is unlike all known'}", markup=False)
    cells = [
        (kind, match.name, match.said, match.slips, ", ".join(match.ids))
        for kind, matches in route.slots.matches.items()
        for match in matches
    ]
    numbers = (("year", route.slots.year), ("minutes", route.slots.minutes))
    cells += [(kind, str(value), str(value), 0, "") for kind, value in numbers if value is not None]
    console.show_table("slots", ("slot", "found", "as typed", "slips", "may mean"), cells)


def folder_of(home: Home, graph: str) -> Path:
    """Where the router of a graph is kept."""
    return home.models / "routers" / graph


def opened(home: Home, data: str | None) -> "Router":
    """The trained router of a graph, with the graph's names."""
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name
    from models.router import Router
    from models.slots import Gazetteer

    folder = folder_of(home, graph_name(data))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} holds no router: run `mg router train` first")
    return Router.load(folder, Gazetteer.of(GraphArrays.current(home.arrays(graph_name(data)))))


def show_rows(told: dict[str, Any]) -> None:
    """The table of a training: FastGRNN, the regression, both together, and key words."""
    numbers = (
        "macro_f1_choose",
        "macro_f1",
        "macro_f1_misspelt",
        "macro_f1_orders",
        "calibration_error",
        "calibration_error_redrawn",
        "coverage",
        "coverage_redrawn",
        "set_size",
    )
    cells = [(row["name"], *(f"{row[name]:.3f}" for name in numbers), row["worst"]) for row in told["rows"]]
    columns = (
        "model",
        "choosing",
        "macro F1",
        "misspelt",
        "word orders",
        "ECE",
        "ECE redrawn",
        "coverage",
        "redrawn",
        "set",
    )
    title = f"{told['templates']['test']} held-out templates, {told['queries']['test']:,} queries, made up"
    console.show_table(title, (*columns, "worst class"), cells)
    served = next(row for row in told["rows"] if row["name"] == told["ahead"])
    spans = [
        (name, f"{served[name]:.3f}", f"{low:.3f}", f"{high:.3f}")
        for name, (low, high) in served["intervals"].items()
    ]
    console.show_table(
        f"{served['name']}: 95% over test templates drawn anew", ("measure", "value", "low", "high"), spans
    )
