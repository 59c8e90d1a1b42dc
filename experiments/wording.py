"""A comparison in words: the leaderboard as rows of text, and what its tests say in sentences."""

from collections.abc import Sequence

from experiments.compare import Comparison, Difference
from experiments.evaluation import Interval
from experiments.result import RunResult

COLUMNS = ("recall@20", "hit_rate@10", "mrr@10")
"""Further metrics on the leaderboard, where they were measured."""


def leaderboard_rows(comparison: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Column names and one row of texts an experiment, best first."""
    further = [name for name in COLUMNS if all(name in row.metrics for row in comparison.rows)]
    best, spreads = comparison.rows[0].name, any(row.sd is not None for row in comparison.rows)
    columns = (
        "",
        "model",
        comparison.metric,
        "95% interval",
        *(["± sd (seeds)"] if spreads else []),
        *further,
        "validation",
        "d to best",
        "p to best",
        "seconds",
    )
    rows = []
    for row in comparison.rows:
        to_best = comparison.between(best, row.name)
        rows.append(
            (
                str(row.place),
                row.name,
                f"{row.value.value:.4f}",
                f"{row.value.low:.4f} to {row.value.high:.4f}",
                *([_spread_text(row.sd, len(row.seeds))] if spreads else []),
                *(f"{row.metrics[name].value:.4f}" for name in further),
                f"{row.validation:.4f}",
                "" if to_best is None else f"{-to_best.paired.effect:+.2f}",
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
    lines += [
        f"{name} scores all contents alike for everybody: it tells nothing apart, its lists are in the order "
        "of rows."
        for name in comparison.flat
    ]
    if comparison.warm_users < comparison.least_users:
        lines.append(f"Fewer than {comparison.least_users} warm users: nothing is called better here.")
    lines += [sentence(one) for one in comparison.differences]
    if comparison.detectable_share is not None:
        lines.append(detectable_line(comparison))
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


def detectable_line(comparison: Comparison) -> str:
    """What a split this small can show at all; only where the yardstick was run."""
    return (
        f"The smallest gain over {comparison.yardstick} that this split can show is "
        f"{comparison.detectable_share:.1%} of it."
    )


def sentence(difference: Difference) -> str:
    """What a test says, with difference, p and effect size."""
    gain = (
        f"{difference.paired.difference:+.4f}, p {_equals(difference.p)}, d = {difference.paired.effect:.2f}"
    )
    if difference.is_better:
        return f"{difference.first} is better than {difference.second} ({gain})."
    return f"{difference.first} is not shown to be better than {difference.second} ({gain})."


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def _spread_text(sd: float | None, seeds: int) -> str:
    return "one seed" if sd is None else f"± {sd:.4f} ({seeds})"


def _interval_text(interval: Interval | None) -> str:
    if interval is None or interval.users == 0:
        return "nobody"
    return f"{interval.value:.4f} ({interval.users})"
