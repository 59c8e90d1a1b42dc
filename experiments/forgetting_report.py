"""A study of forgetting as a report: what each way to learn on keeps, what it gains, what it costs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from experiments.document import Chart, Column, Document, Section, Table
from experiments.figures import forgetting_figure
from experiments.forgetting import Forgetting, Method
from experiments.tables import machine_text

KEPT, NEAR = 0.95, 0.02
"""The bar: the share of the first window that is to be kept, and how near the newest is to plain tuning."""


def document(found: Forgetting, simulated: str = "", command: str = "") -> Document:
    """The whole report.

    Args:
        found: the study.
        simulated: a sentence where data is made up.
        command: that makes this report again.
    """
    said = tuple(sentences(found))
    parts = (
        Section("What each keeps and costs", said, (methods_table(found), _chart(found))),
        Section("Against plain fine-tuning", (), (compared_table(found),)),
        Section("Each window after each", (), (curve_table(found),)),
        Section("The windows", tuple(_meaning(found)), (windows_table(found),)),
        Section("How it was measured", tuple(_provenance(found, command))),
    )
    last = len(found.starts)
    lead = (f"{found.config.model['name']} met {last} windows of time one after another.", *said)
    return Document(f"Forgetting on {found.graph}, {found.config.name}", lead, parts, simulated)


def sentences(found: Forgetting) -> Iterator[str]:
    """Whether each method that holds on to something meets the bar."""
    for one in found.methods:
        if not one.settings.get("strength"):
            continue
        kept, near = one.kept, found.newest(one.name)
        meets = "meets" if kept >= KEPT and near >= -NEAR else "does not meet"
        yield (
            f"{one.name} {meets} the bar ({KEPT:.0%} of the first window, within {NEAR:.0%} of "
            f"{found.config.plain} on the newest): it keeps {kept:.1%} and is {near:+.1%} on the newest."
        )


def methods_table(found: Forgetting) -> Table:
    """One row a method."""
    metric, last = found.config.metric, len(found.starts)
    columns = (
        Column("method"),
        Column(f"{metric}, window 1", ".4f"),
        Column("low", ".4f"),
        Column("high", ".4f"),
        Column("kept", ".3f"),
        Column(f"{metric}, window {last}", ".4f"),
        Column("newest low", ".4f"),
        Column("newest high", ".4f"),
        Column(f"over {found.config.plain}", "+.3f"),
        Column("mean of windows", ".4f"),
        Column("s to learn", ".1f"),
        Column("parameters", ",d"),
        Column("bytes kept", ",d"),
    )
    caption = (
        f"After window {last}, tests of the first and the newest window, intervals over people. Kept is the "
        "share of the value right after window 1; seconds are of all windows after the first; bytes are kept "
        "beside the model."
    )
    return Table("forgetting", "Methods", caption, columns, tuple(_row(found, one) for one in found.methods))


def _row(found: Forgetting, one: Method) -> tuple[Any, ...]:
    first, newest = one.curve[-1][0], one.curve[-1][-1]
    return (
        one.name,
        first.value,
        first.low,
        first.high,
        one.kept,
        newest.value,
        newest.low,
        newest.high,
        found.newest(one.name),
        sum(point.value for point in one.curve[-1]) / len(one.curve[-1]),
        one.seconds,
        one.parameters,
        one.kept_bytes,
    )


def compared_table(found: Forgetting) -> Table:
    """Each method less plain fine-tuning on the same people."""
    columns = (
        Column("method"),
        Column("window"),
        Column("difference", "+.4f"),
        Column("low", "+.4f"),
        Column("high", "+.4f"),
        Column("people"),
        Column("p after Holm", ".4f"),
    )
    rows = tuple(
        (
            one.name,
            one.window,
            one.paired.difference,
            one.paired.low,
            one.paired.high,
            one.paired.users,
            one.p,
        )
        for one in found.compared
    )
    caption = f"{found.config.metric} less that of {found.config.plain}; Holm over {len(rows)} differences."
    return Table("forgetting_compared", "Differences", caption, columns, rows)


def curve_table(found: Forgetting) -> Table:
    """The whole curve, one row a method, windows learned and window asked."""
    columns = (
        Column("method"),
        Column("windows learned"),
        Column("window asked"),
        Column(found.config.metric, ".4f"),
        Column("low", ".4f"),
        Column("high", ".4f"),
        Column("people"),
    )
    rows = tuple(
        (one.name, learned, asked, point.value, point.low, point.high, point.users)
        for one in found.methods
        for learned, row in enumerate(one.curve, 1)
        for asked, point in enumerate(row, 1)
    )
    return Table("forgetting_curve", "Curves", "Every value with its interval over people.", columns, rows)


def windows_table(found: Forgetting) -> Table:
    """When each window begins, and who is asked."""
    columns = (
        Column("window"),
        Column("begins"),
        Column("likes"),
        Column("people asked"),
        Column("returning"),
    )
    told = zip(found.starts, found.likes, found.people, found.returning, strict=True)
    rows = tuple(
        (number, datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d"), likes, people, returning)
        for number, (start, likes, people, returning) in enumerate(told, 1)
    )
    caption = "Returning are people of a test who liked something in an earlier window."
    return Table("forgetting_windows", "Windows", caption, columns, rows)


def _chart(found: Forgetting) -> Chart:
    held = [one.name for one in found.methods if one.settings.get("strength")][:1]
    curves = {one.name: one.curve for one in found.methods}
    figure = forgetting_figure(curves, found.config.metric, [found.config.plain, *held])
    told = ", ".join(
        f"{one.name} {one.curve[-1][0].value:.3f} and {one.curve[-1][-1].value:.3f}" for one in found.methods
    )
    alt = f"After the last window, first and newest window: {told}."
    caption = "Above the test of window 1 as windows pass, below that of each window when it is the newest."
    return Chart("forgetting", "Curves of forgetting", caption, alt, figure)


def _meaning(found: Forgetting) -> Iterator[str]:
    yield (
        "A window's test is the last fifth of what each person liked in it; everybody is asked with the "
        "history told by the end of that window, so that a curve shows what parameters forget alone. "
        "Contents known by then are ranked."
    )
    yield (
        "Frozen and LoRA know no content that is new after window 1; the others give it a vector. Full "
        "retraining reads all likes so far, the replay buffer a sample, EWC++ none of the old ones; LoRA + "
        "EWC++ looks at old likes for its Fisher."
    )


def _provenance(found: Forgetting, command: str) -> Iterator[str]:
    if command:
        yield f"Command: `{command}`."
    seeds = ", ".join(map(str, found.config.seeds))
    yield (
        f"Graph {found.graph}, hash {found.graph_hash}; seeds {seeds}; code {found.code_revision}; the first "
        f"model has {found.epochs} epochs, chosen on the validation part of window 1."
    )
    yield f"{found.seconds:.0f} s on {machine_text(found.machine)}."
    yield (
        "Settings are chosen by the mean over all windows' validation parts after the last window, with no "
        "test like told; tests are measured once."
    )
    for one in found.methods:
        told = ", ".join(f"{key} {value}" for key, value in one.settings.items()) or "no settings"
        yield f"{one.name} ({one.way}): {told}; {one.tried} tried, {one.chosen_by:.4f} on validation."
