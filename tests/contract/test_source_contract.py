"""What every registered source must keep, whatever it reads.

A source that reads files has a small folder of its own under tests/data/sources/NAME."""

import dataclasses
import shutil
from pathlib import Path

import pytest

import kg.datasets  # noqa: F401 - registers the sources
from kg import schema
from kg.records import Hyperedge, Node, SourceError
from kg.sources import sources

DATA = Path(__file__).parents[1] / "data" / "sources"


def settings_of(name: str, folder: Path = DATA) -> dict:
    config = sources.config_of(name)
    required = [
        field.name
        for field in dataclasses.fields(config)
        if field.default is field.default_factory is dataclasses.MISSING
    ]
    if not required:
        return {}
    if required == ["folder"]:
        if not (folder / name).is_dir():
            pytest.fail(f"write a small example of {name}'s files into tests/data/sources/{name}")
        return {"folder": folder / name}
    pytest.skip(f"{name} needs {required}: its own test makes them")


def files_of(name: str) -> list[Path]:
    return sorted((DATA / name).glob("*")) if (DATA / name).is_dir() else []


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that could ask an API has its files alone here, whatever the environment holds."""
    for name in sources:
        if (key := getattr(sources[name], "key", None)) is not None:
            monkeypatch.delenv(key.variable, raising=False)


FILES = [(name, path.name) for name in sources for path in files_of(name)]


@pytest.mark.parametrize("name", list(sources))
def test_tells_the_same_twice(name):
    source = sources.build(name, settings_of(name))
    first, counts = list(source.read()), (source.rows, list(source.rejects), dict(source.repairs))
    assert list(source.read()) == first
    assert (source.rows, source.rejects, source.repairs) == counts
    assert first and source.rows > 0


@pytest.mark.parametrize("name", list(sources))
def test_says_who_it_is(name):
    source = sources.build(name, settings_of(name))
    assert source.name == name
    assert 0 < source.reliability <= 1
    for record in source.read():
        if isinstance(record, Hyperedge):
            assert record.source == name


@pytest.mark.parametrize("name", list(sources))
def test_tells_nodes_before_the_facts_that_name_them(name):
    source = sources.build(name, settings_of(name))
    told = {record.id for record in source.read() if isinstance(record, Node)}
    reached = 0
    seen: set[str] = set()
    for record in source.read():
        if isinstance(record, Node):
            seen.add(record.id)
        else:
            reached += 1
            for members in record.members.values():
                assert set(members) <= seen, f"{record} names a node that was not told yet"
    assert reached and told == seen


@pytest.mark.parametrize("name", list(sources))
def test_facts_have_ids_of_their_own(name):
    facts = [r for r in sources.build(name, settings_of(name)).read() if isinstance(r, Hyperedge)]
    by_id = {}
    for fact in facts:
        assert by_id.setdefault(fact.id, fact) == fact, "two facts that differ share an id"


@pytest.mark.parametrize("name", list(sources))
def test_people_stay_unknown(name):
    for record in sources.build(name, settings_of(name)).read():
        if isinstance(record, Node) and record.type == "User":
            assert set(record.properties) <= set(schema.NODES["User"].columns) - {"ids"}


@pytest.mark.parametrize(("name", "file"), FILES)
def test_half_a_file_is_refused_or_counted(name, file, tmp_path):
    shutil.copytree(DATA / name, tmp_path / name)
    path = tmp_path / name / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 5])
    source = sources.build(name, settings_of(name, tmp_path))
    untouched = sources.build(name, settings_of(name))
    rows = len(list(untouched.read()))
    try:
        told = len(list(source.read()))
    except SourceError as error:
        assert file in str(error)
        return
    assert source.rejects or source.repairs != untouched.repairs or told < rows


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_header_that_does_not_fit_is_refused(name, file, tmp_path):
    shutil.copytree(DATA / name, tmp_path / name)
    path = tmp_path / name / file
    _, *rows = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([b"some,thing\telse", *rows]))
    with pytest.raises(SourceError, match="columns"):
        list(sources.build(name, settings_of(name, tmp_path)).read())


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_link_that_leads_out_of_the_folder_is_refused(name, file, tmp_path):
    shutil.copytree(DATA / name, tmp_path / name)
    (tmp_path / name / file).rename(tmp_path / file)
    (tmp_path / name / file).symlink_to(tmp_path / file)
    with pytest.raises(SourceError, match="a path inside"):
        list(sources.build(name, settings_of(name, tmp_path)).read())


@pytest.mark.parametrize("name", sorted({name for name, _ in FILES}))
def test_a_folder_that_is_not_there_is_refused(name, tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        list(sources.build(name, {"folder": tmp_path / "nowhere"}).read())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(SourceError, match="holds"):
        list(sources.build(name, {"folder": tmp_path / "nothing"}).read())
