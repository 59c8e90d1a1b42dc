"""Answers while a candidate is tried: who is answered by which version, and a log of what came of it.

Whatever happens to the candidate, the champion's answer is given: a canary that cannot answer falls back to
it, a shadow is computed behind it, and the log is written by a thread that no request waits for."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kg.exposures import Exposure, ExposureError, ExposureLog
from models.candidate import Candidate
from serve.counters import Counters
from serve.problems import Problem
from serve.snapshot import Snapshot

CHAMPION = "champion"
_WAITING = 1000  # answers that wait for the log; more are counted as lost
_BATCH = 200
_GATHER_S = 0.05
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """A candidate in this process."""

    candidate: Candidate
    snapshot: Snapshot | None
    why_not: str | None = None
    """Why it could not be loaded."""


Reply = TypeVar("Reply")
Work = Callable[[], Exposure]


class Arms:
    """Answers by arm, over what a gateway holds now.

    Args:
        exposures: where answers of a trial are written.
        counters: told of every answer by arm and version.
        now: UTC seconds.
    """

    def __init__(self, exposures: ExposureLog, counters: Counters, now: Callable[[], int]) -> None:
        self._log, self._counters, self._now = exposures, counters, now
        self._waiting: queue.Queue[Work] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def answer(
        self,
        user_id: str,
        champion: Snapshot,
        trial: Trial | None,
        ask: Callable[[Snapshot], Reply],
        shown: Callable[[Reply], tuple[str, ...]],
        is_shown: bool = True,
    ) -> Reply:
        """The answer that somebody gets.

        Args:
            user_id: as in the graph; only its salted hash is kept.
            champion: who answers where no candidate does.
            trial: who is tried out, if anybody.
            ask: the answer out of a version.
            shown: content ids of an answer, best first.
            is_shown: False for an answer that is only held against another one: it comes from the same arm,
                and the log of the trial, which counts what people were shown, gets nothing.

        Raises:
            Problem: the champion cannot answer this request.
        """
        if trial is None:
            return self._timed(CHAMPION, champion, ask)[0]
        key = trial.candidate.key_of(user_id)
        is_chosen = trial.candidate.is_chosen(key)
        if trial.candidate.stage == "shadow":
            reply, latency_ms = self._timed(CHAMPION, champion, ask)
            if is_chosen and is_shown:
                told = shown(reply)
                self._later(lambda: self._compared(trial, key, told, latency_ms, ask, shown))
            return reply
        reply, entry = self._canary(champion, trial, key, is_chosen, ask, shown)
        if is_shown:
            self._later(lambda: entry)
        return reply

    def drain(self) -> None:
        """Returns when all that waits was written, or counted as lost."""
        self._waiting.join()

    def _canary(
        self,
        champion: Snapshot,
        trial: Trial,
        key: str,
        is_chosen: bool,
        ask: Callable[[Snapshot], Reply],
        shown: Callable[[Reply], tuple[str, ...]],
    ) -> tuple[Reply, Exposure]:
        arm, error, reply, latency_ms = "canary" if is_chosen else CHAMPION, None, None, 0.0
        if is_chosen:
            reply, latency_ms, error = self._tried(trial, ask)
        if reply is None:
            reply, champion_ms = self._timed(CHAMPION, champion, ask)  # a request that is wrong raises here
            latency_ms = latency_ms if is_chosen else champion_ms
        entry = Exposure(trial.candidate.salt, key, arm, self._now(), latency_ms, shown(reply), error=error)
        return reply, entry

    def _compared(
        self,
        trial: Trial,
        key: str,
        champions: tuple[str, ...],
        beside_ms: float,
        ask: Callable[[Snapshot], Reply],
        shown: Callable[[Reply], tuple[str, ...]],
    ) -> Exposure:
        """What the candidate would have answered, beside what the champion did."""
        reply, latency_ms, error = self._tried(trial, ask)
        overlap = None
        if reply is not None:
            overlap = len(set(champions) & set(shown(reply))) / len(champions) if champions else 1.0
        return Exposure(
            *(trial.candidate.salt, key, "shadow", self._now(), latency_ms),
            beside_ms=beside_ms,
            overlap=overlap,
            error=error,
        )

    def _tried(
        self, trial: Trial, ask: Callable[[Snapshot], Reply]
    ) -> tuple[Reply | None, float, str | None]:
        """The candidate's answer, milliseconds, and the kind of error where there is none."""
        stage, ref = trial.candidate.stage, trial.candidate.version
        if trial.snapshot is None:
            self._counters.count_arm(stage, ref, False, 0.0)
            return None, 0.0, "NotLoaded"
        started = time.perf_counter()
        try:
            reply, error = ask(trial.snapshot), None
        except Problem as problem:
            reply, error = None, problem.kind
        except Exception as broken:  # noqa: BLE001 - whatever a candidate does must not reach whoever asked
            log.warning("candidate %s could not answer: %s", ref, type(broken).__name__)
            reply, error = None, type(broken).__name__
        latency_s = time.perf_counter() - started
        self._counters.count_arm(stage, ref, error is None, latency_s)
        return reply, 1000 * latency_s, error

    def _timed(self, arm: str, snapshot: Snapshot, ask: Callable[[Snapshot], Reply]) -> tuple[Reply, float]:
        started, is_right = time.perf_counter(), False
        try:
            reply = ask(snapshot)
            is_right = True
        finally:
            latency_s = time.perf_counter() - started
            self._counters.count_arm(arm, snapshot.version.ref, is_right, latency_s)
        return reply, 1000 * latency_s

    def _later(self, work: Work) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="exposures", daemon=True)
                self._thread.start()
        try:
            self._waiting.put_nowait(work)
        except queue.Full:
            self._counters.count_lost(1)

    def _write(self) -> None:
        """Does what waits and writes it in batches, for as long as the process lives."""
        while True:
            batch, started = [self._waiting.get()], time.monotonic()
            while len(batch) < _BATCH and (left := _GATHER_S - (time.monotonic() - started)) > 0:
                try:
                    batch.append(self._waiting.get(timeout=left))
                except queue.Empty:
                    break
            try:
                self._log.append([work() for work in batch])
            except ExposureError as error:
                self._counters.count_lost(len(batch))
                log.warning("%s", error)
            except Exception:
                self._counters.count_lost(len(batch))
                log.exception("answers of a trial could not be compared")
            finally:
                for _ in batch:
                    self._waiting.task_done()
