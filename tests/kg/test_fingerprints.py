"""The same import once more is known by its files, settings and code, and is not read again."""

from pathlib import Path

import pytest

from kg.fingerprints import fingerprint
from kg.ingest import ImportRefused, ingest
from kg.records import Node, Reject
from kg.sources.movielens import MovieLens, MovieLensConfig
from kg.sources.world import WorldSource
from kg.store.embedded import EmbeddedStore
from kg.worlds import WorldConfig

SMALL = WorldConfig(users=6, contents=12, groups=2, ratings_per_user=3)


class Heir(WorldSource):
    """May tell anything."""


def test_a_fingerprint_follows_files_settings_key_and_what_is_said(tmp_path, monkeypatch):
    def of(said=()) -> str | None:
        return fingerprint([MovieLens(MovieLensConfig(tmp_path))], said)

    (tmp_path / "movies.csv").write_text("movieId,title,genres\n")
    seen = [of()]
    assert seen[0] is not None and of() == seen[0]
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,Heat (1995),Crime\n")
    seen.append(of())
    (tmp_path / "tags.csv").write_text("")
    seen.append(of())
    seen.append(of([("a", "b")]))
    monkeypatch.setenv("MG_USER_KEY", "another")
    seen.append(of())
    seen.append(fingerprint([MovieLens(MovieLensConfig(tmp_path, top_rating=10))], ()))
    assert len(set(seen)) == len(seen)


def test_a_source_that_does_not_say_so_itself_has_none():
    assert fingerprint([WorldSource(SMALL)], ()) != fingerprint([WorldSource(SMALL)] * 2, ()) is not None
    assert fingerprint([WorldSource(SMALL), Heir(SMALL)], ()) is None


def test_the_same_import_once_more_reads_nothing_until_somebody_writes(tmp_path, monkeypatch):
    read = []
    records = WorldSource.records
    monkeypatch.setattr(WorldSource, "records", lambda source: read.append(1) or records(source))

    def again(folder: Path = tmp_path / "imports", config: WorldConfig = SMALL, share: float = 0.01):
        read.clear()
        return ingest([WorldSource(config)], store, folder, share)

    with EmbeddedStore(tmp_path / "db", "g") as store:
        first = again()
        assert read == [1] and first.written == first.nodes + first.hyperedges
        second = again()
        assert read == [] and (second.written, second.unchanged) == (0, first.written)
        assert (second.counts, second.rows, second.repairs) == (first.counts, first.rows, first.repairs)
        assert again(config=WorldConfig(users=6, contents=12, groups=2, ratings_per_user=4)).written > 0
        assert read == [1]  # other settings; and that wrote
        assert again().written == 0 and read == [1]
    with EmbeddedStore(tmp_path / "other", "g") as store:
        again(tmp_path / "others")
        user = next(store.nodes("User"))
        store.erase(user.id)
        back = again(tmp_path / "others")
        assert read == [1] and back.written > 1 and user in store.nodes("User")


def test_a_share_that_is_stricter_now_is_heeded(tmp_path, monkeypatch):
    def spoilt(source):
        source.rows, source.rejects = 100, [Reject("f", 1, "", "", "mend it")]
        yield Node("User", "user:a")

    monkeypatch.setattr(WorldSource, "records", spoilt)
    with EmbeddedStore(tmp_path / "db", "g") as store:
        ingest([WorldSource(SMALL)], store, tmp_path, 0.01)
        assert ingest([WorldSource(SMALL)], store, tmp_path, 0.01).written == 0
        with pytest.raises(ImportRefused):
            ingest([WorldSource(SMALL)], store, tmp_path, 0.001)
