"""What the catalogues without identifiers and the larger MovieLens releases tell of small folders."""

import shutil
from pathlib import Path

import pytest

import kg.datasets  # noqa: F401 - registers the sources
from kg.privacy import user_id
from kg.records import Hyperedge, Node
from kg.sources import sources
from kg.windows import DAY_S, day_ts

DATA = Path(__file__).parents[1] / "data" / "sources"


def told(name, folder=None, **settings):
    source = sources.build(name, {"folder": folder or DATA / name, **settings})
    nodes, facts = {}, []
    for record in source.read():
        if isinstance(record, Node):
            nodes.setdefault(record.id, record)
        elif isinstance(record, Hyperedge):
            facts.append(record)
    return source, nodes, facts


def pairs(facts, type):
    return {tuple(id for ids in f.members.values() for id in ids) for f in facts if f.type == type}


LIGHTHOUSE = "content:title:movie:1995:the-lighthouse"


def test_catalogue_2021():
    source, nodes, facts = told("catalogue_2021")
    starts = {
        (f.members["content"][0], f.members["platform"][0]): f.start_ts
        for f in facts
        if f.type == "AVAILABLE"
    }
    assert starts[LIGHTHOUSE, "platform:netflix"] == day_ts("2021-09-25")
    assert starts[LIGHTHOUSE, "platform:hulu"] == day_ts("2021-10-24")  # when it was collected
    assert starts["content:title:series:2010:harbour-watch", "platform:netflix"] == day_ts("2020-03-01")
    spoilt = nodes["content:title:movie:2019:15-aug"].properties
    assert spoilt["title"] == "15-Aug" and spoilt["alternate_titles"] == ("15 August",)
    assert spoilt["runtime_minutes"] == 74 and "maturity_rating" not in spoilt
    assert nodes["content:title:series:2010:harbour-watch"].properties["seasons"] == 2
    assert ("content:title:series:2010:harbour-watch", "region:KR") in pairs(facts, "MADE_IN")
    assert (LIGHTHOUSE, "region:SU") in pairs(facts, "MADE_IN")
    assert pairs(facts, "DIRECTED") == {("person:name:ada-keel", LIGHTHOUSE)}
    assert source.repairs["duration found in the rating column"] == 2
    assert (
        source.repairs["repeated title left out"]
        == source.repairs["country that we do not know left out"]
        == 1
    )


def test_platform_flags():
    source, nodes, facts = told("platform_flags")
    windows = {
        (f.members["content"][0], f.members["platform"][0], f.start_ts, f.end_ts)
        for f in facts
        if f.type == "AVAILABLE"
    }
    older, newer = day_ts("2020-01-01"), day_ts("2021-01-01")
    assert windows == {
        (LIGHTHOUSE, "platform:netflix", older, newer),
        (LIGHTHOUSE, "platform:amazon-prime", older, newer),
        ("content:title:movie:2018:22-jul", "platform:disney-plus", older, newer),
        (LIGHTHOUSE, "platform:netflix", newer, None),
    }
    assert pairs(facts, "SPOKEN_IN") == {(LIGHTHOUSE, "language:en"), (LIGHTHOUSE, "language:zh")}
    assert (LIGHTHOUSE, "region:NA") in pairs(facts, "MADE_IN")


def test_netflix_top10():
    source, nodes, facts = told("netflix_top10")
    weeks = {
        (f.members["content"][0], f.members["region"][0], f.start_ts, f.end_ts)
        for f in facts
        if f.type == "AVAILABLE"
    }
    film, show = "content:title:movie::the-lighthouse", "content:title:series::harbour-watch"
    monday = day_ts("2022-01-17")
    assert weeks == {
        (film, "region:NA", monday, monday + 7 * DAY_S),
        (film, "region:NA", monday - 7 * DAY_S, monday),
        (show, "region:NA", monday, monday + 7 * DAY_S),
        (show, "region:ZZ", monday, monday + 7 * DAY_S),
        (film, "region:ZZ", day_ts("2026-07-13"), day_ts("2026-07-20")),
    }
    assert nodes[film].properties["popularity"] == 11_100_000 and nodes[show].properties["popularity"] == 5000
    assert len(pairs(facts, "HAS_SEASON")) == 2
    assert source.repairs["title listed more than once a week told once"] == 1


def test_movielens_with_colons():
    source, nodes, facts = told("movielens_classic")
    assert nodes["content:movielens:2"].properties["title"] == "The Café of Doors"
    assert nodes[user_id("movielens", "2")].properties["age_band"] == "55 and over"
    rated = {(f.members["content"][0], f.properties["rating"]) for f in facts if f.type == "RATED"}
    assert rated == {
        ("content:movielens:1", 8.0),
        ("content:movielens:2", 10.0),
        ("content:movielens:1", 6.0),
    }
    assert len(pairs(facts, "TAGGED")) == 1 and source.repairs == {"latin-1 line read": 1}
    assert not any("48067" in str(node) for node in nodes.values())


def test_movielens_100k_as_published(tmp_path):
    flags = "|".join("1" if place in (8, 15) else "0" for place in range(19))
    (tmp_path / "u.item").write_bytes(f"1|Caf\xe9 Noir (1995)|01-Jan-1995||http|{flags}\n".encode("latin-1"))
    (tmp_path / "u.data").write_text("196\t1\t3\t881250949\n186\t2\t3\t891717742\n")
    (tmp_path / "u.user").write_text("196|24|M|technician|85711\n")
    source, nodes, facts = told("movielens_classic", tmp_path)
    assert pairs(facts, "BELONGS_TO") == {
        ("content:ml100k:1", "genre:drama"),
        ("content:ml100k:1", "genre:science-fiction"),
    }
    assert [reject.column for reject in source.rejects] == ["movieId"]
    assert nodes[user_id("ml100k", "196")].properties["age_band"] == "18-24"


def test_the_tag_genome_and_written_moments(tmp_path):
    for path in (DATA / "movielens").iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "ratings.csv").write_text('userId,movieId,rating,timestamp\n1,1,4.0,"2000-07-30 18:45:03"\n')
    (tmp_path / "genome-tags.csv").write_text("tagId,tag\n1,sea storm\n2,007\n")
    (tmp_path / "genome-scores.csv").write_text(
        "movieId,tagId,relevance\n1,1,0.9\n1,2,0.1\n1,9,0.9\n2,1,nine\n"
    )
    source, _, facts = told("movielens", tmp_path)
    assert [f.start_ts for f in facts if f.type == "RATED"] == [964982703]
    assert pairs(facts, "HAS_KEYWORD") == {("content:movielens:1", "keyword:sea-storm")}
    assert [reject.column for reject in source.rejects] == ["tagId", "relevance"]


@pytest.mark.parametrize(
    ("name", "file", "spoilt", "column"),
    [
        ("catalogue_2021", "hulu_titles.csv", "s9,Play,X,,,,,1995,,1 min,Drama,", "type"),
        ("catalogue_2021", "hulu_titles.csv", "s9,Movie,X,,,,soon,1995,,1 min,Drama,", "date_added"),
        ("catalogue_2021", "hulu_titles.csv", "s9,Movie,X,,,,,1995,,long,Drama,", "duration"),
        ("catalogue_2021", "hulu_titles.csv", f"s9,Movie,{'x' * 2000},,,,,1995,,1 min,Drama,", "title"),
        ("platform_flags", "MoviesOnStreamingPlatforms.csv", "1,2,X,1999,,,yes,0,0,0,0", "Netflix"),
        ("platform_flags", "MoviesOnStreamingPlatforms.csv", "1,2,X,inf,,,1,0,0,0,0", "Year"),
        ("netflix_top10", "all-weeks-global.tsv", "2022-01-23\tPlays\t1\tX\tN/A\t1\t1\t1\t1", "category"),
        ("netflix_top10", "all-weeks-global.tsv", "2022-01-23\tFilms\t11\tX\tN/A\t1\t1\t1\t1", "weekly_rank"),
        ("movielens_classic", "ratings.dat", "1::1::9::964982703", "rating"),
    ],
)
def test_a_spoilt_row_is_rejected_with_its_place_and_the_rest_is_read(tmp_path, name, file, spoilt, column):
    folder = tmp_path / name
    shutil.copytree(DATA / name, folder)
    whole = len(list(sources.build(name, {"folder": folder}).read()))
    with (folder / file).open("a") as opened:
        opened.write(spoilt + "\n")
    source = sources.build(name, {"folder": folder})
    assert len(list(source.read())) == whole
    assert [(r.file, r.column, len(r.value) <= 80) for r in source.rejects] == [(file, column, True)]
