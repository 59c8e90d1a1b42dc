"""What is installed, reachable and whole here, and what to do where it is not."""

import importlib.metadata
import os
import shutil
import socket
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from configs.home import Home
from kg.arrays import ArraysError, GraphArrays
from kg.datasets import graph_name

NEEDED_FREE_BYTES = 2 * 2**30
NEEDED_MEMORY_BYTES = 6 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    is_ok: bool
    came: str
    remedy: str = ""


def examine(home: Home, data: str | None = None) -> list[Finding]:
    """Looks at everything `mg` stands on; changes nothing."""
    return [*_machine(home), *_packages(), *_database(), *_graph(home, graph_name(data))]


def _machine(home: Home) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python 3.11", sys.version_info[:2] == (3, 11), version, "make setup PYTHON=python3.11")
    place = home.root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    yield Finding(
        "2 GiB free on disk",
        free >= NEEDED_FREE_BYTES,
        f"{free / 2**30:.1f} GiB at {place}",
        "set MG_HOME to another disk",
    )
    yield Finding(
        "home can be written", os.access(place, os.W_OK), str(home.root), "set MG_HOME to a folder of yours"
    )
    memory = psutil.virtual_memory().available
    yield Finding(
        "6 GiB of memory",
        memory >= NEEDED_MEMORY_BYTES,
        f"{memory / 2**30:.1f} GiB available",
        "end other programs",
    )
    with socket.socket() as probe:
        is_taken = probe.connect_ex(("127.0.0.1", 8265)) == 0
    yield Finding(
        "port 8265 is free", not is_taken, "taken" if is_taken else "free", "give --port to serve and demo"
    )


def _packages() -> Iterator[Finding]:
    for name, wanted in _pinned():
        try:
            came = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            came = "not installed"
        yield Finding(f"{name} {wanted}", came.partition("+")[0] == wanted, came, "make setup")


def _pinned() -> Iterator[tuple[str, str]]:
    project = Path(__file__).parent.parent / "pyproject.toml"
    needs = (
        tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
        if project.is_file()
        else []
    )
    for need in needs:
        name, pin, wanted = need.partition("==")
        if pin:
            yield name.partition("[")[0], wanted


def _database() -> Iterator[Finding]:
    uri = os.environ.get("NEO4J_URI")
    if uri:
        from kg.store.bolt import probe

        yield Finding("Neo4j answers", *probe(uri), "check NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD")
    else:
        from kg.store.java import bundled_java

        java = bundled_java()
        yield Finding("embedded database's own Java", java.is_file(), java.name, "make setup")


def _graph(home: Home, name: str) -> Iterator[Finding]:
    from models.store import ModelStore

    try:
        graph = GraphArrays.current(home.arrays(name))
    except ArraysError as error:
        yield Finding(f"graph {name} is exported", False, str(error), "mg demo")
        return
    yield Finding(f"graph {name} is exported", True, graph.hash)
    champion = ModelStore(home.models).alias(name, "champion")
    yield Finding(
        f"graph {name} has a champion", champion is not None, champion.ref if champion else "none", "mg demo"
    )
