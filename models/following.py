"""What people turn to after what: vectors whose products tell which contents follow one, fitted once.

i contents · e events · d factors · w width · o outputs."""

import hashlib
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from configs.registry import SettingError
from kg.arrays import GraphArrays
from models.interface import Training

SOURCES = ("RATED", "VIEWED")
"""Facts that tell when somebody turned to a content, whatever they thought of it."""


@dataclass(frozen=True)
class FollowingConfig:
    """Settings of :func:`fit_following`."""

    gap_s: float = 60.0
    """A content that follows another after so many seconds counts 1/e, above 0."""
    reach: int = 40
    """How many later events of the same person are looked at, 1 or more."""
    smoothing: float = 5.0
    """Added to how often a content was left for another: rare ones tell less. Above 0."""
    popularity: float = 0.5
    """Power of how often a content was turned to by which its pull is divided, 0 to 1."""

    def __post_init__(self) -> None:
        if not (self.gap_s > 0 and self.reach >= 1 and self.smoothing > 0 and 0 <= self.popularity <= 1):
            raise SettingError(
                "following needs gap_s and smoothing above 0, reach of 1 or more and popularity in 0..1, got "
                f"{self.gap_s}, {self.smoothing}, {self.reach}, {self.popularity}"
            )


@dataclass(frozen=True)
class Following:
    """Two vectors a content: ``left @ met.T`` says how much more each content is turned to after another."""

    left: np.ndarray
    """(i, d) float32 of the content that was turned to just now; mean length 1 over events."""
    met: np.ndarray
    """(i, d) float32 of the content that may follow; one event spreads scores by 1 over contents."""

    @property
    def hash(self) -> str:
        """Of both arrays."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.left, self.met):
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()


def fit_following(training: Training, factors: int, config: FollowingConfig | None = None) -> Following:
    """Counts what followed what in training, damps what is popular anyway, and keeps ``factors`` directions.

    Args:
        training: its graph's ratings and views are read in order of time, liked or not.
        factors: d, 1 or more; columns that the data cannot fill are 0.
        config: how far one event reaches.

    Returns:
        Zeros for contents that nobody left or met in time.

    Source: transition counts as in Rendle, Freudenthaler, Schmidt-Thieme, "Factorizing personalized Markov
    chains", WWW 2010. Departures: many steps with a weight that falls with the gap of time, and one singular
    value decomposition whose rows and columns are weighted by the root of their counts, not gradient steps.

    Cost: O(e reach) counts, then O(d) products of a sparse (i, i) matrix.
    """
    counts = _counts(training.graph, config or FollowingConfig())
    left, met = _factorised(counts, factors, config or FollowingConfig())
    share = np.asarray(counts.sum(1)).ravel()
    share = share / share.sum() if share.sum() else share
    length = float(share @ np.linalg.norm(left, axis=1)) or 1.0
    left = left / length
    spread = float(np.sqrt(np.sum(share[:, None] * _centred_squares(left, met)))) or 1.0
    return Following(left.astype(np.float32), (met / spread).astype(np.float32))


def _centred_squares(left: np.ndarray, met: np.ndarray) -> np.ndarray:
    """(i, 1) variance over contents of ``met @ left[j]`` for every j."""
    covariance = np.cov(met.T, bias=True).reshape(met.shape[1], met.shape[1])
    return np.einsum("jd,de,je->j", left, covariance, left)[:, None]


def _counts(graph: GraphArrays, config: FollowingConfig) -> sp.csr_array:
    """(i, i) float64: how much each content followed each; contents of one second follow one another."""
    users, contents, times = _events(graph)
    size = graph.size("Content")
    found = sp.csr_array((size, size))
    for distance in range(1, min(config.reach, len(users) - 1) + 1):
        before, after, gaps = (
            slice(None, -distance),
            slice(distance, None),
            times[distance:] - times[:-distance],
        )
        same = users[after] == users[before]
        one, other, gaps = contents[before][same], contents[after][same], gaps[same]
        values, tied = np.exp(-gaps / config.gap_s), gaps == 0
        rows, columns = np.r_[one, other[tied]], np.r_[other, one[tied]]
        found = found + sp.csr_array((np.r_[values, values[tied]], (rows, columns)), shape=(size, size))
    found.eliminate_zeros()
    return found


def _events(graph: GraphArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(e,) user rows, content rows and UTC seconds, by user and time; those without a time are left out."""
    parts = [(*graph.pairs(type), graph.starts(type)) for type in SOURCES if graph.fact_count(type)]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    users, contents, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((contents, times, users))
    order = order[times[order] > np.iinfo(np.int64).min]
    return users[order], contents[order], times[order]


def _factorised(counts: sp.csr_array, factors: int, config: FollowingConfig) -> tuple[np.ndarray, np.ndarray]:
    """(i, d) twice, float64."""
    size = counts.shape[0]
    left, met = np.zeros((size, factors)), np.zeros((size, factors))
    most = min(factors, size - 1)
    if most < 1 or not counts.nnz:
        return left, met
    out, into = np.asarray(counts.sum(1)).ravel(), np.asarray(counts.sum(0)).ravel()
    rows, columns = np.sqrt(out + 1), np.sqrt(into + 1)
    scaled = counts.multiply((rows / (out + config.smoothing))[:, None])
    scaled = sp.csr_array(scaled.multiply((columns / (into + 1) ** config.popularity)[None]))
    first, values, second = svds(scaled, most, v0=np.ones(size), solver="arpack")
    left[:, :most], met[:, :most] = first * values / rows[:, None], second.T / columns[:, None]
    return left, met
