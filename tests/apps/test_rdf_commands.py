"""The commands of RDF and of copying parse, call and print."""

import json

import pytest
from typer.testing import CliRunner

from apps.cli import app
from configs.registry import SettingError
from kg.rdf_files import RdfError
from kg.rdf_write import write
from kg.records import Node


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "g.ttl"
    write([Node("Content", "content:heat", {"title": "Heat"}), Node("Person", "person:al")], path)
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_query_of_a_file(file):
    code, said = run("rdf", "query", "SELECT ?t { ?c schema:name ?t }", "--file", file, "--json")
    assert (code, json.loads(said)) == (0, [{"t": "Heat"}])


def test_query_that_writes_is_refused(file):
    with pytest.raises(RdfError, match="INSERT"):
        run("rdf", "query", "INSERT DATA { <a:a> <a:b> 1 }", "--file", file)


def test_validate_says_by_its_exit_code(file):
    code, said = run("rdf", "validate", file, "--json")
    assert (code, json.loads(said)) == (0, {"checked": 2, "findings": []})
    file.write_text(file.read_text().replace('"Heat"', '"Heat" ; mg:release_year 1'))
    code, said = run("rdf", "validate", file, "--json")
    assert code == 1 and json.loads(said)["findings"][0]["path"] == "mg:release_year"


@pytest.mark.parametrize("what", ["vocabulary", "shapes"])
def test_vocabulary_and_shapes_are_printed(what):
    code, said = run("rdf", what)
    assert code == 0 and "@prefix mg: <urn:media-gateway:term:>" in said


def test_export_to_another_ending_is_refused_before_anything_is_opened(tmp_path):
    with pytest.raises(RdfError, match="graph.xlsx"):
        run("rdf", "export", tmp_path / "graph.xlsx")


def test_copy_needs_two_ends():
    with pytest.raises(SettingError, match="two ends"):
        run("graph", "copy", "--from", "embedded:world", "--to", "embedded:world")
