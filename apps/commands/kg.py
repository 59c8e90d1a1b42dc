"""``mg bench kg``: the hypergraph on the clock."""

from dataclasses import replace
from typing import Annotated

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data


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
    from apps.bench.kg import ELSEWHERE, Plan, measure
    from kg.datasets import WORLD, graph_name

    name = WORLD if quick or data is None else str(data)
    grown = tuple(sizes) if sizes else (10_000, 30_000) if quick else (100_000, 300_000, 1_000_000)
    grown += (10_000_000,) if large else ()
    plan = Plan(name, grown, repeats, neo4j)
    if quick:
        plan = replace(plan, users=500, contents=200)
    with console.progress_bar("kg") as feed:
        rows = list(measure(plan, feed))
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
    console.show_table(f"the hypergraph, {graph_name(name)}", columns, cells)
    console.out.print(f"the rest: {', '.join(ELSEWHERE)}")
