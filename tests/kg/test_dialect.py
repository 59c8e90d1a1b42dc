"""Every Cypher text of the repository is one that both servers read alike; planted wrong ones are caught."""

import json
from pathlib import Path

import pytest

from kg import questions
from kg.store.dialect import faults, texts

ROOT = Path(__file__).parents[2]
ROOMS = ("kg", "models", "experiments", "serve", "apps")
ITSELF = ROOT / "kg/store/dialect.py"  # its rules name what they forbid


def sources() -> list[tuple[str, str]]:
    """Name and Python of every file that may hold Cypher."""
    files = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if path != ITSELF]
    found = [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in files]
    found.append(("tests/conftest.py", (ROOT / "tests/conftest.py").read_text(encoding="utf-8")))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        found.append((path.name, "\n".join(code)))
    return found


def test_every_text_of_the_repository():
    found = [(name, line, text) for name, source in sources() for line, text in texts(source)]
    assert [(name, line, faults(text)) for name, line, text in found if faults(text)] == []
    assert {"kg/questions.py", "kg/store/bolt.py", "kg/store/writing.py", "kg/store/statements.py"} <= {
        name for name, _, _ in found
    }
    assert len(found) > 30


def test_every_question_stands_in_the_list():
    every = {text for name, text in vars(questions).items() if name.isupper() and isinstance(text, str)}
    assert {text for text in every if "RETURN" in text} == set(questions.TEXTS.values())
    assert [name for name, text in questions.TEXTS.items() if faults(text)] == []


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ("MATCH (n:Genre) RETURN n", "backticks: :Genre"),
        ("MATCH (a:`A`)-[:BELONGS_TO]->(g:`Genre`) RETURN a", "backticks: :BELONGS_TO"),
        ("MATCH (n) WHERE n:Genre RETURN n", "backticks: :Genre"),
        ("MATCH (n) WHERE NOT EXISTS { MATCH (n)-[:R]->() } RETURN n", "backticks: :R"),
        ("MATCH (n:`Genre`:`Mood`) RETURN n", "one label"),
        ("MATCH (n:`Sub Genre`) RETURN n", "letters, digits and _"),
        ("MATCH (n)-[r:$($type)]->(m) RETURN m", "dynamic"),
        ("MATCH (n)-[*]->(m) RETURN m", "bounded"),
        ("MATCH (n)-[:`R`*2..]->(m) RETURN m", "bounded"),
        ("MATCH (n) RETURN avg(n.rating) AS mean", "sum(x) / count(x)"),
        ("MATCH (n) RETURN apoc.text.clean(n.title) AS t", "no APOC"),
        ("LOAD CSV FROM $file AS line MERGE (n:`Genre` {id: line[0]})", "no LOAD CSV"),
        ("CALL db.labels() YIELD label MATCH (n) RETURN label", "no procedures"),
        ("MATCH (n) CALL (n) { SET n.a = 1 } IN 100 TRANSACTIONS", "TRANSACTIONS"),
        ("MATCH p = SHORTEST 1 (a)-[:`R`]-(b) MATCH (a) RETURN p", "shortestPath"),
        ("MATCH (n) RETURN elementId(n) AS id", "not kept"),
        ("MATCH (n) WHERE n.start < datetime() RETURN n", "whole seconds"),
        ("CREATE CONSTRAINT c FOR (n:`G`) REQUIRE n.id IS UNIQUE", "IF NOT EXISTS"),
        ("CREATE CONSTRAINT c IF NOT EXISTS FOR (n:`G`) REQUIRE n.id IS NOT NULL", "NOT NULL"),
        ("CREATE CONSTRAINT c IF NOT EXISTS FOR (n:`G`) REQUIRE (n.a, n.b) IS UNIQUE", "composite"),
        ("CREATE FULLTEXT INDEX i IF NOT EXISTS FOR (n:`G`) ON EACH [n.title] MATCH (n)", "UNIQUE only"),
        ("SHOW CONSTRAINTS", "YIELD"),
        ("MATCH (n:`Genre`) DETACH DELETE n", "LIMIT 2000"),
        ("MATCH (n:`Genre`) RETURN n.name AS name ORDER BY name LIMIT 3", "ends with an id"),
    ],
)
def test_planted_texts_are_caught(wrong, remedy):
    found = list(texts(f"def ask(store):\n    return store.read({wrong!r})"))
    assert [line for line, _ in found] == [2]
    assert any(remedy in fault for fault in faults(found[0][1])), faults(wrong)


@pytest.mark.parametrize(
    "right",
    [
        "MATCH (n:`Genre` {id: $id, name:$name}) RETURN n",
        "MATCH (n) WHERE n.title = 'CALL db.labels()' RETURN n // LOAD CSV",
        "MATCH (n:`Genre`)-[:`R`*1..3]->(m) RETURN m.id AS id ORDER BY n.name DESC, id LIMIT 3",
        "MATCH (n:`Genre`) WITH n LIMIT 2000 DETACH DELETE n RETURN count(*) AS n",
        "UNWIND $rows AS row MERGE (n:`Genre` {id: row.id}) ON CREATE SET n += row.props",
        "CREATE CONSTRAINT `c` IF NOT EXISTS FOR ()-[n:`R`]-() REQUIRE n.id IS UNIQUE",
    ],
)
def test_what_both_servers_read_is_left_alone(right):
    assert faults(right) == ()


def test_texts_are_found_however_they_are_written():
    source = '''
"""MATCH (n:Docstring) RETURN n"""
A = ("MATCH (n:`A`) "
     "RETURN n")
B = f"MATCH (n:`{A}`) RETURN n"
C = "no Cypher: MATCH made in heaven"
'''
    assert [text for _, text in texts(source)] == ["MATCH (n:`A`) RETURN n", "MATCH (n:`_`) RETURN n"]
