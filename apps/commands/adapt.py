"""The nightly step: adapt the version in use to what came since, then the gate."""

from typing import Annotated

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.loading import load


@app.command()
def adapt(
    config: Annotated[str, typer.Argument(help="A file, or a name.")] = "adapt/nightly.yaml",
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    version: Annotated[str, typer.Option(help="name/number; empty is who holds the alias.")] = "",
    alias: Annotated[str, typer.Option(help="The alias that is meant.")] = "champion",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Learns what came since the champion was fitted, then the gate. Example: mg adapt --data world"""
    from apps.demo import promote_run, show_promotion
    from experiments.adapt import adapt as learn
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, name = Home.here(), graph_name(data)
    settings, graph = load(config, overrides or ()), GraphArrays.current(home.arrays(name))
    with console.progress_bar("adapt") as feed:
        found = learn(home, graph, version or f"{name}@{alias}", settings, feed)
    promotion = promote_run(found.result, alias, home)
    if as_json:
        told = {"base": found.base, "newer_likes": found.newer_likes, "since_s": found.since_s}
        console.show_json({**told, "run": found.result.run_id, "promotion": console.plain(promotion)})
    else:
        said = f"{found.result.version} learned {found.newer_likes:,} likes over {found.base}"
        console.out.print(said, markup=False)
        show_promotion(promotion)
    if not promotion.promoted:
        raise typer.Exit(1)
