"""Where fitted models are kept: folders written once, verified before they are read, and aliases that move.

``versions/NAME/NUMBER/`` holds weights, training history, manifest and card. Nothing here is ever pickled."""

import dataclasses
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kg.arrays import GraphArrays
from models.aliases import Aliases, AliasMove, Candidate, Holding, Step, check_name, sync
from models.card import card
from models.interface import Recommender, Training, recommenders
from models.verification import MANIFEST, ModelError, digest_of, read_manifest, verify, write_manifest

WEIGHTS, TRAINING, CARD = "weights.safetensors", "training.safetensors", "MODEL_CARD.md"
FORMAT = 1
_REF = re.compile(r"([a-z0-9][a-z0-9_.-]{0,63})/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class SaveInfo:
    """What a version carries besides what the model learned."""

    graph: str
    """Name of the graph, and so of the aliases that the version may hold."""
    graph_hash: str
    """Hash of the whole graph that endpoints open with it, not of the training part."""
    training: Training
    """What the model was fitted on: its positives are the history that endpoints start from."""
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Metric -> value, or a mapping with ``value``, ``low`` and ``high``."""
    split_hash: str = ""
    seeds: tuple[int, ...] = ()
    code_revision: str = "unknown"
    licence: str = "unknown"
    """Of the data it learned from."""
    groups: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Group -> metric -> as in ``metrics``, with ``users``."""
    split: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of the split."""
    experiment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What one command repeats it by."""
    note: str = ""
    """Anything else to know, in Markdown: it stands on the card."""


@dataclass(frozen=True)
class Interactions:
    """What users had liked when a version was fitted. u users · i contents, rows of the version's graph."""

    positives: sp.csr_array
    """(u, i) float32."""
    times: sp.csr_array
    """(u, i) int64 UTC seconds, same places."""
    rankable: np.ndarray
    """(i,) bool."""


@dataclass(frozen=True)
class ModelVersion:
    """One fitted model on disk."""

    name: str
    number: int
    model: str
    """Name under which its class is registered."""
    config: Mapping[str, Any]
    graph: str
    graph_hash: str
    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    folder: Path

    @property
    def ref(self) -> str:
        """``name/number``."""
        return f"{self.name}/{self.number}"

    def training(self) -> Interactions:
        """What users had liked when it was fitted; verified before it is read."""
        verify(self.folder)
        arrays = _read(self.folder / TRAINING)
        shape = tuple(int(side) for side in arrays["shape"])
        places = (arrays["indices"], arrays["indptr"])
        return Interactions(
            sp.csr_array((arrays["positives"], *places), shape=shape),
            sp.csr_array((arrays["times"], *places), shape=shape),
            arrays["rankable"],
        )


class ModelStore:
    """All versions and aliases under one root; several processes may save and move at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._aliases = Aliases(self.root)

    def save(self, name: str, recommender: Recommender, info: SaveInfo) -> ModelVersion:
        """Writes a new version aside and renames it into place under the next free number.

        Raises:
            ModelError: the name does not fit, the class is not registered, or the folder cannot be written.
        """
        check_name("version", name)
        model = _registered(recommender)
        try:
            number, aside = self._reserve(name)
            try:
                _write(aside, name, number, model, recommender, info)
                sync(aside)
                aside.rename(aside.parent / str(number))
                sync(aside.parent)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"a version needs a place that can be written, {self.root} gave {error}: "
                "free space or choose another folder; nothing was changed"
            ) from error
        return self.load(f"{name}/{number}")

    def load(self, ref: str) -> ModelVersion:
        """The version that ``name/number`` or ``graph@alias`` means, with every file verified.

        Raises:
            ModelError: there is none, or a file is not what was written.
        """
        if "@" in ref:
            graph, _, alias = ref.partition("@")
            version = self.alias(graph, alias)
            if version is None:
                raise ModelError(f"nothing holds the alias {ref!r}: promote a version first")
            return version
        folder = self._folder(ref)
        verify(folder)
        return _version(folder)

    def restore(self, version: ModelVersion, graph: GraphArrays) -> Recommender:
        """The model of a version, ready to score.

        Raises:
            ModelError: ``graph`` is not the one it was saved for, or a file is not what was written.
        """
        if graph.hash != version.graph_hash:
            raise ModelError(
                f"{version.ref} reads graph {version.graph} {version.graph_hash}, "
                f"got {graph.name} {graph.hash}: "
                "open that export, or fit the model on this one"
            )
        verify(version.folder)
        recommender = recommenders.build(version.model, version.config)
        recommender.restore(_read(version.folder / WEIGHTS), graph)
        return recommender

    def versions(self) -> list[ModelVersion]:
        """All versions whose manifest can be read, by name and number; other files are not verified here."""
        found = []
        for folder in self._folders():
            try:
                found.append(_version(folder))
            except ModelError:
                continue  # `problems` names it
        return sorted(found, key=lambda version: (version.name, version.number))

    def problems(self) -> list[str]:
        """What is wrong with each version that would be refused."""
        found = []
        for folder in self._folders():
            try:
                verify(folder)
            except ModelError as error:
                found.append(str(error))
        return found

    def set_alias(
        self, graph_name: str, alias: str, version: ModelVersion | str, reason: str | Step
    ) -> AliasMove | None:
        """Lets ``alias`` of a graph mean a version from now on; None where it did already.

        Args:
            reason: a sentence, or a :class:`Step` that says more.

        Raises:
            ModelError: the version is broken or belongs to another graph.
            Overtaken: the alias does not mean what the step expects any more.
        """
        version = self._of_graph(graph_name, version if isinstance(version, str) else version.ref)
        step = Step("promote", reason) if isinstance(reason, str) else reason
        return self._aliases.move(graph_name, alias, version.ref, step)

    def try_out(
        self, graph_name: str, alias: str, candidate: Candidate | None, step: Step
    ) -> AliasMove | None:
        """Puts a candidate beside the holder of an alias, or takes it away with None.

        Raises:
            ModelError: the version is broken, belongs to another graph, or nothing holds the alias.
            Overtaken: the alias does not mean what the step expects any more.
        """
        if candidate is not None:
            self._of_graph(graph_name, candidate.version)
        return self._aliases.try_out(graph_name, alias, candidate, step)

    def holding(self, graph_name: str, alias: str) -> Holding | None:
        """Holder and candidate of an alias; neither is verified here."""
        return self._aliases.holding(graph_name, alias)

    def settle(self, graph_name: str, alias: str) -> AliasMove | None:
        """Writes down that a change which a crash cut off never took place; None where none was."""
        return self._aliases.settle(graph_name, alias)

    def _of_graph(self, graph_name: str, ref: str) -> ModelVersion:
        version = self.load(ref)
        if version.graph != graph_name:
            raise ModelError(
                f"an alias of {graph_name} needs a version fitted on it, "
                f"{version.ref} was fitted on {version.graph}"
            )
        return version

    def alias(self, graph_name: str, alias: str) -> ModelVersion | None:
        """The verified version that holds an alias, None where nothing does."""
        held = self._aliases.holder(graph_name, alias)
        return None if held is None else self.load(held)

    def aliases(self, graph_name: str) -> dict[str, str]:
        """Alias -> version reference, for every alias of a graph; the versions are not verified here."""
        return self._aliases.held(graph_name)

    def history(self, graph_name: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first."""
        return self._aliases.history(graph_name, alias)

    def _reserve(self, name: str) -> tuple[int, Path]:
        """A number nobody has, and the folder aside that keeps it ours: making a folder happens once."""
        parent = self.root / "versions" / name
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max(
            (int(folder.name) for folder in parent.iterdir() if folder.name.isdigit()), default=0
        )
        while True:
            aside = parent / f".{number}"
            try:
                aside.mkdir()
            except FileExistsError:
                number += 1  # somebody is writing it, or broke off
                continue
            if not (parent / str(number)).exists():
                return number, aside
            aside.rmdir()  # published since we counted
            number += 1

    def _folder(self, ref: str) -> Path:
        called = _REF.fullmatch(ref)
        if not called:
            raise ModelError(
                f"a version is called name/number, as in ease/3, or graph@alias; got {ref[:80]!r}"
            )
        folder = self.root / "versions" / called[1] / called[2]
        if not folder.is_dir():
            there = ", ".join(version.ref for version in self.versions()) or "none yet"
            raise ModelError(f"no version {ref!r} under {self.root}; there are: {there}")
        return folder

    def _folders(self) -> list[Path]:
        found = (self.root / "versions").glob("*/*")
        return sorted(folder for folder in found if folder.name.isdigit() and folder.is_dir())


def _registered(recommender: Recommender) -> str:
    for name in recommenders:
        if recommenders[name] is type(recommender):
            return name
    raise ModelError(f"only a registered recommender can be saved, got {type(recommender).__name__}")


def _write(
    folder: Path, name: str, number: int, model: str, recommender: Recommender, info: SaveInfo
) -> None:
    save_file(_savable(recommender.arrays()), folder / WEIGHTS)
    save_file(_history(info.training), folder / TRAINING)
    manifest = {
        "format": FORMAT,
        "name": name,
        "number": number,
        "model": model,
        "config": dataclasses.asdict(recommender.config),
        "facts": dataclasses.asdict(recommender.facts),
        "graph": info.graph,
        "graph_hash": info.graph_hash,
        "split_hash": info.split_hash,
        "metrics": _plain(info.metrics),
        "seeds": list(info.seeds),
        "code_revision": info.code_revision,
        "licence": info.licence,
        "groups": _plain(info.groups),
        "split": _plain(info.split),
        "experiment": _plain(info.experiment),
        "note": info.note,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (folder / CARD).write_text(card(manifest), encoding="utf-8")
    files = {file: digest_of(folder / file) for file in (WEIGHTS, TRAINING, CARD)}
    write_manifest(folder, {**manifest, "files": files})
    for file in (*files, MANIFEST):
        sync(folder / file)


def _plain(value: Any) -> Any:
    """The same in what JSON has: NumPy numbers as numbers, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} must be a safetensors file, it cannot be read: {error}") from error


def _savable(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            kind = getattr(array, "dtype", type(array).__name__)
            raise ModelError(
                f"a model keeps arrays of numbers and booleans, {name!r} is {kind}: encode it as such"
            )
    # safetensors writes the bytes as they lie: what is not in C order would come back scrambled
    return {name: np.require(array, requirements="C") for name, array in arrays.items()}


def _history(training: Training) -> dict[str, np.ndarray]:
    positives, times = sp.csr_array(training.positives), sp.csr_array(training.times)
    positives, times = positives.sorted_indices(), times.sorted_indices()
    if not (
        np.array_equal(positives.indptr, times.indptr) and np.array_equal(positives.indices, times.indices)
    ):
        raise ModelError(
            "training positives and their times must stand in the same places: build both from one list"
        )
    return _savable(
        {
            "shape": np.array(positives.shape, np.int64),
            "indptr": positives.indptr.astype(np.int64),
            "indices": positives.indices.astype(np.int32),
            "positives": positives.data.astype(np.float32),
            "times": times.data.astype(np.int64),
            "rankable": np.asarray(training.rankable, bool),
        }
    )


def _version(folder: Path) -> ModelVersion:
    manifest = read_manifest(folder)
    if (str(manifest.get("name")), str(manifest.get("number"))) != (folder.parent.name, folder.name):
        raise ModelError(
            f"{folder / MANIFEST} belongs to {manifest.get('name')}/{manifest.get('number')}: "
            "a version stays where it was saved, save the model again"
        )
    try:
        return ModelVersion(
            manifest["name"],
            int(manifest["number"]),
            manifest["model"],
            manifest["config"],
            manifest["graph"],
            manifest["graph_hash"],
            manifest["metrics"],
            manifest,
            folder,
        )
    except KeyError as error:
        raise ModelError(f"{folder / MANIFEST} lacks {error}: save the model again") from None
