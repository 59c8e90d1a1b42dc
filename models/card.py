"""The page that tells a person what a version is: what for, made how, how good, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

PARTS = {
    "metrics": "metrics",
    "groups": "groups",
    "split": "split",
    "split hash": "split_hash",
    "seeds": "seeds",
    "code revision": "code_revision",
    "licence of the data": "licence",
    "experiment": "experiment",
}
"""What a complete card tells -> where a manifest has it."""
_SHOWN_METRIC = "ndcg@10"
_FEW = 200  # people; below it an interval of a group is wide
_USE = (
    "Ranking films and series for one person at a time, out of what that person liked, behind the "
    "recommendations endpoint, which adds filters, availability and reasons."
)
_NOT_FOR = (
    "Not for deciding about people, for guessing who somebody is, or for another catalogue than its graph's."
)


def missing(manifest: Mapping[str, Any]) -> list[str]:
    """What a complete card would tell and this manifest does not."""
    return [part for part, key in PARTS.items() if manifest.get(key) in (None, "", "unknown", [], {})]


def card(manifest: Mapping[str, Any]) -> str:
    """Markdown out of a version's manifest."""
    facts, groups = manifest["facts"], manifest.get("groups") or {}
    reads = ", ".join(facts["draws_on"])
    told = [
        f"# {manifest['name']}/{manifest['number']}",
        f"A `{manifest['model']}` recommender for *{manifest['graph']}*, saved {manifest['created']}.",
        "## What it is for",
        f"{_USE} {_NOT_FOR}",
        "## What it reads",
        "What people liked" + (f", and the facts {reads}." if reads else "; no other fact of the graph."),
        "## What it can do",
        _yes(facts["scores_cold_user"], "scores somebody who was not in training, from a history"),
        _yes(facts["scores_cold_content"], "scores a content that nobody liked in training"),
        _yes(facts["is_personal"], "answers differ from person to person"),
        "## How good it is",
        _metrics(manifest["metrics"]),
        "## For whom",
        _groups(groups),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(facts, groups)),
        "## Where it comes from",
        _table(
            {
                "graph": f"{manifest['graph']} {manifest['graph_hash']}",
                "licence of the data": manifest["licence"],
                "split": manifest["split_hash"] or "not told",
                **_settings("split", manifest.get("split")),
                "code": manifest["code_revision"],
                "seeds": ", ".join(str(seed) for seed in manifest["seeds"]) or "not told",
                **{f"setting `{name}`": value for name, value in manifest["config"].items()},
                **_settings("experiment", manifest.get("experiment")),
            }
        ),
    ]
    if manifest["note"]:
        told += ["## Notes", manifest["note"]]
    return "\n\n".join(told) + "\n"


def _yes(is_so: bool, what: str) -> str:
    return f"- {'yes' if is_so else 'no'}: {what}"


def _limits(facts: Mapping[str, Any], groups: Mapping[str, Any]) -> list[str]:
    said = ["Measured offline, on what people happened to rate: what they were never shown counts as a miss."]
    if not facts["scores_cold_user"]:
        said.append("Somebody it was not trained on is shown what is popular until it is trained again.")
    if not facts["scores_cold_content"]:
        said.append("A content that nobody liked in training never stands on its lists by its own merit.")
    if not facts["is_personal"]:
        said.append("Everybody gets the same ranking.")
    few = [name for name, found in groups.items() if 0 < _shown(found).get("users", 0) < _FEW]
    if few:
        said.append(f"Fewer than {_FEW} people were measured of: {', '.join(few)}.")
    return said


def _groups(groups: Mapping[str, Any]) -> str:
    if not groups:
        return "Not measured by group."
    rows = [f"| group | people | {_SHOWN_METRIC} | interval |", "|---|---|---|---|"]
    for name, found in groups.items():
        one = _shown(found)
        rows.append(f"| {name} | {one.get('users', 0)} | {_number(one.get('value'))} | {_interval(one)} |")
    return "\n".join(rows)


def _shown(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metric that groups are told by: the usual one, else the first."""
    return found.get(_SHOWN_METRIC) or next(iter(found.values()), {})


def _settings(what: str, given: Any) -> dict[str, Any]:
    return {f"{what} `{name}`": value for name, value in (given or {}).items()}


def _metrics(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "Not measured."
    rows = ["| metric | value | interval |", "|---|---|---|"]
    for name, measured in metrics.items():
        known = measured if isinstance(measured, Mapping) else {"value": measured}
        rows.append(f"| {name} | {_number(known.get('value'))} | {_interval(known)} |")
    return "\n".join(rows)


def _interval(known: Mapping[str, Any]) -> str:
    low, high = known.get("low"), known.get("high")
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(pairs: Mapping[str, Any]) -> str:
    return "\n".join(
        ["| what | value |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in pairs.items())]
    )


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
