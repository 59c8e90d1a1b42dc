"""The gate between a measured model and an alias that people are served from.

Every condition is checked and told, passed or not; every attempt is a line of the log, whatever came."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from filelock import FileLock

from configs.registry import SettingError
from experiments.result import RunResult, plain, runs
from experiments.significance import Paired, TestConfig, paired
from models.store import ModelStore, ModelVersion

Answer = Callable[[str, str, int], list[str]]
"""(version, user id, n) -> content ids, best first: what an endpoint says for a version, with no filters."""
LOG = "promotions.jsonl"


@dataclass(frozen=True)
class GateConfig:
    """What a version must fulfil."""

    metric: str = "ndcg@10"
    test: TestConfig = TestConfig()
    latency_ms: float = 100.0
    """Bound of the 99th percentile of an answer, above 0; one caller, after warm-up."""
    latency_calls: int = 200
    """Answers that are timed in a round, 1 or more."""
    latency_rounds: int = 3
    """Rounds, of which the best counts: what other programs take only ever adds."""
    warm_up_calls: int = 10
    """Answers before the first that is timed."""
    size_bytes: int = 2**30
    """Bound of the version's folder."""
    n: int = 20
    """Length of the lists that must be identical, 1 to 20."""

    def __post_init__(self) -> None:
        counts = (self.latency_calls, self.latency_rounds, self.size_bytes)
        if not self.latency_ms > 0 or min(counts) < 1 or not 1 <= self.n <= 20:
            raise SettingError(
                "a gate needs latency_ms above 0, latency_calls, latency_rounds and size_bytes of 1 or more "
                f"and n in 1..20, got {self.latency_ms}, {counts} and {self.n}"
            )


@dataclass(frozen=True)
class Condition:
    """One thing that must hold, and what came."""

    name: str
    must: str
    came: str
    passed: bool


@dataclass(frozen=True)
class Promotion:
    """What the gate decided."""

    promoted: bool
    conditions: tuple[Condition, ...]
    version: str
    graph: str
    alias: str
    previous: str | None
    """Who held the alias before."""
    reason: str
    """In a sentence: why, or why not."""
    is_holder: bool = False
    """True if the version held the alias already, so that nothing was looked at or changed."""


def promote(
    result: RunResult, alias: str, answer: Answer, models: ModelStore, gate: GateConfig | None = None
) -> Promotion:
    """Lets the version of a run hold an alias of its graph if it passes every condition.

    Args:
        result: the run that measured the version.
        alias: such as ``champion``.
        answer: asked for the run's sample of users.
        models: where the version lies, and the aliases.
        gate: what must hold.

    Raises:
        ModelError: the version is not there or a file of it is not what was written.
    """
    gate = gate or GateConfig()
    version, holder = models.load(result.version), models.alias(result.graph, alias)
    if holder is not None and holder.ref == version.ref:
        said = f"{version.ref} already holds {alias} of {result.graph}: nothing was changed"
        found = Promotion(False, (), version.ref, result.graph, alias, holder.ref, said, is_holder=True)
        return _logged(found, models)
    conditions = (
        *_quality(result, holder, gate),
        _audited(result),
        *_answers(result, answer, gate),
        _size(version, gate),
        _card(version),
    )
    failed = [condition for condition in conditions if not condition.passed]
    if failed:
        reason = "; ".join(f"{one.name} must be {one.must}, came {one.came}" for one in failed)
    else:
        reason = f"{conditions[0].came}; all {len(conditions)} conditions passed"
        models.set_alias(result.graph, alias, version, f"run {result.run_id}: {reason}")
    previous = None if holder is None else holder.ref
    return _logged(
        Promotion(not failed, conditions, version.ref, result.graph, alias, previous, reason), models
    )


def _quality(result: RunResult, holder: ModelVersion | None, gate: GateConfig) -> tuple[Condition, Condition]:
    """Better than the holder on the same users; than the floor where that cannot be told."""
    bar, why, values = result.floor, "nothing holds the alias yet", result.floor_values(gate.metric)
    if holder is not None:
        run = _run_of(result, holder)
        if holder.manifest["split_hash"] != result.split_hash:
            why = f"{holder.ref} was measured on another split, as data or settings have changed"
        elif run is None:
            why = f"{holder.ref} left no values per user, its run is gone"
        else:
            bar, why, values = holder.ref, "", run.values(gate.metric)
    test = paired(result.values(gate.metric), values, gate.test)
    enough = result.warm_users >= gate.test.least_users
    must = f"better than {bar} in {gate.metric} at p < {gate.test.level:g}"
    return (
        Condition(
            "quality",
            f"{must} ({why})" if why else must,
            _told(test, float(np.nanmean(values)), bar),
            test.difference > 0 and test.p < gate.test.level,
        ),
        Condition(
            "evidence",
            f"measured on at least {gate.test.least_users} warm users",
            f"{result.warm_users} of {result.test_users} test users",
            enough,
        ),
    )


def _told(test: Paired, mean: float, bar: str) -> str:
    return (
        f"{mean + test.difference:.4f} against {mean:.4f} of {bar} "
        f"({test.difference:+.4f}, p = {test.p:.4f}, d = {test.effect:.2f})"
    )


def _run_of(result: RunResult, holder: ModelVersion) -> RunResult | None:
    found = (run for run in runs(result.folder.parent) if run.version == holder.ref)
    return next(found, None)


def _audited(result: RunResult) -> Condition:
    checks = len(result.audit)
    return Condition("leakage", "an audit without a finding", f"{checks} checks, no finding", checks > 0)


def _answers(result: RunResult, answer: Answer, gate: GateConfig) -> tuple[Condition, Condition]:
    """Asks for the sample's users again and again until enough answers are timed."""
    sample = {user: contents[: gate.n] for user, contents in result.sample().items()}
    users = list(sample)
    for place in range(gate.warm_up_calls):
        answer(result.version, users[place % len(users)], gate.n)
    rounds, answers = [], {}
    for _ in range(gate.latency_rounds):
        times_ms = []
        for place in range(max(gate.latency_calls, len(users))):
            user = users[place % len(users)]
            before = time.perf_counter()
            answers[user] = list(answer(result.version, user, gate.n))
            times_ms.append(1000 * (time.perf_counter() - before))
        rounds.append(np.percentile(times_ms, [99, 50]).tolist())
    p99, p50 = min(rounds)
    other = [user for user in users if answers[user] != sample[user]]
    return (
        Condition(
            "latency",
            f"p99 of at most {gate.latency_ms:g} ms",
            f"p99 {p99:.1f} ms, median {p50:.1f} ms, best of {len(rounds)} rounds of {len(times_ms)} answers",
            bool(p99 <= gate.latency_ms),
        ),
        Condition(
            "answers",
            f"the offline top {gate.n} of {len(users)} users, in order",
            "identical"
            if not other
            else f"{len(other)} differ, {_first_difference(other[0], sample, answers)}",
            not other,
        ),
    )


def _first_difference(user: str, sample: dict[str, list[str]], answers: dict[str, list[str]]) -> str:
    ours, theirs = sample[user], answers[user]
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if one != other:
            return f"{user} at rank {place}: {one} offline, {other} answered"
    return f"{user}: {len(ours)} contents offline, {len(theirs)} answered"


def _size(version: ModelVersion, gate: GateConfig) -> Condition:
    size = sum(path.stat().st_size for path in version.folder.iterdir())
    return Condition(
        "size",
        f"at most {gate.size_bytes / 2**20:,.0f} MiB",
        f"{size / 2**20:,.1f} MiB",
        size <= gate.size_bytes,
    )


def _card(version: ModelVersion) -> Condition:
    told = version.manifest
    parts = {
        "metrics": bool(told.get("metrics")),
        "split": bool(told.get("split_hash")),
        "seeds": bool(told.get("seeds")),
        "code revision": told.get("code_revision") not in (None, "", "unknown"),
        "licence of the data": told.get("licence") not in (None, "", "unknown"),
        "card": (version.folder / "MODEL_CARD.md").is_file(),
    }
    missing = [name for name, there in parts.items() if not there]
    return Condition(
        "model card",
        f"complete: {', '.join(parts)}",
        f"without {', '.join(missing)}" if missing else "complete",
        not missing,
    )


def _logged(promotion: Promotion, models: ModelStore) -> Promotion:
    """One line more in the log of all attempts, on disk before this returns."""
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **plain(_dict(promotion))}
    models.root.mkdir(parents=True, exist_ok=True)
    with FileLock(models.root / f".{LOG}.lock"), (models.root / LOG).open("ab") as file:
        file.write(json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return promotion


def _dict(promotion: Promotion) -> dict[str, object]:
    return asdict(promotion)
