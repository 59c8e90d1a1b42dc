"""What a router reads a query with, in NumPy alone: FastGRNN in int8, and a TF-IDF regression in int8.

n words of a query · g n-grams · d width of a word · s width of the state · c classes · b buckets ·
f features of the regression."""

import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from models.queries import INTENTS
from models.slots import KINDS, Gazetteer
from models.spelling import Speller
from models.verification import ModelError

MOST_WORDS = 24
"""Of a query that are read."""
BUCKETS = 8192
"""Rows of the table that n-grams are hashed into for FastGRNN."""
MOST_FEATURES = 36_000
"""Of the regression: what all files of a router may weigh bounds them."""
_SHORTEST, _LONGEST = 3, 5
_KINDS = frozenset(f"x{kind}" for kind in KINDS)
_MATRICES = ("table", "w1", "w2", "u1", "u2", "head")
_VECTORS = ("bias_z", "bias_h", "bias_head")
GRNN = (*_MATRICES, *(f"{name}_scale" for name in _MATRICES), *_VECTORS, "zeta_nu")
"""Weights of :class:`GRNNReader`."""
LINEAR = ("hashes", "linear", "linear_scale", "linear_bias", "idf", "idf_scale")
"""Weights of :class:`LinearReader`."""


class Spelled:
    """Text to the words that a router reads: known names as the word of their kind, slips set right.

    Args:
        gazetteer: knows names; None knows none.
        speller: knows words; None sets nothing right.
    """

    def __init__(self, gazetteer: Gazetteer | None = None, speller: Speller | None = None) -> None:
        self.gazetteer, self.speller = gazetteer, speller

    def words(self, text: str) -> list[str]:
        """At most :data:`MOST_WORDS` of a text; none for a text without any."""
        words = self._masked(words_of(text))
        if self.speller is None:
            return words
        right = [word if word in _KINDS else self.speller.right(word) for word in words]
        return words if right == words else self._masked(right)

    def _masked(self, words: list[str]) -> list[str]:
        return words_of(self.gazetteer.mask(" ".join(words))) if self.gazetteer and words else words


class GRNNReader:
    """FastGRNN over words that are sums of hashed n-grams.

    The cell is that of FastGRNN: z = sigma(Wx + Uh + b_z), h~ = tanh(Wx + Uh + b_h),
    h' = (zeta (1 - z) + nu) * h~ + z * h; W = w1 w2 and U = u1 u2 are low rank and the same in gate and
    candidate. Matrices are int8 with one scale each, activations float32.

    Source: Kusupati et al., "FastGRNN", NeurIPS 2018, arXiv:1901.02358, eq. 2 and 3. Ours reads, besides the
    last state, the mean of all, and rounds after training.

    Args:
        weights: int8 matrices ``table`` (b, d), ``w1`` (d, r), ``w2`` (r, s), ``u1`` (s, r), ``u2`` (r, s),
            ``head`` (2s, c), a float32 ``NAME_scale`` (1,) for each, float32 ``bias_z`` and ``bias_h`` (s,),
            ``bias_head`` (c,) and ``zeta_nu`` (2,).

    Raises:
        ModelError: a weight is missing, of another type or shape, or not finite.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        _check_grnn(weights)
        self._table, self._scale = weights["table"], np.float32(weights["table_scale"][0])
        self._w1, self._w2, self._u1, self._u2, self._head = (
            weights[name].astype(np.float32) * weights[f"{name}_scale"] for name in _MATRICES[1:]
        )
        self._bias_z, self._bias_h, self._bias = (weights[name] for name in _VECTORS)
        self._zeta, self._nu = (np.float32(value) for value in weights["zeta_nu"])

    def logits(self, words: Sequence[str]) -> np.ndarray:
        """(c,) float32 of one word or more."""
        hashed = [buckets_of(word) for word in words]
        counts = np.array([len(own) for own in hashed])
        rows = self._table[np.concatenate(hashed)]  # (g, d) int8
        borders = np.concatenate(([0], np.cumsum(counts[:-1])))
        summed = np.add.reduceat(rows, borders, axis=0, dtype=np.int32) * self._scale  # (n, d)
        return self._head_of((summed.astype(np.float32) @ self._w1) @ self._w2)

    def _head_of(self, inputs: np.ndarray) -> np.ndarray:
        """(n, s) of Wx -> (c,)."""
        state = np.zeros(inputs.shape[1], np.float32)
        total = np.zeros_like(state)
        for wx in inputs:
            both = wx + (state @ self._u1) @ self._u2
            gate = 1 / (1 + np.exp(-(both + self._bias_z)))
            state = (self._zeta * (1 - gate) + self._nu) * np.tanh(both + self._bias_h) + gate * state
            total += state
        read = np.concatenate((state, total / len(inputs)))  # (2s,)
        return read @ self._head + self._bias


class LinearReader:
    """A logistic regression over TF-IDF: n-grams of letters within words, and runs and pairs of words.

    A feature weighs (1 + ln times) x idf; letters and words are brought to length 1 apart, so that a long
    name does not drown the two words that tell the class. A feature that training did not keep is not read:
    features that share buckets of a hash cost 2 points of F1 on sentences unlike the training's.

    Source: Salton and Buckley, 1988.

    Args:
        weights: uint32 ``hashes`` (f,) of the features, rising, int8 ``linear`` (f, c), float32
            ``linear_scale`` (c,) and ``linear_bias`` (c,), uint8 ``idf`` (f,) and float32 ``idf_scale`` (1,).

    Cost: O(letters x 4) hashes of words not met before, O(g log f) look-ups, one gather of (g, c).

    Raises:
        ModelError: a weight is missing, of another type or shape, or not finite.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        _check_linear(weights)
        self._weights, self._scale = weights["linear"], weights["linear_scale"]
        self._bias, self._hashes = weights["linear_bias"], weights["hashes"]
        self._idf = weights["idf"].astype(np.float32) * weights["idf_scale"]

    def logits(self, words: Sequence[str]) -> np.ndarray:
        """(c,) float32 of one word or more."""
        rows, values = features_of(words, self._hashes, self._idf)
        return (values @ self._weights[rows].astype(np.float32)) * self._scale + self._bias


def words_of(text: str) -> list[str]:
    """Lower-case words without accents and apostrophes, at most :data:`MOST_WORDS`.

    Example:
        >>> words_of("Où voir Amélie? What's on?")
        ['ou', 'voir', 'amelie', 'whats', 'on']
    """
    if not isinstance(text, str):
        raise TypeError(f"a query is text, got {type(text).__name__}: pass what the person typed")
    plain = unicodedata.normalize("NFKD", text[: 64 * MOST_WORDS].lower().replace("'", "").replace("’", ""))
    kept = "".join(
        sign if sign.isalnum() or sign == "+" else " " for sign in plain if not unicodedata.combining(sign)
    )
    return kept.split()[:MOST_WORDS]


@lru_cache(maxsize=65_536)
def buckets_of(word: str) -> np.ndarray:
    """(g,) int64 rows of a word's n-grams of 3 to 5 letters, with its borders, and of the word itself."""
    return _kept((_hashed(word, _SHORTEST) % BUCKETS).astype(np.int64))


@lru_cache(maxsize=65_536)
def letters_of(word: str) -> np.ndarray:
    """(g,) uint32 hashes of a word's n-grams of 2 to 5 letters, with its borders, and of the word itself."""
    return _kept(_hashed(word, 2))


def runs_of(words: Sequence[str]) -> np.ndarray:
    """(r,) uint32 hashes of runs of 1 to 3 words, beginning and end counted as words, and of pairs of words
    with one to four others between.
    """
    marked = ["^", *words, "$"]
    said = [
        f"_{' '.join(marked[at : at + length])}"
        for length in (1, 2, 3)
        for at in range(len(marked) - length + 1)
        if length > 1 or marked[at] not in "^$"
    ]
    said += [
        f"~{marked[at]}|{other}"
        for at in range(len(words))
        for other in marked[at + 2 : at + 6]
        if other != "$"
    ]
    return np.array([zlib.crc32(one.encode()) for one in said], np.uint32)


def features_of(words: Sequence[str], hashes: np.ndarray, idf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(g,) int64 features of a query that stand in (f,) ``hashes``, and (g,) float32 what they weigh."""
    rows, values = [], []
    for part in (np.concatenate([letters_of(word) for word in words]), runs_of(words)):
        known, counts = np.unique(part, return_counts=True)
        places = np.minimum(np.searchsorted(hashes, known), len(hashes) - 1)
        is_kept = hashes[places] == known
        places = places[is_kept]
        weight = (1 + np.log(counts[is_kept])).astype(np.float32) * idf[places]
        rows.append(places)
        values.append(weight / max(float(np.sqrt(weight @ weight)), 1e-12))
    return np.concatenate(rows), np.concatenate(values).astype(np.float32)


def quantise(floats: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float weights as :class:`GRNNReader` takes them: int8 matrices with a scale each, to nearest."""
    made = {name: floats[name].astype(np.float32) for name in (*_VECTORS, "zeta_nu")}
    for name in _MATRICES:
        scale = max(float(np.abs(floats[name]).max()), 1e-12) / 127
        made[name] = np.rint(floats[name] / scale).astype(np.int8)
        made[f"{name}_scale"] = np.array([scale], np.float32)
    return made


def dequantise(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float weights that :func:`quantise` rounded to."""
    floats = {name: weights[name] for name in (*_VECTORS, "zeta_nu")}
    return floats | {name: weights[name].astype(np.float32) * weights[f"{name}_scale"] for name in _MATRICES}


def quantise_linear(
    hashes: np.ndarray, matrix: np.ndarray, bias: np.ndarray, idf_bytes: np.ndarray, idf_scale: float
) -> dict[str, np.ndarray]:
    """(f,) uint32, (f, c) weights, (c,) bias and (f,) uint8 idf as :class:`LinearReader` takes them."""
    scale = np.maximum(np.abs(matrix).max(0), 1e-12) / 127  # (c,)
    return {
        "hashes": hashes,
        "linear": np.rint(matrix / scale).astype(np.int8),
        "linear_scale": scale.astype(np.float32),
        "linear_bias": bias.astype(np.float32),
        "idf": idf_bytes.astype(np.uint8),
        "idf_scale": np.array([idf_scale], np.float32),
    }


def _hashed(word: str, shortest: int) -> np.ndarray:
    """(g,) uint32 of a word's n-grams from so many letters on, and of the word."""
    marked = f"<{word[:32]}>"
    grams = {
        marked[at : at + length]
        for length in range(shortest, _LONGEST + 1)
        for at in range(len(marked) - length + 1)
    }
    return np.array([zlib.crc32(gram.encode()) for gram in sorted(grams | {marked})], np.uint32)


def _kept(rows: np.ndarray) -> np.ndarray:
    """What a cache may hand out to many."""
    rows.setflags(write=False)
    return rows


def _check_grnn(weights: Mapping[str, np.ndarray]) -> None:
    _check_names(weights, GRNN)
    d, s = weights["w1"].shape[0], len(weights["bias_z"])
    rank_w, rank_u = weights["w1"].shape[1], weights["u1"].shape[1]
    shapes = {
        "table": (BUCKETS, d),
        "w1": (d, rank_w),
        "w2": (rank_w, s),
        "u1": (s, rank_u),
        "u2": (rank_u, s),
        "head": (2 * s, len(INTENTS)),
        "bias_z": (s,),
        "bias_h": (s,),
        "bias_head": (len(INTENTS),),
        "zeta_nu": (2,),
    }
    for name in GRNN:
        kind = np.int8 if name in _MATRICES else np.float32
        _check_one(name, weights[name], shapes.get(name, (1,)), kind)


def _check_linear(weights: Mapping[str, np.ndarray]) -> None:
    _check_names(weights, LINEAR)
    c, f = len(INTENTS), len(weights["hashes"])
    shapes = {"hashes": (f,), "linear": (f, c), "idf": (f,), "idf_scale": (1,)}
    kinds = {"hashes": np.uint32, "linear": np.int8, "idf": np.uint8}
    for name in LINEAR:
        _check_one(name, weights[name], shapes.get(name, (c,)), kinds.get(name, np.float32))
    if not f or (np.diff(weights["hashes"].astype(np.int64)) <= 0).any():
        raise ModelError("weight hashes must rise and hold one at least: train the router again")


def _check_names(weights: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    if missing := sorted(set(names) - set(weights)):
        raise ModelError(
            f"a router has the weights {', '.join(names)}, {missing} are missing: train it again"
        )


def _check_one(name: str, value: np.ndarray, shape: tuple[int, ...], kind: type) -> None:
    if value.shape != shape or value.dtype != kind:
        raise ModelError(f"weight {name} must be {shape} of {np.dtype(kind)}: train the router again")
    if not np.isfinite(value).all():
        raise ModelError(f"weight {name} must be finite: train the router again")
