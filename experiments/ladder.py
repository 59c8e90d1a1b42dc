"""How good the ladder of a cold start is when 0, 1, 3, 5 or 10 likes of somebody are known.

u users · i contents · c candidates of a user · r rungs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig, Interval, evaluate, intervals
from experiments.saved import Listed, Saved
from experiments.significance import Paired, holm, paired
from experiments.splits import Part
from models.interface import Recommender, Trainable, recommenders
from models.ladder import Known, Ladder
from models.ladder_weights import ALWAYS, RUNGS, Blend, LadderWeights, learn
from models.ranking import genres_of, top
from models.steps import taste_of

Progress = Callable[[str], None]
METRIC = "ndcg@10"
DECLARED = ("genres", "titles", "people")
"""What a person would be asked; here made up out of what the person liked later."""
ASKED: Mapping[str, tuple[str, ...]] = {
    "nothing": (),
    "genres": ("genres",),
    "titles": ("titles",),
    "people": ("people",),
    "all": DECLARED,
}
_BLOCK = 64


@dataclass(frozen=True)
class LadderMeasure:
    """How the ladder is measured."""

    events: tuple[int, ...] = (0, 1, 3, 5, 10)
    """Lengths of the histories, ascending from 0."""
    titles: int = 3
    """How many titles are named, drawn by the seed from what was liked after those events."""
    genres: int = 3
    """How many genres are declared, those with the largest share of what was liked after."""
    people: int = 2
    """How many people are named, those with most contents in what was liked after."""
    learn_users: int = 400
    """Validation users that weights are learned from, drawn by the seed."""
    candidates: int = 50
    """Best contents of each rung that weights are learned among."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.events[:1] != (0,) or list(self.events) != sorted(set(self.events)):
            raise SettingError(f"events must ascend from 0, got {self.events}")
        if min(self.titles, self.genres, self.people, self.learn_users, self.candidates) < 1:
            raise SettingError(
                "a ladder is measured with 1 or more titles, genres, people, users, candidates"
            )

    @property
    def least(self) -> int:
        """Likes in training that a user needs, so that all lengths are measured on the same users."""
        return self.events[-1] + self.titles


@dataclass(frozen=True)
class Row:
    """One way to answer, at each length of history."""

    name: str
    is_simulated: bool
    """True where it reads what the person was made to declare."""
    values: Mapping[int, Interval]
    """Events -> NDCG@10."""


@dataclass(frozen=True)
class Difference:
    """The ladder without anything declared, minus another, at one length of history."""

    against: str
    events: int
    paired: Paired
    p: float
    """After Holm over all differences of the report."""


@dataclass(frozen=True)
class LadderReport:
    """The table of :func:`measure_ladder`."""

    run_id: str
    model: str
    graph: str
    split_name: str
    split_hash: str
    seed: int
    users: int
    """Test users with enough likes in training."""
    of_users: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    answered: Mapping[int, Mapping[str, float]]
    """Events -> rung -> share of users whom it answered, nothing declared."""
    blends: tuple[Blend, ...]
    unknown: Mapping[str, str]
    """Rung -> what the graph does not tell."""

    def summary(self) -> dict[str, Any]:
        """As JSON knows it."""
        told = asdict(self)
        return told | {"blends": [one | {"rungs": sorted(one["rungs"])} for one in told["blends"]]}


def measure_ladder(
    saved: Saved, config: LadderMeasure | None = None, progress: Progress | None = None
) -> LadderReport:
    """Measures the ladder on test users as if the graph did not know them.

    Of each user the first events of training are the history; genres, titles and people are made up from what
    the same user liked after them in training: *simulated*. What was liked in training is never ranked, as in
    every evaluation, so all lengths are measured on one task. Weights are learned on validation users, by the
    same model fitted on training alone. The likes of a test user are in the training of the model and of the
    counts; none that is held out is.

    Args:
        saved: a run of a closed-form model that can score somebody without a row.
        config: how.
        progress: told in words what is done now.

    Raises:
        SettingError: the model is trained by steps, or no user has enough likes.
    """
    config, say = config or LadderMeasure(), progress or (lambda _: None)
    say("fit on training")
    weights = learned(_refitted(saved), saved.split.validation, config, say)
    part = saved.split.test
    ladder = Ladder(saved.model, part.training)
    asked = _Asked(ladder, part, _drawn(part, config), config)
    lists = _Lists(asked, weights)
    values, answered = {}, {}
    for events in config.events:
        say(f"{events} events")
        found, shares = lists.at(events)
        answered[events] = shares
        for name, rows in found.items():
            values[name, events] = _values(part, asked.users, rows)
    return _report(saved, config, asked, values, answered, weights)


def learned(model: Recommender, part: Part, config: LadderMeasure, say: Progress) -> LadderWeights:
    """Weights of every set of rungs that a service may meet, from the held-out likes of a part.

    Args:
        model: fitted on the training of ``part``.
        part: validation.
        config: how.
        say: told in words what is done now.
    """
    ladder = Ladder(model, part.training)
    users = _drawn(part, config)
    generator = np.random.default_rng(config.seed)
    users = np.sort(generator.choice(users, min(config.learn_users, len(users)), replace=False))
    asked = _Asked(ladder, part, users, config)
    blends = []
    for events in config.events:
        say(f"weights at {events} events")
        features, starts, is_liked = _candidates(asked, events, config.candidates)
        for rungs in _sets(ladder, events):
            columns = [RUNGS.index(rung) for rung in rungs]
            blends.append(learn(rungs, events, features[:, columns], starts, is_liked))
    return LadderWeights(tuple(blends))


def _sets(ladder: Ladder, events: int) -> list[tuple[str, ...]]:
    """Sets of rungs that are learned at a length of history."""
    known = ("demographics",) if ladder.group_names else ()
    own = ("history",) if events else ()
    found = []
    for some in {(), known}:
        for declared in ASKED.values():
            wanted = {*own, *declared, *some, *ALWAYS}
            found.append(tuple(rung for rung in RUNGS if rung in wanted))
    return sorted(found, key=lambda rungs: [RUNGS.index(rung) for rung in rungs])


def _refitted(saved: Saved) -> Recommender:
    """The model of a run, fitted on training without validation."""
    if issubclass(recommenders[saved.run.model], Trainable):
        raise SettingError(
            f"{saved.run.model} is trained by steps: the ladder is measured on a closed-form model, as ease"
        )
    model = recommenders.build(saved.run.model, saved.run.settings)
    model.fit(saved.split.fit)
    return model


def _drawn(part: Part, config: LadderMeasure) -> np.ndarray:
    """(u,) rows of the users of a part with enough likes."""
    enough = np.diff(part.history.indptr)[part.users] >= config.least
    if not enough.any():
        raise SettingError(
            f"no user of {part.training.graph.name} has {config.least} likes in training: ask fewer events"
        )
    return part.users[enough]


class _Asked:
    """What is known of users who are made strangers."""

    def __init__(self, ladder: Ladder, part: Part, users: np.ndarray, config: LadderMeasure) -> None:
        self.ladder, self.part, self.users = ladder, part, users
        self._order = {user: self._by_time(user) for user in users.tolist()}
        self._declare(config)

    def _by_time(self, user: int) -> np.ndarray:
        """(h,) content rows of a history, first liked first, ties by row."""
        places = slice(self.part.history.indptr[user], self.part.history.indptr[user + 1])
        contents, times = self.part.history.indices[places], self.part.times.data[places]
        return contents[np.lexsort((contents, times))]

    def _declare(self, config: LadderMeasure) -> None:
        """Makes up what people would declare, from what they liked after the longest history."""
        generator, genres = np.random.default_rng(config.seed), genres_of(self.part.training.graph)
        credits, self._declared = self.ladder.credits, {name: [] for name in DECLARED}
        for user in self.users.tolist():
            later = self._order[user][config.events[-1] :]
            told = {
                "genres": _most(taste_of(later, genres), config.genres),
                "titles": np.sort(generator.choice(later, config.titles, replace=False)),
                "people": _most(np.asarray(credits[later].sum(axis=0)), config.people),
            }
            for name, rows in told.items():
                self._declared[name].append(rows)
        self._widths = {"genres": genres.shape[1], "titles": genres.shape[0], "people": credits.shape[1]}

    def blocks(self, events: int) -> Iterator[tuple[np.ndarray, Known]]:
        """Places among the users, and what is known of them after so many events."""
        for start in range(0, len(self.users), _BLOCK):
            places = np.arange(start, min(start + _BLOCK, len(self.users)))
            yield places, self._known(places, events)

    def allowed(self, places: np.ndarray) -> np.ndarray:
        """(b, i) bool: what may be ranked and was not liked in training."""
        allowed = np.repeat(self.part.asked.rankable[None], len(places), axis=0)
        history = self.part.history[self.users[places]]
        allowed[np.repeat(np.arange(len(places)), np.diff(history.indptr)), history.indices] = False
        return allowed

    def _known(self, places: np.ndarray, events: int) -> Known:
        users = self.users[places]
        contents = self.part.history.shape[1]
        first = [np.sort(self._order[user][:events]) for user in users.tolist()]
        history = _sets_of(first, contents)
        when = [
            self.part.times[[user]].toarray()[0, rows]
            for user, rows in zip(users.tolist(), first, strict=True)
        ]
        times = sp.csr_array(
            (np.concatenate(when).astype(np.int64), history.indices, history.indptr), shape=history.shape
        )
        declared = {
            name: _sets_of([self._declared[name][place] for place in places], width)
            for name, width in self._widths.items()
        }
        return Known(
            history,
            times,
            **declared,
            groups=self.ladder.groups_of(users),
            regions=self.ladder.regions_of(users),
        )


class _Lists:
    """The first ten of every way to answer."""

    def __init__(self, asked: _Asked, weights: LadderWeights) -> None:
        self.asked, self.weights = asked, weights

    def at(self, events: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Way -> (u, 10) content rows, and rung -> share of users whom it answered, nothing declared."""
        found, answered = {}, []
        for places, known in self.asked.blocks(events):
            allowed = self.asked.allowed(places)
            told = self.asked.ladder.told(known)
            scored = dict(told.features)
            for name, declared in ASKED.items():
                left = told.without(*(rung for rung in DECLARED if rung not in declared))
                answer = left.answer(self.weights)
                scored[f"ladder, {name} declared"] = answer.scores
                if not declared:
                    answered += answer.rungs
            for name, scores in scored.items():
                lists = found.setdefault(name, np.full((len(self.asked.users), 10), -1, np.int64))
                lists[places] = top(scores, 10, allowed)
        return found, {rung: answered.count(rung) / len(answered) for rung in RUNGS if rung in answered}


def _candidates(asked: _Asked, events: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (m, r) of the best of every rung, (u,) where each user's begin, and (m,) bool held out."""
    features, lengths, liked = [], [], []
    for places, known in asked.blocks(events):
        features_of = asked.ladder.told(known).features
        allowed = asked.allowed(places)
        nothing = np.zeros(allowed.shape)  # of a rung that knows nothing of anybody
        told = {rung: features_of.get(rung, nothing) for rung in RUNGS}
        best = np.concatenate([top(one, n, allowed) for one in features_of.values()], axis=1)
        held_out = asked.part.held_out[asked.users[places]]
        for person in range(len(places)):
            own = held_out.indices[held_out.indptr[person] : held_out.indptr[person + 1]]
            rows = np.unique(best[person][best[person] >= 0])
            if not np.isin(rows, own).any():
                continue  # nothing to learn from
            features.append(np.stack([told[rung][person, rows] for rung in RUNGS], axis=1))
            lengths.append(len(rows))
            liked.append(np.isin(rows, own))
    if not features:
        raise SettingError("weights of a ladder need held-out likes among the candidates, got none")
    starts = np.cumsum([0, *lengths[:-1]])
    return np.concatenate(features), starts, np.concatenate(liked)


def _values(part: Part, users: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """(u,) NDCG@10 of lists."""
    kept = np.zeros(part.held_out.shape[0], bool)
    kept[users] = True
    held_out = sp.csr_array(sp.diags_array(kept.astype(np.float32)) @ part.held_out)
    held_out.eliminate_zeros()
    model = Listed(users, lists, part.history.shape[1])
    # its own intervals are not read
    config = EvaluationConfig(metrics=(METRIC,), list_metrics=(), resamples=100, regions=0, platforms=0)
    return evaluate(model, replace(part, held_out=held_out), config).values[METRIC]


def _report(
    saved: Saved,
    config: LadderMeasure,
    asked: _Asked,
    values: Mapping[tuple[str, int], np.ndarray],
    answered: Mapping[int, Mapping[str, float]],
    weights: LadderWeights,
) -> LadderReport:
    told = intervals({f"{name}@{events}": one for (name, events), one in values.items()}, EvaluationConfig())
    names = [name for name in (*RUNGS, *(f"ladder, {name} declared" for name in ASKED))]
    rows = tuple(
        Row(
            name,
            any(declared in name for declared in DECLARED) or "all" in name,
            {events: told[f"{name}@{events}"] for events in config.events if (name, events) in values},
        )
        for name in names
        if (name, config.events[-1]) in values
    )
    ours = "ladder, nothing declared"
    pairs = [
        (against, events, paired(values[ours, events], values[against, events]))
        for against in ("popularity", "history")
        for events in config.events
        if (against, events) in values
    ]
    corrected = holm([pair.p for _, _, pair in pairs])
    differences = tuple(Difference(*pair, p) for pair, p in zip(pairs, corrected, strict=True))
    unknown = {}
    if not asked.ladder.group_names:
        unknown["demographics"] = "age of no user"
    if not asked.ladder.region_names:
        unknown["trending"] = "region of no user, so the trend is that of all"
    run = saved.run
    return LadderReport(
        run.run_id,
        run.model,
        run.graph,
        run.split_name,
        run.split_hash,
        config.seed,
        len(asked.users),
        len(asked.part.users),
        rows,
        differences,
        answered,
        weights.blends,
        unknown,
    )


def _most(values: np.ndarray, n: int) -> np.ndarray:
    """Places of the ``n`` largest that are above 0, ascending; ties go to the first."""
    best = np.argsort(-values, kind="stable")[:n]
    return np.sort(best[values[best] > 0])


def _sets_of(rows: list[np.ndarray], width: int) -> sp.csr_array:
    """(b, width) float32: 1 at the columns of each row."""
    starts = np.cumsum([0, *(len(one) for one in rows)])
    columns = np.concatenate(rows).astype(np.int64)
    return sp.csr_array((np.ones(len(columns), np.float32), columns, starts), shape=(len(rows), width))
