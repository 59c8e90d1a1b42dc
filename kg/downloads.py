"""Fetches data sets that may not be passed on, checks them, and keeps only their data.

Nothing that is fetched is installed or run."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from configs.home import Home
from configs.registry import UnknownName

TIMEOUT_S = 180


class OfflineError(RuntimeError):
    """A data set that is not here and cannot be fetched."""


class DownloadError(RuntimeError):
    """A download that is not what it should be."""


@dataclass(frozen=True)
class Download:
    """One data set, the package that carries it, and what its publisher allows."""

    name: str
    what: str
    licence: str
    requirement: str
    """What ``pip download`` is asked for."""
    sha256: str
    files: Mapping[str, str]
    """Path inside the package -> name in the data set's folder."""


_GROUPLENS = (
    "GroupLens Research, University of Minnesota: research use, must be credited (Harper and Konstan, "
    "The MovieLens Datasets, ACM TiiS 5(4), 2015), not to be passed on without permission, no commercial use"
)
_RECBOLE_FOLDER = "recbole/dataset_example/ml-100k"

DOWNLOADS: Mapping[str, Download] = {
    item.name: item
    for item in (
        Download(
            name="movielens-100k",
            what="100,000 ratings of 1,682 films by 943 people, with facts from Freebase",
            licence=_GROUPLENS,
            requirement="recbole==1.2.1",
            sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            files={
                f"{_RECBOLE_FOLDER}/ml-100k.{kind}": f"ml-100k.{kind}"
                for kind in ("inter", "item", "user", "kg", "link")
            },
        ),
    )
}
"""Data sets that can be fetched, by name."""

Fetch = Callable[[str, Path], None]


def get(
    name: str, home: Home, progress: Callable[[str], None] | None = None, fetch: Fetch | None = None
) -> Path:
    """The folder of a data set; fetches it once, checks its SHA-256 and keeps its data files only.

    Args:
        name: a name of :data:`DOWNLOADS`.
        home: the folder becomes ``home.data / name``, written aside and then renamed.
        progress: told what happens.
        fetch: gets a requirement into a folder; None asks pip.

    Raises:
        UnknownName: no such data set.
        OfflineError: it cannot be fetched.
        DownloadError: what came is not what was expected.
    """
    if name not in DOWNLOADS:
        raise UnknownName(f"no data set is called {name!r}; nearest: {', '.join(sorted(DOWNLOADS))}")
    item, folder = DOWNLOADS[name], home.data / name
    if all((folder / file).is_file() for file in item.files.values()):
        return folder
    tell = progress or (lambda _: None)
    home.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.data, prefix=f".{name}.") as scratch:
        tell(f"fetching {item.requirement}")
        (fetch or _pip_download)(item.requirement, Path(scratch))
        package = _only_package(Path(scratch), item)
        tell("checking")
        _check(package, item)
        _publish(package, item, folder)
    return folder


def _pip_download(requirement: str, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--quiet", "--only-binary", ":all:", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OfflineError(_offline(requirement, str(error))) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise OfflineError(_offline(requirement, said[-1] if said else f"exit code {done.returncode}"))


def _offline(requirement: str, came: str) -> str:
    return (
        f"pip must be able to download {requirement} from a package registry; it said: {came}. "
        "Connect to one (pip's usual settings hold) and try again, or give --data a folder or the name world"
    )


def _only_package(scratch: Path, item: Download) -> Path:
    found = sorted(scratch.glob("*.whl"))
    if len(found) != 1:
        raise DownloadError(
            f"{item.requirement} must come as one wheel, got {[path.name for path in found]}: "
            "check which package registry pip asks"
        )
    return found[0]


def _check(package: Path, item: Download) -> None:
    with package.open("rb") as file:
        came = hashlib.file_digest(file, "sha256").hexdigest()
    if came != item.sha256:
        raise DownloadError(
            f"{package.name} must have the SHA-256 {item.sha256}, got {came}: it is not the file that was "
            "published; nothing of it was kept; check which package registry pip asks"
        )


def _publish(package: Path, item: Download, folder: Path) -> None:
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    aside.mkdir()
    try:
        with zipfile.ZipFile(package) as wheel:
            for inside, name in item.files.items():
                with wheel.open(inside) as source, (aside / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
        (aside / "LICENCE.txt").write_text(item.licence + "\n", encoding="utf-8")
        if folder.exists():  # half a folder of an older try
            shutil.rmtree(folder)
        aside.rename(folder)
    except (OSError, KeyError, zipfile.BadZipFile):
        shutil.rmtree(aside, ignore_errors=True)
        if not all((folder / file).is_file() for file in item.files.values()):
            raise  # else another process was first, and its folder is whole
