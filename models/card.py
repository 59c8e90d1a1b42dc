"""The page that tells a person what a version is: what made it, how good it is, what it cannot do."""

from collections.abc import Mapping
from typing import Any


def card(manifest: Mapping[str, Any]) -> str:
    """Markdown out of a version's manifest."""
    facts = manifest["facts"]
    reads = ", ".join(facts["draws_on"])
    told = [
        f"# {manifest['name']}/{manifest['number']}",
        f"A `{manifest['model']}` recommender for *{manifest['graph']}*, saved {manifest['created']}.",
        "## What it reads",
        "What people liked" + (f", and the facts {reads}." if reads else "; no other fact of the graph."),
        "## What it can do",
        _yes(facts["scores_cold_user"], "scores somebody who was not in training, from a history"),
        _yes(facts["scores_cold_content"], "scores a content that nobody liked in training"),
        _yes(facts["is_personal"], "answers differ from person to person"),
        "## How good it is",
        _metrics(manifest["metrics"]),
        "## Where it comes from",
        _table(
            {
                "graph": f"{manifest['graph']} {manifest['graph_hash']}",
                "split": manifest["split_hash"] or "not told",
                "code": manifest["code_revision"],
                "seeds": ", ".join(str(seed) for seed in manifest["seeds"]) or "not told",
                "licence of the data": manifest["licence"],
                **{f"setting `{name}`": value for name, value in manifest["config"].items()},
            }
        ),
    ]
    if manifest["note"]:
        told += ["## Notes", manifest["note"]]
    return "\n\n".join(told) + "\n"


def _yes(is_so: bool, what: str) -> str:
    return f"- {'yes' if is_so else 'no'}: {what}"


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "Not measured."
    rows = ["| metric | value | interval |", "|---|---|---|"]
    for name, measured in metrics.items():
        known = measured if isinstance(measured, Mapping) else {"value": measured}
        low, high = known.get("low"), known.get("high")
        interval = "" if low is None or high is None else f"{_number(low)} to {_number(high)}"
        rows.append(f"| {name} | {_number(known.get('value'))} | {interval} |")
    return "\n".join(rows)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(pairs: Mapping[str, Any]) -> str:
    return "\n".join(
        ["| what | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in pairs.items())]
    )
