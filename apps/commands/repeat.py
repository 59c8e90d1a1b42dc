"""One experiment over several seeds or folds."""

from typing import Annotated, Any

import typer
import yaml

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.loading import find, load
from configs.registry import SettingError

SHORT = {"fold": "split.settings.fold"}


@app.command()
def repeat(
    config: Annotated[str, typer.Argument(help="A file, or a name such as experiments/ease.yaml.")],
    over: Annotated[str, typer.Option(help="key=value,value,… such as seed=0,1,2 or fold=0,1,2,3,4.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Another experiment, as its file says (overrides are of the first), tested user by user."
        ),
    ] = None,
    metric: Annotated[str, typer.Option(help="What is shown and tested.")] = "ndcg@10",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Runs an experiment several times: mean ± sd, and all users pooled with an interval.

    Example: mg repeat experiments/ease.yaml --over seed=0,1,2
    """
    from experiments.repeat import paired_repeated
    from experiments.repeat import repeat as repeat_experiment
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    key, values = _over(over)
    # an override is of the first experiment; the other runs as its file says
    planned = [(config, overrides or ()), *([(against, ())] if against else [])]
    settings = [load(name, laid) for name, laid in planned]
    home = Home.here()
    graph = GraphArrays.current(home.arrays(graph_name(data)))
    found = []
    for (name, _), one in zip(planned, settings, strict=True):
        with console.progress_bar(f"repeat {find(name).stem}") as feed:
            found.append(repeat_experiment(one, graph, home, key, values, feed))
    test = paired_repeated(found[0], found[1], metric) if against else None
    if as_json:
        told = {"experiments": [one.summary() for one in found], "metric": metric}
        console.show_json({**told, "paired": None if test is None else vars(test)})
        return
    for one in found:
        _show(one, metric)
    if test is not None:
        console.out.print(
            f"{found[0].name} - {found[1].name}: {test.difference:+.4f} "
            f"({test.low:+.4f} to {test.high:+.4f}), p = {test.p:.4f}, {test.users} users"
        )


def _over(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not values:
        raise SettingError(f"--over is written key=value,value, got {text!r}: write seed=0,1,2")
    return SHORT.get(key, key), [yaml.safe_load(value) for value in values.split(",")]


def _show(repeated: Any, metric: str) -> None:
    rows = [
        (f"{repeated.key}={value}", one.run_id, one.test_users, f"{one.metrics[metric].value:.4f}")
        for value, one in zip(repeated.values, repeated.runs, strict=True)
    ]
    console.show_table(repeated.name, ("", "run", "users", metric), rows)
    spread, pooled = repeated.spread(metric), repeated.interval(metric)
    console.out.print(
        f"{metric} {spread.mean:.4f} ± {spread.sd:.4f} over {spread.count} runs; pooled {pooled.value:.4f} "
        f"({pooled.low:.4f} to {pooled.high:.4f}) over {pooled.users} users"
    )
