"""Those who answer: endpoints and the explorer."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from apps import console
from apps.commands.shared import Data, Port, app
from configs.home import Home


@app.command()
def serve(
    data: Data = None,
    port: Port = 8265,
    local: Annotated[
        bool, typer.Option("--local", help="One process (uvicorn) instead of Ray Serve.")
    ] = False,
    adaptation: Annotated[
        str, typer.Option(help="Settings of the adaptation loop, a file or a name.")
    ] = "serve/adaptation.yaml",
) -> None:
    """Serves the champion of a graph on loopback until Ctrl-C, and takes the steps of a trial beside it.

    Example: mg serve --local --port 8000
    """
    from apps.rollout import Watcher
    from kg.datasets import graph_name
    from serve.adaptation import AdaptationConfig
    from serve.app import serve_local, serve_ray

    steps = AdaptationConfig.named(adaptation)
    home, name = Home.here(), graph_name(data)
    watcher = Watcher(home, name, lambda said: console.out.print(said, markup=False))
    if local:
        with watcher:
            serve_local(home, name, port=port, adaptation=steps)
        return
    with serve_ray(home, name, port=port, adaptation=steps) as served, watcher:
        console.out.print(f"{name} answers at {served.url} (try {served.url}/docs); Ctrl-C ends it")
        served.wait()


@app.command()
def explore(data: Data = None, port: Port = 8501) -> None:
    """Opens the explorer on loopback until Ctrl-C. Example: mg explore --data world"""
    import subprocess

    from kg.datasets import graph_name

    page = Path(__file__).parent.parent / "streamlit" / "explorer.py"
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
