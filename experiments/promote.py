"""The gate between a measured model and an alias that people are served from.

Every condition is checked and told, passed or not; every attempt is a line of the log, whatever came."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from filelock import FileLock

from configs.registry import SettingError
from experiments.result import ResultError, RunResult, plain, runs
from experiments.rollout import start
from experiments.significance import Paired, TestConfig, paired
from models.aliases import Overtaken, Step, who
from models.candidate import Holding
from models.card import PARTS, missing
from models.journal import append
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
    margins: Mapping[str, float] = field(
        default_factory=lambda: {"region": 0.05, "platform": 0.05, "cold": 0.05}
    )
    """First word of a group's name -> share of the holder's value that it may lose, 0 or more; a group of
    another kind is not looked at."""
    least_group_users: int = 30
    """Groups with fewer people are told and not judged, 2 or more."""

    def __post_init__(self) -> None:
        counts = (self.latency_calls, self.latency_rounds, self.size_bytes)
        if not self.latency_ms > 0 or min(counts) < 1 or not 1 <= self.n <= 20:
            raise SettingError(
                "a gate needs latency_ms above 0, latency_calls, latency_rounds and size_bytes of 1 or more "
                f"and n in 1..20, got {self.latency_ms}, {counts} and {self.n}"
            )
        if self.least_group_users < 2 or any(not 0 <= margin < 1 for margin in self.margins.values()):
            raise SettingError(
                "a gate needs margins of 0 or more and below 1 and least_group_users of 2 or more, got "
                f"{dict(self.margins)} and {self.least_group_users}"
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
    stage: str = "champion"
    """Where it went: champion, or beside it as shadow or canary."""
    share: float = 1.0
    """Of people."""


@dataclass(frozen=True)
class Way:
    """How a version that passed the gate goes on."""

    stage: str = "champion"
    """champion at once, or shadow or canary beside it first."""
    share: float = 1.0
    """Of people who are compared (shadow) or shown its answers (canary)."""


def promote(
    result: RunResult,
    alias: str,
    answer: Answer,
    models: ModelStore,
    gate: GateConfig | None = None,
    way: Way | None = None,
) -> Promotion:
    """Lets the version of a run hold an alias of its graph, or stand beside it, if it passes every condition.

    Args:
        result: the run that measured the version.
        alias: such as ``champion``.
        answer: asked for the run's sample of users.
        models: where the version lies, and the aliases.
        gate: what must hold.
        way: at once, or through a trial.

    Raises:
        ModelError: the version is not there, a file of it is not what was written, or nothing can be written.
    """
    gate, way = gate or GateConfig(), way or Way()
    version = models.load(result.version)
    models.settle(result.graph, alias)
    held = models.holding(result.graph, alias)
    previous = None if held is None else held.version
    told = Promotion(
        False, (), version.ref, result.graph, alias, previous, "", stage=way.stage, share=way.share
    )
    if held is not None and held.version == version.ref:
        said = f"{version.ref} already holds {alias} of {result.graph}: nothing was changed"
        return _logged(replace(told, reason=said, is_holder=True), models)
    conditions = _conditions(result, version, models.alias(result.graph, alias), answer, gate)
    failed = [condition for condition in conditions if not condition.passed]
    if failed:
        reason = "; ".join(f"{one.name} must be {one.must}, came {one.came}" for one in failed)
        return _logged(replace(told, conditions=conditions, reason=reason), models)
    reason = f"{conditions[0].came}; all {len(conditions)} conditions passed"
    try:
        _enter(result, version, alias, models, way, reason, held)
    except Overtaken as error:
        turn = Condition("turn", "the only promotion at its time", str(error), False)
        return _logged(replace(told, conditions=(*conditions, turn), reason=str(error)), models)
    return _logged(replace(told, promoted=True, conditions=conditions, reason=reason), models)


def _enter(
    result: RunResult,
    version: ModelVersion,
    alias: str,
    models: ModelStore,
    way: Way,
    reason: str,
    held: Holding | None,
) -> None:
    """Moves the alias, or puts the version beside it, if the alias still means what was compared with."""
    reason = f"run {result.run_id}: {reason}"
    if way.stage == "champion":
        numbers = {name: one.value for name, one in result.metrics.items() if np.isfinite(one.value)}
        models.set_alias(result.graph, alias, version, Step("promote", reason, numbers, held))
    else:
        start(models, result.graph, alias, version.ref, way.stage, way.share, reason, held)


def _conditions(
    result: RunResult, version: ModelVersion, holder: ModelVersion | None, answer: Answer, gate: GateConfig
) -> tuple[Condition, ...]:
    return (
        *_quality(result, holder, gate),
        _groups(result, holder, gate),
        _audited(result),
        *_answers(result, answer, gate),
        _size(version, gate),
        _card(version),
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


def _groups(result: RunResult, holder: ModelVersion | None, gate: GateConfig) -> Condition:
    """No group is worse than it was under the holder, beyond luck and by more than its margin.

    A group is worse where the mean difference of its people lies below minus the margin and the interval of
    that difference below 0. It is not corrected for the number of groups: rather one look too many.
    """
    kinds = ", ".join(f"{kind} {margin:.0%}" for kind, margin in gate.margins.items())
    must = f"no group worse than under the holder beyond luck and by more than its margin ({kinds})"
    run = None if holder is None else _run_of(result, holder)
    if holder is None or run is None or run.split_hash != result.split_hash:
        return Condition("groups", must, "not judged: no holder measured on the same people", True)
    worse, few, missing, judged = [], [], [], 0
    for name in result.groups:
        margin = gate.margins.get(name.split()[0])
        if margin is None:
            continue
        try:
            ours, theirs = (one.group_values(name, gate.metric) for one in (result, run))
        except ResultError:
            missing.append(name)
            continue
        if np.sum(~np.isnan(ours) & ~np.isnan(theirs)) < gate.least_group_users:
            few.append(name)
            continue
        test, judged = paired(ours, theirs, gate.test), judged + 1
        bound = margin * float(np.nanmean(theirs))
        if test.difference < -bound and test.high < 0:
            worse.append(
                f"{name} {test.difference:+.4f} ({test.low:+.4f} to {test.high:+.4f}) on {test.users} people "
                f"where -{bound:.4f} is allowed"
            )
    said = [f"worse: {'; '.join(worse)}"] if worse else [f"{judged} groups judged, none worse"]
    if few:
        said.append(f"not judged, fewer than {gate.least_group_users} people: {', '.join(few)}")
    if missing:
        said.append(f"not judged, a run without values per group (run it again): {', '.join(missing)}")
    return Condition("groups", must, "; ".join(said), not worse)


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
    gone = missing(version.manifest)
    if not (version.folder / "MODEL_CARD.md").is_file():
        gone.append("card")
    return Condition(
        "model card",
        f"complete: {', '.join(PARTS)}",
        f"without {', '.join(gone)}" if gone else "complete",
        not gone,
    )


def _logged(promotion: Promotion, models: ModelStore) -> Promotion:
    """One line more in the log of all attempts, on disk before this returns.

    A move of an alias stands in the audit log already: that this line could not be written undoes nothing.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        models.root.mkdir(parents=True, exist_ok=True)
        with FileLock(models.root / f".{LOG}.lock"):
            append(models.root / LOG, {"at": at, "who": who(), **plain(asdict(promotion))})
    except OSError as error:
        said = f"{promotion.reason} (the log of attempts could not be written: {error}; free space)"
        return replace(promotion, reason=said)
    return promotion
