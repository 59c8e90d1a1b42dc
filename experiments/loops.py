"""How a fitted model answers in a replay: registered by name, so that a row of a table is a line of YAML.

b users asked for · i contents · e events."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from configs.registry import Registry, SettingError, fill
from experiments.splits import Part
from models.adapted import Adapted
from models.following import FollowingConfig
from models.heads import HeadConfig, Moments, fit_head, heads
from models.instant import EARLIEST_TS, InstantConfig, Signals
from models.interface import Recommender, Users
from models.loop import AdaptationLoop, Bases, LoopConfig, MemoryStore, liked_signals
from models.memory import MemoryConfig, ReasoningBank
from models.recall import Recall, RecallConfig


class Loop(ABC):
    """One way to answer and to learn; what :class:`experiments.replay.Adaptive` asks for.

    A class is registered with ``@loops.register(name, Config)`` and made from its config alone; then
    :meth:`begin` is called once.
    """

    shares_state: ClassVar[bool] = False

    def __init__(self, config: Any) -> None:
        self.config, self.taken = config, 0

    def begin(self, model: Recommender, part: Part) -> None:
        """Takes a fitted model, and a part of which nothing that is held out is told."""
        self.model, self.part = model, part

    @abstractmethod
    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        """(b, i) finite scores; ``users`` tells all that was liked before ``at_ts`` (b,) UTC seconds."""

    def learn(self, user_rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray) -> None:
        """Counts (e,) likes; a loop that learns from them does so beside."""
        self.taken += len(user_rows)

    def said(self) -> str:
        """What else is worth telling of its replay, in a sentence without a full stop; empty for nothing."""
        return ""


loops: Registry[type[Loop]] = Registry("loop")


@dataclass(frozen=True)
class FrozenConfig:
    """:class:`Frozen` takes no settings."""


@loops.register("frozen", FrozenConfig)
class Frozen(Loop):
    """The model is told the history at the split, whatever was liked since.

    What was liked since is not recommended again, as with every loop.
    """

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        return self.model.score(Users(users.rows, self.part.history[users.rows], self.part.times[users.rows]))


@dataclass(frozen=True)
class LiveConfig:
    """:class:`Live` takes no settings."""


@loops.register("live", LiveConfig)
class Live(Loop):
    """The model is told all that was liked so far, and learns nothing.

    Of a linear model that is another sum, of iALS the closed-form fold-in of the person's vector, of SASRec a
    longer sequence. A model that keeps a learned vector for whom training knew answers as when frozen.
    """

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        return self.model.score(users)


@dataclass(frozen=True)
class InstantLoopConfig:
    """Settings of :class:`Instant`."""

    head: str = "linear"
    """A registered head."""
    width: int = 64
    """Numbers in an adapter, twice this a rank; see :class:`models.heads.HeadConfig`."""
    weight: float = 4e-4
    """What one event is worth on the scale of the model's scores."""
    gap_s: float = 60.0
    """See :class:`models.following.FollowingConfig`."""
    popularity: float = 0.5
    """See :class:`models.following.FollowingConfig`."""
    instant: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`models.instant.InstantConfig`; one fade is one rank."""
    fade: float = 2.0
    """After how many later likes one counts half, where ``instant`` names no fades."""
    bound: float = 1.0
    """Of the adapter's length, where ``instant`` names none."""
    live_history: bool = True
    """Off, the model is told the history at the split alone."""
    instant_tier: bool = True
    """Off, nothing is learned: the model answers to the bit."""
    base_tier: bool = True
    """Off, a model with a base tier answers by its base alone; any other has none, and this says nothing."""

    def __post_init__(self) -> None:
        if self.head not in heads:
            raise SettingError(f"head must be one of {', '.join(heads)}, got {self.head!r}: name one of them")
        self.tier(), self.head_config()  # refuse what cannot be

    def tier(self) -> InstantConfig:
        """How events move adapters."""
        own = {"fades": [self.fade], "bound": self.bound} | dict(self.instant)
        return fill(InstantConfig, own, "instant")

    def head_config(self) -> HeadConfig:
        """How the head is fitted."""
        following = FollowingConfig(gap_s=self.gap_s, popularity=self.popularity)
        return HeadConfig(self.width, len(self.tier().fades), self.weight, following)


@loops.register("instant", InstantLoopConfig)
class Instant(Loop):
    """Every like moves its person's adapter, which bends a head fitted once on training.

    An adapter begins with the likes of the history at the split, in order of time, as in service; likes
    without a time are counted and taught to nobody.
    """

    config: InstantLoopConfig

    def begin(self, model: Recommender, part: Part) -> None:
        super().begin(model, part)
        settings = self.config
        head = fit_head(settings.head, settings.head_config(), part.training)
        steps = LoopConfig(
            settings.live_history, settings.instant_tier, settings.base_tier, instant=settings.tier()
        )
        bases, store = self._bases(model, part), MemoryStore(head.spec)
        self.loop = AdaptationLoop(bases, head, store, steps, self._past, self._liked)
        self._given, self._told = 0, dict[str, list[Signals]]()
        self.loop.begin([str(row) for row in np.flatnonzero(np.diff(part.history.indptr)).tolist()])

    def _bases(self, model: Recommender, part: Part) -> Bases:
        """The model, and what it is without its base tier where it has one."""
        if not isinstance(model, Adapted):
            return Bases(model.score, frozen=self._frozen)
        return Bases(model.bare(part.training.graph).score, model.score, self._frozen)

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        return self.loop.scores(users, [str(row) for row in users.rows.tolist()], Moments(at_ts))

    def learn(self, user_rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray) -> None:
        super().learn(user_rows, contents, at_ts)
        timed = np.flatnonzero(at_ts >= EARLIEST_TS)
        order = timed[np.lexsort((contents[timed], at_ts[timed], user_rows[timed]))]
        if not len(order):
            return
        numbers = self._given + 1 + np.arange(len(order))
        self._given += len(order)
        events = Signals(contents[order], np.ones(len(order), np.float32), at_ts[order], numbers)
        people, starts = np.unique(user_rows[order], return_index=True)
        places = np.split(np.arange(len(order)), starts[1:])
        told = {str(row): events.only(some) for row, some in zip(people.tolist(), places, strict=True)}
        for user_id, signals in told.items():
            self._told.setdefault(user_id, []).append(signals)
        self.loop.learn(told)

    def _past(self, user_id: str) -> Signals:
        return Signals.joined(self._told[user_id])

    def _liked(self, user_id: str) -> Signals:
        history, row = self.part.history, int(user_id)
        own = slice(history.indptr[row], history.indptr[row + 1])
        return liked_signals(history.indices[own], self.part.times.data[own])

    def _frozen(self, users: Users) -> Users:
        return Users(users.rows, self.part.history[users.rows], self.part.times[users.rows])


@dataclass(frozen=True)
class RememberedConfig:
    """Settings of :class:`Remembered`."""

    beside: str = "live"
    """Registered name of the loop that answers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of that loop."""
    begin: int = 20_000
    """Newest likes of the history at the split that the bank learns before the replay, 0 or more."""
    width: int = 64
    """Of the vectors that queries are made of, see :class:`models.heads.HeadConfig`."""
    gap_s: float = 604_800.0
    """See :class:`models.following.FollowingConfig`."""
    weight: float = 1.0
    """See :class:`models.recall.RecallConfig`."""
    recent: int = 10
    """See :class:`models.recall.RecallConfig`."""
    matches: int = 20
    """See :class:`models.recall.RecallConfig`."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Settings of :class:`models.memory.MemoryConfig`."""

    def __post_init__(self) -> None:
        if self.begin < 0:
            raise SettingError(f"begin must be 0 or more, got {self.begin}")
        loops.build(self.beside, dict(self.settings))
        self.recall_config(), self.memory_config(), self.head_config()  # refuse what cannot be

    def recall_config(self) -> RecallConfig:
        """How the bank is asked."""
        return RecallConfig(self.weight, self.recent, self.matches)

    def memory_config(self) -> MemoryConfig:
        """How the bank keeps what it is told."""
        return fill(MemoryConfig, dict(self.memory), "memory")

    def head_config(self) -> HeadConfig:
        """How the vectors are fitted."""
        return HeadConfig(self.width, following=FollowingConfig(gap_s=self.gap_s))


@loops.register("remembered", RememberedConfig)
class Remembered(Loop):
    """Another loop, and a ReasoningBank that everybody's likes teach: what was liked after likes like these.

    Its patterns lie on the disk as in service, in a folder that goes with the loop. Likes without a time are
    part of what was liked, and taught to nobody.
    """

    shares_state = True
    config: RememberedConfig

    def begin(self, model: Recommender, part: Part) -> None:
        super().begin(model, part)
        self._beside = loops.build(self.config.beside, dict(self.config.settings))
        self._beside.begin(model, part)
        head = fit_head("linear", self.config.head_config(), part.training)
        vectors = head.directions(np.arange(head.content_count), Moments(np.zeros(0)))
        self._folder = tempfile.TemporaryDirectory(prefix="mg-memory-")
        bank = ReasoningBank(Path(self._folder.name), self.config.memory_config(), writes=True)
        names = [str(row) for row in range(head.content_count)]
        self._recall = Recall(bank, vectors, names, (self.config.beside,), self.config.recall_config())
        self._liked: dict[int, list[int]] = {}
        self._asked = self._matched = 0
        self._remember_history()

    def scores(self, users: Users, at_ts: np.ndarray) -> np.ndarray:
        scores = np.array(self._beside.scores(users, at_ts))
        for place, (row, ts) in enumerate(zip(users.rows.tolist(), at_ts.tolist(), strict=True)):
            found = self._recall.added(scores[place], self._query(row), ts) if ts >= EARLIEST_TS else None
            self._asked, self._matched = self._asked + 1, self._matched + (found is not None)
            if found is not None:
                scores[place] += found
        return scores

    def learn(self, user_rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray) -> None:
        super().learn(user_rows, contents, at_ts)
        self._beside.learn(user_rows, contents, at_ts)
        self._remember(user_rows, contents, at_ts, 0)

    def said(self) -> str:
        stats = self._recall.bank.stats(int(self._latest)) if self._latest >= EARLIEST_TS else None
        held = f"; {stats.patterns:,} patterns and {stats.seeds:,} seeds in the end" if stats else ""
        return f"{self._matched / max(self._asked, 1):.1%} of answers met a pattern{held}"

    def _remember(self, rows: np.ndarray, contents: np.ndarray, at_ts: np.ndarray, first: int) -> None:
        """Takes (e,) likes in order of time, those of one person and second together; learns from ``first``
        on, all others only say what was liked."""
        order = np.lexsort((contents, rows, at_ts))
        keys = np.c_[at_ts[order], rows[order]]
        starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(1)]) if len(order) else order
        for start, some in zip(starts.tolist(), np.split(order, starts[1:]), strict=False):
            row, ts = int(rows[some[0]]), int(at_ts[some[0]])
            if start >= first and ts >= EARLIEST_TS:
                self._recall.learn(str(row), self._query(row), contents[some], ts)
            self._liked.setdefault(row, []).extend(contents[some].tolist())
            self._latest = max(self._latest, ts)

    def _query(self, row: int) -> np.ndarray | None:
        newest = self._liked.get(row, [])[-self.config.recent :]
        return self._recall.query(np.array(newest, np.int64))

    def _remember_history(self) -> None:
        self._latest = np.iinfo(np.int64).min
        likes, times = self.part.history.tocoo(), self.part.times.tocoo()
        self._remember(likes.row, likes.col, times.data, likes.nnz - self.config.begin)
