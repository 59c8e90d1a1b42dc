"""Which mechanism should answer whom: published tables, a learned one, the best single one, and all alike.

No log of queries exists, so stand-ins for classes of queries are formed from what is known of a person
before the test. t users of a part."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from configs.registry import SettingError, fill
from experiments.chosen import cut_for
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.mechanism_study import Study, finished, note, per_user, why_unfinished
from experiments.mechanism_table import TaskNote
from experiments.result import ResultError, plain
from experiments.significance import Paired, TestConfig, holm, paired
from experiments.splits import Part, Split
from kg.arrays import GraphArrays
from models.ranking import genres_of

CLASSES = ("short", "long", "narrow", "wide")
FORMED: Mapping[str, str] = {
    "short": "the quarter with the shortest histories",
    "long": "of the others, the quarter of all with the longest histories",
    "narrow": "of the rest, the half whose likes spread over genres the least",
    "wide": "all others",
}
LEFT_OUT: Mapping[str, str] = {
    "availability": "nobody's question for where a title is to be had (availability_check) was recorded",
    "comparison": "nobody's question for two titles beside each other was recorded",
}
"""Published classes that cannot be formed from what people liked, and why."""
PUBLISHED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "published 1": {
        "short": ("multi_head",),  # trending
        "long": ("graph_rope",),  # personal
        "narrow": ("linear",),  # metadata
        "wide": ("flash",),  # discovery
    },
    "published 2": {
        "long": ("flash", "linear"),  # long
        "narrow": ("hyperbolic_distance",),  # taxonomy
        "wide": ("graph_rope", "edge_featured"),  # similar
    },
}
"""Class -> mechanisms, each as likely; a class that a table lacks is answered by the best single one."""
STAND_FOR: Mapping[str, Mapping[str, str]] = {
    "published 1": {"short": "trending", "long": "personal", "narrow": "metadata", "wide": "discovery"},
    "published 2": {"long": "long", "narrow": "taxonomy", "wide": "similar"},
}
"""Table -> class here -> the published class that it stands for."""
BEST, LEARNED, UNIFORM = "best single", "learned", "uniform"

Picks = Mapping[str, tuple[str, ...]]
"""Class -> mechanisms, each as likely."""


@dataclass(frozen=True)
class Borders:
    """Between classes; who stands on a border is on its lower side."""

    short: float
    """Likes, up to which a history is short."""
    long: float
    """Likes, above which a history is long."""
    entropy: float
    """Bits, up to which a taste is narrow."""


@dataclass(frozen=True)
class PolicyResult:
    """What one policy reached on test."""

    name: str
    picks: Picks
    value: Interval
    by_class: Mapping[str, float]
    """Class -> mean over its users; a class without anybody is not in it."""
    to_best: Paired | None = None
    """This minus the best single one, on the same users; None for that itself."""
    p: float | None = None
    """After Holm's correction over all policies and tasks."""


@dataclass(frozen=True)
class PolicyTable:
    """All policies on one task."""

    task: str
    metric: str
    note: TaskNote
    borders: Borders
    """Fixed on validation users, used for test users too."""
    users: Mapping[str, int]
    """Class -> test users."""
    validation_users: Mapping[str, int]
    """Class -> validation users, of whom the learned one learns."""
    warm_users: int
    results: tuple[PolicyResult, ...]
    missing: Mapping[str, tuple[str, ...]]
    """Published table that could not be tried -> mechanisms without a finished run."""
    mechanisms: tuple[str, ...]
    """Those that were finished, from which the others choose."""
    unfinished: Mapping[str, str]
    """Mechanism that no policy could pick -> why."""

    def result(self, name: str) -> PolicyResult:
        """One policy by name."""
        found = next((one for one in self.results if one.name == name), None)
        if found is None:
            raise ResultError(
                f"no policy {name!r} was tried; there are {', '.join(one.name for one in self.results)}"
            )
        return found


@dataclass(frozen=True)
class Policies:
    """All policies on all tasks."""

    graph: str
    graph_hash: str
    tables: tuple[PolicyTable, ...]
    idle: tuple[str, ...]
    """Tasks on which no mechanism is finished."""
    level: float
    """What p must stay below, after Holm, for a policy to be called better."""
    least_users: int
    """With fewer warm users nothing is called better."""

    @property
    def tests(self) -> int:
        """How many differences Holm's correction is over."""
        return sum(one.to_best is not None for table in self.tables for one in table.results)

    def is_better(self, table: PolicyTable, one: PolicyResult) -> bool:
        """Whether a policy is above the best single one by more than luck."""
        enough = table.warm_users >= self.least_users
        return enough and one.to_best is not None and one.to_best.difference > 0 and one.p < self.level

    def summary(self) -> dict[str, Any]:
        """All of it as plain values, with what the classes are."""
        words = {"formed": FORMED, "stand_for": STAND_FOR, "left_out": LEFT_OUT}
        return plain({**asdict(self), "tests": self.tests, **words})


def history_lengths(part: Part) -> np.ndarray:
    """(t,) int64 likes that each of ``part.users`` has when a model is asked."""
    return np.diff(part.history.indptr)[part.users]


def genre_entropy(part: Part) -> np.ndarray:
    """(t,) float64 bits: how evenly the likes of each of ``part.users`` spread over genres.

    A content counts once, shared evenly by its genres; without any known genre it is 0. Rounded to 12 digits,
    so that equal tastes are equal in whatever order they were added up.
    """
    genres = genres_of(part.training.graph).astype(np.float64)
    each = np.maximum(genres.sum(axis=1), 1)  # (i,)
    told = (part.history[part.users] @ genres.multiply(1 / each[:, None]).tocsr()).toarray()  # (t, g)
    share = told / np.maximum(told.sum(axis=1, keepdims=True), 1e-12)
    return np.round(-np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1), 12)


def borders(part: Part) -> Borders:
    """Where classes end: quartiles of the lengths, and the median entropy of those between the two."""
    length, entropy = history_lengths(part), genre_entropy(part)
    short, long = (float(np.quantile(length, share)) for share in (0.25, 0.75))
    rest = (length > short) & (length <= long)
    return Borders(short, long, float(np.median(entropy[rest] if rest.any() else entropy)))


def classes(part: Part, found: Borders) -> np.ndarray:
    """(t,) str: the class of each of ``part.users``, by what they did before; see :data:`FORMED`.

    They are taken in the order of ``CLASSES``, so that nobody is in two and everybody is in one.
    """
    length, entropy = history_lengths(part), genre_entropy(part)
    told = [length <= found.short, length > found.long, entropy <= found.entropy]
    return np.select(told, CLASSES[:3], CLASSES[3])


def best_single(validation: Mapping[str, np.ndarray]) -> str:
    """The mechanism with the best mean over (v,) values of validation users; equals by name."""
    if not validation:
        raise SettingError("a policy needs a mechanism with values on validation, got none: run the bench")
    return min(validation, key=lambda name: (-float(np.nanmean(validation[name])), name))


def learned(validation: Mapping[str, np.ndarray], of: np.ndarray) -> dict[str, tuple[str, ...]]:
    """For each class the mechanism that is best on validation; a class without anybody takes the best of all.

    Args:
        validation: mechanism -> (v,) values of validation users.
        of: (v,) class of each.
    """
    found = {}
    for name in CLASSES:
        mine = {mechanism: values[of == name] for mechanism, values in validation.items()}
        found[name] = (best_single(mine if (of == name).any() else validation),)
    return found


def applied(
    picks: Mapping[str, Sequence[str]], of: np.ndarray, values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(t,) value of each user under a policy: the mean over what it picks for the user's class.

    Example:
        >>> values = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 0.5])}
        >>> applied({"short": ["a"], "long": ["a", "b"]}, np.array(["short", "long"]), values).tolist()
        [1.0, 0.25]
    """
    found = np.full(len(of), np.nan)
    for name in np.unique(of):
        mine = of == name
        found[mine] = np.mean([values[mechanism][mine] for mechanism in picks[str(name)]], axis=0)
    return found


def policies(
    validation: Mapping[str, np.ndarray], of_validation: np.ndarray
) -> tuple[dict[str, dict[str, tuple[str, ...]]], dict[str, tuple[str, ...]]]:
    """Every policy, chosen on validation alone.

    Args:
        validation: mechanism -> (v,) values of validation users.
        of_validation: (v,) class of each.

    Returns:
        Policy -> class -> mechanisms, and published table -> mechanisms that it lacks.
    """
    best = best_single(validation)
    found = {BEST: dict.fromkeys(CLASSES, (best,)), LEARNED: learned(validation, of_validation)}
    missing = {}
    for name, picks in PUBLISHED.items():
        lacking = tuple(sorted({one for picked in picks.values() for one in picked} - set(validation)))
        if lacking:
            missing[name] = lacking
        else:
            found[name] = {one: picks.get(one, (best,)) for one in CLASSES}
    found[UNIFORM] = dict.fromkeys(CLASSES, tuple(sorted(validation)))
    return found, missing


def compare_policies(
    studies: Sequence[Study], graph: GraphArrays, test: TestConfig | None = None
) -> Policies:
    """Every policy on the finished runs of studies: chosen on validation, measured per user on test.

    A user's value is the mean over seeds on test; validation has the one seed by which rates were chosen.

    Args:
        studies: one a task; one without a finished run is named in the answer and left out.
        graph: on which they were made.
        test: how differences to the best single one are tested.

    Raises:
        ResultError: no finished run at all, or values of other users.
    """
    test = test or TestConfig()
    told = [one for one in studies if finished(one)]
    if not told:
        raise ResultError(f"no mechanism is finished on {graph.name}: run `mg bench attention` first")
    tables = corrected([_compared(one, cut_for(one.settings, graph), test) for one in told])
    idle = tuple(one.task for one in studies if not finished(one))
    return Policies(graph.name, graph.hash, tables, idle, test.level, test.least_users)


def _compared(study: Study, cut: Split, test: TestConfig) -> PolicyTable:
    runs, metric = finished(study), study.settings.metric
    validation = {name: study.chosen[name].values for name in runs}
    for name, mine in runs.items():
        is_ours = all(np.array_equal(run.users, cut.test.users) for run in mine)
        if not is_ours or len(validation[name]) != len(cut.validation.users):
            raise ResultError(f"values of {name} must be of this split's users: run it with --again {name}")
    border = borders(cut.validation)
    of_validation, of = classes(cut.validation, border), classes(cut.test, border)
    found, missing = policies(validation, of_validation)
    values = {name: per_user(mine, metric) for name, mine in runs.items()}
    config = fill(EvaluationConfig, study.settings.experiment.measure, "measure")
    absent = dict.fromkeys([*study.chosen, *(one for lacking in missing.values() for one in lacking)])
    return PolicyTable(
        study.task,
        metric,
        note(study),
        border,
        _counted(of),
        _counted(of_validation),
        int(cut.test.warm.sum()),
        measured(found, of, values, config, test),
        missing,
        tuple(sorted(runs)),
        {name: why_unfinished(study, name) for name in absent if name not in runs},
    )


def measured(
    found: Mapping[str, Picks],
    of: np.ndarray,
    values: Mapping[str, np.ndarray],
    config: EvaluationConfig,
    test: TestConfig | None = None,
) -> tuple[PolicyResult, ...]:
    """What policies reach on (t,) users of classes ``of``, each beside the best single one; no p yet."""
    reached = {name: applied(picks, of, values) for name, picks in found.items()}
    interval = intervals(reached, config)
    return tuple(
        PolicyResult(
            name,
            picks,
            interval[name],
            {one: float(np.nanmean(reached[name][of == one])) for one in CLASSES if (of == one).any()},
            None if name == BEST else paired(reached[name], reached[BEST], test),
        )
        for name, picks in found.items()
    )


def corrected(tables: Sequence[PolicyTable]) -> tuple[PolicyTable, ...]:
    """The same tables with p by Holm's correction over every difference of all of them."""
    tests = [(table.task, one) for table in tables for one in table.results if one.to_best is not None]
    p = holm([one.to_best.p for _, one in tests])
    told = {(task, one.name): value for (task, one), value in zip(tests, p, strict=True)}
    return tuple(
        replace(
            table,
            results=tuple(replace(one, p=told.get((table.task, one.name))) for one in table.results),
        )
        for table in tables
    )


def _counted(of: np.ndarray) -> dict[str, int]:
    return {name: int((of == name).sum()) for name in CLASSES}
