"""Saved versions: list them, promote one, try one out, take one back."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

rollout_app = typer.Typer(no_args_is_help=True, help="The trial of a version: shadow, canary, champion.")
app.add_typer(rollout_app, name="rollout")
Alias = Annotated[str, typer.Option(help="The alias that is meant.")]


@app.command()
def promote(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id of `mg compare`.")],
    alias: Alias = "champion",
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Compare its answers first, unseen; then canary, then champion.")
    ] = False,
    canary: Annotated[
        float | None, typer.Option(help="Show its answers to this share of people first, such as 0.1.")
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Promotes a model if it passes the gate, else says what failed. Example: mg promote RUN --shadow"""
    from apps.demo import promote_run, show_promotion
    from experiments.promote import Way
    from experiments.run import load_runs
    from kg.datasets import graph_name

    if shadow and canary is not None:
        raise SettingError(
            "a version goes on as shadow or as canary, got both: a shadow becomes a canary later"
        )
    if canary is not None and not 0 < canary < 1:
        raise SettingError(f"the share of a canary must lie above 0 and below 1, got {canary}: try 0.1")
    way = Way("shadow") if shadow else Way() if canary is None else Way("canary", canary)
    home = Home.here()
    result = load_runs(home.runs(graph_name(data)), [run_id])[0]
    promotion = promote_run(result, alias, home, way=way)
    console.show_json(promotion) if as_json else show_promotion(promotion)
    if not promotion.promoted and not promotion.is_holder:
        raise typer.Exit(1)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit log.")] = "by hand",
    alias: Alias = "champion",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Ends the trial under way, else goes back to the previous holder. Example: mg rollback --reason slow"""
    from experiments.rollout import rollback as take_back
    from kg.datasets import graph_name
    from models.store import ModelStore

    name = graph_name(data)
    move = take_back(ModelStore(Home.here().models), name, alias, reason)
    if as_json:
        console.show_json(move)
    elif move.previous_candidate is not None:
        said = f"{move.previous_candidate} is tried out no more ({reason}); {move.version} answers everybody"
        console.out.print(said, markup=False)
    else:
        console.out.print(f"{alias} of {name}: {move.previous} -> {move.version} ({reason})", markup=False)


@rollout_app.command("status")
def rollout_status(alias: Alias = "champion", data: Data = None, as_json: AsJson = False) -> None:
    """Who answers, who is tried out, the counts so far, the last steps. Example: mg rollout status"""
    from apps.rollout import standing
    from kg.datasets import graph_name

    found = standing(Home.here(), graph_name(data), alias)
    if as_json:
        console.show_json(found)
        return
    console.out.print(f"{alias} of {found.graph}: {found.holder or 'nobody'}", markup=False)
    if found.candidate is not None:
        tried = found.candidate
        console.out.print(
            f"tried out: {tried.version} as {tried.stage}, {tried.share:.0%} of people, "
            f"for {found.counts.age_s / 3600:.1f} h: {found.decision.reason}",
            markup=False,
        )
        console.show_table("arms", _ARMS, _arms(found))
    console.show_table(
        "steps",
        ("when (UTC)", "step", "holder", "candidate", "share", "who", "why"),
        [_step(move) for move in found.history[-10:]],
    )


@rollout_app.command("step")
def rollout_step(alias: Alias = "champion", data: Data = None, as_json: AsJson = False) -> None:
    """Takes the next step if the counts allow it; `mg serve` does so by itself. Example: mg rollout step"""
    from apps.rollout import next_step
    from kg.datasets import graph_name

    tried, decision = next_step(Home.here(), graph_name(data), alias)
    if as_json:
        console.show_json(decision)
    else:
        said = f"{tried.version} ({tried.stage}) -> {decision.action}: {decision.reason}"
        console.out.print(said, markup=False)


@app.command()
def models(data: Data = None, as_json: AsJson = False) -> None:
    """Saved versions, who holds which alias, who is tried out on whom. Example: mg models"""
    from models.store import ModelStore

    store = ModelStore(Home.here().models)
    if as_json:
        console.show_json(
            [
                {"ref": version.ref, **_plain_version(version), "aliases": _aliases(store, version)}
                for version in store.versions()
            ]
        )
        return
    rows = [
        (
            version.ref,
            version.graph,
            version.graph_hash[:8],
            version.model,
            ", ".join(_aliases(store, version)),
        )
        for version in store.versions()
    ]
    console.show_table("versions", ("version", "graph", "hash", "model", "aliases"), rows)


_ARMS = ("arm", "people", "outcome known", "positive", "answers", "errors", "slow", "p50 ms", "p99 ms")


def _arms(found: Any) -> list[tuple[Any, ...]]:
    arms = (("champion", found.counts.champion), (found.candidate.stage, found.counts.candidate))
    return [
        (name, arm.people, arm.known, arm.positive, arm.answers, arm.errors, arm.slow,
         f"{arm.p50_ms:.1f}", f"{arm.p99_ms:.1f}")
        for name, arm in arms
    ]  # fmt: skip


def _step(move: Any) -> tuple[str, ...]:
    when = datetime.fromtimestamp(move.at_ts, UTC).strftime("%Y-%m-%d %H:%M:%S")
    share = "" if move.share is None else f"{move.share:.0%}"
    return when, move.step, move.version, move.candidate or "", share, move.who, move.reason


def _aliases(store: Any, version: Any) -> list[str]:
    """Aliases of a version; a candidate's with its share of people."""
    told = []
    for alias, ref in store.aliases(version.graph).items():
        if ref == version.ref:
            base, _, stage = alias.rpartition(".")
            held = store.holding(version.graph, base) if base else None
            is_tried = held is not None and held.candidate is not None and held.candidate.stage == stage
            told.append(f"{alias} ({held.candidate.share:.0%} of people)" if is_tried else alias)
    return told


def _plain_version(version: Any) -> dict[str, Any]:
    """A model version for JSON."""
    return {
        "graph": version.graph,
        "graph_hash": version.graph_hash,
        "model": version.model,
        "metrics": version.metrics,
    }
