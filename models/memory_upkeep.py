"""The daily pass over a ReasoningBank: what is pruned, merged and promoted; and what goes when it is full."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from models.index import VectorIndex
from models.memory_pattern import MemoryConfig, Pattern, confidence_at, merged, number_of, segment_of

_NEIGHBOURS = 16
"""Looked at for each pattern in one round of merging; rounds go on until nothing merges."""
_CROWD_SHARE = 100
"""A full bank makes room for this part of itself at once: weighing all patterns costs time."""


@dataclass(frozen=True)
class Upkeep:
    """What a day's upkeep did, in patterns."""

    pruned: int
    merged: int
    promoted: int
    """Those that joined a segment."""
    demoted: int
    """Those that left their segment for none."""


def upkept(
    patterns: Mapping[str, Pattern], at_ts: int, config: MemoryConfig
) -> tuple[dict[str, Pattern], Upkeep]:
    """Patterns after the daily pass at ``at_ts``, and what it did; done again it does nothing.

    Cost: a group of patterns with the same steps and context is searched once a round, see
    :class:`models.index.VectorIndex`.
    """
    alive = _alive(patterns, at_ts, config)
    together, joined = _together(alive, config)
    kept = _alive(together, at_ts, config)  # once more: what was heard after at_ts may have joined
    pruned = len(patterns) - joined - len(kept)
    promoted = demoted = 0
    for name, one in kept.items():
        segment = segment_of(one, config)
        if segment != one.segment:
            promoted, demoted = promoted + bool(segment), demoted + (not segment)
            kept[name] = replace(one, segment=segment)
    return kept, Upkeep(pruned, joined, promoted, demoted)


def crowded_out(patterns: Mapping[str, Pattern], at_ts: int, config: MemoryConfig) -> tuple[str, ...]:
    """Ids that go so that one more has room: lowest confidence first, then least recently used, then oldest.

    None while there is room; then a hundredth of the bank, at least one.
    """
    if len(patterns) < config.patterns_at_most:
        return ()
    count = len(patterns) - config.patterns_at_most + max(1, config.patterns_at_most // _CROWD_SHARE)
    order = sorted(
        patterns.values(), key=lambda one: (now(one, at_ts, config), one.used_ts, number_of(one.pattern_id))
    )
    return tuple(one.pattern_id for one in order[:count])


def now(pattern: Pattern, at_ts: int, config: MemoryConfig) -> float:
    """Confidence of a pattern at a time."""
    return confidence_at(pattern.confidence, at_ts - pattern.used_ts, config)


def _alive(patterns: Mapping[str, Pattern], at_ts: int, config: MemoryConfig) -> dict[str, Pattern]:
    return {name: one for name, one in patterns.items() if now(one, at_ts, config) >= config.prune_below}


def _together(patterns: Mapping[str, Pattern], config: MemoryConfig) -> tuple[dict[str, Pattern], int]:
    """Patterns after merging, and how many were taken in."""
    kept, groups = {**patterns}, defaultdict(list)
    for one in patterns.values():
        groups[one.key].append(one)
    for group in groups.values():
        while len(group) > 1 and (joined := _joined(group, config)):
            for name in joined[1]:
                del kept[name]
            kept.update({one.pattern_id: one for one in joined[0]})
            group = [kept[one.pattern_id] for one in group if one.pattern_id in kept]
    return kept, len(patterns) - len(kept)


def _joined(group: list[Pattern], config: MemoryConfig) -> tuple[list[Pattern], list[str]] | None:
    """Survivors as they are now and ids that they took in, None where nothing is alike enough.

    The most used survives, then the most confident, then the oldest; each takes in its neighbours.
    """
    group = sorted(group, key=lambda one: (-one.uses, -one.confidence, number_of(one.pattern_id)))
    vectors = np.stack([one.vector for one in group])
    index = VectorIndex(vectors.shape[1])
    index.add(vectors)
    similarity, rows = index.search(vectors, min(len(group), _NEIGHBOURS))
    taken, survivors = np.zeros(len(group), bool), []
    gone: list[str] = []
    for place, one in enumerate(group):
        if taken[place]:
            continue
        taken[place] = True
        near = [int(row) for row in rows[place][similarity[place] > config.merge_similarity] if row >= 0]
        for row in (row for row in near if not taken[row]):
            taken[row] = True
            one = merged(one, group[row], config)
            gone.append(group[row].pattern_id)
        if one is not group[place]:
            survivors.append(one)
    return (survivors, gone) if gone else None
