"""An epoch of our LightGCN beside one of RecBole's, in turn, on the same likes with the same settings.

RecBole needs older libraries than ours: it runs in an interpreter of its own, one epoch whenever we ask."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.home import Home
from experiments.splits import known_contents, likes_of
from experiments.training import FitConfig, fit
from kg.arrays import GraphArrays
from models.interface import Training
from models.lightgcn import LightGCN, LightGCNConfig

DRIVER = Path(__file__).with_name("recbole_epochs.py")
POSITIVE_RATING = 8.0
"""Of ten: a rating of 4 out of 5."""
SETTINGS = {"width": 64, "layers": 3, "batch": 2048, "regularization": 1e-4, "learning_rate": 1e-3}
HOW = (
    "make an interpreter that has it: python3.11 -m venv V; V/bin/pip install --no-deps recbole==1.2.1; "
    "V/bin/pip install torch 'numpy<2' 'scipy<1.12' 'pandas<2.2' scikit-learn pyyaml tqdm tabulate texttable "
    "psutil thop tensorboard plotly colorlog==4.7.2 colorama==0.4.4; then pass --python V/bin/python"
)


@dataclass(frozen=True)
class Epochs:
    """What both took; the first epoch of either warms up and is left out."""

    interactions: int
    batches: int
    threads: int
    ours_s: tuple[float, ...]
    theirs_s: tuple[float, ...]
    skipped: str | None = None
    """Why RecBole was not run, and how it can be."""

    @property
    def ratio(self) -> float | None:
        """Median of ours over median of theirs."""
        return float(np.median(self.ours_s) / np.median(self.theirs_s)) if self.theirs_s else None


class BenchError(RuntimeError):
    """The other side could not be run to its end."""


def measure(home: Home, graph_name: str, python: Path | None, epochs: int, threads: int) -> Epochs:
    """Trains ours epoch by epoch in the one training loop, and theirs after each of them.

    Args:
        home: where the graph is.
        graph_name: its name; an edge is a rating of 8 of 10 or more.
        python: interpreter with RecBole; None, or one that lacks it, measures ours alone.
        epochs: that count, 1 or more.
        threads: of torch, for both, 1 or more.
    """
    training = everything_liked(GraphArrays.current(home.arrays(graph_name)))
    why_not = lacking(python)
    if why_not is not None or python is None:
        ours = _ours(training, epochs, threads, lambda _: None)
        return _epochs(training, threads, ours, [], why_not)
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mg-recbole-") as folder:
        write_atomic(training.positives, Path(folder))
        with _driver(python, Path(folder), threads) as ask:
            said = ask()
            if said["interactions"] != training.positives.nnz:
                raise BenchError(
                    f"both sides must read the same likes, ours are {training.positives.nnz}, RecBole "
                    f"read {said['interactions']}: its loader filters something"
                )
            ours = _ours(training, epochs, threads, lambda _: theirs.append(ask("epoch")["seconds"]))
    return _epochs(training, threads, ours, theirs[1:], None)


def everything_liked(graph: GraphArrays) -> Training:
    """All likes of a graph as training: nothing is held out, nothing is measured."""
    likes = likes_of(graph, POSITIVE_RATING, seed=0)
    shape = graph.size("User"), graph.size("Content")
    places = likes.users, likes.contents
    positives = sp.csr_array((np.ones(len(likes.users), np.float32), places), shape=shape)
    return Training(graph, positives, positives.astype(np.int64), known_contents(graph))


def write_atomic(positives: sp.csr_array, folder: Path) -> None:
    """Writes (u, i) likes as RecBole's ``likes/likes.inter``."""
    users, contents = positives.nonzero()
    lines = [f"u{user}\tc{content}\n" for user, content in zip(users, contents, strict=True)]
    (folder / "likes").mkdir()
    text = "user_id:token\titem_id:token\n" + "".join(lines)
    (folder / "likes" / "likes.inter").write_text(text, encoding="utf-8")


def lacking(python: Path | None) -> str | None:
    """Why RecBole cannot be run, and what to do; None where it can."""
    if python is None:
        return f"no interpreter with RecBole was named: {HOW}"
    try:
        found = subprocess.run([python, "-c", "import recbole, torch"], capture_output=True, text=True)
    except OSError as error:
        return f"{python} cannot be started ({error.strerror}): {HOW}"
    if found.returncode:
        why = found.stderr.strip().splitlines()[-1:] or ["no reason given"]
        return f"{python} cannot import recbole ({why[0]}): {HOW}"
    return None


def _ours(training: Training, epochs: int, threads: int, after: Any) -> list[float]:
    settings = {key: value for key, value in SETTINGS.items() if key != "learning_rate"}
    model = LightGCN(LightGCNConfig(**settings, device="cpu"))
    train = FitConfig(learning_rate=SETTINGS["learning_rate"], epochs=epochs + 1, threads=threads)
    found = fit(model, training, None, train, after)
    return [epoch.seconds for epoch in found.curve[1:]]


def _epochs(
    training: Training, threads: int, ours: list[float], theirs: list[float], skipped: str | None
) -> Epochs:
    likes = training.positives.nnz
    return Epochs(likes, -(-likes // SETTINGS["batch"]), threads, tuple(ours), tuple(theirs), skipped)


@contextmanager
def _driver(python: Path, folder: Path, threads: int) -> Iterator[Any]:
    """RecBole in a process of its own; gives a function that sends a word and waits for the answer."""
    command = [python, DRIVER, folder, json.dumps(SETTINGS | {"threads": threads})]
    with (folder / "log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            bufsize=1,
        )

        def ask(word: str | None = None) -> dict[str, Any]:
            if word is not None:
                with suppress(BrokenPipeError):  # it has ended: there is nothing to read either
                    process.stdin.write(word + "\n")
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise BenchError(f"RecBole ended before it answered: {log.read()[-2000:]}")
            return json.loads(line)

        try:
            yield ask
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.terminate()
            process.wait()
