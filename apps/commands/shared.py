"""What all commands share: the application they enter, and options that mean the same everywhere."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="mg", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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


def must_take_files(folder: Path) -> None:
    """Makes the folder of ``--out`` before the work that fills it, and refuses one that takes no files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written")
    except OSError as error:
        raise typer.BadParameter(
            f"--out must be a folder that can be written, {folder} gave {error}: choose another"
        ) from None
