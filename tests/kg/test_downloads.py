"""Downloads are checked, kept whole or not at all, and fail with a remedy."""

import dataclasses
import hashlib
import zipfile

import pytest

import kg.downloads as downloads
from configs.home import Home
from configs.registry import UnknownName
from kg.downloads import DOWNLOADS, DownloadError, OfflineError, get

NAME = "movielens-100k"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of our own with the same files inside, and its hash in the registry."""
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside in DOWNLOADS[NAME].files:
            wheel.writestr(inside, f"content of {inside}")
        wheel.writestr("recbole/evil.py", "raise SystemExit")
    item = dataclasses.replace(DOWNLOADS[NAME], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(downloads, "DOWNLOADS", {NAME: item})
    return path


def fetch_of(path):
    def fetch(requirement, folder):
        assert requirement == "recbole==1.2.1"
        (folder / path.name).write_bytes(path.read_bytes())

    return fetch


def test_only_the_data_is_kept_and_fetched_once(package, tmp_path):
    home, said = Home(tmp_path / "home"), []
    folder = get(NAME, home, said.append, fetch_of(package))
    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENCE.txt",
        *(f"ml-100k.{kind}" for kind in ("inter", "item", "kg", "link", "user")),
    ]
    assert [path.name for path in home.data.iterdir()] == [NAME]  # nothing lies aside
    assert said and get(NAME, home, fetch=None) == folder  # no second fetch


def test_another_file_than_the_published_one_is_refused(package, tmp_path):
    home = Home(tmp_path / "home")
    raw = bytearray(package.read_bytes())
    raw[100] ^= 1
    package.write_bytes(raw)
    with pytest.raises(DownloadError, match="SHA-256"):
        get(NAME, home, fetch=fetch_of(package))
    assert not list(home.data.iterdir())


def test_no_network(tmp_path, monkeypatch):
    def offline(requirement, folder):
        raise OfflineError(downloads._offline(requirement, "no route to host"))

    with pytest.raises(OfflineError, match=r"download recbole==1\.2\.1.*no route to host.*--data"):
        get(NAME, Home(tmp_path), fetch=offline)
    assert not list((tmp_path / "data").iterdir())


def test_pip_that_cannot_reach_anything(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(OfflineError, match="pip must be able to download"):
        get(NAME, Home(tmp_path))


def test_half_a_folder_is_fetched_again(package, tmp_path):
    home = Home(tmp_path / "home")
    (home.data / NAME).mkdir(parents=True)
    (home.data / NAME / "ml-100k.inter").write_text("half")
    folder = get(NAME, home, fetch=fetch_of(package))
    assert (folder / "ml-100k.inter").read_text().startswith("content of")


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(UnknownName, match="movielens-100k"):
        get("movielens-1m", Home(tmp_path))


def test_every_download_states_its_licence():
    assert all(item.licence and item.what and len(item.sha256) == 64 for item in DOWNLOADS.values())
