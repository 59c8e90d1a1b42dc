"""The nightly step: the version in use learns what came since it was fitted, by its base tier alone.

What comes out is a run like any other, for the gate: a version that adapts is promoted by no other way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from configs.home import Home
from configs.registry import SettingError, fill, import_parts
from experiments.result import RunResult
from experiments.run import Progress, run
from experiments.splits import SplitConfig, split
from experiments.training import FitConfig
from experiments.tuning import Trial, Tuning
from kg.arrays import ArraysError, GraphArrays
from models.adapted import AdaptedConfig
from models.base_tier import base_of, hash_of
from models.continual import EWCConfig
from models.interface import Recommender, recommenders
from models.store import WEIGHTS, ModelStore, ModelVersion


class AdaptError(RuntimeError):
    """A version that cannot be adapted to this graph, or nothing that it could learn."""


@dataclass(frozen=True)
class AdaptConfig:
    """A file in ``configs/adapt/``."""

    name: str = "adapted"
    """Of the run and of the version that it saves."""
    seed: int = 0
    rank: int = 8
    """r, 4 to 16; a version that is adapted already keeps its own, and its targets and cohorts."""
    alpha: float = 16.0
    """α, above 0."""
    targets: tuple[str, ...] = ()
    """Projections that are adapted; () takes those that the model states."""
    cohorts: tuple[int, ...] = ()
    """Lengths of history at which the next cohort begins; () is one adapter for all."""
    strength: float = 10.0
    """λ of EWC++, 0 or more."""
    memory: float = 0.99
    """γ of EWC++, in [0, 1)."""
    examples: int = 200
    """Older likes that EWC++ looks at first."""
    learning_rate: float = 3e-3
    """Of the adapter."""
    epochs: int = 5
    """Over the newer likes; not chosen on validation, of which the older version may have seen a part."""
    least_likes: int = 50
    """With fewer newer likes in training nothing is learned, 1 or more."""

    def __post_init__(self) -> None:
        if self.least_likes < 1:
            raise SettingError(f"least_likes must be 1 or more, got {self.least_likes}")
        EWCConfig(self.strength, self.memory, self.examples)
        self.train()

    def train(self) -> FitConfig:
        """Settings of the training loop."""
        return FitConfig(learning_rate=self.learning_rate, epochs=self.epochs, threads=1)


@dataclass(frozen=True)
class Adaptation:
    """What a night brought."""

    result: RunResult
    """For the gate; the version that was adapted is its bar, on the same people."""
    base: str
    """``name/number`` of the version that was adapted."""
    newer_likes: int
    since_s: int
    """UTC seconds of the latest like that the version had learned."""


def adapt(
    home: Home,
    graph: GraphArrays,
    version: str = "",
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Adaptation:
    """Learns what is newer than a version, measures both on the same people, saves the adapted one.

    The split is the version's own rule on this graph: nothing that it holds out is learned. A version that is
    adapted already goes on from its adapter, on the same base.

    Args:
        home: where versions and runs lie.
        graph: whole, as exported now.
        version: ``name/number`` or ``graph@alias``; '' is the champion of this graph.
        config: settings of :class:`AdaptConfig`.
        progress: told in words what is done now.

    Raises:
        AdaptError: the model has no projections to adapt, the graph has other contents than its own, or too
            little came since.
        ModelError: there is no such version, or a file of it is not what was written.
    """
    import_parts("models")
    settings, models = fill(AdaptConfig, config or {}, "adapt"), ModelStore(home.models)
    held = models.load(version or f"{graph.name}@champion")
    arrays = load_file(held.folder / WEIGHTS)
    model = _model_of(held, arrays, settings)
    _must_know(held, graph, home, model)
    cut = dict(held.manifest.get("split") or {})
    since = int(held.training().times.data.max(initial=0))
    newer = int((split(graph, fill(SplitConfig, cut, "split")).full.times.data > since).sum())
    if newer < settings.least_likes:
        raise AdaptError(
            f"{held.ref} learned likes until {since} (UTC seconds) and the training part of {graph.name} "
            f"{graph.hash[:8]} holds {newer} newer ones, at least {settings.least_likes} are needed: "
            "ingest and export what came since, or lower least_likes"
        )
    told = dict(held.manifest.get("experiment") or {})
    train = {"learning_rate": settings.learning_rate, "epochs": settings.epochs, "threads": 1}
    given = {
        "name": settings.name,
        "seed": settings.seed,
        "split": cut,
        "model": {**model, "since_s": since},
        "train": train,
        "measure": told.get("measure", {}),
    }
    chosen = Trial({}, 0.0, 0.0, settings.epochs)
    said = f"no trial: {settings.epochs} epochs by the settings of the night"
    tuned = Tuning(chosen, (), 1, given["model"], train, said)
    bar = (held.ref, _as_it_is(held, arrays, graph))
    return Adaptation(run(given, graph, home, progress, tuned, bar=bar), held.ref, newer, since)


def _model_of(held: ModelVersion, arrays: Mapping[str, Any], settings: AdaptConfig) -> dict[str, Any]:
    """Settings of the adapted model over this version."""
    night = {name: getattr(settings, name) for name in ("strength", "memory", "examples")}
    lora = {name: getattr(settings, name) for name in ("rank", "alpha", "targets", "cohorts")}
    base = {"name": held.model, **held.config}
    if held.model == "adapted":
        base, lora = dict(held.config["base"]), {name: held.config[name] for name in lora}
    elif not hasattr(recommenders[held.model], "adapts"):
        raise AdaptError(
            f"{held.ref} is a {held.model}, which has no projections to adapt: fit it anew, or promote a "
            "sasrec or graphsage first"
        )
    where = {"version": held.ref, "folder": str(held.folder), "base_hash": hash_of(base_of(arrays))}
    made = {"base": base, **lora, **night, **where}
    fill(AdaptedConfig, made, "adapt")
    return {"name": "adapted", **made}


def _must_know(held: ModelVersion, graph: GraphArrays, home: Home, model: Mapping[str, Any]) -> None:
    """Refuses a graph whose rows are not those of the version."""
    if held.graph != graph.name:
        raise AdaptError(f"{held.ref} was fitted on {held.graph}, got {graph.name}: open that graph")
    if held.graph_hash == graph.hash:
        return
    try:
        old = GraphArrays.open(home.arrays(graph.name) / held.graph_hash)
    except ArraysError as error:
        raise AdaptError(
            f"{held.ref} can be held against a new graph only beside its own: {error}; or fit it anew"
        ) from None
    reads_history = getattr(recommenders[model["base"]["name"]], "reads_history", False)
    for type in ("Content",) if reads_history else ("Content", "User"):
        if not np.array_equal(old.ids(type), graph.ids(type)):
            raise AdaptError(
                f"{held.ref} needs the rows of {type} that it was fitted with, {graph.name} "
                f"{graph.hash[:8]} has others: fit it anew on this graph"
            )


def _as_it_is(held: ModelVersion, arrays: Mapping[str, Any], graph: GraphArrays) -> Recommender:
    """The version on this graph, nothing learned."""
    model = recommenders.build(held.model, held.config)
    model.restore(arrays, graph)
    return model
