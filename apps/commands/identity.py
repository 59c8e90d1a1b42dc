"""Who is who: why two records are one node or are not, undoing a merge, fitting the weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data, app
from configs.home import Home

if TYPE_CHECKING:
    from kg.identity_log import Entry, IdentityLog

identity_app = typer.Typer(no_args_is_help=True, help="Which records are one node, and why.")
app.add_typer(identity_app, name="identity")
WEIGHTS = "identity/weights.json"
Merge = Annotated[
    str, typer.Argument(help="Key of a merge, or the record that was merged; see mg identity log.")
]


@identity_app.command("log")
def log(
    about: Annotated[str, typer.Argument(help="Only merges that name this id; empty for all.")] = "",
    most: Annotated[int, typer.Option(help="Lines to show, the latest.", min=1)] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Merges of a graph's imports, with evidence. Example: mg identity log content:imdb:tt0113277"""
    entries = [
        one for one in _log(data).entries() if about in ("", one.merge.kept, one.merge.merged, one.key)
    ]
    if as_json:
        console.show_json(entries[-most:])
        return
    _show(f"{len(entries):,} merges", entries[-most:])


@identity_app.command("explain")
def explain(
    one: Annotated[str, typer.Argument(help="Id of a record or node.")],
    other: Annotated[str, typer.Argument(help="Id of another.")],
    weights: Annotated[str, typer.Option(help="A path, or a name under configs/.")] = WEIGHTS,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Why two records, of contents or of people, are one or are not.
    Example: mg identity explain content:imdb:tt1 content:tmdb:6"""
    from kg.datasets import graph_name, weights_of
    from kg.explain import explain as explain_pair
    from kg.matching import Matchers
    from kg.store import open_store

    home, name = Home.here(), graph_name(data)
    with open_store(home.database(name), name) as store:
        is_weighed = weights_of(name) is not None
        told = explain_pair(store, _log(data), Matchers.load(weights), one, other, is_weighed)
    if as_json:
        console.show_json(told)
        return
    console.out.print(told.verdict, markup=False)
    if told.merges:
        _show("what joined them", told.merges)
    if told.rule:
        console.out.print(told.rule, markup=False)
    if told.likeness is not None:
        console.out.print(f"likeness {told.likeness.probability:.3f}: {told.likeness.evidence}", markup=False)
        cells = [(feature, f"{weight:+.2f}") for feature, weight in told.likeness.parts.items()]
        console.show_table("what it is made of", ("feature", "log odds"), cells)


@identity_app.command("undo")
def undo(merge: Merge, data: Data = None, as_json: AsJson = False) -> None:
    """Sets a merged record apart; the next import respects it. Example: mg identity undo 5f0c11aa"""
    _told(_log(data).undo(merge), "is set apart from", as_json)


@identity_app.command("redo")
def redo(merge: Merge, data: Data = None, as_json: AsJson = False) -> None:
    """Takes an undo back. Example: mg identity redo 5f0c11aa"""
    _told(_log(data).redo(merge), "may be one again with", as_json)


@identity_app.command("fit")
def fit(
    out: Annotated[Path, typer.Option(help="File that takes the weights, JSON.")] = Path("weights.json"),
    films: Annotated[int, typer.Option(help="Of each generated catalogue.", min=50, max=5000)] = 400,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Learns weights: contents from half of the films of a folder with MovieLens and JustWatch, else from
    generated catalogues; people always from these. Example: mg identity fit --data FOLDER --out my.json"""
    from apps.bench.identity import fit_for

    with console.progress_bar("identity") as feed:
        matchers = fit_for(data, Home.here(), films, feed)
    matchers.save(out)
    if as_json:
        console.show_json(matchers)
        return
    console.out.print(
        f"contents: fitted on {matchers.content.fitted_on}; joined from {matchers.content.threshold:.3f} on"
    )
    console.out.print(f"the weights are in {out}", markup=False)


@bench_app.command("identity")
def bench_identity(
    data: Data = None,
    films: Annotated[int, typer.Option(help="Of the generated catalogues.", min=50, max=20_000)] = 600,
    seed: Annotated[int, typer.Option(help="Of the generated catalogues.", max=999)] = 0,
    as_json: AsJson = False,
) -> None:
    """Joins without ids, against what is known: planted duplicates, and the real catalogues of a folder.
    Example: mg bench identity --data FOLDER"""
    from apps.bench.identity import measure_all

    with console.progress_bar("identity") as feed:
        rows = measure_all(data, Home.here(), films, seed, feed)
    if as_json:
        console.show_json(rows)
    else:
        cells = [
            (
                row.what,
                row.joined,
                row.true,
                f"{row.precision:.4f}",
                f"{row.recall:.4f}",
                f"{row.f1:.4f}",
                row.bar,
                "met" if row.is_met else "NOT met",
                row.note,
            )
            for row in rows
        ]
        columns = ("what", "joined", "true", "precision", "recall", "F1", "bar", "", "")
        console.show_table("identity without ids", columns, cells)
    if not all(row.is_met for row in rows):
        raise typer.Exit(1)


def _log(data: str | None) -> "IdentityLog":
    from kg.datasets import graph_name
    from kg.identity_log import FILE, IdentityLog

    path = Home.here().imports(graph_name(data)) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} must hold the identity log, there is none: run `mg ingest` first")
    return IdentityLog(path)


def _told(entry: "Entry", what: str, as_json: bool) -> None:
    if as_json:
        console.show_json(entry)
        return
    said = f"{entry.merge.merged} {what} {entry.merge.kept} (merge {entry.key}); the next `mg ingest` does it"
    console.out.print(said, markup=False)


def _show(title: str, entries: list[Any]) -> None:
    cells = [
        (
            one.key,
            one.merge.kept,
            one.merge.merged,
            one.merge.evidence,
            f"{one.merge.probability:.3f}",
            " ".join(
                word
                for word, is_so in (("contested", one.merge.is_contested), ("undone", one.is_undone))
                if is_so
            ),
        )
        for one in entries
    ]
    console.show_table(title, ("merge", "node", "record", "evidence", "probability", ""), cells)
