"""Tables in the states that real files come in."""

import gzip

import pytest

from kg.records import Node, SourceError
from kg.tables import BadValue, Columns, TableSource, integer, iso_date, number, parsed, words

COLUMNS = Columns({"id": ("title_id",), "name": ("title",)}, {"country": ()})


class Plain(TableSource):
    name = "plain"
    reliability = 0.5

    def records(self):
        for line, row in self.table(self.config, COLUMNS, drops_repeats=True):
            yield from self.tell(self.config, line, lambda row: [self.node(row)], row)

    def node(self, row):
        if row["id"] == "bad":
            raise BadValue("id", "bad", "mend it")
        return Node("Keyword", f"keyword:{row['id']}", {"name": row["name"], "parent": row["country"]})


def read(tmp_path, raw, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(raw)
    source = Plain(path)
    return source, [
        (node.id[8:], node.properties["name"], node.properties["parent"]) for node in source.read()
    ]


def test_byte_order_mark_line_ends_and_synonyms(tmp_path):
    source, rows = read(tmp_path, b"\xef\xbb\xbfTitle ID,title,Country\r\n1,Caf\xc3\xa9,NA\r\n")
    assert rows == [("1", "Café", "NA")]
    assert source.repairs == {"byte order mark left out": 1}


def test_latin_1_beside_utf_8(tmp_path):
    source, rows = read(tmp_path, b"id,name\n1,Caf\xe9\n2,Caf\xc3\xa9\n")
    assert [name for _, name, _ in rows] == ["Café", "Café"]
    assert source.repairs == {"latin-1 line read": 1}


def test_repeated_rows_quotes_and_blank_lines(tmp_path):
    source, rows = read(tmp_path, b'id,name,country\n1,"A ""b"", c\nd",DE\n\n1,"A ""b"", c\nd",DE\n')
    assert rows == [("1", 'A "b", c\nd', "DE")]
    assert source.repairs == {"repeated row left out": 1} and source.rows == 2


def test_a_bad_row_is_rejected_with_its_place_and_the_rest_is_read(tmp_path):
    source, rows = read(tmp_path, b'id,name\nbad,x\n2\n3,y,z\n4,"a"b\n5,fine\n')
    assert [row[0] for row in rows] == ["5"]
    assert [(reject.line, reject.column) for reject in source.rejects] == [
        (2, "id"),
        (3, ""),
        (4, ""),
        (5, ""),
    ]
    assert all(reject.file == "table.csv" and reject.remedy for reject in source.rejects)


def test_an_open_quote_at_the_end_is_rejected(tmp_path):
    source, rows = read(tmp_path, b'id,name\n1,a\n2,"cut off')
    assert [row[0] for row in rows] == ["1"] and len(source.rejects) == 1


def test_gzip_whole_and_cut_off(tmp_path):
    raw = gzip.compress(b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n * n) for n in range(5000)))
    assert len(read(tmp_path, raw, "table.csv.gz")[1]) == 5000
    with pytest.raises(SourceError, match="breaks off after line"):
        read(tmp_path, raw[: len(raw) // 2], "table.csv.gz")
    with pytest.raises(SourceError, match="whole gzip"):
        read(tmp_path, b"id,name\n1,a\n", "table.csv.gz")


@pytest.mark.parametrize("raw", [b"", b"id,nome\n1,a\n"])
def test_a_header_that_does_not_fit_says_what_was_expected(tmp_path, raw):
    with pytest.raises(SourceError, match="columns id, name"):
        read(tmp_path, raw)


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        list(Plain(tmp_path / "none.csv").read())


def test_a_node_of_a_rejected_row_is_told_by_the_next_one(tmp_path):
    class Careful(Plain):
        def records(self):
            for line, row in self.table(self.config, COLUMNS):
                yield from self.tell(self.config, line, self.read_row, row)

        def read_row(self, row):
            if self.is_new("keyword:shared"):
                yield Node("Keyword", "keyword:shared")
            if row["id"] == "bad":
                raise BadValue("id", "bad", "mend it")

    path = tmp_path / "table.csv"
    path.write_bytes(b"id,name\nbad,x\n1,y\n2,z\n")
    assert [node.id for node in Careful(path).read()] == ["keyword:shared"]


def test_cells():
    assert integer("26.0", "seasons") == 26 and integer("", "seasons") is None
    assert number("nan", "score") is None and number("7.5", "score") == 7.5
    assert iso_date("", "day") is None
    assert parsed('[{"a": 1}]', "x") == [{"a": 1}] and parsed("", "x") == [] and words("[]", "x") == []
    for read_cell, text in (
        (integer, "2.5"),
        (number, "many"),
        (number, "inf"),
        (iso_date, "soon"),
        (parsed, "[1,"),
    ):
        with pytest.raises(BadValue, match="mend"):
            read_cell(text, "cell")


@pytest.mark.parametrize("text", ["2015-08-13", "August 13, 2015", "13.08.2015", "08/13/2015", "13-Aug-2015"])
def test_dates_in_every_form_are_one_day(text):
    assert iso_date(text, "day") == "2015-08-13"
