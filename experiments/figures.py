"""Figures out of runs, for reports, notebooks and pages alike; each returns a matplotlib Figure.

Colours are few and named here, so that a page can lay others over them in the dark."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from experiments.compare import Comparison
from experiments.evaluation import Interval
from experiments.front import Point, front
from experiments.hearing import Heard
from experiments.mechanism_table import Table as MechanismTable
from experiments.ranks import Ranks
from experiments.result import RunResult

INK, MUTED, GRID, BLUE, ORANGE, PAPER = "#1b1f24", "#6b7480", "#dfe3e8", "#1f5a99", "#b4540a", "#fefefe"
"""Text and axes, what stands back, lines behind, the first and the second colour of data, the ground."""
_FEW = 8
"""Of more models only those on the front are named in a figure."""
WIDTH = 5.2
"""Inches: wide enough for a page, narrow enough that a telephone need not shrink it much."""


def leaderboard_figure(comparison: Comparison) -> Figure:
    """Each experiment's mean with its interval, best on top."""
    label = f"{comparison.metric} on {comparison.split_name}, {comparison.users} users, 95% intervals"
    return means_figure({row.name: row.value for row in comparison.rows}, label)


def means_figure(means: Mapping[str, Interval], label: str) -> Figure:
    """Each mean with its interval, the first on top; ``label`` says of what."""
    names, values = list(means)[::-1], list(means.values())[::-1]
    figure, (axes,) = _figure(0.9 + 0.42 * len(names))
    spread = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
    centres = [one.value for one in values]
    axes.errorbar(centres, range(len(names)), xerr=spread, fmt="o", color=BLUE, ecolor=MUTED, capsize=3)
    for place, one in enumerate(values):
        _note(axes, f"{one.value:.3f}", (one.value, place), (0, 6), "center")
    _names(axes, names)
    axes.set_xlim(left=0)
    axes.locator_params(axis="x", nbins=5)
    _x_label(axes, label)
    return figure


def learning_curve_figure(result: RunResult) -> Figure:
    """Loss above, validation value below, by epoch; a model in closed form has none."""
    if not result.curve:
        raise ValueError(
            f"{result.name} is in closed form and has no learning curve: give a trained model's run"
        )
    figure, (above, below) = _figure(4.2, rows=2, sharex=True)
    above.plot([epoch.number for epoch in result.curve], [epoch.loss for epoch in result.curve], color=MUTED)
    above.set_ylabel("training loss", color=INK)
    measured = [epoch for epoch in result.curve if epoch.value is not None]
    numbers, values = [epoch.number for epoch in measured], [epoch.value for epoch in measured]
    below.plot(numbers, values, color=BLUE, marker="o", markersize=3)
    if measured:
        best = int(np.argmax(values))
        below.plot(numbers[best], values[best], "o", color=ORANGE)
        side = "right" if best > len(values) / 2 else "left"
        _note(
            below,
            f"best {values[best]:.3f}, epoch {numbers[best]}",
            (numbers[best], values[best]),
            (0, -16),
            side,
        )
    below.set_ylim(0, max(values, default=1.0) * 1.12 or 1.0)
    below.set_ylabel("validation", color=INK)
    below.xaxis.get_major_locator().set_params(integer=True)
    _x_label(below, f"epoch of {result.name}")
    return figure


def search_figure(search: Any) -> Figure:
    """Each trial's first objective in the order they were begun, and the best until then.

    Args:
        search: a ``SearchResult``.
    """
    figure, (axes,) = _figure(3.4)
    done = [trial for trial in search.trials if trial.state == "complete" and trial.values]
    numbers, values = [trial.number for trial in done], [trial.values[0] for trial in done]
    axes.plot(numbers, values, "o", color=BLUE, markersize=4, label="complete")
    is_least = search.directions and search.directions[0].startswith("min")
    if done:
        so_far = np.minimum.accumulate(values) if is_least else np.maximum.accumulate(values)
        axes.step(numbers, so_far, where="post", color=ORANGE, label="best so far")
    ground = min(values, default=0.0)
    for state, marker in (("pruned", "|"), ("failed", "x")):
        ended = [trial.number for trial in search.trials if trial.state == state]
        if ended:
            label = f"{state} ({len(ended)})"
            axes.plot(ended, [ground] * len(ended), marker, color=MUTED, markersize=8, label=label)
    axes.set_ylabel(search.objectives[0], color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _legend(axes)
    _x_label(axes, f"trial of {search.name}")
    return figure


def importance_figure(importances: Mapping[str, float]) -> Figure:
    """How much of the difference between trials each setting explains, most on top."""
    ordered = sorted(importances.items(), key=lambda pair: (pair[1], pair[0]))
    figure, (axes,) = _figure(0.9 + 0.34 * len(ordered))
    axes.barh(range(len(ordered)), [share for _, share in ordered], color=BLUE, height=0.6)
    _names(axes, [name for name, _ in ordered])
    for place, (_, share) in enumerate(ordered):
        _note(axes, f"{share:.2f}", (share, place), (4, -4), "left")
    axes.set_xlim(0, max([share for _, share in ordered], default=1.0) * 1.15 or 1.0)
    _x_label(axes, "importance, a share of 1")
    return figure


def front_figure(points: Sequence[Point], metric: str) -> Figure:
    """Quality against latency and against size; those that no other beats in all three stand out."""
    costs = (
        ("latency_ms", "median latency of one user's scores, ms"),
        ("size_mib", "size on disk, MiB"),
    )
    known = [cost for cost in costs if any(getattr(point, cost[0]) is not None for point in points)]
    figure, panels = _figure(3.4 * max(len(known), 1), rows=max(len(known), 1))
    best = front(points)
    for axes, (name, label) in zip(panels, known, strict=False):
        _front_panel(axes, points, best, name)
        axes.set_ylabel(metric, color=INK)
        axes.set_ylim(*_around_zero([point.quality for point in points]))
        _x_label(axes, label)
    return figure


def ranks_figure(ranks: Ranks) -> Figure:
    """Critical-difference diagram: average ranks on a line, bars over models not shown to differ.

    Source: Demšar, JMLR 7, 2006, figure 1.
    """
    count = len(ranks.names)
    rows = (count + 1) // 2
    figure, (axes,) = _figure(1.25 + 0.3 * rows + 0.16 * len(ranks.cliques))
    axes.set_axis_off()
    low = int(np.floor(ranks.averages[0]))
    high = max(int(np.ceil(ranks.averages[-1])), low + 1)
    axes.set_xlim(low - 0.32 * (high - low) - 0.1, high + 0.32 * (high - low) + 0.1)
    depth = 0.55 * len(ranks.cliques) + 0.9
    axes.set_ylim(-(depth + rows) + 0.6, 2.6)
    axes.plot([low, high], [0, 0], color=INK, linewidth=1)
    for tick in range(low, high + 1):
        axes.plot([tick, tick], [0, 0.25], color=INK, linewidth=1)
        axes.text(tick, 0.4, str(tick), ha="center", va="bottom", color=INK)
    axes.plot([low, low + min(ranks.critical, high - low)], [1.75, 1.75], color=ORANGE, linewidth=2)
    axes.text(low, 1.95, f"critical difference {ranks.critical:.2f}", color=INK, va="bottom")
    for place, clique in enumerate(ranks.cliques):
        ends = [ranks.averages[ranks.names.index(name)] for name in (clique[0], clique[-1])]
        height = -0.45 - 0.55 * place
        axes.plot([ends[0] - 0.03, ends[1] + 0.03], [height, height], color=BLUE, linewidth=4)
    for place, (name, average) in enumerate(zip(ranks.names, ranks.averages, strict=True)):
        is_left = place < rows
        height = -(depth + (place if is_left else count - 1 - place))
        side = axes.get_xlim()[0 if is_left else 1]
        axes.plot([average, average, side], [0, height, height], color=MUTED, linewidth=0.8)
        told = f"{name} {average:.2f}"
        axes.text(side, height + 0.08, told, ha="left" if is_left else "right", va="bottom", color=INK)
    return figure


def quality_figure(table: MechanismTable, task: str) -> Figure:
    """Each mechanism's mean on a task with its interval over users, best on top; a line at multi_head."""
    known = [row for row in table.rows if task in row.qualities and row.qualities[task].value is not None]
    known.sort(key=lambda row: (row.qualities[task].value.value, row.name))
    figure, (axes,) = _figure(1.1 + 0.26 * len(known))
    values = [row.qualities[task].value for row in known]
    means = [one.value for one in values]
    spread = [[one.value - one.low for one in values], [one.high - one.value for one in values]]
    axes.errorbar(means, range(len(known)), xerr=spread, fmt="o", color=BLUE, ecolor=MUTED, capsize=2, ms=4)
    for row, one in zip(known, values, strict=True):
        if row.name == "multi_head":
            axes.axvline(one.value, color=ORANGE, linewidth=1)
    _names(axes, [row.name for row in known])
    axes.tick_params(axis="y", labelsize=9)
    axes.locator_params(axis="x", nbins=5)
    users = table.tasks[task].users
    _x_label(axes, f"{table.metric}, {task}, {users} users, 95% intervals; line: multi_head")
    return figure


def cost_figure(table: MechanismTable) -> Figure:
    """Time and memory of a pass with its gradient against the length, on log axes; extremes are named."""
    figure, panels = _figure(7.6, rows=2, sharex=True)
    for axes, (name, unit, label) in zip(
        panels, (("train_s", 1.0, "seconds"), ("train_bytes", 2**20, "MiB")), strict=True
    ):
        lines = {
            row.name: [(one.k, getattr(one, name) / unit) for one in row.costs if getattr(one, name)]
            for row in table.rows
        }
        lines = {mechanism: points for mechanism, points in lines.items() if points}
        told = _extremes(lines)
        for mechanism, points in lines.items():
            colour = BLUE if mechanism == "multi_head" else ORANGE if mechanism in told else MUTED
            width = 1.8 if mechanism in told else 0.6
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, marker="o", markersize=2)
        for mechanism in told:
            _note(axes, mechanism, lines[mechanism][-1], (4, -3), "left")
        axes.set(xscale="log", yscale="log")
        axes.margins(x=0.3)
        axes.set_ylabel(label, color=INK)
    _x_label(panels[-1], "k = q, a pass with its gradient, one thread")
    return figure


def hearing_figure(heard: Heard) -> Figure:
    """One user's likes from oldest to latest, and the weight that each attention gives them."""
    names = list(heard.weights)
    figure, (axes,) = _figure(1.2 + 0.3 * len(heard.titles))
    weights = np.stack([heard.weights[name] for name in names], 1)  # (k, names)
    axes.imshow(weights, aspect="auto", cmap=LinearSegmentedColormap.from_list("weights", [PAPER, BLUE]))
    half = (weights.max() + weights.min()) / 2
    for (row, column), weight in np.ndenumerate(weights):
        colour = PAPER if weight > half else INK
        axes.text(column, row, f"{weight:.3f}", ha="center", va="center", color=colour, fontsize=8)
    labels = [
        f"{textwrap.shorten(title, 28, placeholder='…')} ({age:.0f} d)"
        for title, age in zip(heard.titles, heard.age_days, strict=True)
    ]
    _names(axes, labels)
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=20, ha="right")
    _x_label(axes, "weight of each like, mean over heads; days before the latest fact")
    return figure


def _extremes(lines: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    """multi_head, and of those that came furthest the cheapest and the dearest."""
    furthest = max((points[-1][0] for points in lines.values()), default=0)
    ends = {name: points[-1][1] for name, points in lines.items() if points[-1][0] == furthest}
    named = [name for name in ("multi_head",) if name in lines]
    named += [min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)] if ends else []
    return list(dict.fromkeys(named))


def _front_panel(axes: Axes, points: Sequence[Point], best: Sequence[bool], name: str) -> None:
    known = [
        (point, on_front)
        for point, on_front in zip(points, best, strict=True)
        if getattr(point, name) is not None
    ]
    known.sort(key=lambda pair: (getattr(pair[0], name), pair[0].name))
    for place, (point, on_front) in enumerate(known):
        where = (getattr(point, name), point.quality)
        axes.plot(*where, "o", color=ORANGE if on_front else MUTED, markersize=7 if on_front else 5)
        if on_front or len(known) <= _FEW:
            # neighbours in x are named above and below in turn, so that names seldom meet
            _note(axes, point.name, where, (0, 7 if place % 2 else -16), "center")
    values = [getattr(point, name) for point, _ in known]
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axes.set_xscale("log")
    axes.margins(x=0.16)


def _around_zero(values: Sequence[float]) -> tuple[float, float]:
    """From a little below zero to above the largest, so that a name fits under and over every dot."""
    most = max(values, default=1.0) or 1.0
    return -0.12 * most, 1.14 * most


def _figure(height: float, rows: int = 1, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=PAPER)
    panels = list(np.atleast_1d(figure.subplots(rows, 1, sharex=sharex)))
    for axes in panels:
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=INK, labelsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.3)
    axes.grid(visible=False, axis="y")


def _x_label(axes: Axes, text: str) -> None:
    axes.set_xlabel("\n".join(textwrap.wrap(text, 36)), color=INK, fontsize=11)


def _note(axes: Axes, text: str, where: tuple[float, float], offset: tuple[float, float], side: str) -> None:
    axes.annotate(text, where, offset, textcoords="offset points", ha=side, color=INK, fontsize=10)


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=INK, fontsize=10)


def forgetting_figure(
    curves: Mapping[str, Sequence[Sequence[Interval]]], metric: str, shown: Sequence[str]
) -> Figure:
    """What each method knows of the first window as windows pass, above; of the newest one, below.

    Args:
        curves: method -> after window w (row) its value on the test of each window until then.
        metric: its name.
        shown: methods with colour and interval, two at most; the others stand back.
    """
    figure, panels = _figure(6.4, rows=2, sharex=True)
    marks = itertools.cycle("os^vDPX*")
    for name, rows in curves.items():
        mark, colour = next(marks), (BLUE, ORANGE)[shown.index(name)] if name in shown else MUTED
        for axes, column in zip(panels, (0, -1), strict=True):
            points, numbers = [row[column] for row in rows], range(1, len(rows) + 1)
            line = [point.value for point in points]
            axes.plot(numbers, line, color=colour, marker=mark, markersize=4, linewidth=1, label=name)
            if name in shown:
                low, high = [point.low for point in points], [point.high for point in points]
                axes.fill_between(numbers, low, high, color=colour, alpha=0.12, linewidth=0)
    for axes, label in zip(panels, ("first window", "newest window"), strict=True):
        axes.set_ylabel(f"{metric}, {label}", color=INK)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False, labelcolor=INK, fontsize=9, ncols=2)
    _x_label(panels[1], "windows learned")
    return figure
