"""The benchmark of RDF measures both sides on the same triples, and sees whether the records came back."""

import apps.bench.rdf as bench


def test_every_format_is_measured_and_comes_back():
    found = bench.measure(5_000, 1, tuple(bench.ENDINGS), lambda words: None)
    assert found.is_same and 2_000 < found.triples < 20_000
    steps = [(row.format, row.what) for row in found.rows]
    assert steps == [(f, w) for f in bench.ENDINGS for w in ("write", "parse", "read as records")]
    assert all(
        row.ours_s > 0 and (row.ratio is None) == (row.what == "read as records") for row in found.rows
    )


def test_only_n_triples_are_held_to_the_bars():
    found = bench.measure(2_000, 1, ("ntriples",), lambda words: None)
    assert [row.bar_s for row in found.rows] == [6.0, 3.0, None]


def test_a_record_that_is_lost_is_seen(monkeypatch):
    whole = bench._records
    monkeypatch.setattr(bench, "_records", lambda path: list(whole(path))[1:])
    assert not bench.measure(2_000, 1, ("ntriples",), lambda words: None).is_same
