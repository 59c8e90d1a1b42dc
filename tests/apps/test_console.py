"""What the command line shows of a long job: how far it is, how fast, how long it still takes."""

import io

import pytest
from rich.console import Console

from apps import console
from kg.ingest import Progress


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Progress("facts", 5_000, 20_000, 1_000.0), ("ingest: facts", "5,000 · 1,000/s · 15 s left")),
        (Progress("reading", 300, None, 100.0), ("ingest: reading", "300 · 100/s")),
        ("opening the embedded database", ("ingest: opening the embedded database",)),
    ],
)
def test_a_bar_tells_rows_a_second_and_the_time_left(monkeypatch, step, words):
    screen = io.StringIO()
    monkeypatch.setattr(
        console, "err", Console(file=screen, force_terminal=True, color_system=None, width=140)
    )
    with console.progress_bar("ingest") as feed:
        feed(step)
    assert all(word in screen.getvalue() for word in words)
    assert ("left" in screen.getvalue()) == (getattr(step, "total", None) is not None)
