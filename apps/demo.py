"""The whole way once: data, graph, models, gate, endpoint, one person's evening.

Each step is a verb of the house; this file only puts them in order and prints what they answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps import console
from configs.home import Home
from configs.loading import load
from experiments.compare import compare
from experiments.promote import GateConfig, Promotion, Way, promote
from experiments.report import comparison_lines, leaderboard_rows
from experiments.run import RunResult, run
from kg.arrays import GraphArrays, export
from kg.datasets import Dataset, open_dataset
from kg.downloads import OfflineError
from kg.ingest import ingest
from kg.store import open_store
from models.store import ModelStore
from serve.client import Client, LocalClient

MODELS = ("random", "popularity", "item_knn", "ials", "ease", "hybrid", "fusion", "graphsage_demo")
"""Experiments that the demo runs, each a file in ``configs/experiments/``."""


@dataclass(frozen=True)
class DemoReport:
    """What the demo did, for machines."""

    graph: str
    graph_hash: str
    leaderboard: list[dict[str, Any]]
    promotion: dict[str, Any]
    evening: dict[str, Any] | None
    stages: list[dict[str, Any]]
    seconds: float
    peak_bytes: int


def run_demo(data: str | None, home: Home, user: str | None = None, port: int = 8265) -> DemoReport:
    """Walks the whole way and prints it; ends everything that it started."""
    with console.Meter() as meter:
        with meter.stage("1 · data"):
            dataset = _open(data, home)
            console.out.print(f"{dataset.name}: {dataset.note}\nLicence: {dataset.licence}")
        with meter.stage("2 · graph"):
            graph = build_graph(dataset, home)
        with meter.stage("3 · models, each tuned on validation with the same budget, measured once on test"):
            results = run_all(graph, home)
            comparison = compare(results)
            columns, rows = leaderboard_rows(comparison)
            console.show_table(f"{results[0].split_name}, full ranking", columns, rows)
            for line in comparison_lines(comparison):
                console.out.print(line)
        with meter.stage("4 · gate"):
            best = max(results, key=lambda result: result.validation)
            console.out.print(f"best on validation: {best.name}")
            promotion = promote_run(best, "champion", home)
            show_promotion(promotion)
        with meter.stage("5 · endpoint"):
            evening = None
            if ModelStore(home.models).alias(dataset.name, "champion") is None:
                console.out.print("Nothing holds the alias champion, so there is nothing to serve.")
            else:
                evening = ask_for_an_evening(dataset, graph, best, home, user, port)
        seconds = meter.seconds
    stages = " · ".join(
        f"{stage.name.partition(' · ')[2].split(',')[0]} {stage.seconds:.0f} s" for stage in meter.stages
    )
    console.out.print(f"\n{seconds:.0f} s in all ({stages}), at most {meter.peak_bytes / 2**30:.1f} GiB")
    option = "" if data is None else f" --data {data}"
    console.out.print("Go on with:\n  .venv/bin/mg explore" + option + "\n  .venv/bin/mg serve" + option)
    return DemoReport(
        dataset.name,
        graph.hash,
        [dict(zip(columns, row, strict=True)) for row in rows],
        console.plain(promotion),
        console.plain(evening),
        console.plain(meter.stages),
        seconds,
        meter.peak_bytes,
    )


def build_graph(dataset: Dataset, home: Home) -> GraphArrays:
    """Imports a data set into its graph, exports and publishes the arrays."""
    with open_store(home.database(dataset.name), dataset.name) as store:
        with console.progress_bar("import") as feed:
            report = ingest(dataset.sources, store, home.imports(dataset.name), progress=feed)
        console.out.print(
            f"{report.rows:,} rows: {report.nodes:,} nodes, {report.hyperedges:,} facts; "
            f"{report.written:,} written, {report.unchanged:,} as before, {report.rejects:,} rejected, "
            f"{report.merges:,} merged ({report.seconds:.0f} s)"
        )
        graph = export(store, dataset.name)
    graph.publish(home.arrays(dataset.name))
    counts = ", ".join(f"{graph.size(type):,} {type}" for type in graph.nodes)
    console.out.print(f"{counts}\narrays {graph.hash}")
    return GraphArrays.current(home.arrays(dataset.name))


def run_all(graph: GraphArrays, home: Home, models: Sequence[str] = MODELS) -> list[RunResult]:
    """One run a model, on one split."""
    results = []
    for name in models:
        before = time.monotonic()
        with console.progress_bar(name) as feed:
            results.append(run(load(f"experiments/{name}.yaml"), graph, home, feed))
        console.out.print(f"  {name}: {time.monotonic() - before:.1f} s")
    return results


def promote_run(
    result: RunResult, alias: str, home: Home, gate: GateConfig | None = None, way: Way | None = None
) -> Promotion:
    """The gate, with the endpoint in this process as the one that answers."""
    client = LocalClient(home, result.graph, result.version)
    return promote(result, alias, client.bare_ranking, ModelStore(home.models), gate or GateConfig(), way)


def ask_for_an_evening(
    dataset: Dataset, graph: GraphArrays, result: RunResult, home: Home, user: str | None, port: int
) -> Any:
    """Serves the champion with Ray Serve, asks over HTTP for one person, prints the answer, stops."""
    from serve.app import serve_ray

    asked = {
        "user_id": user or some_user(graph, result),
        "region": dataset.region,
        "subscriptions": list(dataset.subscriptions),
        "n": 8,
    }
    with serve_ray(home, dataset.name, port=port) as served:
        console.out.print(f"{served.url} answers; asking for {asked['user_id']} in {dataset.region}")
        with Client(served.url) as client:
            reply = client.recommend(asked)
    for line in evening_lines(reply):
        console.out.print(line, markup=False)
    return reply


def evening_lines(reply: Any) -> list[str]:
    """A reply as a person reads it: what, where, until when, why."""
    lines = [f"Tonight, by {reply.model_version}:"]
    for item in reply.contents:
        lines.append(f"{item.rank:>3}. {item.title}" + (f" ({item.year})" if item.year else ""))
        for offer in item.offers[:2]:
            until = offer.until if offer.until == "end not known" else f"until {offer.until}"
            lines.append(
                f"     {offer.offer} on {offer.platform}, {until}"
                + ("  [simulated]" if offer.simulated else "")
            )
        lines += [f"     because {sentence}" for sentence in item.why.because[:1]]
        lines += [f"     connection: {sentence}" for sentence in item.why.connections[:1]]
    return lines


def some_user(graph: GraphArrays, result: RunResult) -> str:
    """A user drawn by the run's seed among those with ten liked contents or more: nobody picks one."""
    liked = np.diff(result.version_training(graph).positives.indptr)
    rows = np.flatnonzero(liked >= min(10, liked.max()))
    return graph.id_of("User", int(np.random.default_rng(result.seed).choice(rows)))


def show_promotion(promotion: Promotion) -> None:
    """Prints what the gate decided, condition by condition."""
    rows = [("yes" if one.passed else "NO", one.name, one.must, one.came) for one in promotion.conditions]
    console.show_table(f"gate for {promotion.version}", ("passed", "condition", "must", "came"), rows)
    if not promotion.promoted:
        console.out.print(f"not promoted: {promotion.reason}; the holder serves")
    elif promotion.stage == "champion":
        console.out.print(f"promoted to {promotion.alias}")
    else:
        beside = f"{promotion.stage} beside {promotion.previous}, {promotion.share:.0%} of people"
        console.out.print(
            f"tried out as {beside}: `mg serve` takes the next steps, `mg rollout status` tells"
        )


def _open(data: str | None, home: Home) -> Dataset:
    try:
        return open_dataset(data, home)
    except OfflineError as error:
        console.out.print(f"{error}\nGoing on with the generated world instead: all of it is simulated.")
        return open_dataset("world", home)
