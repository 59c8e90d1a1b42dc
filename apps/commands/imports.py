"""``mg bench imports``: imports broken off at random moments, and run again."""

from typing import Annotated

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson


@bench_app.command("imports")
def bench_imports(
    moments: Annotated[int, typer.Option(help="Imports broken off, each place and fault.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments and of the world.", min=0)] = 0,
    neo4j: Annotated[str, typer.Option(help="A script that starts a Neo4j; none leaves it out.")] = "",
    as_json: AsJson = False,
) -> None:
    """Kills the database or the importer, or fills the disk, amid imports, then imports again; the full disk
    is mounted for the while, which root may. Example: mg bench imports --moments 5"""
    from apps.bench.imports import Plan, measure

    with console.progress_bar("imports") as feed:
        rows = []
        for row in measure(Plan(moments, seed, neo4j), feed):
            rows.append(row)
            done = f"{row.where}, {row.fault}: {row.equal} of {row.moments} ended equal"
            console.err.print(done, markup=False)
    if as_json:
        console.show_json([{**console.plain(row), "is_met": row.is_met} for row in rows])
    else:
        cells = [
            (
                row.where,
                row.fault,
                row.moments,
                row.broken_off,
                f"{row.clear} of {row.said}" if row.said else "",
                row.equal,
                row.longest_s,
                row.note or ("" if row.is_met else "NOT met"),
            )
            for row in rows
        ]
        columns = ("import", "fault", "moments", "broken off", "said clearly", "ended equal", "again, s", "")
        console.show_table("imports broken off, then the same command again", columns, cells)
        for words in dict.fromkeys(words for row in rows for words in row.unclear):
            console.out.print(f"unclear: {words}", markup=False)
    if not all(row.is_met for row in rows):
        raise typer.Exit(1)
