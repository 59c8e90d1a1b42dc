"""Policies that choose an attention mechanism, side by side: shown and written for ``mg bench attention``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps import console

FILE = "policies.json"


def show(found: Any, simulated: str, folders: Sequence[Path], as_json: bool) -> None:
    """Prints two tables a task and what they say, and writes the report and all values into folders.

    Args:
        found: what :func:`experiments.policies.compare_policies` found.
        simulated: a sentence where data is made up.
        folders: each gets ``policies.md``, ``.html``, ``.csv``, ``.json`` and ``policies_classes.csv``.
        as_json: prints the values instead.
    """
    from experiments.policy_report import document
    from experiments.report import write

    report, told = document(found, simulated), {**found.summary(), "simulated": simulated}
    for folder in folders:
        write(report, folder, name="policies")
        (folder / FILE).write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
    if as_json:
        console.show_json(told)
        return
    _show(report)
    console.out.print(f"written to {folders[-1] / 'policies.md'}", markup=False)


def _show(report: Any) -> None:
    for section in report.sections:
        for table in section.parts:
            shown = table.shown or table
            console.show_table(table.title, [column.name for column in shown.columns], shown.texts())
        for sentence in section.sentences:
            console.out.print(sentence, markup=False)
    for sentence in (*report.lead[1:], *([report.simulated] if report.simulated else [])):
        console.out.print(sentence, markup=False)
