"""A question in SPARQL: held to reading, and answered by a process of its own that a time limit can end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from kg.rdf_files import RdfError

_TOKENS = re.compile(
    r'"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    r"|<[^<>\"{}|^`\\\s]*>|#[^\n]*",
    re.DOTALL,
)
_FORBIDDEN = re.compile(
    r"(?<![\w?$:.-])(SERVICE|LOAD|INSERT|DELETE|CLEAR|DROP|CREATE|COPY|MOVE|ADD)(?![\w:-])", re.IGNORECASE
)


def answer_of(folder: str, question: str, limit_s: float, most: int) -> list[dict[str, Any]]:
    """Lets ``python -m kg.rdf`` answer from the triples in ``folder``; see :meth:`kg.rdf.Triples.ask`."""
    must_read_only(question)
    sent = json.dumps({"folder": folder, "question": question, "most": most})
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")])
    try:
        came = subprocess.run(
            [sys.executable, "-m", "kg.rdf"],
            input=sent,
            capture_output=True,
            encoding="utf-8",
            timeout=limit_s,
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        )
    except subprocess.TimeoutExpired:
        raise RdfError(
            f"a question is answered within {limit_s:g} s, this one was not: ask for less or allow more"
        ) from None
    if came.returncode:
        raise RdfError(f"the question ended early ({came.stderr.strip()[-300:]}): ask for less")
    reply = json.loads(came.stdout)
    if "error" in reply:
        raise RdfError(reply["error"])
    return reply["rows"]


def must_read_only(question: str) -> None:
    """Refuses updates and what would fetch something from elsewhere, outside of texts, IRIs and comments.

    Raises:
        RdfError: a word of updates, SERVICE or LOAD stands in the question, also spelt with escapes.

    Example:
        >>> must_read_only('SELECT ?service { ?service mg:title "LOAD" }')
        >>> must_read_only("SELECT * { SERVICE <http://a.example/> { ?s ?p ?o } }")
        Traceback (most recent call last):
        kg.rdf_files.RdfError: a question may only read this file, got SERVICE: leave it out
    """
    decoded = re.sub(r"\\u([0-9a-fA-F]{4})|\\U00([0-9a-fA-F]{6})", _letter, question)
    for text in (question, decoded):
        if found := _FORBIDDEN.search(_TOKENS.sub(" ", text)):
            raise RdfError(f"a question may only read this file, got {found[1].upper()}: leave it out")


def _letter(found: re.Match[str]) -> str:
    code = int(found[1] or found[2], 16)
    return chr(code) if code < 0x110000 else found[0]
