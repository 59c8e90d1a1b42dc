"""Cuts likes into consecutive windows of time, each with its own test: what a model meets one after another.

p likes, by user, then time · u users · i contents · w windows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from configs.registry import SettingError
from experiments.rules import NEVER, Likes, last_of_each
from experiments.splits import Part, likes_of
from kg.arrays import GraphArrays
from models.interface import Training

LEARN, CHOOSE, TEST = 0, 1, 2
"""Parts of a window: learned, held out for choosing settings, held out for measuring once."""
SHARE = 0.2


@dataclass(frozen=True)
class Windows:
    """Likes in windows of about equal size; nothing of a test is ever told before that test is over.

    In each window the last fifth of each person's likes there is its test, the last fifth of what is left is
    held out for choosing. While settings are chosen no test like is told at all.
    """

    graph: GraphArrays
    likes: Likes
    window: np.ndarray
    """(p,) int64 from 0."""
    part: np.ndarray
    """(p,) int64: ``LEARN``, ``CHOOSE`` or ``TEST``."""
    held: int = TEST
    """What is held out; ``CHOOSE`` hides tests altogether."""
    seed: int = 0

    @property
    def count(self) -> int:
        """w."""
        return int(self.window.max()) + 1

    @cached_property
    def starts(self) -> list[int]:
        """UTC seconds of the first like of each window."""
        return [int(self.likes.times[self.window == number].min()) for number in range(self.count)]

    def training(self, until: int) -> Training:
        """What may be learned when window ``until`` has passed."""
        told = self.likes.only((self.window <= until) & (self.part < self.held))
        rankable = np.zeros(told.content_count, bool)
        rankable[told.contents] = True
        return Training(self.graph, told.matrix(), told.matrix(told.times), rankable, self.seed)

    def asked(self, number: int) -> Part:
        """The test of a window: history is what was told by its end, whoever is asked and whenever."""
        held = self.likes.only((self.window == number) & (self.part == self.held))
        until = np.full(held.user_count, NEVER)
        return Part(self.training(number), held.matrix(), until, None)

    def returning(self, number: int) -> int:
        """People of the test of a window who liked something in an earlier one."""
        before = np.zeros(self.likes.user_count, bool)
        before[self.likes.users[self.window < number]] = True
        return int(before[self.asked(number).users].sum())


def windows(graph: GraphArrays, count: int, positive_rating: float, seed: int, held: int = TEST) -> Windows:
    """Likes of a graph in ``count`` windows; likes of one second stay together.

    Raises:
        SettingError: fewer than two windows, or one without anybody to ask.
    """
    likes = likes_of(graph, positive_rating, seed)
    if count < 2 or len(likes.users) < count:
        raise SettingError(
            f"windows need to be 2 or more with a like in each, got {count} of {len(likes.users)} likes"
        )
    times = np.sort(likes.times)
    edges = times[np.arange(1, count) * len(times) // count]
    window = np.searchsorted(edges, likes.times, side="right")
    part = np.full(len(window), LEARN)
    for number in range(count):
        for kind in (TEST, CHOOSE):
            left = np.flatnonzero((window == number) & (part == LEARN))
            some = likes.only(left)
            last = last_of_each(some, np.floor(some.counts * SHARE + 1e-9).astype(np.int64))
            part[left[last.held_out]] = kind
            if not last.held_out.any():
                raise SettingError(
                    f"window {number + 1} of {count} holds nobody with enough likes to ask: use fewer windows"
                )
    return Windows(graph, likes, window, part, held, seed)
