"""Tables of a report out of runs: plain values, from which Markdown, HTML and CSV are written."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from configs.loading import find, load
from experiments.compare import Comparison, Entry
from experiments.document import Cell, Column, Table
from experiments.front import Point, front
from experiments.ranks import Ranks
from experiments.result import RunResult
from experiments.studies import SearchResult
from experiments.wording import COLUMNS, p_text


def leaderboard_table(comparison: Comparison) -> Table:
    """One row an experiment, best first, with interval, spread over seeds and p against the best."""
    further = [name for name in COLUMNS if all(name in row.metrics for row in comparison.rows)]
    best = comparison.rows[0].name
    columns = (
        Column("model"),
        Column("place"),
        Column(comparison.metric, ".4f"),
        Column("low", ".4f"),
        Column("high", ".4f"),
        *(Column(name, ".4f") for name in further),
        Column("validation", ".4f"),
        Column("p to best", ".4f"),
        Column("seeds"),
        Column("sd over seeds", ".4f"),
        Column("trials"),
        Column("seconds", ".1f"),
    )
    rows = []
    for row in comparison.rows:
        to_best = comparison.between(best, row.name)
        rows.append(
            (
                row.name,
                row.place,
                row.value.value,
                row.value.low,
                row.value.high,
                *(row.metrics[name].value for name in further),
                row.validation,
                None if to_best is None else to_best.p,
                len(row.seeds),
                row.sd,
                row.trials,
                row.seconds,
            )
        )
    caption = (
        f"{comparison.metric} over {comparison.users} test users of {comparison.split_name}, every rankable "
        "content ranked; low and high are the 95% bootstrap interval over users. Settings were chosen on "
        f"validation alone. p to best is two-sided, by sign flips per user, after Holm over all "
        f"{len(comparison.differences)} differences. Seconds are of the whole run, tuning included."
    )
    return Table("leaderboard", "Leaderboard", caption, columns, tuple(rows))


def differences_table(comparison: Comparison) -> Table:
    """Every tested pair: difference, interval, p before and after Holm, effect size, what could be found."""
    columns = (
        Column("first"),
        Column("second"),
        Column("difference", "+.4f"),
        Column("low", "+.4f"),
        Column("high", "+.4f"),
        Column("p", ".4f"),
        Column("p after Holm", ".4f"),
        Column("effect d", "+.3f"),
        Column("detectable gain", ".1%"),
        Column("better"),
    )
    rows = tuple(
        (
            one.first,
            one.second,
            one.paired.difference,
            one.paired.low,
            one.paired.high,
            one.paired.p,
            one.p,
            one.paired.effect,
            one.detectable_share,
            one.is_better,
        )
        for one in comparison.differences
    )
    caption = (
        f"First minus second in {comparison.metric}, per user. Effect d is the mean difference over its "
        "standard deviation. Detectable gain is the smallest gain, as a share of the second, that this many "
        f"users would show at p < {comparison.level:g} with a chance of 80%. Better means p after Holm below "
        f"{comparison.level:g} and at least {comparison.least_users} warm users."
    )
    return Table("differences", "Which differences are more than luck", caption, columns, rows)


def groups_table(entries: Sequence[Entry], metric: str) -> Table:
    """The metric by group of users or contents, one row a model and group; shown as groups by models."""
    columns = (
        Column("model"),
        Column("group"),
        Column("users"),
        Column(metric, ".4f"),
        Column("low", ".4f"),
        Column("high", ".4f"),
    )
    runs = [entry.runs[0] for entry in entries]
    rows = tuple(
        (run.name, group, one.users, one.value, one.low, one.high)
        if one.users
        else (run.name, group, 0, None, None, None)
        for run in runs
        for group, measured in run.groups.items()
        if (one := measured.get(metric)) is not None
    )
    caption = (
        f"{metric} of each group's users. Cold users have few positives in training; head contents are the "
        "fewest that hold half of all likes, tail contents the others, and only held-out contents of the "
        "group count. A dash means nobody. Of several seeds the first is shown."
    )
    return Table("groups", "Groups", caption, columns, rows, _groups_shown(rows, [run.name for run in runs]))


def lists_table(entries: Sequence[Entry]) -> Table:
    """What the lists are like taken together: coverage, Gini, novelty and whatever else was measured."""
    runs = [entry.runs[0] for entry in entries]
    names = [name for name in dict.fromkeys(name for run in runs for name in run.lists)]
    rows = tuple((run.name, *(run.lists.get(name) for name in names)) for run in runs)
    caption = (
        "Coverage is the share of rankable contents that somebody is shown; Gini is 0 where all are shown "
        "alike and near 1 where a few get everything; novelty is the mean surprise in bits."
    )
    columns = (Column("model"), *(Column(name, ".3f") for name in names))
    return Table("lists", "What the lists are like", caption, columns, rows)


def ranks_table(ranks: Ranks) -> Table:
    """Average ranks, best first."""
    luck = p_text(ranks.p) if ranks.p < 0.001 else f"= {p_text(ranks.p)}"
    caption = (
        f"Average rank over {ranks.users} users (1 is best, ties share ranks). Friedman's chi-square, "
        f"corrected for ties, is {ranks.statistic:.1f} (p {luck}); average ranks closer than "
        f"{ranks.critical:.3f} are not shown to differ at {ranks.level:g} (Nemenyi)."
    )
    rows = tuple(zip(ranks.names, ranks.averages, strict=True))
    return Table("ranks", "Average ranks", caption, (Column("model"), Column("average rank", ".3f")), rows)


def front_table(points: Sequence[Point], metric: str) -> Table:
    """Quality, latency and size, and who stands on the front."""
    columns = (
        Column("model"),
        Column(metric, ".4f"),
        Column("median ms", ".2f"),
        Column("p99 ms", ".2f"),
        Column("size MiB", ".2f"),
        Column("on the front"),
    )
    rows = tuple(
        (point.name, point.quality, point.latency_ms, point.p99_ms, point.size_mib, is_on)
        for point, is_on in zip(points, front(points), strict=True)
    )
    caption = (
        "On the front stands what no other beats in quality, median latency and size together. Latency is "
        "one user's scores over all contents and the best 20, in one process without an endpoint, after a "
        "warm-up; size is the saved version on disk."
    )
    return Table("front", "Quality, latency and size", caption, columns, rows)


def trials_table(entries: Sequence[Entry]) -> Table:
    """What each run tried on validation before it was measured."""
    rows = tuple(
        (run.name, number, trial.value, trial.seconds, trial.epochs, _told(trial.settings))
        for entry in entries
        for run in entry.runs[:1]
        for number, trial in enumerate(run.trials, 1)
    )
    columns = (
        Column("model"),
        Column("trial"),
        Column("validation", ".4f"),
        Column("seconds", ".1f"),
        Column("epochs"),
        Column("settings"),
    )
    caption = "Every point of each model's grid that its budget allowed, as measured on validation."
    return Table("trials", "Settings that were tried", caption, columns, rows)


def search_table(search: SearchResult) -> Table:
    """All trials of one search; the best are marked."""
    values = tuple(Column(name, ".4f") for name in search.objectives)
    columns = (Column("trial"), Column("state"), *values, Column("seconds", ".1f"), Column("best"))
    rows = tuple(
        (
            trial.number,
            trial.state,
            *(trial.values or [None] * len(values)),
            trial.seconds,
            trial.number in search.best,
            _told(trial.settings),
            trial.error or None,
        )
        for trial in search.trials
    )
    ways = zip(search.objectives, search.directions, strict=True)
    caption = (
        f"{len(search.trials)} trials in {search.seconds:.0f} s on validation; "
        f"{', '.join(f'{name} to be {way}imal' for name, way in ways)}."
    )
    columns = (*columns, Column("settings"), Column("error"))
    return Table(f"search_{search.name}", f"Search {search.name}", caption, columns, rows)


def provenance_table(results: Sequence[RunResult]) -> Table:
    """What each number depends on, and the command that repeats it."""
    columns = tuple(
        Column(name)
        for name in (
            "run",
            "seed",
            "graph",
            "split",
            "code",
            "machine",
            "started",
            "seconds",
            "settings",
            "command",
        )
    )
    rows = tuple(
        (
            run.run_id,
            run.seed,
            run.graph_hash,
            run.split_hash,
            run.code_revision,
            machine_text(run.machine),
            run.started,
            run.seconds,
            _told(run.settings),
            repeat_command(run),
        )
        for run in sorted(results, key=lambda run: run.run_id)
    )
    shown = ("run", "seed", "code", "seconds", "command")
    places = [place for place, column in enumerate(columns) if column.name in shown]
    brief = Table(
        "",
        "",
        "",
        tuple(
            Column(columns[place].name, ".1f" if columns[place].name == "seconds" else "") for place in places
        ),
        tuple(tuple(row[place] for place in places) for row in rows),
    )
    caption = "The file of this table also has hashes, machine, moment and chosen settings of each run."
    return Table("provenance", "Runs", caption, columns, rows, brief)


def repeat_command(run: RunResult) -> str:
    """The command that runs an experiment again on an export of the same graph.

    Example:
        ``mg run experiments/ease.yaml --data movielens-100k seed=3``
    """
    for name in (f"experiments/{run.name}.yaml", f"experiments/{run.config.get('name')}.yaml"):
        changes = _changes(name, run.config)
        if changes is not None:
            return " ".join((f"mg run {name} --data {run.graph}", *changes))
    return f"mg run configs/{run.run_id}.yaml --data {run.graph}"


def is_written_out(run: RunResult) -> bool:
    """True if no file of the repository with overrides gives this run: a report then writes its settings."""
    return f"configs/{run.run_id}.yaml" in repeat_command(run)


def _changes(name: str, config: Mapping[str, Any]) -> list[str] | None:
    """Overrides that make the file ``name`` to ``config``; None where there is no file, or keys differ."""
    try:
        find(name)
    except FileNotFoundError:
        return None
    ours, theirs = _flat(load(name)), _flat(json.loads(json.dumps(config)))
    if set(ours) != set(theirs):
        return None
    return [f"{key}={json.dumps(value)}" for key, value in theirs.items() if ours[key] != value]


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value, through dotted keys of a grid and empty mappings too."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and not any("." in inner for inner in value):
            found.update(_flat(value, f"{above}{key}."))
        else:
            found[f"{above}{key}"] = value
    return found


def _groups_shown(rows: Sequence[tuple[Cell, ...]], models: Sequence[str]) -> Table:
    values = {(model, group): value for model, group, _, value, _, _ in rows}
    users = {group: count for _, group, count, _, _, _ in rows}
    shown = tuple(
        (group, count, *(values.get((model, group)) for model in models)) for group, count in users.items()
    )
    columns = (Column("group"), Column("users"), *(Column(model, ".4f") for model in models))
    return Table("", "", "", columns, shown)


def machine_text(machine: Mapping[str, Any]) -> str:
    """A machine in words."""
    memory, cores = machine.get("memory_bytes", 0) / 2**30, machine.get("cores")
    return f"{machine.get('system')}, {cores} cores, {memory:.0f} GiB, Python {machine.get('python')}"


def _told(settings: Mapping[str, Any]) -> str:
    told = (f"{key}={json.dumps(value, ensure_ascii=False, default=str)}" for key, value in settings.items())
    return ", ".join(told) or "as written"
