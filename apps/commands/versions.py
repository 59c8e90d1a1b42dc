"""Saved versions: list them, promote one."""

from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home


@app.command()
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id of `mg compare`.")],
    alias: Annotated[str, typer.Option(help="The alias to give.")] = "champion",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Promotes a run's model if it passes the gate, else says what failed. Example: mg promote RUN"""
    from apps.demo import promote_run, show_promotion
    from experiments.run import load_runs
    from kg.datasets import graph_name

    home = Home.here()
    result = load_runs(home.runs(graph_name(data)), [run_id])[0]
    promotion = promote_run(result, alias, home)
    console.show_json(promotion) if as_json else show_promotion(promotion)
    if not promotion.promoted and not promotion.is_holder:
        raise typer.Exit(1)


@app.command()
def models(data: Data = None, as_json: AsJson = False) -> None:
    """Saved versions, their measured quality, and who holds which alias. Example: mg models"""
    from models.store import ModelStore

    store = ModelStore(Home.here().models)
    if as_json:
        console.show_json([{"ref": version.ref, **_plain_version(version)} for version in store.versions()])
        return
    rows = [
        (version.ref, version.graph, version.graph_hash[:8], version.model, _aliases(store, version))
        for version in store.versions()
    ]
    console.show_table("versions", ("version", "graph", "hash", "model", "aliases"), rows)


def _aliases(store: Any, version: Any) -> str:
    held = store.aliases(version.graph)
    return ", ".join(alias for alias, ref in held.items() if ref == version.ref)


def _plain_version(version: Any) -> dict[str, Any]:
    """A model version for JSON."""
    return {
        "graph": version.graph,
        "graph_hash": version.graph_hash,
        "model": version.model,
        "metrics": version.metrics,
    }
