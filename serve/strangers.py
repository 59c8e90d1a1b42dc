"""Answers people of whom little is known by the ladder of a version, where `mg ladder` learned weights."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from configs.home import Home
from models.interface import Training
from models.ladder import UNKNOWN, Answer, Known, Ladder
from models.ladder_weights import LadderWeights
from serve.shortlist import Person
from serve.snapshot import Snapshot

WORDS = {
    "history": "what was liked",
    "demographics": "people of the same age",
    "trending": "what is liked now",
    "popularity": "what most people like",
}


_KEPT = 4  # versions that may answer in turn


@dataclass(frozen=True)
class _Made:
    """The ladder of one version."""

    ladder: Ladder
    weights: LadderWeights


class Strangers:
    """Keeps the ladders of the versions that answered last; a version without weights has none."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._made: OrderedDict[str, _Made] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, snapshot: Snapshot, who: Person, region: str | None) -> Answer | None:
        """Scores for somebody whom the graph does not know, or of whom nothing liked is known.

        Args:
            snapshot: the version that answers.
            who: the person.
            region: ISO code or None.

        Returns:
            None for all others, for a history longer than the weights were learned at, and where there are no
            weights: the model or popularity answers then.

        Raises:
            ValueError: the weights cannot be read.
        """
        if (who.is_known and who.has_history) or not snapshot.model.facts.scores_cold_user:
            return None
        made = self._of(snapshot)
        if made is None or who.users.history.nnz > made.weights.longest:
            return None
        return made.ladder.answer(_known(made.ladder, snapshot, who, region), made.weights)

    def _of(self, snapshot: Snapshot) -> _Made | None:
        ref = snapshot.version.ref
        made = self._made.get(ref)
        if made is not None:
            return made
        path = self._home.ladder(snapshot.graph.name, ref)
        if not path.exists():
            return None
        with self._lock:
            if ref not in self._made:
                training = Training(snapshot.graph, snapshot.positives, snapshot.times, snapshot.rankable)
                self._made[ref] = _Made(Ladder(snapshot.model, training), LadderWeights.load(path))
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
            return self._made[ref]


def sources_of(answer: Answer, events: int) -> str:
    """Where the scores come from, in a sentence."""
    parts = sorted(answer.shares.items(), key=lambda part: -part[1][0])
    told = ", ".join(f"{WORDS.get(rung, rung)} {share[0]:.0%}" for rung, share in parts if share[0] > 0.005)
    return f"a stranger with {events} liked contents: {told}"


def _known(ladder: Ladder, snapshot: Snapshot, who: Person, region: str | None) -> Known:
    contents, genres = snapshot.genres.shape
    history = who.users.history
    times = who.users.times
    rows = who.users.rows
    return Known(
        history,
        sp.csr_array(history.shape, dtype=np.int64) if times is None else times,
        genres=sp.csr_array((1, genres), dtype=np.float32),
        titles=sp.csr_array((1, contents), dtype=np.float32),
        people=sp.csr_array((1, ladder.credits.shape[1]), dtype=np.float32),
        groups=ladder.groups_of(rows) if who.is_known else np.array([UNKNOWN]),
        regions=np.array([ladder.region_names.index(region) if region in ladder.region_names else UNKNOWN]),
    )
