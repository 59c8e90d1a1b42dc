"""A version that is tried out beside the holder of an alias: in which stage, on which share of people.

Who belongs to the share is a salted hash of the id: the same on every machine, at every request."""

import hashlib
import math
from dataclasses import dataclass

from models.verification import ModelError

STAGES = ("shadow", "canary")
"""Shadow: computed and compared, never shown. Canary: shown to a share of people."""


@dataclass(frozen=True)
class Candidate:
    """Who is tried out, and how.

    Example:
        >>> tried = Candidate("ease/2", "canary", 0.5, "salt", 0.0)
        >>> tried.is_chosen(tried.key_of("user:a")) == tried.is_chosen(tried.key_of("user:a"))
        True
    """

    version: str
    stage: str
    """One of :data:`STAGES`."""
    share: float
    """Of people, above 0, at most 1 for a shadow, below 1 for a canary."""
    salt: str
    """Drawn anew for every stage, so that one trial's groups say nothing of the next one's."""
    since_ts: float
    """UTC seconds."""

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise ModelError(f"a candidate is in stage {' or '.join(STAGES)}, got {self.stage!r}: use one")
        is_share = math.isfinite(self.share) and 0 < self.share <= 1
        if not is_share or self.stage == "canary" and self.share == 1:
            raise ModelError(
                "the share of people must lie above 0 and, for a canary, below 1 "
                f"(some must stay to compare with), got {self.share}: give one such as 0.1"
            )
        if not 1 <= len(self.salt.encode()) <= 64:
            raise ModelError(f"a salt has 1 to 64 bytes, got {len(self.salt.encode())}: draw a shorter one")

    def key_of(self, user_id: str) -> str:
        """What stands for somebody in the log of this trial: 16 hex digits that nobody can turn back."""
        return hashlib.blake2b(user_id.encode(), key=self.salt.encode(), digest_size=8).hexdigest()

    def is_chosen(self, key: str) -> bool:
        """True if whoever has this key is among the share."""
        return int(key, 16) < self.share * 2**64


@dataclass(frozen=True)
class Holding:
    """What an alias means: who holds it, and who is tried out beside."""

    version: str
    at_ts: float
    candidate: Candidate | None = None
