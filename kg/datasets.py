"""Opens a data set by its name, or by the folder that holds it.

What a data set is made of stands in ``configs/graph/``: one YAML file each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from configs.home import Home
from configs.loading import load
from configs.registry import fill, import_parts
from kg.downloads import get
from kg.identity import Resolver
from kg.records import Hyperedge, Node, SourceError
from kg.schema import SOMEWHERE
from kg.sources import Source, sources
from kg.vocabulary import slug

import_parts("kg.sources")

DEFAULT = "movielens-100k"
WORLD = "world"
STREAMING = "streaming"
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


def graph_name(data: str | Path | None) -> str:
    """The name of the graph that :func:`open_dataset` makes of ``data``; opens no file."""
    if data is None or not str(data):
        return DEFAULT
    if str(data) in (DEFAULT, WORLD, STREAMING):
        return str(data)
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
        data: None or ``movielens-100k``, ``world``, a folder with the files of ``streaming``, or one with the
            atomic files of RecBole (``*.inter``, ``*.item``, ...).
        home: where downloads are kept.

    Raises:
        SourceError: no such name or folder, or a folder without the files.
        OfflineError: movielens-100k is not there and cannot be fetched.
    """
    name = graph_name(data)
    folder = None
    if str(data) == STREAMING:
        raise SourceError(
            Path(STREAMING),
            "the sources of the streaming data lie in a folder",
            "its name alone",
            "give the folder that holds ml-latest-small, streaming-catalogues and tmdb-5000",
        )
    if name != WORLD:
        given = data is not None and str(data) not in ("", DEFAULT)
        folder = Path(str(data)).resolve() if given else get(name, home)
    is_named = name in (DEFAULT, WORLD, STREAMING)
    settings = load(f"graph/{name if is_named else _ATOMIC}.yaml")
    return _with_feedback(build({**settings, "name": name}, folder), home)


def _with_feedback(dataset: Dataset, home: Home) -> Dataset:
    """What people told the endpoints comes back as one more source, last of all."""
    log = home.feedback(dataset.name)
    if not log.is_file():
        return dataset
    return replace(dataset, sources=(*dataset.sources, sources.build("feedback", {"path": str(log)})))


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
        settings["folder"] = folder / settings["folder"]
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


def _atomic_stem(folder: Path) -> str | None:
    found = sorted(folder.glob("*.inter"))
    return found[0].stem if found else None
