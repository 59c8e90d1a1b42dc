"""Data sets are opened by name or folder; the real ones join as far as their files allow."""

import re
import shutil
from pathlib import Path

import pytest

from configs.home import Home
from configs.loading import ROOT, load
from kg.datasets import build, graph_name, join_counts, open_dataset
from kg.feedback import FeedbackEvent, FeedbackLog
from kg.records import Node, SourceError

DATA = Path(__file__).parents[1] / "data" / "sources"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_the_world_needs_nothing(tmp_path):
    dataset = open_dataset("world", Home(tmp_path))
    assert dataset.name == "world" and dataset.is_simulated_availability
    assert any(isinstance(record, Node) for record in dataset.sources[0].read())
    assert not list(tmp_path.iterdir())


def test_a_folder_of_atomic_files(tmp_path):
    dataset = open_dataset(DATA / "recbole", Home(tmp_path))
    assert dataset.name == "sea"
    assert [source.name for source in dataset.sources] == ["recbole", "simulated"]
    assert dataset.positive_rating == 8 and dataset.subscriptions[0].startswith("platform:")


def test_movielens_100k_is_read_with_its_links_renumbered(tmp_path):
    for path in (DATA / "recbole").iterdir():
        shutil.copy(path, tmp_path / path.name.replace("sea", "ml-100k"))
    assert graph_name(tmp_path) == "movielens-100k"
    dataset = open_dataset(tmp_path, Home(tmp_path))
    contents = [
        record
        for record in dataset.sources[0].read()
        if isinstance(record, Node) and record.type == "Content"
    ]
    assert [node.ids.get("freebase") for node in contents] == [
        "m.01",
        None,
        None,
    ]  # film 2 of later releases: Jumanji


def test_a_folder_laid_out_as_streaming(tmp_path):
    for name, place in (
        ("movielens", "ml-latest-small"),
        ("justwatch", "streaming-catalogues/justwatch-us"),
        ("availability_by_country", "streaming-catalogues/availability-by-country"),
        ("tmdb", "tmdb-5000"),
    ):
        shutil.copytree(DATA / name, tmp_path / place)
    dataset = open_dataset(tmp_path, Home(tmp_path))
    assert dataset.name == "streaming" and not dataset.is_simulated_availability
    assert join_counts(dataset.sources) == {
        "films": 3,
        "catalogue": 1,
        "credits": 1,
        "country": 1,
        "platform": 2,
        "plot": 1,
    }


@pytest.mark.parametrize("data", ["movielens-1m", "nowhere/at/all", __file__])
def test_neither_a_name_nor_a_folder(data, tmp_path):
    with pytest.raises(SourceError, match="movielens-100k, world, streaming or a folder"):
        open_dataset(data, Home(tmp_path))


def test_a_folder_without_the_files_lists_what_was_expected(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="ml-latest-small/movies.csv.*notes.txt"):
        open_dataset(tmp_path, Home(tmp_path))


def test_the_name_of_a_graph_is_known_without_its_data():
    assert graph_name(None) == graph_name("movielens-100k") == "movielens-100k"
    assert graph_name("world") == "world"


@pytest.mark.parametrize("path", sorted((ROOT / "graph").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_setting_builds(path, tmp_path):
    settings = load(path)
    for pattern in settings.get("files", ()):
        file = tmp_path / re.sub(r"[*]", "x", pattern)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    dataset = build(settings, tmp_path)
    assert dataset.name == path.stem and dataset.sources and dataset.licence and dataset.note


@pytest.mark.skipif(not SHARED.is_dir(), reason="the streaming data is not beside this checkout")
def test_the_real_files_join_as_far_as_counted(tmp_path):
    dataset = open_dataset(SHARED, Home(tmp_path))
    counted = {
        "films": 9742,
        "catalogue": 2658,
        "credits": 2502,
        "country": 3721,
        "platform": 5372,
        "plot": 4897,
    }
    came = join_counts(dataset.sources)
    assert came == {what: pytest.approx(count, rel=0.01) for what, count in counted.items()}
    assert all(len(source.rejects) <= 0.001 * source.rows for source in dataset.sources)


def test_feedback_comes_back_as_the_last_source(tmp_path):
    home = Home(tmp_path)
    assert "feedback" not in [source.name for source in open_dataset("world", home).sources]
    log = FeedbackLog(home.feedback("world"))
    log.append(FeedbackEvent("user:a", "content:b", "like", key="k", ts=7))
    log.close()
    last = open_dataset("world", home).sources[-1]
    assert last.name == "feedback"
    assert [record.type for record in last.read()] == ["User", "RATED"]


def test_a_graph_may_be_named_where_its_sources_may_not(tmp_path):
    assert graph_name("streaming") == "streaming"
    with pytest.raises(SourceError, match="give the folder"):
        open_dataset("streaming", Home(tmp_path))


def test_a_folder_of_a_source_that_leads_out_of_the_data_is_refused(tmp_path):
    data = tmp_path / "data"
    for name, place in (
        ("justwatch", "streaming-catalogues/justwatch-us"),
        ("availability_by_country", "streaming-catalogues/availability-by-country"),
        ("tmdb", "tmdb-5000"),
    ):
        shutil.copytree(DATA / name, data / place)
    shutil.copytree(DATA / "movielens", tmp_path / "elsewhere")
    (data / "ml-latest-small").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(SourceError, match="ml-latest-small: a path inside"):
        open_dataset(data, Home(tmp_path))
    link = tmp_path / "link"
    link.symlink_to(data, target_is_directory=True)
    (data / "ml-latest-small").unlink()
    shutil.copytree(DATA / "movielens", data / "ml-latest-small")
    open_dataset(link, Home(tmp_path))  # the folder itself may be named by a link
