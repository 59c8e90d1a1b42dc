"""The query router at work: FastGRNN in int8 by NumPy alone, and when it says that it is unsure.

n words of a query · d width of a word · s width of the state · c classes."""

import shutil
import unicodedata
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from configs.registry import SettingError
from models.queries import INTENTS
from models.slots import Gazetteer, Slots
from models.verification import ModelError, digest_of, read_manifest, verify, write_manifest

WEIGHTS, FORMAT, SIZE_BYTES = "weights.safetensors", 1, 800_000
"""The last is what all files of a router may have together."""
MOST_WORDS = 24
"""Of a query that are read."""
BUCKETS = 8192
"""Rows of the table that n-grams are hashed into."""
_SHORTEST, _LONGEST = 3, 5
_MATRICES = ("table", "w1", "w2", "u1", "u2", "head")
_VECTORS = ("bias_z", "bias_h", "bias_head")


@dataclass(frozen=True)
class Route:
    """What a router makes of a query."""

    intent: str
    """One of INTENTS; ``content_discovery`` where it is unsure."""
    confidence: float
    """Calibrated probability of the likeliest class, 0 to 1."""
    is_fallback: bool
    """True where no class was likely enough, or no word was read."""
    likely: tuple[str, ...]
    """Conformal set: holds the right class with the promised chance; empty for a query unlike all known."""
    slots: Slots = field(default_factory=Slots)


@dataclass(frozen=True)
class Calibration:
    """How probabilities are read."""

    temperature: float = 1.0
    """Logits are divided by it, above 0."""
    threshold: float = 0.5
    """Below this probability the router abstains, 0 to 1."""
    border: float = 0.0
    """Least probability of a class in the conformal set, 0 to 1."""
    coverage: float = 0.9
    """Promised share of sets that hold the right class."""

    def __post_init__(self) -> None:
        shares = (self.threshold, self.border, self.coverage)
        if not self.temperature > 0 or not all(0 <= share <= 1 for share in shares):
            raise SettingError(
                f"a calibration has a temperature above 0 and shares in 0..1, got {asdict(self)}"
            )


class Router:
    """Tells the class of a query in well under a millisecond.

    The cell is that of FastGRNN: z = sigma(Wx + Uh + b_z), h~ = tanh(Wx + Uh + b_h),
    h' = (zeta (1 - z) + nu) * h~ + z * h; W = w1 w2 and U = u1 u2 are low rank and the same in gate and
    candidate. Matrices are int8 with one scale each, activations float32.

    Source: Kusupati et al., "FastGRNN", NeurIPS 2018, arXiv:1901.02358, eq. 2 and 3. Ours reads, besides the
    last state, the mean of all, and rounds after training.

    Args:
        weights: int8 matrices ``table`` (b, d), ``w1`` (d, r), ``w2`` (r, s), ``u1`` (s, r), ``u2`` (r, s),
            ``head`` (2s, c), a float32 ``NAME_scale`` (1,) for each, float32 ``bias_z`` and ``bias_h`` (s,),
            ``bias_head`` (c,) and ``zeta_nu`` (2,).
        calibration: how its probabilities are read.
        gazetteer: finds slots; None finds none.

    Raises:
        ModelError: a weight is missing, of another type or shape, or not finite.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        calibration: Calibration | None = None,
        gazetteer: Gazetteer | None = None,
    ) -> None:
        _check(weights)
        self.weights, self.gazetteer = dict(weights), gazetteer
        self.calibration = calibration or Calibration()
        self._table, self._scale = weights["table"], np.float32(weights["table_scale"][0])
        self._w1, self._w2, self._u1, self._u2, self._head = (
            weights[name].astype(np.float32) * weights[f"{name}_scale"] for name in _MATRICES[1:]
        )
        self._bias_z, self._bias_h = weights["bias_z"], weights["bias_h"]
        self._zeta, self._nu = (np.float32(value) for value in weights["zeta_nu"])

    def logits(self, text: str) -> np.ndarray:
        """(c,) float32 before calibration; zeros for a text without a word."""
        words = self.words(text)
        if not words:
            return np.zeros(len(INTENTS), np.float32)
        hashed = [buckets_of(word) for word in words]
        counts = np.array([len(own) for own in hashed])
        rows = self._table[np.concatenate(hashed)]  # (g, d) int8
        borders = np.concatenate(([0], np.cumsum(counts[:-1])))
        summed = np.add.reduceat(rows, borders, axis=0, dtype=np.int32) * self._scale  # (n, d)
        return self._head_of((summed.astype(np.float32) @ self._w1) @ self._w2)

    def words(self, text: str) -> list[str]:
        """What is read of a text: known names as the word of their kind."""
        words = words_of(text)
        return words_of(self.gazetteer.mask(" ".join(words))) if self.gazetteer and words else words

    def probabilities(self, text: str) -> np.ndarray:
        """(c,) float64 calibrated, in the order of INTENTS."""
        return softmax(self.logits(text) / self.calibration.temperature)

    def classify(self, text: str) -> Route:
        """The class of a query, without slots; a text that is none is a TypeError."""
        chances = self.probabilities(text)
        best = int(chances.argmax())
        is_fallback = not words_of(text) or bool(chances[best] < self.calibration.threshold)
        likely = tuple(
            name for name, chance in zip(INTENTS, chances, strict=True) if chance >= self.calibration.border
        )
        return Route(INTENTS[0 if is_fallback else best], float(chances[best]), is_fallback, likely)

    def route(self, text: str) -> Route:
        """Class and slots of a query."""
        found = self.classify(text)
        slots = self.gazetteer.find(text) if self.gazetteer else Slots()
        return Route(found.intent, found.confidence, found.is_fallback, found.likely, slots)

    def save(self, folder: Path, facts: Mapping[str, Any] | None = None) -> int:
        """Writes weights and manifest aside, then in place; gives their bytes.

        Args:
            folder: replaced if it is there.
            facts: what else the manifest tells, such as measures.

        Raises:
            ModelError: all files together have more than :data:`SIZE_BYTES`.
        """
        folder = Path(folder)
        aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
        aside.mkdir(parents=True)
        try:
            save_file(self.weights, aside / WEIGHTS)
            files = {WEIGHTS: digest_of(aside / WEIGHTS)}
            told = {
                "format": FORMAT,
                "files": files,
                "calibration": asdict(self.calibration),
                "facts": facts or {},
            }
            write_manifest(aside, told)
            size = sum(path.stat().st_size for path in aside.iterdir())
            if size > SIZE_BYTES:
                raise ModelError(
                    f"a router has at most {SIZE_BYTES:,} bytes, got {size:,}: make its table smaller"
                )
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return size

    @classmethod
    def load(cls, folder: Path, gazetteer: Gazetteer | None = None) -> "Router":
        """A saved router, every file verified before it is read.

        Raises:
            ModelError: there is none, or a file is not what was written.
        """
        verify(folder)
        manifest = read_manifest(folder)
        if manifest.get("format") != FORMAT:
            raise ModelError(f"{folder} has format {manifest.get('format')}, not {FORMAT}: train it again")
        return cls(load_file(folder / WEIGHTS), Calibration(**manifest["calibration"]), gazetteer)

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
        return read @ self._head + self.weights["bias_head"]


def words_of(text: str) -> list[str]:
    """Lower-case words without accents, at most :data:`MOST_WORDS`.

    Example:
        >>> words_of("Où voir Amélie?")
        ['ou', 'voir', 'amelie']
    """
    if not isinstance(text, str):
        raise TypeError(f"a query is text, got {type(text).__name__}: pass what the person typed")
    plain = unicodedata.normalize("NFKD", text[: 64 * MOST_WORDS].lower())
    kept = "".join(
        sign if sign.isalnum() or sign == "+" else " " for sign in plain if not unicodedata.combining(sign)
    )
    return kept.split()[:MOST_WORDS]


@lru_cache(maxsize=65_536)
def buckets_of(word: str) -> np.ndarray:
    """(g,) int64 rows of a word's n-grams of 3 to 5 letters, with its borders, and of the word itself."""
    marked = f"<{word[:32]}>"
    grams = {
        marked[at : at + length]
        for length in range(_SHORTEST, _LONGEST + 1)
        for at in range(len(marked) - length + 1)
    }
    found = [zlib.crc32(gram.encode()) % BUCKETS for gram in sorted(grams | {marked})]
    rows = np.array(found, np.int64)
    rows.setflags(write=False)
    return rows


def quantise(floats: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Float weights as a :class:`Router` takes them: int8 matrices with a scale each, to nearest."""
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


def softmax(logits: np.ndarray) -> np.ndarray:
    """(…, c) float64 that sum to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _check(weights: Mapping[str, np.ndarray]) -> None:
    names: Sequence[str] = (
        *_MATRICES,
        *(f"{name}_scale" for name in _MATRICES),
        *_VECTORS,
        "zeta_nu",
    )
    if set(weights) != set(names):
        raise ModelError(
            f"a router has the weights {', '.join(names)}, got {sorted(weights)}: train it again"
        )
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
    for name in names:
        shape = shapes.get(name, (1,))
        kind = np.int8 if name in _MATRICES else np.float32
        if weights[name].shape != shape or weights[name].dtype != kind:
            raise ModelError(f"weight {name} must be {shape} of {np.dtype(kind)}: train the router again")
        if not np.isfinite(weights[name]).all():
            raise ModelError(f"weight {name} must be finite: train the router again")
