"""Heads that a person's adapter bends: frozen, fitted once, they add what it knows to the base's scores.

b users of a batch · i contents · e events · r rank · w width · o outputs · d factors."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.optimize import nnls

from configs.registry import Registry, SettingError
from models.adapters import AdapterSpec, shifts
from models.following import Following, FollowingConfig, fit_following
from models.interface import Training

DAY_S = 86_400
DEVICES = ("phone", "tablet", "tv")
LONGEST_MINUTES = 240.0
"""At hand; more counts the same."""


@dataclass(frozen=True)
class Moments:
    """When somebody acts or asks, and what is known of it."""

    ts: np.ndarray
    """(b,) int64 UTC seconds."""
    minutes: np.ndarray | None = None
    """(b,) float64 at hand, NaN where not known."""
    devices: np.ndarray | None = None
    """(b,) str, one of :data:`DEVICES`; any other is not known."""

    def only(self, places: np.ndarray) -> "Moments":
        """Those at ``places``."""
        parts = (self.minutes, self.devices)
        return Moments(self.ts[places], *(None if part is None else part[places] for part in parts))


@dataclass(frozen=True)
class HeadConfig:
    """Settings of every head."""

    width: int = 64
    """w = o of the linear head; another head has as many numbers in an adapter. 16 or more."""
    rank: int = 1
    """r, 1 or more: one direction for each of the instant tier's fades."""
    weight: float = 4e-4
    """What one event is worth, in spreads of its scores over contents, on the scale of the base's scores."""
    following: FollowingConfig = field(default_factory=FollowingConfig)

    def __post_init__(self) -> None:
        if self.width < 16 or self.rank < 1 or not 0 < self.weight < np.inf:
            raise SettingError(
                "a head needs width of 16 or more, rank of 1 or more and a weight above 0, got "
                f"{self.width}, {self.rank}, {self.weight}"
            )


class Head(ABC):
    """What all heads do: say what fits onto them, what an event teaches, and what an adapter adds.

    A class is registered with ``@heads.register(name, HeadConfig)`` and made from arrays alone; see
    :func:`fit_head`.
    """

    kind: ClassVar[str]

    def __init__(self, config: HeadConfig, arrays: dict[str, np.ndarray]) -> None:
        self.config, self._arrays = config, arrays

    @classmethod
    @abstractmethod
    def fitted(cls, config: HeadConfig, training: Training) -> "Head":
        """Learned once on training."""

    @property
    @abstractmethod
    def learned_width(self) -> int:
        """Of the half of an adapter that events move; the other half is set at the first one."""

    @property
    @abstractmethod
    def spec(self) -> AdapterSpec:
        """What fits onto it; α is r, so that every direction counts in full."""

    @abstractmethod
    def state(self, records: np.ndarray) -> np.ndarray:
        """(b, r, learned width) float32: what was learned, read from (b,) records."""

    @abstractmethod
    def keep(self, records: np.ndarray, state: np.ndarray) -> None:
        """Writes (b, r, learned width) back, rounded to float16, and sets the other half."""

    @abstractmethod
    def directions(self, contents: np.ndarray, moments: Moments) -> np.ndarray:
        """(e, learned width) float32: what a full step on each content adds."""

    @abstractmethod
    def added(self, record: np.ndarray, moment: Moments, share: np.float32) -> np.ndarray:
        """(i,) float32 that one person's (1,) record adds, ``share`` of it being left by now."""

    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, by name."""
        return dict(self._arrays)

    @property
    def content_count(self) -> int:
        """i."""
        return len(self._arrays["met"])

    @cached_property
    def hash(self) -> str:
        """Of the kind and all arrays: an adapter of another head is refused by it."""
        digest = hashlib.blake2b(self.kind.encode(), digest_size=16)
        for name, array in sorted(self._arrays.items()):
            digest.update(f"{name} {array.shape} {array.dtype.str}".encode() + array.tobytes())
        return digest.hexdigest()


heads: Registry[type[Head]] = Registry("head")


def fit_head(kind: str, config: HeadConfig, training: Training) -> Head:
    """A registered head, fitted on training; equal training gives an equal hash on one machine."""
    return heads[kind].fitted(config, training)


def head_of(kind: str, config: HeadConfig, arrays: dict[str, np.ndarray]) -> Head:
    """A head from what :meth:`Head.arrays` gave."""
    return heads[kind](config, arrays)


@heads.register("linear", HeadConfig)
class LinearHead(Head):
    """Scores by the product of a content's vector and the user's: an adapter is a shift of the user's vector.

    All users have one vector u: the anchor, 1 at the first place and 0 else, where no content has anything,
    because what they liked the base is told already. The layer W is the identity, so that the adapted user
    is u + (α / r) B A u; A is the anchor, B what was learned, and the shift (α / r) Σ B.
    """

    kind = "linear"

    @classmethod
    def fitted(cls, config: HeadConfig, training: Training) -> "LinearHead":
        found = fit_following(training, config.width - 1, config.following)
        return cls(config, _anchored(found, config.weight))

    @property
    def learned_width(self) -> int:
        return self.config.width

    @cached_property
    def spec(self) -> AdapterSpec:
        width, rank = self.config.width, self.config.rank
        return AdapterSpec(width, width, rank, float(rank), self.hash)

    def users(self, count: int) -> np.ndarray:
        """(count, w) float32 vectors u before any adapter."""
        found = np.zeros((count, self.config.width), np.float32)
        found[:, 0] = 1
        return found

    def state(self, records: np.ndarray) -> np.ndarray:
        return records["up"].transpose(0, 2, 1).astype(np.float32)

    def keep(self, records: np.ndarray, state: np.ndarray) -> None:
        records["up"], records["down"] = state.transpose(0, 2, 1), 0
        records["down"][:, :, 0] = 1

    def directions(self, contents: np.ndarray, moments: Moments) -> np.ndarray:
        return self._arrays["left"][contents]

    def added(self, record: np.ndarray, moment: Moments, share: np.float32) -> np.ndarray:
        shift = share * shifts(self.spec, record, self.users(1))[0]
        # one by one: a product of many rows rounds otherwise than a product of one
        return np.dot(self._arrays["met"], shift)


def _anchored(found: Following, weight: float) -> dict[str, np.ndarray]:
    """Vectors with an empty place for the anchor in front; scores in the base's scale."""
    empty = np.zeros((len(found.left), 1), np.float32)
    met = np.float32(weight) * found.met
    return {"left": np.hstack([empty, found.left]), "met": np.ascontiguousarray(np.hstack([empty, met]))}


@heads.register("bent", HeadConfig)
class BentHead(Head):
    """Scores by q · tanh(W x), x a content's vector and the moment: an adapter is no shift of a vector.

    x is the content's factors, a 1, hour and weekday as sine and cosine, minutes at hand and device where
    known. W reads the 1 alone: each hidden unit rests at its own place on the curve. An adapter's A is what
    was learned, of contents and of moments; B is one number throughout, so small that
    no hidden unit is full. So a content gains by a curve instead of a line, and moments like those of the
    events move all contents along it. q is fitted on training, 0 or more.
    """

    kind = "bent"
    rests = np.array([-3.0, -2.0, -1.0, 0.0], np.float32)
    """(o,) where the hidden units rest."""
    moment_width = 10
    """1, hour (2), weekday (2), minutes known, minutes, devices (3)."""
    moment_step = np.float32(0.1)
    """Length of a moment in a step, that of a content being about 1."""

    @classmethod
    def fitted(cls, config: HeadConfig, training: Training) -> "BentHead":
        found = fit_following(
            training, 2 * config.width - len(cls.rests) - cls.moment_width, config.following
        )
        after = _products(found, training)
        inner = np.float32(1 / max(3 * np.quantile(np.abs(after[0]), 0.99), 1.0) if after[0].size else 1.0)
        outer = np.float32(config.weight) * _curve(inner * after[0], inner * after[1], cls.rests) / inner
        arrays = {"left": found.left, "met": found.met, "outer": outer, "inner": np.array([inner])}
        return cls(config, arrays)

    @property
    def learned_width(self) -> int:
        return self._arrays["left"].shape[1] + self.moment_width

    @cached_property
    def spec(self) -> AdapterSpec:
        return AdapterSpec(
            self.learned_width, len(self.rests), self.config.rank, float(self.config.rank), self.hash
        )

    def state(self, records: np.ndarray) -> np.ndarray:
        return records["down"].astype(np.float32)

    def keep(self, records: np.ndarray, state: np.ndarray) -> None:
        records["down"], records["up"] = state, self._arrays["inner"][0]

    def directions(self, contents: np.ndarray, moments: Moments) -> np.ndarray:
        return np.hstack([self._arrays["left"][contents], self.moment_step * moment_vectors(moments)])

    def added(self, record: np.ndarray, moment: Moments, share: np.float32) -> np.ndarray:
        down, up = record["down"][0].astype(np.float32), record["up"][0].astype(np.float32)
        factors = self._arrays["met"].shape[1]
        inner = np.float32(down[:, factors:] @ moment_vectors(moment)[0])[:, None]  # (r, 1)
        inner = inner + down[:, :factors] @ self._arrays["met"].T  # (r, i)
        bent = share * np.float32(self.spec.scale) * (inner.T @ up.T)  # (i, o)
        return (np.tanh(self.rests + bent) - np.tanh(self.rests)) @ self._arrays["outer"]


def moment_vectors(moments: Moments) -> np.ndarray:
    """(b, 10) float32: 1, hour and weekday on circles (UTC), minutes at hand and device; 0 where not known.

    Example:
        >>> moment_vectors(Moments(np.array([4 * 86400])))[0].astype(int).tolist()  # Monday, midnight
        [1, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    """
    ts = np.asarray(moments.ts)
    hour, day = 2 * np.pi * (ts % DAY_S) / DAY_S, 2 * np.pi * ((ts // DAY_S + 3) % 7) / 7
    found = np.zeros((len(ts), BentHead.moment_width), np.float32)
    found[:, 0] = 1
    found[:, 1:5] = np.stack([np.sin(hour), np.cos(hour), np.sin(day), np.cos(day)], axis=1)
    if moments.minutes is not None:
        found[:, 5] = np.isfinite(moments.minutes)
        found[:, 6] = np.clip(np.nan_to_num(moments.minutes), 0, LONGEST_MINUTES) / LONGEST_MINUTES
    if moments.devices is not None:
        found[:, 7:] = np.asarray(moments.devices)[:, None] == np.array(DEVICES)
    return found


def _products(found: Following, training: Training) -> tuple[np.ndarray, np.ndarray]:
    """(e,) products of each like with the one before it, and of contents drawn by chance with the same."""
    positives, times = training.positives, training.times
    users = np.repeat(np.arange(positives.shape[0]), np.diff(positives.indptr))
    order = np.lexsort((positives.indices, times.data, users))
    users, contents = users[order], positives.indices[order]
    after = 1 + np.flatnonzero(users[1:] == users[:-1])
    if not len(after):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    drawn, now = np.random.default_rng(training.seed).choice(contents, len(after)), contents[after - 1]
    return tuple((found.left[now] * found.met[some]).sum(1) for some in (contents[after], drawn))


def _curve(liked: np.ndarray, drawn: np.ndarray, rests: np.ndarray) -> np.ndarray:
    """(o,) float32, 0 or more: which mix of bends tells best what was liked next from what was drawn.

    Non-negative least squares on 1 and 0, scaled to slope 1 at 0; all alike where that finds nothing.
    """
    slopes = 1 - np.tanh(rests.astype(np.float64)) ** 2
    given = np.r_[liked, drawn].astype(np.float64)
    bends = np.tanh(rests + given[:, None]) - np.tanh(rests)
    mix = nnls(bends, np.r_[np.ones(len(liked)), np.zeros(len(drawn))])[0] if len(given) else slopes * 0
    slope = float(mix @ slopes)
    return (mix / slope if slope > 0 else np.full(len(rests), 1 / slopes.sum())).astype(np.float32)
