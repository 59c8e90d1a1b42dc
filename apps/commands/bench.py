"""Benchmarks: ours and the reference, in turn, in one run."""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from apps import console
from apps.commands.shared import AsJson, Data, Port, app
from configs.home import Home

bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: ours and the reference, in turn, in one run.")
app.add_typer(bench_app, name="bench")


@bench_app.command("serve")
def bench_serve(
    data: Data = None,
    seconds: Annotated[float, typer.Option(help="How long each side is loaded.", max=300)] = 60.0,
    threads: Annotated[int, typer.Option(help="Clients at once.", max=16)] = 2,
    port: Port = 8265,
    as_json: AsJson = False,
) -> None:
    """Load on the recommendations endpoint, in process and over HTTP. Example: mg bench serve --seconds 20"""
    from apps.bench.serve import measure
    from kg.datasets import graph_name

    rows = measure(Home.here(), graph_name(data), seconds, threads, port)
    if as_json:
        console.show_json(rows)
    else:
        cells = [
            (row.what, row.requests, row.errors, f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}", f"{row.per_s:.0f}")
            for row in rows
        ]
        console.show_table(
            "recommendations", ("what", "requests", "errors", "p50 ms", "p99 ms", "requests/s"), cells
        )


@bench_app.command("lightgcn")
def bench_lightgcn(
    data: Data = None,
    python: Annotated[Path | None, typer.Option(help="An interpreter that has recbole==1.2.1.")] = None,
    epochs: Annotated[int, typer.Option(help="Epochs that count, on either side.", min=1, max=100)] = 5,
    threads: Annotated[int, typer.Option(help="Of torch, on either side.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """An epoch of LightGCN beside RecBole's. Example: mg bench lightgcn --python V/bin/python"""
    from apps.bench.lightgcn import measure
    from kg.datasets import graph_name

    found = measure(Home.here(), graph_name(data), python, epochs, threads)
    if as_json:
        console.show_json({**console.plain(found), "ratio": found.ratio})
        return
    sides = (("ours", found.ours_s), ("RecBole", found.theirs_s))
    cells = [(name, len(s), f"{median(s):.3f}", f"{min(s):.3f}", f"{max(s):.3f}") for name, s in sides if s]
    title = f"LightGCN, {found.interactions:,} likes, {found.batches} batches, {found.threads} thread(s)"
    console.show_table(title, ("side", "epochs", "median s", "least s", "most s"), cells)
    console.out.print(f"skipped: {found.skipped}" if found.ratio is None else f"ratio {found.ratio:.2f}")
