"""Data sets opened by a setting's name, and every file of them counted."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from apps.cli import app
from configs.home import Home
from kg.datasets import build, graph_name, open_dataset
from kg.file_counts import count_files, unread_files
from kg.records import SourceError

DATA = Path(__file__).parents[1] / "data" / "sources"
PLACES = {
    "movielens": "ml-latest-small",
    "justwatch": "streaming-catalogues/justwatch-us",
    "availability_by_country": "streaming-catalogues/availability-by-country",
    "catalogue_2021": "streaming-catalogues/catalogue-2021",
    "platform_flags": "streaming-catalogues/platform-flags",
    "netflix_top10": "streaming-catalogues/netflix-top10",
    "tmdb": "tmdb-5000",
}


@pytest.fixture
def folder(tmp_path):
    for name, place in PLACES.items():
        shutil.copytree(DATA / name, tmp_path / "data" / place)
    return tmp_path / "data"


def test_a_setting_is_opened_by_name_and_folder(folder, tmp_path):
    data = f"catalogues@{folder}"
    assert graph_name(data) == "catalogues"
    opened = open_dataset(data, Home(tmp_path))
    assert [source.name for source in opened.sources] == [
        *("movielens", "justwatch", "tmdb", "availability_by_country"),
        *("catalogue_2021", "platform_flags", "netflix_top10"),
    ]
    classic = open_dataset(f"movielens-classic@{DATA / 'movielens_classic'}", Home(tmp_path))
    assert classic.is_simulated_availability and list(classic.sources[1].read())
    with pytest.raises(SourceError, match="names an existing folder"):
        open_dataset("catalogues@nowhere", Home(tmp_path))
    with pytest.raises(SourceError, match="a folder"):
        graph_name("../graph/catalogues@x")


def test_an_api_is_opened_by_its_name_and_keeps_its_replies_at_home(tmp_path, monkeypatch):
    monkeypatch.delenv("TMDB_API_TOKEN", raising=False)
    opened = open_dataset("tmdb-api", Home(tmp_path))
    with pytest.raises(SourceError, match=f"{tmp_path}/data/tmdb-api.*TMDB_API_TOKEN must hold a key"):
        list(opened.sources[0].read())
    shutil.copytree(DATA / "tmdb_api", tmp_path / "data" / "tmdb-api")
    assert list(opened.sources[0].read())


@pytest.mark.parametrize("leaving", ["..", "a/../../b", "/etc"])
def test_a_source_may_not_leave_the_data_folder(tmp_path, leaving):
    part = {"name": "movielens", "settings": {"folder": leaving}}
    with pytest.raises(SourceError, match="a folder inside"):
        build({"name": "x", "sources": [part]}, tmp_path)


def test_every_file_is_counted_and_none_is_forgotten(folder, tmp_path):
    (folder / "tmdb-5000" / "notes.csv").write_text("a\n1\n")
    with (folder / "ml-latest-small" / "ratings.csv").open("a") as file:
        file.write("1,1,nine,964982703\n")
    reports = count_files(open_dataset(f"catalogues@{folder}", Home(tmp_path)).sources, folder)
    assert unread_files(reports, folder, (".csv", ".tsv")) == ["tmdb-5000/notes.csv"]
    found = {report.file: report for report in reports}
    spoilt = found["ml-latest-small/ratings.csv"]
    assert (spoilt.rows, spoilt.rejected) == (5, 1)
    assert spoilt.rejects == {"rating: a number belongs here: mend the cell or leave it empty": 1}
    hulu = found["streaming-catalogues/catalogue-2021/hulu_titles.csv"]
    assert hulu.rows == 1 and hulu.repaired == sum(hulu.repairs.values()) == 2


def test_the_command_prints_counts_and_reasons_but_no_data(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MG_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(app, ["data", "table", "--data", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert len(answer["files"]) == sum(len(list((DATA / name).iterdir())) for name in PLACES)
    assert answer["unread"] == [] and "Lighthouse" not in done.stdout


def test_the_list_shows_licence_checksum_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MG_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(app, ["data", "list", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert all(row["licence"] and row["what"] and row["how"] for row in rows.values())
    assert rows["movielens-100k"]["how"] == "mg data get movielens-100k"
    assert len(rows["movielens-100k"]["sha256"]) == 64
    assert rows["catalogues"]["how"] == "--data catalogues@FOLDER"
    assert "key" in rows["tmdb-api"]["how"]
