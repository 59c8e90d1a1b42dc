"""What the graph adds to a model."""

from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.loading import find, load


@app.command("graph-gain")
def graph_gain(
    config: Annotated[str, typer.Argument(help="A file, or a name such as experiments/knowledge.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from that of the experiment on.")] = 3,
    retune: Annotated[
        bool, typer.Option("--retune", help="Each variant chooses its own settings, with equal budget.")
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """What facts add: true, none, shuffled, rewired. Example: mg graph-gain experiments/knowledge.yaml"""
    from experiments.graph_gain import GraphGainConfig
    from experiments.graph_gain import graph_gain as measure
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, settings = Home.here(), load(config, overrides or ())
    graph = GraphArrays.current(home.arrays(graph_name(data)))
    first = int(settings.get("seed", 0))
    gain = GraphGainConfig(seeds=tuple(range(first, first + seeds)), is_retuned=retune)
    with console.progress_bar(f"graph-gain {find(config).stem}") as feed:
        found = measure(settings, graph, home, gain, feed)
    console.show_json(found.summary()) if as_json else _show(found)


def _show(found: Any) -> None:
    columns = (
        "facts",
        found.metric,
        "95% interval",
        "sd over seeds",
        "true minus this",
        "interval",
        "p (Holm)",
        "facts changed",
    )
    rows = []
    for one in found.variants:
        against = ("", "", "")
        if one.gain is not None:
            gain = one.gain
            against = (f"{gain.difference:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}", f"{one.p:.4f}")
        interval = f"{one.value.low:.4f} to {one.value.high:.4f}"
        value, deviation = (
            f"{one.value.value:.4f}",
            f"{one.deviation:.4f}" if len(found.seeds) > 1 else "one seed",
        )
        rows.append((one.name, value, interval, deviation, *against, f"{one.changed_share:.0%}"))
    console.show_table(f"what the graph adds to {found.model} on {found.graph}", columns, rows)
    listed = ", ".join(str(seed) for seed in found.seeds)
    tuned = (
        "each variant on its own, equal budget"
        if found.is_retuned
        else "with the true facts, for all variants"
    )
    console.out.print(f"{found.split_name}, seeds {listed}, settings chosen on validation {tuned}.")
    console.out.print(found.verdict, markup=False)
    console.out.print(f"saved as {found.gain_id}", markup=False)
