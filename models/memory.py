"""ReasoningBank: what worked for queries like this one, looked up by similarity, learned from verdicts.

One process writes a bank, any number read it; nothing is acknowledged before the disk has it."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kg.feedback import hashed_user
from models.index import IndexConfig, unit
from models.memory_heard import Heard, ObservationTaken
from models.memory_log import Change
from models.memory_pattern import (
    MemoryBankError,
    MemoryConfig,
    Pattern,
    Verdict,
    boosted,
    check_context,
    check_steps,
    check_ts,
    heard,
    number_of,
    without_user,
)
from models.memory_store import MemoryStore
from models.memory_upkeep import Upkeep, crowded_out, now, upkept

__all__ = [
    "Match",
    "MemoryBankError",
    "MemoryConfig",
    "MemoryStats",
    "ObservationTaken",
    "ReasoningBank",
    "Upkeep",
    "Verdict",
]


@dataclass(frozen=True)
class Match:
    """A pattern that answers a query."""

    pattern: Pattern
    similarity: float
    """Cosine, in 0..1."""
    score: float
    """Similarity, boosted by uses: what the matches are ordered by."""
    confidence: float
    """At the time of the question, in 0..1."""


@dataclass(frozen=True)
class MemoryStats:
    """What a bank holds."""

    patterns: int
    """Those that answer."""
    seeds: int
    """Those with too few positives yet."""
    segments: Mapping[str, int]
    """Segment -> patterns promoted to it."""
    users: int
    uses: int
    mean_confidence: float
    """Of those that answer, at the time asked; 0 where there are none."""
    width: int | None
    size_bytes: int
    """Of snapshot and log."""
    cut_off: int
    """Lines at which a crash cut the log off; none of them was acknowledged."""


class ReasoningBank:
    """Patterns of queries, and the steps that worked for them.

    Example:
        >>> import tempfile
        >>> with ReasoningBank(Path(tempfile.mkdtemp()), writes=True) as bank:
        ...     for day in (1, 2, 3):
        ...         told = bank.learn([1, 0], ("rank", "diversify"), {}, Verdict("user:world:1", True, day))
        ...     found = bank.lookup([0.9, 0.1], {}, at_ts=4)
        >>> [(match.pattern.pattern_id, match.pattern.steps, match.pattern.uses) for match in found]
        [('p1', ('rank', 'diversify'), 3)]
    """

    def __init__(
        self,
        folder: Path,
        config: MemoryConfig | None = None,
        index: IndexConfig | None = None,
        writes: bool = False,
    ) -> None:
        """Opens a bank; a folder without one is an empty bank.

        Args:
            folder: of this bank alone.
            config: settings; they are not kept, so every process names the same.
            index: how queries are looked up.
            writes: True for the one process that may change it.

        Raises:
            MemoryBankError: another process writes it, or its files are none of ours.
        """
        self.folder = Path(folder)
        self.config = config or MemoryConfig()
        self._guard = threading.RLock()
        most = self.config.keys_at_most
        self._store = MemoryStore(self.folder, self.config.create_positives, most, index, writes)

    def __enter__(self) -> "ReasoningBank":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process write."""
        self._store.close()

    @property
    def width(self) -> int | None:
        """Of the vectors; None before the first."""
        return self._store.place.width

    def patterns(self) -> list[Pattern]:
        """All patterns and seeds, by number."""
        with self._guard:
            return sorted(self._store.shelf.values(), key=lambda one: number_of(one.pattern_id))

    def of_user(self, user_id: str) -> list[Pattern]:
        """Patterns and seeds that somebody had a part in."""
        with self._guard:
            return self._store.shelf.of_user(hashed_user(user_id))

    def get(self, pattern_id: str) -> Pattern:
        """One pattern.

        Raises:
            ValueError: none is called so.
        """
        with self._guard:
            if pattern_id not in self._store.shelf:
                raise ValueError(
                    f"no pattern is called {pattern_id!r} here: it was dropped, or merged into another"
                )
            return self._store.shelf[pattern_id]

    def lookup(
        self,
        query: Any,
        context: Mapping[str, str],
        at_ts: int,
        n: int = 5,
        user_id: str | None = None,
        segment: str | None = None,
    ) -> list[Match]:
        """Patterns that answer a query, best first, ties by confidence and then by number.

        Args:
            query: (d,) numbers, from the encoder that made the patterns' queries.
            context: what is so now; a pattern answers where all that it asks is so.
            at_ts: now, UTC seconds: what has decayed below ``prune_below`` does not answer.
            n: at most so many.
            user_id: with ``segment``, whom it is for: then a pattern answers people it knows, and those of
                the segment it was promoted to. With neither, every pattern may answer.
            segment: of that user.

        Raises:
            ValueError: a query of another width or not finite, an unknown context key, or a wrong time.
        """
        context = check_context(context, self.config)
        check_ts(at_ts)
        if n < 1:
            raise ValueError(f"ask for at least 1 pattern, got n={n}")
        with self._guard:
            asked = self._unit(query)
            if self.width is None:
                return []
            own = None if user_id is None else hashed_user(user_id)

            def fits(one: Pattern) -> bool:
                is_for_all = user_id is None and segment is None
                is_theirs = own in one.users or bool(segment) and one.segment == segment
                is_alive = now(one, at_ts, self.config) >= self.config.prune_below
                return (is_for_all or is_theirs) and is_alive and one.fits(context)

            found = self._own(own, asked) if own is not None else {}
            self._widen(found, asked, n, fits)
            kept = [self._match(alike, one, at_ts) for alike, one in found.values() if fits(one)]
        kept.sort(key=lambda one: (-one.score, -one.confidence, number_of(one.pattern.pattern_id)))
        return kept[:n]

    def learn(
        self, query: Any, steps: tuple[str, ...], context: Mapping[str, str], verdict: Verdict
    ) -> Pattern | None:
        """Learns from one verdict on steps that answered a query; on disk before this returns.

        Returns:
            The pattern or seed of this query cluster, steps and context as it is now; None where a negative
            met none. Of an observation that was counted before, the pattern that it was counted for, None
            where that is gone; nothing changes.

        Raises:
            ValueError: bad input, and nothing was learned; or :class:`ObservationTaken`, its key was used
                for another observation.
            MemoryBankError: the disk refused; the bank is as it was.
        """
        steps, context = check_steps(steps), check_context(context, self.config)
        verdict = replace(verdict, user_id=hashed_user(verdict.user_id))
        with self._guard:
            self._store.make_ready()
            asked = self._unit(query)
            key = (steps, tuple(context.items()))
            known = self._known(verdict, asked.tobytes(), key)
            if known is not None:
                return self._store.shelf.get(known.pattern_id)
            alike, near = self._store.shelf.nearest(key, asked)
            if near is not None and alike >= self.config.cluster_similarity:
                after = heard(near, verdict, self.config)
                self._write(Change((after,), (), self._counted(verdict, after, asked.tobytes(), key)))
                return after
            if not verdict.is_positive:
                return None
            name, at_ts = f"p{self._store.next_number}", verdict.at_ts
            seed = Pattern(name, asked[0], verdict.user_id, steps, context, at_ts, at_ts)
            seed = heard(seed, verdict, self.config)
            drop = crowded_out(self._store.shelf, at_ts, self.config)
            self._write(Change((seed,), drop, self._counted(verdict, seed, asked.tobytes(), key)))
            return seed

    def judge(self, pattern_id: str, verdict: Verdict) -> Pattern:
        """Learns whether a pattern that :meth:`lookup` gave worked; on disk before this returns.

        Raises:
            ValueError: no such pattern; or :class:`ObservationTaken`, the key of the verdict was used for
                another observation.
            MemoryBankError: the disk refused; the bank is as it was.
        """
        verdict = replace(verdict, user_id=hashed_user(verdict.user_id))
        with self._guard:
            self._store.make_ready()
            judged = self.get(pattern_id)
            if self._known(verdict, pattern_id) is not None:
                return judged
            after = heard(judged, verdict, self.config)
            self._write(Change((after,), (), self._counted(verdict, after, pattern_id)))
            return after

    def upkeep(self, at_ts: int) -> Upkeep:
        """The daily pass: prunes, merges, promotes; decay is a formula of time and needs no pass.

        Done twice at the same time it changes nothing more.

        Raises:
            MemoryBankError: the disk refused; the bank is as it was.
        """
        check_ts(at_ts)
        with self._guard:
            self._store.make_ready()
            kept, done = upkept(self._store.shelf, at_ts, self.config)
            if any(kept.get(name) is not one for name, one in self._store.shelf.items()):
                self._store.rewrite(kept)
            return done

    def forget_user(self, user_id: str) -> int:
        """Forgets somebody: when it returns, no file of the bank holds their id, queries or results.

        Patterns that their query founded go as a whole, others lose their part in it.

        Returns:
            Patterns and seeds that changed or went.

        Raises:
            MemoryBankError: the disk refused; nobody was forgotten.
        """
        user_id = hashed_user(user_id)
        with self._guard:
            self._store.make_ready()
            after = {name: without_user(one, user_id) for name, one in self._store.shelf.items()}
            changed = sum(after[name] is not one for name, one in self._store.shelf.items())
            self._store.rewrite({name: one for name, one in after.items() if one is not None})
            return changed

    def forget_pattern(self, pattern_id: str) -> None:
        """Forgets a pattern: when it returns, no file of the bank holds it.

        Raises:
            ValueError: no such pattern.
            MemoryBankError: the disk refused; it was not forgotten.
        """
        with self._guard:
            self._store.make_ready()
            self.get(pattern_id)
            self._store.rewrite({name: one for name, one in self._store.shelf.items() if name != pattern_id})

    def refresh(self) -> bool:
        """Takes over what another process wrote since; True if there was anything."""
        with self._guard:
            return self._store.refresh()

    def stats(self, at_ts: int) -> MemoryStats:
        """What it holds, confidence as of ``at_ts``."""
        check_ts(at_ts)
        with self._guard:
            ready = [one for one in self._store.shelf.values() if self._is_ready(one)]
            confidence = [now(one, at_ts, self.config) for one in ready]
            return MemoryStats(
                patterns=len(ready),
                seeds=len(self._store.shelf) - len(ready),
                segments=dict(sorted(Counter(one.segment for one in ready if one.segment).items())),
                users=self._store.shelf.users(),
                uses=sum(one.uses for one in self._store.shelf.values()),
                mean_confidence=float(np.mean(confidence)) if confidence else 0.0,
                width=self.width,
                size_bytes=self._store.size_bytes,
                cut_off=self._store.cut_off,
            )

    def _known(self, verdict: Verdict, *about: Any) -> Heard | None:
        """The observation as it was counted before; None where it is new, or has no key."""
        asked = _heard(verdict, "", about)
        return self._store.heard.find(asked[0]) if asked else None

    def _counted(self, verdict: Verdict, pattern: Pattern, *about: Any) -> tuple[Heard, ...]:
        return _heard(verdict, pattern.pattern_id, about)

    def _write(self, change: Change) -> None:
        self._store.write(change, len(change.put[0].vector))

    def _unit(self, query: Any) -> np.ndarray:
        """(1, d) float32 of length 1."""
        query = np.asarray(query)
        if query.ndim != 1 or not len(query):
            raise ValueError(f"a query is one vector, got shape {query.shape}")
        return unit(query[None], self.width or len(query))

    def _is_ready(self, pattern: Pattern) -> bool:
        return pattern.positives >= self.config.create_positives

    def _own(self, user_id: str, asked: np.ndarray) -> dict[str, tuple[float, Pattern]]:
        """A user's patterns that are alike, all compared: among a hundred thousand, few are theirs."""
        own = [one for one in self._store.shelf.of_user(user_id) if self._is_ready(one)]
        if not own:
            return {}
        similarity = np.stack([one.vector for one in own]) @ asked[0]
        return {
            one.pattern_id: (min(1.0, float(alike)), one)
            for one, alike in zip(own, similarity, strict=True)
            if alike >= self.config.similarity
        }

    def _widen(
        self,
        found: dict[str, tuple[float, Pattern]],
        asked: np.ndarray,
        n: int,
        fits: Callable[[Pattern], bool],
    ) -> None:
        """Adds patterns that are alike until n of them fit, there are no more, or enough were looked at."""
        most = max(n, self.config.fetch_at_most)
        count = min(n * self.config.over_fetch, most)
        while True:
            near, is_all = self._store.shelf.answering(asked, count)
            is_all = is_all or bool(near) and near[-1][0] < self.config.similarity
            found.update(
                (one.pattern_id, (alike, one)) for alike, one in near if alike >= self.config.similarity
            )
            if is_all or count >= most or sum(fits(one) for _, one in found.values()) >= n:
                return
            count = min(4 * count, most)

    def _match(self, alike: float, pattern: Pattern, at_ts: int) -> Match:
        score = boosted(alike, pattern.uses, self.config)
        return Match(pattern, alike, score, now(pattern, at_ts, self.config))


def _heard(verdict: Verdict, pattern_id: str, about: tuple[Any, ...]) -> tuple[Heard, ...]:
    """An observation with a key; whoever tells it again may have another clock."""
    said = (verdict.user_id, verdict.is_positive, *about)
    return (Heard.of(verdict.key, said, pattern_id),) if verdict.key else ()
