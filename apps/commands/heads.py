"""The head that instant adapters of a version bend: fitted once, kept beside the version."""

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
    is_on: bool
    """Whether the settings have the instant tier on."""


@adapters_app.command("fit")
def fit(
    version: Annotated[str, typer.Argument(help="name/number; the champion where left out.")] = "",
    settings: Annotated[str, typer.Option(help="Settings of the loop in service.")] = "serve/adaptation.yaml",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Fits what instant adapters of a version bend, on what it was fitted on. Example: mg adapters fit ease/1

    Endpoints take it within seconds, without a restart, where the settings have the instant tier on.
    """
    found = _fitted(version, settings, data)
    if as_json:
        console.show_json(found)
        return
    console.out.print(
        f"{found.version} has a {found.kind} head of {found.size_bytes:,} bytes ({found.hash[:8]}); an "
        f"adapter takes {found.adapter_bytes:,} bytes.",
        markup=False,
    )
    if not found.is_on:
        console.out.print(
            f"{settings} has the instant tier off: write instant_tier: true there, or in a file of your own "
            "for `mg serve --adaptation FILE`.",
            markup=False,
        )


def _fitted(ref: str, settings: str, data: str | None) -> Fitted:
    from experiments.result import runs
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name
    from models.head_files import save_head
    from models.store import ModelStore
    from serve.adaptation import AdaptationConfig

    home, name, steps = Home.here(), graph_name(data), AdaptationConfig.named(settings)
    version: Any = ModelStore(home.models).load(ref or f"{name}@champion")
    run = next((one for one in runs(home.runs(name)) if one.version == version.ref), None)
    if run is None:
        raise SettingError(
            f"a head is fitted on what its version was, and no run of {name} says what that was of "
            f"{version.ref}: name a version that `mg run` saved on this graph"
        )
    graph = GraphArrays.open(home.arrays(name) / version.graph_hash)
    with console.progress_bar(f"head of {version.ref}"):
        head = steps.head_settings().fitted(run.version_training(graph))
    path = home.head(name, version.ref)
    save_head(path, head, version)
    size = head.spec.dtype.itemsize
    return Fitted(version.ref, head.kind, head.hash, size, path.stat().st_size, steps.instant_tier)
