"""The query router at work: class and slots of a query by NumPy alone, and when it says that it is unsure.

c classes · m bytes."""

import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from configs.registry import SettingError
from models.queries import INTENTS
from models.reading import GRNN, LINEAR, GRNNReader, LinearReader, Spelled, words_of
from models.slots import Gazetteer, Slots
from models.spelling import Speller
from models.verification import ModelError, digest_of, read_manifest, verify, write_manifest

WEIGHTS, FORMAT, SIZE_BYTES = "weights.safetensors", 3, 800_000
"""The last is what all files of a router may have together."""


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
    """Tells the class of a query in well under a millisecond: by FastGRNN, by a regression, or by both.

    Args:
        weights: those of :class:`GRNNReader`, of :class:`LinearReader`, or of both and then float32 ``blend``
            (2,) that their logits are multiplied by before they are added; uint8 ``words`` (m,), the words
            that slips are set right to, a line each.
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
        self.weights, self.gazetteer = dict(weights), gazetteer
        self.calibration = calibration or Calibration()
        self._readers = _readers_of(weights)
        self._spelled = Spelled(gazetteer, Speller(words_from(weights["words"])))

    def logits(self, text: str) -> np.ndarray:
        """(c,) float32 before calibration; zeros for a text without a word."""
        words = self.words(text)
        total = np.zeros(len(INTENTS), np.float32)
        if words:
            for factor, reader in self._readers:
                total += factor * reader.logits(words)
        return total

    def words(self, text: str) -> list[str]:
        """What is read of a text: known names as the word of their kind, slips set right."""
        return self._spelled.words(text)

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


def softmax(logits: np.ndarray) -> np.ndarray:
    """(…, c) float64 that sum to 1."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def words_to(words: Sequence[str]) -> np.ndarray:
    """(m,) uint8 of words, a line each; :func:`words_from` reads them."""
    return np.frombuffer("\n".join(words).encode(), np.uint8).copy()


def words_from(lines: np.ndarray) -> list[str]:
    """The words of :func:`words_to`."""
    if lines.dtype != np.uint8 or lines.ndim != 1:
        raise ModelError(
            f"words are (m,) of uint8, got {lines.shape} of {lines.dtype}: train the router again"
        )
    return lines.tobytes().decode().split()


def _readers_of(weights: Mapping[str, np.ndarray]) -> list[tuple[np.float32, Any]]:
    """Readers whose weights are there, each with what its logits are multiplied by."""
    names = {*(GRNN if "table" in weights else ()), *(LINEAR if "linear" in weights else ()), "words"}
    kinds = [GRNNReader] * ("table" in weights) + [LinearReader] * ("linear" in weights)
    names |= {"blend"} if len(kinds) == 2 else set()
    if set(weights) != names or not kinds:
        raise ModelError(f"a router has the weights {sorted(names)}, got {sorted(weights)}: train it again")
    blend = weights["blend"] if len(kinds) == 2 else np.ones(1, np.float32)
    if blend.shape != (len(kinds),) or not np.isfinite(blend).all():
        raise ModelError(f"blend must be {len(kinds)} finite numbers, got {blend}: train the router again")
    return [(np.float32(factor), kind(weights)) for factor, kind in zip(blend, kinds, strict=True)]
