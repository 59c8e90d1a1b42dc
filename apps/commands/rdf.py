"""The graph as RDF: export, import, validate, ask in SPARQL, show vocabulary and shapes."""

from pathlib import Path
from typing import Annotated

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

rdf_app = typer.Typer(
    no_args_is_help=True, help="The graph as RDF: Turtle, N-Triples, JSON-LD, SHACL, SPARQL."
)
app.add_typer(rdf_app, name="rdf")

File = Annotated[Path, typer.Argument(help="A file that ends in .ttl, .nt or .jsonld.")]
WithPeople = Annotated[
    bool,
    typer.Option("--with-people", help="Users too, and what they did: only for a file that stays with you."),
]


@rdf_app.command("export")
def rdf_export(
    file: File, data: Data = None, with_people: WithPeople = False, as_json: AsJson = False
) -> None:
    """Writes the graph to a file; users and what they did left out. Example: mg rdf export graph.ttl"""
    from kg.datasets import graph_name
    from kg.rdf_files import format_of
    from kg.rdf_write import records_of, write
    from kg.store import open_store

    format_of(file)  # a wrong name is refused before the database is opened
    home, name = Home.here(), graph_name(data)
    with open_store(home.database(name), name) as store:
        report = write(records_of(store, with_people), file)
    if as_json:
        console.show_json(report)
        return
    people = "with users" if with_people else "without users and what they did (--with-people adds them)"
    console.out.print(
        f"{file}: {sum(report.counts.values()):,} records, {report.triples:,} triples, {people}; "
        f"{report.simulated:,} are marked simulated",
        markup=False,
    )


@rdf_app.command("import")
def rdf_import(
    file: File,
    data: Data = None,
    max_reject_share: Annotated[
        float, typer.Option(help="Fail when more than this share of subjects is spoilt.")
    ] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Reads a file into the graph; twice is once. Example: mg rdf import graph.ttl --data world"""
    from kg.datasets import graph_name
    from kg.ingest import ingest
    from kg.sources import sources
    from kg.store import open_store

    home, name = Home.here(), graph_name(data)
    source = sources.build("rdf", {"path": str(file)})
    with open_store(home.database(name), name) as store, console.progress_bar("import") as feed:
        report = ingest([source], store, home.imports(name), max_reject_share, feed)
    if as_json:
        console.show_json(report)
        return
    console.show_table(f"graph {name}", ("type", "count"), sorted(report.counts.items()))
    console.out.print(
        f"{report.rows:,} subjects read, {report.written:,} records written, {report.unchanged:,} as before, "
        f"{report.merges:,} merged, {report.rejects:,} rejected, {report.seconds:.1f} s"
    )


@rdf_app.command("validate")
def rdf_validate(
    file: File,
    most: Annotated[int, typer.Option(help="Findings after which it stops.", min=1)] = 1_000,
    as_json: AsJson = False,
) -> None:
    """Checks a file against the shapes; exit code 1 with findings. Example: mg rdf validate graph.ttl"""
    from kg.rdf import validate

    checked, findings = validate(file, most=most)
    if as_json:
        console.show_json({"checked": checked, "findings": findings})
    else:
        rows = [(one.subject, one.path, one.value, one.message) for one in findings]
        if rows:
            console.show_table(f"{len(rows)} findings", ("subject", "term", "value", "must hold"), rows)
        console.out.print(f"{checked:,} subjects checked, {len(findings):,} findings")
    if findings:
        raise typer.Exit(1)


@rdf_app.command("query")
def rdf_query(
    question: Annotated[
        str, typer.Argument(help="SPARQL that reads; mg:, schema:, node: are known prefixes.")
    ],
    file: Annotated[Path | None, typer.Option(help="Ask this file instead of the graph.")] = None,
    data: Data = None,
    with_people: WithPeople = False,
    limit_s: Annotated[float, typer.Option(help="Seconds after which it is given up.", min=0.1)] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Asks in SPARQL. Example: mg rdf query 'SELECT ?t { ?c schema:name ?t } LIMIT 5'"""
    import tempfile

    from kg.rdf import Triples
    from kg.rdf_question import must_read_only

    must_read_only(question)
    with tempfile.TemporaryDirectory(prefix="mg-rdf.") as folder:
        asked = file or _exported(Path(folder) / "graph.nt", data, with_people)
        with Triples(asked) as triples:
            rows = triples.ask(question, limit_s)
    if as_json:
        console.show_json(rows)
    elif rows:
        cells = [tuple("" if value is None else str(value) for value in row.values()) for row in rows]
        console.show_table(f"{len(rows)} rows", tuple(rows[0]), cells)
    else:
        console.out.print("no rows")


@rdf_app.command("vocabulary")
def rdf_vocabulary() -> None:
    """Prints every class and property of ours, described, as Turtle. Example: mg rdf vocabulary > mg.ttl"""
    from kg.rdf_shapes import vocabulary_text

    typer.echo(vocabulary_text())


@rdf_app.command("shapes")
def rdf_shapes() -> None:
    """Prints the SHACL shapes that `mg rdf validate` holds a file to. Example: mg rdf shapes > shapes.ttl"""
    from kg.rdf_shapes import shapes_text

    typer.echo(shapes_text())


@bench_app.command("rdf")
def bench_rdf(
    triples: Annotated[int, typer.Option(help="Size of the generated world, about.", min=10_000)] = 1_000_000,
    format: Annotated[
        list[str] | None,
        typer.Option(help="ntriples, turtle or jsonld; several: give it again. All by default."),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Runs of either side; the median counts.", min=1)] = 3,
    as_json: AsJson = False,
) -> None:
    """RDF written and read beside pyoxigraph's writer and parser. Example: mg bench rdf --triples 100000"""
    from apps.bench.rdf import ENDINGS, measure

    if unknown := set(format or ()) - ENDINGS.keys():
        raise SettingError(f"a format is one of {', '.join(ENDINGS)}, got {', '.join(sorted(unknown))}")
    with console.progress_bar("rdf") as feed:
        found = measure(triples, repeats, format or tuple(ENDINGS), feed)
    if as_json:
        console.show_json(found)
        return
    cells = [
        (
            row.format,
            row.what,
            f"{row.ours_s:.2f}",
            "" if row.reference_s is None else f"{row.reference_s:.2f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            f"{row.ours_cpu_s:.2f}",
            "" if row.bar_s is None else f"{row.bar_s:g}: {'met' if row.ours_s <= row.bar_s else 'NOT met'}",
            row.note,
        )
        for row in found.rows
    ]
    columns = ("format", "what", "ours s", "pyoxigraph s", "ratio", "ours CPU s", "bar s", "")
    console.show_table(f"{found.triples:,} triples, seconds a million", columns, cells)
    console.out.print("the same records came back" if found.is_same else "NOT the same records came back")


def _exported(path: Path, data: str | None, with_people: bool) -> Path:
    from kg.datasets import graph_name
    from kg.rdf_write import records_of, write
    from kg.store import open_store

    home, name = Home.here(), graph_name(data)
    with open_store(home.database(name), name) as store:
        write(records_of(store, with_people), path)
    return path
