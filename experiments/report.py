"""Tables and figures out of runs, for the command line, notebooks and pages alike."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from experiments.compare import Comparison, Difference
from experiments.evaluation import Interval
from experiments.result import RunResult

COLUMNS = ("recall@20", "hit_rate@10", "mrr@10")
"""Further metrics on the leaderboard, where they were measured."""
_BLUE, _GREY = "#1f5a99", "#8a8f98"


def leaderboard_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and one row of texts a run, best first."""
    further = [name for name in COLUMNS if all(name in row.metrics for row in comparison.rows)]
    best = comparison.rows[0].name
    columns = ("", "model", comparison.metric, "95% interval", *further, "validation", "p to best", "seconds")
    rows = []
    for row in comparison.rows:
        to_best = comparison.between(best, row.name)
        rows.append(
            (
                str(row.place),
                row.name,
                f"{row.value.value:.4f}",
                f"{row.value.low:.4f} to {row.value.high:.4f}",
                *(f"{row.metrics[name].value:.4f}" for name in further),
                f"{row.validation:.4f}",
                "" if to_best is None else p_text(to_best.p),
                f"{row.seconds:.1f}",
            )
        )
    return columns, rows


def comparison_lines(comparison: Comparison) -> list[str]:
    """What the table means, in sentences."""
    lines = [
        f"{comparison.users} test users, {comparison.warm_users} of them warm, on {comparison.split_name} "
        f"{comparison.split_hash[:8]}; p by sign flips per user, after Holm over "
        f"{len(comparison.differences)} differences."
    ]
    if comparison.unreachable:
        lines.append(
            f"{comparison.unreachable} held-out likes are of contents that training does not know: "
            "every model misses them."
        )
    if comparison.warm_users < comparison.least_users:
        lines.append(f"Fewer than {comparison.least_users} warm users: nothing is called better here.")
    lines += [_sentence(one) for one in comparison.differences]
    if comparison.detectable_share is not None:
        lines.append(
            f"The smallest gain over {comparison.yardstick} that this split can show is "
            f"{comparison.detectable_share:.1%} of it."
        )
    return lines


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(markdown(("model", "ndcg@10"), [("ease", "0.15")]))
        | model | ndcg@10 |
        |---|---|
        | ease | 0.15 |
    """
    lines = [columns, *rows]
    told = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([told[0], "|" + "---|" * len(columns), *told[1:]])


def leaderboard_markdown(comparison: Comparison) -> str:
    """The leaderboard as a Markdown table."""
    return markdown(*leaderboard_rows(comparison))


def group_rows(
    results: Sequence[RunResult], metric: str = "ndcg@10"
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and one row a run: the metric for cold and warm users, head and tail contents."""
    names = list(dict.fromkeys(name for run in results for name in run.groups))
    rows = [
        (run.name, *(_interval_text(run.groups.get(name, {}).get(metric)) for name in names))
        for run in results
    ]
    return ("model", *names), rows


def p_text(p: float) -> str:
    """A p-value as people read it.

    Example:
        >>> p_text(0.0001), p_text(0.034)
        ('< .001', '.034')
    """
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def leaderboard_figure(comparison: Comparison) -> Figure:
    """Each run's mean with its interval, best on top."""
    rows = comparison.rows[::-1]
    figure = Figure(figsize=(7, 0.9 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    values = [row.value.value for row in rows]
    spread = [
        [row.value.value - row.value.low for row in rows],
        [row.value.high - row.value.value for row in rows],
    ]
    axes.errorbar(values, range(len(rows)), xerr=spread, fmt="o", color=_BLUE, ecolor=_GREY, capsize=3)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row.value.value:.3f}",
            (row.value.value, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
        )
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    axes.set_xlim(left=0)
    axes.set_xlabel(
        f"{comparison.metric} on {comparison.split_name}, {comparison.users} users, 95% intervals"
    )
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def learning_curve_figure(result: RunResult) -> Figure:
    """Loss and validation value by epoch; a model in closed form has none."""
    if not result.curve:
        raise ValueError(
            f"{result.name} is in closed form and has no learning curve: give a trained model's run"
        )
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    epochs = [epoch.number for epoch in result.curve]
    axes.plot(epochs, [epoch.loss for epoch in result.curve], color=_GREY, label="training loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("training loss")
    measured = [epoch for epoch in result.curve if epoch.value is not None]
    other = axes.twinx()
    other.plot(
        [epoch.number for epoch in measured],
        [epoch.value for epoch in measured],
        color=_BLUE,
        marker="o",
        markersize=3,
        label="validation",
    )
    other.set_ylabel("validation ndcg@10", color=_BLUE)
    other.set_ylim(bottom=0)
    axes.spines["top"].set_visible(False)
    other.spines["top"].set_visible(False)
    return figure


def _sentence(difference: Difference) -> str:
    gain = (
        f"{difference.paired.difference:+.4f}, p {_equals(difference.p)}, d = {difference.paired.effect:.2f}"
    )
    if difference.is_better:
        return f"{difference.first} is better than {difference.second} ({gain})."
    return f"{difference.first} is not shown to be better than {difference.second} ({gain})."


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def _interval_text(interval: Interval | None) -> str:
    if interval is None or interval.users == 0:
        return "nobody"
    return f"{interval.value:.4f} ({interval.users})"
