"""The head that adapters of a version bend: chosen and measured on validation, kept beside the version."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.adapters import adapters_app
from apps.commands.shared import AsJson, Data
from configs.home import Home
from configs.registry import SettingError


@dataclass(frozen=True)
class Fitted:
    """What `mg adapters fit` made."""

    version: str
    kind: str
    hash: str
    adapter_bytes: int
    """Of one user."""
    size_bytes: int
    """Of the head."""
    weight: float
    """What one event is worth on the scale of the version's scores."""
    spreads: float
    """The same in standard deviations of its scores over what comes first."""
    gap_s: float
    tried: Any
    """Every setting, and what it reached on validation."""
    shown: Any
    """What the adapters add on validation; see :class:`models.head_files.Shown`."""
    is_on: bool
    """Whether the service takes it by the settings that it has by default."""


@adapters_app.command("fit")
def fit(
    version: Annotated[str, typer.Argument(help="name/number; the champion where left out.")] = "",
    settings: Annotated[str, typer.Option(help="What is fitted and tried.")] = "adapt/adapters.yaml",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Fits what adapters of a version bend, and measures them on validation. Example: mg adapters fit ease/1

    Endpoints take it within seconds, without a restart, where it was shown to add something.
    """
    found = _fitted(version, settings, data)
    if as_json:
        console.show_json(found)
        return
    rows = [(f"{one.gap_s:g}", f"{one.spreads:g}", f"{one.value:.4f}") for one in found.tried]
    columns = ("gap_s", "an event, in spreads", found.shown.metric)
    console.show_table(f"adapters of {found.version} on validation", columns, rows)
    console.out.print(
        f"{found.version} has a {found.kind} head of {found.size_bytes:,} bytes ({found.hash[:8]}); an "
        f"adapter takes {found.adapter_bytes:,} bytes.\n"
        f"The best of {found.shown.tried} settings: gap_s {found.gap_s:g}, an event worth {found.spreads:g} "
        f"standard deviations of the version's scores ({found.weight:.3g}).\n"
        f"Adapters add {found.shown.said}.",
        markup=False,
    )
    if found.is_on:
        console.out.print("Endpoints have the instant tier on for it.")
    else:
        why = "this is not shown to be more than luck" if not found.shown.is_better else "the settings say so"
        console.out.print(
            f"Endpoints leave the instant tier off for it: {why}. A file with instant_tier: true and "
            "must_be_shown: false has it on all the same: `mg serve --adaptation FILE`.",
            markup=False,
        )


def _fitted(ref: str, settings: str, data: str | None) -> Fitted:
    from configs.loading import load
    from configs.registry import fill
    from experiments.adapter_fit import AdapterFitConfig, fit_adapters
    from experiments.result import runs
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name
    from models.head_files import save_head
    from models.store import ModelStore
    from serve.adaptation import AdaptationConfig

    home, name = Home.here(), graph_name(data)
    config: Any = fill(AdapterFitConfig, load(settings), settings)
    version: Any = ModelStore(home.models).load(ref or f"{name}@champion")
    run = next((one for one in runs(home.runs(name)) if one.version == version.ref), None)
    if run is None:
        raise SettingError(
            f"a head is fitted on what its version was, and no run of {name} says what that was of "
            f"{version.ref}: name a version that `mg run` saved on this graph"
        )
    graph = GraphArrays.open(home.arrays(name) / version.graph_hash)
    with console.progress_bar(f"adapters of {version.ref}") as feed:
        found = fit_adapters(run, graph, config, feed)
    path, head, shown = home.head(name, version.ref), found.fitted.head, found.fitted.shown
    save_head(path, found.fitted, version)
    service = AdaptationConfig.named()
    is_on = service.instant_tier and (shown.is_better or not service.must_be_shown)
    return Fitted(
        version=version.ref,
        kind=head.kind,
        hash=head.hash,
        adapter_bytes=head.spec.dtype.itemsize,
        size_bytes=path.stat().st_size,
        weight=found.settings.weight,
        spreads=found.settings.weight / found.spread,
        gap_s=found.settings.gap_s,
        tried=found.tried,
        shown=shown,
        is_on=is_on,
    )
