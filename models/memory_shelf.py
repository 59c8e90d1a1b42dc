"""The patterns of a ReasoningBank in memory, each found by id, by steps and context, by user and by query."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from models.index import IndexConfig, VectorIndex
from models.memory_index import IndexFile
from models.memory_log import Change
from models.memory_pattern import Pattern

_DEAD_AT_MOST = 1000
"""Rows of the index that stand for nothing, besides a quarter of the rest, before it is built anew."""


class Shelf(Mapping[str, Pattern]):
    """Patterns by id, and the index of those that answer; seeds are not in the index.

    Cost: an index cannot lose a row; one that was dropped stays in memory, skipped, until the index is built
    anew, once a fifth of its rows are dead.
    """

    def __init__(
        self, create_positives: int, index: IndexConfig | None = None, file: IndexFile | None = None
    ) -> None:
        self._create_positives = create_positives
        self._config, self._file = index or IndexConfig(), file
        self._patterns: dict[str, Pattern] = {}
        self._of_user: dict[str, set[str]] = {}
        self._groups: dict[Any, _Group] = {}
        self._index: VectorIndex | None = None
        self._ids: list[str | None] = []  # by row of the index
        self._row: dict[str, int] = {}

    def __getitem__(self, pattern_id: str) -> Pattern:
        return self._patterns[pattern_id]

    def __len__(self) -> int:
        return len(self._patterns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def apply(self, change: Change) -> None:
        """Takes a change over; many new patterns at once join the index faster than one by one."""
        for pattern_id in change.drop:
            self._drop(pattern_id)
        for pattern in change.put:
            self._put(pattern)
        self._index_ready(change.put)
        dead = len(self._ids) - len(self._row)
        if dead > _DEAD_AT_MOST + len(self._row) // 4:
            self._index, self._ids, self._row = None, [], {}
            self._index_ready(self._patterns.values())

    def answering(self, query: np.ndarray, n: int) -> tuple[list[tuple[float, Pattern]], bool]:
        """Up to ``n`` patterns that answer and are most alike a (1, d) query, and whether these are all.

        Dropped rows that the index still holds take places; who needs more asks for more.
        """
        if self._index is None:
            return [], True
        similarity, rows = self._index.search(query, n)
        found = [
            (float(similarity[0, place]), self._patterns[pattern_id])
            for place, row in enumerate(rows[0])
            if row >= 0 and (pattern_id := self._ids[row]) is not None
        ]
        return found, n >= len(self._index)

    def of_user(self, user_id: str) -> list[Pattern]:
        """Patterns that somebody had a part in."""
        return [self._patterns[pattern_id] for pattern_id in sorted(self._of_user.get(user_id, ()))]

    def users(self) -> int:
        """How many people the patterns know."""
        return len(self._of_user)

    def nearest(self, key: Any, query: np.ndarray) -> tuple[float, Pattern | None]:
        """The pattern or seed most alike a (1, d) query among those of one key, all compared."""
        group = self._groups.get(key)
        if group is None:
            return -np.inf, None
        similarity = group.vectors[: len(group.ids)] @ query[0]
        place = int(similarity.argmax())
        return float(similarity[place]), self._patterns[group.ids[place]]

    def _put(self, pattern: Pattern) -> None:
        before = self._patterns.get(pattern.pattern_id)
        if before is not None and not _is_same(before, pattern):  # another bank was put in this one's place
            self._drop(pattern.pattern_id)
            before = None
        if before is None:
            self._groups.setdefault(pattern.key, _Group(len(pattern.vector))).add(pattern)
        for user_id in set(before.users) - set(pattern.users) if before else ():
            self._unlink(user_id, pattern.pattern_id)
        for user_id in pattern.users:
            self._of_user.setdefault(user_id, set()).add(pattern.pattern_id)
        self._patterns[pattern.pattern_id] = pattern
        if pattern.positives < self._create_positives and pattern.pattern_id in self._row:
            self._ids[self._row.pop(pattern.pattern_id)] = None

    def _drop(self, pattern_id: str) -> None:
        pattern = self._patterns.pop(pattern_id, None)
        if pattern is None:
            return
        group = self._groups[pattern.key]
        group.remove(pattern_id)
        if not group.ids:
            del self._groups[pattern.key]
        for user_id in pattern.users:
            self._unlink(user_id, pattern_id)
        if pattern_id in self._row:
            self._ids[self._row.pop(pattern_id)] = None

    def _unlink(self, user_id: str, pattern_id: str) -> None:
        ids = self._of_user[user_id]
        ids.discard(pattern_id)
        if not ids:
            del self._of_user[user_id]

    def _index_ready(self, patterns: Iterable[Pattern]) -> None:
        new = [
            one
            for one in patterns
            if one.positives >= self._create_positives and one.pattern_id not in self._row
        ]
        if not new:
            return
        vectors = np.stack([one.vector for one in new])  # (v, d)
        if self._index is None:
            self._index, rows = self._built(vectors), np.arange(len(new))
        else:
            rows = self._index.add(vectors)
        self._ids += [one.pattern_id for one in new]
        self._row.update((one.pattern_id, int(row)) for one, row in zip(new, rows, strict=True))

    def _built(self, vectors: np.ndarray) -> VectorIndex:
        """The index of (v, d) vectors: the one on disk if it is theirs; one that took long is kept there."""
        kept = self._file.load(vectors, self._config) if self._file else None
        if kept is not None:
            return kept
        index = VectorIndex(vectors.shape[1], self._config)
        index.add(vectors)
        if self._file and not index.is_exact:
            self._file.keep(index, vectors)
        return index


def _is_same(one: Pattern, other: Pattern) -> bool:
    is_same = one.vector is other.vector or np.array_equal(one.vector, other.vector)
    return is_same and one.key == other.key


class _Group:
    """Ids and (g, d) vectors of patterns with one key, in a block that doubles when it is full."""

    def __init__(self, width: int) -> None:
        self.ids: list[str] = []
        self.vectors = np.empty((1, width), np.float32)
        self._place: dict[str, int] = {}

    def add(self, pattern: Pattern) -> None:
        if len(self.ids) == len(self.vectors):
            self.vectors = np.concatenate([self.vectors, np.empty_like(self.vectors)])
        self._place[pattern.pattern_id] = len(self.ids)
        self.vectors[len(self.ids)] = pattern.vector
        self.ids.append(pattern.pattern_id)

    def remove(self, pattern_id: str) -> None:
        place, last = self._place.pop(pattern_id), self.ids.pop()
        if last != pattern_id:
            self.ids[place], self._place[last] = last, place
            self.vectors[place] = self.vectors[len(self.ids)]
