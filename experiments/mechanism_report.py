"""The table of mechanisms as a report: quality with intervals, cost against length, how it was made."""

from collections.abc import Iterator
from dataclasses import replace

from experiments.document import Cell, Chart, Column, Document, Section
from experiments.document import Table as Shown
from experiments.figures import cost_figure, quality_figure
from experiments.mechanism_table import REFERENCES, Quality, Row, Table
from experiments.tables import machine_text
from experiments.wording import p_text

MIB = 2**20


def document(table: Table) -> Document:
    """The whole report."""
    parts: list[Section] = [Section("All mechanisms", (), (whole_table(table),))]
    for task in table.tasks:
        parts.append(Section(f"Quality, {task}", tuple(_sentences(table, task)), tuple(_charts(table, task))))
    if any(row.costs for row in table.rows):
        alt = "Lines of seconds and of memory against length on log axes, one a mechanism."
        chart = Chart("attention_cost", "Cost against length", _COST, alt, cost_figure(table))
        parts.append(Section("Cost", (), (costs_table(table), chart)))
    parts.append(Section("How it was measured", tuple(_provenance(table))))
    return Document(table.title, (_lead(table),), tuple(parts), table.simulated)


def whole_table(table: Table) -> Shown:
    """One row a mechanism with all that is known; people see fewer columns."""
    columns = [Column("mechanism"), Column("family"), Column("nature")]
    for task in table.tasks:
        columns += [Column(f"{task} {name}", spec) for name, spec in _QUALITY]
    lengths = sorted({one.k for row in table.rows for one in row.costs})
    for k in lengths:
        columns += [Column(f"{name} at {k}", spec) for name, spec in _COSTS]
    columns += [Column(name, spec) for name, spec in _SLOPES] if lengths else []
    rows = tuple(
        (
            row.name,
            row.family,
            row.nature,
            *(cell for task in table.tasks for cell in _quality_cells(row.qualities.get(task, Quality()))),
            *(cell for k in lengths for cell in _cost_cells(row, k)),
            *(_slope_cells(row) if lengths else ()),
        )
        for row in table.rows
    )
    caption = (
        f"{table.metric} over all rankable contents: mean over users of each user's mean over seeds, the "
        "interval over users, sd over the seeds' means. Differences are the mechanism minus the reference on "
        "the same users, p by sign flips after Holm over all differences of the task."
    )
    return Shown("attention", "All mechanisms", caption, tuple(columns), rows, _brief(table, lengths))


def texts(table: Table) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, column names and rows as people read them: a table a task and one of costs fit a terminal."""
    lengths = sorted({one.k for row in table.rows for one in row.costs})
    parts = [(replace(table, tasks={task: note}), []) for task, note in table.tasks.items()]
    parts += [(replace(table, tasks={}), lengths)] if lengths else []
    for part, shown_lengths in parts:
        shown = _brief(part, shown_lengths)
        title = ", ".join([table.title, *(part.tasks or ["seconds with gradient and memory by k"])])
        yield title, tuple(column.name for column in shown.columns), shown.texts()


def costs_table(table: Table) -> Shown:
    """One row a mechanism and length."""
    columns = (
        Column("mechanism"),
        Column("k"),
        Column("forward s", ".4f"),
        Column("with gradient s", ".4f"),
        Column("forward MiB", ".1f"),
        Column("with gradient MiB", ".1f"),
        Column("passes"),
        Column("ended by"),
    )
    rows = tuple(
        (
            row.name,
            one.k,
            one.forward_s,
            one.train_s,
            _mib(one.forward_bytes),
            _mib(one.train_bytes),
            one.repetitions,
            " in ".join(filter(None, (one.ended, one.stage))) or None,
        )
        for row in table.rows
        for one in row.costs
    )
    return Shown("attention_costs", "Time and memory by length", _COST, columns, rows)


def _brief(table: Table, lengths: list[int]) -> Shown:
    columns = [Column("mechanism"), Column("family"), Column("nature")]
    for task in table.tasks:
        columns += [
            Column(f"{task} ± sd"),
            Column("interval"),
            Column("minus multi_head (p)"),
            Column("minus mean (p)"),
            Column("fit s", ".1f"),
            Column("parameters"),
        ]
    columns += [Column(f"s at {k}") for k in lengths]
    columns += [Column("MiB at largest k"), Column("largest k")] if lengths else []
    columns += [Column(name, ".2f") for name in ("slope s", "slope memory")] if lengths else []
    rows = tuple(
        (
            row.name,
            row.family,
            row.nature,
            *(cell for task in table.tasks for cell in _brief_quality(row.qualities.get(task, Quality()))),
            *(_seconds(row, k) for k in lengths),
            *(_brief_cost(row) if lengths else ()),
        )
        for row in table.rows
    )
    return Shown("", "", "", tuple(columns), rows)


def _brief_quality(one: Quality) -> tuple[Cell, ...]:
    if one.value is None:
        return (one.error or None, None, None, None, one.fit_s, one.parameters)
    sd = "" if one.sd is None else f" ± {one.sd:.4f}"
    against = [
        f"{one.to[name].paired.difference:+.4f} ({p_text(one.to[name].p)})" if name in one.to else None
        for name in REFERENCES
    ]
    interval = f"{one.value.low:.4f} to {one.value.high:.4f}"
    return (f"{one.value.value:.4f}{sd}", interval, *against, one.fit_s, one.parameters)


def _brief_cost(row: Row) -> tuple[Cell, ...]:
    largest = row.cost(row.largest_k) if row.largest_k else None
    memory = None if largest is None else f"{_mib(largest.train_bytes):.0f}"
    return (memory, row.largest_k, row.slope("train_s"), row.slope("train_bytes"))


def _seconds(row: Row, k: int) -> str | None:
    one = row.cost(k)
    if one is None:
        return None
    return one.ended or f"{one.train_s:.3g}"


_QUALITY = (
    ("ndcg", ".4f"),
    ("low", ".4f"),
    ("high", ".4f"),
    ("sd over seeds", ".4f"),
    ("seeds", ""),
    ("validation", ".4f"),
    *(
        (f"{what} {name}", ".4f")
        for name in REFERENCES
        for what in ("minus", "low minus", "high minus", "p to")
    ),
    ("rate", ""),
    ("epochs", ""),
    ("fit s", ".2f"),
    ("parameters", ""),
    ("error", ""),
)


def _quality_cells(one: Quality) -> tuple[Cell, ...]:
    value = one.value
    found: list[Cell] = [None] * 3 if value is None else [value.value, value.low, value.high]
    found += [one.sd, len(one.seed_values), one.validation]
    for name in REFERENCES:
        to = one.to.get(name)
        found += [None] * 4 if to is None else [to.paired.difference, to.paired.low, to.paired.high, to.p]
    return (*found, one.rate, one.epochs, one.fit_s, one.parameters, one.error or None)


_COSTS = (("forward s", ".4f"), ("with gradient s", ".4f"), ("with gradient MiB", ".1f"), ("ended", ""))


def _cost_cells(row: Row, k: int) -> tuple[Cell, ...]:
    one = row.cost(k)
    if one is None:
        return (None,) * len(_COSTS)
    return (one.forward_s, one.train_s, _mib(one.train_bytes), one.ended or None)


_SLOPES = (
    ("largest k", ""),
    ("slope forward s", ".2f"),
    ("slope with gradient s", ".2f"),
    ("slope forward memory", ".2f"),
    ("slope with gradient memory", ".2f"),
)


def _slope_cells(row: Row) -> tuple[Cell, ...]:
    fields = ("forward_s", "train_s", "forward_bytes", "train_bytes")
    return (row.largest_k, *(row.slope(name) for name in fields))


_COST = (
    "q = k, a batch of one, one head, width 64, one thread, float32; each length in a process of its own. "
    "Median of three passes after a warm-up, of thirty where one takes less than 20 ms; one of more than two "
    "seconds is made once. Memory is the most a pass took beyond the process with its inputs. Slopes are of "
    "log seconds and log bytes over log k from 1,024 on."
)


def _charts(table: Table, task: str) -> Iterator[Chart]:
    if any(task in row.qualities and row.qualities[task].value is not None for row in table.rows):
        title, alt = f"{table.metric} on {task}", "Dots with intervals, one a mechanism, the best on top."
        caption = "Mean over users and seeds; the interval is over users. Test users, measured once."
        yield Chart(f"attention_{task}", title, caption, alt, quality_figure(table, task))


def _sentences(table: Table, task: str) -> Iterator[str]:
    sure = {"above": [], "below": []}
    for row in table.rows:
        one = row.qualities.get(task, Quality()).to.get("multi_head")
        if one is not None and one.p < table.level:
            sure["above" if one.paired.difference > 0 else "below"].append(row.name)
    for way, names in sure.items():
        told = ", ".join(names) or "none"
        yield f"{way.capitalize()} multi_head with p < {table.level:g} after Holm: {told}."
    for row in table.rows:
        if cut := row.qualities.get(task, Quality()).cut:
            told = ", ".join(f"{rate:g}" for rate in cut)
            yield f"`{row.name}` was ended by the time limit at learning rate {told}: not judged at its best."
        if error := row.qualities.get(task, Quality()).error:
            yield f"`{row.name}` has no value: {error}"


def _lead(table: Table) -> str:
    return (
        f"{len(table.rows)} registered mechanisms on {table.graph}; learning rates are chosen on validation, "
        "test is measured once a seed."
    )


def _provenance(table: Table) -> Iterator[str]:
    yield f"Command: `{table.command}`"
    yield f"Graph {table.graph}, hash {table.graph_hash}; code {table.code_revision}; {table.made}."
    yield f"Machine: {machine_text(table.machine)}."
    for task, one in table.tasks.items():
        seeds, rates = ", ".join(map(str, one.seeds)), ", ".join(f"{rate:g}" for rate in one.rates)
        yield (
            f"{task}: split {one.split_hash}, {one.users} test users, seeds {seeds}, learning rates {rates}, "
            f"at most {one.train.get('epochs')} epochs; code {', '.join(one.code_revisions) or 'unknown'}."
        )


def _mib(count: int | None) -> float | None:
    return None if count is None else count / MIB
