"""Holds a version's folder against its manifest: nothing is read from a file that is not what was written."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
KINDS = (".safetensors", ".md")
"""Files that a version may hold beside its manifest; none of them can run code."""
MANIFEST_BYTES = 4 << 20
HEADER_BYTES = 1 << 20
"""A safetensors header of ours has some hundred bytes a tensor."""
_REMEDY = "do not use this version; save the model again or fetch the folder anew"


class ModelError(ValueError):
    """A version, an alias or a name that cannot be used, with the file that is to blame."""


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes ``manifest.json`` with a checksum of itself, in the one form that is read again."""
    manifest = json.loads(json.dumps(manifest, allow_nan=False))
    text = _text({**manifest, "sha256": _own_digest(manifest)})
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a version.

    Raises:
        ModelError: it is missing, too large, no JSON, or not as it was written.
    """
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise ModelError(f"{path} is missing: {_REMEDY}")
    if path.stat().st_size > MANIFEST_BYTES:
        raise ModelError(
            f"{path} must have at most {MANIFEST_BYTES} bytes, it has {path.stat().st_size}: {_REMEDY}"
        )
    try:
        text = path.read_bytes().decode("ascii")
        manifest = json.loads(text)
        is_ours = isinstance(manifest, dict) and manifest.get("sha256") == _own_digest(manifest)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} must be the JSON that was written ({error}): {_REMEDY}") from None
    if not is_ours or _text(manifest) != text:
        raise ModelError(f"{path} is not what was written, its checksum differs: {_REMEDY}")
    return manifest


def verify(folder: Path) -> None:
    """Checks every file of a version, and that there is no other.

    Raises:
        ModelError: names the file that is missing, changed, one too many, outside the folder or no data.
    """
    files = read_manifest(folder).get("files")
    if not isinstance(files, dict) or not files:
        raise ModelError(f"{folder / MANIFEST} must list the files of the version: {_REMEDY}")
    for name, expected in files.items():
        _check_place(folder, name)
        _check_file(folder / name, expected)
    for path in sorted(folder.iterdir()):
        if path.name != MANIFEST and path.name not in files:
            raise ModelError(f"{path} is not in the manifest: {_REMEDY}")


def digest_of(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as a manifest lists them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "size_bytes": path.stat().st_size}


def _check_place(folder: Path, name: str) -> None:
    path = folder / name
    is_plain = (
        name == Path(name).name and name not in ("", ".", "..") and "\\" not in name and "\0" not in name
    )
    if not is_plain or path.is_symlink():
        raise ModelError(f"{folder / MANIFEST} names {name!r}, which leaves the folder: {_REMEDY}")
    if path.suffix not in KINDS:
        raise ModelError(f"{path} is none of {', '.join(KINDS)}, such a file is never loaded: {_REMEDY}")


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise ModelError(f"{path} is missing: {_REMEDY}")
    if path.suffix == ".safetensors":
        _check_header(path)
    if digest_of(path) != expected:
        raise ModelError(f"{path} is not what was written, its SHA-256 or size differs: {_REMEDY}")


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(HEADER_BYTES, path.stat().st_size - 8):
        raise ModelError(
            f"{path} must begin with a header of 2 to {HEADER_BYTES} bytes, it says {length}: {_REMEDY}"
        )


def _own_digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(_text(rest).encode()).hexdigest()


def _text(manifest: Mapping[str, Any]) -> str:
    """One form for equal contents: so no bit of the file can change unseen."""
    return json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"
