"""The command line ``mg``: one command a verb. It parses, calls, prints and decides nothing."""

import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

os.environ.setdefault("DGLBACKEND", "pytorch")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from apps import console
from configs.home import Home
from configs.loading import find, load
from configs.registry import SettingError, UnknownName

app = typer.Typer(name="mg", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
data_app = typer.Typer(no_args_is_help=True, help="Data sets that can be downloaded, with their licences.")
bench_app = typer.Typer(no_args_is_help=True, help="Benchmarks: ours and the reference, in turn, in one run.")
app.add_typer(data_app, name="data")
app.add_typer(bench_app, name="bench")

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        envvar="MG_DATA",
        help="movielens-100k (default), world, or a folder with the streaming data.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Port = Annotated[int, typer.Option(help="Port on loopback.")]


@dataclass
class _Options:
    is_debug: bool = False


options = _Options()


@app.callback()
def _global(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    """Media Gateway: what to watch tonight, and where. Example: mg demo"""
    options.is_debug = debug


@app.command()
def demo(
    data: Data = None,
    user: Annotated[str | None, typer.Option(help="Whose evening; a user id of the graph.")] = None,
    port: Port = 8265,
    as_json: AsJson = False,
) -> None:
    """The whole way: data, graph, models, gate, endpoint, an evening. Example: mg demo --data world"""
    from apps.demo import run_demo

    report = run_demo(data, Home.here(), user, port)
    if as_json:
        console.show_json(report)


@app.command()
def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Says what is installed, reachable and whole, and what to do where it is not. Example: mg doctor"""
    from apps.doctor import examine

    findings = examine(Home.here(), data)
    if as_json:
        console.show_json(findings)
    else:
        rows = [
            ("ok", one.what, one.came, "") if one.is_ok else ("NOT OK", one.what, one.came, one.remedy)
            for one in findings
        ]
        console.show_table("doctor", ("", "what", "found", "what to do"), rows)
    if not all(finding.is_ok for finding in findings):
        raise typer.Exit(1)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """Data sets by name, with licence. Example: mg data list"""
    from kg.downloads import DOWNLOADS

    rows = [(item.name, item.what, item.licence) for item in DOWNLOADS.values()]
    console.show_json(list(DOWNLOADS.values())) if as_json else console.show_table(
        "data sets", ("name", "what", "licence"), rows
    )


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name of `mg data list`.")] = "movielens-100k",
) -> None:
    """Downloads a data set and checks it. Example: mg data get movielens-100k"""
    from kg.downloads import get

    with console.progress_bar(f"getting {name}") as feed:
        folder = get(name, Home.here(), feed)
    console.out.print(f"{name} is in {folder}")


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
    from kg.store import open_store

    home = Home.here()
    dataset = open_dataset(data, home)
    with (
        open_store(home.database(dataset.name), dataset.name) as store,
        console.progress_bar("ingest") as feed,
    ):
        report = ingest_into(dataset.sources, store, home.imports(dataset.name), max_reject_share, feed)
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


@app.command()
def run(
    config: Annotated[str, typer.Argument(help="A file, or a name such as experiments/ease.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.key=value each.")] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """One experiment: split, audit, tune, fit, measure, save. Example: mg run experiments/ease.yaml seed=3"""
    from experiments.run import run as run_experiment
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, settings = Home.here(), load(config, overrides or ())
    graph = GraphArrays.current(home.arrays(graph_name(data)))
    with console.progress_bar(f"run {find(config).stem}") as feed:
        result = run_experiment(settings, graph, home, feed)
    console.show_json(result.summary()) if as_json else _show_results([result])


@app.command()
def compare(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run ids; none means the latest run of each model.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """The leaderboard of runs on one split, with intervals and corrected tests. Example: mg compare"""
    from experiments.run import load_runs
    from kg.datasets import graph_name

    results = load_runs(Home.here().runs(graph_name(data)), runs or ())
    if as_json:
        from experiments.compare import compare as compare_runs

        console.show_json(compare_runs(results))
    else:
        _show_results(results)


@app.command()
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id of `mg compare`.")],
    alias: Annotated[str, typer.Option(help="The alias to give.")] = "champion",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Promotes a run's model if it passes the gate, else says what failed. Example: mg promote RUN"""
    from apps.demo import promote_run, show_promotion
    from experiments.run import load_runs
    from kg.datasets import graph_name

    home = Home.here()
    result = load_runs(home.runs(graph_name(data)), [run_id])[0]
    promotion = promote_run(result, alias, home)
    console.show_json(promotion) if as_json else show_promotion(promotion)
    if not promotion.promoted and not promotion.is_holder:
        raise typer.Exit(1)


@app.command()
def models(data: Data = None, as_json: AsJson = False) -> None:
    """Saved versions, their measured quality, and who holds which alias. Example: mg models"""
    from models.store import ModelStore

    store = ModelStore(Home.here().models)
    if as_json:
        console.show_json([{"ref": version.ref, **_plain_version(version)} for version in store.versions()])
        return
    rows = [
        (version.ref, version.graph, version.graph_hash[:8], version.model, _aliases(store, version))
        for version in store.versions()
    ]
    console.show_table("versions", ("version", "graph", "hash", "model", "aliases"), rows)


def _aliases(store: Any, version: Any) -> str:
    held = store.aliases(version.graph)
    return ", ".join(alias for alias, ref in held.items() if ref == version.ref)


@app.command()
def serve(
    data: Data = None,
    port: Port = 8265,
    local: Annotated[
        bool, typer.Option("--local", help="One process (uvicorn) instead of Ray Serve.")
    ] = False,
) -> None:
    """Serves the champion of a graph on loopback until Ctrl-C. Example: mg serve --local --port 8000"""
    from kg.datasets import graph_name
    from serve.app import serve_local, serve_ray

    home, name = Home.here(), graph_name(data)
    if local:
        serve_local(home, name, port=port)
        return
    with serve_ray(home, name, port=port) as served:
        console.out.print(f"{name} answers at {served.url} (try {served.url}/docs); Ctrl-C ends it")
        served.wait()


@app.command()
def explore(data: Data = None, port: Port = 8501) -> None:
    """Opens the explorer on loopback until Ctrl-C. Example: mg explore --data world"""
    import subprocess

    from kg.datasets import graph_name

    page = Path(__file__).parent / "streamlit" / "explorer.py"
    flags = [
        "--server.address=127.0.0.1",
        f"--server.port={port}",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
    ]
    environment = {**os.environ, "MG_GRAPH": graph_name(data), "MG_HOME": str(Home.here().root)}
    raise typer.Exit(
        subprocess.call([sys.executable, "-m", "streamlit", "run", str(page), *flags], env=environment)
    )


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


def _show_results(results: list[Any]) -> None:
    from experiments.compare import compare as compare_runs
    from experiments.report import comparison_lines, leaderboard_rows

    comparison = compare_runs(results)
    columns, rows = leaderboard_rows(comparison)
    console.show_table("leaderboard", columns, rows)
    for line in comparison_lines(comparison):
        console.out.print(line)


def _plain_version(version: Any) -> dict[str, Any]:
    """A model version for JSON."""
    return {
        "graph": version.graph,
        "graph_hash": version.graph_hash,
        "model": version.model,
        "metrics": version.metrics,
    }


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


def main() -> None:
    """Runs a command; what goes wrong is said in a sentence, exit code 1 (failed) or 2 (wrong use)."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if options.is_debug:
            raise
        is_wrong_use = isinstance(error, (SettingError, UnknownName, FileNotFoundError))
        console.err.print(f"mg: {error or type(error).__name__}", style="red", markup=False)
        sys.exit(2 if is_wrong_use else 1)


if __name__ == "__main__":
    main()
