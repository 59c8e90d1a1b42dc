"""Policies that choose an attention mechanism, side by side: shown and written for ``mg bench attention``."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps import console

FILE = "policies.json"


def show(tables: Sequence[Any], folders: Sequence[Path], as_json: bool) -> None:
    """Prints a table a task, and writes all of them as ``policies.json`` into folders."""
    told = [one.summary() for one in tables]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")
    if as_json:
        console.show_json(told)
        return
    for one in tables:
        _show(one)
    console.out.print(f"written to {folders[-1] / FILE}", markup=False)


def _show(table: Any) -> None:
    from experiments.policies import CLASSES, FORMED, LEFT_OUT

    columns = ("policy", table.metric, "interval", "minus best single", "p (Holm)", *CLASSES)
    cells = [_cells(one) for one in table.results]
    console.show_table(f"policies, {table.task}, {len(table.mechanisms)} mechanisms", columns, cells)
    for one in table.results:
        if one.name != "uniform":
            picks = "; ".join(f"{name}: {' + '.join(picked)}" for name, picked in one.picks.items())
            console.out.print(f"{one.name}: {picks}", markup=False)
    for name in CLASSES:
        console.out.print(f"{name}: {FORMED[name]} ({table.users[name]} users)", markup=False)
    for name, why in LEFT_OUT.items():
        console.out.print(f"published class {name} is left out: {why}", markup=False)
    for name, lacking in table.missing.items():
        console.out.print(f"{name} could not be tried, not finished: {', '.join(lacking)}", markup=False)


def _cells(one: Any) -> tuple[str, ...]:
    to = one.to_best
    return (
        one.name,
        f"{one.value.value:.4f}",
        f"{one.value.low:.4f} to {one.value.high:.4f}",
        "" if to is None else f"{to.difference:+.4f} ({to.low:+.4f} to {to.high:+.4f})",
        "" if one.p is None else f"{one.p:.4f}",
        *(f"{value:.4f}" for value in one.by_class.values()),
    )
