"""``mg data table``: every data file with rows read, repaired and rejected, and why."""

from pathlib import Path
from typing import Annotated

import typer

from apps import console
from apps.commands.graph import data_app
from apps.commands.shared import AsJson
from configs.home import Home

_ENDS = (".csv", ".csv.gz", ".tsv", ".dat", ".inter", ".item", ".user", ".kg", ".link")


@data_app.command("table")
def data_table(
    data: Annotated[
        str,
        typer.Option(
            "--data", envvar="MG_DATA", help="A folder with the streaming data, or a setting's NAME@FOLDER."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Every data file with rows read, repaired and rejected, and why. Example: mg data table --data FOLDER"""
    from kg.datasets import STREAMING, graph_name, open_dataset
    from kg.file_counts import count_files, unread_files

    name, _, folder = data.rpartition("@")
    if not name and graph_name(data) == STREAMING and _is_whole(Path(folder)):
        data = f"catalogues@{folder}"
    dataset = open_dataset(data, Home.here())
    with console.progress_bar("reading") as feed:
        reports = count_files(dataset.sources, Path(folder), feed)
    unread = unread_files(reports, Path(folder), _ENDS)
    if as_json:
        console.show_json({"files": reports, "unread": unread})
        return
    rows = [(one.file, one.source, one.rows, one.repaired, one.rejected) for one in reports]
    total = ("all", "", *(sum(row[place] for row in rows) for place in (2, 3, 4)))
    console.show_table(
        f"{dataset.name}: data files", ("file", "source", "rows", "repaired", "rejected"), [*rows, total]
    )
    reasons = [
        (Path(one.file).name, what, why, times)
        for one in reports
        for what, found in (("rejected", one.rejects), ("repaired", one.repairs))
        for why, times in found.items()
    ]
    console.show_table("why", ("file", "", "reason", "times"), reasons)
    console.out.print(f"files that no source read: {', '.join(unread) or 'none'}")


def _is_whole(folder: Path) -> bool:
    parts = ("catalogue-2021", "platform-flags", "netflix-top10")
    return all((folder / "streaming-catalogues" / part).is_dir() for part in parts)
