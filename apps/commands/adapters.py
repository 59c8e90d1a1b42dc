"""What the bank of users' adapters holds: told, shown, moved, forgotten; and how fast it is."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from apps import console
from apps.commands.bench import bench_app
from apps.commands.shared import AsJson, Data, app, must_take_files
from configs.home import Home
from configs.registry import SettingError

adapters_app = typer.Typer(
    no_args_is_help=True, help="Users' instant adapters: stats, show, export, import, forget, compact."
)
app.add_typer(adapters_app, name="adapters")
Bank = Annotated[
    str | None, typer.Option("--bank", help="Name of its folder, where a graph has one bank a base.")
]
User = Annotated[str, typer.Argument(help="Somebody's user id; any other name is hashed.")]


@adapters_app.command("stats")
def stats(
    data: Data = None,
    bank: Bank = None,
    look: Annotated[bool, typer.Option("--look", help="Also hold every row against its checksums.")] = False,
    as_json: AsJson = False,
) -> None:
    """How much it holds, and of which base. Example: mg adapters stats --look"""
    found = _opened(data, bank).stats(look)
    if as_json:
        console.show_json(found)
        return
    spec = found.spec
    rows: list[tuple[str, Any]] = [
        ("users", found.users),
        ("forgotten rows, freed by compact", found.forgotten),
        ("bytes of one user's adapter", found.record_bytes),
        ("bytes of one user on disk, index aside", found.row_bytes),
        ("bytes on disk", found.size_bytes),
        ("applied: events of the log taken up to", found.applied),
        ("layer", f"{spec.width} → {spec.outputs}, rank {spec.rank}, α {spec.alpha:g}, {found.packing}"),
        ("base", spec.base or "not named"),
    ]
    if look:
        rows += [("slots cut off by a crash", found.torn), ("users damaged", found.damaged)]
    console.show_table("adapters", ("what", "count"), rows)


@adapters_app.command("show")
def show(
    user: Annotated[str | None, typer.Argument(help="A user id; the first ones where left out.")] = None,
    n: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    data: Data = None,
    bank: Bank = None,
    as_json: AsJson = False,
) -> None:
    """What was learned of somebody, in numbers. Example: mg adapters show --n 5"""
    from itertools import islice

    opened = _opened(data, bank)
    users = list(islice(opened.users(), n)) if user is None else [_known(opened, user)]
    records = opened.read(users)
    told = [_told(opened.spec, one, record) for one, record in zip(users, records, strict=True)]
    if as_json:
        console.show_json(told)
        return
    cells = [
        (
            one["user_id"],
            one["events"],
            f"{one['norm']:.4f}",
            f"{one['gathered']:.2f}",
            one["last_ts"],
            one["number"],
        )
        for one in told
    ]
    columns = ("user", "events", "norm of the update", "gathered", "last ts", "place in the log")
    console.show_table(f"{len(told)} of {opened.stats().users:,} users", columns, cells)


@adapters_app.command("export")
def export(
    user: User,
    out: Annotated[Path, typer.Option("--out", help="Folder for the two files.")],
    module: Annotated[str, typer.Option(help="Name of the layer in the model that loads it.")] = "head",
    data: Data = None,
    bank: Bank = None,
) -> None:
    """One user's adapter in PEFT's format. Example: mg adapters export user:world:1 --out ann"""
    opened = _opened(data, bank)
    name = _known(opened, user)
    must_take_files(out)
    opened.export_user(name, out, module)
    console.out.print(f"{out} holds the adapter of {name}; peft.PeftModel.from_pretrained loads it.")


@adapters_app.command("import")
def import_(
    user: User,
    folder: Annotated[Path, typer.Argument(help="With adapter_config.json and adapter_model.safetensors.")],
    data: Data = None,
    bank: Bank = None,
) -> None:
    """Takes an adapter in PEFT's format for a user. Example: mg adapters import user:world:1 ann"""
    name = _hashed(user)
    with _opened(data, bank, writable=True) as opened:
        opened.import_user(name, folder)
    console.out.print(f"{name} has the adapter of {folder}.")


@adapters_app.command("forget")
def forget(
    user: User,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Erase their feedback from the log too.")
    ] = False,
    data: Data = None,
    bank: Bank = None,
    as_json: AsJson = False,
) -> None:
    """Erases somebody from every bank of a graph. Example: mg adapters forget user:world:1 --feedback"""
    from kg.datasets import graph_name
    from kg.feedback import FeedbackLog

    name, banks = _hashed(user), 0
    for folder in _folders(data, bank):
        with _bank()(folder, writable=True) as opened:
            banks += opened.forget(name)
    events = FeedbackLog(Home.here().feedback(graph_name(data))).forget(name) if feedback else None
    if as_json:
        console.show_json({"forgotten": name, "banks": banks, "events": events})
        return
    console.out.print(f"{name} was in {banks} bank(s); no file of a bank holds anything of theirs.")
    if events is None:
        console.out.print(
            "Their feedback stays in the log, and a replay learns it again: --feedback erases it."
        )
    else:
        console.out.print(f"{events} event(s) erased from the log of feedback.")


@adapters_app.command("compact")
def compact(data: Data = None, bank: Bank = None, as_json: AsJson = False) -> None:
    """Frees the rows of people who were forgotten. Example: mg adapters compact"""
    with _opened(data, bank, writable=True) as opened:
        freed, users = opened.compact(), opened.stats().users
    if as_json:
        console.show_json({"freed_bytes": freed, "users": users})
    else:
        console.out.print(f"{freed:,} bytes freed, {users:,} user(s) kept.")


@bench_app.command("adapters")
def bench_adapters(
    users: Annotated[int, typer.Option(help="In the bank.", min=1_000, max=5_000_000)] = 1_000_000,
    contents: Annotated[int, typer.Option(help="Scored for each of 256 users.", min=100)] = 10_000,
    seconds: Annotated[float, typer.Option(help="Of the sustained stream.", min=0.1, max=300)] = 10.0,
    kills: Annotated[int, typer.Option(help="SIGKILLs amid a stream of events.", min=0, max=500)] = 50,
    threads: Annotated[int, typer.Option(help="Of NumPy and torch, on each side.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of what is made up.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Room, updates, scoring beside PEFT, and kills. Example: mg bench adapters --users 100000 --kills 5"""
    from apps.bench.adapters import measure

    with console.progress_bar("adapters") as feed:
        rows = measure(users, contents, seconds, kills, threads, seed, feed)
    if as_json:
        console.show_json([{**console.plain(row), "is_met": row.is_met} for row in rows])
    else:
        cells = [
            (
                row.what,
                f"{row.value:,.4g} {row.unit}".strip()
                if row.value < 1e4
                else f"{row.value:,.0f} {row.unit}".strip(),
                "" if row.bar is None else f"{'≥' if row.is_least else '≤'} {row.bar:,g}",
                {None: "", True: "met", False: "NOT met"}[row.is_met],
                row.note,
            )
            for row in rows
        ]
        console.show_table(f"adapters, {threads} thread(s)", ("what", "came", "bar", "", "how"), cells)
    if any(row.is_met is False for row in rows):
        raise typer.Exit(1)


def _bank() -> Any:
    from models.adapter_bank import AdapterBank

    return AdapterBank


def _folders(data: str | None, bank: str | None) -> list[Path]:
    """Folders of the banks of a graph, or of the one that was named."""
    from kg.datasets import graph_name

    root = Home.here().adapters(graph_name(data))
    found = sorted(path.parent for path in (*root.glob("spec.json"), *root.glob("*/spec.json")))
    if not found:
        raise SettingError(f"nothing was learned yet: {root} holds no bank of adapters")
    named = [folder for folder in found if bank in (None, folder.name)]
    if not named:
        raise SettingError(f"no bank is called {bank!r}; there are: {', '.join(one.name for one in found)}")
    return named


def _opened(data: str | None, bank: str | None, writable: bool = False) -> Any:
    found = _folders(data, bank)
    if len(found) > 1:
        raise SettingError(f"a graph with several banks needs --bank: {', '.join(one.name for one in found)}")
    return _bank()(found[0], writable=writable)


def _hashed(user: str) -> str:
    from kg.feedback import hashed_user

    return hashed_user(user)


def _known(bank: Any, user: str) -> str:
    name = _hashed(user)
    if not bank.has([name])[0]:
        raise SettingError(f"the bank holds nothing of {name}: name somebody who gave feedback")
    return name


def _told(spec: Any, user_id: str, record: np.void) -> dict[str, Any]:
    update = spec.scale * record["up"].astype(np.float32) @ record["down"].astype(np.float32)
    return {
        "user_id": user_id,
        "norm": float(np.linalg.norm(update)),
        **{name: record[name].item() for name in ("gathered", "events", "last_ts", "number")},
    }
