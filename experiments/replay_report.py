"""A replay as a report: what each way to answer reaches, what it adds, and when."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.document import Cell, Chart, Column, Document, Section, Table
from experiments.figures import means_figure
from experiments.replay_table import TURNS, Difference, ReplayTable, RowResult
from experiments.tables import machine_text
from experiments.wording import p_text


def document(found: ReplayTable, simulated: str = "", command: str = "") -> Document:
    """The whole report.

    Args:
        found: what was replayed.
        simulated: a sentence where data is made up.
        command: that makes this report again.
    """
    parts = (
        Section("What each reaches", tuple(_meaning(found)), (rows_table(found), _chart(found))),
        Section("What each adds", tuple(sentences(found)), (differences_table(found),)),
        Section("How far into the replay", (), (turns_table(found),)),
        Section("How it was measured", tuple(_provenance(found, command))),
    )
    lead = (
        f"{found.events:,} events of {found.users} people, held out by {found.split_name}, handed out in "
        f"{found.blocks:,} blocks; each is ranked before anything is learned from it.",
        *sentences(found),
    )
    title = f"Replay of {found.graph}, {found.name}"
    return Document(title, lead, tuple(part for part in parts if part.parts or part.sentences), simulated)


def rows_table(found: ReplayTable) -> Table:
    """One row a loop, as the config names them."""
    metric, others = found.metric, list(found.rows[0].metrics)[1:]
    columns = (
        Column("row"),
        Column("model"),
        Column("loop"),
        Column(metric, ".4f"),
        Column("low", ".4f"),
        Column("high", ".4f"),
        *(Column(name, ".4f") for name in others),
        Column(f"{metric} a block", ".4f"),
        Column("µs an answer", ".0f"),
        Column("µs an event learned", ".1f"),
    )
    caption = (
        f"Mean over {found.users} people of each one's mean over blocks, with the interval over people; "
        f"`{metric} a block` is the mean over all {found.blocks:,} blocks, whosever they are."
    )
    rows = tuple(_cells(one, metric, others) for one in found.rows)
    return Table("replay", "Rows", caption, columns, rows)


def differences_table(found: ReplayTable) -> Table:
    """Pairs of rows on the same people."""
    columns = (
        Column("first"),
        Column("second"),
        Column("first minus second", "+.4f"),
        Column("low", "+.4f"),
        Column("high", "+.4f"),
        Column("effect (d)", "+.2f"),
        Column("detectable", ".4f"),
        Column("p", ".4f"),
        Column("p after Holm", ".4f"),
        Column("better"),
    )
    caption = (
        f"{found.metric} of the same people; p by sign flips, after Holm over {len(found.differences)} "
        f"differences; better means above, with p < {found.level:g} then. Detectable is the smallest mean "
        "difference that so many people would show."
    )
    rows = tuple(
        (
            one.first,
            one.second,
            float(one.paired.difference),
            float(one.paired.low),
            float(one.paired.high),
            float(one.paired.effect),
            float(one.paired.detectable),
            one.paired.p,
            one.p,
            one.is_better,
        )
        for one in found.differences
    )
    return Table("replay_differences", "Differences", caption, columns, rows)


def turns_table(found: ReplayTable) -> Table:
    """The metric by how many blocks of a person have gone before."""
    columns = (Column("row"), *(Column(_turn(least, most), ".4f") for least, most in TURNS))
    people = tuple(str(one.users) for one in found.rows[0].by_turn)
    caption = (
        f"{found.metric} at a person's first block, second block and so on: mean over those who come so far "
        f"({', '.join(people)} people)."
    )
    rows = tuple((row.name, *(one.value for one in row.by_turn)) for row in found.rows)
    return Table("replay_turns", "By place", caption, columns, rows)


def sentences(found: ReplayTable) -> list[str]:
    """What each difference says."""
    if not found.differences or found.warm_users >= found.least_users:
        return [f"{_verdict(one)}: {_gain(one)}." for one in found.differences]
    few = f"{found.warm_users} warm people: with fewer than {found.least_users} nothing is called better."
    return [few, *(f"{one.first} minus {one.second}: {_gain(one)}." for one in found.differences)]


def _verdict(one: Difference) -> str:
    verdict = "better" if one.is_better else "worse" if one.is_worse else "not shown to be better"
    return f"{one.first} is {verdict} than {one.second}"


def _gain(one: Difference) -> str:
    return (
        f"{one.paired.difference:+.4f} ({one.paired.low:+.4f} to {one.paired.high:+.4f}), p {p_text(one.p)}"
    )


def _cells(row: RowResult, metric: str, others: list[str]) -> tuple[Cell, ...]:
    value = row.metrics[metric]
    return (
        row.name,
        row.model,
        row.loop,
        value.value,
        value.low,
        value.high,
        *(row.metrics[name].value for name in others),
        row.block_means[metric],
        row.score_us,
        row.learn_us,
    )


def _turn(least: int, most: int | None) -> str:
    return f"{least} on" if most is None else str(least) if least == most else f"{least} to {most}"


def _chart(found: ReplayTable) -> Chart:
    means = {row.name: row.metrics[found.metric] for row in found.rows}
    told = ", ".join(f"{name} {one.value:.4f}" for name, one in means.items())
    label = f"{found.metric}, {found.users} people, {found.confidence:.0%} intervals"
    caption = "Mean over people with its interval; the rows of the table in the same order."
    return Chart(
        "replay", "Rows", caption, f"{found.metric} of each row: {told}.", means_figure(means, label)
    )


def _meaning(found: ReplayTable) -> Iterator[str]:
    yield (
        "A block is what one person liked in one second: it is ranked whole, then learned. All contents that "
        "training knows are ranked, less what the person has liked so far, in every row."
    )
    if found.unreachable:
        yield f"{found.unreachable} events are of contents unknown to training: every row misses them."
    if found.same_second:
        yield (
            f"{found.same_second} people's first block shares its second with their history: which likes are "
            "history there, a draw of the split decides."
        )
    for row in found.rows:
        if row.said:
            yield f"{row.name}: {row.said}."


def _provenance(found: ReplayTable, command: str) -> Iterator[str]:
    if command:
        yield f"Command: `{command}`."
    yield (
        f"Graph {found.graph}, hash {found.graph_hash}; split {found.split_name}, hash {found.split_hash}, "
        f"part {found.part}; seed {found.seed}; code {found.code_revision}."
    )
    yield f"{found.seconds:.0f} s on {machine_text(found.machine)}."
    for row in found.rows:
        chosen = f", chosen among {row.tried} replayed on validation" if row.tried else ""
        cut = f" {row.budget_cut}." if row.budget_cut else ""
        yield (
            f"{row.name}: {row.model} with {_settings(row.model_settings)}, chosen on validation; loop "
            f"{row.loop} with {_settings(row.settings)}{chosen}.{cut}"
        )


def _settings(settings: Mapping[str, Any]) -> str:
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    return told or "no settings"
