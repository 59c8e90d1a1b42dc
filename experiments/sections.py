"""The parts of a report: each takes what was compared and gives sentences, tables and figures."""

from collections.abc import Sequence

from experiments import figures, tables
from experiments.compare import Comparison, Entry
from experiments.document import Chart, Section, Table
from experiments.front import Latency, Point
from experiments.ranks import ranks
from experiments.result import RunResult
from experiments.studies import SearchResult
from experiments.wording import comparison_lines, detectable_line, sentence


def lead(comparison: Comparison, standing: Sequence[Entry]) -> list[str]:
    """What to know first."""
    best, chosen = comparison.rows[0], max(comparison.rows, key=lambda row: row.validation)
    won = [one.second for one in comparison.differences if one.first == best.name and one.is_better]
    lines = [
        f"Highest {comparison.metric} on test: {best.name}, {best.value.value:.4f} ({best.value.low:.4f} to "
        f"{best.value.high:.4f}). Best on validation, which is what one may choose by: {chosen.name}.",
        f"{best.name} is shown to be better than {', '.join(won)}."
        if won
        else f"{best.name} is not shown to be better than any other.",
        *comparison_lines(comparison)[: -len(comparison.differences) - 1 or None],
    ]
    if comparison.detectable_share is not None:
        lines.append(detectable_line(comparison))
    return [*lines, f"{sum(len(entry.runs) for entry in standing)} runs of {len(standing)} experiments."]


def leaderboard(comparison: Comparison) -> Section:
    """Table and figure, best first."""
    told = "; ".join(f"{row.name} {row.value.value:.3f}" for row in comparison.rows)
    chart = Chart(
        "leaderboard_figure",
        "Leaderboard with intervals",
        f"Dots are means of {comparison.metric} over users, bars their 95% bootstrap intervals. Overlapping "
        "bars do not mean that two models are alike: the paired tests below decide.",
        f"Means with intervals, best first: {told}.",
        figures.leaderboard_figure(comparison),
    )
    return Section("Leaderboard", (), (tables.leaderboard_table(comparison), chart))


def luck(comparison: Comparison, standing: Sequence[Entry]) -> Section:
    """Paired tests, and the critical difference of ranks."""
    parts: list[Table | Chart] = [tables.differences_table(comparison)]
    if len(standing) > 1:
        found = ranks({entry.name: entry.values(comparison.metric) for entry in standing})
        told = "; ".join(
            f"{name} {average:.2f}" for name, average in zip(found.names, found.averages, strict=True)
        )
        alike = "; ".join(", ".join(clique) for clique in found.cliques) or "none"
        parts += [
            Chart(
                "critical_difference",
                "Critical-difference diagram",
                f"Average ranks over {found.users} users, best to the left; a blue bar joins models whose "
                f"ranks differ by less than the critical difference of Nemenyi's test at {found.level:g}. "
                "Ranks ask who wins how often, the tests above by how much.",
                f"Average ranks: {told}. Not shown to differ: {alike}.",
                figures.ranks_figure(found),
            ),
            tables.ranks_table(found),
        ]
    best = comparison.rows[0].name
    sentences = tuple(sentence(one) for one in comparison.differences if one.first == best)
    return Section("What is more than luck", sentences, tuple(parts))


def groups(standing: Sequence[Entry], metric: str) -> Section:
    """Cold and warm, head and tail, regions and platforms, and what the lists are like."""
    return Section(
        "Groups and lists", (), (tables.groups_table(standing, metric), tables.lists_table(standing))
    )


def costs(standing: Sequence[Entry], metric: str, latency: Latency | None) -> Section:
    """Quality against latency and size, and the Pareto front."""
    points = [_point(entry, metric, latency) for entry in standing]
    chart = Chart(
        "front_figure",
        "Quality against latency and size",
        "Orange models stand on the Pareto front: no other is as good in all three and better in one. "
        "Of more than eight models only these are named; the table has all."
        + ("" if latency else " Latency was not measured."),
        "; ".join(f"{one.name} {one.quality:.3f}" for one in points) + f" in {metric}.",
        figures.front_figure(points, metric),
    )
    return Section("Quality, latency and size", (), (chart, tables.front_table(points, metric)))


def _point(entry: Entry, metric: str, latency: Latency | None) -> Point:
    run = entry.runs[0]
    median, p99 = latency(run) if latency else (None, None)
    return Point(entry.name, entry.metrics[metric].value, median, p99, run.size_bytes / 2**20)


def learning(standing: Sequence[Entry]) -> Section:
    """What was tried on validation, and the learning curves of trained models."""
    charts = tuple(
        Chart(
            f"learning_{run.name}",
            f"Learning curve of {run.name}",
            "Above the mean loss of each epoch, below the value on validation; the best epoch is orange.",
            f"{len(run.curve)} epochs; loss from {run.curve[0].loss:.3f} to {run.curve[-1].loss:.3f}.",
            figures.learning_curve_figure(run),
        )
        for run in (entry.runs[0] for entry in standing)
        if run.curve
    )
    return Section("How settings were chosen", (), (tables.trials_table(standing), *charts))


def searched(search: SearchResult) -> Section:
    """History, importance and trials of one search."""
    best = ", ".join(str(number) for number in search.best) or "none"
    parts: list[Table | Chart] = [
        Chart(
            f"search_{search.name}_history",
            f"History of search {search.name}",
            f"{search.objectives[0]} of each trial on validation, and the best so far.",
            f"{len(search.trials)} trials, {len(search.complete)} of them complete; best: trial {best}.",
            figures.search_figure(search),
        )
    ]
    if search.importances:
        told = "; ".join(f"{name} {share:.2f}" for name, share in search.importances.items())
        parts.append(
            Chart(
                f"search_{search.name}_importance",
                f"Which settings mattered in {search.name}",
                "Part of the variation between trials that each setting explains, by the search's estimate.",
                f"Importance by setting: {told}.",
                figures.importance_figure(search.importances),
            )
        )
    return Section(f"Search {search.name}", (), (*parts, tables.search_table(search)))


def provenance(runs: Sequence[RunResult], split_name: str, command: str) -> Section:
    """Hashes, seeds, code, machine, time, and the commands that repeat it."""
    run = runs[0]
    hashes = ", ".join(sorted({one.graph_hash for one in runs}))
    revisions = ", ".join(sorted({one.code_revision for one in runs}))
    sentences = (
        f"Graph {run.graph}, hash {hashes}; split {split_name}, hash {run.split_hash}; "
        f"seeds {', '.join(sorted({str(one.seed) for one in runs}))}; code {revisions}.",
        f"Machine of the first run: {tables.machine_text(run.machine)}.",
        f"Wall time of all runs: {sum(one.seconds for one in runs):.0f} s.",
        f"Repeat it: `mg ingest --data {run.graph}`, `mg export --data {run.graph}`, each command of the "
        f"table, then `{command}`.",
    )
    return Section("Where the numbers come from", sentences, (tables.provenance_table(runs),))
