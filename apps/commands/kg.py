"""``mg bench kg``: the hypergraph on the clock."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data

if TYPE_CHECKING:
    from apps.bench.kg import Row


@bench_app.command("kg")
def bench_kg(
    data: Data = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small world and small sizes: minutes.")] = False,
    large: Annotated[bool, typer.Option("--large", help="A world of ten million facts, too.")] = False,
    sizes: Annotated[
        list[int] | None,
        typer.Option(
            "--size", help="Facts of a world that grows; several: give it again. A single one is not run."
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Loads on either side; the median counts.", min=1)] = 1,
    neo4j: Annotated[
        str, typer.Option(help="A script that starts a Neo4j, or `test` for MG_TEST_NEO4J_URI.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Loads of --data (else world), growth, export, beside the bare server. Example: mg bench kg --quick"""
    from apps.bench.kg import Plan, measure
    from kg.datasets import WORLD, graph_name

    name = WORLD if quick or data is None else str(data)
    grown = tuple(sizes) if sizes else (10_000, 30_000) if quick else (100_000, 300_000, 1_000_000)
    grown += (10_000_000,) if large else ()
    plan = Plan(name, grown, repeats, neo4j)
    if quick:
        plan = replace(plan, users=500, contents=200)
    rows: list[Row] = []
    try:
        with console.progress_bar("kg") as feed:
            rows.extend(measure(plan, feed))
    finally:  # what was measured before a step failed is told, too
        _show(rows, graph_name(name), as_json)


def _show(rows: "list[Row]", graph: str, as_json: bool) -> None:
    from apps.bench.kg import ELSEWHERE

    if as_json:
        console.show_json([{**console.plain(row), "is_met": row.is_met} for row in rows])
        return
    cells = [
        (
            row.what,
            f"{row.ours:,.2f}",
            "" if row.reference is None else f"{row.reference:,.2f}",
            row.unit,
            f"{row.value:,.2f}",
            f"{'≥' if row.is_least else '≤'} {row.bar:g}: {'met' if row.is_met else 'NOT met'}",
            row.note,
        )
        for row in rows
    ]
    columns = ("what", "ours", "reference", "unit", "value", "bar", "")
    console.show_table(f"the hypergraph, {graph}", columns, cells)
    console.out.print(f"the rest: {', '.join(ELSEWHERE)}")
