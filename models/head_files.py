"""A version's head in one file beside the version: arrays, settings, and the hash of what it was fitted for.

A version's folder is written once; the head is fitted later, perhaps again, and so lies elsewhere."""

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from configs.registry import SettingError, fill
from models import journal
from models.following import FollowingConfig
from models.heads import Head, HeadConfig, fit_head, head_of, heads
from models.interface import Training
from models.store import ModelVersion

FORMAT = "1"


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
    """What one event is worth on the scale of the model's scores: another model needs another one."""
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


def save_head(path: Path, head: Head, version: ModelVersion) -> None:
    """Writes a head aside, then renames it into place: a reader sees the one before or this one, whole.

    Args:
        path: of the one file.
        head: fitted on what the version was fitted on.
        version: whose scores it bends.

    Raises:
        HeadError: the place cannot be written; what was there stands.
    """
    told = {
        "format": FORMAT,
        "kind": head.kind,
        "config": json.dumps(asdict(head.config), sort_keys=True),
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


def load_head(path: Path, version: ModelVersion) -> Head:
    """The head of a version, verified.

    Raises:
        HeadError: there is none, it is not what was written, or it was fitted for another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            told = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        if told.pop("sum", "") != _sum(told) or told["format"] != FORMAT:
            raise ValueError("its checksum or format differs")
        settings = json.loads(told["config"])
        following = fill(FollowingConfig, settings["following"])
        head = head_of(told["kind"], fill(HeadConfig, {**settings, "following": following}), arrays)
        if head.hash != told["head"]:
            raise ValueError("the hash of its arrays differs")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise HeadError(
            f"{path} must be a head as it was written ({error}): fit it again with `mg adapters fit`"
        ) from None
    if told["base"] != _base(version):
        raise HeadError(
            f"{path} was fitted for {told['version']} {told['base'][:8]}, not for {version.ref} "
            f"{_base(version)[:8]}: fit one for this version with `mg adapters fit`"
        )
    return head


def _base(version: ModelVersion) -> str:
    """Stands for every byte of a version: its manifest holds the SHA-256 of each file."""
    return str(version.manifest["sha256"])


def _sum(told: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(told), sort_keys=True).encode()).hexdigest()
