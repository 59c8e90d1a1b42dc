"""Looks at the trial of an alias every few seconds and takes its next step, beside whoever serves."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from configs.home import Home
from experiments.rollout import FINAL, Counts, Decision, RolloutConfig, decide, step
from experiments.tally import tally
from kg.exposures import ExposureError, ExposureLog
from models.aliases import AliasMove
from models.candidate import Candidate
from models.store import ModelStore
from models.verification import ModelError

log = logging.getLogger(__name__)


def next_step(
    home: Home,
    graph: str,
    alias: str = "champion",
    config: RolloutConfig | None = None,
    now_ts: float | None = None,
) -> tuple[Candidate, Decision]:
    """Counts what came of a trial and does what follows from it.

    Returns:
        Who was tried out, and what was decided.

    Raises:
        ModelError: nobody is tried out, or somebody else changed the alias in between.
    """
    config, models = config or RolloutConfig(), ModelStore(home.models)
    held = models.holding(graph, alias)
    if held is None or held.candidate is None:
        raise ModelError(f"nobody is tried out for {alias} of {graph}: start with `mg promote RUN --shadow`")
    counts = tally(home, graph, held.candidate, config, time.time() if now_ts is None else now_ts)
    decision = step(models, graph, alias, counts, config, held)
    if decision.action in FINAL:
        answers = ExposureLog(home.exposures(graph))
        with suppress(ExposureError):  # the step is taken; older trials are forgotten another time
            answers.forget(but=held.candidate.salt)  # their numbers stand in the audit log
        answers.close()
    return held.candidate, decision


@dataclass(frozen=True)
class Standing:
    """How an alias and its trial stand."""

    graph: str
    alias: str
    holder: str | None
    candidate: Candidate | None
    counts: Counts | None
    """None where nobody is tried out."""
    decision: Decision | None
    """What would be done now."""
    history: list[AliasMove]


def standing(
    home: Home, graph: str, alias: str = "champion", config: RolloutConfig | None = None
) -> Standing:
    """Looks and changes nothing, but for writing down a step that a crash cut off."""
    config, models = config or RolloutConfig(), ModelStore(home.models)
    if models.holding(graph, alias) is not None:
        models.settle(graph, alias)
    held = models.holding(graph, alias)
    tried = None if held is None else held.candidate
    counts = None if tried is None else tally(home, graph, tried, config, time.time())
    decision = None if tried is None or counts is None else decide(tried, counts, config)
    holder = None if held is None else held.version
    return Standing(graph, alias, holder, tried, counts, decision, models.history(graph, alias))


class Watcher:
    """A thread that takes the steps while endpoints are served: a context manager.

    Several may watch one alias: each step expects what it decided on, so one of them wins.
    """

    def __init__(
        self,
        home: Home,
        graph: str,
        say: Callable[[str], None],
        every_s: float = 10.0,
        config: RolloutConfig | None = None,
    ) -> None:
        self._home, self._graph, self._say = home, graph, say
        self._every_s, self._config = every_s, config
        self._must_end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rollout", daemon=True)

    def look(self) -> Decision | None:
        """One look; None where nobody is tried out, or nothing could be read or written just now."""
        models = ModelStore(self._home.models)
        try:
            held = models.holding(self._graph, "champion")
            if held is None or held.candidate is None:
                return None
            tried, decision = next_step(self._home, self._graph, config=self._config)
        except (ModelError, RuntimeError, OSError) as error:
            log.warning("the rollout of %s cannot be looked at: %s", self._graph, error)
            return None
        if decision.action != "wait":
            self._say(f"{tried.version} ({tried.stage}) -> {decision.action}: {decision.reason}")
        return decision

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._must_end.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._must_end.wait(self._every_s):
            self.look()
