"""Which observations a ReasoningBank has counted: by key, so that one that is sent twice counts once.

Keys and what was said are kept as hashes: nobody's id stands in them."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


class ObservationTaken(ValueError):
    """A key that stands for another observation already."""


@dataclass(frozen=True)
class Heard:
    """One observation that was counted."""

    key: str
    """Hash of its key."""
    said: str
    """Hash of what it said."""
    pattern_id: str
    """Of the pattern or seed that it was counted for."""

    @classmethod
    def of(cls, key: str, said: Any, pattern_id: str) -> "Heard":
        """One observation by its key, and all that it said as something with a ``repr``."""
        return cls(hashed(key, 16), hashed(repr(said), 8), pattern_id)


def hashed(text: str, size: int) -> str:
    """A text as a hash of ``size`` bytes, in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()


class HeardKeys:
    """The latest observations, oldest first; beyond ``most`` the oldest is no longer known.

    Example:
        >>> keys = HeardKeys(most=1)
        >>> keys.add([Heard.of("a", "liked", "p1")])
        >>> keys.find(Heard.of("a", "liked", "")).pattern_id, keys.find(Heard.of("b", "liked", ""))
        ('p1', None)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[str, Heard] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Heard]:
        return iter(self._kept.values())

    def add(self, heard: Iterable[Heard]) -> None:
        """Enters observations, the latest last."""
        for one in heard:
            self._kept[one.key] = one
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)

    def replace(self, heard: Iterable[Heard]) -> None:
        """Knows these and no others."""
        self._kept.clear()
        self.add(heard)

    def find(self, asked: Heard) -> Heard | None:
        """The same observation as it was counted; None where its key is new.

        Raises:
            ObservationTaken: the key was used for something else.
        """
        found = self._kept.get(asked.key)
        if found is not None and found.said != asked.said:
            raise ObservationTaken(
                "a key stands for one observation, this one was used for another: make a new key"
            )
        return found
