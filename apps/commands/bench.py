"""Benchmarks: ours and the reference, in turn, in one run."""

from functools import partial
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


@bench_app.command("canary")
def bench_canary(
    data: Data = None,
    share: Annotated[float, typer.Option(help="Share of people who see the candidate.")] = 0.5,
    people: Annotated[int, typer.Option(help="Asked at most, in each scenario.", max=20_000)] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the order in which people come.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Canaries under simulated feedback, good and bad. Example: mg bench canary --share 0.3"""
    from apps.bench.canary import measure
    from kg.datasets import graph_name

    with console.progress_bar("canary (simulated feedback)") as feed:
        rows, alarms = measure(Home.here(), graph_name(data), share, people, seed, feed)
    if as_json:
        console.show_json({"scenarios": rows, "false_alarms": alarms})
        return
    cells = [
        (row.scenario, row.champion, row.candidate, row.people, row.verdict, row.answers_now, row.failed)
        for row in rows
    ]
    columns = ("candidate", "champion", "tried", "people", "verdict", "answers now", "unanswered")
    console.show_table("canary, all feedback simulated", columns, cells)
    for row in rows:
        console.out.print(f"{row.scenario}: {row.reason} ({row.seconds:.0f} s)", markup=False)
    console.out.print(
        f"equal versions, {alarms.draws:,} draws of arms over {alarms.people:,} people, looked at all along: "
        f"{alarms.promoted_share:.1%} promoted (level {alarms.level:.0%}), "
        f"{alarms.rolled_back_share:.1%} rolled back (level {alarms.harm_level:.0%})"
    )


@bench_app.command("models")
def bench_models(
    repetitions: Annotated[int, typer.Option(help="Of iALS and implicit, in turn.", min=1, max=50)] = 5,
    large: Annotated[bool, typer.Option("--large", help="Also EASE on 41,000 contents: 7 GB.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time to fit models in closed form, iALS beside implicit. Example: mg bench models --repetitions 7"""
    from apps.bench.models import measure

    with console.progress_bar("models") as feed:
        rows = measure(repetitions, large, feed)
    if as_json:
        console.show_json(rows)
        return
    cells = [
        (
            row.what,
            row.shape,
            f"{row.seconds:.2f}",
            "" if row.reference_s is None else f"{row.reference_s:.2f}",
            "" if row.ratio is None else f"{row.ratio:.3f}",
            row.bar,
            f"{row.peak_bytes / 2**30:.1f}",
            row.note,
        )
        for row in rows
    ]
    columns = ("model", "likes", "fit s", "implicit s", "ratio", "bar", "peak GiB", "")
    console.show_table("models in closed form", columns, cells)


@bench_app.command("evaluation")
def bench_evaluation(
    users: Annotated[int, typer.Option(help="How many are ranked for.", min=1)] = 30_000,
    contents: Annotated[int, typer.Option(help="How many are ranked.", min=100)] = 41_000,
    repetitions: Annotated[int, typer.Option(help="Of either side, in turn.", min=1, max=20)] = 3,
    as_json: AsJson = False,
) -> None:
    """Full ranking and six metrics beside plain NumPy. Example: mg bench evaluation --repetitions 1"""
    from apps.bench.evaluation import measure

    with console.progress_bar("evaluation") as feed:
        rows = measure(users, contents, repetitions, feed)
    if as_json:
        console.show_json([{**console.plain(row), "median_s": row.median_s} for row in rows])
        return
    cells = [
        (
            row.what,
            f"{row.median_s:.2f}",
            f"{min(row.seconds):.2f}",
            f"{row.cpu_s:.2f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f}",
            ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row.stages.items()),
        )
        for row in rows
    ]
    columns = ("side", "median s", "least s", "processor s", "peak GiB", "seconds of the last")
    console.show_table(f"ranking and six metrics, {users:,} users × {contents:,} contents", columns, cells)
    equal = "equal" if rows[0].is_equal else "NOT equal"
    console.out.print(
        f"lists and metrics are {equal}; ratio {rows[0].median_s / rows[1].median_s:.2f}; bar 8 s and 2 GiB"
    )


@bench_app.command("metrics")
def bench_metrics(
    cases: Annotated[int, typer.Option(help="Random users.", min=1, max=1_000_000)] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the cases.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Our metrics beside three libraries, on random cases. Example: mg bench metrics --cases 1000"""
    from apps.bench.metrics import measure_all

    rows = measure_all(cases, seed)
    if as_json:
        console.show_json([{**console.plain(row), "is_within": row.is_within} for row in rows])
    else:
        cells = [
            (
                row.metric,
                row.library,
                "" if row.difference is None else f"{row.difference:.1e}",
                f"{row.bar:.0e}",
                row.note or ("within" if row.is_within else "NOT within"),
            )
            for row in rows
        ]
        title = f"largest absolute difference, {cases:,} cases, {rows[0].users:,} with something held out"
        console.show_table(title, ("metric", "library", "difference", "bar", ""), cells)
    if not all(row.is_within for row in rows):
        raise typer.Exit(1)


@bench_app.command("search")
def bench_search(
    data: Data = None,
    kills: Annotated[int, typer.Option(help="SIGKILLs at random moments.", min=0, max=50)] = 10,
    workers: Annotated[int, typer.Option(help="Of Ray; 0 searches without.", min=0, max=16)] = 1,
    trials: Annotated[int, typer.Option(help="For the cost of one; 0 leaves it out.", min=0)] = 8,
    as_json: AsJson = False,
) -> None:
    """Kills a search at random moments; says what Ray costs a trial. Example: mg bench search --kills 4"""
    from apps.bench.search import cost, kill
    from kg.datasets import graph_name

    home, graph = Home.here(), graph_name(data)
    killed = kill(home, graph, kills, workers, partial(console.err.print, markup=False)) if kills else ()
    costs = cost(home, graph, trials) if trials else []
    if as_json:
        console.show_json({"killed": killed, "cost": costs})
    else:
        for one in killed:
            cells = [
                (
                    "ran to its end"
                    if row.killed_after_s is None
                    else f"killed after {row.killed_after_s} s",
                    row.finished_before,
                    row.finished_after,
                    row.lost,
                    row.rerun,
                    row.resumed,
                )
                for row in one.sittings
            ]
            columns = ("sitting", "finished before", "after", "lost", "run again", "from a checkpoint")
            console.show_table(f"{one.sittings[0].search}: {one.trials} trials", columns, cells)
            same = {"settings": one.same_settings, "values": one.same_values, "best": one.same_best}
            told = ", ".join(f"{name} {'same' if is_same else 'NOT same'}" for name, is_same in same.items())
            console.out.print(f"beside the unbroken search: {told}")
        if costs:
            cells = [
                (row.what, row.trials, f"{row.s_per_trial:.2f}", f"{row.overhead_s:.2f}", row.said)
                for row in costs
            ]
            console.show_table("cost of a trial", ("what", "trials", "s a trial", "overhead s", ""), cells)
    if any(sum(row.lost + row.rerun for row in one.sittings) or not one.same_best for one in killed):
        raise typer.Exit(1)


@bench_app.command("graphsage")
def bench_graphsage(
    data: Data = None,
    steps: Annotated[int, typer.Option(help="Steps that count, on either side.", min=1, max=100)] = 5,
    threads: Annotated[int | None, typer.Option(help="Of torch and DGL, on either side.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """A training step of GraphSAGE beside DGL's stock, and an epoch. Example: mg bench graphsage --steps 3"""
    from apps.bench.graphsage import measure
    from kg.datasets import graph_name

    with console.progress_bar("graphsage") as feed:
        rows = measure(Home.here(), graph_name(data), steps, threads, feed)
    if as_json:
        console.show_json(rows)
        return
    cells = [
        (
            row.what,
            f"{row.seconds:.2f}",
            "" if row.reference_s is None else f"{row.reference_s:.2f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.bar,
            row.shape,
        )
        for row in rows
    ]
    console.show_table("GraphSAGE", ("what", "ours s", "DGL's stock s", "ratio", "bar", "shape"), cells)


@bench_app.command("router")
def bench_router(
    data: Data = None,
    queries: Annotated[int, typer.Option(help="Asked, one after the other.", min=100)] = 5_000,
    as_json: AsJson = False,
) -> None:
    """Size, latency and quality of the query router, beside simpler ones. Example: mg bench router"""
    from apps.bench.router import measure
    from apps.commands.router import CONFIG, folder_of, show_rows
    from configs.loading import load
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, graph = Home.here(), graph_name(data)
    arrays, save = GraphArrays.current(home.arrays(graph)), folder_of(home, f"{graph}-bench")
    with console.progress_bar("router") as feed:
        found = measure(load(CONFIG), arrays, lambda router, facts: router.save(save, facts), queries, feed)
    if as_json:
        console.show_json(found)
        return
    show_rows(found.told)
    cells = [
        (
            row.what,
            row.queries,
            *(f"{ms:.3f}" for ms in (row.p50_ms, row.p99_ms, row.core_p99_ms)),
            row.bar_ms or "",
        )
        for row in found.latency
    ]
    console.show_table(
        "in process", ("what", "queries", "p50 ms", "p99 ms", "p99 on the core", "bar ms"), cells
    )
    bars = [
        (bar.what, f"{bar.value:,.3f}".removesuffix(".000"), bar.bar, "met" if bar.is_met else "NOT met")
        for bar in found.bars
    ]
    console.show_table(f"served: {found.told['ahead']}", ("what", "value", "bar", ""), bars)


@bench_app.command("availability")
def bench_availability(
    data: Data = None,
    calls: Annotated[int, typer.Option(help="Filters of 10,000 contents, on either side.", min=10)] = 2_000,
    as_json: AsJson = False,
) -> None:
    """What a user can watch out of 10,000 contents, beside a scan. Example: mg bench availability"""
    from apps.bench.availability import measure
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    found = measure(GraphArrays.current(Home.here().arrays(graph_name(data))), calls)
    if as_json:
        console.show_json(found)
        return
    cells = [
        (
            row.what,
            row.calls,
            *(f"{ms:.3f}" for ms in (row.p50_ms, row.p99_ms, row.cpu_p99_ms)),
            row.bar_ms or "",
        )
        for row in found.rows
    ]
    title = f"{found.contents:,} contents, {found.windows:,} windows, ratio {found.ratio:.2f}"
    console.show_table(title, ("what", "filters", "p50 ms", "p99 ms", "p99 cpu ms", "bar ms"), cells)
