"""Made-up availability, shaped like the real one, for data that has none.

Every window says that it is simulated; who shows it must say so too."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from kg.records import Hyperedge, Node
from kg.vocabulary import platform_node, region_node

DAY_S = 86_400
BLOCKS = (
    ("US", "CA"),
    ("GB", "IE"),
    ("DE", "AT", "CH"),
    ("FR", "BE", "LU", "NL"),
    ("ES", "PT", "IT"),
    ("DK", "FI", "NO", "SE"),
    ("AR", "BR", "CL", "CO", "MX"),
    ("AU", "NZ", "IN", "JP", "KR"),
)
"""Countries that one licence covers together."""
_SHARES = (0.86, 0.11, 0.03)  # of titles on one, two, three platforms
_WEIGHTS = {
    "netflix": 0.27,
    "amazon-prime": 0.25,
    "hulu": 0.14,
    "hbo-max": 0.13,
    "disney-plus": 0.1,
    "paramount-plus": 0.08,
    "apple-tv-plus": 0.03,
}


@dataclass(frozen=True)
class WindowsConfig:
    """Settings of :func:`windows`."""

    seed: int = 0
    """Fixes every draw; a content's windows depend on the seed and its id alone."""
    start: str = "2025-01-01"
    """First day that the windows cover, ISO 8601."""
    end: str = "2031-01-01"
    """Last day that they cover; a window that would end later is open."""
    mean_days: float = 1000.0
    """Mean length of a window; 1000 lets 26% of the titles leave within ten months."""
    gap_share: float = 0.1
    """Share of moves that leave a gap of one to four months."""
    home_share: float = 0.9
    """Chance that a window covers the first block (US, CA)."""
    block_share: float = 0.55
    """Chance that it covers each of the others."""

    def __post_init__(self) -> None:
        if day_ts(self.end) <= day_ts(self.start):
            raise ValueError(f"windows end after they start, got {self.start} to {self.end}: swap the days")
        if self.mean_days < 30:
            raise ValueError(
                f"mean_days is at least 30, got {self.mean_days}: a window lasts a month or more"
            )


def day_ts(day: str) -> int:
    """UTC seconds at which an ISO day begins.

    Example:
        >>> day_ts("1970-01-02")
        86400
    """
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def places(source: str) -> Iterator[Node]:
    """The platforms and regions that :func:`windows` names."""
    for key in _WEIGHTS:
        yield platform_node(key, source)
    for block in BLOCKS:
        for code in block:
            yield region_node(code, source)


def windows(content_ids: Iterable[str], source: str, config: WindowsConfig) -> Iterator[Hyperedge]:
    """AVAILABLE facts for contents: on one to three platforms at a time, moving on when a window ends.

    86% of the titles are on one platform at a time and 11% on two; a window covers several regional
    blocks; lengths are exponential, so the share that leaves within a time is the same at every moment.
    """
    for content_id in content_ids:
        letters = np.frombuffer(content_id.encode(), np.uint8)
        random = np.random.default_rng([config.seed, *letters.tolist()])
        yield from _windows_of(content_id, source, config, random)


def _windows_of(
    content_id: str, source: str, config: WindowsConfig, random: np.random.Generator
) -> Iterator[Hyperedge]:
    names = list(_WEIGHTS)
    weights = np.array(list(_WEIGHTS.values()))
    slots = 1 + int(random.choice(3, p=_SHARES))
    # each slot moves among platforms of its own, so that no two slots meet on one platform
    dealt = random.choice(len(names), size=len(names), replace=False, p=weights)
    for slot in range(slots):
        yield from _timeline(
            content_id, [names[place] for place in dealt[slot::slots]], source, config, random
        )


def _timeline(
    content_id: str, own: list[str], source: str, config: WindowsConfig, random: np.random.Generator
) -> Iterator[Hyperedge]:
    start_ts, end_ts = day_ts(config.start), day_ts(config.end)
    now_ts = start_ts - DAY_S * int(random.integers(1, 700))
    until_ts = start_ts + _length(config, random)
    turn = 0
    while now_ts < end_ts:
        regions = tuple(f"region:{code}" for code in _regions(config, random))
        yield Hyperedge(
            "AVAILABLE",
            {"content": (content_id,), "platform": (f"platform:{own[turn % len(own)]}",), "region": regions},
            source,
            {"offer": "subscription", "simulated": True},
            now_ts,
            until_ts if until_ts < end_ts else None,
        )
        gap_days = int(random.integers(30, 120)) if random.random() < config.gap_share else 0
        now_ts = until_ts + gap_days * DAY_S
        until_ts = now_ts + _length(config, random)
        turn += 1


def _length(config: WindowsConfig, random: np.random.Generator) -> int:
    return DAY_S * max(1, round(float(random.exponential(config.mean_days))))


def _regions(config: WindowsConfig, random: np.random.Generator) -> list[str]:
    covered = random.random(len(BLOCKS)) < np.array(
        [config.home_share] + [config.block_share] * (len(BLOCKS) - 1)
    )
    if not covered.any():
        covered[int(random.integers(len(BLOCKS)))] = True
    return sorted(
        code for block, is_covered in zip(BLOCKS, covered, strict=True) if is_covered for code in block
    )
