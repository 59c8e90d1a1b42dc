"""What a ReasoningBank adds to a ranking: contents that worked for people whose last likes were alike.

i contents · w width · m matches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs.registry import SettingError
from models.memory import ReasoningBank, Verdict


@dataclass(frozen=True)
class RecallConfig:
    """Settings of :class:`Recall`."""

    weight: float = 1.0
    """What a content is worth that every match holds, in spreads of a person's scores; 0 or more."""
    recent: int = 10
    """So many of the newest likes make up a query, 1 or more."""
    matches: int = 20
    """Patterns that are asked, 1 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < np.inf or self.recent < 1 or self.matches < 1:
            raise SettingError(
                "recall needs a weight of 0 or more, recent and matches of 1 or more, got "
                f"{self.weight}, {self.recent}, {self.matches}"
            )


class Recall:
    """Asks a bank by what somebody liked last, and tells it what they liked next.

    A query is the sum of the vectors of the newest likes; its results are what was liked then.

    Args:
        bank: opened to write where it is to learn.
        vectors: (i, w) of contents; rows of zeros say nothing.
        names: (i,) under which the bank keeps contents.
        steps: that answer beside it, as the bank keeps them.
        config: how much it adds.
    """

    def __init__(
        self,
        bank: ReasoningBank,
        vectors: np.ndarray,
        names: Sequence[str],
        steps: tuple[str, ...],
        config: RecallConfig | None = None,
    ) -> None:
        self.bank, self.steps, self.config = bank, steps, config or RecallConfig()
        self._vectors, self._names = vectors, names
        self._rows = {name: row for row, name in enumerate(names)}

    def query(self, liked: np.ndarray) -> np.ndarray | None:
        """(w,) float32 of content rows, newest last; None where they say nothing."""
        total = self._vectors[liked[-self.config.recent :]].sum(0)
        return total if total.any() else None

    def shares(self, query: np.ndarray, at_ts: int) -> tuple[np.ndarray, np.ndarray]:
        """Content rows (c,) that matches hold, and (c,) float64 by how much of them, each above 0 up to 1.

        A match weighs as much as its score times its confidence at ``at_ts``, UTC seconds.
        """
        found = self.bank.lookup(query, {}, int(at_ts), self.config.matches)
        weighed: dict[int, float] = {}
        for match in found:
            for name in match.pattern.results:
                row = self._rows.get(name)
                if row is not None:
                    weighed[row] = weighed.get(row, 0.0) + match.score * match.confidence
        total = sum(match.score * match.confidence for match in found)
        return np.array(list(weighed), np.int64), np.array(list(weighed.values())) / (total or 1.0)

    def added(self, scores: np.ndarray, query: np.ndarray | None, at_ts: int) -> np.ndarray | None:
        """(i,) that the bank adds to the ``scores`` (i,) of one person; None where no pattern matches."""
        rows, shares = self.shares(query, at_ts) if query is not None else ((), ())
        if not len(rows):
            return None
        found = np.zeros_like(scores)
        found[rows] = self.config.weight * float(scores.std()) * shares
        return found

    def learn(self, user_id: str, query: np.ndarray | None, contents: np.ndarray, at_ts: int) -> None:
        """Tells the bank what somebody liked whose likes before made ``query``; on disk when it returns.

        Raises:
            MemoryBankError: the disk refused.
        """
        for row in contents.tolist() if query is not None else ():
            verdict = Verdict(user_id, True, int(at_ts), results=(self._names[row],))
            self.bank.learn(query, self.steps, {}, verdict)
