"""Prequential replay: each event is ranked before anything is learned from it; what adaptation is judged by.

e events · k blocks · b blocks asked for · u users · i contents · n recommendations in a list."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch

from configs.registry import SettingError
from experiments import metrics
from experiments.audit import LeakageError
from experiments.evaluation import EvaluationConfig, Interval, intervals
from experiments.lists import BLOCK_BYTES, Chooser
from experiments.metrics import Ranked
from experiments.splits import Part
from experiments.stream import Stream
from models.interface import Users

METRICS = ("ndcg@10", "hit_rate@10", "mrr@10")


class Adaptive(Protocol):
    """Answers people, and learns from what they do: what is served and what is replayed."""

    shares_state: bool
    """True if what is learned of one person may move another's answer: then strictly in order of time."""
    taken: int
    """How many events it was taught in its life, whatever it made of them."""

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        """(b, i) finite scores for people with all they liked before ``at_ts`` (b,) UTC seconds.

        Nothing is learned here; the same question again has the same answer, to the bit.
        """

    def learn(self, user_rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray) -> None:
        """Learns from (e,) likes: user rows, content rows and UTC seconds, each person's in order of time."""


@dataclass(frozen=True)
class ReplayMeasure:
    """What is measured of each block, and how sure we want to be."""

    metrics: tuple[str, ...] = METRICS
    """``name@k`` each, told by hits alone."""
    resamples: int = 2_000
    """Bootstrap samples of users, at least 100."""
    confidence: float = 0.95
    """Of the interval, above 0 and below 1."""
    probes: int = 6
    """At how many steps the loop is held to its word, 0 or more; drawn by the seed, the first among them."""
    probed: int = 8
    """How many people are asked again at each of them, 1 or more."""
    block_bytes: int = BLOCK_BYTES
    """Memory for the scores of people who are asked together."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probes < 0 or self.probed < 1 or not self.metrics:
            raise SettingError(
                "a replay needs a metric, probes of 0 or more and probed of 1 or more, got "
                f"{self.metrics}, {self.probes}, {self.probed}"
            )
        for name in self.metrics:
            metric = metrics.parse(name).metric
            if metric in metrics.list_metrics or metrics.needs(metric) or not metrics.counts_hits(name):
                raise SettingError(
                    f"a replay measures by hits alone, {name!r} reads more: take {', '.join(METRICS)}"
                )
        self.intervals()  # refuses what no interval can be made of

    def intervals(self) -> EvaluationConfig:
        """How intervals over users are made."""
        return EvaluationConfig(
            self.metrics, resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )

    @property
    def n(self) -> int:
        """Length of the lists that the metrics need."""
        return max(metrics.parse(name).k for name in self.metrics)


@dataclass(frozen=True)
class Replayed:
    """What one loop reached."""

    block_users: np.ndarray
    """(k,) int64 row of each block's user, ascending."""
    values: Mapping[str, np.ndarray]
    """Metric -> (k,) float64 of each block."""
    lists: np.ndarray = field(repr=False)
    """(k, n) int64 content rows, best first, -1 where fewer may be ranked."""
    measure: ReplayMeasure = field(repr=False)
    score_s: float = 0.0
    """Wall time of all answers."""
    learn_s: float = 0.0

    @cached_property
    def users(self) -> np.ndarray:
        """(u,) int64 rows of the users, ascending."""
        return np.unique(self.block_users)

    def per_user(self, metric: str) -> np.ndarray:
        """(u,) float64: the mean over a user's blocks, each block as much as another."""
        place = np.searchsorted(self.users, self.block_users)
        return np.bincount(place, self.values[metric]) / np.bincount(place)

    @cached_property
    def summary(self) -> dict[str, Interval]:
        """Metric -> mean over users with its bootstrap interval."""
        found = {name: self.per_user(name) for name in self.values}
        return intervals(found, self.measure.intervals())


def blind(part: Part) -> Part:
    """A part as a loop may see it: nothing of what is held out, and not the graph that was cut."""
    return replace(part, held_out=sp.csr_array(part.held_out.shape, dtype=np.float32), whole=None)


def replay(stream: Stream, loop: Adaptive, measure: ReplayMeasure | None = None) -> Replayed:
    """Ranks every block before anything is learned from it, then teaches it.

    What may be ranked is what training knows, less what the person has liked so far, for every loop alike.
    A loop that shares nothing between people is asked for everybody's next block at once; one that does goes
    strictly by time, and blocks of one second are all ranked before any of them is learned.

    Args:
        stream: of a part of a split.
        loop: fresh; made from :func:`blind` of that part, so that there is nothing to peek at.
        measure: what is measured.

    Raises:
        LeakageError: the loop was taught before, learns where it is asked, or is not what it says it is.
        ValueError: a score is not finite.

    Source: prequential evaluation as in Gama, Sebastião, Rodrigues, "On evaluating stream learning
    algorithms", Machine Learning 90, 2013; of recommenders, Vinagre, Jorge, Gama, "Evaluation of recommender
    systems in streaming environments", RecSys 2014. Theirs ranks event by event; ours by blocks, because most
    events of one person share their second with another.

    Cost: each block is scored once; O(h) to put a history of h likes together.
    """
    measure = measure or ReplayMeasure()
    witness = Witness(stream, loop, measure)
    lists = np.full((len(stream), measure.n), -1, np.int64)
    turns = list(steps(stream, loop.shares_state))
    probed = _probed(len(turns), measure)
    for number, blocks in enumerate(turns):
        lists[blocks] = witness.rank(blocks)
        witness.learn(witness.probe(blocks) if number in probed else blocks)
    hits = torch.from_numpy(stream.hits(np.arange(len(stream)), lists))
    found = metrics.measure(measure.metrics, Ranked(hits, torch.from_numpy(stream.sizes)))
    values = {name: value.numpy() for name, value in found.items()}
    return Replayed(stream.users, values, lists, measure, witness.score_s, witness.learn_s)


def steps(stream: Stream, shares_state: bool) -> Iterator[np.ndarray]:
    """Blocks (b,) that are ranked together, then learned together, step by step.

    Either all of one second, in order of time, or everybody's first, everybody's second, and so on.
    """
    key = stream.times if shares_state else stream.turns
    order = np.lexsort((np.arange(len(key)), key))
    bounds = np.flatnonzero(np.r_[True, key[order][1:] != key[order][:-1]])
    yield from np.split(order, bounds[1:])


def _probed(count: int, measure: ReplayMeasure) -> set[int]:
    if not measure.probes:
        return set()
    drawn = np.random.default_rng(measure.seed).permutation(np.arange(1, count))[: measure.probes - 1]
    return {0, *drawn.tolist()}


class Witness:
    """Stands between a replay and its loop, and lets nothing be learned before it was ranked."""

    def __init__(self, stream: Stream, loop: Adaptive, measure: ReplayMeasure) -> None:
        if loop.taken:
            raise LeakageError(
                f"a replay begins with a loop that was taught nothing, this one took {loop.taken} events: "
                "make a fresh one"
            )
        self.stream, self.loop, self.measure = stream, loop, measure
        self.ranked, self.learned = np.zeros(len(stream), bool), np.zeros(len(stream), bool)
        self.score_s = self.learn_s = 0.0
        self._taken = 0
        self._learned_until = np.iinfo(np.int64).min
        self._order = np.argsort(stream.times, kind="stable")
        self._first = 0  # place in that order: all blocks before it are ranked
        self._choose = Chooser(type(loop).__name__, stream.part.asked.rankable, measure.n)

    def rank(self, blocks: np.ndarray) -> np.ndarray:
        """(b, n) content rows, best first, of ``blocks`` (b,) that have not been ranked.

        Raises:
            LeakageError: something of them, or after them, was learned already.
        """
        self._must_not_know(blocks)
        most = max(1, self.measure.block_bytes // (4 * self.stream.part.history.shape[1]))
        lists = [self._ranked(some) for some in np.split(blocks, range(most, len(blocks), most))]
        self.ranked[blocks] = True
        return np.concatenate(lists)

    def learn(self, blocks: np.ndarray) -> None:
        """Teaches all events of ``blocks`` (b,), each user's in order of time.

        Raises:
            LeakageError: one was not ranked, was learned already, or others of its second are still to come.
        """
        unranked = blocks[~self.ranked[blocks]]
        if len(unranked):
            raise LeakageError(
                f"{self._told(unranked)} may be learned only after it was ranked: rank it first"
            )
        if self.learned[blocks].any():
            raise LeakageError(
                f"{self._told(blocks[self.learned[blocks]])} was learned already: teach it once"
            )
        if self.loop.shares_state:
            self._must_be_next(blocks)
        events, started = self.stream.events_of(blocks), time.perf_counter()
        self.loop.learn(events.users, events.contents, events.times)
        self.learn_s += time.perf_counter() - started
        self._taken += len(events)
        self.learned[blocks] = True
        self._learned_until = max(self._learned_until, int(self.stream.times[blocks].max()))
        self._must_have_taken("learn() was handed")

    def probe(self, blocks: np.ndarray) -> np.ndarray:
        """Holds the loop to its word at ``blocks`` (b,), which are ranked: some are asked again.

        Where it says that people share nothing, half of the blocks are learned between two questions.

        Returns:
            Those of ``blocks`` that are still to be learned.

        Raises:
            LeakageError: an answer moved.
        """
        half = blocks[: len(blocks) // 2]
        rest = blocks[len(half) :]
        asked = rest[: self.measure.probed]
        before = self._scores(asked).copy()
        if not np.array_equal(before, self._scores(asked)):
            raise LeakageError(
                f"{type(self.loop).__name__} must answer the same question alike, it did not at "
                f"{self._told(asked)}: learn in learn() alone"
            )
        if self.loop.shares_state or not len(half):
            return blocks
        self.learn(half)
        if not np.array_equal(before, self._scores(asked)):
            raise LeakageError(
                f"{type(self.loop).__name__} says that people share nothing, what others did moved the "
                f"answer to {self._told(asked)}: set shares_state, or keep people apart"
            )
        return rest

    def _ranked(self, blocks: np.ndarray) -> np.ndarray:
        users = self.stream.asked(blocks)
        return self._choose(users.rows, self._scores(blocks, users), users.history)[0]

    def _scores(self, blocks: np.ndarray, users: Users | None = None) -> np.ndarray:
        """(b, i); a loop that learned meanwhile is found out."""
        users = users or self.stream.asked(blocks)
        started = time.perf_counter()
        scores = np.asarray(self.loop.scores(users, self.stream.times[blocks]))
        self.score_s += time.perf_counter() - started
        self._must_have_taken("scores() was asked where the replay had taught")
        return scores

    def _must_not_know(self, blocks: np.ndarray) -> None:
        stream = self.stream
        if self.ranked[blocks].any() or self.learned[blocks].any():
            known = blocks[self.ranked[blocks] | self.learned[blocks]]
            raise LeakageError(
                f"{self._told(known)} must be ranked once, before it is learned, it was already"
            )
        before = blocks[stream.turns[blocks] > 0] - 1
        if not self.learned[before].all():
            skipped = before[~self.learned[before]]
            raise LeakageError(f"{self._told(skipped)} must be learned before the next of its user is ranked")
        if self.loop.shares_state and stream.times[blocks].min() <= self._learned_until:
            raise LeakageError(
                f"{self._told(blocks)} must be ranked before anything of its second or later is learned, "
                f"{type(self.loop).__name__} shares what it learns: go in order of time"
            )

    def _must_be_next(self, blocks: np.ndarray) -> None:
        """All blocks up to the second of these are ranked."""
        while self._first < len(self._order) and self.ranked[self._order[self._first]]:
            self._first += 1
        missed = self._order[self._first : self._first + 1]
        if len(missed) and self.stream.times[missed[0]] <= self.stream.times[blocks].max():
            raise LeakageError(
                f"{self._told(missed)} must be ranked before anything of its second or later is learned: "
                "rank all of a second together"
            )

    def _must_have_taken(self, when: str) -> None:
        if self.loop.taken != self._taken:
            raise LeakageError(
                f"{type(self.loop).__name__} may learn what it is taught and nothing else: {when} "
                f"{self._taken} events in all, it took {self.loop.taken}: let learn() alone teach, and count "
                "all"
            )

    def _told(self, blocks: np.ndarray) -> str:
        block = int(blocks[0])
        return f"block {self.stream.turns[block]} of user row {self.stream.users[block]}"
