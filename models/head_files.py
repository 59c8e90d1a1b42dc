"""A version's head in one file beside the version: arrays, settings, what they add, the hash of the version.

A version's folder is written once; the head is fitted later, perhaps again, and so lies elsewhere."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from configs.registry import SettingError, fill
from models import journal
from models.following import FollowingConfig
from models.heads import Head, HeadConfig, fit_head, head_of, heads
from models.instant import InstantConfig
from models.interface import Training
from models.store import ModelVersion

FORMAT = "2"


class HeadError(ValueError):
    """A head that cannot be used, with the file that is to blame."""


@dataclass(frozen=True)
class HeadSettings:
    """How a head is fitted, as a setting names it."""

    kind: str = "linear"
    """A registered head."""
    width: int = 64
    """See :class:`models.heads.HeadConfig`."""
    rank: int = 1
    """One a fade of the instant tier."""
    weight: float = 4e-4
    """What one event is worth on the scale of the model's scores: another model needs another one, which
    `mg adapters fit` chooses."""
    gap_s: float = 60.0
    """See :class:`models.following.FollowingConfig`."""
    popularity: float = 0.5
    """See :class:`models.following.FollowingConfig`."""

    def __post_init__(self) -> None:
        if self.kind not in heads:
            raise SettingError(f"head must be one of {', '.join(heads)}, got {self.kind!r}: name one of them")
        self.config()

    def config(self) -> HeadConfig:
        """What the head itself takes."""
        following = FollowingConfig(gap_s=self.gap_s, popularity=self.popularity)
        return HeadConfig(self.width, self.rank, self.weight, following)

    def fitted(self, training: Training) -> Head:
        """The head, learned on training."""
        return fit_head(self.kind, self.config(), training)


@dataclass(frozen=True)
class Shown:
    """What adapters add above the same model that was told all likes so far, replayed on validation.

    Of each person with the setting that is best for others, so that choosing it makes nothing look better.
    """

    metric: str
    without: float
    """Mean over people without adapters."""
    gain: float
    low: float
    high: float
    p: float
    """Two-sided."""
    users: int
    tried: int
    """Settings that were replayed, 1 or more."""
    is_better: bool
    """Whether the gain is above 0 by more than luck, at the level and with the people that were asked for."""

    @property
    def said(self) -> str:
        """The same in words.

        Example:
            >>> Shown("ndcg@10", 0.1, 0.0088, 0.0053, 0.0123, 0.0008, 938, 8, True).said
            '+0.0088 (+0.0053 to +0.0123) ndcg@10 above 0.1000 on validation, 938 people, p 0.0008'
        """
        p = "below 0.0001" if self.p < 1e-4 else f"{self.p:.4f}"
        return (
            f"{self.gain:+.4f} ({self.low:+.4f} to {self.high:+.4f}) {self.metric} above {self.without:.4f} "
            f"on validation, {self.users:,} people, p {p}"
        )


@dataclass(frozen=True)
class FittedHead:
    """A head, how events move its adapters, and what that was shown to be worth."""

    head: Head
    instant: InstantConfig
    shown: Shown | None = None
    """None where nobody measured it."""


def save_head(path: Path, fitted: FittedHead, version: ModelVersion) -> None:
    """Writes a head aside, then renames it into place: a reader sees the one before or this one, whole.

    Args:
        path: of the one file.
        fitted: on what the version was fitted on.
        version: whose scores it bends.

    Raises:
        HeadError: the place cannot be written; what was there stands.
        SettingError: head and instant tier are of different ranks.
    """
    head = fitted.head
    fitted.instant.must_fit(head)
    told = {
        "format": FORMAT,
        "kind": head.kind,
        "config": json.dumps(asdict(head.config), sort_keys=True),
        "instant": json.dumps(asdict(fitted.instant), sort_keys=True),
        "shown": json.dumps(fitted.shown and asdict(fitted.shown), sort_keys=True, allow_nan=False),
        "version": version.ref,
        "base": _base(version),
        "head": head.hash,
    }
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(head.arrays(), aside, {**told, "sum": _sum(told)})
        journal.sync(aside)
        aside.replace(path)
        journal.sync(path.parent)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise HeadError(
            f"a head needs a place that can be written, {path} gave {error}: free space and fit it again"
        ) from error


def load_head(path: Path, version: ModelVersion) -> FittedHead:
    """The head of a version, verified.

    Raises:
        HeadError: there is none, it is not what was written, or it was fitted for another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            told = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        fitted = _fitted(told, arrays)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise HeadError(
            f"{path} must be a head as it was written ({error}): fit it again with `mg adapters fit`"
        ) from None
    if told["base"] != _base(version):
        raise HeadError(
            f"{path} was fitted for {told['version']} {told['base'][:8]}, not for {version.ref} "
            f"{_base(version)[:8]}: fit one for this version with `mg adapters fit`"
        )
    return fitted


def _fitted(told: dict[str, str], arrays: dict[str, np.ndarray]) -> FittedHead:
    """What a file holds.

    Raises:
        ValueError, KeyError, TypeError: it is not what was written.
    """
    if told.pop("sum", "") != _sum(told) or told["format"] != FORMAT:
        raise ValueError("its checksum or format differs")
    settings, shown = json.loads(told["config"]), json.loads(told["shown"])
    following = fill(FollowingConfig, settings["following"])
    head = head_of(told["kind"], fill(HeadConfig, {**settings, "following": following}), arrays)
    if head.hash != told["head"]:
        raise ValueError("the hash of its arrays differs")
    instant = fill(InstantConfig, json.loads(told["instant"]))
    instant.must_fit(head)
    return FittedHead(head, instant, None if shown is None else fill(Shown, shown))


def _base(version: ModelVersion) -> str:
    """Stands for every byte of a version: its manifest holds the SHA-256 of each file."""
    return str(version.manifest["sha256"])


def _sum(told: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode()).hexdigest()
