"""What stands between scores and a person: steps of ranking, cold starts, reasons; each measured on a run."""

from typing import Annotated, Any

import typer

from apps import console
from apps.commands.shared import AsJson, Data, app
from configs.home import Home
from configs.registry import SettingError

Run = Annotated[str, typer.Argument(help="A run id, or the name of an experiment: then its latest run.")]


@app.command()
def steps(
    run: Run,
    candidates: Annotated[int, typer.Option(min=10, help="Best contents of each user to order.")] = 100,
    minutes: Annotated[float, typer.Option(help="What everybody has tonight.")] = 100.0,
    region: Annotated[str, typer.Option(help="Where everybody watches, as US.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """What each step of ranking costs and brings: alone, all, none. Example: mg steps ease"""
    from experiments.ranking_steps import StepsMeasure, measure_steps

    saved = _opened(run, data)
    with console.progress_bar(f"steps {saved.run.name}") as feed:
        found = measure_steps(saved, StepsMeasure(candidates, minutes=minutes, region=region), feed)
    console.show_json(found.summary()) if as_json else _show_steps(found)


@app.command()
def faithfulness(
    run: Run,
    users: Annotated[int, typer.Option(min=1, help="Test users, drawn by the seed.")] = 200,
    named: Annotated[int, typer.Option(min=1, help="Titles that are named at most.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Whether reasons are those the model had: without them the score falls. Example: mg faithfulness ease"""
    from experiments.faithfulness import FaithfulnessConfig
    from experiments.faithfulness import faithfulness as measure

    saved = _opened(run, data)
    with console.progress_bar(f"faithfulness {saved.run.name}") as feed:
        found = measure(saved, FaithfulnessConfig(users=users, named=named, seed=seed), feed)
    console.show_json(found.summary()) if as_json else _show_faithfulness(found)


@app.command()
def ladder(
    run: Run,
    events: Annotated[str, typer.Option(help="How many likes are known, ascending from 0.")] = "0,1,3,5,10",
    seed: Annotated[int, typer.Option(help="Of what is made up.")] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """What a stranger is answered, by how much is known of them. Example: mg ladder ease

    The weights are kept for the version of the run: endpoints answer strangers by them.
    """
    from experiments.ladder import LadderMeasure, measure_ladder
    from models.ladder_weights import LadderWeights

    if not all(one.strip().isdigit() for one in events.split(",")):
        raise SettingError(f"events are written as numbers with commas, as 0,1,3, got {events!r}")
    config = LadderMeasure(tuple(int(one) for one in events.split(",")), seed=seed)
    saved = _opened(run, data)
    with console.progress_bar(f"ladder {saved.run.name}") as feed:
        found = measure_ladder(saved, config, feed)
    LadderWeights(found.blends).save(Home.here().ladder(found.graph, saved.run.version))
    console.show_json(found.summary()) if as_json else _show_ladder(found)


def _opened(run: str, data: str | None) -> Any:
    """A run by id, or the latest of an experiment, with its model and split."""
    from experiments.result import load_runs, runs
    from experiments.saved import reopen
    from kg.arrays import GraphArrays
    from kg.datasets import graph_name

    home, name = Home.here(), graph_name(data)
    named = sorted((one for one in runs(home.runs(name)) if one.name == run), key=lambda one: one.started)
    found = named[-1] if named else load_runs(home.runs(name), [run])[0]
    graph = GraphArrays.open(home.arrays(name) / found.graph_hash)
    return reopen(found, graph, home)


def _show_steps(found: Any) -> None:
    metrics = ("ndcg@10", "recall@10", "diversity@10", "miscalibration@10")
    shown = ("ndcg@10", "recall@10", "diversity", "miscalib.", "coverage", "changed")
    columns = ("steps", *shown, "d ndcg@10", "95% interval", "p (Holm)")
    rows = []
    for one in found.variants:
        ndcg, *others = (one.summary[metric] for metric in metrics)
        values = [_with_interval(ndcg), *(f"{value.value:.4f}" for value in others)]
        against = ("", "", "")
        if one.p is not None:
            pair = one.against_none["ndcg@10"]
            against = (f"{pair.difference:+.4f}", f"{pair.low:+.4f} to {pair.high:+.4f}", f"{one.p:.4f}")
        rows.append((one.name, *values, f"{one.coverage:.3f}", f"{one.changed:.0%}", *against))
    console.show_table(f"steps of ranking after {found.model} on {found.graph}", columns, rows)
    console.out.print(
        f"{found.users} test users, {found.split_name} {found.split_hash[:8]}; "
        "smaller miscalibration is better; changed: share of the first ten that were not there without; p to "
        "none."
    )
    for step, why in found.unknown.items():
        console.out.print(f"{step}: {found.graph} tells {why}, so nothing moves.", markup=False)
    if found.simulated:
        console.out.print(f"Made up in this graph: {', '.join(found.simulated)}.", markup=False)


def _show_ladder(found: Any) -> None:
    lengths = list(found.answered)
    columns = ("what is read", *(f"{events} events" for events in lengths))
    names = {"history": f"history ({found.model} alone)"}
    rows = [
        (
            names.get(row.name, row.name) + (" · simulated" if row.is_simulated else ""),
            *(_with_interval(row.values[events]) if events in row.values else "" for events in lengths),
        )
        for row in found.rows
    ]
    console.show_table(f"ladder of a cold start on {found.graph}: NDCG@10", columns, rows)
    for one in found.differences:
        pair = one.paired
        console.out.print(
            f"nothing declared minus {names.get(one.against, one.against)} at {one.events}: "
            f"{pair.difference:+.4f} ({pair.low:+.4f} to {pair.high:+.4f}), p {one.p:.4f} (Holm)"
        )
    for events, answered in found.answered.items():
        parts = ", ".join(f"{rung} {share:.0%}" for rung, share in answered.items())
        console.out.print(f"answered at {events}, nothing declared: {parts}")
    console.out.print(
        f"{found.users} of {found.of_users} test users of {found.split_name} {found.split_hash[:8]}, those "
        "with enough likes, each asked as a stranger. Simulated: declared for them out of what they liked "
        "later in training. Weights are learned on validation."
    )
    for rung, why in found.unknown.items():
        console.out.print(f"{rung}: {found.graph} tells {why}.", markup=False)


def _show_faithfulness(found: Any) -> None:
    columns = ("taken away", "score falls by (sd)", "falls by places", "share that falls")
    rows = [
        (
            "what was named",
            _with_interval(found.named),
            _with_interval(found.named_rank, 1),
            f"{found.named_fall:.0%}",
        ),
        (
            "as many others",
            _with_interval(found.random),
            _with_interval(found.random_rank, 1),
            f"{found.random_fall:.0%}",
        ),
    ]
    console.show_table(f"reasons of {found.model} on {found.graph}", columns, rows)
    one, ranks = found.difference, found.rank_difference
    console.out.print(
        f"named minus others: {one.difference:+.4f} sd ({one.low:+.4f} to {one.high:+.4f}), p {one.p:.4f}; "
        f"{ranks.difference:+.1f} places, p {ranks.p:.4f}; "
        f"named weighs at least as much for {_with_interval(found.at_least, 3)} of {found.users} users."
    )
    console.out.print(
        f"{found.says}; {found.left_out} users left out, without a reason or with a history too short."
    )


def _with_interval(one: Any, digits: int = 4) -> str:
    return f"{one.value:.{digits}f} ({one.low:.{digits}f} to {one.high:.{digits}f})"
