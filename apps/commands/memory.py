"""What the ReasoningBank remembers: told, shown, forgotten; and how fast it answers."""

import time
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

memory_app = typer.Typer(no_args_is_help=True, help="What worked for which queries: stats, show, forget.")
app.add_typer(memory_app, name="memory")
At = Annotated[int | None, typer.Option("--at", help="UTC seconds for which confidence is told; now.")]
User = Annotated[str | None, typer.Option("--user", help="Somebody's user id.")]


@memory_app.command("stats")
def stats(data: Data = None, at: At = None, as_json: AsJson = False) -> None:
    """How much it holds, and what a crash cut off. Example: mg memory stats"""
    found = _opened(data).stats(_at(at))
    if as_json:
        console.show_json(found)
        return
    rows = [
        ("patterns that answer", found.patterns),
        ("seeds, with too few positives yet", found.seeds),
        ("people", found.users),
        ("uses", found.uses),
        ("mean confidence", f"{found.mean_confidence:.3f}"),
        ("width of the vectors", "not known yet" if found.width is None else found.width),
        ("bytes on disk", found.size_bytes),
        *((f"promoted to {segment}", count) for segment, count in found.segments.items()),
    ]
    console.show_table("memory", ("what", "count"), rows)
    if found.cut_off:
        console.out.print(
            f"{found.cut_off} line(s) of the log were cut off (by a crash, or one is being written) and are "
            "passed over; none of them was acknowledged."
        )


@memory_app.command("show")
def show(
    pattern: Annotated[
        str | None, typer.Argument(help="Its id, as p12; the most used ones where left out.")
    ] = None,
    user: User = None,
    segment: Annotated[str | None, typer.Option(help="To which they were promoted.")] = None,
    n: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    data: Data = None,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Patterns and seeds, most used first. Example: mg memory show --segment owls"""
    bank, at_ts = _opened(data), _at(at)
    if pattern is not None:
        found = [bank.get(pattern)]
    else:
        found = bank.patterns() if user is None else bank.of_user(user)
    if segment is not None:
        found = [one for one in found if one.segment == segment]
    told = [_told(one, bank, at_ts) for one in sorted(found, key=lambda one: -one.uses)[:n]]
    if as_json:
        console.show_json(told)
        return
    rows = [
        (
            one["id"] + ("" if one["answers"] else " (seed)"),
            " > ".join(one["steps"]),
            ", ".join(f"{key} {value}" for key, value in one["context"].items()) or "any",
            one["segment"],
            f"{one['confidence']:.2f}",
            one["uses"],
            one["users"],
            ", ".join(one["results"][:3]),
        )
        for one in told
    ]
    columns = ("pattern", "steps", "context", "segment", "confidence", "uses", "people", "results")
    console.show_table(f"{len(told)} of {len(found)} patterns", columns, rows)


@memory_app.command("forget")
def forget(
    pattern: Annotated[str | None, typer.Argument(help="A pattern's id, as p12.")] = None,
    user: User = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Forgets a pattern, or all of somebody, in every file. Example: mg memory forget p12"""
    if (pattern is None) == (user is None):
        raise SettingError("forget takes one thing: a pattern's id, or --user with a user id")
    folder = _folder(data)
    if not folder.exists():
        raise SettingError(f"nothing was learned yet: {folder} is not there")
    with _bank()(folder, writes=True) as bank:
        if user is not None:
            count = bank.forget_user(user)
        else:
            bank.forget_pattern(str(pattern))
            count = 1
    if as_json:
        console.show_json({"forgotten": pattern or user, "patterns": count})
    else:
        console.out.print(f"{count} pattern(s) changed or went; no file holds what was forgotten.")


@bench_app.command("memory")
def bench_memory(
    patterns: Annotated[int, typer.Option(help="In the bank.", min=100, max=1_000_000)] = 100_000,
    queries: Annotated[int, typer.Option(help="Asked, on each side in turn.", min=10)] = 2_000,
    threads: Annotated[int, typer.Option(help="Of faiss and NumPy, on each side.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of what is made up.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Lookup among made-up patterns beside exact search. Example: mg bench memory --queries 500"""
    from apps.bench.memory import LEAST_RECALL, MOST_MS, measure

    with console.progress_bar("memory") as feed:
        rows = measure(patterns, queries, threads, seed, feed)
    if as_json:
        console.show_json([{**console.plain(row), "ratio": row.ratio, "is_met": row.is_met} for row in rows])
        return
    cells = [
        (
            row.queries_are,
            f"{row.p50_ms:.3f} / {row.p99_ms:.3f}",
            f"{row.cpu_p99_ms:.3f}",
            f"{row.exact_p50_ms:.3f} / {row.exact_p99_ms:.3f}",
            f"{row.bare_p50_ms:.3f} / {row.bare_p99_ms:.3f}",
            f"{row.ratio:.2f}",
            f"{row.recall:.4f}",
            f"{row.matched:.0%}",
            f"{row.open_s:.1f} / {row.open_again_s:.1f}",
            "met" if row.is_met else "NOT met",
        )
        for row in rows
    ]
    sides = ("ours p50 / p99 ms", "p99 cpu ms", "exact lookup", "bare exact search", "ratio to bare")
    console.show_table(
        f"lookup in {patterns:,} made-up patterns, {queries:,} queries, {threads} thread(s)",
        ("queries", *sides, "recall", "answered", "open s: first / again", "bar"),
        cells,
    )
    console.out.print(f"bar: p99 below {MOST_MS:g} ms, recall against exact at least {LEAST_RECALL:g}")


def _bank() -> Any:
    from models.memory import ReasoningBank

    return ReasoningBank


def _folder(data: str | None) -> Any:
    from kg.datasets import graph_name

    return Home.here().memory(graph_name(data))


def _opened(data: str | None) -> Any:
    return _bank()(_folder(data))


def _at(at: int | None) -> int:
    return int(time.time()) if at is None else at


def _told(pattern: Any, bank: Any, at_ts: int) -> dict[str, Any]:
    from models.memory_upkeep import now

    return {
        "id": pattern.pattern_id,
        "answers": pattern.positives >= bank.config.create_positives,
        "steps": pattern.steps,
        "context": pattern.context,
        "segment": pattern.segment,
        "confidence": now(pattern, at_ts, bank.config),
        "uses": pattern.uses,
        "positives": pattern.positives,
        "users": len(pattern.users),
        "results": pattern.results,
        "created_ts": pattern.created_ts,
        "used_ts": pattern.used_ts,
    }
