"""Policies as a report: who is answered how well by which, and what that says in sentences."""

from collections.abc import Iterator
from dataclasses import replace

from experiments.document import Cell, Column, Document, Section, Table
from experiments.policies import (
    BEST,
    CLASSES,
    FORMED,
    LEARNED,
    LEFT_OUT,
    STAND_FOR,
    Policies,
    PolicyResult,
    PolicyTable,
)
from experiments.wording import p_text

POLICIES = (
    Column("task"),
    Column("policy"),
    Column("value", ".4f"),
    Column("low", ".4f"),
    Column("high", ".4f"),
    Column("minus best single", "+.4f"),
    Column("low minus", "+.4f"),
    Column("high minus", "+.4f"),
    Column("p", ".4f"),
    Column("p after Holm", ".4f"),
)
CLASS_ROWS = (
    Column("task"),
    Column("class"),
    Column("test users"),
    Column("validation users"),
    Column("policy"),
    Column("stands for"),
    Column("picks"),
    Column("value", ".4f"),
)


def document(found: Policies, simulated: str = "") -> Document:
    """The whole report; ``policies.csv`` and ``policies_classes.csv`` hold all tasks."""
    parts = [
        Section(table.task, tuple(sentences(found, table)), tables(found, table)) for table in found.tables
    ]
    parts.append(Section("What the classes are", tuple(_classes(found))))
    parts.append(Section("How it was measured", tuple(_provenance(found))))
    lead = (
        "Does it pay to choose an attention mechanism by who asks? Each policy picks for each class of "
        f"people; the yardstick is the single mechanism that is best on validation ({found.graph}).",
        *summary(found),
    )
    return Document(f"Policies that choose an attention, {found.graph}", lead, tuple(parts), simulated)


def tables(found: Policies, table: PolicyTable) -> tuple[Table, Table]:
    """Policies, and what each picks for each class, on one task; the files hold all tasks."""
    return _policies(found, table), _by_class(found, table)


def summary(found: Policies) -> list[str]:
    """One sentence a task, and one a task that is left out."""
    told = [_summed(found, table) for table in found.tables]
    return [*told, *(f"{task}: no mechanism is finished, the task is left out." for task in found.idle)]


def sentences(found: Policies, table: PolicyTable) -> Iterator[str]:
    """What to know of one task's tables."""
    best = table.result(BEST).picks[CLASSES[0]][0]
    yield f"{len(table.mechanisms)} mechanisms are finished; the best single one on validation is `{best}`."
    for name, lacking in table.missing.items():
        why = ", ".join(f"`{one}` ({table.unfinished[one]})" for one in lacking)
        yield f"{name} could not be tried and is left out, it needs what has no value: {why}."
    for why in dict.fromkeys(table.unfinished.values()):
        names = ", ".join(f"`{name}`" for name, mine in table.unfinished.items() if mine == why)
        yield f"In no policy, {why}: {names}."
    if table.warm_users < found.least_users:
        yield f"{table.warm_users} warm users: with fewer than {found.least_users} nothing is called better."


def _summed(found: Policies, table: PolicyTable) -> str:
    rivals = [one for one in table.results if one.to_best is not None]
    ahead = [one.name for one in rivals if found.is_better(table, one)]
    behind = [one.name for one in rivals if one.to_best.difference < 0 and one.p < found.level]
    best, learned = table.result(BEST), table.result(LEARNED)
    apart = f"{learned.to_best.difference:+.4f}, p {p_text(learned.p)}"
    told = f"better than it: {', '.join(ahead) or 'none'}; worse: {', '.join(behind) or 'none'}"
    return (
        f"{table.task}: best single is {best.picks[CLASSES[0]][0]} with {table.metric} "
        f"{best.value.value:.4f}; learned reaches {learned.value.value:.4f} ({apart}); "
        f"{told} (p < {found.level:g} after Holm over {found.tests} differences)."
    )


def _policies(found: Policies, table: PolicyTable) -> Table:
    rows = tuple((one.task, *_cells(result)) for one in found.tables for result in one.results)
    columns = (
        Column("policy"),
        Column(table.metric, ".4f"),
        Column("interval"),
        Column("minus best single"),
        Column("p (Holm)"),
    )
    brief = Table("", "", "", columns, tuple(_brief(one) for one in table.results))
    caption = (
        f"{table.metric} over {table.note.users} test users, each by the mean over seeds; where a policy "
        "names several mechanisms, each user by the mean over them. Interval over users; differences on the "
        f"same users, p by sign flips after Holm over the {found.tests} differences of all tasks."
    )
    return Table("policies", f"Policies, {table.task}", caption, POLICIES, rows, brief)


def _by_class(found: Policies, table: PolicyTable) -> Table:
    rows = tuple(row for one in found.tables for row in _class_rows(one))
    mine = tuple(row[1:3] + row[4:] for row in _class_rows(table, brief=True))
    columns = (*CLASS_ROWS[1:3], *CLASS_ROWS[4:-1], replace(CLASS_ROWS[-1], name=table.metric))
    caption = (
        "Mean over the class's test users. A class that a published table does not name is answered by the "
        "best single mechanism."
    )
    brief = Table("", "", "", columns, mine)
    return Table("policies_classes", f"Policies by class, {table.task}", caption, CLASS_ROWS, rows, brief)


def _class_rows(table: PolicyTable, brief: bool = False) -> Iterator[tuple[Cell, ...]]:
    for name in CLASSES:
        for one in table.results:
            picks = one.picks[name]
            is_long = brief and len(picks) > 3
            yield (
                table.task,
                name,
                table.users[name],
                table.validation_users[name],
                one.name,
                STAND_FOR.get(one.name, {}).get(name),
                f"all {len(picks)}" if is_long else " + ".join(picks),
                one.by_class.get(name),
            )


def _cells(one: PolicyResult) -> tuple[Cell, ...]:
    to = one.to_best
    apart = (None,) * 4 if to is None else (to.difference, to.low, to.high, to.p)
    return (one.name, one.value.value, one.value.low, one.value.high, *apart, one.p)


def _brief(one: PolicyResult) -> tuple[Cell, ...]:
    to, interval = one.to_best, f"{one.value.low:.4f} to {one.value.high:.4f}"
    if to is None:
        return (one.name, one.value.value, interval, None, None)
    apart = f"{to.difference:+.4f} ({to.low:+.4f} to {to.high:+.4f})"
    return (one.name, one.value.value, interval, apart, p_text(one.p))


def _classes(found: Policies) -> Iterator[str]:
    yield (
        "No log of queries exists: the classes are stand-ins, formed from what each person liked before the "
        "test. They are taken in this order, so that nobody is in two."
    )
    for name in CLASSES:
        stands = (f"{told[name]} of {table}" for table, told in STAND_FOR.items() if name in told)
        yield f"{name}: {FORMED[name]}; stands for {', '.join(stands)}."
    yield "Borders are fixed on validation users and used for test users, who may have more likes by then."
    for table in found.tables:
        yield (
            f"{table.task}: short up to {table.borders.short:g} likes, long above {table.borders.long:g}, "
            f"narrow up to {table.borders.entropy:.3f} bits of entropy over genres."
        )
    for name, why in LEFT_OUT.items():
        yield f"The published class {name} is left out, it cannot be formed: {why}."


def _provenance(found: Policies) -> Iterator[str]:
    yield f"Command: `mg bench attention --task policies --data {found.graph}`; it trains nothing."
    yield f"Graph {found.graph}, hash {found.graph_hash}."
    for table in found.tables:
        one = table.note
        yield (
            f"{table.task}: split {one.split_hash}, {one.users} test users, seeds "
            f"{', '.join(map(str, one.seeds))}; policies are chosen on validation with one seed; code "
            f"{', '.join(one.code_revisions) or 'unknown'}."
        )
