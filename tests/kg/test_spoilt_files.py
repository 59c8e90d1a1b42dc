"""Files spoilt on purpose, whole and cut, are read as far as they go and never silently."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg import lines
from kg.records import Node, SourceError
from kg.tables import BadValue, Columns, TableSource, find_file, find_files, moment_ts, number, undated

COLUMNS = Columns({"id": ()}, {"genres": ("listed_in",), "score": ()})


class Plain(TableSource):
    name = "plain"
    reliability = 0.5
    settings: dict = {}

    def records(self):
        for line, row in self.table(self.config, COLUMNS, **self.settings):
            yield from self.tell(self.config, line, self.node, row)

    def node(self, row):
        number(row["score"], "score")
        yield Node("Keyword", f"keyword:{row['id']}", {"name": row["genres"]})


def read(path, raw, **settings):
    path.write_bytes(raw)
    source = Plain(path)
    source.settings = settings
    return source, [(node.id[8:], node.properties["name"]) for node in source.read()]


def test_an_open_quote_takes_one_line_with_it_and_no_other(tmp_path):
    rows = b"".join(b"%d,word %d\n" % (n, n) for n in range(3, 3000))
    source, told = read(tmp_path / "a.csv", b'id,genres\n1,a\n2,"never closed\n' + rows)
    assert [id for id, _ in told] == ["1", *map(str, range(3, 3000))]
    assert [reject.line for reject in source.rejects] == [3]
    source, told = read(tmp_path / "a.csv", b'id,genres\n2,"never closed\n3,b\n4,"c"\n5,"d, e"\n')
    assert [id for id, _ in told] == ["3", "4", "5"] and [r.line for r in source.rejects] == [2]


def test_a_list_split_over_columns_is_joined(tmp_path):
    source, told = read(tmp_path / "a.csv", b"id,genres_1,genres_2,genres_3\n1,Drama,,War\n2,,,\n")
    assert told == [("1", "Drama|War"), ("2", "")]
    assert source.repairs == {"list split over columns joined": 1}


def test_a_table_without_a_header_has_the_width_it_must(tmp_path):
    settings = {"delimiter": "::", "header": ("id", "genres")}
    source, told = read(tmp_path / "a.dat", b'1::it\'s "so"\n2::x\n3\n', **settings)
    assert told == [("1", 'it\'s "so"'), ("2", "x")] and [r.line for r in source.rejects] == [3]
    with pytest.raises(SourceError, match="2 columns without a header: id, genres; got a first row of 1"):
        read(tmp_path / "a.dat", b"1,a\n", **settings)


def test_every_file_is_counted_with_reasons(tmp_path):
    source, _ = read(tmp_path / "a.csv", b"id,score\n1,nine\n2,ten\n3,1e999\n4,nan\n5\n6,\xe9\n")
    count = source.files[tmp_path / "a.csv"]
    assert count.rows == source.rows == 6
    assert count.rejects == {
        "score: a number belongs here: mend the cell or leave it empty": 4,
        "the row has 1 columns, the header 2: mend the line": 1,
    }
    assert count.repairs == {"latin-1 line read": 1}


@pytest.mark.parametrize("size", [1_000_000, 2_000_000])
def test_a_title_of_a_megabyte_is_rejected_and_the_rest_is_read(tmp_path, size):
    source, told = read(tmp_path / "a.csv", b"id,genres\n1," + b"x" * size + b"\n2,y\n")
    assert told == [("2", "y")] and len(source.rejects) == 1 and len(source.rejects[0].value) <= 80


def test_a_file_that_is_one_line_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_LINE_LIMIT", 1000)
    with pytest.raises(SourceError, match="lines of at most 1,000 bytes"):
        read(tmp_path / "a.csv", b"id,genres\n" + b"x" * 2000)


def test_line_ends_of_old_are_named(tmp_path):
    with pytest.raises(SourceError, match="got a carriage return alone behind a line: convert the line ends"):
        read(tmp_path / "a.csv", b"id,genres\r1,a\r2,b\r")
    assert read(tmp_path / "a.csv", b'id,genres\r\n1,"a\rb"\r\n')[1] == [("1", "a\rb")]


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_BOMB_BYTES", 1 << 16)
    bomb = gzip.compress(b"id,genres\n" + b"1,zero\n" * 1_000_000)
    with pytest.raises(SourceError, match="a gzip that unpacks to at most"):
        read(tmp_path / "a.csv.gz", bomb)
    text = "\n".join(f"{n},{n * n % 9973} {n * 31 % 7919}" for n in range(50_000))
    assert len(read(tmp_path / "a.csv.gz", gzip.compress(f"id,genres\n{text}\n".encode()))[1]) == 50_000


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.csv").write_text("id\n1\n")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").symlink_to(tmp_path / "secret.csv")
    import re

    with pytest.raises(SourceError, match="a path inside"):
        find_file(folder, "a.csv")
    with pytest.raises(SourceError, match="a path inside"):
        find_files(folder, re.compile(".*csv"), "*.csv")
    with pytest.raises(SourceError, match="a path inside"):
        find_file(folder, "../secret.csv")


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\x85\u2028\u2029"), max_size=12)


@given(st.lists(st.tuples(CELL, CELL), max_size=20))
def test_rows_come_back_as_they_were_written(tmp_path_factory, pairs):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("id", "genres"), *pairs])
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    path.write_bytes(text.getvalue().encode())
    broken = []
    rows = list(
        lines.rows_of(lines.Lines(path, lambda what: None), ",", lambda line, why: broken.append(line))
    )
    assert rows[1:] == [list(pair) for pair in pairs] and not broken


@given(st.binary(max_size=300))
def test_no_bytes_bring_a_reading_down(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("bytes") / "a.csv"
    source, told = read(path, b"id,genres\n" + raw)
    assert len(told) + len(source.rejects) <= source.rows


def test_moments_and_titles():
    assert moment_ts("2005-04-02T23:53:47", "ts") == 1112486027
    assert undated("22-Jul") == "22 July" and undated("Abc-12") is None and undated("9-1-1") is None
    for text in ("yesterday", "-4", "2005-13-02 23:53:47", "inf"):
        with pytest.raises(BadValue, match="mend"):
            moment_ts(text, "ts")
