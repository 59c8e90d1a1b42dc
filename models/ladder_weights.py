"""How much each rung of the ladder weighs, by what is known and how long a history is: learned from likes.

b people · c candidates of a person · r rungs."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from configs.registry import SettingError

RUNGS = ("history", "genres", "titles", "people", "demographics", "trending", "popularity")
"""From the top: what comes first tells most of one person."""
FORMAT = 1
ALWAYS = ("trending", "popularity")
"""Rungs that know something of everybody."""


@dataclass(frozen=True)
class Blend:
    """Weights for people of whom exactly these rungs know something."""

    rungs: frozenset[str]
    events: int
    """Length of the history they were learned at."""
    weights: Mapping[str, float]
    """Rung -> 0 or more."""
    likes: int
    """Held-out likes they were learned from."""


@dataclass(frozen=True)
class LadderWeights:
    """What :func:`learn` found; people are blended by what is known of them."""

    blends: tuple[Blend, ...]

    @property
    def longest(self) -> int:
        """The longest history that weights were learned at; nothing is known of longer ones."""
        return max((blend.events for blend in self.blends), default=0)

    def save(self, path: Path) -> None:
        """Writes the weights as JSON aside, then renames."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        told = [
            {
                "rungs": sorted(one.rungs),
                "events": one.events,
                "weights": dict(one.weights),
                "likes": one.likes,
            }
            for one in self.blends
        ]
        aside.write_text(json.dumps({"format": FORMAT, "blends": told}, indent=1), encoding="utf-8")
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> "LadderWeights":
        """What :meth:`save` wrote.

        Raises:
            ValueError: the file cannot be read or is not such a file.
        """
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise ValueError(f"format {told['format']}, not {FORMAT}")
            return cls(
                tuple(
                    Blend(
                        frozenset(one["rungs"]), int(one["events"]), dict(one["weights"]), int(one["likes"])
                    )
                    for one in told["blends"]
                )
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} must hold weights of a ladder, it cannot be read ({error}): run `mg ladder` again"
            ) from None

    def of(self, rungs: Iterable[str], events: int) -> dict[str, float]:
        """Rung -> weight for somebody of whom these rungs know something.

        Among the learned sets of rungs that lie within what is known the largest is taken, of these the one
        learned first. Between two lengths of history weights are interpolated over log(1 + events); beyond
        the longest they stay.
        """
        known = frozenset(rungs)
        fitting = [blend for blend in self.blends if blend.rungs <= known]
        if not fitting:
            return {"popularity": 1.0}
        best = max(fitting, key=lambda blend: len(blend.rungs)).rungs
        learned = sorted((one for one in fitting if one.rungs == best), key=lambda one: one.events)
        places = np.log1p([one.events for one in learned])
        return {
            rung: float(np.interp(np.log1p(events), places, [one.weights[rung] for one in learned]))
            for rung in RUNGS
            if rung in best
        }


def learn(
    rungs: Sequence[str], events: int, features: np.ndarray, starts: np.ndarray, is_liked: np.ndarray
) -> Blend:
    """The weights under which held-out likes are most probable among each person's candidates.

    A candidate c is taken with probability exp(w · f_c) / Σ exp(w · f) of its person, a conditional logit,
    here with w >= 0. Every person counts once, however many likes are held out.

    Args:
        rungs: r names, as the columns of ``features`` stand.
        events: length of the histories.
        features: (n, r) of all candidates, person by person.
        starts: (b,) int64 where each person's candidates begin; none is empty.
        is_liked: (n,) bool, whether a candidate is held out.

    Raises:
        SettingError: nothing held out is among the candidates.

    Source: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974; the objective is
    convex. The weights' squares are added with 1e-4, so that a rung that tells nothing gets 0.
    """
    person = np.zeros(len(features), np.int64)
    person[starts[1:]] = 1
    person = np.cumsum(person)
    likes = np.add.reduceat(is_liked.astype(np.float64), starts)
    told = np.flatnonzero(likes)
    if not len(told):
        raise SettingError("weights of a ladder need held-out likes among the candidates, got none")
    share = is_liked / np.maximum(likes, 1)[person]
    counts = (likes > 0).astype(np.float64)
    wanted = share @ features  # (r,)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        values = features @ weights
        values -= np.maximum.reduceat(values, starts)[person]
        odds = np.exp(values)
        total = np.add.reduceat(odds, starts)
        expected = (odds * (counts / total)[person]) @ features
        value = (np.log(total) * counts).sum() - share @ values
        size = len(told)
        return value / size + 1e-4 * weights @ weights, (expected - wanted) / size + 2e-4 * weights

    found = minimize(
        loss, np.full(len(rungs), 0.5), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(rungs)
    )
    weights = dict(zip(rungs, (float(value) for value in found.x), strict=True))
    return Blend(frozenset(rungs), events, weights, int(is_liked.sum()))
