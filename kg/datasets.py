"""Opens a data set by its name, or by the folder that holds it.

What a data set is made of stands in ``configs/graph/``: one YAML file each."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.home import Home
from configs.loading import ROOT, load
from configs.registry import fill, import_parts
from kg.downloads import get
from kg.identity import Resolver
from kg.records import Hyperedge, Node, SourceError
from kg.replies import ApiSource
from kg.schema import SOMEWHERE
from kg.sources import Source, sources
from kg.tables import inside
from kg.vocabulary import slug

import_parts("kg.sources")

DEFAULT = "movielens-100k"
WORLD = "world"
STREAMING = "streaming"
JOINED = "streaming-joined"
"""``streaming`` with records joined by probability, too; opened as ``streaming-joined@FOLDER``."""
_DEFAULT_STEM = "ml-100k"
_ATOMIC = "recbole"


@dataclass(frozen=True)
class Dataset:
    """Sources that make one graph, and how to read what people did in it."""

    name: str
    sources: tuple[Source, ...]
    """In the order in which they win ties; tells nodes before the facts that name them."""
    licence: str
    """What the publishers allow."""
    region: str
    """Country of somebody who does not say where they are, ISO 3166-1 alpha-2."""
    subscriptions: tuple[str, ...]
    """Platform ids of somebody who does not say what they pay for."""
    positive_rating: float
    """A rating of at least this much, on 0 to 10, is a positive."""
    is_simulated_availability: bool
    """True where platforms, regions and windows are made up."""
    note: str
    """What the data is, in one sentence."""
    identity: str | None = None
    """Weights under ``configs/`` by whose probability records join; None joins by ids and titles."""


def graph_name(data: str | Path | None) -> str:
    """The name of the graph that :func:`open_dataset` makes of ``data``; opens no file."""
    if data is None or not str(data):
        return DEFAULT
    if str(data) in (DEFAULT, WORLD, STREAMING, JOINED):
        return str(data)
    variant, at, rest = str(data).partition("@")
    if at and variant == JOINED:
        _folder_of_streaming(rest)
        return JOINED
    if (named := _named(str(data))) is not None:
        return named[0]
    folder = Path(data)
    if not folder.is_dir():
        raise SourceError(
            folder,
            f"data is {DEFAULT}, {WORLD}, {STREAMING} or a folder",
            "a file" if folder.exists() else "neither a name nor a folder",
            "give one of these names or an existing folder",
        )
    stem = _atomic_stem(folder)
    if stem is None:
        return STREAMING
    return DEFAULT if stem == _DEFAULT_STEM else slug(stem)


def open_dataset(data: str | Path | None, home: Home) -> Dataset:
    """The data set behind a name or a folder; fetches movielens-100k when it is not there.

    Args:
        data: None or ``movielens-100k``, ``world``, a folder with the files of ``streaming``, one with the
            atomic files of RecBole (``*.inter``, ``*.item``, ...), ``NAME@FOLDER`` for any other setting of
            ``configs/graph``, or the name of an API's setting, whose replies are kept under the home.
        home: where downloads are kept.

    Raises:
        SourceError: no such name or folder, or a folder without the files.
        OfflineError: movielens-100k is not there and cannot be fetched.
    """
    name = graph_name(data)
    if (named := _named(str(data or ""))) is not None:
        return _with_feedback(build(load(f"graph/{name}.yaml"), _folder_of(*named, home)), home)
    folder = None
    if str(data) in (STREAMING, JOINED):
        raise SourceError(
            Path(str(data)),
            "the sources of the streaming data lie in a folder",
            "its name alone",
            "give the folder that holds ml-latest-small, streaming-catalogues and tmdb-5000",
        )
    if name != WORLD:
        given = data is not None and str(data) not in ("", DEFAULT)
        path = str(data).removeprefix(f"{JOINED}@")
        folder = Path(path).resolve() if given else get(name, home)
    is_named = name in (DEFAULT, WORLD, STREAMING, JOINED)
    settings = load(f"graph/{name if is_named else _ATOMIC}.yaml")
    return _with_feedback(build({**settings, "name": name}, folder), home)


def _with_feedback(dataset: Dataset, home: Home) -> Dataset:
    """What people told the endpoints comes back as one more source, last of all."""
    log = home.feedback(dataset.name)
    if not log.is_file():
        return dataset
    return replace(dataset, sources=(*dataset.sources, sources.build("feedback", {"path": str(log)})))


def weights_of(name: str) -> str | None:
    """Weights under ``configs/`` by whose probability imports of a graph join; None: by ids and titles."""
    path = ROOT / "graph" / f"{name}.yaml"
    return load(f"graph/{name}.yaml").get("identity") if path.is_file() else None


@dataclass(frozen=True)
class Setting:
    """A data set that ``configs/graph`` knows."""

    name: str
    note: str
    licence: str
    is_api: bool
    """True where its sources ask an API."""


def settings_with_licences() -> list[Setting]:
    """Every data set that can be opened, by name."""
    names = sorted(path.stem for path in (ROOT / "graph").glob("*.yaml"))
    found = ((name, load(f"graph/{name}.yaml")) for name in names)
    return [Setting(name, plain["note"], plain["licence"], _asks_an_api(name)) for name, plain in found]


def _named(data: str) -> tuple[str, str] | None:
    """Name and folder of ``NAME@FOLDER``; the name alone where it is that of an API; else None."""
    name, at, folder = data.partition("@")
    if not name or Path(name).name != name or not (ROOT / "graph" / f"{name}.yaml").is_file():
        return None
    if at:
        return name, folder
    return (name, "") if _asks_an_api(name) else None


def _asks_an_api(name: str) -> bool:
    parts = load(f"graph/{name}.yaml")["sources"]
    return all(issubclass(sources[part["name"]], ApiSource) for part in parts)


def _folder_of(name: str, folder: str, home: Home) -> Path:
    if not folder:
        return home.data / name
    if not Path(folder).is_dir() and not _asks_an_api(name):
        must = f"{name}@FOLDER names an existing folder"
        raise SourceError(folder, must, "no such folder", "give the folder with the files")
    return Path(folder).resolve()


def build(settings: Mapping[str, Any], folder: Path | None) -> Dataset:
    """A data set from the settings of its YAML file; paths of its sources are relative to ``folder``.

    Raises:
        SourceError: files that the sources need are not in the folder.
    """
    plain = dict(settings)
    parts = plain.pop("sources")
    if folder is not None:
        _check_files(folder, plain.pop("files", ()))
    plain.pop("files", None)
    opened = [_open_source(part, folder) for part in parts]
    return fill(Dataset, {**plain, "sources": opened}, f"data set {settings.get('name')!r}")


def join_counts(opened: Sequence[Source]) -> dict[str, int]:
    """How far the other sources join the films of MovieLens by identifiers alone, before any title matching.

    Args:
        opened: the sources of ``streaming``.

    Returns:
        How many films there are, and how many have a catalogue entry, credits, availability by country, any
        platform, and a plot.

    Cost: reads every source once, about 20 s for ``streaming``; holds the contents in memory.
    """
    resolver = Resolver(by_title=False)
    plots: set[str] = set()
    facts: dict[str, set[str]] = {"catalogue": set(), "credits": set(), "country": set(), "platform": set()}
    for source in opened:
        for record in source.read():
            if isinstance(record, Node):
                if record.type == "Content":
                    resolver.add(record, source.reliability)
                    if "synopsis" in record.properties:
                        plots.add(record.id)
                continue
            for what in _shows(record):
                facts[what].add(record.members["content"][0])
    resolver.finish()
    films = {node.id for node in resolver.nodes() if "movielens" in node.ids}
    joined = {what: films & {resolver.canonical(id) for id in ids} for what, ids in facts.items()}
    return {
        "films": len(films),
        **{what: len(found) for what, found in joined.items()},
        "plot": len(films & {resolver.canonical(id) for id in plots}),
    }


def _shows(fact: Hyperedge) -> Iterator[str]:
    if fact.type == "AVAILABLE":
        yield "platform"
        if fact.source == "justwatch":
            yield "catalogue"
        elif fact.members["region"] != (SOMEWHERE,) and fact.members["platform"] != ("platform:netflix",):
            yield "country"
    elif fact.type in ("ACTED_IN", "DIRECTED"):
        yield "credits"


def _open_source(part: Mapping[str, Any], folder: Path | None) -> Source:
    settings = dict(part.get("settings") or {})
    if folder is not None and "folder" in settings:
        path = Path(os.path.normpath(folder / settings["folder"]))
        if not path.is_relative_to(os.path.normpath(folder)):
            raise SourceError(path, f"a folder inside {folder}", "one outside", "mend the setting")
        settings["folder"] = inside(folder, path)
    return sources.build(part["name"], settings)


def _check_files(folder: Path, expected: tuple[str, ...] | list[str]) -> None:
    missing = [pattern for pattern in expected if not any(folder.glob(pattern))]
    if missing:
        there = sorted(path.name for path in folder.iterdir())
        raise SourceError(
            folder,
            f"the folder holds {', '.join(expected)}",
            f"no {', no '.join(missing)} among {', '.join(there[:12]) or 'nothing'}",
            "give the folder that holds these files, or one with RecBole's atomic files",
        )


def _folder_of_streaming(folder: str) -> None:
    if not Path(folder).is_dir():
        raise SourceError(
            folder, f"{JOINED}@ is followed by the folder of {STREAMING}", "no such folder", "check the path"
        )


def _atomic_stem(folder: Path) -> str | None:
    found = sorted(folder.glob("*.inter"))
    return found[0].stem if found else None
