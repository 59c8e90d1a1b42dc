"""Data sets and the graph: get, ingest, export, ask."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

data_app = typer.Typer(no_args_is_help=True, help="Data sets that can be downloaded, with their licences.")
app.add_typer(data_app, name="data")


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Data sets by name: what, licence, checksum, how to get it. Example: mg data list"""
    from kg.datasets import settings_with_licences
    from kg.downloads import DOWNLOADS

    home = Home.here()
    rows = [
        (one.name, one.note, one.licence, *_how(one.name, one.is_api, DOWNLOADS.get(one.name), home))
        for one in sorted(settings_with_licences(), key=lambda one: one.name not in DOWNLOADS)
    ]
    columns = ("name", "what", "licence", "how", "sha256")
    if as_json:
        console.show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        console.show_table("data sets", columns, rows)


def _how(name: str, is_api: bool, download: Any, home: Home) -> tuple[str, str]:
    if download is not None:
        is_here = all((home.data / name / file).is_file() for file in download.files.values())
        return ("it is here" if is_here else f"mg data get {name}"), download.sha256
    if is_api:
        return f"--data {name}, with a key in the environment", ""
    return ("--data world" if name == "world" else f"--data {name}@FOLDER"), ""


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name of `mg data list`.")] = "movielens-100k",
) -> None:
    """Downloads a data set and checks it. Example: mg data get movielens-100k"""
    from kg.downloads import DOWNLOADS, get

    with console.progress_bar(f"getting {name}") as feed:
        folder = get(name, Home.here(), feed)
    console.out.print(f"{name} is in {folder}; its licence: {DOWNLOADS[name].licence}")


@app.command()
def ingest(
    data: Data = None,
    max_reject_share: Annotated[
        float, typer.Option(help="Fail when more than this share of rows is spoilt.")
    ] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Reads a data set into the graph; twice is once. Example: mg ingest --data FOLDER"""
    from kg.datasets import open_dataset
    from kg.ingest import ingest as ingest_into
    from kg.matching import Matchers
    from kg.store import open_store

    home = Home.here()
    dataset = open_dataset(data, home)
    matchers = Matchers.load(dataset.identity) if dataset.identity else None
    with (
        open_store(home.database(dataset.name), dataset.name) as store,
        console.progress_bar("ingest") as feed,
    ):
        report = ingest_into(
            dataset.sources, store, home.imports(dataset.name), max_reject_share, feed, matchers
        )
    if as_json:
        console.show_json(report)
    else:
        console.show_table(f"graph {dataset.name}", ("type", "count"), sorted(report.counts.items()))
        console.out.print(
            f"{report.rows:,} rows read, {report.written:,} records written, {report.unchanged:,} as before, "
            f"{report.merges:,} merged, {report.rejects:,} rejected, {report.seconds:.1f} s"
        )


@app.command()
def export(
    data: Data = None,
    as_of: Annotated[str | None, typer.Option(help="ISO date; facts that start later are left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Writes the graph as frozen arrays, which all the rest reads. Example: mg export --as-of 1998-03-01"""
    from kg.arrays import export as export_from
    from kg.datasets import graph_name
    from kg.store import open_store

    home, name = Home.here(), graph_name(data)
    moment = None if as_of is None else _seconds(as_of)
    with open_store(home.database(name), name) as store:
        graph = export_from(store, name, moment)
    folder = graph.save(home.arrays(name)) if as_of else graph.publish(home.arrays(name))
    answer = {"graph": name, "hash": graph.hash, "as_of": as_of, "folder": str(folder)}
    console.show_json(answer) if as_json else console.out.print(f"graph {name} {graph.hash} is in {folder}")


@app.command()
def query(
    question: Annotated[str, typer.Argument(help="A named question, or a read-only Cypher text.")],
    parameters: Annotated[list[str] | None, typer.Argument(help="name=value each.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Asks the graph. Examples: mg query where_to_watch content_id=content:ml100k:50 region=US at=1767225600;
    mg query 'MATCH (n:`Genre`) RETURN n.id AS id ORDER BY id'"""
    from kg.datasets import graph_name
    from kg.queries import ask
    from kg.store import open_store

    home, name = Home.here(), graph_name(data)
    values = dict(_pair(text) for text in parameters or ())
    with open_store(home.database(name), name) as store:
        rows = ask(store, question, values)
    if as_json:
        console.show_json(rows)
    elif rows:
        console.show_table(
            f"{len(rows)} rows", tuple(rows[0]), [tuple(str(value) for value in row.values()) for row in rows]
        )
    else:
        console.out.print("no rows")


def _seconds(date: str) -> int:
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise SettingError(f"a date is written YYYY-MM-DD, got {date!r}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _pair(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise SettingError(f"a parameter is written name=value, got {text!r}")
    return name, yaml.safe_load(value)
