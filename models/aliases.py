"""Names that move from one version to another: who holds ``champion`` of a graph, who is tried out beside.

``aliases/GRAPH/ALIAS.json`` is one small file, swapped as a whole: holder and candidate never disagree.
``audit.jsonl`` gets a line before every change and loses none."""

import dataclasses
import getpass
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from models import journal
from models.candidate import STAGES, Candidate, Holding
from models.journal import sync
from models.verification import ModelError

__all__ = [
    "ANYTHING",
    "AliasMove",
    "Aliases",
    "Candidate",
    "Holding",
    "Overtaken",
    "Step",
    "check_name",
    "sync",
]
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


ANYTHING = Holding("anything", 0.0)
"""What a step expects that changes an alias whatever it means by now."""


class Overtaken(ModelError):
    """Somebody else changed the alias since this decision was made: nothing was changed."""


@dataclass(frozen=True)
class Step:
    """What is done to an alias, and why."""

    name: str
    """promote, shadow, canary, end (of a trial) or rollback."""
    reason: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the decision was made on."""
    expects: Holding | None = ANYTHING
    """What the alias meant when it was decided, None for nothing."""


@dataclass(frozen=True)
class AliasMove:
    """One entry of the audit log: what an alias meant before and after, who changed it and why."""

    graph: str
    alias: str
    version: str
    """Holder from now on; '' for nobody."""
    previous: str | None
    reason: str
    at_ts: float
    step: str = "promote"
    """As in :class:`Step`; ``undone`` says that the change before it never took place."""
    who: str = ""
    candidate: str | None = None
    """Tried out from now on."""
    previous_candidate: str | None = None
    stage: str | None = None
    share: float | None = None
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)


class Aliases:
    """The aliases under one root; processes that move them at once do so one after another."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._log = root / "audit.jsonl"

    def holder(self, graph: str, alias: str) -> str | None:
        """Which version holds an alias, None where none does; ``ALIAS.STAGE`` asks for its candidate."""
        base, _, stage = alias.rpartition(".")
        if base and stage in STAGES:
            held = self.holding(graph, base)
            tried = None if held is None else held.candidate
            return tried.version if tried is not None and tried.stage == stage else None
        held = self.holding(graph, alias)
        return None if held is None else held.version

    def holding(self, graph: str, alias: str) -> Holding | None:
        """Holder and candidate of an alias, None where nothing holds it."""
        path = self._file(graph, alias)
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            tried = told.get("candidate")
            return Holding(
                str(told["version"]),
                float(told.get("at_ts", 0.0)),
                None if tried is None else Candidate(**tried),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{path} must name a version ({error}): delete it and set the alias anew"
            ) from None

    def held(self, graph: str) -> dict[str, str]:
        """Alias -> version, for every alias of a graph; who is tried out stands as ``ALIAS.STAGE``."""
        found = {}
        for alias in self.names(graph):
            held = self.holding(graph, alias)
            if held is not None:
                found[alias] = held.version
                if held.candidate is not None:
                    found[f"{alias}.{held.candidate.stage}"] = held.candidate.version
        return found

    def names(self, graph: str) -> list[str]:
        """Aliases of a graph."""
        check_name("graph", graph)
        return sorted(path.stem for path in (self._root / "aliases" / graph).glob("[!.]*.json"))

    def move(self, graph: str, alias: str, version: str, step: Step) -> AliasMove | None:
        """Lets ``version`` hold an alias, which ends a trial under way; None where it did already."""
        return self._change(graph, alias, version, None, step)

    def try_out(self, graph: str, alias: str, candidate: Candidate | None, step: Step) -> AliasMove | None:
        """Puts a candidate beside the holder, in place of one that is there; None takes it away.

        Raises:
            ModelError: nothing holds the alias, so there is nothing to stand beside.
        """
        held = self.holding(graph, alias)
        if held is None:
            raise ModelError(
                f"a {step.name} of {graph} stands beside a holder, nothing holds {alias}: promote a version"
            )
        return self._change(graph, alias, held.version, candidate, step)

    def history(self, graph: str, alias: str) -> list[AliasMove]:
        """All moves of an alias, oldest first.

        Raises:
            ModelError: a line of the log cannot be read; one that a crash cut off does not count.
        """
        moves = []
        try:
            for number, entry in journal.entries(self._log):
                try:
                    moves.append(AliasMove(**entry))
                except TypeError as error:
                    raise ModelError(
                        f"line {number} of {self._log} must be a move of an alias ({error}): mend it"
                    ) from None
        except ValueError as error:
            raise ModelError(str(error)) from None
        return [move for move in moves if (move.graph, move.alias) == (graph, alias)]

    def settle(self, graph: str, alias: str) -> AliasMove | None:
        """Writes down that the last change of the log never took place, where a crash came between.

        Returns:
            What was written, None where log and alias agree.
        """
        with FileLock(self._root / ".lock"):
            return self._settle(graph, alias)

    def _settle(self, graph: str, alias: str) -> AliasMove | None:
        history, held = self.history(graph, alias), self.holding(graph, alias)
        if not history:
            return None
        tried = None if held is None else held.candidate
        is_now = ("" if held is None else held.version, None if tried is None else tried.version)
        last = history[-1]
        if is_now == (last.version, last.candidate) or is_now != (
            last.previous or "",
            last.previous_candidate,
        ):
            return None  # carried out, or changed by hand since
        reason = f"the {last.step} before this was written down and cut off before it took place"
        undone = AliasMove(
            graph, alias, is_now[0], last.version, reason, time.time(), "undone", who(), is_now[1],
            last.candidate, None if tried is None else tried.stage, None if tried is None else tried.share,
        )  # fmt: skip
        journal.append(self._log, dataclasses.asdict(undone))
        return undone

    def _change(
        self, graph: str, alias: str, version: str, candidate: Candidate | None, step: Step
    ) -> AliasMove | None:
        """The log is on disk before the alias changes; readers see the old meaning or the new one."""
        path = self._file(graph, alias)
        if alias.rpartition(".")[0] and alias.rpartition(".")[2] in STAGES:
            raise ModelError(f"{alias} is given by a trial (`mg promote RUN --canary SHARE`), not by hand")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / ".lock"):
                with suppress(ModelError):  # a spoilt log is told by `history`; it must not stop a rollback
                    self._settle(graph, alias)
                held = self.holding(graph, alias)
                if step.expects != ANYTHING and held != step.expects:
                    raise Overtaken(self._overtaken(graph, alias, step, held))
                if held is not None and held.version == version:
                    is_same = held.candidate == candidate
                    if is_same or candidate is None and step.name == "promote":
                        return None
                return self._carry_out(path, held, Holding(version, time.time(), candidate), step)
        except OSError as error:
            raise ModelError(
                f"an alias needs a place that can be written, {self._root} gave {error}: free space and try "
                f"again; {alias} of {graph} means what it meant before"
            ) from error

    def _carry_out(self, path: Path, held: Holding | None, wanted: Holding, step: Step) -> AliasMove:
        graph, alias = path.parent.name, path.stem
        tried, before = wanted.candidate, None if held is None else held.candidate
        move = AliasMove(
            graph,
            alias,
            wanted.version,
            None if held is None else held.version,
            step.reason,
            wanted.at_ts,
            step.name,
            who(),
            None if tried is None else tried.version,
            None if before is None else before.version,
            None if tried is None else tried.stage,
            None if tried is None else tried.share,
            dict(step.numbers),
        )
        aside = path.with_name(f".{path.name}")
        told = dataclasses.asdict(wanted)
        aside.write_text(json.dumps(told if tried is not None else _without(told)), encoding="utf-8")
        sync(aside)
        journal.append(self._log, dataclasses.asdict(move))
        try:
            aside.rename(path)
        except OSError:
            with suppress(OSError, ModelError):
                self._settle(graph, alias)
            raise
        with suppress(OSError):  # it took place; a folder that cannot be synced changes nothing about that
            sync(path.parent)
        return move

    def _overtaken(self, graph: str, alias: str, step: Step, held: Holding | None) -> str:
        last = self.history(graph, alias)[-1:]
        by = f" ({last[0].step} by {last[0].who or 'somebody'}: {last[0].reason})" if last else ""
        was, now = _said(step.expects), _said(held)
        return (
            f"{alias} of {graph} must still mean {was} for this {step.name}, it means {now} by now{by}: "
            "nothing was changed; look at it and decide again"
        )

    def _file(self, graph: str, alias: str) -> Path:
        check_name("graph", graph)
        check_name("alias", alias)
        return self._root / "aliases" / graph / f"{alias}.json"


def _without(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key != "candidate"}


def _said(held: Holding | None) -> str:
    if held is None:
        return "nothing"
    tried = held.candidate
    return held.version if tried is None else f"{held.version} with {tried.version} as {tried.stage}"


def who() -> str:
    """Who runs this process, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def check_name(what: str, name: str) -> None:
    """Raises :class:`ModelError` for a name that could not be a folder of ours."""
    if not _NAME.fullmatch(name):
        raise ModelError(f"a {what} is named in a-z, 0-9, _, - and ., at most 64 of them, got {name[:80]!r}")
