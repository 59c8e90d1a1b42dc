"""Notebooks are short, run from their first cell, and are committed without what they printed."""

import ast
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
MOST_CELLS = 12


def wrong(notebook: dict) -> list[str]:
    """What a notebook does that none may."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    texts = ["".join(cell["source"]) for cell in cells]
    said = [f"{len(cells)} code cells"] if len(cells) > MOST_CELLS else []
    said += ["outputs"] if any(cell["outputs"] or cell["execution_count"] for cell in cells) else []
    said += [] if "MG_DATA" in texts[0] else ["no MG_DATA in the first cell"]
    for text in texts:
        nodes = list(ast.walk(ast.parse(text)))
        said += ["def or class"] * any(
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) for node in nodes
        )
        said += ["assert"] * any(isinstance(node, ast.Assert) for node in nodes)
        said += ["sys.path"] * ("sys.path" in text)
    return said


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_keep_to_the_rules(path):
    assert wrong(json.loads(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(): pass", "def or class"),
        ("import sys; sys.path.append('.')", "sys.path"),
        ("assert True", "assert"),
    ],
)
def test_a_planted_slip_is_caught(source, said):
    first = {"cell_type": "code", "source": ["'MG_DATA'"], "outputs": [], "execution_count": None}
    cells = [first, {**first, "source": [source]}]
    assert wrong({"cells": cells}) == [said]
    assert wrong({"cells": [first] * 13}) == ["13 code cells"]
    assert wrong({"cells": [{**first, "execution_count": 3}]}) == ["outputs"]
    assert wrong({"cells": [{**first, "source": ["1"]}]}) == ["no MG_DATA in the first cell"]
