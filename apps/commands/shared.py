"""What all commands share: the application they enter, and options that mean the same everywhere."""

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
