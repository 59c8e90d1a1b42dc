"""The command line ``mg``: one command a verb. It parses, calls, prints and decides nothing."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

os.environ.setdefault("DGLBACKEND", "pytorch")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from apps import console
from apps.commands.shared import AsJson, Data, Port, app
from configs.home import Home
from configs.registry import SettingError, UnknownName, import_parts


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


import_parts("apps.commands")


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
        console.err.print(f"mg: {console.sentence(error)}", style="red", markup=False)
        sys.exit(2 if is_wrong_use else 1)


if __name__ == "__main__":
    main()
