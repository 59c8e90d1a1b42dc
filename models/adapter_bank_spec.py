"""What the adapters of a bank fit onto, in a file beside them: another width, rank or base is refused."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from models import journal
from models.adapter_bank_files import AdapterBankError
from models.adapter_bank_packing import Packing
from models.adapters import AdapterSpec

SPEC = "spec.json"
_TOLD = {"format": "media-gateway adapter bank", "version": 1}


@dataclass(frozen=True)
class BankSpec:
    """What a bank was made with."""

    spec: AdapterSpec
    packing: Packing
    key: bytes
    """Of the tags in its index; nobody outside needs it."""

    @classmethod
    def new(cls, spec: AdapterSpec, packing: Packing) -> "BankSpec":
        """Of a bank to be made, with a key that nobody can guess."""
        return cls(spec, packing, secrets.token_bytes(16))

    def fitting(self, spec: AdapterSpec | None, packing: Packing | None) -> "BankSpec":
        """Itself, where it is what was asked for.

        Raises:
            AdapterBankError: names what differs.
        """
        mine = {**asdict(self.spec), "packing": self.packing}
        asked = {**(mine if spec is None else asdict(spec)), "packing": packing or self.packing}
        wrong = [f"{name} {mine[name]!r}, not {asked[name]!r}" for name in mine if mine[name] != asked[name]]
        if wrong:
            raise AdapterBankError(
                f"this bank holds adapters of {'; '.join(wrong)}: keep one folder a base and open the one "
                "that fits, or replay the log of feedback into a new one"
            )
        return self


def read_spec(folder: Path) -> BankSpec | None:
    """What a folder's bank was made with; None where there is none.

    Raises:
        AdapterBankError: the file is none of ours.
    """
    try:
        told = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        if {name: told[name] for name in _TOLD} != _TOLD:
            raise ValueError(f"it says {told['format']!r}, version {told['version']!r}")
        return BankSpec(AdapterSpec(**told["spec"]), told["packing"], bytes.fromhex(told["key"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise AdapterBankError(
            f"{folder / SPEC} must be that of a {_TOLD['format']}, version {_TOLD['version']} ({error}): "
            "put it back, or read it with the release that wrote it"
        ) from None


def write_spec(folder: Path, told: BankSpec) -> None:
    """On the disk, whole or not at all."""
    aside = folder / f".{SPEC}"
    with aside.open("w", encoding="utf-8") as file:
        json.dump(
            {**_TOLD, "spec": asdict(told.spec), "packing": told.packing, "key": told.key.hex()},
            file,
            indent=1,
        )
        file.flush()
        os.fsync(file.fileno())
    aside.rename(folder / SPEC)
    journal.sync(folder)
