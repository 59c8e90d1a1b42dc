"""Reads the YAML files of this room.

A setting is found by a path or by its name under ``configs/``; overrides are ``key.key=value``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.registry import SettingError

ROOT = Path(__file__).parent


def load(name: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The settings in ``name`` with ``overrides`` laid over them.

    Args:
        name: a path, or a name under ``configs/`` such as ``experiments/ease.yaml``.
        overrides: ``key.key=value`` each; the value is read as YAML; the key must exist in the file.

    Raises:
        FileNotFoundError: neither a path nor a name here.
        SettingError: the file is no mapping, is no YAML, or an override names a key that is not there.
    """
    path = find(name)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingError(f"{path} must be YAML: {error}") from error
    if not isinstance(settings, dict):
        raise SettingError(f"{path} must hold settings as 'key: value', it holds {type(settings).__name__}")
    for override in overrides:
        _lay_over(settings, override, path)
    return settings


def find(name: str | Path) -> Path:
    """The file behind a setting's name; the error lists what there is."""
    tried = [Path(name), ROOT / name, ROOT / f"{name}.yaml"]
    for path in tried:
        if path.is_file():
            return path
    there = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.yaml"))
    raise FileNotFoundError(
        f"no settings {str(name)!r}: give a path to a YAML file or one of {', '.join(there)}"
    )


def _lay_over(settings: dict[str, Any], override: str, path: Path) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise SettingError(f"an override is written key.key=value, got {override!r}")
    *above, last = key.split(".")
    place: Any = settings
    for part in above:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place:
        raise SettingError(f"{path.name} has no key {key!r} to override: write it into the file first")
    place[last] = yaml.safe_load(text)
