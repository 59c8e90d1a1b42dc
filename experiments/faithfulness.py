"""Whether the reasons that a model gives are those it had: without what was named, the score falls.

u users · i contents · h of a history · m named titles."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from configs.registry import SettingError
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.lists import rank
from experiments.saved import Saved
from experiments.significance import Paired, paired
from models.explanation import without
from models.interface import Recommender, Users

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FaithfulnessConfig:
    """How reasons are put to the test."""

    users: int = 200
    """Test users, drawn by the seed, 1 or more."""
    named: int = 3
    """Titles that are named at most, 1 or more."""
    draws: int = 5
    """How often other titles are drawn to compare with, 1 or more."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.users, self.named, self.draws) < 1:
            raise SettingError(
                "faithfulness needs users, named and draws of 1 or more, got "
                f"{self.users}, {self.named} and {self.draws}"
            )


@dataclass(frozen=True)
class Faithfulness:
    """What taking titles away did to the first recommendation."""

    run_id: str
    model: str
    graph: str
    split_hash: str
    seed: int
    users: int
    """Who was asked: the first recommendation has a reason, and as many other titles are in the history."""
    left_out: int
    """Drawn users whose first recommendation has no reason, or whose history is too short to compare."""
    named: Interval
    """Mean fall of the score without the named titles, in standard deviations of the user's scores."""
    random: Interval
    """The same without as many other titles of the history, mean over the draws."""
    difference: Paired
    """Fall by named minus fall by random, user by user."""
    at_least: Interval
    """Share of users for whom the named titles weigh at least as much as the others."""
    named_rank: Interval
    """By how many places the recommendation falls without the named titles."""
    random_rank: Interval
    rank_difference: Paired
    random_fall: float
    """Share of users for whom it falls by any place without random titles; the named ones should do more."""
    named_fall: float
    says: str
    """What holds, in a sentence."""

    def summary(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


def faithfulness(
    saved: Saved, config: FaithfulnessConfig | None = None, progress: Progress | None = None
) -> Faithfulness:
    """Takes away what reasons name, and as many random other titles, and looks what the first title loses.

    The score of the first recommendation is read among the user's scores of what may be ranked (standard
    deviations above their mean), because a shorter history may shrink all scores alike. A title is never
    compared with itself: random ones are drawn from those that were not named.

    Args:
        saved: a run, opened.
        config: how many users, titles and draws.
        progress: told in words what is done now.

    Raises:
        SettingError: the model names no title for anybody; its paths are shown as connections then.

    Source: erasure, as in DeYoung et al., "ERASER", ACL 2020 (comprehensiveness), against a random baseline.
    """
    config, say = config or FaithfulnessConfig(), progress or (lambda _: None)
    part = saved.split.test
    generator = np.random.default_rng(config.seed)
    warm = part.users[part.warm]
    users = np.sort(generator.choice(warm, min(config.users, len(warm)), replace=False))
    first = rank(saved.model, part.asked, users, 1)[:, 0]
    found = []
    for place, (user, content) in enumerate(zip(users.tolist(), first.tolist(), strict=True)):
        if place % 50 == 0:
            say(f"user {place} of {len(users)}")
        row = np.array([user])
        who = Users(row, part.history[row], part.times[row])
        falls = _falls(saved.model, who, content, part.asked.rankable, config, generator)
        found += [] if falls is None else [falls]
    if not found:
        raise SettingError(
            f"{saved.run.model} names no title of anybody's history: it has no reason to test, its paths in "
            "the graph are shown as connections"
        )
    return _told(saved, config, np.array(found), len(users) - len(found))


def _falls(
    model: Recommender,
    who: Users,
    content: int,
    rankable: np.ndarray,
    config: FaithfulnessConfig,
    generator: np.random.Generator,
) -> tuple[float, float, float, float] | None:
    """Fall of score and rank without the named titles, then without others; None where nothing compares."""
    named = np.array([reason.content_row for reason in model.reasons(who, content, config.named)], np.int64)
    others = np.setdiff1d(who.history.indices, named)
    if not len(named) or len(others) < len(named):
        return None
    left = rankable.copy()
    left[who.history.indices] = False  # what was taken away does not come back as a rival
    before = np.array(_standing(model, who, content, left))
    drawn = [generator.choice(others, len(named), replace=False) for _ in range(config.draws)]
    after = [_standing(model, without(who, gone), content, left) for gone in (named, *drawn)]
    fell = (before - np.array(after)) * (1, -1)  # a rank falls by growing
    return (*fell[0].tolist(), *fell[1:].mean(axis=0).tolist())


def _standing(model: Recommender, who: Users, content: int, left: np.ndarray) -> tuple[float, float]:
    """Standard deviations of a content's score above the mean of what is left, and its rank among that."""
    scores = model.score(who)[0].astype(np.float64)
    own, others = scores[content], scores[left]
    deviation = others.std()
    return (own - others.mean()) / deviation if deviation > 0 else 0.0, 1.0 + np.count_nonzero(others > own)


def _told(saved: Saved, config: FaithfulnessConfig, falls: np.ndarray, left_out: int) -> Faithfulness:
    score, place, other_score, other_place = falls.T
    columns = {
        "named": score,
        "random": other_score,
        "at_least": (score >= other_score - 1e-9).astype(np.float64),
        "named_rank": place,
        "random_rank": other_place,
    }
    told = intervals(columns, EvaluationConfig(seed=config.seed))
    difference, ranks = paired(score, other_score), paired(place, other_place)
    is_faithful = difference.difference > 0 and difference.p < 0.01
    says = (
        "what is named weighs more than what is not (p < .01)"
        if is_faithful
        else "it is not shown that what is named weighs more than what is not"
    )
    run = saved.run
    return Faithfulness(
        run_id=run.run_id,
        model=run.model,
        graph=run.graph,
        split_hash=run.split_hash,
        seed=config.seed,
        users=len(falls),
        left_out=left_out,
        difference=difference,
        rank_difference=ranks,
        named_fall=float((place > 0).mean()),
        random_fall=float((other_place > 0).mean()),
        says=says,
        **told,
    )
