"""Who may show what, how far that is to be believed, and what changed, of a graph as exported."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError, UnknownName

_known = [group.typer_instance for group in app.registered_groups if group.name == "graph"]
graph_app = _known[0] if _known else typer.Typer(no_args_is_help=True, help="The graph as a whole.")
if not _known:
    app.add_typer(graph_app, name="graph")

At = Annotated[
    str | None,
    typer.Option("--at", help="ISO date that counts as now; the last day that the graph tells of."),
]
Rows = Annotated[int, typer.Option("-n", help="Rows that a table shows; --json gives all.", min=1)]


@graph_app.command("conflicts")
def conflicts(data: Data = None, at: At = None, n: Rows = 20, as_json: AsJson = False) -> None:
    """Windows that contradict each other, and broken exclusivity. Example: mg graph conflicts --data world"""
    from kg import rights

    graph, moment = _open(data, at)
    told = rights.windows(graph, moment)
    contested, exclusive = rights.contested(told), rights.exclusivity_conflicts(told)
    if as_json:
        console.show_json({"at": _day(moment), "contested": contested, "exclusivity": exclusive})
        return
    rows: list[tuple[Any, ...]] = [
        (one.content_id, one.platform_id, one.region, rights.tell_span(one.span), one.reason)
        for one in contested
    ]
    columns = ("content", "platform", "region", "when", "contested, because")
    _table(f"contested windows at {_day(moment)}", columns, rows, n)
    rows = [
        (
            one.content_id,
            ", ".join(one.regions),
            rights.tell_span(one.span),
            f"{one.exclusive.platform_id} ({one.exclusive.source})",
            f"{one.other.platform_id} ({one.other.source})",
        )
        for one in exclusive
    ]
    columns = ("content", "regions", "when", "exclusive on", "also on")
    _table(f"exclusive windows that another platform overlaps at {_day(moment)}", columns, rows, n)
    _mark_simulated(any(one.simulated for one in told))


@graph_app.command("violations")
def violations(data: Data = None, at: At = None, n: Rows = 20, as_json: AsJson = False) -> None:
    """Windows outside their licence, with the bound that breaks. Example: mg graph violations --json"""
    from kg import rights

    graph, moment = _open(data, at)
    told = rights.windows(graph, moment)
    found = rights.violations(graph, told, moment)
    if as_json:
        console.show_json({"at": _day(moment), "violations": found})
        return
    licensed = sum(one.license_id is not None for one in told)
    rows = [
        (one.window.content_id, one.window.platform_id, one.license_id, one.bound, one.told, one.allowed)
        for one in found
    ]
    columns = ("content", "platform", "licence", "bound", "told", "allowed")
    _table(f"of {licensed:,} windows under a licence, outside it at {_day(moment)}", columns, rows, n)


@graph_app.command("expiring")
def expiring(
    region: Annotated[str, typer.Option(help="ISO 3166-1 alpha-2.")] = "US",
    days: Annotated[int, typer.Option(help="Ahead, and back for what has expired.", min=1)] = 30,
    data: Data = None,
    at: At = None,
    n: Rows = 20,
    as_json: AsJson = False,
) -> None:
    """What platforms lose soon, alerts at 30, 7, 1 day. Example: mg graph expiring --region DE --days 7"""
    from kg import rights

    graph, moment = _open(data, at)
    code = region.upper()
    told = rights.windows(graph, moment)
    found = rights.expiring(told, code, days, moment)
    if as_json:
        console.show_json({"at": _day(moment), "region": code, "days": days, "expiring": found})
        return
    rows = [
        (_day(one.end_ts - 1), one.alert, _title(graph, one.content_id), one.content_id, one.platform_id)
        for one in found
    ]
    columns = ("last day", "alert", "title", "content", "platform")
    _table(f"ends in {code} within {days} days of {_day(moment)}", columns, rows, n)
    _mark_simulated(any(one.simulated for one in told))


@graph_app.command("trust")
def trust(
    content: Annotated[str, typer.Argument(help="Id of a content, with or without 'content:'.")],
    data: Data = None,
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """How far a content and its offers are to be believed. Example: mg graph trust content:imdb:tt0113277"""
    from kg import rights

    graph, moment = _open(data, at)
    content_id = content if content.startswith("content:") else f"content:{content}"
    row = graph.row_of(content_id)
    if row is None:
        raise UnknownName(f"graph {graph.name!r} has no content {content_id!r}: see `mg query` for ids")
    table = rights.trust_table(graph, moment)
    whole = table.of(row)
    offers = [
        (one, table.offer(one.fact_row))
        for one in rights.windows(graph, moment)
        if one.content_id == content_id
    ]
    if as_json:
        told = [{"window": one, "trust": part, "value": part.value} for one, part in offers]
        answer = {"content_id": content_id, "at": _day(moment), "trust": whole, "value": whole.value}
        console.show_json({**answer, "is_verified": whole.is_verified, "offers": told})
        return
    rows = [("the content", "", "", *_parts(whole))]
    rows += [(one.platform_id, rights.tell_span(one.span), one.source, *_parts(part)) for one, part in offers]
    columns = ("what", "when", "source", "trust", "source .25", "metadata .25", "availability .20")
    title = f"trust in {_title(graph, content_id)} at {_day(moment)}"
    console.show_table(title, (*columns, "corroboration .15", "freshness .15", ""), rows)
    _mark_simulated(any(one.simulated for one, _ in offers))


@graph_app.command("verify")
def verify(data: Data = None, at: At = None, as_json: AsJson = False) -> None:
    """Writes trust, completeness and last seen of every content into the graph, for questions that ask for
    them (hidden_gems, trusted); then `mg export` anew. Example: mg graph verify --data world"""
    from kg.datasets import graph_name
    from kg.store import open_store
    from kg.verified import verify as write_trust

    home, name = Home.here(), graph_name(data)
    with open_store(home.database(name), name) as store:
        report = write_trust(store, name, None if at is None else _seconds(at))
    if as_json:
        console.show_json(report)
        return
    console.out.print(f"{report.nodes_written:,} contents written, {report.unchanged:,} as before")


@graph_app.command("diff")
def diff(
    first: Annotated[str, typer.Option("--from", help="ISO date.")],
    second: Annotated[str, typer.Option("--to", help="ISO date, later.")],
    platform: Annotated[str | None, typer.Option(help="Only this one, as netflix.")] = None,
    region: Annotated[str | None, typer.Option(help="Only this country, ISO 3166-1 alpha-2.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Count by this identifier (imdb) as the sources tell it, before titles are merged."
        ),
    ] = None,
    data: Data = None,
    n: Rows = 10,
    as_json: AsJson = False,
) -> None:
    """What arrived, left, changed its price or its owner.
    Example: mg graph diff --from 2022-07-01 --to 2023-04-01 --platform netflix --region US"""
    from kg import changes

    code = None if region is None else region.upper()
    platform_id = None if platform is None else f"platform:{platform.removeprefix('platform:')}"
    moments = _seconds(first), _seconds(second)
    if by is not None:
        if platform_id is None or code is None:
            raise SettingError("--by compares one platform in one country: give --platform and --region")
        told = _told(data, moments, platform_id, code, by)
        counts = {"stayed": len(told.stayed), "left": len(told.left), "arrived": len(told.arrived)}
        if as_json:
            console.show_json({"by": by, "counts": counts, "left": told.left, "arrived": told.arrived})
        else:
            console.show_table(f"{platform_id} in {code} by {by}", ("what", "titles"), list(counts.items()))
        return
    graph, _ = _open(data, None)
    try:
        found = changes.diff(graph, *moments, platform_id, code)
    except ValueError as error:
        raise SettingError(str(error)) from None
    if as_json:
        console.show_json(found)
        return
    lists = {"stayed": found.stayed, "left": found.left, "arrived": found.arrived}
    counts = {what: len({one.content_id for one in every}) for what, every in lists.items()}
    counts |= {"another price": len(found.prices), "another owner": len(found.owners)}
    console.show_table(f"{first} to {second}", ("what", "contents"), list(counts.items()))
    for what in ("left", "arrived"):
        rows = [
            (_title(graph, one.content_id), one.platform_id, ", ".join(one.regions)) for one in lists[what]
        ]
        _table(what, ("title", "platform", "regions"), rows, n)
    if found.prices:
        prices = [
            (_title(graph, one.content_id), one.platform_id, one.region, one.offer, one.before, one.after)
            for one in found.prices
        ]
        _table("another price", ("title", "platform", "region", "offer", "before", "after"), prices, n)
    if found.owners:
        owners = [
            (
                _title(graph, one.content_id),
                *(", ".join(ids) for ids in (one.before, one.after, one.regions)),
            )
            for one in found.owners
        ]
        _table("another owner", ("title", "before", "after", "regions"), owners, n)
    _mark_simulated(found.simulated)


def _told(data: str | None, moments: tuple[int, int], platform_id: str, code: str, scheme: str) -> Any:
    from kg.changes import told_diff
    from kg.datasets import open_dataset

    telling = [source for source in open_dataset(data, Home.here()).sources if source.tells_snapshots]
    if not telling:
        raise SettingError("--by needs sources that tell of snapshots, this data set has none: leave it out")
    records = (record for source in telling for record in source.read())
    return told_diff(records, *moments, platform_id, code, scheme)


def _open(data: str | None, at: str | None) -> tuple[Any, int]:
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name
    from kg.trust import latest

    graph = GraphArrays.current(Home.here().arrays(graph_name(data)))
    return graph, latest(graph) if at is None else _seconds(at)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], n: int) -> None:
    if not rows:
        console.out.print(f"{title}: none", markup=False)
        return
    console.show_table(f"{title}: {len(rows):,}", columns, rows[:n])
    if len(rows) > n:
        console.out.print(f"{len(rows) - n:,} more: -n shows more, --json all", markup=False)


def _parts(told: Any) -> tuple[str, ...]:
    parts = (told.source, told.metadata, told.availability, told.corroboration, told.freshness)
    numbers = ["one source" if part is None else f"{part:.2f}" for part in parts]
    return f"{told.value:.3f}", *numbers, "" if told.is_verified else "unverified"


def _title(graph: Any, content_id: str) -> str:
    row = graph.row_of(content_id)
    return graph.nodes["Content"]["title"][row].as_py() or content_id


def _mark_simulated(is_simulated: bool) -> None:
    if is_simulated:
        console.out.print("windows here are simulated, wholly or in part")


def _day(ts: int) -> str:
    return datetime.fromtimestamp(ts, UTC).date().isoformat()


def _seconds(date: str) -> int:
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise SettingError(f"a date is written YYYY-MM-DD, got {date!r}: write it so") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
