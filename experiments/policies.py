"""Which mechanism should answer whom: published tables, a learned one, the best single one, and all alike.

No log of queries exists, so classes of queries are formed from what is known of a person before the test.
t users of a part · m mechanisms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.registry import SettingError, fill
from experiments.chosen import cut_for
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.mechanism_study import Study, finished, per_user
from experiments.result import ResultError, plain
from experiments.significance import Paired, TestConfig, holm, paired
from experiments.splits import Part
from kg.arrays import GraphArrays
from models.ranking import genres_of

CLASSES = ("short", "long", "narrow", "wide")
FORMED: Mapping[str, str] = {
    "short": "the quarter with the shortest histories",
    "long": "of the others, the quarter with the longest histories",
    "narrow": "of the rest, the half whose likes spread over genres the least",
    "wide": "all others",
}
LEFT_OUT: Mapping[str, str] = {
    "availability": "nobody's question for where a title is to be had was recorded",
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


@dataclass(frozen=True)
class PolicyResult:
    """What one policy reached on test."""

    name: str
    picks: Mapping[str, tuple[str, ...]]
    """Class -> mechanisms, each as likely."""
    value: Interval
    by_class: Mapping[str, float]
    """Class -> mean over its users."""
    to_best: Paired | None = None
    """This minus the best single one, on the same users; None for that itself."""
    p: float | None = None
    """After Holm's correction over the policies."""


@dataclass(frozen=True)
class PolicyTable:
    """All policies on one task."""

    task: str
    metric: str
    users: Mapping[str, int]
    """Class -> test users."""
    results: tuple[PolicyResult, ...]
    missing: Mapping[str, tuple[str, ...]]
    """Published table that could not be tried -> mechanisms without a finished run."""
    mechanisms: tuple[str, ...]
    """Those that were finished, from which the others choose."""

    def summary(self) -> dict[str, Any]:
        """All of it as plain values."""
        results = [
            {**vars(one), "value": vars(one.value), "to_best": one.to_best and vars(one.to_best)}
            for one in self.results
        ]
        told = {**vars(self), "results": results, "formed": FORMED, "left_out": LEFT_OUT}
        return plain({**told, "stand_for": STAND_FOR})


def history_lengths(part: Part) -> np.ndarray:
    """(t,) int64 likes that each of ``part.users`` has when a model is asked."""
    return np.diff(part.history.indptr)[part.users]


def genre_entropy(part: Part) -> np.ndarray:
    """(t,) float64 bits: how evenly the likes of each of ``part.users`` spread over genres.

    A content counts once, shared evenly by its genres; without any known genre it is 0.
    """
    genres = genres_of(part.training.graph).astype(np.float64)
    each = np.maximum(genres.sum(axis=1), 1)  # (i,)
    told = (part.history[part.users] @ genres.multiply(1 / each[:, None]).tocsr()).toarray()  # (t, g)
    share = told / np.maximum(told.sum(axis=1, keepdims=True), 1e-12)
    return -np.sum(share * np.log2(np.where(share > 0, share, 1.0)), axis=1)


def classes(part: Part) -> np.ndarray:
    """(t,) str: the class of each of ``part.users``, by what they did before; see :data:`FORMED`.

    They are taken in the order of ``CLASSES``, so that nobody is in two: first the shortest quarter, then the
    longest, then the narrower half of those who are left. Who stands on a border is on its lower side.
    """
    length, entropy = history_lengths(part), genre_entropy(part)
    found = np.full(len(length), "wide", dtype="<U6")
    is_short = length <= np.quantile(length, 0.25)
    is_long = ~is_short & (length > np.quantile(length, 0.75))
    rest = ~is_short & ~is_long
    if rest.any():
        found[rest & (entropy <= np.median(entropy[rest]))] = "narrow"
    found[is_short], found[is_long] = "short", "long"
    return found


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


def compare_policies(study: Study, graph: GraphArrays, test: TestConfig | None = None) -> PolicyTable:
    """Every policy on the finished runs of a study: chosen on validation, measured per user on test.

    A user's value is the mean over seeds on test; validation has the one seed by which rates were chosen.

    Raises:
        ResultError: no finished run, or values of other users.
    """
    runs, metric = finished(study), study.settings.metric
    if not runs:
        raise ResultError(f"no mechanism of {study.task} is finished: run `mg bench attention` first")
    cut = cut_for(study.settings, graph)
    validation = {name: study.chosen[name].values for name in runs}
    values = {name: per_user(mine, metric) for name, mine in runs.items()}
    for name in runs:
        if len(validation[name]) != len(cut.validation.users) or len(values[name]) != len(cut.test.users):
            raise ResultError(f"values of {name} must be of this split's users: run it again with --again")
    config = fill(EvaluationConfig, study.settings.experiment.measure, "measure")
    found, missing = policies(validation, classes(cut.validation))
    of = classes(cut.test)
    results = measured(found, of, values, config, test)
    users = {name: int((of == name).sum()) for name in CLASSES}
    return PolicyTable(study.task, metric, users, results, missing, tuple(sorted(runs)))


def measured(
    found: Mapping[str, Mapping[str, tuple[str, ...]]],
    of: np.ndarray,
    values: Mapping[str, np.ndarray],
    config: EvaluationConfig,
    test: TestConfig | None = None,
) -> tuple[PolicyResult, ...]:
    """What policies reach on (t,) users of classes ``of``, each tested against the best single one."""
    reached = {name: applied(picks, of, values) for name, picks in found.items()}
    others = [name for name in found if name != BEST]
    tests = {name: paired(reached[name], reached[BEST], test) for name in others}
    corrected = dict(zip(others, holm([tests[name].p for name in others]), strict=True))
    interval = intervals(reached, config)
    return tuple(
        PolicyResult(
            name,
            picks,
            interval[name],
            {one: float(np.nanmean(reached[name][of == one])) for one in CLASSES if (of == one).any()},
            tests.get(name),
            corrected.get(name),
        )
        for name, picks in found.items()
    )
