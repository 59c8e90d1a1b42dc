"""Holds every import against the table of rooms and the doors of outside libraries."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "configs": set(),
    "kg": {"configs"},
    "models": {"configs", "kg"},
    "experiments": {"configs", "kg", "models"},
    "serve": {"configs", "kg", "models"},
    "apps": {"configs", "kg", "models", "experiments", "serve"},
}
DOORS = {
    "dgl": {"models/neighbourhood.py", "apps/bench"},  # a bench measures ours beside its stock layers
    # a bench measures ours beside it bare
    "neo4j": {"kg/store/bolt.py", "kg/store/local.py", "kg/store/refusals.py", "apps/bench"},
    "arcadedb_embedded": {"kg/store/java.py"},
    "rdflib": {"kg/rdf.py"},
    "pyoxigraph": {"kg/rdf.py"},
    "pyshacl": {"kg/rdf.py"},
    "faiss": {"models/index.py"},
    "peft": {"models/base_tier.py", "apps/bench"},  # a bench measures ours beside its mixed batches
    "lightgbm": {"models/fusion.py"},
    "ray": {"experiments/search.py", "experiments/distributed.py", "serve/app.py"},
    "optuna": {"experiments/ledger.py"},
    "streamlit": {"apps/streamlit"},
}
NEVER = {"kg": {"torch", "dgl", "ray"}, "models": {"ray", "optuna", "neo4j"}}
PAGES_MAY_IMPORT = {"serve.client", "kg.queries", "kg.rdf", "experiments.report"}
FILES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imports(tree: ast.AST) -> set[str]:
    """Dotted names that a file imports; ``from a import b`` counts as a and as a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def wrong_imports(path: str, source: str) -> list[str]:
    """What a file at ``path`` (relative to the root) imports against the rules."""
    room = path.split("/")[0]
    wrong = []
    for name in imports(ast.parse(source)):
        top = name.split(".")[0]
        if top in MAY_IMPORT and top != room and top not in MAY_IMPORT[room]:
            wrong.append(f"{path} imports {name}: {room} may import {sorted(MAY_IMPORT[room])}")
        if top in NEVER.get(room, ()):
            wrong.append(f"{path} imports {name}: never in {room}")
        doors = DOORS.get(top)
        if doors is not None and not any(path == door or path.startswith(f"{door}/") for door in doors):
            wrong.append(f"{path} imports {name}: its door is {sorted(doors)}")
        if path.startswith("apps/streamlit/") and top in MAY_IMPORT and top != "apps":
            if not any(
                name == page or name.startswith(f"{page}.") or page.startswith(f"{name}.")
                for page in PAGES_MAY_IMPORT
            ):
                wrong.append(f"{path} imports {name}: a page imports {sorted(PAGES_MAY_IMPORT)}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_house(path):
    assert wrong_imports(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kg/a.py", "import models.store"),
        ("kg/a.py", "import torch"),
        ("experiments/a.py", "from serve.client import LocalClient"),
        ("serve/a.py", "from experiments import run"),
        ("models/a.py", "import dgl.sampling"),
        ("serve/client.py", "from ray import serve"),
        ("apps/streamlit/explorer.py", "from models.store import ModelStore"),
    ],
)
def test_a_planted_wrong_import_is_caught(path, source):
    assert wrong_imports(path, source)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_and_asserts_nothing(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "a file opens with a docstring that says what it is"
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert asserts == [], "python -O drops asserts: raise"
    assert path.name not in {"utils.py", "helpers.py", "common.py"}, (
        "a function with no room is an idea without a name"
    )


def test_streamlit_keeps_its_name():
    assert not (ROOT / "apps" / "streamlit" / "__init__.py").exists()


def test_nothing_of_this_machine_is_in_the_repository():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    mark = re.compile("/(" + "|".join(("work", "root", "home")) + r")/\w")
    for name in files:
        text = (ROOT / name).read_bytes()
        if b"\0" not in text[:8000] and name != "tests/test_house.py":
            found = mark.search(text.decode("utf-8", errors="replace"))
            assert not found, f"{name} holds the absolute path {found.group(0)}…"
